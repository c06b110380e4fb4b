"""Remove files that are needed neither by the newest version of a table nor by a version that a recent run has recorded.

deltalake's own vacuum with ``keep_versions`` is experimental, commits two versions to each table, has no safety margin for
files that no version contains yet, and fails at a version whose log entry is gone. So the versions that can be read are found
here; deltalake lists the files of each.

The plan lists single files, so files that are written meanwhile are not affected. The next vacuum completes an interrupted one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Optional

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from daybook.errors import LakeError, UsageError
from daybook.lake.delta import open_table
from daybook.lake.rewrite import (
    LOG_FOLDER,
    StoredTable,
    is_earlier_log_file,
    is_unfinished_log_file,
    list_orphan_files,
    list_tables,
    upgrade_table,
)
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.models import RunRecord
from daybook.storage import ObjectInfo, Store

SAFETY_MARGIN = timedelta(days=1)
"""Versions that were the newest within this time stay, and so do younger files: a run in progress may need them."""
_RESUMABLE_OUTCOMES = ("FAILED", "RUNNING")
"""Outcomes of runs that may continue. They need their candidates and the versions that those were computed from."""

_URL = re.compile(r"[a-z0-9]+:/")
"""Matches the key of a file outside of the table's folder. deltalake writes one slash only."""


@dataclass(frozen=True)
class TableVacuum:
    """The data files and log entries of a table to remove.

    ``kept_versions`` can be read afterwards. ``lost_versions`` are recorded by runs but could not be read before (an erasure
    removes all earlier versions).
    """

    table: StoredTable
    kept_versions: tuple[int, ...]
    lost_versions: tuple[int, ...]
    files: tuple[ObjectInfo, ...]
    entries: tuple[ObjectInfo, ...]


@dataclass(frozen=True)
class VacuumPlan:
    """The files of a lake to remove. ``orphans`` belong to no table: candidates of ended runs, and unfinished tables."""

    root: str
    removals: tuple[TableVacuum, ...]
    orphans: tuple[ObjectInfo, ...]

    @property
    def files(self) -> int:
        return sum(len(each.files) + len(each.entries) for each in self.removals) + len(self.orphans)

    @property
    def bytes(self) -> int:
        return total_bytes(self.orphans) + sum(total_bytes(each.files) + total_bytes(each.entries) for each in self.removals)


def total_bytes(entries: Iterable[ObjectInfo]) -> int:
    """Return the size of files in bytes."""
    return sum(each.size for each in entries)


def plan_vacuum(root: str, archive: Archive, *, keep: timedelta, at: datetime) -> VacuumPlan:
    """Return the files that a vacuum removes.

    Parameters
    ----------
    root, archive
        The lake's root, and the archive with the records of its runs.
    keep, at
        Versions recorded by runs that began within ``keep`` before ``at`` stay readable.

    Raises
    ------
    UsageError
        The archive has no runs, so the versions in use are unknown.
    LakeError
        A table's log is not complete.
    """
    records = [archive.run(run_id) for run_id in archive.run_ids()]
    # The candidates in development copies too, which each run of a notebook writes again.
    tables = list_tables(root, candidates=True)
    if tables and not records:
        raise UsageError(
            f"The archive {archive.store.uri} has no runs, so it is unknown which versions of the tables in {root} are in use; "
            "name the archive that belongs to this lake."
        )
    pinned = find_pinned_versions(records, since=at - keep)
    none: frozenset[int] = frozenset()
    removals = []
    for table in tables:
        # No record names a version of a development copy: its user reads the newest only.
        versions = none if table.development else pinned.get(table.full_name, none)
        try:
            removals.append(_plan_table(table, versions, at))
        except (DeltaError, TableNotFoundError) as error:
            raise _unreadable_error(table, "The log", error) from error
    resumable = find_resumable_runs(records, since=at - keep)
    over = {record.range_id or record.run_id for record in records} - resumable
    orphans = []
    for entry in list_orphan_files(root, tables):
        layer, _, rest = entry.key.partition("/")
        run_id = rest.split("/")[0] if layer == "candidate" else ""
        if run_id in over or (run_id not in resumable and entry.modified < at - SAFETY_MARGIN):
            orphans.append(entry)
    return VacuumPlan(root, tuple(removals), tuple(orphans))


def apply_vacuum(plan: VacuumPlan) -> None:
    """Remove the planned files. Any order is safe: no remaining version needs them."""
    for each in plan.removals:
        if each.table.layer != "candidate":
            # Set the properties that stop writers from cleaning the log after 30 days, which would remove recorded versions.
            upgrade_table(each.table)
        store = Store(each.table.uri)
        for entry in (*each.files, *each.entries):
            store.remove(entry.key)
    store = Store(plan.root)
    for entry in plan.orphans:
        store.remove(entry.key)


def find_pinned_versions(records: Iterable[RunRecord], *, since: datetime) -> dict[str, frozenset[int]]:
    """Return by table the versions that runs, of which any stage began since then, have read, written or computed from.

    Also those before what they have written, which a rollback restores.
    """
    pinned: dict[str, set[int]] = {}
    for record in records:
        if record.outcome != "RUNNING" and _last_started_at(record) < since:
            continue
        for attempt in record.stages:
            for versions in (attempt.tables_read, attempt.tables_written, attempt.details.snapshot):
                for table, version in versions.items():
                    pinned.setdefault(table, set()).add(version)
            for table, version in attempt.tables_written.items():
                pinned[table].add(max(version - 1, 0))
    return {table: frozenset(versions) for table, versions in pinned.items()}


def find_resumable_runs(records: Sequence[RunRecord], *, since: datetime) -> set[str]:
    """Return the runs that may continue: those in progress, and failed ones since then whose date has no later run.

    A range may continue if one of its date runs may.
    """
    newest = {record.run_date: record.run_id for record in records}
    return {
        record.range_id or record.run_id
        for record in records
        if record.outcome in _RESUMABLE_OUTCOMES
        and (record.outcome != "FAILED" or (newest[record.run_date] == record.run_id and _last_started_at(record) >= since))
    }


def _last_started_at(record: RunRecord) -> datetime:
    return max(parse_timestamp(each) for each in (record.started_at, *(stage.started_at for stage in record.stages)))


def _plan_table(table: StoredTable, pinned: frozenset[int], at: datetime) -> TableVacuum:
    since = at - SAFETY_MARGIN
    stored = Store(table.uri).list_objects()
    log = {each.key[len(LOG_FOLDER) + 1 :]: each for each in stored if each.key.startswith(f"{LOG_FOLDER}/")}
    checkpoints, first, newest = _find_readable_range(table, log)
    # Newest first, and only as many as can be young: older entries can be damaged, and deltalake never ends at a missing one.
    recent = sum(name.endswith(".json") and name >= f"{first:020d}" and each.modified >= since for name, each in log.items())
    history = open_table(table.uri, newest).history(max(recent, 1))
    young = takewhile(lambda commit: commit.get("timestamp", math.inf) >= since.timestamp() * 1000, history)
    wanted = {version for version in pinned if version <= newest}
    # A writer may have committed since the listing.
    used = {newest, *wanted, *(int(commit["version"]) - 1 for commit in young)}
    readable = sorted(version for version in used if first <= version <= newest)
    there = {each.key for each in stored}
    # A version that lacks a file was vacuumed before with a shorter retention.
    whole = {version: files for version, files in _list_version_files(table, readable).items() if files <= there}
    if newest not in whole:
        raise LakeError(
            f"{table.full_name} at {table.uri} lacks files of its newest version; nothing was removed. Restore the table from "
            "a copy."
        )
    kept = sorted(whole)
    needed = frozenset().union(*whole.values())
    files = [
        each
        for each in stored
        if each.key not in needed and each.modified < since and not any(_is_hidden(part) for part in each.key.split("/"))
    ]
    start = max((each for each in checkpoints if first <= each <= kept[0]), default=0)
    entries = [
        each
        for name, each in log.items()
        if is_earlier_log_file(name, start) or (is_unfinished_log_file(name) and each.modified < since)
    ]
    return TableVacuum(table, tuple(kept), tuple(sorted(wanted - set(kept))), tuple(files), tuple(entries))


def _find_readable_range(table: StoredTable, log: Iterable[str]) -> tuple[list[int], int, int]:
    """Return the versions with a checkpoint, the oldest version from which on the log is complete, and the newest."""
    numbers = [found for found in (re.fullmatch(r"(\d{20})\.(json|checkpoint\.parquet)", name) for name in log) if found]
    commits = {int(found[1]) for found in numbers if found[2] == "json"}
    checkpoints = sorted({int(found[1]) for found in numbers if found[2] != "json"})
    newest = max((*commits, *checkpoints), default=-1)
    first = newest + 1
    while first - 1 in commits:
        first -= 1
    # A checkpoint includes all earlier entries: the log is complete from the first one that all later entries follow.
    starts = [0] if first == 0 else [each for each in checkpoints if each >= first - 1]
    if not starts:
        raise LakeError(
            f"The log of {table.full_name} at {table.uri} is not complete (an entry before version {first} is missing); "
            "nothing was removed. Restore the table from a copy."
        )
    return checkpoints, starts[0], newest


def _list_version_files(table: StoredTable, versions: Sequence[int]) -> dict[int, frozenset[str]]:
    """Return the keys of the files of each version; the versions are sorted."""
    found = {}
    delta: Optional[DeltaTable] = None
    for version in versions:
        try:
            if delta is None:
                delta = open_table(table.uri, version)
            else:
                delta.load_as_version(version)
            # Not get_add_actions, which has the keys: deltalake 1.2.1 panics there on a table without files.
            uris = delta.file_uris()
        except (DeltaError, TableNotFoundError) as error:
            raise _unreadable_error(table, f"Version {version}", error) from error
        root = f"{delta.table_uri.rstrip('/')}/".removeprefix("file://")
        keys = frozenset(uri.removeprefix(root) for uri in uris)
        if "deletionVectors" in (delta.protocol().reader_features or ()) or any(map(_URL.match, keys)):
            raise LakeError(
                f"The log of {table.full_name} at {table.uri} has deletion vectors or files in other places, "
                "which Daybook does not write; nothing was removed. Vacuum it with the tool that wrote it."
            )
        found[version] = keys
    return found


def _unreadable_error(table: StoredTable, part: str, error: Exception) -> LakeError:
    return LakeError(
        f"{part} of {table.full_name} at {table.uri} cannot be read ({str(error).splitlines()[0]}); nothing was removed. "
        "Restore the table from a copy."
    )


def _is_hidden(part: str) -> bool:
    """Return whether Delta ignores a file or folder of this name. ``_delta_log`` is hidden, the partition ``_day=…`` is not."""
    return part.startswith(("_", ".")) and "=" not in part
