"""A landing that brings an erased person again is let in without the person."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from daybook.privacy import load_keys
from daybook.privacy.erasure import FilteredLanding, mask_erased_rows
from daybook.sources import load_source
from tests.privacy.erasure.conftest import ANN, ANNS, BOB, BOBS, COMMENT, FIRST, SECOND, Shop, landed


def land(shop: Shop, day: Any, **entities: list[dict[str, Any]]) -> Optional[FilteredLanding]:
    """What comes in of a landing with these rows."""
    source = load_source("demo")
    rows = {name: landed(name, day, entities.get(name, [])) for name in source.entities}
    keys = load_keys(shop.settings.pii_key)
    return mask_erased_rows(rows, lake=shop.lake(), source=source, keys=keys, timezone="Europe/Berlin", day=day)


def test_nothing_is_looked_at_while_nobody_was_erased(shop: Shop) -> None:
    assert land(shop, FIRST, customers=[{"customer_id": ANN, **ANNS}]) is None


def test_an_erased_person_comes_in_without_values_and_others_as_they_are(shop: Shop) -> None:
    shop.erase()
    found = land(shop, FIRST, customers=[{"customer_id": f" {ANN} ", **ANNS}, {"customer_id": BOB, **BOBS}])
    assert found is not None
    ann, bob = found.rows["customers"].to_pylist()
    assert ann["customer_id"].startswith("[erased:")
    assert {ann[name] for name in ANNS} == {""}
    assert {name: bob[name] for name in ("customer_id", *BOBS)} == {"customer_id": BOB, **BOBS}
    assert (found.counts, found.other_date_rows) == ({"customers": 1}, 0)


def test_an_order_keeps_its_customer_by_a_mark(shop: Shop) -> None:
    shop.erase()
    orders = [{"order_id": "A-9", "customer_id": ANN}, {"order_id": "B-9", "customer_id": BOB}]
    found = land(shop, FIRST, customers=[{"customer_id": ANN, **ANNS}], orders=orders)
    assert found is not None
    (customer,) = found.rows["customers"].column("customer_id").to_pylist()
    assert found.rows["orders"].column("customer_id").to_pylist() == [customer, BOB]


def test_a_row_is_known_by_one_that_landed_on_another_date(shop: Shop) -> None:
    shop.erase()
    reviews = [
        {"review_id": "R-8", "order_id": "A-1", "comment": COMMENT},
        {"review_id": "R-9", "order_id": "B-1", "title": "Ok"},
    ]
    found = land(shop, SECOND, reviews=reviews)
    assert found is not None
    assert [(row["comment"], row["title"]) for row in found.rows["reviews"].to_pylist()] == [("", ""), ("", "Ok")]


def test_a_row_that_landed_before_the_one_that_says_whose_it_is_is_counted(shop: Shop) -> None:
    shop.erase()
    shop.land("reviews", SECOND, {"review_id": "R-7", "order_id": "A-7", "comment": COMMENT})
    found = land(shop, FIRST, orders=[{"order_id": "A-7", "customer_id": ANN}])
    assert found is not None
    assert (found.counts, found.other_date_rows) == ({"orders": 1}, 1)


@pytest.mark.parametrize("entity", ["products", "sellers"])
def test_rows_of_nobody_are_let_in_as_they_are(shop: Shop, entity: str) -> None:
    shop.erase()
    rows = [{"product_id": ANN, "seller_id": ANN, "name": ANNS["last_name"], "city": "Wien"}]
    found = land(shop, FIRST, **{entity: rows})
    assert found is not None
    assert found.rows[entity].equals(landed(entity, FIRST, rows))
