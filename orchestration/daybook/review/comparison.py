"""Compare states of the silver and gold tables: a development copy, two runs, or an earlier version with what is published.

Rows are those of the dates that the compared states have computed: gold by business date, silver by the date on which rows
landed. Tables without dates are compared as a whole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timezone
from typing import Any, NamedTuple, Optional

import duckdb
import pyarrow.dataset as ds
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from daybook.contracts import LAYERS, Table, load_table, load_tables
from daybook.contracts.model import LANDED_ON
from daybook.engines import query_error
from daybook.engines.duckdb import shown_columns_sql
from daybook.engines.memory import ENGINE_SHARE, memory_limit, open_database
from daybook.errors import LakeError, UsageError
from daybook.lake.delta import open_dataset, open_table, open_table_or_none, sequential_dataset
from daybook.lake.layout import list_data_files, select_files
from daybook.lake.publish import PUBLISHED_DATES_KEY
from daybook.lake.tables import RUN_DATE_KEY, Lake
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.models import RunRecord
from daybook.review.table_diff import Comparison, TableDiff, diff_tables
from daybook.settings import Settings, parse_run_date
from daybook.sources.mapping import literal, quote
from daybook.storage import Store

SAMPLES = 3
"""Default number of sample rows of each kind of change."""


@dataclass(frozen=True)
class _Pair:
    """Two versions of a table (None: it does not exist), and the dates whose rows are compared (None: all rows)."""

    contract: Table
    before: Optional[DeltaTable]
    after: Optional[DeltaTable]
    dates: Optional[Collection[date]] = None


def compare_development_copy(
    settings: Settings,
    development: str,
    dates: Optional[Collection[date]] = None,
    *,
    tables: Sequence[str] = (),
    samples: int = SAMPLES,
) -> Comparison:
    """Compare what is published (before) with a development copy (after). Tables that the copy has not written are left out.

    Parameters
    ----------
    settings
        The deployment.
    development
        The name of the copy, whose tables are under ``dev/<development>``.
    dates
        Compare only these of the dates that the copy has computed.
    tables
        Compare only these tables, by full name.
    samples
        Number of sample rows of each kind of change.

    Raises
    ------
    UsageError
        The copy has computed none of the dates, or has not written one of ``tables``.
    """
    published, copy = Lake(settings.lake), Lake(settings.lake, development=development)
    computed = {"gold": _list_published_dates(copy), "silver": _list_merged_dates(copy)}
    chosen = {layer: found if dates is None else found & set(dates) for layer, found in computed.items()}
    every = set().union(*chosen.values())
    if not every:
        wanted = "" if dates is None else f" of {', '.join(map(str, sorted(dates)))}"
        raise UsageError(
            f"The development copy of {development} has computed none of the dates{wanted}; run notebooks 3_transform, "
            "4_aggregate and 5_quality without a run_id first."
        )
    pairs = []
    for contract in _load_contracts(tables):
        name, own_dates = contract.full_name, chosen[contract.layer]
        written = open_table_or_none(copy.uri(name)) if own_dates else None
        if written is not None:
            pairs.append(_Pair(contract, open_table_or_none(published.uri(name)), written, own_dates))
        elif tables:
            raise UsageError(f"The development copy of {development} has not computed {name}; leave out --table {name}.")
    return _compare(settings, pairs, "published", f"development copy of {development}", every, samples)


def compare_runs(
    settings: Settings, before: str, after: str, *, tables: Sequence[str] = (), samples: int = SAMPLES
) -> Comparison:
    """Compare the tables that two runs have written, as they were after each run, for the dates that these runs published.

    Parameters
    ----------
    settings
        The deployment.
    before, after
        The ids of the runs.
    tables, samples
        As in ``compare_development_copy``.

    Raises
    ------
    UsageError
        There is no such run, or the runs have written no table, or not one of ``tables``.
    LakeError
        A version can no longer be read.
    """
    lake, archive = Lake(settings.lake), Archive(settings.archive)
    runs = [archive.run(before), archive.run(after)]
    written = [_list_written_versions(run) for run in runs]
    published = {date.fromisoformat(day) for run in runs for attempt in run.stages for day in attempt.details.published_dates}
    dates = {"gold": published, "silver": {run.run_date for run in runs}}
    pairs = []
    for contract in _load_contracts(tables):
        name = contract.full_name
        if any(name in versions for versions in written):
            opened = [_open_after_run(lake, name, run, versions.get(name)) for run, versions in zip(runs, written)]
            pairs.append(_Pair(contract, opened[0], opened[1], dates[contract.layer]))
        elif tables:
            raise UsageError(f"Neither {before} nor {after} has written {name}; leave out --table {name}.")
    if not pairs:
        raise UsageError(f"Neither {before} nor {after} has written a silver or gold table; `daybook runs` lists the runs.")
    every = set().union(*dates.values())
    return _compare(settings, pairs, f"after {before}", f"after {after}", every, samples)


def compare_versions(settings: Settings, against: str, *, tables: Sequence[str] = (), samples: int = SAMPLES) -> Comparison:
    """Compare an earlier state of the published tables with the present one.

    Parameters
    ----------
    settings
        The deployment.
    against
        A version of the only table in ``tables``, or a date: the state at its end in UTC, by the times of commits.
    tables, samples
        As in ``compare_development_copy``.

    Raises
    ------
    UsageError
        ``against`` is neither, or the table has no such version.
    LakeError
        A version can no longer be read.
    """
    lake, contracts = Lake(settings.lake), _load_contracts(tables)
    opened: list[Optional[DeltaTable]]
    if against.isdigit():
        if len(tables) != 1:
            raise UsageError(f"Each table has its own version {against}; name one with --table, or give a date.")
        state, opened = f"version {against}", [_open_version(lake, tables[0], int(against))]
    else:
        end = datetime.combine(parse_run_date(against), time.max, timezone.utc)
        state = f"published at the end of {against} (UTC)"
        opened = [_open_at(lake, each.full_name, end) for each in contracts]
    pairs = [
        _Pair(contract, before, open_table_or_none(lake.uri(contract.full_name))) for contract, before in zip(contracts, opened)
    ]
    return _compare(settings, pairs, state, "published", None, samples)


def _load_contracts(tables: Sequence[str]) -> list[Table]:
    """Return the contracts of these tables, by default of all: gold first, which dashboards read."""
    every = (each for layer in reversed(LAYERS) for each in load_tables(layer).values())
    return [load_table(name) for name in tables] or list(every)


def _list_published_dates(copy: Lake) -> set[date]:
    """Return the business dates of the gold that a development copy has computed."""
    return _collect_dates(copy, load_tables("gold"), PUBLISHED_DATES_KEY)


def _list_merged_dates(copy: Lake) -> set[date]:
    """Return the dates whose landed rows a development copy has merged into silver.

    A merge commits nothing to silver if no row changes, but it always replaces the versions of its date.
    """
    return _collect_dates(copy, (f"versions.{each.name}" for each in load_tables("silver").values()), RUN_DATE_KEY)


def _collect_dates(lake: Lake, tables: Iterable[str], key: str) -> set[date]:
    """Return the dates under a key of the commits' metadata of tables."""
    commits = (commit for table in tables for commit in _list_commits(open_table_or_none(lake.uri(table))))
    return {date.fromisoformat(day) for commit in commits for day in commit.get(key, "").split()}


def _list_commits(delta: Optional[DeltaTable]) -> list[dict[str, Any]]:
    """Return the commits of a table that its log still has, newest first."""
    return [] if delta is None else list(delta.history())


def _list_written_versions(run: RunRecord) -> dict[str, int]:
    """Return the newest version of each table that a run has written."""
    return {table: version for attempt in run.stages for table, version in attempt.tables_written.items()}


def _open_after_run(lake: Lake, table: str, run: RunRecord, written: Optional[int]) -> Optional[DeltaTable]:
    """Return a table as it was after a run: the version that the run wrote, else the newest at the run's end."""
    if written is not None:
        return _open_version(lake, table, written)
    return _open_at(lake, table, parse_timestamp(run.ended_at) if run.ended_at else datetime.now(timezone.utc))


def _open_at(lake: Lake, table: str, moment: datetime) -> Optional[DeltaTable]:
    """Return a table as it was at a moment; None if it did not exist yet."""
    commits = _list_commits(open_table_or_none(lake.uri(table)))
    earlier = [commit["version"] for commit in commits if commit["timestamp"] <= moment.timestamp() * 1000]
    if earlier:
        return _open_version(lake, table, max(earlier))
    if commits and commits[-1]["version"] > 0:
        raise LakeError(
            f"The log of {table} at {lake.uri(table)} no longer reaches back to {moment:%Y-%m-%d}; give a later date."
        )
    return None


def _open_version(lake: Lake, table: str, version: int) -> DeltaTable:
    """Return a table at a version whose files still exist."""
    uri = lake.uri(table)
    newest = open_table_or_none(uri)
    if newest is None or newest.version() < version:
        known = "does not exist" if newest is None else f"has versions up to {newest.version()}"
        raise UsageError(f"{table} at {uri} {known}, so there is no version {version}.")
    lost = f"Version {version} of {table} at {uri} can no longer be read: its files were removed by a vacuum or an erasure."
    try:
        delta = open_table(uri, version)
    except (DeltaError, OSError) as error:
        raise LakeError(lost) from error
    if not set(open_dataset(delta).files) <= set(Store(uri).keys()):
        raise LakeError(lost)
    return delta


def _compare(
    settings: Settings, pairs: Iterable[_Pair], before: str, after: str, dates: Optional[Iterable[date]], samples: int
) -> Comparison:
    database = open_database(share=ENGINE_SHARE, timezone=settings.timezone)
    try:
        tables = [_diff(database, pair, samples) for pair in pairs if pair.before is not None or pair.after is not None]
    except duckdb.Error as error:
        raise query_error(error) from error
    finally:
        database.close()
    return Comparison(before=before, after=after, dates=None if dates is None else sorted(dates), tables=tables)


class _Rows(NamedTuple):
    """A view of the rows of one side, and its columns."""

    view: str
    columns: list[str]


def _diff(database: duckdb.DuckDBPyConnection, pair: _Pair, samples: int) -> TableDiff:
    sides = [
        None if delta is None else _show_rows(database, f"{side} stored", delta, pair)
        for side, delta in (("before", pair.before), ("after", pair.after))
    ]
    there = [rows for rows in sides if rows is not None]
    before, after = (
        None if rows is None else _select_rows(database, side, rows, there, pair)
        for side, rows in zip(("before", "after"), sides)
    )
    return diff_tables(database, pair.contract, before, after, samples=samples)


def _show_rows(database: duckdb.DuckDBPyConnection, name: str, delta: DeltaTable, pair: _Pair) -> _Rows:
    """Make a version of a table readable in the database."""
    rows = _open_rows(delta, pair)
    database.register(f"{name} files", rows)
    files, view = quote(f"{name} files"), quote(name)
    shown = shown_columns_sql(files, rows.schema, pair.contract) or f"SELECT * FROM {files}"
    database.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS {shown}")
    return _Rows(view, [column for column, *_ in database.execute(f"DESCRIBE {view}").fetchall()])


def _open_rows(delta: DeltaTable, pair: _Pair) -> ds.Dataset:
    """Return the files of a version, without those that have other dates only."""
    rows = open_dataset(delta, select_files(list_data_files(delta), pair.dates))
    return rows if memory_limit() is None else sequential_dataset(rows)


def _select_rows(database: duckdb.DuckDBPyConnection, name: str, rows: _Rows, sides: Sequence[_Rows], pair: _Pair) -> str:
    """Create a view of the rows and columns of a side that are compared, and return its name."""
    selected = f"({_restrict_sql(rows, sides, pair)})"
    others = [each for each in rows.columns if each not in pair.contract.columns]
    if others:
        # A column that was removed from the contract stays in the files. Without values it is no longer in use.
        counts = database.execute(f"SELECT {', '.join(f'count({quote(each)})' for each in others)} FROM {selected}").fetchall()
        unused = [quote(each) for each, count in zip(others, counts[0]) if not count]
        if unused:
            selected = f"(SELECT * EXCLUDE ({', '.join(unused)}) FROM {selected})"
    database.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {selected}")
    return name


def _restrict_sql(rows: _Rows, sides: Sequence[_Rows], pair: _Pair) -> str:
    """Return a query for the rows of the compared dates.

    In silver, a row belongs to the dates if its key landed on one of them on either side: another date's version of the row
    may be the newest on the other side.
    """
    contract = pair.contract
    column = LANDED_ON if contract.layer == "silver" else contract.date_column
    every = f"SELECT * FROM {rows.view}"
    if pair.dates is None or column is None:
        return every
    listed = ", ".join(f"DATE {literal(day.isoformat())}" for day in sorted(pair.dates))
    of_dates = f"{quote(column)} IN ({listed})" if listed else "FALSE"
    if contract.layer != "silver" or not all(set(contract.key) <= set(side.columns) for side in sides):
        return f"{every} WHERE {of_dates}"
    key = ", ".join(map(quote, contract.key))
    keys = " UNION ".join(f"SELECT {key} FROM {side.view} WHERE {of_dates}" for side in sides)
    return f"{every} SEMI JOIN ({keys}) USING ({key})"
