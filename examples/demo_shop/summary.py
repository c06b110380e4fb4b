"""Describe a generated shop: its days, rows and faults, and the figures that a correct pipeline computes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from typing import Dict, List, Sequence, Tuple


class FaultKind(Enum):
    """One kind of fault.

    A row with one of ``QUARANTINED_KINDS`` belongs in quarantine. ``WHOLE_DAY_KINDS`` damage a whole delivery. A pipeline
    must accept all other kinds.
    """

    DUPLICATE = "duplicate"
    NULL_OPTIONAL = "null_optional"
    LOST_ZERO = "lost_zero"
    BYTE_ORDER_MARK = "byte_order_mark"
    WINDOWS_1252 = "windows_1252"
    KEY_TWICE = "key_twice"
    UNUSUAL_VALUE = "unusual_value"
    UNKNOWN_REFERENCE = "unknown_reference"
    NULL_REQUIRED = "null_required"
    BAD_NUMBER = "bad_number"
    BAD_DATE = "bad_date"
    BAD_QUANTITY = "bad_quantity"
    UNKNOWN_STATUS = "unknown_status"
    MISSING_FIELD = "missing_field"
    EXTRA_FIELD = "extra_field"
    STRAY_TEXT = "stray_text"
    MISSHAPEN = "misshapen"
    OUT_OF_RANGE = "out_of_range"
    IMPOSSIBLE_DATE = "impossible_date"
    UNKNOWN_VALUE = "unknown_value"
    REVENUE_DROP = "revenue_drop"
    TRUNCATED = "truncated"
    DOUBLED = "doubled"


QUARANTINED_KINDS = frozenset(
    {
        *(FaultKind.NULL_REQUIRED, FaultKind.BAD_NUMBER, FaultKind.BAD_DATE, FaultKind.BAD_QUANTITY, FaultKind.UNKNOWN_STATUS),
        *(FaultKind.MISSING_FIELD, FaultKind.EXTRA_FIELD, FaultKind.STRAY_TEXT),
        *(FaultKind.MISSHAPEN, FaultKind.OUT_OF_RANGE, FaultKind.IMPOSSIBLE_DATE, FaultKind.UNKNOWN_VALUE),
    }
)
WHOLE_DAY_KINDS = frozenset({FaultKind.REVENUE_DROP, FaultKind.TRUNCATED, FaultKind.DOUBLED})


@dataclass(frozen=True)
class Fault:
    """One fault in a file.

    ``row`` is the number of the damaged record, from 1 and without the header; 0 means the whole file. ``key`` is the
    primary key of the record before the damage (``DB-000123/2``). An added record has its own key; a stray text is its key.
    """

    day: date
    entity: str
    kind: FaultKind
    row: int
    key: str


@dataclass(frozen=True)
class ExpectedFigures:
    """The figures of one order date, in EUR, with every broken row quarantined and every duplicate counted once.

    Incidents: lost orders are not counted, a truncated file counts as if delivered again in full, and a doubled file
    counts once.

    ``orders`` counts all orders and ``cancelled_orders`` those whose newest status is cancelled. ``units`` and
    ``gross_revenue`` leave cancelled orders out. ``returns_amount`` belongs to the date of the order, not of the return.
    """

    orders: int
    cancelled_orders: int
    units: int
    gross_revenue: Decimal
    returns_amount: Decimal


@dataclass(frozen=True)
class Summary:
    """The summary of a generated shop: ``rows`` written per entity, ``expected`` figures per order date."""

    seed: int
    days: List[date]
    rows: Dict[str, int]
    faults: List[Fault]
    expected: Dict[date, ExpectedFigures]

    def broken(self) -> List[Fault]:
        """Return the faults whose rows belong in quarantine."""
        return [fault for fault in self.faults if fault.kind in QUARANTINED_KINDS]


def compute_expected_figures(valid: Dict[str, List[Sequence[str]]]) -> Dict[date, ExpectedFigures]:
    """Compute the expected figures from the valid rows of all days of ``orders``, ``order_items`` and ``returns``.

    The tests compare the pipeline's SQL with this function, so it uses plain loops over the exported text.
    """
    newest: Dict[str, Tuple[str, str, date]] = {}
    for row in valid["orders"]:
        order_id, status, ordered_at, updated_at = row[0], row[2], row[3], row[11]
        if order_id not in newest or updated_at > newest[order_id][0]:
            newest[order_id] = (updated_at, status, date.fromisoformat(ordered_at[:10]))
    orders: Counter[date] = Counter()
    cancelled: Counter[date] = Counter()
    for _, status, day in newest.values():
        orders[day] += 1
        cancelled[day] += status == "cancelled"
    units: Counter[date] = Counter()
    gross = dict.fromkeys(orders, Decimal(0))
    for order_id, _, _, _, quantity, price, _ in valid["order_items"]:
        if order_id in newest and newest[order_id][1] != "cancelled":
            day = newest[order_id][2]
            units[day] += int(quantity)
            gross[day] += int(quantity) * Decimal(price)
    returned = dict.fromkeys(orders, Decimal(0))
    for _, order_id, _, _, quantity, price, _, _ in valid["returns"]:
        if order_id in newest:
            returned[newest[order_id][2]] += int(quantity) * Decimal(price)
    return {day: ExpectedFigures(orders[day], cancelled[day], units[day], gross[day], returned[day]) for day in sorted(orders)}
