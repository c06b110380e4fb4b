"""Incidents: three days on which not a row but a whole delivery is wrong, for gates to show what they are for."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import Dict, List, Optional

from daybook.errors import UsageError
from demo_shop.export import COLUMNS
from demo_shop.faults import FaultyFile
from demo_shop.summary import Fault, FaultKind
from demo_shop.trade import Order

INCIDENTS = {22: FaultKind.REVENUE_DROP, 17: FaultKind.TRUNCATED, 10: FaultKind.DOUBLED}
"""What happens how many days before the last. By default on 2025-11-08, 2025-11-13 and 2025-11-20."""
HISTORY_DAYS = 28  # days that come before the drop, so that it can be told from them
REVENUE_DROP_SHARE = 0.4
TRUNCATED_FILE = "order_items"
DOUBLED_FILES = ("orders", "order_items", "payments")
_TRUNCATED_FILE_SHARE = 0.55


def plan_incidents(calendar: List[date]) -> Dict[date, FaultKind]:
    """The days of the shop that an incident spoils.

    Raises
    ------
    UsageError
        When the shop has too few days for the drop to have a history.
    """
    least = HISTORY_DAYS + max(INCIDENTS) + 1
    if len(calendar) < least:
        raise UsageError(f"days={len(calendar)} is too few for incidents, which need a history; take at least {least} days")
    return {calendar[-1] - timedelta(days=back): kind for back, kind in INCIDENTS.items()}


def drop_orders(chance: Random, orders: List[Order], day: date) -> List[Order]:
    """The orders but for some placed on ``day``, which had ``REVENUE_DROP_SHARE`` of its revenue: the shop's till forgot them altogether.

    They are missing from every file of every day, so that no file contradicts another: only the days before tell.
    """
    placed = [order for order in orders if order.placed_at.date() == day]
    to_lose = REVENUE_DROP_SHARE * sum(map(_gross_revenue, placed))
    lost = set()
    for order in chance.sample(placed, len(placed)):
        if to_lose <= 0:
            break
        to_lose -= _gross_revenue(order)
        lost.add(order.order_id)
    return [order for order in orders if order.order_id not in lost]


def truncate_file(spoiled: FaultyFile, entity: str, day: date) -> FaultyFile:
    """The file as a broken transfer leaves it: it ends amid a line. What is cut off counts as sound: it is delivered later."""
    kept = int(len(spoiled.rows) * _TRUNCATED_FILE_SHARE)
    whole = len(COLUMNS[entity])
    # The line it ends in is one that was whole, so that its being cut is its only trouble.
    struck = {trouble.row for trouble in spoiled.troubles}
    while len(spoiled.rows[kept]) != whole or kept + 1 in struck:
        kept += 1
    last = spoiled.rows[kept]
    troubles = [trouble for trouble in spoiled.troubles if trouble.row <= kept]
    troubles += [
        Fault(day, entity, FaultKind.TRUNCATED, 0, f"{entity}.csv"),
        Fault(day, entity, FaultKind.MISSING_FIELD, kept + 1, f"{last[0]}/{last[1]}"),
    ]
    return FaultyFile([*spoiled.rows[:kept], [*last[:2], last[2][:2]]], troubles, spoiled.valid_rows)


def duplicate_rows(spoiled: FaultyFile, entity: str, day: date) -> FaultyFile:
    """The file with all its rows a second time behind the first; that whole half is one trouble, its rows are not listed."""
    doubled = Fault(day, entity, FaultKind.DOUBLED, 0, f"{entity}.csv")
    return FaultyFile(spoiled.rows * 2, [*spoiled.troubles, doubled], spoiled.valid_rows)


def apply_incident(kind: Optional[FaultKind], spoiled: FaultyFile, entity: str, day: date) -> FaultyFile:
    """The file of ``entity`` on a day on which ``kind`` happens, if anything."""
    if kind is FaultKind.TRUNCATED and entity == TRUNCATED_FILE:
        return truncate_file(spoiled, entity, day)
    if kind is FaultKind.DOUBLED and entity in DOUBLED_FILES:
        return duplicate_rows(spoiled, entity, day)
    if kind is FaultKind.REVENUE_DROP and entity == "orders":
        drop = Fault(day, entity, FaultKind.REVENUE_DROP, 0, f"{entity}.csv")
        return FaultyFile(spoiled.rows, [*spoiled.troubles, drop], spoiled.valid_rows)
    return spoiled


def _gross_revenue(order: Order) -> int:
    """What the order adds to the day's gross revenue, in cents."""
    return 0 if order.reached_at("cancelled") else sum(line.quantity * line.unit_price for line in order.lines)
