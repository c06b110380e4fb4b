"""Test the diagram of a run's lineage and the sources of its columns."""

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


def test_each_table_has_one_box_in_its_layer_column():
    diagram = build_diagram(LINEAGE)
    places = {box.table: box.x for box in diagram.boxes}
    assert set(places) == {
        *("bronze.orders", "bronze.products", "bronze.customers"),
        *("silver.orders", "silver.products", "silver.customers", "gold.sales"),
    }
    assert len({box.number for box in diagram.boxes}) == 7
    assert places["bronze.orders"] == places["bronze.products"] < places["silver.orders"] < places["gold.sales"]


def test_boxes_are_inside_the_diagram_and_do_not_overlap():
    diagram = build_diagram(LINEAGE)
    for box in diagram.boxes:
        assert box.x >= 0
        assert box.x + box.width <= WIDTH
        assert box.y >= 0
        assert box.y + box.height <= diagram.height
        for other in diagram.boxes:
            if other is not box and other.x == box.x:
                assert abs(other.y - box.y) >= box.height


def test_edge_has_its_kind_and_connected_boxes():
    diagram = build_diagram(LINEAGE)
    names = {box.number: box.table for box in diagram.boxes}
    lines = {frozenset(names[number] for number in line.near): line.values for line in diagram.lines}
    assert len(diagram.lines) == 6
    assert lines[frozenset({"bronze.products", "silver.products", "gold.sales"})] is True
    # bronze.customers is connected by a filter only.
    assert lines[frozenset({"bronze.customers", "silver.customers"})] is False


def test_column_has_direct_sources_and_bronze_sources():
    orders, kinds = describe_table(LINEAGE, "gold.sales", 1).columns
    assert (orders.values, orders.decided_by, orders.in_bronze) == ((), ("silver.orders.status",), ())
    assert (kinds.values, kinds.in_bronze) == (("silver.products.category",), ("bronze.products.category",))


@pytest.mark.parametrize("nothing", [None, {}])
def test_run_without_lineage_has_no_section(nothing):
    assert render_lineage(nothing) == ""


def test_boxes_link_to_their_columns(read_page):
    page = read_page(str(render_lineage(LINEAGE)))
    page.assert_inert()
    targets = [href[1:] for href in page.values("href", "a")]
    assert len(targets) == 4
    assert sorted(targets) == sorted(page.values("id", "details"))
    assert "gold.sales 2 columns" in page.text
    assert "Its rows depend on silver.orders.status, touched.order_date." in page.text
    assert "kinds silver.products.category – bronze.products.category" in page.text


def test_names_in_the_lineage_are_escaped(read_page):
    script = "gold.<script>alert(1)</script>"
    section = str(render_lineage({script: {"rows": {}, "columns": {"<b>": {"bronze.<i>.x": ["IDENTITY"]}}}}))
    page = read_page(section)
    page.assert_inert()
    assert not {"b", "i"} & set(page.tags)
    assert not re.search(r"<style>[^<]*script", section)
