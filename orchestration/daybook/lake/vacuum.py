"""Remove files that are needed neither by the newest version of a table nor by a version that a recent run has recorded.

deltalake's own vacuum with ``keep_versions`` is experimental, commits two versions to each table, has no safety margin for
files that no version contains yet, and fails at a version whose log entry is gone. So the files of versions are read from the
log here and compared with deltalake's list for the oldest and the newest of them.

The plan lists single files, so files that are written meanwhile are not affected. The next vacuum completes an interrupted one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, Optional
from urllib.parse import unquote

from deltalake.exceptions import DeltaError, TableNotFoundError

from daybook.errors import LakeError, UsageError
from daybook.lake.delta import open_table
from daybook.lake.rewrite import LOG_FOLDER, StoredTable, is_unfinished_log_file, list_orphan_files, list_tables, upgrade_table
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.models import RunRecord
from daybook.storage import ObjectInfo, Store

SAFETY_MARGIN = timedelta(days=1)
"""Versions that were the newest within this time stay, and so do younger files: a run in progress may need them."""
_RESUMABLE_OUTCOMES = ("FAILED", "RUNNING")
"""Outcomes of runs that may continue. They need their candidates and the versions that those were computed from."""


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
    tables = [*list_tables(root), *_list_development_candidates(root)]
    if tables and not records:
        raise UsageError(
            f"The archive {archive.store.uri} has no runs, so it is unknown which versions of the tables in {root} are in use; "
            "name the archive that belongs to this lake."
        )
    pinned = find_pinned_versions(records, since=at - keep)
    none: frozenset[int] = frozenset()
    # No record names a version of a development copy: its user reads the newest only.
    removals = [_plan_table(each, none if each.development else pinned.get(each.full_name, none), at) for each in tables]
    resumable = find_resumable_runs(records, since=at - keep)
    over = {record.run_id for record in records} - resumable
    planned = tuple(f"{each.uri}/" for each in tables)
    orphans = []
    for entry in list_orphan_files(root):
        layer, _, rest = entry.key.partition("/")
        run_id = rest.split("/")[0] if layer == "candidate" else ""
        obsolete = run_id in over or (run_id not in resumable and entry.modified < at - SAFETY_MARGIN)
        if obsolete and not f"{root.rstrip('/')}/{entry.key}".startswith(planned):
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
    """Return by table the versions that runs, of which any stage began since then, have read, written or computed from."""
    pinned: dict[str, set[int]] = {}
    for record in records:
        if record.outcome != "RUNNING" and _last_started_at(record) < since:
            continue
        for attempt in record.stages:
            for versions in (attempt.tables_read, attempt.tables_written, attempt.details.snapshot):
                for table, version in versions.items():
                    pinned.setdefault(table, set()).add(version)
    return {table: frozenset(versions) for table, versions in pinned.items()}


def find_resumable_runs(records: Sequence[RunRecord], *, since: datetime) -> set[str]:
    """Return the runs that may continue: those in progress, and failed ones since then whose date has no later run."""
    newest = {record.run_date: record.run_id for record in records}
    return {
        record.run_id
        for record in records
        if record.outcome in _RESUMABLE_OUTCOMES
        and (record.outcome != "FAILED" or (newest[record.run_date] == record.run_id and _last_started_at(record) >= since))
    }


def _last_started_at(record: RunRecord) -> datetime:
    return max(parse_timestamp(each) for each in (record.started_at, *(stage.started_at for stage in record.stages)))


def _list_development_candidates(root: str) -> list[StoredTable]:
    """Return the candidates in development copies, which each run of a notebook writes again."""
    store = Store(root)
    found = []
    for user in store.list_folders("dev"):
        for run in store.list_folders(f"dev/{user}/candidate"):
            for name in store.list_folders(f"dev/{user}/candidate/{run}"):
                place = f"dev/{user}/candidate/{run}/{name}"
                if store.keys(f"{place}/{LOG_FOLDER}"):
                    found.append(StoredTable(store.href(place), "candidate", name, user))
    return found


class _Commit(NamedTuple):
    """An entry of the log: its time, and the keys of the files that it added and removed."""

    at: datetime
    added: frozenset[str]
    removed: frozenset[str]


class _TableLog:
    """A table's log: the versions that can be read, and the files of each commit."""

    def __init__(self, table: StoredTable, entries: Sequence[ObjectInfo]) -> None:
        self.table = table
        self.store = Store(f"{table.uri}/{LOG_FOLDER}")
        self.entries = {each.key: each for each in entries}
        numbers = [(re.fullmatch(r"(\d{20})\.(json|checkpoint\.parquet)", key), key) for key in self.entries]
        jsons = {int(found[1]) for found, _ in numbers if found and found[2] == "json"}
        self.checkpoints = sorted({int(found[1]) for found, _ in numbers if found and found[2] != "json"})
        self.newest = max((*jsons, *self.checkpoints), default=-1)
        first = self.newest + 1
        while first - 1 in jsons:
            first -= 1
        # A checkpoint includes all earlier entries: the log is complete from the first one that all later entries follow.
        starts = [0] if first == 0 else [each for each in self.checkpoints if each >= first - 1]
        if not starts:
            raise LakeError(
                f"The log of {table.full_name} at {table.uri} is not complete (an entry before version {first} is missing); "
                "nothing was removed. Restore the table from a copy."
            )
        self.first = starts[0]
        """The oldest version that can be read."""
        self._commits: dict[int, _Commit] = {}

    def commit(self, version: int) -> _Commit:
        if version not in self._commits:
            self._commits[version] = self._read(version)
        return self._commits[version]

    def _read(self, version: int) -> _Commit:
        key = f"{version:020d}.json"
        at = self.entries[key].modified
        files: dict[str, set[str]] = {"add": set(), "remove": set()}
        for line in self.store.read(key).splitlines():
            action: dict[str, Any] = json.loads(line) if line.strip() else {}
            for kind, keys in files.items():
                if kind in action:
                    keys.add(self._file_key(action[kind]))
            if action.get("commitInfo", {}).get("timestamp"):
                at = datetime.fromtimestamp(action["commitInfo"]["timestamp"] / 1000, timezone.utc)
        return _Commit(at, frozenset(files["add"]), frozenset(files["remove"]))

    def _file_key(self, action: dict[str, Any]) -> str:
        if action.get("deletionVector") or "://" in action["path"]:
            raise LakeError(
                f"The log of {self.table.full_name} at {self.table.uri} has deletion vectors or files in other places, "
                "which Daybook does not write; nothing was removed. Vacuum it with the tool that wrote it."
            )
        return unquote(action["path"])

    def read_version_files(self, version: int) -> frozenset[str]:
        """Return the keys of a version's files according to deltalake."""
        try:
            delta = open_table(self.table.uri, version)
            # Not get_add_actions, which has the keys: deltalake 1.2.1 panics there on a table without files.
            uris = delta.file_uris()
        except (DeltaError, TableNotFoundError) as error:
            reason = str(error).splitlines()[0]
            raise LakeError(
                f"Version {version} of {self.table.full_name} at {self.table.uri} cannot be read ({reason}); "
                "nothing was removed. Restore the table from a copy."
            ) from error
        return frozenset(uri[len(delta.table_uri.rstrip("/")) + 1 :] for uri in uris)

    def files_by_version(self, versions: Sequence[int]) -> dict[int, frozenset[str]]:
        """Return the keys of the files of each version. The versions are sorted, and the last is the newest of the table."""
        live = self.read_version_files(versions[0])
        found = {versions[0]: live}
        for version in range(versions[0] + 1, versions[-1] + 1):
            commit = self.commit(version)
            live = live - commit.removed | commit.added
            if version in versions:
                found[version] = live
        if live != self.read_version_files(versions[-1]):
            raise LakeError(
                f"The log of {self.table.full_name} at {self.table.uri} does not match its newest version; nothing was "
                "removed. Restore the table from a copy."
            )
        return found

    def versions_since(self, since: datetime) -> set[int]:
        """Return the versions that were the newest at some moment since then."""
        version = self.newest
        found = {version}
        while version > self.first and self.commit(version).at >= since:
            version -= 1
            found.add(version)
        return found


def _plan_table(table: StoredTable, pinned: frozenset[int], at: datetime) -> TableVacuum:
    stored = Store(table.uri).list_objects("")
    log = _TableLog(
        table, [each._replace(key=each.key[len(LOG_FOLDER) + 1 :]) for each in stored if each.key.startswith(f"{LOG_FOLDER}/")]
    )
    wanted = {version for version in pinned if version <= log.newest}
    readable = sorted({version for version in wanted if version >= log.first} | log.versions_since(at - SAFETY_MARGIN))
    there = {each.key for each in stored}
    # A version that lacks a file was vacuumed before with a shorter retention.
    whole = {version: files for version, files in log.files_by_version(readable).items() if files <= there}
    if log.newest not in whole:
        raise LakeError(
            f"{table.full_name} at {table.uri} lacks files of its newest version; nothing was removed. Restore the table from "
            "a copy."
        )
    kept = sorted(whole)
    needed = frozenset().union(*whole.values())
    files = [
        each
        for each in stored
        if each.key not in needed
        and each.modified < at - SAFETY_MARGIN
        and not any(_is_hidden(part) for part in each.key.split("/"))
    ]
    start = max((each for each in log.checkpoints if log.first <= each <= kept[0]), default=0)
    entries = [each for each in stored if each.key.startswith(f"{LOG_FOLDER}/") and _is_obsolete_entry(each, start, at)]
    return TableVacuum(table, tuple(kept), tuple(sorted(wanted - set(kept))), tuple(files), tuple(entries))


def _is_obsolete_entry(entry: ObjectInfo, start: int, at: datetime) -> bool:
    """Return whether a log entry is not needed to read the log from this version's checkpoint on."""
    name = entry.key[len(LOG_FOLDER) + 1 :]
    number: Optional[re.Match[str]] = re.match(r"(\d{20})\.", name)
    if number and int(number[1]) < start:
        return True
    return is_unfinished_log_file(name) and entry.modified < at - SAFETY_MARGIN


def _is_hidden(part: str) -> bool:
    """Return whether Delta ignores a file or folder of this name. ``_delta_log`` is hidden, the partition ``_day=…`` is not."""
    return part.startswith(("_", ".")) and "=" not in part
