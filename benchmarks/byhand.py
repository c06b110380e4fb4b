"""Process the shop's dates by hand: five functions with DuckDB and deltalake, without notebooks or a framework.

This is the lower limit that Daybook is compared with and, as notebooks, the usual way to work with papermill. It imports
nothing of Daybook. For the dates from ``run_date`` to ``until`` (empty: one date), it writes their files to bronze, checks the
main rules of the same contracts, merges silver by key, computes the same gold tables and compares their totals. It has no run
records, table versions, retries, resume, unpublished candidates or redaction. If a date is at fault, the whole range fails. It
does not support dates in any order or at the same time.

``texts`` is a JSON file with the SELECTs of silver and gold and the types of their columns. ``benchmarks.shop`` writes it from
the project's notebooks and contracts, so that every system computes the same tables.
"""

from __future__ import annotations

import hmac
import json
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import TableNotFoundError

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
        "sequence >= 1", "method IN ('credit_card', 'paypal', 'invoice', 'voucher')", "installments >= 0",
        "amount BETWEEN 0 AND 1000000",
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
          run_date AS landed_on, _source_file, _row_number
        FROM orders""",
    "order_items": """
        SELECT order_id, line_number, product_id, seller_id, quantity, unit_price, freight, FALSE AS is_return,
          NULL::TIMESTAMPTZ AS returned_at, run_date::TIMESTAMPTZ AS version_at, run_date AS landed_on,
          _source_file, _row_number
        FROM order_items UNION ALL
        SELECT order_id, 1000 + CAST(substr(return_id, 3) AS BIGINT), product_id, NULL, -quantity, unit_price, NULL, TRUE,
          returned_at::TIMESTAMPTZ, returned_at::TIMESTAMPTZ, run_date, _source_file, _row_number
        FROM returns""",
    "customers": """
        SELECT pseudonym(customer_id) AS customer_key, country, state, city, CAST(updated_at AS TIMESTAMPTZ) AS version_at,
          run_date AS landed_on, _source_file, _row_number
        FROM customers""",
    "products": """
        SELECT product_id, name, category_name AS category, CAST(updated_at AS TIMESTAMPTZ) AS version_at,
          products.run_date AS landed_on, products._source_file, products._row_number
        FROM products LEFT JOIN categories
          ON categories.category_id = products.category_id AND categories.run_date = products.run_date""",
    "payments": """
        SELECT order_id, sequence, method, installments, amount, run_date::TIMESTAMPTZ AS version_at, run_date AS landed_on,
          _source_file, _row_number
        FROM payments""",
    "reviews": """
        SELECT review_id, order_id, score, CAST(created_at AS TIMESTAMPTZ) AS created_at, run_date::TIMESTAMPTZ AS version_at,
          run_date AS landed_on, _source_file, _row_number
        FROM reviews""",
}


def ingest(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """The files of each date, as text, as a partition of bronze."""
    dates = list_dates(run_date, until)
    for entity, columns in ENTITIES.items():
        tables, lines = [], []
        for day in dates:
            file = Path(landing) / entity / day / f"{entity}.csv"
            read, broken = read_csv(file, list(columns), "windows-1252" if entity == "sellers" else "utf-8")
            rows = read.append_column("_source_file", pa.array([str(file)] * len(read), pa.string()))
            rows = rows.append_column("_row_number", pa.array(range(1, len(read) + 1), pa.int64()))
            tables.append(rows.append_column("run_date", pa.array([day] * len(rows), pa.string())))
            lines += [{"line": line, "run_date": day} for line in broken]
        replace_dates(f"{lake}/bronze/{entity}", pa.concat_tables(tables), "run_date", dates)
        schema = pa.schema([("line", pa.string()), ("run_date", pa.string())])
        replace_dates(f"{lake}/quarantine/{entity}_lines", pa.Table.from_pylist(lines, schema), "run_date", dates)


def validate(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Check keys, nulls, types, ranges and allowed values; quarantine broken rows; fail if a date has too many."""
    database, dates = connect(key), list_dates(run_date, until)
    for entity in ENTITIES:
        database.execute(f"CREATE TABLE {entity} AS {typed_sql(database, lake, entity, dates)}")
    for entity, columns in ENTITIES.items():
        broken = [f"{name} IS NULL" for name in REQUIRED[entity]]
        broken += [f"_text_{name} IS NOT NULL AND {name} IS NULL" for name, kind in columns.items() if kind != "VARCHAR"]
        broken += [f"NOT ({rule})" for rule in ALLOWED.get(entity, [])]
        reasons = ", ".join(f"CASE WHEN {rule} THEN '{rule.replace(chr(39), chr(39) * 2)}' END" for rule in broken)
        rejected = database.sql(
            f"SELECT * FROM (SELECT _source_file, _row_number, run_date, concat_ws('; ', {reasons}) AS _reasons FROM {entity}) "
            "WHERE _reasons <> ''"
        ).to_arrow_table()
        database.register("rejected", rejected)
        found = database.sql(
            f"SELECT run_date, count(*), (SELECT count(*) FROM rejected AS r WHERE r.run_date = {entity}.run_date) "
            f"FROM {entity} GROUP BY run_date"
        ).fetchall()
        for day, count, bad in found:
            if bad > max(5, count / 20):
                raise ValueError(f"{bad} of {count} rows of {entity} of {day} are rejected")
        if entity in PARENTS:
            lost = database.sql(
                f"SELECT run_date, avg((p.order_id IS NULL)::INT) FROM {entity} AS e LEFT JOIN (SELECT DISTINCT order_id, "
                f"run_date FROM {PARENTS[entity]}) AS p USING (order_id, run_date) GROUP BY run_date HAVING count(*) >= 10"
            ).fetchall()
            for day, share in lost:
                if share > 0.1:
                    raise ValueError(f"{share:.0%} of {entity} of {day} have no {PARENTS[entity]}")
        replace_dates(f"{lake}/quarantine/{entity}", as_texts(rejected, "run_date"), "run_date", dates)


def transform(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Map, type and deduplicate accepted rows, add pseudonyms, and merge into silver by key; the newest version wins."""
    document, database, dates = json.loads(Path(texts).read_text()), connect(key), list_dates(run_date, until)
    database.execute("CREATE SCHEMA mapped")
    for entity in ENTITIES:
        database.register("rejected", open_partition(f"{lake}/quarantine/{entity}", dates))
        typed = typed_sql(database, lake, entity, dates)
        sql = f"SELECT * FROM ({typed}) t ANTI JOIN rejected USING (_source_file, _row_number)"
        database.execute(f"CREATE TABLE {entity} AS {sql}")
    changed = set()
    for table, sql in MAPPED.items():
        database.execute(f"CREATE TABLE mapped.{table} AS {sql}")
        key_of = ", ".join(KEYS[table])
        newest = (
            f"SELECT * FROM ({document['silver'][table]}) AS s "
            f"QUALIFY row_number() OVER (PARTITION BY {key_of} ORDER BY version_at DESC, landed_on DESC) = 1"
        )
        rows = fetch_typed(database, newest, document["types"][f"silver.{table}"])
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
    # Each date is there, so that it counts as landed.
    noted = [(date.fromisoformat(day), day) for day in dates] + [(day, run_date) for day in sorted(touched)]
    days, under = zip(*noted)
    rows = pa.table({"order_date": pa.array(days, pa.date32()), "run_date": pa.array(under, pa.string())})
    replace_dates(f"{lake}/control/touched", rows, "run_date", dates)


def aggregate(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
    """Compute gold of the dates that these dates touched; tables without a date are overwritten."""
    document, database = json.loads(Path(texts).read_text()), connect(key)
    database.execute("CREATE SCHEMA silver; CREATE SCHEMA gold")
    for table in KEYS:
        database.register(f"_{table}", DeltaTable(f"{lake}/silver/{table}").to_pyarrow_dataset())
        database.execute(f"CREATE VIEW silver.{table} AS FROM _{table}")
    landed = [each["run_date"] for each in DeltaTable(f"{lake}/control/touched").partitions()]
    database.execute(f"CREATE VIEW landed AS SELECT unnest({landed!r}::DATE[]) AS order_date")
    database.register("_touched", open_partition(f"{lake}/control/touched", list_dates(run_date, until)))
    database.execute("CREATE TABLE touched AS SELECT DISTINCT order_date FROM _touched SEMI JOIN landed USING (order_date)")
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


def quality(landing: str, lake: str, run_date: str, until: str, key: str, texts: str) -> None:
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
    of_dates = f"order_date BETWEEN DATE '{run_date}' AND DATE '{until or run_date}'"
    by_date = f"WHERE {of_dates} GROUP BY order_date ORDER BY order_date"
    sums = "SELECT order_date, sum(gross_revenue), sum(returns_amount) FROM gold.{} " + by_date
    gold = database.sql(sums.format("daily_sales")).fetchall()
    silver = database.sql(f"""
        SELECT order_date, coalesce(sum(line_amount) FILTER (quantity > 0 AND unit_price > 0
                 AND status NOT IN ('cancelled', 'unavailable', 'adjustment')), 0),
               coalesce(sum(abs(line_amount)) FILTER (is_return AND status <> 'adjustment'), 0)
        FROM silver.orders JOIN silver.order_items USING (order_id) {by_date}
    """).fetchall()
    for table in ("category_sales", "product_sales"):
        if database.sql(sums.format(table)).fetchall() != gold:
            raise ValueError(f"gold.{table} and gold.daily_sales do not agree")
    if gold != silver:
        raise ValueError(f"the totals differ: gold {gold}, silver {silver}")


STAGES = (ingest, validate, transform, aggregate, quality)


def list_dates(run_date: str, until: str) -> list[str]:
    """Return the dates from ``run_date`` to ``until``; without ``until``, one date."""
    first, last = date.fromisoformat(run_date), date.fromisoformat(until or run_date)
    return [(first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1)]


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

    database.create_function("pseudonym", pseudonyms, ["VARCHAR"], "VARCHAR", type="arrow", null_handling="special")
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


def open_partition(uri: str, dates: list[str]) -> object:
    """Return the rows of the dates; deltalake 1.2.1 cannot create a dataset of a table without files."""
    table = DeltaTable(uri)
    stored = {each["run_date"] for each in (table.partitions() if table.file_uris() else [])}
    wanted = [day for day in dates if day in stored]
    if not wanted:
        return pa.schema(table.schema().to_arrow()).empty_table()
    return table.to_pyarrow_dataset(partitions=[("run_date", "in", wanted)])


def as_texts(rows: pa.Table, column: str) -> pa.Table:
    """Return the rows with a column as text: the values of a partition are texts."""
    return rows.set_column(rows.column_names.index(column), column, rows[column].cast(pa.string()))


def replace_dates(uri: str, rows: pa.Table, column: str, dates: list[str]) -> None:
    """Replace the rows of ``dates`` in a table that is partitioned by date."""
    table = open_table(uri)
    if table is None or not table.file_uris():  # deltalake 1.2.1 cannot overwrite in a table without files
        write_deltalake(uri, rows, mode="append", partition_by=[column])
    else:
        only = f"{column} IN ({', '.join(repr(day) for day in dates)})"
        write_deltalake(uri, rows, mode="overwrite", predicate=only, partition_by=[column])


def typed_sql(database: duckdb.DuckDBPyConnection, lake: str, entity: str, dates: list[str]) -> str:
    """Return a SELECT of the deduplicated, typed rows of the dates; an invalid value is NULL beside its text."""
    columns = ENTITIES[entity]
    database.register(f"landed_{entity}", open_partition(f"{lake}/bronze/{entity}", dates))
    selected = []
    for name, kind in columns.items():
        text = f"nullif(trim({name}), '')"
        selected.append(f"{text} AS {name}" if kind == "VARCHAR" else f"TRY_CAST({text} AS {kind}) AS {name}")
        if kind != "VARCHAR":
            selected.append(f"{text} AS _text_{name}")
    same = ", ".join([*columns, "run_date"])
    copies = f"row_number() OVER (PARTITION BY {same} ORDER BY _row_number)"
    landed = f"(SELECT * FROM landed_{entity} QUALIFY {copies} = 1)"
    selected += ["CAST(run_date AS DATE) AS run_date", "_source_file", "_row_number"]
    return f"SELECT {', '.join(selected)} FROM {landed} AS landed"


def fetch_typed(database: duckdb.DuckDBPyConnection, sql: str, types: dict[str, str]) -> pa.Table:
    """Return the rows of a query in the given types, with timestamps in UTC microseconds for deltalake."""
    found = database.sql(sql).columns
    names = [name for name in types if name in found]
    rows = database.sql(
        f"SELECT {', '.join(f'CAST({name} AS {types[name]}) AS {name}' for name in names)} FROM ({sql})"
    ).to_arrow_table()
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
    ).to_arrow_table()
    uri = f"{lake}/silver/customers"
    if "first_order_date" not in {field.name for field in DeltaTable(uri).schema().fields}:
        table = DeltaTable(uri).to_pyarrow_table()
        table = table.append_column("first_order_date", pa.nulls(len(table), pa.date32()))
        write_deltalake(uri, table, mode="overwrite", schema_mode="overwrite")
    same, later = "t.customer_key = s.customer_key", "t.first_order_date IS DISTINCT FROM s.first_order_date"
    merging = DeltaTable(uri).merge(rows, same, source_alias="s", target_alias="t")
    merging.when_matched_update({"first_order_date": "s.first_order_date"}, predicate=later).execute()
