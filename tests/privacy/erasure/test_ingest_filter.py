"""Test that rows of an erased person in a later landing are masked."""

from __future__ import annotations

from typing import Any, Optional

import pyarrow as pa
import pytest

from daybook.privacy import load_keys
from daybook.privacy.erasure import FilteredLanding, mask_erased_rows
from daybook.sources import load_source
from tests.privacy.erasure.conftest import ANN, ANNS, BOB, BOBS, COMMENT, FIRST, SECOND, Shop, landed

pytestmark = pytest.mark.slow


def land(shop: Shop, day: Any, **entities: list[dict[str, Any]]) -> Optional[FilteredLanding]:
    """Return the masked landing of some rows."""
    source = load_source("demo")
    rows = {name: landed(name, day, entities.get(name, [])) for name in source.entities}
    keys = load_keys(shop.settings.pii_key)
    return mask_erased_rows(rows, lake=shop.lake(), source=source, keys=keys, timezone="Europe/Berlin", days=[day])


def test_landing_is_not_searched_without_erased_people(shop: Shop) -> None:
    assert land(shop, FIRST, customers=[{"customer_id": ANN, **ANNS}]) is None


def test_only_rows_of_erased_people_are_masked(shop: Shop) -> None:
    shop.erase()
    found = land(shop, FIRST, customers=[{"customer_id": f" {ANN} ", **ANNS}, {"customer_id": BOB, **BOBS}])
    assert found is not None
    ann, bob = found.rows["customers"].to_pylist()
    assert ann["customer_id"].startswith("[erased:")
    assert {ann[name] for name in ANNS} == {""}
    assert {name: bob[name] for name in ("customer_id", *BOBS)} == {"customer_id": BOB, **BOBS}
    assert (found.counts, found.other_date_rows) == ({FIRST: {"customers": 1}}, 0)


def test_masked_order_still_joins_its_customer(shop: Shop) -> None:
    shop.erase()
    orders = [{"order_id": "A-9", "customer_id": ANN}, {"order_id": "B-9", "customer_id": BOB}]
    found = land(shop, FIRST, customers=[{"customer_id": ANN, **ANNS}], orders=orders)
    assert found is not None
    (customer,) = found.rows["customers"].column("customer_id").to_pylist()
    assert found.rows["orders"].column("customer_id").to_pylist() == [customer, BOB]


def test_row_is_linked_to_a_person_across_dates(shop: Shop) -> None:
    shop.erase()
    reviews = [
        {"review_id": "R-8", "order_id": "A-1", "comment": COMMENT},
        {"review_id": "R-9", "order_id": "B-1", "title": "Ok"},
    ]
    found = land(shop, SECOND, reviews=reviews)
    assert found is not None
    assert [(row["comment"], row["title"]) for row in found.rows["reviews"].to_pylist()] == [("", ""), ("", "Ok")]


def test_unmasked_rows_of_other_dates_are_counted(shop: Shop) -> None:
    shop.erase()
    shop.land("reviews", SECOND, {"review_id": "R-7", "order_id": "A-7", "comment": COMMENT})
    found = land(shop, FIRST, orders=[{"order_id": "A-7", "customer_id": ANN}])
    assert found is not None
    assert (found.counts, found.other_date_rows) == ({FIRST: {"orders": 1}}, 1)


def test_rows_of_each_date_of_a_range_are_masked(shop: Shop) -> None:
    """A row of one date is linked to the person by a row of another, and each date has marks of its own."""
    shop.erase()
    keys, source = load_keys(shop.settings.pii_key), load_source("demo")
    days = {
        FIRST: {"orders": [{"order_id": "A-8", "customer_id": ANN}, {"order_id": "B-8", "customer_id": BOB}]},
        SECOND: {
            "orders": [{"order_id": "A-9", "customer_id": ANN}],
            "reviews": [{"review_id": "R-8", "order_id": "A-8", "comment": COMMENT}],
        },
    }
    rows = {
        name: pa.concat_tables([landed(name, day, entities.get(name, [])) for day, entities in days.items()])
        for name in source.entities
    }
    found = mask_erased_rows(rows, lake=shop.lake(), source=source, keys=keys, timezone="Europe/Berlin", days=list(days))
    assert found is not None
    assert found.counts == {FIRST: {"orders": 1}, SECOND: {"orders": 1, "reviews": 1}}
    first, bob, second = found.rows["orders"].column("customer_id").to_pylist()
    assert bob == BOB
    assert first.startswith("[erased:")
    assert second.startswith("[erased:")
    assert first != second
    assert found.rows["reviews"].column("comment").to_pylist() == [""]


@pytest.mark.parametrize("entity", ["products", "sellers"])
def test_rows_without_a_person_are_unchanged(shop: Shop, entity: str) -> None:
    shop.erase()
    rows = [{"product_id": ANN, "seller_id": ANN, "name": ANNS["last_name"], "city": "Wien"}]
    found = land(shop, FIRST, **{entity: rows})
    assert found is not None
    assert found.rows[entity].equals(landed(entity, FIRST, rows))
