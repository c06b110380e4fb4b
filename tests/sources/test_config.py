"""A source's YAML: what it may say, and what each mistake in it is told as."""

from __future__ import annotations

import unicodedata
from datetime import date

import pytest
import yaml

from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, ParamsError, SourceError
from daybook.lake.tables import Lake
from daybook.sources import Source, list_sources, load_source
from daybook.sources.dry_run import dry_run_mapping
from daybook.sources.mapping import mapped_sql
from tests.sources.conftest import landing_contract

FILE = "params/sources/shop.yaml"
CONTRACT = "params/contracts/landing/shop.yaml"


def write(project, shop):
    shop.pop("name")
    project.write(CONTRACT, yaml.safe_dump(landing_contract(shop), sort_keys=False))
    for entity in shop["entities"].values():
        entity.pop("columns", None)
    project.write(FILE, yaml.safe_dump(shop, sort_keys=False))


def refusal(project, shop, error=SourceError):
    write(project, shop)
    with pytest.raises(error) as caught:
        load_source("shop")
    return str(caught.value)


@pytest.mark.parametrize("name", list_sources())
def test_every_source_of_the_project_loads(name):
    assert load_source(name).name == name


def test_source_is_named_by_its_file(project, shop):
    write(project, shop)
    assert load_source("shop").name == "shop"


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ("{date}.csv", "an unknown placeholder {date}"),
        ("{run_date}_{shop}.csv", "an unknown placeholder {shop}"),
        ("{run_date!r}.csv", "an unknown placeholder {run_date!r}"),
        ("{Run_Date}.csv", "an unknown placeholder {Run_Date}"),
        ("{run_date.csv", "an unknown placeholder {run_date.csv"),
        ("run_date}.csv", "an unknown placeholder }"),
        ("{run_date:%Y%q}.csv", "an unknown directive %q in {run_date:%Y%q}"),
        ("{run_date:%Y%H}.csv", "an unknown directive %H in {run_date:%Y%H}"),
        ("{run_date:%Y%}.csv", "an unknown directive % in {run_date:%Y%}"),
        ("{run_date:YYYYMMDD}.csv", "no directive in {run_date:YYYYMMDD}"),
        ("{run_date:}.csv", "no directive in {run_date:}"),
    ],
)
def test_unknown_placeholders_are_refused(project, shop, files, problem):
    shop["entities"]["orders"]["files"] = files
    assert refusal(project, shop).startswith(f"{FILE}: entity 'orders' has files {files!r}, which has {problem}; allowed are ")


@pytest.mark.parametrize(
    ("files", "dated"),
    [
        ("{run_date}.csv", True),
        ("{run_date:%Y/%m/%d}/a.csv", True),
        ("{run_date:%y}{run_date:%j}.csv", True),
        ("{run_date:%d.%m.%Y}_{run_date}.csv", True),
        ("{run_date:%Y-%m}.csv", False),
        ("{run_date:%G-W%V}.csv", False),
        ("all*.csv", False),
    ],
)
def test_dated_tells_whether_a_date_has_its_own_files(shop, files, dated):
    shop["entities"]["orders"]["files"] = files
    assert Source.model_validate(shop).entities["orders"].is_dated is dated


def test_first_entity_makes_the_date(shop):
    assert Source.model_validate(shop).primary == "orders"


def test_entity_reads_its_own_encoding_before_the_sources(shop):
    shop["encoding"] = ["utf-8", "windows-1252"]
    shop["entities"]["lines"]["encoding"] = "utf-16"
    source = Source.model_validate(shop)
    assert (source.encodings("orders"), source.encodings("lines")) == (["utf-8", "windows-1252"], ["utf-16"])


def test_entitys_time_zone_goes_before_the_sources(project, shop):
    shop["timezone"] = "UTC"
    shop["entities"]["lines"]["columns"]["sent"] = {"type": "timestamp"}
    shop["entities"]["lines"]["timezone"] = "Asia/Tokyo"
    write(project, shop)
    entities = load_source("shop").entities
    assert entities["orders"].columns["at"].timezone == "UTC" and entities["orders"].columns["id"].timezone is None
    assert entities["lines"].columns["sent"].timezone == "Asia/Tokyo"


@pytest.mark.parametrize("of", ["source", "entity"])
def test_unknown_time_zone_is_refused(project, shop, of):
    (shop if of == "source" else shop["entities"]["lines"])["timezone"] = "Europe/Atlantis"
    assert "not an IANA time zone such as Europe/Berlin" in refusal(project, shop)


def test_personal_columns_are_those_with_a_class(shop):
    assert Source.model_validate(shop).personal_columns() == {"orders": {"person"}, "lines": set()}


def test_unknown_source_is_told_with_those_there_are(project):
    with pytest.raises(SourceError) as caught:
        load_source("shop")
    assert str(caught.value) == "There is no params/sources/shop.yaml; the sources are: demo, olist, online_retail."


def test_unknown_key_is_told_with_the_known_ones(project, shop):
    shop["colour"] = "red"
    assert refusal(project, shop) == (
        f"{FILE}: there is no key 'colour'; the keys are: title, licence, encoding, delimiter, timezone, null_values, "
        "calendar, entities, people, mapping."
    )


def test_name_is_not_for_the_file(project, shop):
    project.write(FILE, yaml.safe_dump(shop))
    with pytest.raises(SourceError) as caught:
        load_source("shop")
    assert str(caught.value) == f"{FILE}: key 'name' is not for the file; remove it."


@pytest.mark.parametrize(
    ("where", "key", "value", "told"),
    [
        (("entities", "orders"), "colour", "red", "there is no key 'entities.orders.colour'; remove it."),
        (
            ("entities", "lines"),
            "delimiter",
            "||",
            "key 'entities.lines.delimiter' is '||': it should have at most 1 character.",
        ),
        (
            ("entities", "orders"),
            "missing",
            "ignore",
            "key 'entities.orders.missing' is 'ignore': it should be 'fail', 'skip' or 'empty'.",
        ),
        (
            ("mapping", "order_items", 0, "columns"),
            "quantity",
            1,
            "key 'mapping.order_items.0.columns.quantity' is 1: it should be a valid string.",
        ),
    ],
)
def test_value_that_does_not_fit_is_told_with_its_key(project, shop, where, key, value, told):
    place = shop
    for step in where:
        place = place[step]
    place[key] = value
    assert refusal(project, shop) == f"{FILE}: {told}"


def test_source_needs_a_landing_contract(project, shop):
    write(project, shop)
    (project.root / CONTRACT).unlink()
    with pytest.raises(ContractError) as caught:
        load_source("shop")
    assert str(caught.value) == f"There is no {CONTRACT}; write the landing contract of the source's entities there."


def test_columns_belong_into_the_landing_contract(project, shop):
    write(project, shop)
    project.replace(FILE, "files: orders/", "columns: {id: {}}\n    files: orders/")
    with pytest.raises(SourceError) as caught:
        load_source("shop")
    assert str(caught.value) == f"{FILE}: entity 'orders' has columns, which belong into its landing contract; move them."


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("name: lines", "name: rows", "there is no entity 'rows', which the landing contract declares; add its files."),
        (
            "classification: restricted",
            "classification: internal",
            "both classification: restricted and",
        ),
        ("property: pii", "property: colour", "a custom property 'colour'; known are: pii, pad, decimalComma, strptime."),
    ],
)
def test_source_and_landing_contract_fit_each_other(project, shop, old, new, told):
    write(project, shop)
    project.replace(CONTRACT, old, new)
    with pytest.raises(SourceError) as caught:
        load_source("shop")
    assert told in str(caught.value)


def test_how_a_column_is_read_is_checked(project, shop):
    shop["entities"]["lines"]["columns"]["sku"]["pad"] = 0
    assert refusal(project, shop) == f"{CONTRACT}: column 'sku': key 'pad' is 0: it should be greater than 0."


def test_entity_without_a_landing_contract_is_told(project, shop):
    write(project, shop)
    project.replace(FILE, "entities:", "entities:\n  visits: {files: visits.csv}")
    with pytest.raises(SourceError) as caught:
        load_source("shop")
    assert str(caught.value) == f"{FILE}: entity 'visits' has no landing contract; add it to {CONTRACT}."


def test_missing_key_is_named(project, shop):
    del shop["entities"]["orders"]["files"]
    assert refusal(project, shop) == f"{FILE}: key 'entities.orders.files' is missing; add it."


@pytest.mark.parametrize("files", ["../secrets.csv", "/etc/passwd", "orders//x.csv", "orders/./x.csv", "orders/", ""])
def test_files_lie_below_landing(project, shop, files):
    shop["entities"]["orders"]["files"] = files
    assert refusal(project, shop) == f"{FILE}: entity 'orders' has files {files!r}, which must be a path below landing."


def test_entity_has_a_plain_name(project, shop):
    shop["entities"]["my orders"] = shop["entities"]["orders"]
    assert (
        refusal(project, shop)
        == f"{FILE}: entity 'my orders' must be a plain name of letters, digits and _, and no keyword of SQL."
    )


@pytest.mark.parametrize("entity", ["nobody", "lines"])
def test_entity_follows_one_above_it(project, shop, entity):
    shop["entities"]["lines"]["follows"]["entity"] = entity
    assert refusal(project, shop) == f"{FILE}: entity 'lines' follows {entity!r}, which must be an entity above it."


def test_entity_follows_by_a_column_of_its_own(project, shop):
    shop["entities"]["lines"]["follows"]["by"] = "person"
    assert refusal(project, shop) == f"{FILE}: entity 'lines' follows by 'person', which is not among its columns."


@pytest.mark.parametrize("column", ["nothing", "state"])
def test_date_is_a_column_that_can_be_one(project, shop, column):
    shop["entities"]["orders"]["date"] = column
    assert refusal(project, shop) == (
        f"{FILE}: entity 'orders' has date {column!r}, which must be among its columns as a date or timestamp."
    )


def test_mapping_is_to_a_canonical_table(project, shop):
    shop["mapping"]["invoices"] = shop["mapping"]["orders"]
    assert refusal(project, shop) == (
        f"{FILE}: mapping has a table 'invoices'; the canonical tables are: customers, order_items, orders, payments, "
        "products, reviews."
    )


def test_mapping_is_from_an_entity(project, shop):
    shop["mapping"]["orders"][0]["from"] = "invoices"
    assert refusal(project, shop) == f"{FILE}: mapping of 'orders' is from 'invoices'; the entities are: orders, lines."


@pytest.mark.parametrize("column", ["total", "order_date", "landed_on"])
def test_mapping_gives_columns_that_are_not_computed(project, shop, column):
    shop["mapping"]["orders"][0]["columns"][column] = "at"
    assert refusal(project, shop) == (
        f"{FILE}: mapping of 'orders' has a column {column!r}; the columns are: order_id, customer_key, ordered_at, status, "
        "country, state, city, approved_at, shipped_at, delivered_at, estimated_delivery_at, version_at."
    )


@pytest.mark.parametrize("column", ["order_id", "ordered_at", "status"])
def test_mapping_gives_every_required_column(project, shop, column):
    del shop["mapping"]["orders"][0]["columns"][column]
    assert refusal(project, shop) == f"{FILE}: mapping of 'orders' from 'orders' lacks the required column {column!r}."


@pytest.mark.parametrize("table", ["orders", "order_items"])
@pytest.mark.parametrize("emptied", [True, False])
def test_mapping_has_orders_and_their_lines(project, shop, table, emptied):
    if emptied:
        shop["mapping"][table] = []
    else:
        del shop["mapping"][table]
    assert refusal(project, shop) == f"{FILE}: mapping lacks {table!r}, which every source must give."


def test_key_that_stands_twice_is_told_with_its_line(project):
    project.write(FILE, "title: A\ntitle: B\n")
    with pytest.raises(ParamsError) as caught:
        load_source("shop")
    assert str(caught.value) == f"{FILE}, line 2: not valid YAML (duplicate key 'title'); fix that line."


def test_lines_are_numbered_in_every_select_or_in_none(project, shop):
    select = shop["mapping"]["order_items"][0]
    shop["mapping"]["order_items"].append({**select, "columns": {**select["columns"], "line_number": "pieces"}})
    assert refusal(project, shop) == (
        f"{FILE}: mapping of 'order_items' gives a line_number in some SELECTs and none in others; "
        "give one in every SELECT or in none."
    )


def test_only_one_entity_may_leave_out_the_line_number(project, shop):
    columns = {"order_id": "id", "product_id": "'x'", "quantity": "1", "unit_price": "1"}
    del shop["mapping"]["order_items"][0]["columns"]["line_number"]
    shop["mapping"]["order_items"].append({"from": "orders", "columns": columns})
    assert refusal(project, shop) == (
        f"{FILE}: mapping of 'order_items' gives no line_number from 'lines' and 'orders'; one entity at most may leave it out."
    )


def test_rows_of_a_flat_entity_have_the_same_version(project, shop):
    del shop["mapping"]["order_items"][0]["columns"]["line_number"]
    payment = {"order_id": "id", "method": "'card'", "amount": "1", "version_at": "TIMESTAMP '2025-11-30'"}
    shop["mapping"]["payments"] = [{"from": "lines", "columns": payment}]
    assert refusal(project, shop).startswith(
        f"{FILE}: mapping of 'payments' from 'lines' gives a version_at and that of 'order_items' gives none;"
    )


def test_only_payments_of_a_flat_file_may_lack_a_key(project, shop):
    columns = {"order_id": "id", "method": "'card'", "amount": "1"}
    shop["mapping"]["payments"] = [{"from": "lines", "columns": columns}]
    assert Source.model_validate(shop).selects_without_key("payments")
    shop["mapping"]["payments"][0]["from"] = "orders"
    assert refusal(project, shop) == f"{FILE}: mapping of 'payments' from 'orders' lacks the required column 'sequence'."


@pytest.mark.parametrize(("said", "drops"), [(None, False), ("drop", True), ("keep", False)])
def test_equal_lines_without_a_key_count_unless_dropped(shop, said, drops):
    if said:
        shop["entities"]["lines"]["duplicates"] = said
    source = Source.model_validate(shop)
    assert (source.drops_duplicates("orders"), source.drops_duplicates("lines")) == (True, drops)


def test_source_names_columns_in_any_case_form_and_blanks(project, shop):
    columns = shop["entities"]["orders"]["columns"]
    columns["Käufer "] = columns.pop("person")
    decomposed = unicodedata.normalize("NFD", "Käufer")
    shop["entities"]["orders"]["date"] = "AT"
    shop["entities"]["lines"]["follows"]["by"] = " ID"
    mapping = shop["mapping"]["orders"][0]["columns"]
    mapping["Customer_Key"] = mapping.pop("customer_key").replace("person", f'"{decomposed} "')
    shop["people"] = {"orders": decomposed}
    write(project, shop)
    source = load_source("shop")
    assert (source.entities["orders"].date, source.entities["lines"].follows.by) == ("at", "id")
    assert source.mapping["orders"][0].expression("customer_key") == '"Käufer"'
    assert source.people == {"orders": "Käufer"}
    dry_run_mapping(source, DuckDBEngine(Lake(str(project.root / "lake")), "UTC"))


def test_mapping_gives_a_column_once(project, shop):
    shop["mapping"]["orders"][0]["columns"]["STATUS"] = "'paid'"
    assert refusal(project, shop) == f"{FILE}: mapping of 'orders' has the column 'status' twice; remove one."


def test_required_column_may_be_mapped_in_any_case(project, shop):
    columns = shop["mapping"]["order_items"][0]["columns"]
    columns["Quantity"], columns["IS_RETURN"] = columns.pop("quantity"), "TRUE"
    write(project, shop)
    sql = mapped_sql(load_source("shop"), "order_items", date(2025, 11, 1))
    assert 'pieces AS "quantity"' in sql and 'TRUE AS "is_return"' in sql
