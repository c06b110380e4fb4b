"""Publish gold candidates: one commit a table. Rows from an older snapshot of silver never replace rows from a newer one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple, Optional

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Transaction

from daybook.contracts import Table
from daybook.errors import LakeError
from daybook.lake.layout import dates_predicate
from daybook.lake.schema_evolution import stored_names
from daybook.lake.tables import Lake, overwrite

PUBLISHED_DATES_KEY = "daybook_published"
"""Key of a commit's metadata with the business dates that it published, separated by blanks."""
PUBLISH_APP_ID = "daybook.publish"
"""Delta rejects one of two concurrent commits with a transaction of the same application. So publications of a table are
serial, also the first two of a new table, where neither replaces a file of the other."""

ROLLED_BACK_KEY = "daybook_rolled_back"
"""In the log, the key of a rollback's commit with the run whose publication it takes back. That no longer counts as newer."""


@dataclass(frozen=True)
class LakeSnapshot:
    """The versions of tables at one moment (-1: no such table), and of the gold tables at an earlier moment.

    Versions only grow, so of two snapshots of a lake the one with the greater ``sequence_number`` is later. ``lake_id``
    identifies the lake: it is another one after the lake was deleted and created again.
    """

    lake_id: str
    versions: dict[str, int]
    published: dict[str, int] = field(default_factory=dict)

    @property
    def sequence_number(self) -> int:
        return sum(version + 1 for version in self.versions.values())


class PublishResult(NamedTuple):
    """The result of publishing a table: whether this call committed, the version, and the dates that a newer snapshot keeps."""

    committed: bool
    version: Optional[int]
    superseded_dates: list[date]


def take_lake_snapshot(lake: Lake, tables: Sequence[str], gold: Sequence[str], *, identified_by: str) -> LakeSnapshot:
    """Return the versions of tables at one moment.

    Parameters
    ----------
    lake
        The lake of the run.
    tables
        The tables that gold is computed from. They are read until two readings agree: nothing was written in between.
    gold
        The tables to publish.
    identified_by
        The table whose id identifies the lake.
    """
    # Gold first: whatever a later snapshot publishes comes after these versions.
    published = _read_versions(lake, gold)
    last: Optional[dict[str, int]] = None
    while True:
        versions = _read_versions(lake, tables)
        if versions == last:
            return LakeSnapshot(lake.table_id(identified_by), versions, published)
        last = versions


def publish(
    lake: Lake, contract: Table, rows: pa.Table, dates: Sequence[date], snapshot: Optional[LakeSnapshot] = None
) -> PublishResult:
    """Publish the rows of a candidate in one commit.

    Parameters
    ----------
    lake, contract
        The lake of the run, and the table's contract.
    rows, dates
        All rows of the table for the dates, or of the whole table if it has no dates. They replace the earlier ones.
    snapshot
        What the rows were computed from. Dates (or the whole table) that a later snapshot has published stay as they are: that
        snapshot was taken after this run's merges, so it includes everything that this run knew.

    Returns
    -------
    PublishResult
        A named run publishes a table once; a retry gets the result of its first try.

    Raises
    ------
    LakeError
        The log no longer has the commits since the snapshot.
    """
    table = contract.full_name
    lake.ensure_table(contract)
    by_date = contract.date_column is not None
    if by_date and not dates:
        return PublishResult(False, None, [])

    def run(delta: DeltaTable) -> PublishResult:
        commits = _commits_since(lake, delta, table, snapshot) if lake.run_id else []
        own = (commit for commit in commits if commit.get("daybook_run_id") == lake.run_id and PUBLISHED_DATES_KEY in commit)
        earlier = next(own, None)
        if earlier is not None:
            superseded = sorted(set(dates) - set(published_dates(earlier))) if by_date else []
            return PublishResult(False, int(earlier["version"]), superseded)
        undone = {commit.get(ROLLED_BACK_KEY) for commit in commits}
        newer = [each for each in commits if _is_newer(each, snapshot) and each.get("daybook_run_id") not in undone]
        taken = {day for commit in newer for day in (published_dates(commit) if by_date else dates)}
        superseded = [day for day in dates if day in taken]
        wanted = [day for day in dates if day not in taken]
        if newer and not wanted:
            return PublishResult(False, None, superseded)
        chosen = rows
        if superseded:
            chosen = rows.filter(pc.is_in(rows[contract.date_column], value_set=pa.array(wanted, pa.date32())))
        _replace_dates(lake, delta, contract, chosen, wanted, snapshot)
        return PublishResult(True, int(delta.version()), superseded)

    done = lake.commit(table, run)
    if done.version is not None:
        # Also after an earlier try: another run may have written the newest version.
        lake.tables_written[table] = done.version
    return done


def _replace_dates(
    lake: Lake, delta: DeltaTable, contract: Table, rows: pa.Table, dates: list[date], snapshot: Optional[LakeSnapshot]
) -> None:
    """Commit the rows of these dates, or all rows of a table without dates."""
    predicate = None
    if contract.date_column:
        predicate = dates_predicate(stored_names(delta, [contract.date_column])[0], dates)
    details = publication_details(dates, snapshot)
    # Not for a development copy: it has one writer, and its tables begin at version 0 while others have hundreds.
    transactions = [Transaction(PUBLISH_APP_ID, snapshot.sequence_number if snapshot else 1)] if lake.run_id else None
    overwrite(delta, rows, predicate, lake.commit_properties(transactions, **details))


def publication_details(dates: Sequence[date], snapshot: Optional[LakeSnapshot]) -> dict[str, str]:
    """Return what the log has about a publication: its dates, and the number of the snapshot that it was computed from."""
    details = {PUBLISHED_DATES_KEY: " ".join(day.isoformat() for day in dates)}
    if snapshot is not None:
        details.update(daybook_lake=snapshot.lake_id, daybook_snapshot=str(snapshot.sequence_number))
    return details


def published_dates(commit: dict[str, Any]) -> list[date]:
    """Return the dates that a commit published, by its details in the log; none if it published nothing."""
    return [date.fromisoformat(day) for day in commit.get(PUBLISHED_DATES_KEY, "").split()]


def _commits_since(lake: Lake, delta: DeltaTable, table: str, snapshot: Optional[LakeSnapshot]) -> list[dict[str, Any]]:
    """Return the commits of a gold table since the snapshot, newest first; all of them without a snapshot."""
    now = int(delta.version())
    since = snapshot.published.get(table, -1) if snapshot else -1
    if since > now or snapshot is None:
        # The table was created again since, or there is no snapshot.
        return list(delta.history())
    if since == now:
        return []
    commits = list(delta.history(now - since))
    if len(commits) < now - since and since >= 0:
        raise LakeError(
            f"The log of {table} at {lake.uri(table)} no longer has all commits since version {since}; "
            "run the date again from its 4_aggregate."
        )
    return commits


def _is_newer(commit: dict[str, Any], snapshot: Optional[LakeSnapshot]) -> bool:
    """Return whether a commit published a later snapshot of the same lake."""
    if snapshot is None or commit.get("daybook_lake") != snapshot.lake_id:
        return False
    return int(commit["daybook_snapshot"]) > snapshot.sequence_number


def _read_versions(lake: Lake, tables: Sequence[str]) -> dict[str, int]:
    versions = {name: lake.version(name) for name in tables}
    return {name: -1 if version is None else version for name, version in versions.items()}
