"""Test that cells read pseudonyms of raw rows under every alias, and raw values only by the recorded call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook.engines import DuckDBEngine, ViewEngine
from daybook.engines.views import restricted_columns
from daybook.errors import SqlError, UsageError
from daybook.lake.tables import Lake
from daybook.notebook.context import Stage
from daybook.privacy import make_pseudonym, pseudonym_function
from daybook.sources import Source, load_source

KEYS = (b"k" * 32,)
SECRETS = {
    "customer_id": "C-771",
    "first_name": "Ottilie",
    "last_name": "Wasserfall",
    "email": "ottilie@wasserfall.example",
    "phone": "+43 664 998877",
    "street": "Rosengasse 12",
    "postal_code": "8099",
    "_raw": "C-771;Ottilie;Wasserfall",
    "_problem": "Ottilie is one field too many",
    "nickname": "Otti",  # no contract declares it
}
PLAIN = {"city": "Graz", "country": "AT", "_source_file": "customers/a.csv", "_run_id": "daily-2025-11-30-1"}
TYPED = {"_text_updated_at": "Ottilie yesterday", "_clock_updated_at": "repeated"}
TABLES = ("bronze.customers", "quarantine.customers", "landed.customers", "typed.customers", "customers", "landed.primary")
SHAPES = {
    "alias": "SELECT first_name AS a, street AS b, customer_id AS c, _raw AS d, nickname AS e FROM {t}",
    "expression": "SELECT upper(first_name), first_name || ' ' || last_name, substr(email, 1), reverse(phone) FROM {t}",
    "star": "SELECT * FROM {t}",
    "from first": "FROM {t}",
    "columns": "SELECT COLUMNS([c FOR c IN (*) IF c NOT IN ('city', 'run_date')]) FROM {t}",
    "replace": "SELECT * REPLACE (lower(first_name) AS first_name) FROM {t}",
    "rename": "SELECT * RENAME (first_name AS city_name) FROM {t}",
    "cte": "WITH p AS (SELECT first_name AS n, _problem AS q FROM {t}) SELECT n, q FROM p",
    "cte named as a table": "WITH orders AS (SELECT * FROM {t}) SELECT * FROM orders",
    "subquery": "SELECT (SELECT max(email) FROM {t}) AS m, n FROM (SELECT last_name AS n FROM {t}) AS s",
    "join": "SELECT a.first_name, b.street FROM {t} AS a JOIN {t} AS b ON a.customer_id = b.customer_id",
    "struct": "SELECT o FROM {t} AS o",
    "row": "SELECT struct_pack(a := first_name, b := street), {{'n': phone}} FROM {t}",
    "json": "SELECT to_json(o) FROM {t} AS o",
    "list": "SELECT list(first_name), string_agg(street, ','), array_agg(o) FROM {t} AS o",
    "aggregate": "SELECT min(first_name), max(street), mode(phone), arg_max(email, city), histogram(last_name) FROM {t}",
    "window": "SELECT lag(first_name, 0) OVER (ORDER BY street), first_value(_raw) OVER () FROM {t}",
    "group": "SELECT first_name, count(*) FROM {t} GROUP BY ALL",
    "union": "SELECT first_name FROM {t} UNION ALL SELECT street FROM {t} UNION SELECT phone FROM {t}",
    "unnest": "SELECT unnest([first_name, street]), unnest(string_split(email, '@')) FROM {t}",
    "pivot": "SELECT * FROM {t} PIVOT (max(first_name) FOR city IN ('Graz'))",
    "unpivot": "SELECT * FROM {t} UNPIVOT (v FOR n IN (first_name, street, phone))",
    "lateral": "SELECT l.n FROM {t} AS o, LATERAL (SELECT o.first_name || o.street AS n) AS l",
    "condition": "SELECT city, email FROM {t} WHERE first_name = 'Ottilie' OR street LIKE '%gasse%'",
}


def rows_of(table: str) -> pa.Table:
    """Return a row with a secret in every column that can hold one, and a row of NULLs."""
    values = {**SECRETS, **PLAIN, **(TYPED if table == "typed.customers" else {})}
    return pa.table({name: pa.array([value, None], pa.string()) for name, value in values.items()})


def fill(tables: DuckDBEngine) -> None:
    for name in TABLES[:-1]:
        tables.register(name, rows_of(name))
    tables.register("landed.orders", rows_of("landed.orders"))
    tables.create_view("landed.primary", "SELECT * FROM landed.orders")
    releases = {"entity": "customers", "released_by": "eva", "repairs": '{"first_name": "Ottilie"}', "why": "Ottilie called"}
    tables.register("quarantine.releases", pa.table({name: [value] for name, value in releases.items()}))


@pytest.fixture
def source(home: Path) -> Source:
    return load_source("demo")


@pytest.fixture
def views(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ViewEngine:
    """Return the view engine on tables with secrets, without a session."""
    monkeypatch.chdir(tmp_path)
    tables = DuckDBEngine(Lake(str(tmp_path / "lake")), "UTC")
    tables.add_text_function("pseudonym", pseudonym_function(KEYS))
    views = ViewEngine(tables, source)
    fill(tables)
    return views


@pytest.fixture
def stage(opened: Any) -> Stage:
    found: Stage = opened.shell.user_ns["stage"]
    fill(found.raw_engine)
    return found


def secrets_in(shown: object) -> set[str]:
    text = str(shown).lower()
    found = {secret for secret in SECRETS.values() if secret.lower() in text or secret[::-1].lower() in text}
    return found | {word for word in ("ottilie", "wasserfall", "rosengasse") if word in text}


# No shape of a query reaches a raw value


@pytest.mark.parametrize("shape", SHAPES)
def test_query_reads_no_raw_value(views: ViewEngine, shape: str) -> None:
    for table in TABLES:
        sql = SHAPES[shape].format(t=table)
        assert secrets_in(views.tables.rows(sql)), "the shape shows no value of the table as it is"
        found = [
            views.rows(sql),
            views.arrow(sql).to_pydict(),
            views.query(sql).fetchall(),
            views.query(sql).df().to_dict(),
            views.query(sql).to_arrow_table().to_pydict(),
        ]
        assert not secrets_in(found), table


@pytest.mark.parametrize("table", TABLES)
def test_definition_holds_no_raw_value(views: ViewEngine, table: str) -> None:
    views.define("named", f"SELECT first_name AS n, street FROM {table} ORDER BY n")
    views.materialize("named")
    views.create_table("kept", f"SELECT * FROM {table}")
    views.define("silver.orders", f"SELECT first_name AS city FROM {table}")
    found = [views.rows(f"SELECT * FROM {name}") for name in ("named", "kept", "silver.orders")]
    assert not secrets_in(found)


def test_releases_show_who_but_not_what(views: ViewEngine) -> None:
    ((entity, by, repairs, why),) = views.rows("SELECT entity, released_by, repairs, why FROM quarantine.releases")
    assert (entity, by) == ("customers", "eva")
    assert not secrets_in([repairs, why])


def test_text_that_does_not_fit_its_type_is_a_pseudonym(views: ViewEngine) -> None:
    rows = views.rows("SELECT _text_updated_at, _clock_updated_at FROM typed.customers")
    assert rows[0] == (make_pseudonym(KEYS, TYPED["_text_updated_at"]), "repeated")


def test_plain_columns_are_as_they_are(views: ViewEngine) -> None:
    assert views.rows("SELECT city, country, _source_file FROM bronze.customers WHERE city IS NOT NULL") == [
        ("Graz", "AT", "customers/a.csv")
    ]


@pytest.mark.parametrize(
    "name",
    [
        "_raw.bronze.customers",
        "_raw.main.customers",
        "memory.bronze.customers",
        '_raw."bronze".customers',
        "_bronze__customers",
        "_stored_customers",
        "_flagged",
        "whole.customers",
    ],
)
def test_tables_behind_the_views_have_no_name_in_cells(views: ViewEngine, name: str) -> None:
    views.rows("SELECT * FROM bronze.customers")
    for known in ("_flagged", "whole.customers"):
        views.tables.register(known, rows_of(known))
    with pytest.raises(SqlError, match="There is no table"):
        views.rows(f"SELECT * FROM {name}")
    assert "whole.customers" not in views.names()


@pytest.mark.parametrize(
    "sql",
    [
        'WITH "_raw.bronze.customers" AS (SELECT 1) SELECT * FROM _raw.bronze.customers',
        'WITH a AS (SELECT 1), "x.y" AS (SELECT 1) SELECT * FROM _raw.bronze.customers',
        "WITH a AS (WITH _bronze__customers AS (SELECT 1) FROM _bronze__customers) SELECT * FROM a, _bronze__customers",
        "WITH _bronze__customers AS (SELECT * FROM _bronze__customers) SELECT * FROM _bronze__customers",
    ],
)
def test_cte_gives_tables_behind_the_views_no_name(views: ViewEngine, sql: str) -> None:
    views.rows("SELECT * FROM bronze.customers")
    with pytest.raises(SqlError, match=r"The name _\w.* begins with _|There is no table _raw"):
        views.rows(sql)


def test_definition_has_no_name_of_a_table_behind_views(views: ViewEngine) -> None:
    views.rows("SELECT * FROM bronze.customers")
    with pytest.raises(SqlError, match="The name _bronze__customers begins with _"):
        views.define("_bronze__customers", "SELECT 1")


def test_python_variables_are_no_tables(opened: Any, stage: Stage) -> None:
    opened.value("people = stage.engine.query('SELECT first_name FROM bronze.customers').df()")
    assert not secrets_in(opened.value("people.to_string()"))
    assert isinstance(opened.error("%%sql\nSELECT * FROM people"), SqlError)


def test_cell_shows_no_raw_value(opened: Any, stage: Stage) -> None:
    shown = opened.value("%%sql\nSELECT first_name AS n, upper(street) AS s, o FROM landed.customers AS o")
    assert not secrets_in(repr(shown) + shown._repr_html_())


# What a pseudonym is


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.none() | st.text(alphabet="aÄ 1[]", max_size=3) | st.just("[erased]"), max_size=6))
def test_null_and_empty_stay_and_nothing_else(views: ViewEngine, values: list[Optional[str]]) -> None:
    views.tables.register("bronze.customers", pa.table({"email": pa.array(values, pa.string())}))
    found = [value for (value,) in views.rows("SELECT email FROM bronze.customers")]
    assert found == [value if value in (None, "", "[erased]") else make_pseudonym(KEYS, value) for value in values]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("[erased]", "[erased]"),
        ("[erased:0123456789ab]", "[erased:0123456789ab]"),
        ("[erased] Ottilie", None),
        ("[erased:Eva]", None),
    ],
)
def test_only_marks_of_erased_values_stay(views: ViewEngine, value: str, shown: Optional[str]) -> None:
    views.tables.register("bronze.customers", pa.table({"email": [value]}))
    assert views.rows("SELECT email FROM bronze.customers") == [(shown,)]


def test_pseudonym_of_an_id_is_the_customer_key(views: ViewEngine) -> None:
    ((key,),) = views.rows("SELECT customer_id FROM bronze.customers WHERE customer_id IS NOT NULL")
    assert key == make_pseudonym(KEYS, SECRETS["customer_id"])


def test_restricted_value_of_any_type_is_a_pseudonym(views: ViewEngine) -> None:
    views.tables.register(
        "bronze.customers", pa.table({"phone": [4711], "street": [["Rosengasse", "12"]], "x": [{"n": "Ottilie"}]})
    )
    (row,) = views.rows("SELECT phone, street, x FROM bronze.customers")
    assert row[0] == make_pseudonym(KEYS, "4711")
    assert not secrets_in(row)


def test_view_follows_the_table_behind_it(views: ViewEngine) -> None:
    assert len(views.rows("SELECT * FROM customers")) == 2
    views.define("n", "SELECT count(*) AS n FROM (SELECT DISTINCT city FROM customers)")
    assert views.materialize("n") == 1
    views.tables.register("customers", pa.table({"city": ["Graz", "Linz", "Wien"], "email": [1, 2, 3]}))
    assert views.rows("SELECT n FROM n") == [(3,)]
    assert len(views.rows("SELECT email FROM customers")) == 3


def test_definition_of_a_cell_outlives_a_change_behind_it(views: ViewEngine) -> None:
    assert len(views.rows("SELECT * FROM customers")) == 2
    views.define("customers", "SELECT 1 AS one")
    views.tables.register("customers", pa.table({"city": ["Graz"]}))
    assert views.rows("SELECT * FROM customers") == [(1,)]
    assert views.tables.rows("SELECT * FROM customers") == [("Graz",)]


# Mapped rows


def test_mapping_of_a_restricted_text_is_a_pseudonym(source: Source) -> None:
    (select,) = source.mapping["customers"]
    columns = {**select.columns, "city": "upper(street)", "state": "COALESCE(customers.postal_code, state)"}
    mapping = {**source.mapping, "customers": [select.model_copy(update={"columns": columns})]}
    spoiled = source.model_copy(update={"mapping": mapping})
    assert restricted_columns(spoiled, "mapped.customers", []) == {"city", "state"}
    assert restricted_columns(source, "mapped.customers", []) == set()
    assert restricted_columns(spoiled, "silver.customers", ["city"]) == set()


# Raw values on record


def test_raw_read_needs_a_reason(stage: Stage) -> None:
    with pytest.raises(UsageError, match="need a reason"):
        stage.raw("bronze.customers", reason=" ")
    with pytest.raises(TypeError):
        stage.raw("bronze.customers")  # type: ignore[call-arg]
    assert "raw_reads" not in stage.details
    assert not list(Path(stage.settings.archive).rglob("*.json"))


def test_raw_read_is_on_record(opened: Any, stage: Stage) -> None:
    query = "SELECT c.first_name AS n, c.city FROM bronze.customers AS c WHERE email IS NOT NULL"
    found = opened.value(f"stage.raw({query!r}, reason='check the encoding for eva@example.com').fetchall()")
    assert found == [("Ottilie", "Graz")]
    (record,) = stage.details["raw_reads"]
    assert (record["tables"], record["columns"]) == (["bronze.customers"], ["n", "city"])
    assert record["reason"] == "check the encoding for [redacted:email]"
    assert record["by"]
    assert record["stage"] == "ingest"
    assert record["cell"]
    (file,) = Path(stage.settings.archive, "raw_reads").glob("*/*.json")
    assert json.loads(file.read_text(encoding="utf-8")) == record
    assert not secrets_in(record)


def test_raw_read_of_a_table_gives_its_rows(stage: Stage) -> None:
    assert "Ottilie" in stage.raw("bronze.customers", reason="look").df()["first_name"].to_list()
