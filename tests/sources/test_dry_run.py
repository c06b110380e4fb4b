"""Trying a mapping without data: whatever SQL would refuse on a first night is told before."""

from __future__ import annotations

import pytest

from daybook.engines import DuckDBEngine
from daybook.errors import SourceError
from daybook.lake.tables import Lake
from daybook.sources import Source, list_sources, load_source
from daybook.sources.dry_run import dry_run_mapping


def attempt(spec):
    dry_run_mapping(Source.model_validate(spec), DuckDBEngine(Lake("memory:///lake"), "Europe/Berlin"))


def refusal(spec):
    with pytest.raises(SourceError) as caught:
        attempt(spec)
    return str(caught.value)


@pytest.mark.parametrize("name", list_sources())
def test_every_source_of_the_project_can_be_run(name):
    dry_run_mapping(load_source(name), DuckDBEngine(Lake("memory:///lake"), "UTC"))


def test_sound_mapping_is_let_pass(shop):
    attempt(shop)


def test_unknown_landing_column_is_told_with_file_and_table(shop):
    shop["mapping"]["order_items"][0]["columns"]["product_id"] = "skus"
    told = refusal(shop)
    assert told.startswith("params/sources/shop.yaml: mapping of 'order_items': Binder Error: ")
    assert '"skus" not found' in told


def test_join_to_an_unknown_entity_is_told_with_file_and_table(shop):
    shop["mapping"]["orders"][0]["join"] = "JOIN people ON people.id = orders.person"
    assert refusal(shop).startswith("params/sources/shop.yaml: mapping of 'orders': There is no table people; ")


@pytest.mark.parametrize(
    "written", ["Order No", "Order No ", "CASE WHEN", "a, b", "trim(Order No)", "a; b", "id AS first, 'paid'"]
)
def test_expression_that_does_not_parse_names_its_column(shop, written):
    shop["entities"]["orders"]["columns"]["Order No"] = {}
    shop["mapping"]["orders"][0]["columns"]["status"] = written
    told = refusal(shop)
    assert told.startswith("params/sources/shop.yaml: mapping of 'orders' from 'orders', column 'status': ")
    assert told.endswith(
        " is no SQL expression; write a name that has a space or another special character in double quotes, and these in "
        "single ones: '\"Order No\"'."
    )


@pytest.mark.parametrize(("key", "given"), [("where", "state = "), ("group_by", ["id id"])])
def test_clause_that_does_not_parse_is_named(shop, key, given):
    shop["mapping"]["orders"][0][key] = given
    assert refusal(shop).startswith(f"params/sources/shop.yaml: mapping of 'orders' from 'orders', {key}: ")


def test_quoted_name_with_a_space_is_let_pass(shop):
    shop["entities"]["orders"]["columns"]["Order No"] = {}
    shop["mapping"]["orders"][0]["columns"]["order_id"] = '"Order No"'
    attempt(shop)


def test_function_that_does_not_exist_is_told(shop):
    shop["mapping"]["order_items"][0]["columns"]["unit_price"] = "net_of_tax(price)"
    told = refusal(shop)
    assert told.startswith("params/sources/shop.yaml: mapping of 'order_items': ")
    assert "net_of_tax" in told


def test_grouping_that_leaves_a_column_open_is_told(shop):
    shop["mapping"]["orders"][0]["group_by"] = ["id"]
    assert "must appear in the GROUP BY clause" in refusal(shop)


def test_time_format_that_does_not_exist_is_told_with_its_entity(shop):
    shop["entities"]["orders"]["columns"]["at"]["format"] = "%d-%Q"
    told = refusal(shop)
    assert told.startswith("params/sources/shop.yaml: entity 'orders': ")
    assert "%Q" in told


def test_names_and_values_with_quotes_are_no_hazard(shop):
    shop["null_values"] = ["n'a", '"']
    shop["entities"]["lines"]["columns"]["5\" nail's"] = {"type": "decimal"}
    shop["mapping"]["order_items"][0]["columns"]["freight"] = '"5"" nail\'s"'
    attempt(shop)


def test_keyless_lines_need_an_order_id_of_a_single_row(shop):
    select = shop["mapping"]["order_items"][0]
    del select["columns"]["line_number"]
    select["group_by"] = ["sku", "pieces", "price"]
    select["columns"]["order_id"] = "max(id)"
    told = refusal(shop)
    assert told.startswith(
        "params/sources/shop.yaml: mapping of 'order_items' from 'lines' gives no line_number, so its order_id must be "
        "an expression over a single row: "
    )
