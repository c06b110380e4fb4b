"""Rare trouble: each flaw here strikes once in a shop, so that every rule on what lands has something to catch.

Nothing here knows the rules: that each is broken by something is for a test to say.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from random import Random
from typing import Deque, Dict, List, Optional, Tuple

from demo_shop.export import COLUMNS, Row
from demo_shop.summary import FaultKind

_DAYS_BETWEEN = 3  # days between two rarities of an entity: a small file may not be broken every day


@dataclass(frozen=True)
class RareFault:
    """One flaw: values that take the place of a row's own, by column.

    ``added``: they are put into a copy, which lands behind the row; the row itself is left alone. So it is with keys (a row
    that nobody can find again would be lost without a trace) and with lookups that the day's other rows need.
    """

    kind: FaultKind
    values: Tuple[Tuple[str, str], ...]
    added: bool = False


@dataclass(frozen=True)
class PlacedFault:
    """A rarity that is due: which row of the file it hits (counted from 0; 0 as well in an empty file), and the spoiled row."""

    rarity: RareFault
    index: int
    row: Row


def _null(*columns: str, added: bool = False) -> Tuple[RareFault, ...]:
    return tuple(RareFault(FaultKind.NULL_REQUIRED, ((column, ""),), added) for column in columns)


def _bad_date(*columns: str) -> Tuple[RareFault, ...]:
    return tuple(RareFault(FaultKind.BAD_DATE, ((column, "gestern"),)) for column in columns)


def _bad_number(*columns: str) -> Tuple[RareFault, ...]:
    return tuple(RareFault(FaultKind.BAD_NUMBER, ((column, "zwölf"),)) for column in columns)


def _out_of_range(column: str, *values: str) -> Tuple[RareFault, ...]:
    return tuple(RareFault(FaultKind.OUT_OF_RANGE, ((column, value),)) for value in values)


def _duplicate_key(column: str, value: str) -> RareFault:
    """A second row with the key of the first and another ``column``, one that no figure depends on."""
    return RareFault(FaultKind.KEY_TWICE, ((column, value),), added=True)


_LONG_TEXT = "Sehr lang. " * 20
_CLOCK_RESET = "1999-12-31 23:59:59"  # what a till says whose clock has forgotten the time

RARE_FAULTS: Dict[str, Tuple[RareFault, ...]] = {
    "orders": (
        *_null("order_id", added=True),
        RareFault(FaultKind.MISSHAPEN, (("order_id", "DB-12a"),), added=True),
        *_null("status", "ordered_at", "updated_at"),
        *_bad_date("approved_at", "shipped_at", "delivered_at", "estimated_delivery_at"),
        RareFault(FaultKind.IMPOSSIBLE_DATE, (("ordered_at", _CLOCK_RESET),)),
        RareFault(FaultKind.IMPOSSIBLE_DATE, (("updated_at", _CLOCK_RESET),)),
        RareFault(FaultKind.UNUSUAL_VALUE, (("ship_country", "Deutschland"),)),
        _duplicate_key("ship_city", "Kleinkleckersdorf"),
        RareFault(FaultKind.IMPOSSIBLE_DATE, (("delivered_at", _CLOCK_RESET),), added=True),
    ),
    "order_items": (
        *_null("order_id", added=True),
        *_null("line_number", "quantity", "unit_price"),
        *_bad_number("line_number", "quantity"),
        *_out_of_range("line_number", "0"),
        *_out_of_range("quantity", "5000"),
        *_out_of_range("unit_price", "-9.99", "100000.00"),
        *_out_of_range("freight", "-4.95"),
        _duplicate_key("seller_id", "S-00"),
    ),
    "payments": (
        *_null("order_id", "sequence", "method", "amount"),
        *_bad_number("sequence", "installments"),
        *_out_of_range("sequence", "0"),
        *_out_of_range("installments", "-1"),
        *_out_of_range("amount", "-5.00"),
        RareFault(FaultKind.UNKNOWN_VALUE, (("method", "seashells"),)),
        _duplicate_key("installments", "24"),
        RareFault(FaultKind.OUT_OF_RANGE, (("amount", "1000000.01"),), added=True),
    ),
    "returns": (
        RareFault(FaultKind.MISSING_FIELD, ()),
        *_bad_date("returned_at"),
        *_null("return_id", "order_id", "line_number", "product_id", "quantity", "unit_price", "returned_at"),
        *_bad_number("line_number", "quantity", "unit_price"),
        *_out_of_range("line_number", "0"),
        *_out_of_range("quantity", "0", "5000"),
        *_out_of_range("unit_price", "-9.99"),
        _duplicate_key("reason", "zweimal erfasst"),
        RareFault(FaultKind.MISSHAPEN, (("return_id", "R-12a"),), added=True),
    ),
    "reviews": (
        *_null("review_id", "order_id", "score"),
        *_out_of_range("score", "0", "6"),
        RareFault(FaultKind.MISSHAPEN, (("title", _LONG_TEXT),)),
        _duplicate_key("title", "zweimal erfasst"),
    ),
    "customers": (
        *_null("updated_at"),
        RareFault(FaultKind.MISSHAPEN, (("email", "keine Angabe"),)),
        # Somebody new who never orders: what is said twice of a customer who does would leave the newest version to chance.
        RareFault(FaultKind.UNUSUAL_VALUE, (("customer_id", "C-99999"), ("country", "Deutschland")), added=True),
        _duplicate_key("phone", ""),
    ),
    "products": (
        *_null("updated_at"),
        *_out_of_range("list_price", "-1.00"),
        RareFault(FaultKind.UNKNOWN_REFERENCE, (("product_id", "P-9999"), ("category_id", "K-99")), added=True),
        _duplicate_key("list_price", "0.99"),
    ),
    "categories": (
        *_null("category_id", "category_name", added=True),
        RareFault(FaultKind.MISSING_FIELD, (), added=True),
        _duplicate_key("department", "zweimal erfasst"),
    ),
    # Their file has rows on the first day, and hardly ever after it.
    "sellers": (
        _duplicate_key("city", "Kleinkleckersdorf"),
        *_null("seller_id", added=True),
        RareFault(FaultKind.MISSING_FIELD, (), added=True),
    ),
}


class FaultSchedule:
    """The rarities of one shop that have not struck yet, entity by entity, to be asked day after day."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._waiting: Dict[str, Deque[RareFault]] = {entity: deque(rarities) for entity, rarities in RARE_FAULTS.items()}
        self._model: Dict[str, Row] = {}

    def due(self, entity: str, day_number: int, rows: List[Row]) -> Optional[PlacedFault]:
        """What strikes the file of a day (counted from 0) that would hold these ``rows``; None on most days."""
        if rows:
            self._model[entity] = rows[-1]
        waiting = self._waiting[entity]
        if not waiting or day_number % _DAYS_BETWEEN != list(COLUMNS).index(entity) % _DAYS_BETWEEN:
            return None
        rarity = waiting[0]
        if not rows and (not rarity.added or rarity.kind is FaultKind.KEY_TWICE or entity not in self._model):
            return None
        index = self._chance.randrange(len(rows)) if rows else 0
        row = rows[index] if rows else self._model[entity]
        struck = _apply_fault(entity, rarity, row)
        if struck == row:
            return None
        waiting.popleft()
        return PlacedFault(rarity, index, struck)


def _apply_fault(entity: str, rarity: RareFault, row: Row) -> Row:
    if rarity.kind is FaultKind.MISSING_FIELD:
        return row[:-1]
    values = dict(rarity.values)
    return [values.get(column, value) for column, value in zip(COLUMNS[entity], row)]
