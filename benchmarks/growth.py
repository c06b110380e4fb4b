"""Part ``growth``: what a day costs with more and more days before it in the lake.

The earlier days are not run: they are put in as a thousand runs leave them. The rows that a real run has left in bronze,
quarantine, versions, silver, gold and control tables are shifted to an earlier date, with orders and customers of their own,
and written through Daybook's own lake, merge and publication: a commit a table and day, the same partitions, silver compacted
when Daybook compacts it. From the newest day back, so that each number of days contains the smaller ones. Their archive is not
made, nor are tables of all customers grown: those are written whole each day.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_ratio, format_seconds
from benchmarks.measuring import summarize_repeats
from benchmarks.shop import LAST_DAY, Workspace
from daybook.contracts import load_tables
from daybook.lake.merge import merge
from daybook.lake.publish import publish
from daybook.lake.tables import PARTITION_COLUMN, Lake
from daybook.notebook.stale_dates import LANDED_DATES, mark_stale_dates
from daybook.notebook.validate import VALIDATED_DATES

EARLIER_DAYS = (10, 30, 100, 300, 1000)
_NUMBERED = ("order_id", "review_id")
"""Ids that a shop counts up: an earlier day's are smaller. Those of customers, which are pseudonyms, lie anywhere."""


def run(bench: Bench) -> Result:
    """Seconds of the demo's last day, warm, by the number of days before it; ``--days N`` says up to how many."""
    place, day = bench.scratch / "growth", LAST_DAY.isoformat()
    template = systems.prepare_workspace(place / "template", bench.demo, "daybook", [day])
    rows = dict(_read_tables(template.lake))
    grown, have = Workspace(place / "grown", bench.demo), 0
    if (grown.place / "days").exists():
        have = int((grown.place / "days").read_text())
    else:
        grown.make()
    counts = [each for each in EARLIER_DAYS if each <= (bench.days or EARLIER_DAYS[-1])]
    snapshots = {}
    for count in counts:
        snapshots[count] = Workspace(place / f"days-{count}", bench.demo)
        if not snapshots[count].place.exists():
            if have > count:
                raise RuntimeError(f"{grown.place} holds {have} days already; remove {place} and begin again.")
            for back in range(have + 1, count + 1):
                add_day(grown.lake, rows, back)
                (grown.place / "days").write_text(str(back))
            have = count
            grown.copy(snapshots[count].place)
    answers: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    measured = []
    with systems.start_workers(grown, "daybook") as warm:
        warm["daybook"].day(Workspace(place / "warm-up", bench.demo).make(), day)
        for number in range(bench.repeats):
            for count, snapshot in snapshots.items():
                # Each in a place of its own, removed in the end: a file system is slow to make files where it has just removed
                # ten thousands.
                measured.append(place / f"measured-{count}-{number}")
                answers[count].append(warm["daybook"].day(snapshot.copy(measured[-1]), day))
                bench.say(f"{number + 1}/{bench.repeats} {count} days before: {answers[count][-1]['seconds']:.2f} s")
    for each in measured:
        shutil.rmtree(each)
    points = [
        {"days": count, "files": _count_files(snapshots[count].lake), **summarize_repeats(answers[count])} for count in counts
    ]
    return {"repeats": bench.repeats, "points": points}


def _read_tables(lake: Path) -> Iterator[tuple[str, pa.Table]]:
    """What the real run left in each table."""
    for layer in ("bronze", "quarantine", "silver", "gold"):
        for folder in sorted((lake / layer).iterdir()):
            table = DeltaTable(str(folder))
            yield f"{layer}.{folder.name}", table.to_pyarrow_table() if table.file_uris() else _empty(table)


def _empty(table: DeltaTable) -> pa.Table:
    return pa.schema(table.schema().to_arrow()).empty_table()


def add_day(place: Path, rows: dict[str, pa.Table], back: int) -> None:
    """Put one earlier day into a lake."""
    day = LAST_DAY - timedelta(days=back)
    lake = Lake(str(place), run_id=f"daily-{day}-1")
    contracts = {**load_tables("silver"), **load_tables("gold")}
    shifted = {name: _shift_rows(table, back) for name, table in rows.items()}
    for name, table in shifted.items():
        if name.split(".")[0] in ("bronze", "quarantine"):
            lake.replace_partition(name, table.drop_columns([PARTITION_COLUMN]), day)
    lake.replace_partition(VALIDATED_DATES, pa.table({"accepted": pa.array([3_000], pa.int64())}), day)
    dates = sorted({day, *(each for each in shifted["silver.orders"]["order_date"].to_pylist() if each)})
    mark_stale_dates(lake, dates, under=day)
    mark_stale_dates(lake, [day], under=day)
    for name, contract in contracts.items():
        if name.startswith("silver."):
            merge(lake, contract, shifted[name].select(contract.columns).cast(contract.arrow_schema), landed_on=day)
            lake.compact(name)
    lake.replace_partition(LANDED_DATES, pa.table({"orders": pa.array([500], pa.int64())}), day)
    for name, contract in contracts.items():
        if name.startswith("gold."):
            # Without a snapshot: of a date that nobody else has published.
            publish(lake, contract, _filter_day(shifted[name].select(contract.columns).cast(contract.arrow_schema), day), [day])
    lake.remove("control.stale_dates", "note", _list_notes(lake, day))


def _filter_day(table: pa.Table, day: date) -> pa.Table:
    return table.filter(pc.equal(table["order_date"], pa.scalar(day))) if "order_date" in table.column_names else table


def _list_notes(lake: Lake, day: date) -> list[str]:
    stored = lake.dataset("control.stale_dates")
    assert stored is not None
    found: list[str] = stored.to_table(columns=["note"], filter=ds.field(PARTITION_COLUMN) == day)["note"].to_pylist()
    return found


def _shift_rows(table: pa.Table, back: int) -> pa.Table:
    """The same rows, so many days earlier, of other orders and customers."""
    for at, field in enumerate(table.schema):
        column: Any = table[field.name]
        if pa.types.is_date(field.type):
            column = pc.subtract(column.cast(pa.int32()), pa.scalar(back, pa.int32())).cast(pa.date32())
        elif pa.types.is_timestamp(field.type):
            column = pc.subtract(column, pa.scalar(timedelta(days=back), pa.duration("us"))).cast(field.type)
        elif field.name in _NUMBERED:
            column = pc.binary_join_element_wise(pa.scalar(f"A{9_999 - back:04d}"), column, "-")
        elif field.name == "customer_key":
            column = pc.binary_join_element_wise(_shift_keys(column, back), pc.utf8_slice_codeunits(column, 4), "")
        table = table.set_column(at, field.name, column)
    return table


def _shift_keys(keys: pa.ChunkedArray, back: int) -> pa.Array:
    """Four hex digits for each pseudonym, others for each day."""
    digits = [None if key is None else f"{int(key[:4], 16) ^ (back * 40_503 & 0xFFFF):04x}" for key in keys.to_pylist()]
    return pa.array(digits, pa.string())


def _count_files(lake: Path) -> int:
    return sum(1 for _ in lake.rglob("*.parquet"))


def tables(result: Result) -> list[Table]:
    points = result["points"]
    least = points[0]["seconds"]
    rows = [
        [f"{each['days']:,}", f"{each['files']:,}", format_seconds(each["seconds"]), format_ratio(each["seconds"], least)]
        for each in points
    ]
    columns = ["days before it", "data files", "median", f"÷ that of {points[0]['days']}"]
    return [Table("A day in a growing lake", columns, rows, f"Daybook, warm; medians of {result['repeats']} in turn.")]
