"""Insert faults into valid tables, and name the expected outcome.

``{"status": "?"}`` sets values in the first row. ``duplicate_first({...})`` appends the first row with other values.
``set_every({...})`` and ``set_first(6, {...})`` set values in all or several rows. ``empty_table("orders")`` empties another
table, ``NO_ROWS`` this one. ``DUPLICATED`` repeats every row. ``TRUNCATED`` removes the last field of the first row.
"""

from __future__ import annotations

from typing import Any, Callable, NamedTuple, Union

from tests.quality.valid_tables import Row, Tables

QUARANTINED, REJECTED, WARNED = "quarantined", "REJECTED", "warned"

TableEdit = Callable[[Tables, str], None]
Entry = tuple[Any, ...]
"""(fault, rule, outcome), and the other rules that the fault breaks."""
TRUNCATED_MARK = "_cut"


class FaultCase(NamedTuple):
    """A fault in a table such as ``demo.orders``, ``silver.orders`` or ``gold.daily_sales``."""

    table: str
    fault: Union[Row, TableEdit]
    rule: str
    outcome: str
    also: tuple[str, ...]

    def apply(self, tables: Tables) -> Tables:
        """Return copies of the tables with the fault."""
        changed = {name: [dict(row) for row in rows] for name, rows in tables.items()}
        name = self.table.split(".")[1]
        if callable(self.fault):
            self.fault(changed, name)
        else:
            unknown = set(self.fault) - set(changed[name][0])
            assert not unknown, f"{self.table} has no {unknown}"
            changed[name][0].update(self.fault)
        assert changed != tables, f"{self.table}: {self.rule}: the fault changes nothing"
        return changed


def build_fault_cases(layer: str, tables: dict[str, list[Entry]]) -> list[FaultCase]:
    """Return the cases of a layer or source."""
    return [
        FaultCase(f"{layer}.{name}", fault, rule, outcome, tuple(also))
        for name, entries in tables.items()
        for fault, rule, outcome, *also in entries
    ]


def duplicate_first(changes: Row) -> TableEdit:
    """Append the first row with other values."""
    return lambda tables, name: tables[name].append({**tables[name][0], **changes})


def set_first(count: int, changes: Row) -> TableEdit:
    """Set values in the first ``count`` rows."""

    def edit(tables: Tables, name: str) -> None:
        for row in tables[name][:count]:
            row.update(changes)

    return edit


def set_every(changes: Row) -> TableEdit:
    """Set values in every row."""
    return set_first(10**6, changes)


def empty_table(other: str) -> TableEdit:
    """Remove all rows of another table."""
    return lambda tables, _: tables[other].clear()


def NO_ROWS(tables: Tables, name: str) -> None:
    tables[name].clear()


def DUPLICATED(tables: Tables, name: str) -> None:
    tables[name] *= 2


def UNDATED(tables: Tables, name: str) -> None:
    """Mark the first row of an Olist snapshot like ingest does if its date is not usable."""
    tables[name][0] = {**tables[name][0], "_problem": "order_purchase_timestamp is no usable date"}


def TRUNCATED(tables: Tables, name: str) -> None:
    tables[name][0] = {**dict.fromkeys(tables[name][0], ""), TRUNCATED_MARK: "cut"}
