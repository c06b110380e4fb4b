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
from demo_shop.rare_records import Strike
from demo_shop.summary import BROKEN, Kind, Trouble

MAX_BROKEN_SHARE = 0.015  # the promise is 2 %; of files with more than SMALL_FILE rows
SMALL_FILE = 100  # up to here one broken row at most; at these rates that is one day in three or fewer
_DUPLICATE_RATE = 0.005

_REPLACEMENTS: Dict[Kind, Tuple[str, ...]] = {
    Kind.NULL_OPTIONAL: ("",),
    Kind.NULL_REQUIRED: ("",),
    Kind.BAD_NUMBER: ("12,50 EUR", "n/a", "1.2.3", "zwölf"),
    Kind.BAD_DATE: ("0000-00-00 00:00:00", "gestern", "2025-02-30 12:00:00", "31.11. abends"),
    Kind.BAD_QUANTITY: ("0", "-1", "-2"),
    Kind.UNKNOWN_STATUS: ("on_hold_2", "SHIPD", "unbekannt", "99"),
}
_EXTRA_FIELDS = ("Hinterhaus", "00", "?", "siehe Notiz")
_STRAY_TEXTS = ("-- Verbindung abgebrochen; Export wird fortgesetzt --", "### Seite 2 ###", "bitte prüfen!!")


@dataclass(frozen=True)
class Flaw:
    """How one kind of trouble strikes an entity: the share of rows, and the columns it may hit.

    A flaw without columns is one of the whole row and may hit any column but the first.
    """

    kind: Kind
    rate: float
    columns: Tuple[str, ...] = ()


_BROKEN_FIELDS = (Flaw(Kind.MISSING_FIELD, 0.0007), Flaw(Kind.EXTRA_FIELD, 0.0007))
# Nulls spare the columns that reach the silver tables of customers: the same version of a customer stands in many
# files, and two contents under one updated_at would leave "the newest version" to chance.
FLAWS: Dict[str, Tuple[Flaw, ...]] = {
    "customers": (
        Flaw(Kind.NULL_OPTIONAL, 0.004, ("phone", "street")),
        Flaw(Kind.LOST_ZERO, 0.1, ("postal_code",)),
        Flaw(Kind.NULL_REQUIRED, 0.0008, ("customer_id",)),
        Flaw(Kind.BAD_DATE, 0.0015, ("registered_at", "updated_at")),
        *_BROKEN_FIELDS,
    ),
    "products": (
        Flaw(Kind.NULL_REQUIRED, 0.0008, ("product_id",)),
        Flaw(Kind.BAD_NUMBER, 0.0015, ("list_price",)),
        Flaw(Kind.BAD_DATE, 0.001, ("updated_at",)),
        *_BROKEN_FIELDS,
    ),
    "categories": (),
    "sellers": (),
    "orders": (
        Flaw(Kind.NULL_OPTIONAL, 0.004, ("estimated_delivery_at", "ship_state")),
        Flaw(Kind.NULL_REQUIRED, 0.0008, ("customer_id",)),
        Flaw(Kind.BAD_DATE, 0.0012, ("ordered_at", "updated_at")),
        Flaw(Kind.UNKNOWN_STATUS, 0.0012, ("status",)),
        *_BROKEN_FIELDS,
    ),
    "order_items": (
        Flaw(Kind.NULL_REQUIRED, 0.001, ("product_id",)),
        Flaw(Kind.BAD_NUMBER, 0.0015, ("unit_price", "freight")),
        Flaw(Kind.BAD_QUANTITY, 0.0015, ("quantity",)),
        Flaw(Kind.STRAY_TEXT, 0.0005),
        *_BROKEN_FIELDS,
    ),
    "payments": (
        Flaw(Kind.NULL_OPTIONAL, 0.004, ("installments",)),
        Flaw(Kind.BAD_NUMBER, 0.002, ("amount",)),
        Flaw(Kind.STRAY_TEXT, 0.0005),
        *_BROKEN_FIELDS,
    ),
    "returns": (
        Flaw(Kind.NULL_OPTIONAL, 0.01, ("reason",)),
        Flaw(Kind.BAD_NUMBER, 0.002, ("unit_price",)),
        Flaw(Kind.BAD_QUANTITY, 0.002, ("quantity",)),
        Flaw(Kind.BAD_DATE, 0.001, ("returned_at",)),
        *_BROKEN_FIELDS,
    ),
    "reviews": (
        Flaw(Kind.BAD_NUMBER, 0.0015, ("score",)),
        Flaw(Kind.BAD_DATE, 0.0015, ("created_at",)),
        *_BROKEN_FIELDS,
    ),
}


@dataclass(frozen=True)
class Spoiled:
    """One file's rows as they land, the trouble in them, and the rows that survive quarantine and deduplication."""

    rows: List[Row]
    troubles: List[Trouble]
    sound: List[Row]


def spoil(chance: Random, entity: str, day: date, rows: List[Row], strike: Optional[Strike] = None) -> Spoiled:
    """Return the file of ``entity`` and ``day`` with some of its ``rows`` duplicated, damaged or lacking a value.

    ``strike`` is a rare flaw that is due in this file; it goes before those of every day.
    """
    allowance = _broken_allowance(len(rows))
    placed: List[Tuple[float, Row, Optional[Kind], str]] = []
    sound = []
    if strike and strike.rarity.added:
        placed.append((strike.index + 0.25, strike.row, strike.rarity.kind, _key(entity, strike.row)))
        if strike.rarity.kind in (Kind.UNUSUAL_VALUE, Kind.UNKNOWN_REFERENCE):
            sound.append(strike.row)
    if strike and strike.rarity.kind in BROKEN:
        allowance -= 1
    stray = list(_STRAY_TEXTS)
    for index, row in enumerate(rows):
        key = _key(entity, row)
        kind: Optional[Kind]
        if strike and not strike.rarity.added and index == strike.index:
            kind, spoiled = strike.rarity.kind, strike.row
        else:
            kind, spoiled = _strike(chance, entity, row, may_break=allowance > 0)
            allowance -= kind in BROKEN
        if kind is Kind.STRAY_TEXT:
            # Each at most once in a file: the second would be a copy of the first, which is no trouble of its own.
            if stray:
                text = stray.pop(chance.randrange(len(stray)))
                placed.append((index + 0.5, [text], kind, text))
            kind, spoiled = None, row
        placed.append((index, spoiled, kind, key))
        if kind in BROKEN:
            continue
        sound.append(spoiled)
        if kind is None and FLAWS[entity] and chance.random() < _DUPLICATE_RATE:
            placed.append((chance.uniform(index, len(rows)), spoiled, Kind.DUPLICATE, key))
    placed.sort(key=lambda record: record[0])
    troubles = [
        Trouble(day, entity, kind, number, key) for number, (_, _, kind, key) in enumerate(placed, start=1) if kind is not None
    ]
    return Spoiled([row for _, row, _, _ in placed], troubles, sound)


def _key(entity: str, row: Row) -> str:
    return "/".join(row[COLUMNS[entity].index(column)] for column in KEYS[entity])


def _broken_allowance(rows: int) -> int:
    return 1 if rows <= SMALL_FILE else int(rows * MAX_BROKEN_SHARE)


def _strike(chance: Random, entity: str, row: Row, may_break: bool) -> Tuple[Optional[Kind], Row]:
    """Return the flaw that hits ``row``, if any, and the row as it then is."""
    draw = chance.random()
    for flaw in FLAWS[entity]:
        draw -= flaw.rate
        if draw >= 0:
            continue
        if flaw.kind in BROKEN and not may_break:
            break
        # A flaw of the whole row strikes behind the first column, so that it never shifts a key.
        column = COLUMNS[entity].index(chance.choice(flaw.columns)) if flaw.columns else chance.randrange(1, len(row))
        spoiled = _spoil_row(chance, flaw.kind, row, column)
        return (None, row) if spoiled == row else (flaw.kind, spoiled)
    return None, row


def _spoil_row(chance: Random, kind: Kind, row: Row, column: int) -> Row:
    before, after = row[:column], row[column + 1 :]
    if kind is Kind.STRAY_TEXT:
        return []  # put beside the row, which stays as it is
    if kind is Kind.MISSING_FIELD:
        return before + after
    if kind is Kind.EXTRA_FIELD:
        return [*before, chance.choice(_EXTRA_FIELDS), row[column], *after]
    if kind is Kind.LOST_ZERO:
        return [*before, row[column].lstrip("0"), *after]
    return [*before, chance.choice(_REPLACEMENTS[kind]), *after]
