"""The picture of a run's lineage, and what is said of its columns."""

from __future__ import annotations

import re

import pytest

from daybook.report.lineage import WIDTH, build_diagram, describe_table, render_lineage

LINEAGE = {
    "silver.orders": {
        "rows": {"bronze.orders.order_id": ["WINDOW"]},
        "columns": {"status": {"bronze.orders.state_word": ["TRANSFORMATION"]}, "country": {}},
    },
    "silver.products": {"rows": {}, "columns": {"category": {"bronze.products.category": ["IDENTITY"]}}},
    "silver.customers": {
        "rows": {"bronze.customers.id": ["FILTER"]},
        "columns": {"first_order_date": {"silver.orders.status": ["AGGREGATION"]}},
    },
    "gold.sales": {
        "rows": {"silver.orders.status": ["FILTER"], "touched.order_date": ["FILTER"]},
        "columns": {
            "orders": {"silver.orders.status": ["CONDITIONAL"]},
            "kinds": {"silver.products.category": ["AGGREGATION"]},
        },
    },
}


def test_every_table_is_drawn_once_in_the_column_of_its_layer():
    picture = build_diagram(LINEAGE)
    places = {box.table: box.x for box in picture.boxes}
    assert set(places) == {
        *("bronze.orders", "bronze.products", "bronze.customers"),
        *("silver.orders", "silver.products", "silver.customers", "gold.sales"),
    }
    assert len({box.number for box in picture.boxes}) == 7
    assert places["bronze.orders"] == places["bronze.products"] < places["silver.orders"] < places["gold.sales"]


def test_boxes_lie_within_the_picture_and_not_on_each_other():
    picture = build_diagram(LINEAGE)
    for box in picture.boxes:
        assert box.x >= 0
        assert box.x + box.width <= WIDTH
        assert box.y >= 0
        assert box.y + box.height <= picture.height
        for other in picture.boxes:
            if other is not box and other.x == box.x:
                assert abs(other.y - box.y) >= box.height


def test_a_line_says_whether_values_pass_and_whose_lineage_it_is_in():
    picture = build_diagram(LINEAGE)
    names = {box.number: box.table for box in picture.boxes}
    lines = {frozenset(names[number] for number in line.near): line.values for line in picture.lines}
    assert len(picture.lines) == 6
    assert lines[frozenset({"bronze.products", "silver.products", "gold.sales"})] is True
    # Customers are drawn to their table only by a filter.
    assert lines[frozenset({"bronze.customers", "silver.customers"})] is False


def test_a_column_is_said_to_come_from_the_layer_below_and_from_bronze():
    orders, kinds = describe_table(LINEAGE, "gold.sales", 1).columns
    assert (orders.values, orders.decided_by, orders.in_bronze) == ((), ("silver.orders.status",), ())
    assert (kinds.values, kinds.in_bronze) == (("silver.products.category",), ("bronze.products.category",))


@pytest.mark.parametrize("nothing", [None, {}])
def test_a_run_without_lineage_has_no_section(nothing):
    assert render_lineage(nothing) == ""


def test_the_section_leads_from_a_box_to_its_columns_and_runs_nothing(read_page):
    page = read_page(str(render_lineage(LINEAGE)))
    page.assert_still()
    targets = [href[1:] for href in page.values("href", "a")]
    assert len(targets) == 4
    assert sorted(targets) == sorted(page.values("id", "details"))
    assert "gold.sales 2 columns" in page.text
    assert "Which rows there are depends on silver.orders.status, touched.order_date." in page.text
    assert "kinds silver.products.category – bronze.products.category" in page.text


def test_a_name_in_the_lineage_becomes_no_markup(read_page):
    script = "gold.<script>alert(1)</script>"
    section = str(render_lineage({script: {"rows": {}, "columns": {"<b>": {"bronze.<i>.x": ["IDENTITY"]}}}}))
    page = read_page(section)
    page.assert_still()
    assert not {"b", "i"} & set(page.tags)
    assert not re.search(r"<style>[^<]*script", section)
