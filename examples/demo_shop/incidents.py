"""Incidents: three days on which not a row but a whole delivery is wrong, for gates to show what they are for."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import Dict, List, Optional

from daybook.errors import UsageError
from demo_shop.export import COLUMNS
from demo_shop.faults import Spoiled
from demo_shop.summary import Kind, Trouble
from demo_shop.trade import Order

INCIDENTS = {22: Kind.REVENUE_DROP, 17: Kind.TRUNCATED, 10: Kind.DOUBLED}
"""What happens how many days before the last. By default on 2025-11-08, 2025-11-13 and 2025-11-20."""
HISTORY = 28  # days that come before the drop, so that it can be told from them
DROP = 0.4
TRUNCATED_FILE = "order_items"
DOUBLED_FILES = ("orders", "order_items", "payments")
_KEPT_OF_TRUNCATED = 0.55


def incidents_of(calendar: List[date]) -> Dict[date, Kind]:
    """The days of the shop that an incident spoils.

    Raises
    ------
    UsageError
        When the shop has too few days for the drop to have a history.
    """
    least = HISTORY + max(INCIDENTS) + 1
    if len(calendar) < least:
        raise UsageError(f"days={len(calendar)} is too few for incidents, which need a history; take at least {least} days")
    return {calendar[-1] - timedelta(days=back): kind for back, kind in INCIDENTS.items()}


def lose_orders(chance: Random, orders: List[Order], day: date) -> List[Order]:
    """The orders but for some placed on ``day``, which had ``DROP`` of its revenue: the shop's till forgot them altogether.

    They are missing from every file of every day, so that no file contradicts another: only the days before tell.
    """
    placed = [order for order in orders if order.placed_at.date() == day]
    to_lose = DROP * sum(map(_worth, placed))
    lost = set()
    for order in chance.sample(placed, len(placed)):
        if to_lose <= 0:
            break
        to_lose -= _worth(order)
        lost.add(order.order_id)
    return [order for order in orders if order.order_id not in lost]


def cut_short(spoiled: Spoiled, entity: str, day: date) -> Spoiled:
    """The file as a broken transfer leaves it: it ends amid a line. What is cut off counts as sound: it is delivered later."""
    kept = int(len(spoiled.rows) * _KEPT_OF_TRUNCATED)
    whole = len(COLUMNS[entity])
    # The line it ends in is one that was whole, so that its being cut is its only trouble.
    struck = {trouble.row for trouble in spoiled.troubles}
    while len(spoiled.rows[kept]) != whole or kept + 1 in struck:
        kept += 1
    last = spoiled.rows[kept]
    troubles = [trouble for trouble in spoiled.troubles if trouble.row <= kept]
    troubles += [
        Trouble(day, entity, Kind.TRUNCATED, 0, f"{entity}.csv"),
        Trouble(day, entity, Kind.MISSING_FIELD, kept + 1, f"{last[0]}/{last[1]}"),
    ]
    return Spoiled([*spoiled.rows[:kept], [*last[:2], last[2][:2]]], troubles, spoiled.sound)


def deliver_twice(spoiled: Spoiled, entity: str, day: date) -> Spoiled:
    """The file with all its rows a second time behind the first; that whole half is one trouble, its rows are not listed."""
    doubled = Trouble(day, entity, Kind.DOUBLED, 0, f"{entity}.csv")
    return Spoiled(spoiled.rows * 2, [*spoiled.troubles, doubled], spoiled.sound)


def befall(kind: Optional[Kind], spoiled: Spoiled, entity: str, day: date) -> Spoiled:
    """The file of ``entity`` on a day on which ``kind`` happens, if anything."""
    if kind is Kind.TRUNCATED and entity == TRUNCATED_FILE:
        return cut_short(spoiled, entity, day)
    if kind is Kind.DOUBLED and entity in DOUBLED_FILES:
        return deliver_twice(spoiled, entity, day)
    if kind is Kind.REVENUE_DROP and entity == "orders":
        drop = Trouble(day, entity, Kind.REVENUE_DROP, 0, f"{entity}.csv")
        return Spoiled(spoiled.rows, [*spoiled.troubles, drop], spoiled.sound)
    return spoiled


def _worth(order: Order) -> int:
    """What the order adds to the day's gross revenue, in cents."""
    return 0 if order.reached_at("cancelled") else sum(line.quantity * line.unit_price for line in order.lines)
