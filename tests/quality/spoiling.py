"""What the table of troubles is written in: how a sound table is spoiled, and what becomes of it.

``{"status": "?"}`` puts values into the first row. The rest is functions: ``duplicate_first({...})`` adds the first row once more with
other values, ``set_every({...})`` and ``set_first(6, {...})`` put values into all or several rows, ``empty_table("orders")`` empties
another table, ``NO_ROWS`` this one, ``DUPLICATED`` has every row twice, ``TRUNCATED`` has the first row lack its last field.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Union

from tests.quality.sound import Row, Tables

QUARANTINED, REJECTED, WARNED = "quarantined", "REJECTED", "warned"

TableEdit = Callable[[Tables, str], None]
Entry = tuple[Any, ...]
"""(trouble, rule, outcome), and after them the rules that the same trouble cannot but break as well."""
TRUNCATED_MARK = "_cut"


class FaultCase(NamedTuple):
    """One line of the table, with the table it is about: ``demo.orders``, ``silver.orders``, ``gold.daily_sales`` …"""

    table: str
    spoil: Union[Row, TableEdit]
    rule: str
    outcome: str
    also: tuple[str, ...]

    def apply(self, tables: Tables) -> Tables:
        """The tables with the trouble in them; the given ones stay as they are."""
        spoiled = {name: [dict(row) for row in rows] for name, rows in tables.items()}
        name = self.table.split(".")[1]
        if callable(self.spoil):
            self.spoil(spoiled, name)
        else:
            unknown = set(self.spoil) - set(spoiled[name][0])
            assert not unknown, f"{self.table} has no {unknown}"
            spoiled[name][0].update(self.spoil)
        assert spoiled != tables, f"{self.table}: {self.rule}: nothing is spoiled"
        return spoiled


def build_fault_cases(layer: str, tables: dict[str, list[Entry]]) -> list[FaultCase]:
    """The lines of a layer's (or source's) part of the table."""
    return [
        FaultCase(f"{layer}.{name}", spoil, rule, outcome, tuple(also))
        for name, entries in tables.items()
        for spoil, rule, outcome, *also in entries
    ]


def duplicate_first(changes: Row) -> TableEdit:
    """The first row a second time, with other values."""
    return lambda tables, name: tables[name].append({**tables[name][0], **changes})


def set_first(count: int, changes: Row) -> TableEdit:
    """Values for the first ``count`` rows."""

    def spoil(tables: Tables, name: str) -> None:
        for row in tables[name][:count]:
            row.update(changes)

    return spoil


def set_every(changes: Row) -> TableEdit:
    """Values for every row."""
    return set_first(10**6, changes)


def empty_table(other: str) -> TableEdit:
    """No rows in another table."""
    return lambda tables, _: tables[other].clear()


def NO_ROWS(tables: Tables, name: str) -> None:
    tables[name].clear()


def DUPLICATED(tables: Tables, name: str) -> None:
    tables[name] *= 2


def UNDATED(tables: Tables, name: str) -> None:
    """Mark the first row of a snapshot of Olist as ingest does where its date is not usable."""
    tables[name][0] = {**tables[name][0], "_problem": "order_purchase_timestamp is no usable date"}


def TRUNCATED(tables: Tables, name: str) -> None:
    tables[name][0] = {**dict.fromkeys(tables[name][0], ""), TRUNCATED_MARK: "cut"}
