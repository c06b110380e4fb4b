"""Publishing: candidates become visible, one commit a table, and an older look at silver never covers a newer one."""

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
from daybook.lake.schema_evolution import stored_names
from daybook.lake.tables import Lake, overwrite

_APP_ID = "daybook.publish"
"""Delta refuses two commits at once that bear a transaction of one application: publications of a table come one by one,
the first two of a new table too, of which neither replaces a file of the other."""


@dataclass(frozen=True)
class LakeSnapshot:
    """Versions of tables at one moment (-1: not there yet), and of the gold tables at a moment before.

    Versions only grow, so of two snapshots of a lake the one with the greater ``number`` is the later, and knows all that the
    other knew. ``lake_id`` tells a lake that was begun anew.
    """

    lake_id: str
    versions: dict[str, int]
    published: dict[str, int] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return sum(version + 1 for version in self.versions.values())


class PublishResult(NamedTuple):
    """What came of publishing a table: whether this call made it, as which version, and the dates left to newer ones."""

    made: bool
    version: Optional[int]
    left_to_newer: list[date]


def take_lake_snapshot(lake: Lake, tables: Sequence[str], gold: Sequence[str], *, identified_by: str) -> LakeSnapshot:
    """The versions of ``tables`` at one moment: read again until two readings agree, between which nothing was written."""
    # Gold first: whatever a later snapshot publishes comes after these versions.
    published = {name: _version_number(lake.version(name)) for name in gold}
    last: Optional[dict[str, int]] = None
    while True:
        versions = {name: _version_number(lake.version(name)) for name in tables}
        if versions == last:
            return LakeSnapshot(lake.table_id(identified_by), versions, published)
        last = versions


def publish(
    lake: Lake, contract: Table, rows: pa.Table, dates: Sequence[date], snapshot: Optional[LakeSnapshot] = None
) -> PublishResult:
    """Make a candidate's rows visible, in one commit: they become all there is for ``dates`` (or the whole table where it has
    no partitions). A named run does so once; its next tries are told what the first one made.

    Dates (or the whole table) that a later ``snapshot`` has published are left as they are: that one was taken after this
    run's merges, so it holds everything that this run knew. Raises ``LakeError`` where the log no longer says who published.
    """
    table = contract.full_name
    lake.ensure_table(contract)
    by_date = bool(contract.partition_by)
    if by_date and not dates:
        return PublishResult(False, None, [])

    def run(delta: DeltaTable) -> PublishResult:
        commits = _commits_since(lake, delta, table, snapshot) if lake.run_id else []
        for commit in commits:
            if commit.get("daybook_run_id") == lake.run_id and "daybook_published" in commit:
                left = sorted(set(dates) - set(_published_dates(commit))) if by_date else []
                return PublishResult(False, int(commit["version"]), left)
        newer = [commit for commit in commits if _is_newer(commit, snapshot)]
        if newer and not by_date:
            return PublishResult(False, None, list(dates))
        taken = {day for commit in newer for day in _published_dates(commit)}
        left = [day for day in dates if day in taken]
        wanted = [day for day in dates if day not in taken]
        if left and not wanted:
            return PublishResult(False, None, left)
        predicate = None
        chosen = rows
        if by_date:
            column = contract.partition_by[0]
            (stored,) = stored_names(delta, [column])
            predicate = f"{stored} IN ({', '.join(repr(day.isoformat()) for day in wanted)})"
            if left:
                chosen = rows.filter(pc.is_in(rows[column], value_set=pa.array(wanted, pa.date32())))
        said = {"daybook_published": " ".join(day.isoformat() for day in wanted)}
        if snapshot is not None:
            said.update(daybook_lake=snapshot.lake_id, daybook_snapshot=str(snapshot.number))
        # A development copy has one writer, and its tables begin at version 0 while others stand at hundreds.
        transactions = [Transaction(_APP_ID, snapshot.number if snapshot else 1)] if lake.run_id else None
        overwrite(delta, chosen, predicate, lake.commit_properties(transactions, **said))
        return PublishResult(True, int(delta.version()), left)

    done = lake.commit(table, run)
    if done.version is not None:
        # Also of an earlier try: what stands there now may be another run's.
        lake.tables_written[table] = done.version
    return done


def _commits_since(lake: Lake, delta: DeltaTable, table: str, snapshot: Optional[LakeSnapshot]) -> list[dict[str, Any]]:
    """The commits of a gold table since the snapshot, newest first (all of them where there is no snapshot)."""
    now = int(delta.version())
    since = snapshot.published.get(table, -1) if snapshot else -1
    if since > now or snapshot is None:
        # Without a snapshot, or for a table that was begun anew: whatever the log has.
        return list(delta.history())
    if since == now:
        return []
    commits = list(delta.history(now - since))
    if len(commits) < now - since and since >= 0:
        raise LakeError(
            f"The log of {table} at {lake.uri(table)} no longer says who published since version {since}; "
            "run the date again from its 4_aggregate."
        )
    return commits


def _is_newer(commit: dict[str, Any], snapshot: Optional[LakeSnapshot]) -> bool:
    """Whether a commit published a later snapshot of the same lake."""
    if snapshot is None or commit.get("daybook_lake") != snapshot.lake_id:
        return False
    return int(commit["daybook_snapshot"]) > snapshot.number


def _published_dates(commit: dict[str, Any]) -> list[date]:
    return [date.fromisoformat(day) for day in commit["daybook_published"].split()]


def _version_number(version: Optional[int]) -> int:
    return -1 if version is None else version
