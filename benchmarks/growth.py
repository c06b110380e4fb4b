"""Part ``growth``: measure a day with 10 to 1,000 earlier days in the lake, and reading all days of gold.

The earlier days are synthesized, not run: the rows that one real run wrote are shifted to earlier dates with other orders and
customers, and written with Daybook's own merge, publish and compaction, so that files and commits equal those of real
runs. Days are added from the newest back, so that each number of days contains the smaller ones. The archive has no records
of the earlier days, and gold tables of all customers do not grow, because each run replaces them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Callable

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable

from benchmarks import systems
from benchmarks.bench import Bench, Result, Table, format_ratio, format_seconds
from benchmarks.measuring import summarize_repeats
from benchmarks.shop import LAST_DAY, Workspace
from daybook.contracts import load_tables
from daybook.lake.merge import merge
from daybook.lake.publish import LakeSnapshot, publish
from daybook.lake.rewrite import list_tables
from daybook.lake.tables import RUN_DATE_COLUMN, Lake, add_run_date
from daybook.notebook.stale_dates import LANDED_DATES, mark_stale_dates
from daybook.notebook.validate import VALIDATED_DATES

EARLIER_DAYS = (10, 30, 100, 300, 1000)
_READING_REPEATS = 25
_NUMBERED = ("order_id", "review_id")
"""Ascending ids: those of earlier days are smaller. Customer keys are pseudonyms and have no order."""


def run(bench: Bench) -> Result:
    """Measure the demo's last day in a warm process, in seconds, by the number of earlier days (at most ``--days``)."""
    root, day = bench.scratch / "growth", LAST_DAY.isoformat()
    template = systems.prepare_workspace(root / "template", bench.demo, "daybook", [day])
    rows = dict(_read_tables(template.lake))
    grown, added = Workspace(root / "grown", bench.demo), 0
    if (grown.root / "days").exists():
        added = int((grown.root / "days").read_text())
    else:
        grown.make()
    counts = [each for each in EARLIER_DAYS if each <= (bench.days or EARLIER_DAYS[-1])]
    snapshots = {}
    for count in counts:
        snapshots[count] = Workspace(root / f"days-{count}", bench.demo)
        if not snapshots[count].root.exists():
            if added > count:
                raise RuntimeError(f"{grown.root} already holds {added} days, more than {count}; remove {root} and run again.")
            for back in range(added + 1, count + 1):
                add_day(grown.lake, rows, back)
                (grown.root / "days").write_text(str(back))
            added = count
            grown.copy(snapshots[count].root)
    answers: dict[int, list[dict[str, Any]]] = {count: [] for count in counts}
    measured = []
    with systems.start_workers(grown, "daybook") as warm:
        warm["daybook"].day(Workspace(root / "warm-up", bench.demo).make(), day)
        for number in range(bench.repeats):
            for count, snapshot in snapshots.items():
                # One folder each, removed at the end: file systems create files slowly after a deletion of many.
                measured.append(root / f"measured-{count}-{number}")
                answers[count].append(warm["daybook"].day(snapshot.copy(measured[-1]), day))
                bench.log(f"{number + 1}/{bench.repeats} {count} earlier days: {answers[count][-1]['seconds']:.2f} s")
    for each in measured:
        shutil.rmtree(each)
    points = [
        {"days": count, "files": _count_live_files(snapshots[count].lake), **summarize_repeats(answers[count])}
        for count in counts
    ]
    reading = [compare_reading(snapshots[counts[-1]].lake, name, root) for name in load_tables("gold")]
    return {"repeats": bench.repeats, "points": points, "reading": reading}


def _read_tables(lake: Path) -> Iterator[tuple[str, pa.Table]]:
    """Yield the name and the rows of each table that the real run wrote."""
    for layer in ("bronze", "quarantine", "silver", "gold"):
        for folder in sorted((lake / layer).iterdir()):
            table = DeltaTable(str(folder))
            empty = pa.schema(table.schema().to_arrow()).empty_table()
            yield f"{layer}.{folder.name}", table.to_pyarrow_table() if table.file_uris() else empty


def add_day(root: Path, rows: dict[str, pa.Table], back: int) -> None:
    """Write the shifted ``rows`` of the day that is ``back`` days earlier to a lake."""
    day = LAST_DAY - timedelta(days=back)
    lake = Lake(str(root), run_id=f"daily-{day}-1")
    contracts = {**load_tables("silver"), **load_tables("gold")}
    shifted = {name: _shift_rows(table, back) for name, table in rows.items()}
    for name, table in shifted.items():
        if name.split(".")[0] in ("bronze", "quarantine"):
            lake.replace_dates(name, add_run_date(table, day), [day])
    lake.replace_dates(VALIDATED_DATES, add_run_date(pa.table({"accepted": pa.array([3_000], pa.int64())}), day), [day])
    dates = sorted({day, *(each for each in shifted["silver.orders"]["order_date"].to_pylist() if each)})
    mark_stale_dates(lake, dates, under=day)
    mark_stale_dates(lake, [day], under=day)
    for name, contract in contracts.items():
        if name.startswith("silver."):
            merge(lake, contract, shifted[name].select(contract.columns).cast(contract.arrow_schema), dates=[day])
    lake.replace_dates(LANDED_DATES, add_run_date(pa.table({"orders": pa.array([500], pa.int64())}), day), [day])
    for name, contract in contracts.items():
        if name.startswith("gold."):
            published = _filter_day(shifted[name].select(contract.columns).cast(contract.arrow_schema), day)
            # No other run has published this date, so no earlier commit has to be read.
            version = lake.version(name)
            snapshot = LakeSnapshot("growth", {}, {name: -1 if version is None else version})
            publish(lake, contract, published, [day], snapshot)
    lake.delete_rows("control.stale_dates", "note", _list_notes(lake, day))
    lake.compact_written_tables()


def _filter_day(table: pa.Table, day: date) -> pa.Table:
    return table.filter(pc.equal(table["order_date"], pa.scalar(day))) if "order_date" in table.column_names else table


def _list_notes(lake: Lake, day: date) -> list[str]:
    stored = lake.dataset("control.stale_dates")
    assert stored is not None
    found: list[str] = stored.to_table(columns=["note"], filter=ds.field(RUN_DATE_COLUMN) == day)["note"].to_pylist()
    return found


def _shift_rows(table: pa.Table, back: int) -> pa.Table:
    """Return the rows ``back`` days earlier, with other order ids and customer keys."""
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
    """Return four hex digits per pseudonym that differ for each day."""
    digits = [None if key is None else f"{int(key[:4], 16) ^ (back * 40_503 & 0xFFFF):04x}" for key in keys.to_pylist()]
    return pa.array(digits, pa.string())


def _count_live_files(lake: Path) -> int:
    """Return the number of data files of the newest versions of all tables."""
    return sum(len(table.open().file_uris()) for table in list_tables(str(lake)))


def compare_reading(lake: Path, table: str, scratch: Path) -> dict[str, Any]:
    """Compare a SELECT over all rows of a table with one over a Parquet file of the same rows, in seconds.

    Both are read by DuckDB through Arrow. The table is measured twice: in a session that has it open and looks for a newer
    version, and opened for each query. Opening the log takes some milliseconds, whatever the table's size.
    """
    session = Lake(str(lake))
    stored = session.dataset(table)
    assert stored is not None
    rows, file = stored.to_table(), scratch / f"{table}.parquet"
    pq.write_table(rows, file)
    database = duckdb.connect()
    query = f"SELECT count(*), {', '.join(f'max({name})' for name in rows.column_names)} FROM opened"

    def select(opened: ds.Dataset) -> Any:
        database.register("opened", opened)
        return database.execute(query).fetchall()

    readers: list[Callable[[], Any]] = [
        lambda: select(session.dataset(table)),
        lambda: select(Lake(str(lake)).dataset(table)),
        lambda: select(ds.dataset(str(file))),
    ]
    if len({str(read()) for read in readers}) > 1:
        raise RuntimeError(f"{table} and {file} have other rows.")
    seconds: list[list[float]] = [[] for _ in readers]
    for _ in range(_READING_REPEATS):
        for found, read in zip(seconds, readers):
            started = perf_counter()
            read()
            found.append(perf_counter() - started)
    names = ("delta_seconds", "opened_seconds", "parquet_seconds")
    return {"table": table, "rows": rows.num_rows, **{name: median(found) for name, found in zip(names, seconds)}}


def tables(result: Result) -> list[Table]:
    points = result["points"]
    least = points[0]["seconds"]
    rows = [
        [f"{each['days']:,}", f"{each['files']:,}", format_seconds(each["seconds"]), format_ratio(each["seconds"], least)]
        for each in points
    ]
    columns = ["earlier days", "data files", "median", f"÷ that of {points[0]['days']}"]
    found = [
        [
            each["table"],
            f"{each['rows']:,}",
            f"{each['opened_seconds'] * 1e3:.1f} ms",
            f"{each['delta_seconds'] * 1e3:.1f} ms",
            f"{each['parquet_seconds'] * 1e3:.1f} ms",
            format_ratio(each["delta_seconds"], each["parquet_seconds"]),
        ]
        for each in result["reading"]
    ]
    return [
        Table("A day in a growing lake", columns, rows, f"Daybook, warm; medians of {result['repeats']} in turn."),
        Table(
            "A SELECT over all days",
            ["table", "rows", "opened for the query", "in a session", "Parquet file", "session ÷ file"],
            found,
            f"Read by DuckDB, {points[-1]['days']:,} earlier days; medians of {_READING_REPEATS} in turn.",
        ),
    ]
