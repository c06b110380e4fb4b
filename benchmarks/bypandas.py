"""Process the shop's day in plain pandas: five functions, tables as DataFrames in memory, written as Delta.

The part ``volume`` measures it on a large day. It has no reviews, deliveries, customer scores or cohorts, which is an advantage
for it; its daily sales are compared with those of the other systems. It imports nothing of Daybook.
"""

from __future__ import annotations

import hmac
from pathlib import Path

import pandas as pd
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

TIMES = ["ordered_at", "approved_at", "shipped_at", "delivered_at", "estimated_delivery_at", "updated_at", "returned_at"]
NUMBERS = ["line_number", "quantity", "unit_price", "freight", "sequence", "installments", "amount", "score", "list_price"]
ENTITIES = ["orders", "order_items", "payments", "returns", "reviews", "customers", "products", "categories", "sellers"]
REQUIRED = {
    "orders": ["order_id", "customer_id", "status", "ordered_at", "updated_at"],
    "order_items": ["order_id", "line_number", "product_id", "quantity", "unit_price"],
    "payments": ["order_id", "sequence", "method", "amount"],
    "returns": ["return_id", "order_id", "line_number", "product_id", "quantity", "unit_price", "returned_at"],
    "reviews": ["review_id", "order_id", "score"],
    "customers": ["customer_id", "updated_at"],
    "products": ["product_id", "updated_at"],
    "categories": ["category_id", "category_name"],
    "sellers": ["seller_id"],
}
KEYS = {
    "orders": ["order_id"],
    "order_items": ["order_id", "line_number"],
    "customers": ["customer_key"],
    "products": ["product_id"],
    "payments": ["order_id", "sequence"],
}
ZONE = "Europe/Berlin"
CANCELLED = ["cancelled", "unavailable"]
NOT_COUNTED = [*CANCELLED, "adjustment"]


def ingest(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Write the date's files, as text, to a partition of bronze."""
    for entity in ENTITIES:
        file = Path(landing) / entity / run_date / f"{entity}.csv"
        if file.exists():
            encoding = "cp1252" if entity == "sellers" else "utf-8-sig"
            rows = pd.read_csv(file, dtype=str, encoding=encoding, on_bad_lines="skip", keep_default_na=False)
            write_date(f"{lake}/bronze/{entity}", rows.assign(_row_number=range(1, len(rows) + 1)), run_date)


def validate(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Write rows with missing or invalid values to quarantine, and the others to the next stage."""
    for entity in ENTITIES:
        rows = read_date(f"{lake}/bronze/{entity}", run_date)
        if rows is None:
            continue
        columns = [name for name in rows.columns if name != "_row_number"]
        rows = rows.drop_duplicates(columns)
        rows[columns] = rows[columns].apply(lambda column: column.str.strip()).replace("", None)
        bad = rows[REQUIRED[entity]].isna().any(axis=1)
        for name in set(columns) & {*TIMES, *NUMBERS}:
            typed = pd.to_datetime(rows[name], errors="coerce") if name in TIMES else pd.to_numeric(rows[name], errors="coerce")
            bad |= typed.isna() & rows[name].notna()
            if name in NUMBERS:
                bad |= typed < (1 if name in ("line_number", "sequence", "quantity") else 0)
        if entity == "orders":
            bad |= ~rows.status.isin(["created", "paid", "shipped", "delivered", "cancelled"])
            bad |= ~rows.order_id.str.fullmatch("DB-[0-9]{6,}").fillna(False).astype(bool) | (rows.updated_at < rows.ordered_at)
        if entity == "payments":
            bad |= ~rows.method.isin(["credit_card", "paypal", "invoice", "voucher"])
        if entity == "customers":
            bad |= rows.email.notna() & ~rows.email.str.fullmatch(r"[^@ ]+@[^@ ]+[.][^@ ]+").fillna(False).astype(bool)
        if bad.sum() > max(5, len(rows) / 20):
            raise ValueError(f"{bad.sum()} of {len(rows)} rows of {entity} are rejected")
        write_date(f"{lake}/quarantine/{entity}", rows[bad], run_date)
        write_date(f"{lake}/accepted/{entity}", rows[~bad], run_date)


def transform(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Convert types, replace keys of customers by pseudonyms, and merge into silver by key; the newest version wins."""
    secret = bytes.fromhex(Path(key).read_text().split()[0])
    accepted = {name: read_date(f"{lake}/accepted/{name}", run_date) for name in ENTITIES}
    day = pd.Timestamp(run_date, tz=ZONE)
    orders = accepted["orders"].rename(columns={"ship_country": "country", "ship_state": "state", "ship_city": "city"})
    for name in ("ordered_at", "approved_at", "shipped_at", "delivered_at", "estimated_delivery_at", "updated_at"):
        orders[name] = to_local_time(orders[name])
    orders["customer_key"] = pseudonymize(secret, orders.pop("customer_id"))
    orders = orders.rename(columns={"updated_at": "version_at"})
    orders["order_date"] = orders.ordered_at.dt.date
    items = accepted["order_items"].assign(is_return=False, version_at=day)
    if accepted["returns"] is not None and len(accepted["returns"]):
        back = accepted["returns"].drop(columns=["reason"])
        back["line_number"] = pd.to_numeric(back.pop("return_id").str[2:]) + 1000
        back["quantity"] = -pd.to_numeric(back.quantity)
        back["version_at"] = to_local_time(back.pop("returned_at"))
        items = pd.concat([items, back.assign(is_return=True)])
    for name in ("line_number", "quantity"):
        items[name] = pd.to_numeric(items[name]).astype("int64")
    # Money in integer cents, so that sums are exact: pandas has no decimal type.
    items["cents"] = (pd.to_numeric(items.pop("unit_price")) * 100).round().astype("int64")
    items["line_cents"] = items.quantity * items.cents
    customers = accepted["customers"]
    customers["customer_key"] = pseudonymize(secret, customers.pop("customer_id"))
    customers = customers[["customer_key", "country", "state", "city", "updated_at", "_row_number"]]
    customers = customers.assign(version_at=to_local_time(customers.updated_at)).drop(columns="updated_at")
    products = accepted["products"].merge(
        accepted["categories"][["category_id", "category_name"]], on="category_id", how="left"
    )
    products = products.rename(columns={"category_name": "category"}).assign(version_at=to_local_time(products.updated_at))
    payments = accepted["payments"].assign(version_at=day)
    payments["sequence"] = pd.to_numeric(payments.sequence).astype("int64")
    payments["cents"] = (pd.to_numeric(payments.amount) * 100).round().astype("int64")
    touched = set(orders.order_date)
    tables = {
        "orders": orders,
        "order_items": items.drop(columns=["seller_id", "freight"]),
        "customers": customers,
        "products": products[["product_id", "name", "category", "version_at", "_row_number"]],
        "payments": payments[["order_id", "sequence", "method", "cents", "version_at", "_row_number"]],
    }  # fmt: skip
    for name, rows in tables.items():
        newest = rows.sort_values(["version_at", "_row_number"], kind="stable").drop_duplicates(KEYS[name], keep="last")
        merge(f"{lake}/silver/{name}", newest.drop(columns="_row_number"), KEYS[name])
    known = DeltaTable(f"{lake}/silver/orders").to_pandas(columns=["order_id", "order_date"])
    touched |= set(known[known.order_id.isin({*items.order_id, *payments.order_id})].order_date)
    write_date(f"{lake}/control/touched", pd.DataFrame({"order_date": sorted(touched)}), run_date)


def aggregate(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Compute daily sales, categories, products and payments of the dates that this date touched."""
    orders, items, products, payments = (
        DeltaTable(f"{lake}/silver/{name}").to_pandas() for name in ("orders", "order_items", "products", "payments")
    )
    landed = {each["run_date"] for each in DeltaTable(f"{lake}/control/touched").partitions()}
    dates = [day for day in read_date(f"{lake}/control/touched", run_date).order_date if str(day) in landed]
    firsts = orders.groupby("customer_key").order_date.min().rename("first_date")
    those = orders[orders.order_date.isin(dates)]
    lines = those[["order_id", "order_date", "status"]].merge(items, on="order_id")
    lines = lines.merge(products[["product_id", "category"]], on="product_id", how="left")
    lines["category"] = lines.category.fillna("(none)")
    sold = (lines.quantity > 0) & (lines.cents > 0) & ~lines.status.isin(NOT_COUNTED)
    lines["units"] = lines.quantity.where(sold, 0)
    lines["gross"] = lines.line_cents.where(sold, 0)
    lines["returns"] = lines.line_cents.abs().where(lines.is_return & (lines.status != "adjustment"), 0)
    counted = those[~those.status.isin(NOT_COUNTED)].merge(firsts, left_on="customer_key", right_index=True, how="left")
    sums = lines.groupby("order_date")[["units", "gross", "returns"]].sum()
    daily = pd.DataFrame({"orders": counted.groupby("order_date").size()}).join(sums)
    daily["cancelled"] = those[those.status.isin(CANCELLED)].groupby("order_date").size()
    new = counted.first_date == counted.order_date
    daily["new_customers"] = counted[new].groupby("order_date").customer_key.nunique()
    daily["returning_customers"] = counted[~new].groupby("order_date").customer_key.nunique()
    write_dates(f"{lake}/gold/daily_sales", daily.fillna(0).astype("int64").reset_index(), dates)
    for table, name in (("category_sales", "category"), ("product_sales", "product_id")):
        rows = lines.groupby(["order_date", name])[["units", "gross", "returns"]].sum()
        rows["orders"] = lines[sold].groupby(["order_date", name]).order_id.nunique()
        write_dates(f"{lake}/gold/{table}", rows.fillna(0).astype("int64").reset_index(), dates)
    paid = counted[["order_id", "order_date"]].merge(payments, on="order_id").groupby(["order_date", "method"]).cents
    write_dates(f"{lake}/gold/payment_mix", paid.agg(["count", "sum"]).reset_index(), dates)


def quality(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Check that the totals of gold equal those of silver, to the cent."""
    day = pd.Timestamp(run_date).date()
    daily = DeltaTable(f"{lake}/gold/daily_sales").to_pandas()
    gross = int(daily[daily.order_date == day].gross.iloc[0])
    orders = DeltaTable(f"{lake}/silver/orders").to_pandas(columns=["order_id", "order_date", "status"])
    items = DeltaTable(f"{lake}/silver/order_items").to_pandas(columns=["order_id", "quantity", "cents", "line_cents"])
    orders = orders[(orders.order_date == day) & ~orders.status.isin(NOT_COUNTED)]
    lines = items[(items.quantity > 0) & (items.cents > 0)].merge(orders, on="order_id")
    if gross != int(lines.line_cents.sum()):
        raise ValueError(f"the totals differ: gold {gross}, silver {lines.line_cents.sum()}")


STAGES = (ingest, validate, transform, aggregate, quality)


def to_local_time(texts: pd.Series) -> pd.Series:
    """Convert texts to times in the shop's time zone."""
    return pd.to_datetime(texts, errors="coerce").dt.tz_localize(ZONE, ambiguous=True, nonexistent="shift_forward")


def pseudonymize(secret: bytes, texts: pd.Series) -> pd.Series:
    return texts.map(lambda text: hmac.digest(secret, text.encode(), "sha256").hex()[:32], na_action="ignore")


def open_table(uri: str) -> DeltaTable | None:
    """Return a table, or None if it is missing or empty."""
    try:
        table = DeltaTable(uri)
    except TableNotFoundError:
        return None
    return table if table.file_uris() else None


def read_date(uri: str, run_date: str) -> pd.DataFrame | None:
    """Return the rows of a date, or None without a table."""
    table = open_table(uri)
    if table is None:
        return None
    return table.to_pandas(filters=[("run_date", "=", run_date)]).drop(columns="run_date")


def write_date(uri: str, rows: pd.DataFrame, run_date: str) -> None:
    """Replace the rows of a date."""
    replace_dates(uri, rows.assign(run_date=run_date), "run_date", [run_date])


def write_dates(uri: str, rows: pd.DataFrame, dates: list) -> None:
    """Make these all the rows of these dates."""
    replace_dates(uri, rows, "order_date", [str(day) for day in dates])


def replace_dates(uri: str, rows: pd.DataFrame, column: str, dates: list[str]) -> None:
    """Replace the rows of ``dates`` in a table that is partitioned by date."""
    if rows.empty:
        return
    table = to_arrow(rows)
    only = f"{column} IN ({', '.join(repr(day) for day in dates)})"
    known = open_table(uri) is not None
    write_deltalake(uri, table, mode="overwrite", predicate=only if known else None, partition_by=[column])


def merge(uri: str, rows: pd.DataFrame, key: list[str]) -> None:
    """Read the table, append the rows, keep the newest version of each key, and overwrite the table."""
    old = open_table(uri)
    if old is not None:
        rows = pd.concat([old.to_pandas(), rows]).sort_values("version_at", kind="stable").drop_duplicates(key, keep="last")
    rows["version_at"] = pd.to_datetime(rows.version_at, utc=True)
    write_deltalake(uri, to_arrow(rows), mode="overwrite", schema_mode="overwrite")


def to_arrow(rows: pd.DataFrame) -> pa.Table:
    """Convert to Arrow; a column without values becomes text."""
    table = pa.Table.from_pandas(rows, preserve_index=False)
    fields = [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
    return table.cast(pa.schema(fields))
