"""Inject the faults of real deliveries: a few damaged rows a day, rare faults once per shop, and three incidents.

A damaged row never makes a file unreadable, and no file exceeds ``MAX_BROKEN_SHARE``. An order never loses its
``order_id``; only a copy of its row does.
"""

from __future__ import annotations

from collections import deque
from datetime import date, timedelta
from random import Random
from typing import Deque, Dict, List, NamedTuple, Optional, Tuple

from daybook.errors import UsageError
from demo_shop.export import COLUMNS, KEYS, Row
from demo_shop.summary import QUARANTINED_KINDS, Fault, FaultKind
from demo_shop.trade import Order

MAX_BROKEN_SHARE = 0.015  # of a file with more than SMALL_FILE rows; the documented maximum is 2 %
SMALL_FILE = 100  # a file of at most this many rows has at most one broken row
_DUPLICATE_RATE = 0.005

_FAULTY_VALUES: Dict[FaultKind, Tuple[str, ...]] = {
    FaultKind.NULL_OPTIONAL: ("",),
    FaultKind.NULL_REQUIRED: ("",),
    FaultKind.BAD_NUMBER: ("12,50 EUR", "n/a", "1.2.3", "zwölf"),
    FaultKind.BAD_DATE: ("0000-00-00 00:00:00", "gestern", "2025-02-30 12:00:00", "31.11. abends"),
    FaultKind.BAD_QUANTITY: ("0", "-1", "-2"),
    FaultKind.UNKNOWN_STATUS: ("on_hold_2", "SHIPD", "unbekannt", "99"),
}
_EXTRA_FIELDS = ("Hinterhaus", "00", "?", "siehe Notiz")
_STRAY_TEXTS = ("-- Verbindung abgebrochen; Export wird fortgesetzt --", "### Seite 2 ###", "bitte prüfen!!")


class FaultRate(NamedTuple):
    """The share of an entity's rows that one kind of fault damages, and the columns it can damage.

    Without ``columns`` the fault can damage any column but the first.
    """

    kind: FaultKind
    rate: float
    columns: Tuple[str, ...] = ()


_FIELD_COUNT_FAULTS = (FaultRate(FaultKind.MISSING_FIELD, 0.0007), FaultRate(FaultKind.EXTRA_FIELD, 0.0007))
# Columns of customers that reach silver are never set to null: many files hold the same version of a customer, and two
# contents with one updated_at would make the newest version ambiguous.
FAULT_RATES: Dict[str, Tuple[FaultRate, ...]] = {
    "customers": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.004, ("phone", "street")),
        FaultRate(FaultKind.LOST_ZERO, 0.1, ("postal_code",)),
        FaultRate(FaultKind.NULL_REQUIRED, 0.0008, ("customer_id",)),
        FaultRate(FaultKind.BAD_DATE, 0.0015, ("registered_at", "updated_at")),
    ),
    "products": (
        FaultRate(FaultKind.NULL_REQUIRED, 0.0008, ("product_id",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.0015, ("list_price",)),
        FaultRate(FaultKind.BAD_DATE, 0.001, ("updated_at",)),
    ),
    "orders": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.004, ("estimated_delivery_at", "ship_state")),
        FaultRate(FaultKind.NULL_REQUIRED, 0.0008, ("customer_id",)),
        FaultRate(FaultKind.BAD_DATE, 0.0012, ("ordered_at", "updated_at")),
        FaultRate(FaultKind.UNKNOWN_STATUS, 0.0012, ("status",)),
    ),
    "order_items": (
        FaultRate(FaultKind.NULL_REQUIRED, 0.001, ("product_id",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.0015, ("unit_price", "freight")),
        FaultRate(FaultKind.BAD_QUANTITY, 0.0015, ("quantity",)),
        FaultRate(FaultKind.STRAY_TEXT, 0.0005),
    ),
    "payments": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.004, ("installments",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.002, ("amount",)),
        FaultRate(FaultKind.STRAY_TEXT, 0.0005),
    ),
    "returns": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.01, ("reason",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.002, ("unit_price",)),
        FaultRate(FaultKind.BAD_QUANTITY, 0.002, ("quantity",)),
        FaultRate(FaultKind.BAD_DATE, 0.001, ("returned_at",)),
    ),
    "reviews": (
        FaultRate(FaultKind.BAD_NUMBER, 0.0015, ("score",)),
        FaultRate(FaultKind.BAD_DATE, 0.0015, ("created_at",)),
    ),
}
for _entity in FAULT_RATES:
    FAULT_RATES[_entity] += _FIELD_COUNT_FAULTS


class RareFault(NamedTuple):
    """A fault that occurs once per shop: ``values`` replace a row's own, by column.

    If ``added``, the values are set in a copy that follows the row, and the row itself stays valid. Faults in keys are
    added because a row without a key could not be found again, and faults in lookups because other rows need them.
    """

    kind: FaultKind
    values: Dict[str, str]
    added: bool = False


class PlacedFault(NamedTuple):
    """A rare fault, the position of the row it damages (0 in an empty file), and the damaged row."""

    fault: RareFault
    position: int
    row: Row


def _rare(kind: FaultKind, value: str, *columns: str, added: bool = False) -> List[RareFault]:
    return [RareFault(kind, {column: value}, added) for column in columns]


def _out_of_range(column: str, *values: str) -> List[RareFault]:
    return [RareFault(FaultKind.OUT_OF_RANGE, {column: value}) for value in values]


_DAYS_BETWEEN_RARE_FAULTS = 3  # per entity, so that a small file is not broken every day
_LONG_TEXT = "Sehr lang. " * 20
_CLOCK_RESET = "1999-12-31 23:59:59"  # the time of a till whose clock was reset

# Each rule of the landing contracts is violated at least once (tests/quality/test_demo_landing.py checks this). KEY_TWICE
# changes a column that no expected figure depends on.
RARE_FAULTS: Dict[str, Tuple[RareFault, ...]] = {
    "orders": (
        *_rare(FaultKind.NULL_REQUIRED, "", "order_id", added=True),
        *_rare(FaultKind.MISSHAPEN, "DB-12a", "order_id", added=True),
        *_rare(FaultKind.NULL_REQUIRED, "", "status", "ordered_at", "updated_at"),
        *_rare(FaultKind.BAD_DATE, "gestern", "approved_at", "shipped_at", "delivered_at", "estimated_delivery_at"),
        *_rare(FaultKind.IMPOSSIBLE_DATE, _CLOCK_RESET, "ordered_at", "updated_at"),
        *_rare(FaultKind.UNUSUAL_VALUE, "Deutschland", "ship_country"),
        *_rare(FaultKind.KEY_TWICE, "Kleinkleckersdorf", "ship_city", added=True),
        *_rare(FaultKind.IMPOSSIBLE_DATE, _CLOCK_RESET, "delivered_at", added=True),
    ),
    "order_items": (
        *_rare(FaultKind.NULL_REQUIRED, "", "order_id", added=True),
        *_rare(FaultKind.NULL_REQUIRED, "", "line_number", "quantity", "unit_price"),
        *_rare(FaultKind.BAD_NUMBER, "zwölf", "line_number", "quantity"),
        *_out_of_range("line_number", "0"),
        *_out_of_range("quantity", "5000"),
        *_out_of_range("unit_price", "-9.99", "100000.00"),
        *_out_of_range("freight", "-4.95"),
        *_rare(FaultKind.KEY_TWICE, "S-00", "seller_id", added=True),
    ),
    "payments": (
        *_rare(FaultKind.NULL_REQUIRED, "", "order_id", "sequence", "method", "amount"),
        *_rare(FaultKind.BAD_NUMBER, "zwölf", "sequence", "installments"),
        *_out_of_range("sequence", "0"),
        *_out_of_range("installments", "-1"),
        *_out_of_range("amount", "-5.00"),
        *_rare(FaultKind.UNKNOWN_VALUE, "seashells", "method"),
        *_rare(FaultKind.KEY_TWICE, "24", "installments", added=True),
        *_rare(FaultKind.OUT_OF_RANGE, "1000000.01", "amount", added=True),
    ),
    "returns": (
        RareFault(FaultKind.MISSING_FIELD, {}),
        *_rare(FaultKind.BAD_DATE, "gestern", "returned_at"),
        *_rare(FaultKind.NULL_REQUIRED, "", *COLUMNS["returns"][:-1]),
        *_rare(FaultKind.BAD_NUMBER, "zwölf", "line_number", "quantity", "unit_price"),
        *_out_of_range("line_number", "0"),
        *_out_of_range("quantity", "0", "5000"),
        *_out_of_range("unit_price", "-9.99"),
        *_rare(FaultKind.KEY_TWICE, "zweimal erfasst", "reason", added=True),
        *_rare(FaultKind.MISSHAPEN, "R-12a", "return_id", added=True),
    ),
    "reviews": (
        *_rare(FaultKind.NULL_REQUIRED, "", "review_id", "order_id", "score"),
        *_out_of_range("score", "0", "6"),
        *_rare(FaultKind.MISSHAPEN, _LONG_TEXT, "title"),
        *_rare(FaultKind.KEY_TWICE, "zweimal erfasst", "title", added=True),
    ),
    "customers": (
        *_rare(FaultKind.NULL_REQUIRED, "", "updated_at"),
        *_rare(FaultKind.MISSHAPEN, "keine Angabe", "email"),
        # A new customer who never orders: two contents for one who orders would make the newest version ambiguous.
        RareFault(FaultKind.UNUSUAL_VALUE, {"customer_id": "C-99999", "country": "Deutschland"}, added=True),
        *_rare(FaultKind.KEY_TWICE, "", "phone", added=True),
    ),
    "products": (
        *_rare(FaultKind.NULL_REQUIRED, "", "updated_at"),
        *_out_of_range("list_price", "-1.00"),
        RareFault(FaultKind.UNKNOWN_REFERENCE, {"product_id": "P-9999", "category_id": "K-99"}, added=True),
        *_rare(FaultKind.KEY_TWICE, "0.99", "list_price", added=True),
    ),
    "categories": (
        *_rare(FaultKind.NULL_REQUIRED, "", "category_id", "category_name", added=True),
        RareFault(FaultKind.MISSING_FIELD, {}, added=True),
        *_rare(FaultKind.KEY_TWICE, "zweimal erfasst", "department", added=True),
    ),
    # The file has rows on the first day and on few days after it.
    "sellers": (
        *_rare(FaultKind.KEY_TWICE, "Kleinkleckersdorf", "city", added=True),
        *_rare(FaultKind.NULL_REQUIRED, "", "seller_id", added=True),
        RareFault(FaultKind.MISSING_FIELD, {}, added=True),
    ),
}


INCIDENTS = {22: FaultKind.REVENUE_DROP, 17: FaultKind.TRUNCATED, 10: FaultKind.DOUBLED}
"""Days before the last day -> incident. By default on 2025-11-08, 2025-11-13 and 2025-11-20."""
HISTORY_DAYS = 28  # days before the revenue drop that an anomaly check compares it with
REVENUE_DROP_SHARE = 0.4
AFFECTED_FILES = {
    FaultKind.REVENUE_DROP: ("orders",),
    FaultKind.TRUNCATED: ("order_items",),
    FaultKind.DOUBLED: ("orders", "order_items", "payments"),
}
_TRUNCATED_FILE_SHARE = 0.55


class FaultyFile(NamedTuple):
    """The rows of one file as they land, the faults in them, and the rows left after quarantine and deduplication."""

    rows: List[Row]
    faults: List[Fault]
    valid_rows: List[Row]


class FaultSchedule:
    """Place each rare fault in the first suitable file of its entity."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._waiting: Dict[str, Deque[RareFault]] = {entity: deque(faults) for entity, faults in RARE_FAULTS.items()}
        self._latest_row: Dict[str, Row] = {}

    def next_fault(self, entity: str, day_number: int, rows: List[Row]) -> Optional[PlacedFault]:
        """Return the rare fault for the file of a day (counted from 0) with these ``rows``; None on most days."""
        if rows:
            self._latest_row[entity] = rows[-1]
        waiting = self._waiting[entity]
        offset = list(COLUMNS).index(entity)
        if not waiting or day_number % _DAYS_BETWEEN_RARE_FAULTS != offset % _DAYS_BETWEEN_RARE_FAULTS:
            return None
        fault = waiting[0]
        if not rows and (not fault.added or fault.kind is FaultKind.KEY_TWICE or entity not in self._latest_row):
            return None
        index = self._rng.randrange(len(rows)) if rows else 0
        row = rows[index] if rows else self._latest_row[entity]
        if fault.kind is FaultKind.MISSING_FIELD:
            damaged = row[:-1]
        else:
            damaged = [fault.values.get(column, value) for column, value in zip(COLUMNS[entity], row)]
        if damaged == row:
            return None
        waiting.popleft()
        return PlacedFault(fault, index, damaged)


def inject_faults(rng: Random, entity: str, day: date, rows: List[Row], placed: Optional[PlacedFault] = None) -> FaultyFile:
    """Return the file of ``entity`` and ``day`` with some of its ``rows`` duplicated or damaged.

    ``placed`` is a rare fault for this file; it counts towards the maximum of broken rows.
    """
    allowance = 1 if len(rows) <= SMALL_FILE else int(len(rows) * MAX_BROKEN_SHARE)
    landed: List[Tuple[float, Row, Optional[FaultKind], str]] = []  # (position, row, fault, key)
    valid = []
    if placed and placed.fault.added:
        landed.append((placed.position + 0.25, placed.row, placed.fault.kind, _row_key(entity, placed.row)))
        if placed.fault.kind in (FaultKind.UNUSUAL_VALUE, FaultKind.UNKNOWN_REFERENCE):
            valid.append(placed.row)
    if placed and placed.fault.kind in QUARANTINED_KINDS:
        allowance -= 1
    stray = list(_STRAY_TEXTS)
    for index, row in enumerate(rows):
        key = _row_key(entity, row)
        kind: Optional[FaultKind]
        if placed and not placed.fault.added and index == placed.position:
            kind, damaged = placed.fault.kind, placed.row
        else:
            kind, damaged = _draw_fault(rng, entity, row, may_break=allowance > 0)
            allowance -= kind in QUARANTINED_KINDS
        if kind is FaultKind.STRAY_TEXT:
            # Each text occurs at most once in a file: a second one would be a duplicate, which is another kind of fault.
            if stray:
                text = stray.pop(rng.randrange(len(stray)))
                landed.append((index + 0.5, [text], kind, text))
            kind, damaged = None, row
        landed.append((index, damaged, kind, key))
        if kind in QUARANTINED_KINDS:
            continue
        valid.append(damaged)
        if kind is None and entity in FAULT_RATES and rng.random() < _DUPLICATE_RATE:
            landed.append((rng.uniform(index, len(rows)), damaged, FaultKind.DUPLICATE, key))
    landed.sort(key=lambda record: record[0])
    faults = [Fault(day, entity, kind, number, key) for number, (_, _, kind, key) in enumerate(landed, start=1) if kind]
    return FaultyFile([row for _, row, _, _ in landed], faults, valid)


def _row_key(entity: str, row: Row) -> str:
    return "/".join(row[COLUMNS[entity].index(column)] for column in KEYS[entity])


def _draw_fault(rng: Random, entity: str, row: Row, may_break: bool) -> Tuple[Optional[FaultKind], Row]:
    """Draw whether a fault damages ``row``; return its kind or None, and the resulting row."""
    draw = rng.random()
    for fault in FAULT_RATES.get(entity, ()):
        draw -= fault.rate
        if draw >= 0:
            continue
        if fault.kind in QUARANTINED_KINDS and not may_break:
            break
        # A fault without columns spares the first column, so that it never shifts a key.
        column = COLUMNS[entity].index(rng.choice(fault.columns)) if fault.columns else rng.randrange(1, len(row))
        damaged = [*row[:column], *_damage_field(rng, fault.kind, row[column]), *row[column + 1 :]]
        return (None, row) if damaged == row else (fault.kind, damaged)
    return None, row


def _damage_field(rng: Random, kind: FaultKind, value: str) -> List[str]:
    """Return the fields that a damaged row has in place of a field."""
    if kind in (FaultKind.MISSING_FIELD, FaultKind.STRAY_TEXT):
        return []  # A stray text is added beside the row, which stays.
    if kind is FaultKind.EXTRA_FIELD:
        return [rng.choice(_EXTRA_FIELDS), value]
    if kind is FaultKind.LOST_ZERO:
        return [value.lstrip("0")]
    return [rng.choice(_FAULTY_VALUES[kind])]


def plan_incidents(days: List[date]) -> Dict[date, FaultKind]:
    """Return the incident of each day that has one.

    Raises
    ------
    UsageError
        When the shop has too few days before the revenue drop to compare it with.
    """
    minimum = HISTORY_DAYS + max(INCIDENTS) + 1
    if len(days) < minimum:
        raise UsageError(f"days={len(days)} is too few for incidents, which need a history; use at least {minimum} days")
    return {days[-1] - timedelta(days=back): kind for back, kind in INCIDENTS.items()}


def drop_orders(rng: Random, orders: List[Order], day: date) -> List[Order]:
    """Return ``orders`` without those that made ``REVENUE_DROP_SHARE`` of the revenue of ``day``.

    They are missing from every file of every day, so that files agree with each other and only a comparison with other
    days shows the loss.
    """
    placed = [order for order in orders if order.placed_at.date() == day]
    remaining = REVENUE_DROP_SHARE * sum(map(_gross_revenue, placed))
    lost = set()
    for order in rng.sample(placed, len(placed)):
        if remaining <= 0:
            break
        remaining -= _gross_revenue(order)
        lost.add(order.order_id)
    return [order for order in orders if order.order_id not in lost]


def apply_incident(kind: Optional[FaultKind], file: FaultyFile, entity: str, day: date) -> FaultyFile:
    """Return the file of ``entity`` on a day with the incident ``kind``, or unchanged if it is not affected."""
    if kind is None or entity not in AFFECTED_FILES[kind]:
        return file
    whole_file = Fault(day, entity, kind, 0, f"{entity}.csv")
    if kind is FaultKind.TRUNCATED:
        return _truncate_file(file, whole_file)
    copies = 2 if kind is FaultKind.DOUBLED else 1
    return FaultyFile(file.rows * copies, [*file.faults, whole_file], file.valid_rows)


def _truncate_file(file: FaultyFile, truncated: Fault) -> FaultyFile:
    """Cut ``file`` within a line. The lost rows count as valid, because they are delivered again later."""
    last = int(len(file.rows) * _TRUNCATED_FILE_SHARE)
    # The last line must be an undamaged one, so that the cut is its only fault.
    damaged = {fault.row for fault in file.faults}
    while len(file.rows[last]) != len(COLUMNS[truncated.entity]) or last + 1 in damaged:
        last += 1
    row = file.rows[last]
    cut = Fault(truncated.day, truncated.entity, FaultKind.MISSING_FIELD, last + 1, f"{row[0]}/{row[1]}")
    faults = [fault for fault in file.faults if fault.row <= last]
    return FaultyFile([*file.rows[:last], [*row[:2], row[2][:2]]], [*faults, truncated, cut], file.valid_rows)


def _gross_revenue(order: Order) -> int:
    """Return the order's part of the day's gross revenue, in cents."""
    return 0 if order.reached_at("cancelled") else sum(line.quantity * line.unit_price for line in order.lines)
