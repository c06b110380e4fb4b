"""Test the engine: names in queries, versions of tables, definitions and errors."""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from daybook.engines import DuckDBEngine, query_error
from daybook.errors import DaybookError, EngineError, SqlError
from daybook.lake.tables import Lake
from daybook.privacy import pseudonym_function
from tests.lake.writing import replace_date

DAY, NEXT = date(2025, 11, 1), date(2025, 11, 2)
IDS = "SELECT order_id FROM bronze.orders ORDER BY order_id"


def refusal(engine: DuckDBEngine, sql: str) -> str:
    """Return the text of the error that a query raises."""
    with pytest.raises(SqlError) as caught:
        engine.rows(sql)
    return str(caught.value)


def land(lake: Lake, day: date, *order_ids: str) -> None:
    replace_date(Lake(lake.root), "bronze.orders", pa.table({"order_id": pa.array(order_ids, pa.string())}), day)


# Tables


def test_query_reads_a_table_by_name(engine: DuckDBEngine) -> None:
    assert engine.rows(IDS) == [("a",), ("b",)]


def test_version_of_a_read_table_is_recorded(engine: DuckDBEngine, lake: Lake) -> None:
    engine.rows(IDS)
    assert lake.tables_read == {"bronze.orders": 1}


def test_table_that_is_not_named_is_not_read(engine: DuckDBEngine, lake: Lake) -> None:
    engine.rows("SELECT 1")
    assert lake.tables_read == {}


def test_unwritten_table_has_its_contracts_columns(engine: DuckDBEngine) -> None:
    empty = engine.arrow("SELECT order_id, line_amount FROM silver.order_items")
    assert empty.num_rows == 0
    assert empty.schema.field("line_amount").type == pa.decimal128(18, 4)


def test_table_keeps_the_version_first_read(engine: DuckDBEngine, lake: Lake) -> None:
    engine.rows(IDS)
    land(lake, NEXT, "c")
    assert engine.rows(IDS) == [("a",), ("b",)]
    assert lake.tables_read == {"bronze.orders": 1}


def test_refresh_reads_the_newest_version(engine: DuckDBEngine, lake: Lake) -> None:
    engine.rows(IDS)
    land(lake, NEXT, "c")
    engine.refresh("bronze.orders")
    assert engine.rows(IDS) == [("a",), ("b",), ("c",)]
    assert lake.tables_read == {"bronze.orders": 2}


def test_refresh_applies_to_definitions(engine: DuckDBEngine, lake: Lake) -> None:
    engine.define("named", IDS)
    engine.define("counted", "SELECT count(*) FROM named")
    land(lake, NEXT, "c")
    engine.refresh("bronze.orders")
    assert engine.fetch_row("SELECT * FROM counted") == (3,)


def test_unknown_table_suggests_the_closest_name(engine: DuckDBEngine) -> None:
    assert refusal(engine, "SELECT * FROM silver.order") == "There is no table silver.order; did you mean silver.orders?"


def test_misspelt_name_suggests_a_definition(engine: DuckDBEngine) -> None:
    engine.define("first_orders", IDS)
    assert refusal(engine, "SELECT * FROM frst_orders") == "There is no table frst_orders; did you mean first_orders?"


def test_unknown_table_without_close_name_suggests_show_tables(engine: DuckDBEngine) -> None:
    said = refusal(engine, "SELECT * FROM xyzzy")
    assert said == "There is no table xyzzy; SHOW TABLES lists the tables."


def test_file_is_not_a_table(engine: DuckDBEngine) -> None:
    assert refusal(engine, "SELECT * FROM 'orders.csv'").startswith("There is no table orders.csv; ")


def test_unwritten_candidate_is_an_unknown_table(engine: DuckDBEngine) -> None:
    assert refusal(engine, "SELECT * FROM candidate.daily_totals").startswith("There is no table candidate.daily_totals; ")


def test_table_function_is_not_an_unknown_table(engine: DuckDBEngine) -> None:
    assert engine.fetch_row("SELECT count(*) FROM range(3)") == (3,)


def test_registered_rows_can_be_queried(engine: DuckDBEngine) -> None:
    engine.register("landed.orders", pa.table({"order_id": ["x"]}))
    engine.register("landed.orders", pa.table({"order_id": ["y"]}))
    assert engine.rows("SELECT order_id FROM landed.orders") == [("y",)]
    assert "landed.orders" in engine.names()


def test_names_lists_tables_and_definitions(engine: DuckDBEngine) -> None:
    engine.define("first_orders", IDS)
    assert {"bronze.orders", "gold.daily_sales", "first_orders"} <= set(engine.names())


# Definitions


def test_definition_is_read_by_name(engine: DuckDBEngine) -> None:
    engine.define("silver.orders", "SELECT order_id FROM bronze.orders WHERE order_id = 'a'")
    assert engine.rows("SELECT * FROM silver.orders") == [("a",)]


def test_definition_runs_when_it_is_read(engine: DuckDBEngine) -> None:
    engine.define("wrong", "SELECT CAST(order_id AS INTEGER) AS n FROM bronze.orders")
    message = r"^Conversion Error: Could not convert string '[ab]' to INT32( when casting from source column order_id)?\.$"
    with pytest.raises(SqlError, match=message):
        engine.arrow("SELECT * FROM wrong")


def test_unknown_column_is_an_error_in_define(engine: DuckDBEngine) -> None:
    with pytest.raises(SqlError, match=r'^Binder Error: Referenced column "missing" not found'):
        engine.define("wrong", "SELECT missing FROM bronze.orders")
    assert not engine.is_defined("wrong")


def test_second_definition_replaces_the_first(engine: DuckDBEngine) -> None:
    engine.define("named", "SELECT 1 AS n")
    engine.define("named", "SELECT 2 AS n")
    assert engine.fetch_row("SELECT n FROM named") == (2,)


@pytest.mark.parametrize("sql", ["SELECT * FROM named", "SELECT * FROM bronze.orders WHERE order_id IN (SELECT id FROM named)"])
def test_definition_that_reads_itself_is_an_error(engine: DuckDBEngine, sql: str) -> None:
    engine.define("named", "SELECT 'a' AS id")
    with pytest.raises(SqlError) as caught:
        engine.define("named", sql)
    assert str(caught.value) == "The query that defines named reads named itself; define it under another name."
    assert engine.fetch_row("SELECT id FROM named") == ("a",)


def test_indirect_recursion_is_an_error(engine: DuckDBEngine) -> None:
    engine.define("one", "SELECT 1 AS n")
    engine.define("two", "SELECT n + 1 AS n FROM one")
    with pytest.raises(SqlError, match=r"^The query that defines one reads one itself"):
        engine.define("one", "SELECT n FROM two")
    assert engine.fetch_row("SELECT n FROM two") == (2,)


SORTED = "SELECT n FROM numbers ORDER BY n DESC"


def numbers(engine: DuckDBEngine, *values: int) -> None:
    engine.register("numbers", pa.table({"n": pa.array(values, pa.int64())}))


def runs_of(engine: DuckDBEngine, sql: str) -> str:
    """Return DuckDB's plan of a query."""
    return str(engine.query(sql).explain()).upper().replace(" ", "_")


def test_materialized_definition_is_not_run_again(engine: DuckDBEngine) -> None:
    numbers(engine, 1, 3, 2)
    engine.define("sorted", SORTED)
    assert "ORDER_BY" in runs_of(engine, "SELECT * FROM sorted")
    assert engine.materialize("sorted") == 3
    assert "ORDER_BY" not in runs_of(engine, "SELECT * FROM sorted")
    assert engine.rows("SELECT * FROM sorted") == [(3,), (2,), (1,)]


def test_simple_selection_is_not_materialized(engine: DuckDBEngine) -> None:
    numbers(engine, 1, 3, 2)
    engine.define("few", "SELECT n FROM numbers WHERE n > 1")
    assert engine.materialize("few") == 2
    assert "settled" not in runs_of(engine, "SELECT * FROM few")


def test_materialized_rows_follow_changed_definitions(engine: DuckDBEngine) -> None:
    numbers(engine, 1)
    engine.define("sorted", SORTED)
    engine.define("total", "SELECT sum(n) AS n FROM sorted")
    engine.materialize("sorted")
    engine.materialize("total")
    numbers(engine, 1, 2)
    assert engine.rows("SELECT * FROM total") == [(3,)]
    engine.materialize("sorted")
    engine.define("sorted", "SELECT n * 10 AS n FROM numbers ORDER BY n")
    assert engine.rows("SELECT * FROM total") == [(30,)]
    engine.materialize("sorted")
    assert engine.rows("SELECT n FROM sorted") == [(10,), (20,)]


def test_refresh_drops_materialized_rows(engine: DuckDBEngine, lake: Lake) -> None:
    engine.define("ids", IDS)
    assert engine.materialize("ids") == 2
    land(lake, NEXT, "c")
    assert engine.materialize("ids") == 2
    engine.refresh("bronze.orders")
    assert engine.materialize("ids") == 3


def test_failed_materialize_is_one_sentence(engine: DuckDBEngine) -> None:
    engine.define("bad", "SELECT CAST('ten' AS BIGINT) AS n ORDER BY n")
    with pytest.raises(SqlError, match="Could not convert"):
        engine.materialize("bad")
    assert engine.names().count("bad") == 1


def test_is_defined_is_true_for_definitions_only(engine: DuckDBEngine) -> None:
    engine.define("named", IDS)
    engine.register("given", pa.table({"n": [1]}))
    assert engine.is_defined("named")
    assert not engine.is_defined("given")
    assert not engine.is_defined("bronze.orders")
    engine.refresh("named")
    assert not engine.is_defined("named")


@pytest.mark.parametrize("name", ["orders", "bronze"])
def test_cte_can_have_the_name_of_a_table_or_layer(engine: DuckDBEngine, name: str) -> None:
    assert engine.rows(f"WITH {name} AS ({IDS}) SELECT {name}.order_id FROM {name}") == [("a",), ("b",)]


def test_definition_can_have_a_cte_of_its_own_name(engine: DuckDBEngine) -> None:
    engine.define("orders", f"WITH orders AS ({IDS}) SELECT * FROM orders")
    assert engine.fetch_row("SELECT count(*) FROM orders") == (2,)


# One SELECT


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing but a remark",
        "SELECT 1; SELECT 2",
        "DROP TABLE bronze.orders",
        "DELETE FROM silver.orders",
        "INSERT INTO silver.orders SELECT 1",
        "CREATE TABLE mine AS SELECT 1",
        "COPY (SELECT 1) TO 'out.csv'",
        "SET TimeZone = 'UTC'",
        "DESCRIBE DELETE FROM bronze.orders",
        "DESCRIBE COPY bronze.orders TO 'out.csv'",
        "SHOW TABLES; DROP TABLE bronze.orders",
        "SUMMARIZE 'out.csv'",
        "EXPLAIN ANALYZE DELETE FROM bronze.orders",
        "CALL pragma_version()",
        "PRAGMA database_list",
    ],
)
def test_other_statements_are_an_error(engine: DuckDBEngine, sql: str) -> None:
    assert refusal(engine, sql) == (
        "Give one SELECT, PIVOT, UNPIVOT, DESCRIBE, SUMMARIZE or SHOW TABLES; tables are changed by the stages only."
    )
    with pytest.raises(SqlError):
        engine.define("named", sql)


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "SELECT 1;", "SELECT 1; -- done", "(SELECT 1)", "FROM (SELECT 1)", "WITH a AS (SELECT 1) SELECT * FROM a"],
)
def test_forms_of_select_are_accepted(engine: DuckDBEngine, sql: str) -> None:
    assert engine.rows(sql) == [(1,)]


@pytest.mark.parametrize("read", ["query", "rows"])
@pytest.mark.parametrize(
    ("sql", "columns", "first"),
    [
        ("DESCRIBE bronze.orders", ["column_name", "column_type"], ("run_date", "DATE")),
        ("desc bronze.orders; -- all of it", ["column_name", "column_type"], ("run_date", "DATE")),
        ("DESCRIBE SELECT 1 AS one FROM silver.orders", ["column_name", "column_type"], ("one", "INTEGER")),
        ("SUMMARIZE bronze.orders", ["column_name", "column_type"], ("run_date", "DATE")),
        ("SUMMARIZE SELECT 1 AS one", ["column_name", "column_type"], ("one", "INTEGER")),
        ("SELECT column_name FROM (DESCRIBE bronze.orders)", ["column_name"], ("run_date",)),
        ("PIVOT bronze.orders ON order_id USING count(*)", None, None),
        ("PIVOT (SELECT 1 AS a, 'x' AS b) ON b USING sum(a)", ["x"], (1,)),
        ("WITH o AS (SELECT 1 AS a, 'x' AS b) PIVOT o ON b IN ('x', 'y') USING sum(a)", ["x", "y"], (1, None)),
        ("UNPIVOT (SELECT 1 AS a, 2 AS b) ON a, b INTO NAME n VALUE v", ["n", "v"], ("a", 1)),
        ("SHOW TABLES", ["name"], ("bronze.orders",)),
    ],
)
def test_reading_statements_are_accepted(engine: DuckDBEngine, read: str, sql: str, columns: Any, first: Any) -> None:
    found = engine.query(sql)
    rows = found.fetchall() if read == "query" else engine.rows(sql)
    if columns is not None:
        assert found.columns[: len(columns)] == columns
        assert rows[0][: len(columns)] == first
    assert found.aggregate("count(*)").fetchall() == [(len(rows),)]


def test_show_tables_includes_definitions(engine: DuckDBEngine) -> None:
    engine.define("mine", "SELECT 1")
    assert ("mine",) in engine.rows("show tables")


@pytest.mark.parametrize("sql", ["DESCRIBE nowhere", "SUMMARIZE bronze.nowhere", "PIVOT nowhere ON a", "DESCRIBE 'a.csv'"])
def test_statement_on_an_unknown_table_is_an_error(engine: DuckDBEngine, sql: str) -> None:
    assert refusal(engine, sql).startswith("There is no table ")


@pytest.mark.parametrize("sql", ["DESCRIBE bronze.orders", "SHOW TABLES", "PIVOT bronze.orders ON order_id"])
def test_definition_must_be_a_select(engine: DuckDBEngine, sql: str) -> None:
    with pytest.raises(SqlError, match="Only a SELECT can define mine; write SELECT"):
        engine.define("mine", sql)
    engine.define("mine", "SELECT * FROM (PIVOT (SELECT 1 AS a, 'x' AS b) ON b IN ('x') USING sum(a))")
    assert engine.rows("SELECT * FROM mine") == [(1,)]


def test_name_without_layer_suggests_all_layers(engine: DuckDBEngine) -> None:
    assert refusal(engine, "SELECT * FROM orders") == "There is no table orders; did you mean bronze.orders or silver.orders?"


@pytest.mark.parametrize("sql", ['SELECT * FROM "silver.orders"', "SELECT * FROM 'silver.orders'"])
def test_name_quoted_with_its_layer_is_suggested(engine: DuckDBEngine, sql: str) -> None:
    assert refusal(engine, sql) == 'There is no table "silver.orders"; did you mean silver.orders?'


def test_show_tables_from_a_layer_lists_its_tables(engine: DuckDBEngine) -> None:
    assert ("bronze.orders",) in engine.rows("SHOW TABLES")
    assert {name.partition(".")[0] for (name,) in engine.rows("SHOW TABLES FROM silver")} <= {"silver"}
    assert ("bronze.orders",) in engine.rows("show tables from Bronze")
    assert engine.rows("SHOW TABLES FROM nowhere") == []


def test_table_that_was_never_written_is_suggested(engine: DuckDBEngine) -> None:
    said = refusal(engine, "SELECT * FROM gold.daily_sale")
    assert said == "There is no table gold.daily_sale; did you mean gold.daily_sales?"


@pytest.mark.parametrize("sql", ["SELEC 1", "SELECT (1", "SELECT 'x"])
def test_syntax_error_is_one_sentence(engine: DuckDBEngine, sql: str) -> None:
    said = refusal(engine, sql)
    assert said.startswith("The query does not parse: ")
    assert said.endswith(".")
    assert "\n" not in said
    assert "\x1b" not in said


def test_unknown_column_lists_candidates_in_one_sentence(engine: DuckDBEngine) -> None:
    said = refusal(engine, "SELECT order_no FROM bronze.orders")
    assert said == 'Binder Error: Referenced column "order_no" not found in FROM clause! Candidate bindings: "order_id".'


@pytest.mark.parametrize("read", ["query", "arrow", "rows", "fetch_row"])
def test_every_way_to_read_raises_the_same_error(engine: DuckDBEngine, read: str) -> None:
    with pytest.raises(SqlError):
        getattr(engine, read)("SELECT missing FROM bronze.orders")


# Pseudonyms and time


def test_pseudonym_is_the_start_of_the_hmac(engine: DuckDBEngine) -> None:
    # RFC 4231, test case 2: HMAC-SHA-256.
    engine.add_text_function("pseudonym", pseudonym_function((b"Jefe",)))
    assert engine.fetch_row("SELECT pseudonym('what do ya want for nothing?')") == ("5bdcc146bf60754e6a042426089575c7",)


def test_pseudonyms_use_utf_8_and_keep_null(engine: DuckDBEngine) -> None:
    key = bytes(range(32))
    engine.add_text_function("pseudonym", pseudonym_function((key,)))
    texts: list[Any] = ["é", None, "", "é"]
    engine.register("texts", pa.table({"number": range(4), "text": texts}))
    found = [row[0] for row in engine.rows("SELECT pseudonym(text) FROM texts ORDER BY number")]
    assert found[0] == hmac.new(key, "é".encode(), "sha256").hexdigest()[:32]
    assert found[1] is None
    assert found[2] is not None
    assert found[3] == found[0]


def test_another_key_gives_other_pseudonyms(make: Any, lake: Lake) -> None:
    given = []
    for key in (b"a" * 32, b"b" * 32):
        engine = make(lake, "UTC")
        engine.add_text_function("pseudonym", pseudonym_function((key,)))
        given.append(engine.fetch_row("SELECT pseudonym('x')"))
    assert given[0] != given[1]


@pytest.mark.parametrize(("zone", "day"), [("UTC", NEXT), ("America/Sao_Paulo", DAY), ("Europe/Berlin", NEXT)])
def test_date_is_the_local_calendar_day(make: Any, lake: Lake, zone: str, day: date) -> None:
    engine = make(lake, zone)
    late = datetime(2025, 11, 2, 1, 30, tzinfo=timezone.utc)
    engine.register("moments", pa.table({"moment": pa.array([late], pa.timestamp("us", "UTC"))}))
    assert engine.fetch_row("SELECT CAST(moment AS DATE) FROM moments") == (day,)


def test_timestamp_without_zone_is_local_time(engine: DuckDBEngine) -> None:
    (moment,) = engine.fetch_row("SELECT CAST('2025-11-01 22:30:00' AS TIMESTAMPTZ)")
    assert moment == datetime(2025, 11, 2, 1, 30, tzinfo=timezone.utc)


def test_engine_has_a_name_and_version(engine: DuckDBEngine) -> None:
    assert engine.version.startswith(f"{engine.name} ")


def test_cursors_have_the_time_zone() -> None:
    engine = DuckDBEngine(Lake("memory:///lake"), "Asia/Tokyo")
    found = engine.connection.cursor().execute("SELECT current_setting('TimeZone')").fetchall()
    assert found == [("Asia/Tokyo",)]


# Errors that are retried


def unreadable() -> pa.RecordBatchReader:
    """Return rows whose reading fails after a batch, as after a network error."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"n": [1]})
        raise OSError("the network is gone")

    return pa.RecordBatchReader.from_batches(pa.schema([("n", pa.int64())]), batches())


def test_out_of_memory_is_an_engine_error(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    small = duckdb.connect(config={"memory_limit": "10MB", "temp_directory": ""})
    monkeypatch.setattr("daybook.engines.duckdb.connect", lambda *_, **__: small)
    engine = DuckDBEngine(lake, "UTC")
    with pytest.raises(EngineError, match=r"^Out of Memory Error: "):
        engine.create_table("big", "SELECT range::VARCHAR || repeat('x', 50) AS text FROM range(3000000)")


def test_unreadable_rows_are_an_engine_error(engine: DuckDBEngine) -> None:
    engine.register("landed.orders", unreadable())
    with pytest.raises(EngineError, match="the network is gone"):
        engine.rows("SELECT sum(n) FROM landed.orders")


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (duckdb.ParserException, SqlError),
        (duckdb.SyntaxException, SqlError),
        (duckdb.BinderException, SqlError),
        (duckdb.CatalogException, SqlError),
        (duckdb.NotImplementedException, SqlError),
        (duckdb.ConversionException, SqlError),
        (duckdb.OutOfRangeException, SqlError),
        (duckdb.TypeMismatchException, SqlError),
        (duckdb.InvalidInputException, EngineError),
        (duckdb.OutOfMemoryException, EngineError),
        (duckdb.IOException, EngineError),
        (duckdb.HTTPException, EngineError),
        (duckdb.ConnectionException, EngineError),
        (duckdb.TransactionException, EngineError),
        (duckdb.InternalException, EngineError),
        (duckdb.FatalException, EngineError),
        (duckdb.InterruptException, EngineError),
        (duckdb.ConstraintException, EngineError),
        (duckdb.Error, EngineError),
    ],
)
def test_only_wrong_queries_are_permanent_errors(error: type[duckdb.Error], wanted: type[DaybookError]) -> None:
    assert type(query_error(error("It went wrong."))) is wanted


# Access from queries


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM read_text('{file}')",
        "SELECT * FROM read_blob('{file}')",
        "SELECT * FROM sniff_csv('{file}')",
        "SELECT * FROM parquet_metadata('{file}')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_csv('https://localhost/orders.csv')",
        "SELECT * FROM sqlite_scan('{file}', 'orders')",
        "SELECT * FROM secret_rows",
    ],
)
def test_query_cannot_read_files_or_python_variables(engine: DuckDBEngine, tmp_path: Path, sql: str) -> None:
    secret_rows = pa.table({"a": [1]})
    file = tmp_path / "orders.csv"
    file.write_text("order_id\n1\n", encoding="utf-8")
    with pytest.raises(SqlError):
        engine.rows(sql.format(file=file, folder=tmp_path))
    assert secret_rows.num_rows == 1


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM query('FROM bronze.orders')",
        "SELECT * FROM query_table('bronze.orders')",
        "SELECT * FROM system.main.\"Query_Table\"('bronze.orders')",
        "SELECT o.* FROM bronze.orders AS b, LATERAL query('FROM bronze.orders') AS o",
        "SELECT (SELECT count(*) FROM query_table(['bronze.orders']))",
        "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT 1'))",
        "SELECT * FROM pragma_storage_info('bronze.orders')",
        "SUMMARIZE query('FROM bronze.orders')",
        "PIVOT query('FROM bronze.orders') ON order_id",
        "SELECT * FROM duckdb_views()",
        "SELECT * FROM read_csv('orders.csv')",
        "SELECT * FROM checkpoint()",
        "SELECT * FROM memory.bronze.orders.a",
        "SELECT * FROM $1",
    ],
)
def test_query_cannot_call_functions_that_read_tables(engine: DuckDBEngine, sql: str) -> None:
    assert refusal(engine, sql).startswith("A query cannot read from ")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*) FROM range(2)",
        'SELECT count(*) FROM "range"(2)',
        "SELECT count(*) FROM generate_series(1, 2)",
        "SELECT count(*) FROM unnest([1, 2])",
        "SELECT count(*) FROM repeat('a', 2)",
        "SELECT count(*) FROM (VALUES (1), (2)) AS given(n)",
        "SELECT count(*) FROM (SELECT [1, 2] AS n) AS given, LATERAL unnest(given.n)",
        "SELECT count(*) FROM range(2) AS given(n), LATERAL (SELECT given.n + 1)",
    ],
)
def test_query_can_call_functions_that_generate_rows(engine: DuckDBEngine, sql: str) -> None:
    assert engine.fetch_row(sql) == (2,)


def test_configuration_is_locked(engine: DuckDBEngine) -> None:
    for setting in ("enable_external_access = true", "autoload_known_extensions = true", "lock_configuration = false"):
        with pytest.raises(duckdb.Error, match="locked"):
            engine.connection.execute(f"SET {setting}")


def test_rows_beyond_the_memory_limit_are_spilled(lake: Lake, tmp_path: Path) -> None:
    engine = DuckDBEngine(lake, "Europe/Berlin", spill=tmp_path)
    (place,) = engine.fetch_row("SELECT current_setting('temp_directory')")
    assert place == str(tmp_path / ".duckdb_tmp")
