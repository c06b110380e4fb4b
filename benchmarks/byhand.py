"""Process the shop's day by hand: five functions with DuckDB and deltalake, without notebooks or a framework.

This is the lower limit that Daybook is compared with and, as notebooks, the usual way to work with papermill. It imports
nothing of Daybook. It writes the date's files to bronze, checks the main rules of the same contracts, merges silver by key,
computes the same gold tables and compares their totals. It has no run records, table versions, retries, resume, unpublished
candidates or redaction, and it does not support dates in any order or at the same time.

``texts`` is a JSON file with the SELECTs of silver and gold and the types of their columns. ``benchmarks.shop`` writes it from
the project's notebooks and contracts, so that every system computes the same tables.
"""

from __future__ import annotations

import hmac
import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError
from duckdb.functional import FunctionNullHandling, PythonUDFType
from duckdb.typing import VARCHAR

ENTITIES = {
    "orders": {
        **dict.fromkeys(["order_id", "customer_id", "status"], "VARCHAR"),
        **dict.fromkeys(["ordered_at", "approved_at", "shipped_at", "delivered_at", "estimated_delivery_at"], "TIMESTAMP"),
        **dict.fromkeys(["ship_city", "ship_state", "ship_country"], "VARCHAR"),
        "updated_at": "TIMESTAMP",
    },
    "order_items": {
        "order_id": "VARCHAR", "line_number": "BIGINT", "product_id": "VARCHAR", "seller_id": "VARCHAR", "quantity": "BIGINT",
        "unit_price": "DECIMAL(18,4)", "freight": "DECIMAL(18,4)",
    },
    "payments": {
        "order_id": "VARCHAR", "sequence": "BIGINT", "method": "VARCHAR", "installments": "BIGINT", "amount": "DECIMAL(18,4)",
    },
    "returns": {
        "return_id": "VARCHAR", "order_id": "VARCHAR", "line_number": "BIGINT", "product_id": "VARCHAR", "quantity": "BIGINT",
        "unit_price": "DECIMAL(18,4)", "returned_at": "TIMESTAMP", "reason": "VARCHAR",
    },
    "reviews": {
        "review_id": "VARCHAR", "order_id": "VARCHAR", "score": "BIGINT", "title": "VARCHAR", "comment": "VARCHAR",
        "created_at": "TIMESTAMP",
    },
    "customers": {
        **dict.fromkeys(["customer_id", "first_name", "last_name", "email", "phone", "street", "postal_code"], "VARCHAR"),
        **dict.fromkeys(["city", "state", "country"], "VARCHAR"),
        **dict.fromkeys(["registered_at", "updated_at"], "TIMESTAMP"),
    },
    "products": {
        "product_id": "VARCHAR", "name": "VARCHAR", "category_id": "VARCHAR", "list_price": "DECIMAL(18,4)",
        "updated_at": "TIMESTAMP",
    },
    "categories": dict.fromkeys(["category_id", "category_name", "department"], "VARCHAR"),
    "sellers": dict.fromkeys(["seller_id", "seller_name", "city", "country"], "VARCHAR"),
}  # fmt: skip
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
ALLOWED = {
    "orders": [
        "regexp_matches(order_id, '^DB-[0-9]{6,}$')", "status IN ('created', 'paid', 'shipped', 'delivered', 'cancelled')",
        "ordered_at >= TIMESTAMP '2020-01-01'", "updated_at >= ordered_at",
    ],
    "order_items": [
        "line_number >= 1", "quantity BETWEEN 1 AND 1000", "unit_price >= 0", "unit_price < 100000", "freight >= 0",
    ],
    "payments": [
        "sequence >= 1", "method IN ('credit_card', 'paypal', 'invoice', 'voucher')", "installments >= 0", "amount >= 0",
    ],
    "returns": [
        "regexp_matches(return_id, '^R-[0-9]{1,6}$')", "line_number >= 1", "quantity BETWEEN 1 AND 1000", "unit_price >= 0",
    ],
    "reviews": ["score BETWEEN 1 AND 5", "length(title) <= 200"],
    "customers": ["regexp_matches(email, '^[^@ ]+@[^@ ]+[.][^@ ]+$')"],
    "products": ["list_price >= 0"],
}  # fmt: skip
PARENTS = {"order_items": "orders", "payments": "orders"}
KEYS = {
    "orders": ["order_id"],
    "order_items": ["order_id", "line_number"],
    "customers": ["customer_key"],
    "products": ["product_id"],
    "payments": ["order_id", "sequence"],
    "reviews": ["review_id", "order_id"],
}
MAPPED = {
    "orders": """
        SELECT order_id, pseudonym(customer_id) AS customer_key, CAST(ordered_at AS TIMESTAMPTZ) AS ordered_at, status,
          ship_country AS country, ship_state AS state, ship_city AS city, CAST(approved_at AS TIMESTAMPTZ) AS approved_at,
          CAST(shipped_at AS TIMESTAMPTZ) AS shipped_at, CAST(delivered_at AS TIMESTAMPTZ) AS delivered_at,
          CAST(estimated_delivery_at AS TIMESTAMPTZ) AS estimated_delivery_at, CAST(updated_at AS TIMESTAMPTZ) AS version_at,
          _source_file, _row_number
        FROM orders""",
    "order_items": """
        SELECT order_id, line_number, product_id, seller_id, quantity, unit_price, freight, FALSE AS is_return,
          NULL::TIMESTAMPTZ AS returned_at, {day}::TIMESTAMPTZ AS version_at, _source_file, _row_number
        FROM order_items UNION ALL
        SELECT order_id, 1000 + CAST(substr(return_id, 3) AS BIGINT), product_id, NULL, -quantity, unit_price, NULL, TRUE,
          returned_at::TIMESTAMPTZ, returned_at::TIMESTAMPTZ, _source_file, _row_number
        FROM returns""",
    "customers": """
        SELECT pseudonym(customer_id) AS customer_key, country, state, city, CAST(updated_at AS TIMESTAMPTZ) AS version_at,
          _source_file, _row_number
        FROM customers""",
    "products": """
        SELECT product_id, name, category_name AS category, CAST(updated_at AS TIMESTAMPTZ) AS version_at,
          products._source_file, products._row_number
        FROM products LEFT JOIN categories ON categories.category_id = products.category_id""",
    "payments": """
        SELECT order_id, sequence, method, installments, amount, {day}::TIMESTAMPTZ AS version_at, _source_file, _row_number
        FROM payments""",
    "reviews": """
        SELECT review_id, order_id, score, CAST(created_at AS TIMESTAMPTZ) AS created_at, {day}::TIMESTAMPTZ AS version_at,
          _source_file, _row_number
        FROM reviews""",
}


def ingest(landing: str, lake: str, run_date: str, key: str, texts: str) -> None:
    """The date's files, as text, as a partition of bronze."""
    for entity, columns in ENTITIES.items():
        file = Path(landing) / entity / run_date / f"{entity}.csv"
        read, broken = read_csv(file, list(columns), "windows-1252" if entity == "sellers" else "utf-8")
        rows = read.append_column("_source_file", pa.array([str(file)] * len(read), pa.string()))
        rows = rows.append_column("_row_number", pa.array(range(1, len(read) + 1), pa.int64()))
        write_partition(f"{lake}/bronze/{entity}", rows, run_date)
        lines = pa.table({"line": pa.array(broken, pa.string())})
        write_partition(f"{lake}/quarantine/{entity}_lines", lines, run_date)


def validate(landing: str, lake: str, run_date: str, key: str, texts: str) -> None:
    """Check keys, nulls, types, ranges and allowed values; quarantine broken rows; fail if there are too many."""
    database = connect(key)
    for entity in ENTITIES:
        database.execute(f"CREATE TABLE {entity} AS {typed_sql(database, lake, entity, run_date)}")
    for entity, columns in ENTITIES.items():
        broken = [f"{name} IS NULL" for name in REQUIRED[entity]]
        broken += [f"_text_{name} IS NOT NULL AND {name} IS NULL" for name, kind in columns.items() if kind != "VARCHAR"]
        broken += [f"NOT ({rule})" for rule in ALLOWED.get(entity, [])]
        reasons = ", ".join(f"CASE WHEN {rule} THEN '{rule.replace(chr(39), chr(39) * 2)}' END" for rule in broken)
        rejected = database.sql(
            f"SELECT * FROM (SELECT _source_file, _row_number, concat_ws('; ', {reasons}) AS _reasons FROM {entity}) "
            "WHERE _reasons <> ''"
        ).arrow()
        (count,) = fetch_one(database, f"SELECT count(*) FROM {entity}")
        if len(rejected) > max(5, count / 20):
            raise ValueError(f"{len(rejected)} of {count} rows of {entity} are rejected")
        if entity in PARENTS and count >= 10:
            (lost,) = fetch_one(
                database, f"SELECT avg((order_id NOT IN (SELECT order_id FROM {PARENTS[entity]}))::INT) FROM {entity}"
            )
            if lost > 0.1:
                raise ValueError(f"{lost:.0%} of {entity} have no {PARENTS[entity]}")
        write_partition(f"{lake}/quarantine/{entity}", rejected, run_date)


def transform(landing: str, lake: str, run_date: str, key: str, texts: str) -> None:
    """Map, type and deduplicate accepted rows, add pseudonyms, and merge into silver by key; the newest version wins."""
    document, database = json.loads(Path(texts).read_text()), connect(key)
    database.execute("CREATE SCHEMA mapped")
    for entity in ENTITIES:
        database.register("rejected", open_partition(f"{lake}/quarantine/{entity}", run_date))
        typed = typed_sql(database, lake, entity, run_date)
        sql = f"SELECT * FROM ({typed}) t ANTI JOIN rejected USING (_source_file, _row_number)"
        database.execute(f"CREATE TABLE {entity} AS {sql}")
    changed = set()
    for table, sql in MAPPED.items():
        mapped = sql.format(day=f"'{run_date}'")
        database.execute(f"CREATE TABLE mapped.{table} AS SELECT *, DATE '{run_date}' AS landed_on FROM ({mapped}) AS m")
        rows = fetch_typed(database, document["silver"][table], document["types"][f"silver.{table}"])
        if len({tuple(row.values()) for row in rows.select(KEYS[table]).to_pylist()}) != len(rows):
            raise ValueError(f"duplicate key in {table}")
        database.register(f"new_{table}", rows)
        if table == "products":
            # Before the merge: a product that moves to another category changes gold of its earlier dates.
            old = open_dataset(f"{lake}/silver/products", rows.schema)
            database.register("old_products", old)
            changed |= {row[0] for row in database.sql(
                "SELECT n.product_id FROM new_products n JOIN old_products o USING (product_id) "
                "WHERE n.category IS DISTINCT FROM o.category AND n.version_at >= o.version_at"
            ).fetchall()}  # fmt: skip
        merge(f"{lake}/silver/{table}", rows, KEYS[table])
    set_first_orders(database, lake)
    touched = {row[0] for row in database.sql("SELECT DISTINCT order_date FROM new_orders").fetchall()}
    database.register("every_order", DeltaTable(f"{lake}/silver/orders").to_pyarrow_dataset())
    database.register("every_item", DeltaTable(f"{lake}/silver/order_items").to_pyarrow_dataset())
    touched |= {row[0] for row in database.sql(
        "SELECT DISTINCT order_date FROM every_order WHERE order_id IN "
        "(SELECT order_id FROM new_order_items UNION SELECT order_id FROM new_payments)"
    ).fetchall()}  # fmt: skip
    if changed:
        database.register("changed", pa.table({"product_id": sorted(changed)}))
        touched |= {row[0] for row in database.sql(
            "SELECT DISTINCT order_date FROM every_order JOIN every_item USING (order_id) SEMI JOIN changed USING (product_id)"
        ).fetchall()}  # fmt: skip
    write_partition(f"{lake}/control/touched", pa.table({"order_date": pa.array(sorted(touched), pa.date32())}), run_date)


def aggregate(landing: str, lake: str, run_date: str, key: str, texts: str) -> None:
    """Compute gold of the dates that this date touched; tables without a date are overwritten."""
    document, database = json.loads(Path(texts).read_text()), connect(key)
    database.execute("CREATE SCHEMA silver; CREATE SCHEMA gold")
    for table in KEYS:
        database.register(f"_{table}", DeltaTable(f"{lake}/silver/{table}").to_pyarrow_dataset())
        database.execute(f"CREATE VIEW silver.{table} AS FROM _{table}")
    landed = [each["run_date"] for each in DeltaTable(f"{lake}/control/touched").partitions()]
    database.execute(f"CREATE VIEW landed AS SELECT unnest({landed!r}::DATE[]) AS order_date")
    database.register("_touched", open_partition(f"{lake}/control/touched", run_date))
    database.execute("CREATE TABLE touched AS SELECT order_date FROM _touched SEMI JOIN landed USING (order_date)")
    dates = sorted(str(row[0]) for row in database.sql("SELECT order_date FROM touched").fetchall())
    for name, sql in document["views"].items():
        database.execute(f"CREATE VIEW {name} AS {sql}")
    for table, sql in document["gold"].items():
        rows = fetch_typed(database, sql, document["types"][f"gold.{table}"])
        uri = f"{lake}/gold/{table}"
        if "order_date" not in rows.column_names:
            write_deltalake(uri, rows, mode="overwrite")
        else:
            replace_dates(uri, rows, "order_date", dates)


def quality(landing: str, lake: str, run_date: str, key: str, texts: str) -> None:
    """Check that gold has no duplicate or null keys, and that its totals equal those of silver, to the cent."""
    document, database = json.loads(Path(texts).read_text()), connect(key)
    for layer, tables in (("silver", KEYS), ("gold", document["gold"])):
        database.execute(f"CREATE SCHEMA {layer}")
        for table in tables:
            database.register(f"_{layer}_{table}", DeltaTable(f"{lake}/{layer}/{table}").to_pyarrow_dataset())
            database.execute(f"CREATE VIEW {layer}.{table} AS FROM _{layer}_{table}")
    for table, names in document["keys"].items():
        key_of = ", ".join(names)
        nulls = " OR ".join(f"{name} IS NULL" for name in names)
        twice = f"SELECT count(*) FROM (SELECT 1 FROM gold.{table} GROUP BY {key_of} HAVING count(*) > 1)"
        if fetch_one(database, f"SELECT (SELECT count(*) FROM gold.{table} WHERE {nulls}) + ({twice})")[0]:
            raise ValueError(f"gold.{table} has null or duplicate keys")
    gold = fetch_one(
        database, f"SELECT gross_revenue, returns_amount FROM gold.daily_sales WHERE order_date = DATE '{run_date}'"
    )
    silver = fetch_one(
        database,
        f"""
        SELECT coalesce(sum(line_amount) FILTER (quantity > 0 AND unit_price > 0
                 AND status NOT IN ('cancelled', 'unavailable', 'adjustment')), 0),
               coalesce(sum(abs(line_amount)) FILTER (is_return AND status <> 'adjustment'), 0)
        FROM silver.orders JOIN silver.order_items USING (order_id) WHERE order_date = DATE '{run_date}'
    """,
    )
    for table in ("category_sales", "product_sales"):
        sums = f"SELECT sum(gross_revenue), sum(returns_amount) FROM gold.{table} WHERE order_date = DATE '{run_date}'"
        if fetch_one(database, sums) != gold:
            raise ValueError(f"gold.{table} and gold.daily_sales do not agree")
    if gold != silver:
        raise ValueError(f"the totals differ: gold {gold}, silver {silver}")


STAGES = (ingest, validate, transform, aggregate, quality)


def read_csv(file: Path, columns: list[str], encoding: str) -> tuple[pa.Table, list[str]]:
    """Return a file's rows as text, and the lines with a wrong number of fields."""
    broken: list[str] = []
    if not file.exists():
        return pa.schema([(name, pa.string()) for name in columns]).empty_table(), broken

    def collect(row: pyarrow.csv.InvalidRow) -> str:
        broken.append(row.text)
        return "skip"

    rows = pyarrow.csv.read_csv(
        file,
        read_options=pyarrow.csv.ReadOptions(encoding=encoding),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=collect),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string())),
    )
    return rows, broken


def connect(key: str) -> duckdb.DuckDBPyConnection:
    """Open a database in the shop's time zone with a function ``pseudonym`` for the key."""
    secret = bytes.fromhex(Path(key).read_text().split()[0])
    database = duckdb.connect()
    database.execute("SET TimeZone = 'Europe/Berlin'")

    def pseudonyms(values: pa.ChunkedArray) -> pa.Array:
        texts = values.to_pylist()
        return pa.array([t and hmac.digest(secret, t.encode(), "sha256").hex()[:32] for t in texts], pa.string())

    database.create_function(
        "pseudonym", pseudonyms, [VARCHAR], VARCHAR, type=PythonUDFType.ARROW, null_handling=FunctionNullHandling.SPECIAL
    )
    return database


def fetch_one(database: duckdb.DuckDBPyConnection, sql: str) -> tuple:
    """Return the first row of a result."""
    return database.sql(sql).fetchall()[0]


def open_table(uri: str) -> DeltaTable | None:
    """Return a table, or None if it is missing."""
    try:
        return DeltaTable(uri)
    except TableNotFoundError:
        return None


def open_dataset(uri: str, schema: pa.Schema) -> object:
    """Return a table's rows, or an empty table if it is missing."""
    table = open_table(uri)
    return schema.empty_table() if table is None else table.to_pyarrow_dataset()


def open_partition(uri: str, run_date: str) -> object:
    """Return the rows of a date; deltalake 1.2.1 cannot create a dataset of a table without files."""
    table = DeltaTable(uri)
    if run_date not in {each["run_date"] for each in (table.partitions() if table.file_uris() else [])}:
        return pa.schema(table.schema().to_arrow()).empty_table()
    return table.to_pyarrow_dataset(partitions=[("run_date", "=", run_date)])


def write_partition(uri: str, rows: pa.Table, run_date: str) -> None:
    """Replace the rows of a date."""
    rows = rows.append_column("run_date", pa.array([run_date] * len(rows), pa.string()))
    replace_dates(uri, rows, "run_date", [run_date])


def replace_dates(uri: str, rows: pa.Table, column: str, dates: list[str]) -> None:
    """Replace the rows of ``dates`` in a table that is partitioned by date."""
    table = open_table(uri)
    if table is None or not table.file_uris():  # deltalake 1.2.1 cannot overwrite in a table without files
        write_deltalake(uri, rows, mode="append", partition_by=[column])
    else:
        only = f"{column} IN ({', '.join(repr(day) for day in dates)})"
        write_deltalake(uri, rows, mode="overwrite", predicate=only, partition_by=[column])


def typed_sql(database: duckdb.DuckDBPyConnection, lake: str, entity: str, run_date: str) -> str:
    """Return a SELECT of the deduplicated, typed rows of a date; an invalid value is NULL beside its text."""
    columns = ENTITIES[entity]
    database.register(f"landed_{entity}", open_partition(f"{lake}/bronze/{entity}", run_date))
    selected = []
    for name, kind in columns.items():
        text = f"nullif(trim({name}), '')"
        selected.append(f"{text} AS {name}" if kind == "VARCHAR" else f"TRY_CAST({text} AS {kind}) AS {name}")
        if kind != "VARCHAR":
            selected.append(f"{text} AS _text_{name}")
    same = ", ".join(columns)
    copies = f"row_number() OVER (PARTITION BY {same} ORDER BY _row_number)"
    landed = f"(SELECT * FROM landed_{entity} QUALIFY {copies} = 1)"
    return f"SELECT {', '.join(selected)}, _source_file, _row_number FROM {landed} AS landed"


def fetch_typed(database: duckdb.DuckDBPyConnection, sql: str, types: dict[str, str]) -> pa.Table:
    """Return the rows of a query in the given types, with timestamps in UTC microseconds for deltalake."""
    found = database.sql(sql).columns
    names = [name for name in types if name in found]
    rows = database.sql(
        f"SELECT {', '.join(f'CAST({name} AS {types[name]}) AS {name}' for name in names)} FROM ({sql})"
    ).arrow()
    for at, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            rows = rows.set_column(at, field.name, rows[field.name].cast(pa.timestamp("us", "UTC")))
    return rows


def merge(uri: str, rows: pa.Table, key: list[str]) -> None:
    """Merge rows by key; an existing newer version of a row is kept."""
    table = open_table(uri)
    if table is None:
        write_deltalake(uri, rows)
        return
    same = " AND ".join(f"t.{name} = s.{name}" for name in key)
    merging = table.merge(rows, same, source_alias="s", target_alias="t")
    updates = {name: f"s.{name}" for name in rows.column_names}
    merging = merging.when_matched_update(updates, predicate="s.version_at >= t.version_at")
    merging.when_not_matched_insert(updates).execute()


def set_first_orders(database: duckdb.DuckDBPyConnection, lake: str) -> None:
    """Set the date of each customer's first order."""
    database.register("all_orders", DeltaTable(f"{lake}/silver/orders").to_pyarrow_dataset())
    rows = database.sql(
        "SELECT customer_key, min(order_date) AS first_order_date FROM all_orders SEMI JOIN new_orders USING (customer_key) "
        "GROUP BY customer_key"
    ).arrow()
    uri = f"{lake}/silver/customers"
    if "first_order_date" not in {field.name for field in DeltaTable(uri).schema().fields}:
        table = DeltaTable(uri).to_pyarrow_table()
        table = table.append_column("first_order_date", pa.nulls(len(table), pa.date32()))
        write_deltalake(uri, table, mode="overwrite", schema_mode="overwrite")
    same, later = "t.customer_key = s.customer_key", "t.first_order_date IS DISTINCT FROM s.first_order_date"
    merging = DeltaTable(uri).merge(rows, same, source_alias="s", target_alias="t")
    merging.when_matched_update({"first_order_date": "s.first_order_date"}, predicate=later).execute()
