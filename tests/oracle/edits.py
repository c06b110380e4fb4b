"""Edit landing files at random: texts in cells, and whole rows.

An edit is a tuple of plain values, so that a failing example can be copied from the output. Row numbers count from 0, modulo
the number of rows:

- ``("cell", entity, row, column, text)`` and ``("take", entity, row, column, other row, other column)`` change a text
- ``("copy", entity, row)``, ``("drop", entity, row)``
- ``("fields", entity, row, number)`` cuts a row short or makes it longer
- ``("add", entity, row, texts)`` adds a copy of a row with other texts by column
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

Edit = tuple[Any, ...]
ENTITIES = ("orders", "order_items", "payments", "returns", "reviews", "customers", "products", "categories", "sellers")
FORMS: dict[str, list[str]] = yaml.safe_load((Path(__file__).parent / "forms.yaml").read_text(encoding="utf-8"))
BLANKS, ZONES, DATES, SEPARATORS, TIMES, WORDS, NUMBERS = FORMS.values()
"""Blanks around a value, and parts and complete texts of values."""


def texts() -> st.SearchStrategy[str]:
    """Return a strategy for all kinds of texts in a cell."""
    plain = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=12)
    moments = st.builds(
        lambda day, between, time, zone: day + between + time + zone,
        *(st.sampled_from(parts) for parts in (DATES, SEPARATORS, TIMES, ZONES)),
    )
    usual = st.builds(lambda time, zone: f"2025-11-30 {time}{zone}", st.sampled_from(TIMES), st.sampled_from(ZONES))
    numbers = st.one_of(
        st.sampled_from(NUMBERS), st.integers(-(10**20), 10**20).map(str), st.decimals(-(10**6), 10**6).map(str)
    )
    special = st.text(st.sampled_from("\"',;\n\r\t \\'|a1\u00a0"), max_size=8)
    words = st.sampled_from([*WORDS, *BLANKS, "a" * 201, "created", "Paid", "DELIVERED", "DB-000000", "DB-00000a", "[erased]"])
    some = st.one_of(words, numbers, usual, moments, st.sampled_from(DATES), plain, special)
    return some | st.builds(
        lambda left, text, right: left + text + right, st.sampled_from(BLANKS), some, st.sampled_from(BLANKS)
    )


def list_all_edits() -> list[Edit]:
    """Return edits that add one row per form of a time and of a number, in all pairs of parts."""
    moments = {
        *(f"{day} {time}{zone}" for day in DATES for time in ("10:20:30", "02:30") for zone in ZONES),
        *(f"2025-11-30{between}{time}{zone}" for between in SEPARATORS[:4] for time in TIMES for zone in ZONES),
        *(day + between + time for day in DATES for between in SEPARATORS for time in TIMES),
        *(left + text + right for left in BLANKS for text in ("2025-11-30", "2025-11-30 10:20 PM") for right in BLANKS),
        *WORDS,
    }
    numbers = {*NUMBERS, *WORDS, *(left + text + right for left in BLANKS for text in ("1", "2.50") for right in BLANKS)}
    return [
        *(("add", "products", 0, {"product_id": f"P-{n}", "updated_at": text}) for n, text in enumerate(sorted(moments))),
        *(("add", "payments", 0, {"order_id": f"D-{n}", "amount": text}) for n, text in enumerate(sorted(numbers))),
        *(("add", "payments", 0, {"order_id": f"I-{n}", "installments": text}) for n, text in enumerate(sorted(numbers))),
    ]


def edits(columns: dict[str, list[str]]) -> st.SearchStrategy[list[Edit]]:
    """Return a strategy for lists of edits of entities with these columns."""
    row = st.integers(0, 60)

    def of(entity: str) -> st.SearchStrategy[Edit]:
        name, column = st.just(entity), st.sampled_from(columns[entity])
        cell = st.tuples(st.just("cell"), name, row, column, texts())
        return st.one_of(
            cell,
            cell,
            cell,
            st.tuples(st.just("take"), name, row, column, row, column),
            st.tuples(st.just("copy"), name, row),
            st.tuples(st.just("drop"), name, row),
            st.tuples(st.just("fields"), name, row, st.integers(1, 15)),
        )

    # Lists of lists can be long and still shrink well.
    some = st.lists(st.sampled_from(ENTITIES).flatmap(of), max_size=12)
    return st.lists(some, max_size=12).map(lambda groups: [each for group in groups for each in group])


def read_records(path: Path, encoding: str) -> list[list[str]]:
    """Return the records of a file, the header first."""
    with path.open(encoding=encoding, newline="") as file:
        return list(csv.reader(file))


def write_records(path: Path, encoding: str, records: list[list[str]]) -> None:
    """Write records as a CSV file; characters that the encoding lacks become question marks."""
    with path.open("w", encoding=encoding, errors="replace", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows(records)


def apply_edits(landing: Path, day: str, changes: list[Edit]) -> None:
    """Apply edits to the files of a date."""
    for entity in ENTITIES:
        path, encoding = landing / entity / day / f"{entity}.csv", "cp1252" if entity == "sellers" else "utf-8-sig"
        header, *rows = read_records(path, encoding)
        for kind, _, number, *rest in (each for each in changes if each[1] == entity):
            if not rows:
                break
            at = number % len(rows)
            if kind == "copy":
                rows.append(list(rows[at]))
            elif kind == "add":
                rows.append([rest[0].get(name, text) for name, text in zip(header, rows[at])])
            elif kind == "drop" and len(rows) > 1:
                del rows[at]
            elif kind == "fields":
                rows[at] = (rows[at] + ["more"] * rest[0])[: rest[0]]
            elif kind in ("cell", "take") and header.index(rest[0]) < len(rows[at]):
                text = rest[1]
                if kind == "take":
                    other = rows[rest[1] % len(rows)]
                    text = other[header.index(rest[2]) % len(other)]
                rows[at][header.index(rest[0])] = text
        write_records(path, encoding, [header, *rows])
