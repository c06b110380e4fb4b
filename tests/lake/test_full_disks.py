"""Test writes to a full or read-only disk: one sentence, unchanged tables, and success afterwards."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Callable

import pyarrow as pa
import pytest

from daybook.errors import LakeError
from daybook.lake.merge import merge
from daybook.lake.publish import publish
from daybook.lake.tables import Lake
from tests.lake.tables import (
    CUSTOMERS,
    FIRST,
    PAYMENTS,
    PRODUCTS,
    SECOND,
    Version,
    customers,
    landing_rows,
    payments,
    products,
    read_rows,
)
from tests.lake.writing import replace_date

# More than the space left on each disk.
MANY = [f"value {number} of many" for number in range(5_000)]
WRITES: dict[str, Callable[[Lake], Any]] = {
    "bronze.sales": lambda lake: replace_date(lake, "bronze.sales", landing_rows(*MANY), FIRST),
    "control.releases": lambda lake: lake.append("control.releases", landing_rows(*MANY), SECOND),
    "silver.products": lambda lake: merge(
        lake, PRODUCTS, products(SECOND, *(Version(f"P{text}", text, 20) for text in MANY)), dates=[SECOND]
    ),
    "silver.customers": lambda lake: lake.update_column(
        CUSTOMERS,
        pa.table({"customer_key": ["a"], "first_order_date": pa.array([date(2020, 1, 1)])}),
        "first_order_date",
    ),
    "gold.payment_mix": lambda lake: publish(lake, PAYMENTS, payments((FIRST, "9"), (SECOND, "8")), [FIRST, SECOND]),
    "candidate.payment_mix": lambda lake: lake.write_candidate("candidate.payment_mix", landing_rows(*MANY)),
}

REFUSED = {"silver.products": "versions.products"}
"""The table at which a write fails, if another is written first: a merge writes the versions before."""


@pytest.fixture
def filled(disks: Any, tmp_path: Path) -> tuple[Any, Lake]:
    """Return a lake with rows in every table, on a disk of its own."""
    disk = disks.mount(tmp_path / "disk", "4m")
    lake = Lake(str(disk.path / "lake"), run_id="daily-2025-11-01-1")
    replace_date(lake, "bronze.sales", landing_rows("before"), FIRST)
    lake.append("control.releases", landing_rows("before"), FIRST)
    merge(lake, PRODUCTS, products(FIRST, Version("P1", "before", 1)), dates=[FIRST])
    merge(lake, CUSTOMERS, customers(FIRST, "a", first=FIRST), dates=[FIRST])
    publish(lake, PAYMENTS, payments((FIRST, "1")), [FIRST])
    lake.write_candidate("candidate.payment_mix", landing_rows("before"))
    return disk, Lake(lake.root, run_id="daily-2025-11-02-1")


@pytest.mark.parametrize("leave", [0, 4096, 12288])
@pytest.mark.parametrize(("table", "write"), WRITES.items(), ids=WRITES)
def test_failed_write_on_a_full_disk_can_be_repeated(
    filled: tuple[Any, Lake], waits: list[float], table: str, write: Callable[[Lake], Any], leave: int
) -> None:
    disk, lake = filled
    if table.startswith("candidate."):
        lake.write_candidate(table, landing_rows("before"))
    before = read_rows(lake, table)
    disk.fill(leave)
    try:
        write(lake)
    except LakeError as error:
        refused = REFUSED.get(table, table)
        assert str(error) == (
            f"{refused} at {lake.uri(refused)} could not be written: its disk is full; free some space, then run it again."
        )
        assert read_rows(lake, table) == before
        assert waits == [], "a full disk is no other writer, whom waiting would let pass"
    else:
        assert leave, "something was written where there was no room"
    disk.free()
    write(lake)
    assert read_rows(lake, table) != before


@pytest.mark.parametrize(("table", "write"), WRITES.items(), ids=WRITES)
def test_read_only_lake_is_one_sentence(filled: tuple[Any, Lake], table: str, write: Callable[[Lake], Any]) -> None:
    disk, lake = filled
    disk.read_only()
    with pytest.raises(
        LakeError, match=f"^{REFUSED.get(table, table)} at .* could not be written: it is read-only; make it writable, then run"
    ):
        write(lake)


def test_new_table_on_a_read_only_lake_is_one_sentence(filled: tuple[Any, Lake]) -> None:
    disk, lake = filled
    disk.read_only()
    with pytest.raises(LakeError, match=r"bronze\.new at .*lake/bronze/new could not be written: it is read-only"):
        replace_date(lake, "bronze.new", landing_rows("1"), FIRST)
