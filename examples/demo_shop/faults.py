"""What goes wrong between the shop and the landing folder: a few spoiled rows a day, at constant rates.

A broken row never makes a file unreadable, an order never loses its ``order_id`` (at most a copy of its row does), and no day
passes ``MAX_BROKEN_SHARE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from random import Random
from typing import Dict, List, Optional, Tuple

from demo_shop.export import COLUMNS, KEYS, Row
from demo_shop.rare_records import PlacedFault
from demo_shop.summary import QUARANTINED_KINDS, Fault, FaultKind

MAX_BROKEN_SHARE = 0.015  # the promise is 2 %; of files with more than SMALL_FILE rows
SMALL_FILE = 100  # up to here one broken row at most; at these rates that is one day in three or fewer
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


@dataclass(frozen=True)
class FaultRate:
    """How one kind of trouble strikes an entity: the share of rows, and the columns it may hit.

    A flaw without columns is one of the whole row and may hit any column but the first.
    """

    kind: FaultKind
    rate: float
    columns: Tuple[str, ...] = ()


_FIELD_COUNT_FAULTS = (FaultRate(FaultKind.MISSING_FIELD, 0.0007), FaultRate(FaultKind.EXTRA_FIELD, 0.0007))
# Nulls spare the columns that reach the silver tables of customers: the same version of a customer stands in many
# files, and two contents under one updated_at would leave "the newest version" to chance.
FAULT_RATES: Dict[str, Tuple[FaultRate, ...]] = {
    "customers": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.004, ("phone", "street")),
        FaultRate(FaultKind.LOST_ZERO, 0.1, ("postal_code",)),
        FaultRate(FaultKind.NULL_REQUIRED, 0.0008, ("customer_id",)),
        FaultRate(FaultKind.BAD_DATE, 0.0015, ("registered_at", "updated_at")),
        *_FIELD_COUNT_FAULTS,
    ),
    "products": (
        FaultRate(FaultKind.NULL_REQUIRED, 0.0008, ("product_id",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.0015, ("list_price",)),
        FaultRate(FaultKind.BAD_DATE, 0.001, ("updated_at",)),
        *_FIELD_COUNT_FAULTS,
    ),
    "categories": (),
    "sellers": (),
    "orders": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.004, ("estimated_delivery_at", "ship_state")),
        FaultRate(FaultKind.NULL_REQUIRED, 0.0008, ("customer_id",)),
        FaultRate(FaultKind.BAD_DATE, 0.0012, ("ordered_at", "updated_at")),
        FaultRate(FaultKind.UNKNOWN_STATUS, 0.0012, ("status",)),
        *_FIELD_COUNT_FAULTS,
    ),
    "order_items": (
        FaultRate(FaultKind.NULL_REQUIRED, 0.001, ("product_id",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.0015, ("unit_price", "freight")),
        FaultRate(FaultKind.BAD_QUANTITY, 0.0015, ("quantity",)),
        FaultRate(FaultKind.STRAY_TEXT, 0.0005),
        *_FIELD_COUNT_FAULTS,
    ),
    "payments": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.004, ("installments",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.002, ("amount",)),
        FaultRate(FaultKind.STRAY_TEXT, 0.0005),
        *_FIELD_COUNT_FAULTS,
    ),
    "returns": (
        FaultRate(FaultKind.NULL_OPTIONAL, 0.01, ("reason",)),
        FaultRate(FaultKind.BAD_NUMBER, 0.002, ("unit_price",)),
        FaultRate(FaultKind.BAD_QUANTITY, 0.002, ("quantity",)),
        FaultRate(FaultKind.BAD_DATE, 0.001, ("returned_at",)),
        *_FIELD_COUNT_FAULTS,
    ),
    "reviews": (
        FaultRate(FaultKind.BAD_NUMBER, 0.0015, ("score",)),
        FaultRate(FaultKind.BAD_DATE, 0.0015, ("created_at",)),
        *_FIELD_COUNT_FAULTS,
    ),
}


@dataclass(frozen=True)
class FaultyFile:
    """One file's rows as they land, the trouble in them, and the rows that survive quarantine and deduplication."""

    rows: List[Row]
    troubles: List[Fault]
    valid_rows: List[Row]


def inject_faults(chance: Random, entity: str, day: date, rows: List[Row], strike: Optional[PlacedFault] = None) -> FaultyFile:
    """Return the file of ``entity`` and ``day`` with some of its ``rows`` duplicated, damaged or lacking a value.

    ``strike`` is a rare flaw that is due in this file; it goes before those of every day.
    """
    allowance = _max_broken_rows(len(rows))
    placed: List[Tuple[float, Row, Optional[FaultKind], str]] = []
    sound = []
    if strike and strike.rarity.added:
        placed.append((strike.index + 0.25, strike.row, strike.rarity.kind, _row_key(entity, strike.row)))
        if strike.rarity.kind in (FaultKind.UNUSUAL_VALUE, FaultKind.UNKNOWN_REFERENCE):
            sound.append(strike.row)
    if strike and strike.rarity.kind in QUARANTINED_KINDS:
        allowance -= 1
    stray = list(_STRAY_TEXTS)
    for index, row in enumerate(rows):
        key = _row_key(entity, row)
        kind: Optional[FaultKind]
        if strike and not strike.rarity.added and index == strike.index:
            kind, spoiled = strike.rarity.kind, strike.row
        else:
            kind, spoiled = _draw_fault(chance, entity, row, may_break=allowance > 0)
            allowance -= kind in QUARANTINED_KINDS
        if kind is FaultKind.STRAY_TEXT:
            # Each at most once in a file: the second would be a copy of the first, which is no trouble of its own.
            if stray:
                text = stray.pop(chance.randrange(len(stray)))
                placed.append((index + 0.5, [text], kind, text))
            kind, spoiled = None, row
        placed.append((index, spoiled, kind, key))
        if kind in QUARANTINED_KINDS:
            continue
        sound.append(spoiled)
        if kind is None and FAULT_RATES[entity] and chance.random() < _DUPLICATE_RATE:
            placed.append((chance.uniform(index, len(rows)), spoiled, FaultKind.DUPLICATE, key))
    placed.sort(key=lambda record: record[0])
    troubles = [
        Fault(day, entity, kind, number, key) for number, (_, _, kind, key) in enumerate(placed, start=1) if kind is not None
    ]
    return FaultyFile([row for _, row, _, _ in placed], troubles, sound)


def _row_key(entity: str, row: Row) -> str:
    return "/".join(row[COLUMNS[entity].index(column)] for column in KEYS[entity])


def _max_broken_rows(rows: int) -> int:
    return 1 if rows <= SMALL_FILE else int(rows * MAX_BROKEN_SHARE)


def _draw_fault(chance: Random, entity: str, row: Row, may_break: bool) -> Tuple[Optional[FaultKind], Row]:
    """Return the flaw that hits ``row``, if any, and the row as it then is."""
    draw = chance.random()
    for flaw in FAULT_RATES[entity]:
        draw -= flaw.rate
        if draw >= 0:
            continue
        if flaw.kind in QUARANTINED_KINDS and not may_break:
            break
        # A flaw of the whole row strikes behind the first column, so that it never shifts a key.
        column = COLUMNS[entity].index(chance.choice(flaw.columns)) if flaw.columns else chance.randrange(1, len(row))
        spoiled = _damage_row(chance, flaw.kind, row, column)
        return (None, row) if spoiled == row else (flaw.kind, spoiled)
    return None, row


def _damage_row(chance: Random, kind: FaultKind, row: Row, column: int) -> Row:
    before, after = row[:column], row[column + 1 :]
    if kind is FaultKind.STRAY_TEXT:
        return []  # put beside the row, which stays as it is
    if kind is FaultKind.MISSING_FIELD:
        return before + after
    if kind is FaultKind.EXTRA_FIELD:
        return [*before, chance.choice(_EXTRA_FIELDS), row[column], *after]
    if kind is FaultKind.LOST_ZERO:
        return [*before, row[column].lstrip("0"), *after]
    return [*before, chance.choice(_FAULTY_VALUES[kind]), *after]
