"""The SQL a source's YAML stands for: texts cleaned and typed, entities mapped to canonical tables."""

from __future__ import annotations

import hmac
from datetime import date, datetime, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
import sqlglot

from daybook.contracts import load_table, load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.privacy import pseudonym_function
from daybook.sources import Column, Source, list_sources, load_source, mapped_sql
from daybook.sources.mapping import (
    are_collisions_errors,
    literal,
    merge_group,
    newest_files_sql,
    quote,
    sort_file_names,
    superseded_rows_sql,
    typed_sql,
)

DAY = date(2025, 11, 30)
BERLIN = ZoneInfo("Europe/Berlin")
KEY = b"any key will do"


@pytest.fixture(scope="module")
def engine():
    engine = DuckDBEngine(Lake("memory:///lake"), "Europe/Berlin")
    engine.add_text_function("pseudonym", pseudonym_function((KEY,)))
    return engine


@pytest.fixture
def typed(engine):
    """``typed(text, **column)``: the text as the declared column's value."""

    def call(text, null_values=(), name="column", **column):
        engine.register("landed", pa.table({name: pa.array([text], pa.string())}))
        (value,) = engine.fetch_row(f"SELECT {typed_sql(name, Column(**column), list(null_values))} FROM landed")
        return value.astimezone(BERLIN) if isinstance(value, datetime) else value

    return call


# Texts


@pytest.mark.parametrize(("text", "value"), [(" x ", "x"), ("", None), ("   ", None), ("NULL", "NULL"), ("O'Brien", "O'Brien")])
def test_text_is_trimmed_and_nothing_is_null(typed, text, value):
    assert typed(text) == value


@pytest.mark.parametrize(("text", "value"), [("N/A", None), (" N/A ", None), ("O'Brien", None), ("", None), ("x", "x")])
def test_null_values_are_null(typed, text, value):
    assert typed(text, null_values=["N/A", "O'Brien"]) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("9121", "09121"), (" 91 ", "00091"), ("12345", "12345"), ("1234567", "1234567"), ("", None), ("N/A", None)],
)
def test_lost_leading_zeros_are_put_back(typed, text, value):
    assert typed(text, null_values=["N/A"], pad=5) == value


@pytest.mark.parametrize("name", ['5" nail', "it's", "a, b", "select", "x; DROP TABLE y; --"])
def test_column_may_have_any_name(typed, name):
    assert typed("7", name=name, type="integer") == 7


@pytest.mark.parametrize("text", ["'", "'; DROP TABLE x; --", '"', "\\", "a''b"])
def test_text_is_a_literal_whatever_it_holds(engine, text):
    assert engine.fetch_row(f"SELECT {literal(text)}") == (text,)


@pytest.mark.parametrize("name", ['"', 'a""b', "a b"])
def test_name_is_an_identifier_whatever_it_holds(engine, name):
    assert engine.query(f"SELECT 1 AS {quote(name)}").columns == [name]


# Numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", 3), (" -3 ", -3), ("+3", 3), ("17850.0", 17850), ("2.7", None), ("1e3", None), ("3 pcs", None), ("9" * 20, None)],
)
def test_integer_is_whole(typed, text, value):
    assert typed(text, type="integer") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12.50", "12.50"),
        ("-0.01", "-0.01"),
        ("1.", "1"),
        (".5", "0.5"),
        ("1.2345", "1.2345"),
        ("1.234500", "1.2345"),
        (".500000", "0.5"),
        ("1.23456", None),
        ("1e3", None),
        ("12,50", None),
        ("12,50 EUR", None),
        ("€12.50", None),
        ("1_000", None),
        ("NaN", None),
        ("123456789012345", None),
    ],
)
def test_decimal_has_at_most_four_places_and_is_never_rounded(typed, text, value):
    assert typed(text, type="decimal") == (None if value is None else Decimal(value))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12,50", "12.50"),
        ("1.234,50", "1234.50"),
        ("1.234.567,89", "1234567.89"),
        ("-1234,5", "-1234.5"),
        (",5", "0.5"),
        ("1.234", "1234"),
        ("12.50", None),
        ("1,234.50", None),
        ("12,34,56", None),
    ],
)
def test_with_a_decimal_comma_points_part_thousands_only(typed, text, value):
    assert typed(text, type="decimal", decimal_comma=True) == (None if value is None else Decimal(value))


def test_decimal_comma_holds_for_integers_too(typed):
    assert typed("17.850,0", type="integer", decimal_comma=True) == 17850


@pytest.mark.parametrize(("text", "value"), [("true", True), ("F", False), ("1", True), ("maybe", None)])
def test_boolean_is_true_or_false(typed, text, value):
    assert typed(text, type="boolean") is value


# Times


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2018-05-05 10:00:00", datetime(2018, 5, 5, 10, tzinfo=BERLIN)),
        ("2018-05-05T10:00:00.123456", datetime(2018, 5, 5, 10, 0, 0, 123456, tzinfo=BERLIN)),
        ("2018-05-05", datetime(2018, 5, 5, tzinfo=BERLIN)),
        ("2018-05-05T10:00:00Z", datetime(2018, 5, 5, 12, tzinfo=BERLIN)),
        ("2018-05-05T10:00:00+02:00", datetime(2018, 5, 5, 10, tzinfo=BERLIN)),
        ("2018-05-05 10:00:00-0300", datetime(2018, 5, 5, 15, tzinfo=BERLIN)),
        ("2018-13-05", None),
        ("05/05/2018", None),
        ("2018-05-05 noon", None),
    ],
)
def test_timestamp_is_an_instant_in_the_shops_zone(typed, text, value):
    assert typed(text, type="timestamp") == value


@pytest.mark.parametrize(("text", "value"), [("2018-05-05", date(2018, 5, 5)), ("2018-02-30", None), ("yesterday", None)])
def test_date_is_iso_8601(typed, text, value):
    assert typed(text, type="date") == value


@pytest.mark.parametrize(
    ("kind", "pattern", "text", "value"),
    [
        ("timestamp", "%d/%m/%Y %H:%M", "05/03/2018 14:05", datetime(2018, 3, 5, 14, 5, tzinfo=BERLIN)),
        ("timestamp", "%d/%m/%Y %H:%M", "2018-03-05 14:05", None),
        ("timestamp", "%Y-%m-%d %H:%M %z", "2018-03-05 14:05 +0000", datetime(2018, 3, 5, 15, 5, tzinfo=BERLIN)),
        ("date", "%d.%m.%Y", "05.03.2018", date(2018, 3, 5)),
        ("date", "%d.%m.%Y", "31.02.2018", None),
    ],
)
def test_format_says_how_a_time_is_written(typed, kind, pattern, text, value):
    assert typed(text, type=kind, format=pattern) == value


# Mappings


@pytest.fixture
def landed(engine):
    """The small shop's entities, typed, with a row or two each."""
    at = [datetime(2025, 11, 30, 9, 30), datetime(2025, 11, 30, 0, 15)]
    tie = {"_source_file": ["o.csv"] * 2, "_row_number": pa.array([1, 2], pa.int64())}
    engine.register("orders", pa.table({"id": ["o1", "o2"], "person": ["p1", None], "at": at, "state": ["paid"] * 2, **tie}))
    lines = {"id": ["o1", "o1"], "sku": ["s1", "s2"], "pieces": pa.array([2, 1], pa.int64())}
    engine.register(
        "lines", pa.table({**lines, "price": pa.array([Decimal("1.5"), Decimal("2")], pa.decimal128(18, 4)), **tie})
    )
    return engine


@pytest.fixture
def mapped(landed):
    """``mapped(spec, table)``: the canonical rows, as mappings from column to value."""

    def call(spec, table):
        return landed.arrow(mapped_sql(Source.model_validate(spec), table, DAY)).to_pylist()

    return call


def test_canonical_table_has_the_mapped_values_in_its_own_types(mapped, shop):
    first, second = mapped(shop, "order_items")
    assert first == {
        "order_id": "o1",
        "line_number": 1,
        "product_id": "s1",
        "seller_id": None,
        "quantity": 2,
        "unit_price": Decimal("1.5000"),
        "freight": None,
        "is_return": False,
        "returned_at": None,
        "version_at": datetime(2025, 11, 30, tzinfo=BERLIN),
        "_unfit": "",
        "_source_file": "o.csv",
        "_row_number": 1,
    }
    assert second["line_number"] == 2


def test_local_times_become_moments(mapped, shop):
    assert mapped(shop, "orders")[0]["ordered_at"] == datetime(2025, 11, 30, 8, 30, tzinfo=timezone.utc)


@pytest.mark.parametrize("expression", ["'2025-11-30 09:30:00'", "TIMESTAMP '2025-11-30 09:30:00'"])
def test_local_times_of_a_mapping_are_in_the_zone_of_the_source(mapped, shop, expression):
    shop["mapping"]["orders"][0]["columns"]["ordered_at"] = expression
    shop["timezone"] = "America/New_York"
    assert mapped(shop, "orders")[0]["ordered_at"] == datetime(2025, 11, 30, 14, 30, tzinfo=timezone.utc)
    shop["entities"]["orders"]["timezone"] = "UTC"
    assert mapped(shop, "orders")[0]["ordered_at"] == datetime(2025, 11, 30, 9, 30, tzinfo=timezone.utc)


def test_personal_key_becomes_a_pseudonym_and_null_stays_null(mapped, shop):
    keys = [row["customer_key"] for row in mapped(shop, "orders")]
    assert keys == [hmac.digest(KEY, b"p1", "sha256").hex()[:32], None]


def test_version_of_the_source_is_kept(mapped, shop):
    shop["mapping"]["orders"][0]["columns"]["version_at"] = "at"
    assert mapped(shop, "orders")[0]["version_at"] == datetime(2025, 11, 30, 9, 30, tzinfo=BERLIN)


def test_row_without_a_version_has_the_shops_midnight(mapped, shop):
    shop["mapping"]["orders"][0]["columns"]["version_at"] = "CASE WHEN id = 'o1' THEN \"at\" END"
    assert mapped(shop, "orders")[1]["version_at"] == datetime(2025, 11, 30, tzinfo=BERLIN)


def test_table_that_the_source_lacks_has_no_rows_but_its_columns(landed, shop):
    table = landed.arrow(mapped_sql(Source.model_validate(shop), "payments", DAY))
    assert table.num_rows == 0
    assert table.column_names[:3] == ["order_id", "sequence", "method"]


def test_several_selects_of_a_table_are_put_together(mapped, shop):
    select = shop["mapping"]["order_items"][0]
    returned = {**select, "where": "pieces > 1", "columns": {**select["columns"], "quantity": "-pieces", "is_return": "TRUE"}}
    shop["mapping"]["order_items"].append(returned)
    found = [(row["quantity"], row["is_return"]) for row in mapped(shop, "order_items")]
    assert sorted(found) == [(-2, True), (1, False), (2, False)]


def test_grouped_row_is_tied_to_its_first_line(mapped, shop):
    shop["mapping"]["orders"] = [
        {
            "from": "lines",
            "join": "JOIN orders ON orders.id = lines.id",
            "group_by": ["lines.id"],
            "columns": {"order_id": "lines.id", "ordered_at": "min(orders.at)", "status": "max(orders.state)"},
        }
    ]
    (row,) = mapped(shop, "orders")
    assert (row["order_id"], row["_row_number"], row["status"]) == ("o1", 1, "paid")


# Rows without a key of their own


def lines_of(engine, *rows):
    """Have the entity ``lines`` hold these rows: file, row, order, article, pieces."""
    names = ("_source_file", "_row_number", "id", "sku", "pieces")
    columns = dict(zip(names, zip(*rows)))
    engine.register("lines", pa.table({**columns, "price": pa.array([Decimal(1)] * len(rows), pa.decimal128(18, 4))}))


def numbers(rows):
    return sorted((row["order_id"], row["line_number"], row["product_id"]) for row in rows)


def test_lines_without_a_key_are_numbered_within_their_order(mapped, engine, shop):
    lines_of(engine, ("f", 2, "o1", "b", 1), ("f", 5, "o1", "b", 1), ("f", 3, "o2", "x", 1), ("f", 9, "o1", "a", 1))
    del shop["mapping"]["order_items"][0]["columns"]["line_number"]
    assert numbers(mapped(shop, "order_items")) == [("o1", 1, "b"), ("o1", 2, "b"), ("o1", 3, "a"), ("o2", 1, "x")]


@pytest.mark.parametrize("position", ["_row_number", "1000 + lines._row_number", "row_number() OVER (ORDER BY _row_number)"])
def test_number_from_the_row_in_the_file_is_no_key(mapped, engine, shop, position):
    lines_of(engine, ("f", 7, "o1", "a", 1), ("f", 8, "o1", "b", 1))
    shop["mapping"]["order_items"][0]["columns"]["line_number"] = position
    assert numbers(mapped(shop, "order_items")) == [("o1", 1, "a"), ("o1", 2, "b")]


def test_lines_without_a_key_share_the_newest_version(mapped, engine, shop):
    lines_of(engine, ("f", 1, "o1", "a", 1), ("f", 2, "o1", "b", 2))
    shop["mapping"]["order_items"][0]["columns"]["version_at"] = "TIMESTAMP '2025-11-30 10:00:00' + INTERVAL 1 HOUR * pieces"
    assert {row["version_at"] for row in mapped(shop, "order_items")} == {datetime(2025, 11, 30, 12, tzinfo=BERLIN)}


def test_keyless_payments_of_a_flat_file_are_numbered_too(mapped, engine, shop):
    lines_of(engine, ("f", 4, "o1", "a", 1), ("f", 5, "o1", "b", 1))
    payments = {"from": "lines", "columns": {"order_id": "id", "sequence": "_row_number", "method": "sku", "amount": "price"}}
    shop["mapping"]["payments"] = [payments]
    assert sorted((row["sequence"], row["method"]) for row in mapped(shop, "payments")) == [(1, "a"), (2, "b")]
    assert merge_group(Source.model_validate(shop), "payments") == ("order_id",)


@pytest.mark.parametrize(
    ("names", "in_order"),
    [
        (["e_10.csv", "e_2.csv", "e_1.csv"], ["e_1.csv", "e_2.csv", "e_10.csv"]),
        (["e (2).csv", "e (10).csv", "e.csv"], ["e.csv", "e (2).csv", "e (10).csv"]),
        (["e-2.csv.gz", "e.csv.gz"], ["e.csv.gz", "e-2.csv.gz"]),
        (["b/1.csv", "a/2.csv"], ["a/2.csv", "b/1.csv"]),
        (["e-2025-05-11_1030.csv", "e-2025-05-11_0955.csv"], ["e-2025-05-11_0955.csv", "e-2025-05-11_1030.csv"]),
    ],
)
def test_files_are_in_natural_order(names, in_order):
    assert sort_file_names(names) == in_order


def newest(engine, source, files):
    return dict(engine.rows(newest_files_sql(source, "lines", files, DAY)))


def test_last_file_of_an_order_is_the_newest(engine, shop):
    lines_of(engine, ("e_2", 1, "o1", "a", 1), ("e_10", 1, "o1", "a", 1), ("e_10", 2, "o2", "a", 1), ("e_2", 2, "o3", "a", 1))
    source, files = Source.model_validate(shop), ["e_10", "e_2"]
    assert newest(engine, source, files) == {"o1": 2}
    engine.create_table("newer", newest_files_sql(source, "lines", files, DAY))
    assert engine.rows(superseded_rows_sql(source, "lines", files, "newer")) == [("e_2", 1)]


def test_newer_version_counts_more_than_a_later_name(engine, shop):
    lines_of(engine, ("e_1", 1, "o1", "a", 5), ("e_2", 1, "o1", "a", 3), ("e_1", 2, "o2", "a", 3), ("e_2", 2, "o2", "a", 3))
    shop["mapping"]["order_items"][0]["columns"]["version_at"] = "TIMESTAMP '2025-11-30 10:00:00' + INTERVAL 1 HOUR * pieces"
    assert newest(engine, Source.model_validate(shop), ["e_1", "e_2"]) == {"o1": 1, "o2": 2}


def test_collisions_stop_where_the_contract_has_the_key():
    olist = load_source("olist")
    # A customer's id of the landing is new with every order.
    assert {name for name in CANONICAL if are_collisions_errors(olist, name)} == {
        "orders",
        "order_items",
        "products",
        "payments",
        "reviews",
    }
    # The demo's contract only warns of keys that come twice.
    assert not are_collisions_errors(load_source("demo"), "orders")
    assert not are_collisions_errors(load_source("online_retail"), "orders")


CANONICAL = [name.split(".")[1] for name in load_tables("silver")]


@pytest.mark.parametrize("table", CANONICAL)
@pytest.mark.parametrize("name", list_sources())
def test_every_mapping_gives_the_contracts_columns_in_order(name, table):
    (statement,) = sqlglot.parse(mapped_sql(load_source(name), table, DAY), read="duckdb")
    expected = load_table(f"silver.{table}").mappable
    assert statement.named_selects == [*expected, "_unfit", "_source_file", "_row_number"]


@pytest.mark.parametrize("table", CANONICAL)
@pytest.mark.parametrize("name", list_sources())
def test_every_mapping_is_sql_that_spark_can_be_given(name, table):
    sql = mapped_sql(load_source(name), table, DAY)
    (translated,) = sqlglot.transpile(sql, read="duckdb", write="spark", unsupported_level=sqlglot.ErrorLevel.RAISE)
    sqlglot.parse_one(translated, read="spark")


# What is looked at closely only where it is not as it would be written


@pytest.mark.parametrize("text", ["\u00a0x", "x\u3000", "\u00e9", "\u00a0", "x y", "-", "\tx"])
def test_text_is_trimmed_of_whatever_blank_there_is(typed, engine, text):
    wanted = engine.fetch_row(f"SELECT nullif(trim({literal(text)}), '')")[0]
    assert typed(text) == wanted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-5", -5),
        ("+5", 5),
        ("05", 5),
        ("2.7", None),
        ("17850.0", 17850),
        ("1e3", None),
        ("1_000", None),
        ("9" * 19, None),
    ],
)
def test_integer_is_one_however_it_is_written(typed, text, value):
    assert typed(text, type="integer") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("12.50", "12.5"), ("-0.00", "0"), ("12", "12"), (".5", "0.5"), ("1.00001", None), ("1e3", None), ("1_0.00", None)],
)
def test_decimal_is_one_however_it_is_written(typed, text, value):
    assert typed(text, type="decimal") == (None if value is None else Decimal(value))
