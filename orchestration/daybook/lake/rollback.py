"""Find the rows that tables had before a run, and restore the rows of gold.

Every commit names its run in the log of the table. A publication that was itself taken back does not count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Optional

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable, Transaction
from deltalake.exceptions import DeltaError

from daybook.contracts import Table
from daybook.errors import LakeError
from daybook.lake.delta import column_expression, open_table_or_none, scanner_columns
from daybook.lake.layout import dates_predicate
from daybook.lake.publish import (
    PUBLISH_APP_ID,
    PUBLISHED_DATES_KEY,
    ROLLED_BACK_KEY,
    LakeSnapshot,
    publication_details,
    published_dates,
)
from daybook.lake.schema_evolution import stored_names
from daybook.lake.tables import Lake, overwrite

_ID_PREFIX = "rollback-"
_KNOWN_WRITERS = ("daily-", "range-", _ID_PREFIX, "dev/", "migrate")
"""How the names of writers begin that change rows of dates. Others, such as an erasure, change the rows of persons."""

Part = Optional[date]
"""What a publication replaces: a date, or None for the whole of a table without dates."""


def rollback_id(run_id: str) -> str:
    """Return the name with which a run's rollback signs its commits."""
    return f"{_ID_PREFIX}{run_id}"


@dataclass(frozen=True)
class Commit:
    """One commit of a table.

    ``published`` has what it replaced for readers; None if that is nothing. Of a rollback, these are the dates that it removes.
    Dates that it restores belong to the run that published them before.
    """

    version: int
    writer: str
    operation: str
    published: Optional[frozenset[Part]] = None


@dataclass(frozen=True)
class Restoration:
    """What a rollback does with a gold table.

    ``versions`` has for each part of the run's publication the version with the rows to restore. ``later`` are the parts that
    another run has published since: they stay as they are.
    """

    contract: Table
    versions: dict[Part, int]
    later: frozenset[Part]

    @property
    def dates(self) -> list[date]:
        """The dates to restore, sorted; none for a table without dates."""
        return sorted(day for day in self.versions if day is not None)


def list_commits(lake: Lake, table: str, contract: Optional[Table] = None) -> list[Commit]:
    """Return the commits in the log of a table, oldest first; with the contract of a gold table, what they published."""
    delta = open_table_or_none(lake.uri(table))
    found = []
    for each in reversed(delta.history() if delta is not None else []):
        published: Optional[frozenset[Part]] = None
        if contract is not None and PUBLISHED_DATES_KEY in each:
            days: list[Part] = [*published_dates(each)]
            published = frozenset(days if contract.date_column else [None])
        found.append(Commit(int(each["version"]), each.get("daybook_run_id", ""), each.get("operation", ""), published))
    return found


def find_version_before(table: str, commits: Sequence[Commit], writers: Collection[str]) -> Optional[int]:
    """Return the version of a table before the first commit of these writers; None if it has no commit of them."""
    first = next((each.version for each in commits if each.writer in writers), None)
    if first is None:
        return None
    _require_same_persons(table, commits, first)
    return first - 1


def find_restoration(lake: Lake, contract: Table, run_id: str, undone: Collection[str]) -> Optional[Restoration]:
    """Return what the rollback of a run does with a gold table; None if the run did not publish it.

    Parameters
    ----------
    lake, contract, run_id
        The lake, the table's contract and the run.
    undone
        Runs that were rolled back. Rows that they published are not restored.
    """
    commits = list_commits(lake, contract.full_name, contract)
    made = [each for each in commits if each.published is not None]
    own = next((each for each in made if each.writer == run_id), None)
    if own is None:
        return None
    versions: dict[Part, int] = {}
    later: set[Part] = set()
    for part in own.published or ():
        of_part = [each for each in made if part in (each.published or ())]
        standing = [each.version for each in of_part if each.writer != run_id and each.writer not in undone]
        if any(version > own.version for version in standing):
            later.add(part)
            continue
        # The rows of the newest publication that stands are there until the first one after it.
        base = max(standing, default=-1)
        versions[part] = min(each.version for each in of_part if each.version > base) - 1
    if versions:
        _require_same_persons(contract.full_name, commits, min(versions.values()) + 1)
    return Restoration(contract, versions, frozenset(later))


def has_commits_of_others(commits: Sequence[Commit], since: int, known: Collection[str]) -> bool:
    """Return whether writers other than the known ones and their rollbacks have changed a table since a version."""
    if not commits or commits[0].version > since + 1:
        return True
    known = {"", *known, *map(rollback_id, known)}
    return any(each.version > since and each.writer not in known for each in commits)


def open_version(lake: Lake, table: str, version: int, landed: Optional[date] = None) -> ds.Dataset:
    """Return a table at an earlier version, with ``landed`` the rows of that business date. All files can be read.

    Raises ``LakeError`` if files of the version were removed.
    """
    pinned = dict(lake.pinned)
    lake.pin({**pinned, table: version})
    try:
        rows = lake.dataset(table, None if landed is None else [landed])
        if rows is not None:
            rows.count_rows()
    except (DeltaError, OSError):
        rows = None
    finally:
        lake.pin(pinned)
    if rows is None:
        raise versions_gone_error(table)
    return rows


def versions_gone_error(table: str) -> LakeError:
    """Return the error for a table of which the versions to restore are no longer there."""
    return LakeError(
        f"The earlier versions of {table} that the rollback needs were removed by a vacuum, an erasure or a rekey; nothing was "
        "changed, so correct the data or the notebook, and run the date again."
    )


def read_restored_rows(lake: Lake, restoration: Restoration) -> pa.Table:
    """Return the rows that a rollback restores in a gold table. Raises ``LakeError`` if their versions were removed."""
    contract = restoration.contract
    found = [contract.arrow_schema.empty_table()]
    for version in sorted(set(restoration.versions.values())):
        rows = open_version(lake, contract.full_name, version)
        asked = None
        if contract.date_column:
            days = [day for day, source in restoration.versions.items() if source == version]
            asked = column_expression(rows.schema, contract.date_column).isin(pa.array(days, pa.date32()))
        read = rows.to_table(columns=scanner_columns(rows.schema, contract.arrow_schema.names), filter=asked)
        found.append(read.cast(contract.arrow_schema))
    return pa.concat_tables(found)


def restore_gold(lake: Lake, restoration: Restoration, run_id: str, removed: Sequence[date], snapshot: LakeSnapshot) -> None:
    """Restore the rows of a gold table in one commit, unless an earlier try has done it.

    Parameters
    ----------
    lake
        The lake, with the rollback as its run.
    restoration, run_id
        The rows to restore, and the run that is rolled back.
    removed
        Dates whose rows are removed.
    snapshot
        What silver is after the rollback. A run that read it before does not publish the removed dates again. Restored dates
        are older: any run may publish them.
    """
    contract = restoration.contract
    lake.ensure_table(contract)
    rows = read_restored_rows(lake, restoration)
    dates = sorted({*restoration.dates, *removed})
    if contract.date_column:
        kept = pc.invert(pc.is_in(rows[contract.date_column], value_set=pa.array(removed, pa.date32())))
        rows = rows.filter(kept)

    def run(delta: DeltaTable) -> None:
        if any(commit.get(ROLLED_BACK_KEY) == run_id for commit in delta.history()):
            return
        predicate = None
        if contract.date_column:
            predicate = dates_predicate(stored_names(delta, [contract.date_column])[0], dates)
        details = {ROLLED_BACK_KEY: run_id, **(publication_details(removed, snapshot) if removed else {})}
        commit = lake.commit_properties([Transaction(PUBLISH_APP_ID, snapshot.sequence_number)], **details)
        overwrite(delta, rows, predicate, commit)

    if dates or None in restoration.versions:
        lake.commit(contract.full_name, run)


def _require_same_persons(table: str, commits: Sequence[Commit], since: int) -> None:
    """Raise ``LakeError`` if an erasure or a rekey has changed a table since: earlier rows may have an erased person."""
    if any(each.version >= since and each.writer and not each.writer.startswith(_KNOWN_WRITERS) for each in commits):
        raise versions_gone_error(table)
