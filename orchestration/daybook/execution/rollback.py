"""Take back the publication of a run: silver and gold are as before it for its dates. See docs/rollback.md.

1. Check everything, and change nothing: the run is its date's newest publication, and the versions to restore can be read.
2. Write the record with the name and the reason.
3. Merge into silver, as the rows of the run's date, those that it had before the run. Changed business dates are noted first.
4. Restore the lists of landed and of held dates.
5. Note the dates whose gold only a recomputation can give, for the next run of any date.
6. Restore gold, one commit a table.
7. Note all dates of the run for the next run of its date, and close the record.

Each step gives the same result again, so a second call finishes a killed one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Optional

import pyarrow as pa
import pyarrow.dataset as ds

from daybook.contracts import Table, load_tables
from daybook.contracts.canonical import business_date_column, business_date_table
from daybook.contracts.model import VERSION_AT
from daybook.engines import DuckDBEngine, ViewEngine
from daybook.errors import DaybookError, UsageError
from daybook.execution.openlineage import build_rollback_events, format_json_lines, post_events
from daybook.lake.delta import column_expression, scanner_columns, with_columns
from daybook.lake.publish import LakeSnapshot, take_lake_snapshot
from daybook.lake.rewrite import require_no_active_run
from daybook.lake.rollback import (
    Part,
    Restoration,
    find_restoration,
    find_version_before,
    has_commits_of_others,
    list_commits,
    open_version,
    read_restored_rows,
    restore_gold,
    rollback_id,
    versions_gone_error,
)
from daybook.lake.tables import RUN_DATE_COLUMN, Lake
from daybook.notebook.context import Stage
from daybook.notebook.derived_columns import define_derivations
from daybook.notebook.stale_dates import ANY_RUN_DATE, HELD_DATES, LANDED_DATES, STALE_DATES, mark_stale_dates, mark_stale_pairs
from daybook.notebook.transform import merge_new_rows
from daybook.privacy.erasure.plan import list_unfinished
from daybook.privacy.run_values import build_redactor
from daybook.records.archive import Archive, current_timestamp, parse_timestamp
from daybook.records.fingerprint import code_version
from daybook.records.leases import HeldLeases, lease_dates, release_dates
from daybook.records.locks import DateLocks
from daybook.records.models import SCHEMA_VERSION, CodeVersion, RestoredTable, RollbackRecord, RunRecord
from daybook.records.names import STAGES, list_range
from daybook.scheduling.freshness import has_published, is_published
from daybook.settings import Settings, daybook_home
from daybook.sources import load_source
from daybook.sources.mapping import quote
from daybook.storage import is_bucket

_log = logging.getLogger(__name__)
_COMMAND = "`daybook rollback`"


@dataclass(frozen=True)
class RollbackPlan:
    """What a rollback of a run does, as far as it is known before silver is merged."""

    run: RunRecord
    shows: dict[date, str]
    """By date of the run, the earlier run whose publication shows again."""
    undone: frozenset[str]
    """Runs that were rolled back, this one included, with the date runs of ranges."""
    silver: dict[str, int]
    """By silver table, the version of its ``versions`` table with the rows that the dates had before."""
    control: dict[str, int]
    """By list of dates (landed, held), the version with the rows of the dates before."""
    gold: list[Restoration]
    removed: list[date]
    """Dates whose rows gold loses: those of the run that had not landed before."""
    answered: list[date]
    """Dates that waited for a run of any date, and that the run has computed."""

    @property
    def dates(self) -> list[date]:
        """The business dates of the run."""
        return list_range(self.run.run_id)

    @property
    def published(self) -> set[date]:
        return {day for each in self.gold for day in (*each.dates, *_dates(each.later))}

    @property
    def later(self) -> set[date]:
        """Dates that other runs have published since."""
        return {day for each in self.gold for day in _dates(each.later)}

    @property
    def restored(self) -> list[date]:
        """Dates whose rows in gold are as before the run."""
        return sorted({day for each in self.gold for day in each.dates} - {*self.removed, *self.later})

    @property
    def whole_tables(self) -> list[str]:
        """Tables without dates. Every run computes them from all dates."""
        return [each.contract.full_name for each in self.gold if not each.contract.date_column]


def plan_rollbacks(settings: Settings, run_ids: Sequence[str], *, while_running: bool = False) -> list[RollbackPlan]:
    """Return what the rollbacks of runs do, one after the other; nothing is changed.

    Parameters
    ----------
    settings, run_ids
        The deployment and the runs, newest first.
    while_running
        Whether a run of another date may be in progress.

    Raises
    ------
    UsageError
        If a run cannot be rolled back: it is unknown, published nothing, was rolled back before, is not the newest
        publication of each of its dates, or is the date run of a range.
    LakeError
        If versions that are needed were removed.
    """
    archive = Archive(settings.archive)
    runs = {run_id: archive.run(run_id) for run_id in [*archive.run_ids(), *archive.range_ids()]}
    if not while_running:
        require_no_active_run(archive, _COMMAND)
    if list_unfinished(settings.lake):
        raise UsageError(
            "An erasure is not finished, so earlier rows may have the person; finish it with `daybook erase --again`."
        )
    lake = Lake(settings.lake)
    plans: list[RollbackPlan] = []
    for run_id in run_ids:
        if run_id not in runs:
            raise UsageError(f"There is no run {run_id}; `daybook runs` lists them.")
        undone = {each.run_id for each in runs.values() if each.rolled_back}.union(*(each.undone for each in plans))
        plans.append(_plan(lake, runs[run_id], list(runs.values()), undone))
    return plans


def find_publications_since(settings: Settings, table: str, version: int) -> list[str]:
    """Return the runs that published a gold table after a version and were not rolled back, newest first."""
    contract = load_tables("gold").get(table)
    if contract is None:
        raise UsageError(f"{table} is no gold table; --table takes one of: {', '.join(load_tables('gold'))}.")
    commits = list_commits(Lake(settings.lake), table, contract)
    newest = commits[-1].version if commits else -1
    if not 0 <= version <= newest:
        raise UsageError(f"{table} has no version {version}; its newest is {newest}.")
    if commits[0].version > version + 1:
        raise versions_gone_error(table)
    archive = Archive(settings.archive)
    known = {*archive.run_ids(), *archive.range_ids()}
    made = [each.writer for each in reversed(commits) if each.published is not None and each.version > version]
    found = [writer for writer in dict.fromkeys(made) if writer in known and not _is_finished(archive, writer)]
    if not found:
        raise UsageError(f"No run that stands has published {table} since version {version}, so there is nothing to roll back.")
    return found


def roll_back(settings: Settings, run_id: str, *, by: str, why: str, while_running: bool = False) -> RollbackRecord:
    """Take back the publication of a run, or finish a killed try.

    Parameters
    ----------
    settings, run_id
        The deployment and the run.
    by, why
        Who takes it back, and the reason. The record of a killed try keeps its own.
    while_running
        Whether a run of another date may be in progress.

    Returns
    -------
    RollbackRecord
        The record as it is archived.

    Raises
    ------
    UsageError, LakeError
        As ``plan_rollbacks``; nothing was changed.
    DateLockedError
        If a run of the date is in progress.
    """
    if not why.strip():
        raise UsageError("A rollback needs a reason: --reason TEXT.")
    archive = Archive(settings.archive)
    with _lock(settings, run_id) as leases:
        (plan,) = plan_rollbacks(settings, [run_id], while_running=while_running)
        started = plan.run.rolled_back
        if started is None:
            started = RollbackRecord(
                record="rollback",
                schema_version=SCHEMA_VERSION,
                run_id=run_id,
                run_date=plan.run.run_date,
                env=settings.env,
                by=by,
                # The reason goes into the archive, so it is redacted like everything there.
                why=build_redactor(settings, run_id).redact_text(why.strip()),
                started_at=current_timestamp(),
                code=CodeVersion(**code_version()),
            )
            archive.write_rollback(started)
        lake = Lake(settings.lake, run_id=rollback_id(run_id), leases=leases)
        stale_dates, stale_tables = _restore(settings, lake, plan)
        record = started.changed(
            ended_at=current_timestamp(),
            tables=_list_changed_tables(lake, plan),
            shows=None if plan.run.is_range else plan.shows.get(plan.run.run_date),
            restored_dates=plan.restored,
            removed_dates=plan.removed,
            stale_dates=stale_dates,
            stale_tables=stale_tables,
        )
        archive.write_rollback(record)
    _write_lineage_events(archive, settings, plan.run, record)
    return record


def _plan(lake: Lake, run: RunRecord, runs: Sequence[RunRecord], undone: Collection[str]) -> RollbackPlan:
    if run.range_id:
        raise UsageError(
            f"The date of {run.run_id} was run together with others; roll back {run.range_id}, or run the date again."
        )
    dates, own = list_range(run.run_id), {run.run_id, *(each.run_id for each in run.dates.values())}
    shows: dict[date, str] = {}
    writers: set[str] = set()
    for day in dates:
        of_date = [each for each in runs if each.run_date == day and not each.is_range]
        number = next(place for place, each in enumerate(of_date) if each.run_id in own)
        _require_newest_publication(run, [each for each in of_date[number + 1 :] if each.run_id not in undone])
        # Later runs of the date, which did not publish, have replaced its rows too.
        writers.update(each.range_id or each.run_id for each in of_date[number:])
        earlier = [each.run_id for each in of_date[:number] if is_published(each) and each.run_id not in undone]
        shows.update({day: earlier[-1]} if earlier else {})
    undone = frozenset({*undone, *own})
    gold = [
        found
        for contract in load_tables("gold").values()
        if (found := find_restoration(lake, contract, run.run_id, undone)) is not None
    ]
    _require_publications(run, {each.contract.full_name for each in gold})
    silver, control = _find_earlier_rows(lake, run, writers)
    for each in gold:
        read_restored_rows(lake, each)
    landed = set(lake.run_dates(LANDED_DATES))
    if LANDED_DATES in control:
        landed = set(_read_dates(lake, LANDED_DATES, control[LANDED_DATES], dates)[RUN_DATE_COLUMN].to_pylist())
    return RollbackPlan(
        run=run,
        shows=shows,
        undone=undone,
        silver=silver,
        control=control,
        gold=gold,
        removed=[day for day in dates if day not in landed],
        answered=_find_answered_dates(lake, run),
    )


def _require_newest_publication(run: RunRecord, later: Iterable[RunRecord]) -> None:
    run_id = run.run_id
    if run.rolled_back and run.rolled_back.ended_at:
        raise UsageError(f"{run_id} was already rolled back, by {run.rolled_back.by} at {run.rolled_back.started_at[:19]} UTC.")
    if not has_published(run.outcome, run.stages):
        raise UsageError(f"The run {run_id} ended as {run.outcome} and published nothing, so there is nothing to roll back.")
    newer = [each.run_id for each in later if is_published(each)]
    if newer:
        raise UsageError(f"The date of {run_id} has been published again by {newer[-1]}; roll that run back first.")


def _require_publications(run: RunRecord, found: Collection[str]) -> None:
    """Raise an error if the run published no table, or the log of one of its tables lacks the publication."""
    expected = [
        table
        for attempt in run.stages
        for table, status in (attempt.details.publications or {}).items()
        if status == "published" and table in load_tables("gold")
    ]
    for table in expected:
        if table not in found:
            raise versions_gone_error(table)
    if not found:
        raise UsageError(f"The run {run.run_id} published no table, so there is nothing to roll back.")


def _find_earlier_rows(lake: Lake, run: RunRecord, writers: Collection[str]) -> tuple[dict[str, int], dict[str, int]]:
    """Return by silver table, and by list of dates, the version with the rows of the dates before the first of the writers."""
    silver, control = {}, {}
    only = None if run.is_range else run.run_date
    written = {table for attempt in run.stages for table in attempt.tables_written}
    for contract in load_tables("silver").values():
        table = f"versions.{contract.name}"
        before = find_version_before(table, list_commits(lake, table), writers)
        if before is not None:
            open_version(lake, table, before, only)
            silver[contract.full_name] = before
        elif table in written:
            raise versions_gone_error(table)
    for table in (LANDED_DATES, HELD_DATES):
        before = find_version_before(table, list_commits(lake, table), writers)
        if before is not None:
            open_version(lake, table, before, only)
            control[table] = before
        elif table in written:
            raise versions_gone_error(table)
    return silver, control


def _find_answered_dates(lake: Lake, run: RunRecord) -> list[date]:
    """Return the dates that waited for the next run of any date, and that this run has computed."""
    answered: set[date] = set()
    for each in list_commits(lake, STALE_DATES):
        if each.writer == run.run_id and each.operation == "DELETE":
            before, after = (_read_notes(lake, version) for version in (each.version - 1, each.version))
            answered.update(day for note, day in before.items() if note not in after)
    return sorted(answered)


def _read_notes(lake: Lake, version: int) -> dict[str, date]:
    rows = open_version(lake, STALE_DATES, version, ANY_RUN_DATE).to_table()
    return dict(zip(rows["note"].to_pylist(), rows[business_date_column()].to_pylist()))


def _read_dates(lake: Lake, table: str, version: int, dates: Sequence[date]) -> pa.Table:
    """Return the rows that dates have at a version of a table."""
    rows = open_version(lake, table, version, dates[0] if len(dates) == 1 else None)
    return rows.to_table(filter=ds.field(RUN_DATE_COLUMN).isin(pa.array(dates, pa.date32())))


def _restore(settings: Settings, lake: Lake, plan: RollbackPlan) -> tuple[list[date], list[str]]:
    """Restore silver, the lists of dates and gold; return the dates and tables that only the next run makes right."""
    others_merged = _has_other_merges(lake, plan)
    affected = _merge_earlier_rows(settings, lake, plan)
    for table, version in plan.control.items():
        lake.replace_dates(table, _read_dates(lake, table, version, plan.dates), plan.dates)
    archive = Archive(settings.archive)
    candidates = _find_stale_dates(archive, plan, affected, others_merged)
    # A date that has not landed is not published.
    stale = sorted(candidates.intersection(lake.run_dates(LANDED_DATES)))
    mark_stale_dates(lake, stale)
    snapshot = _take_snapshot(lake)
    restorations = {each.contract.full_name: each for each in plan.gold}
    for contract in load_tables("gold").values():
        removed = plan.removed if contract.date_column and lake.exists(contract.full_name) else []
        found = restorations.get(contract.full_name, Restoration(contract, {}, frozenset()))
        restore_gold(lake, found, plan.run.run_id, removed, snapshot)
    # The next run of the date computes what this run did, such as dates that a rejected run had left to it. Last, because a
    # second try takes the notes for the dates that the merges affect.
    mark_stale_pairs(lake, _list_noted_pairs(archive, plan))
    is_exact = not others_merged and plan.undone == {plan.run.run_id, *(each.run_id for each in plan.run.dates.values())}
    later = [each.contract.full_name for each in plan.gold if None in each.later]
    return stale, later if is_exact else plan.whole_tables


def _merge_earlier_rows(settings: Settings, lake: Lake, plan: RollbackPlan) -> set[date]:
    """Merge the rows that the dates had before; return the dates whose gold that affects."""
    if not plan.silver:
        return set()
    source = load_source(settings.source)
    engine = ViewEngine(DuckDBEngine(lake, settings.timezone, spill=daybook_home() / "scratch"), source)
    dates = plan.dates
    stage = Stage(STAGES[2], settings, dates[0], dates[-1], dates, lake.run_id, source, lake, engine)
    define_derivations(stage)
    contracts = [contract for name, contract in load_tables("silver").items() if name in plan.silver]
    for contract in contracts:
        _define_earlier_rows(stage, contract, plan.silver[contract.full_name])
    return {day for _, day in merge_new_rows(stage, contracts)[1]}


def _define_earlier_rows(stage: Stage, contract: Table, version: int) -> None:
    """Make the rows that the dates had at a version of the table of versions queryable as ``new.<table>``."""
    rows = open_version(stage.lake, f"versions.{contract.name}", version, None if stage.is_range else stage.run_date)
    kept = pa.schema([each for each in contract.arrow_schema if each.name not in contract.derived])
    rows = with_columns(rows, kept.append(pa.field(RUN_DATE_COLUMN, pa.date32())))
    # A row without a version stands for one that the date had before and lacks.
    there = column_expression(rows.schema, VERSION_AT).is_valid()
    there &= ds.field(RUN_DATE_COLUMN).isin(pa.array(stage.dates, pa.date32()))
    stage.engine.register("earlier_rows", rows.to_table(columns=scanner_columns(rows.schema, kept.names), filter=there))
    columns = ", ".join(
        f"CAST({'NULL' if name in contract.derived else quote(name)} AS {contract.type_of(name)}) AS {quote(name)}"
        for name in contract.columns
    )
    stage.engine.create_table(f"new.{contract.name}", f"SELECT {columns} FROM earlier_rows")


def _has_other_merges(lake: Lake, plan: RollbackPlan) -> bool:
    """Return whether silver has rows of other dates that the run did not know."""
    snapshot = next((each.details.snapshot for each in reversed(plan.run.stages) if each.details.snapshot), {})
    return any(
        has_commits_of_others(list_commits(lake, name), snapshot.get(name, -1), plan.undone)
        for name in load_tables("silver")
        if lake.exists(name)
    )


def _find_stale_dates(archive: Archive, plan: RollbackPlan, affected: set[date], others_merged: bool) -> set[date]:
    """Return the dates whose gold no earlier version has: only a recomputation from restored silver gives it.

    An earlier version of a date is right unless other runs have changed silver since, or counted on this run to publish what
    they had changed.
    """
    found = {day for day in affected if others_merged or day in plan.later or day not in plan.published}
    began = parse_timestamp(plan.run.started_at)
    for other in map(archive.run, [*archive.run_ids(), *archive.range_ids()]):
        if other.run_id not in plan.undone and parse_timestamp(other.ended_at or other.started_at) > began:
            left = {date.fromisoformat(day) for each in other.stages for day in each.details.left_to_newer}
            found |= left & plan.published
    return found | set(plan.answered)


def _take_snapshot(lake: Lake) -> LakeSnapshot:
    return take_lake_snapshot(
        lake,
        [*load_tables("silver"), LANDED_DATES, HELD_DATES],
        list(load_tables("gold")),
        identified_by=business_date_table().full_name,
    )


def _list_changed_tables(lake: Lake, plan: RollbackPlan) -> dict[str, RestoredTable]:
    """Return the versions before and after this rollback, of all its tries, of every table that it changed."""
    sources = {f"versions.{name.split('.')[1]}": [version] for name, version in plan.silver.items()}
    sources.update({table: [version] for table, version in plan.control.items()})
    sources.update({each.contract.full_name: sorted(set(each.versions.values())) for each in plan.gold})
    found = {}
    for table in [*sources, *load_tables("silver"), *load_tables("gold")]:
        own = [each.version for each in list_commits(lake, table) if each.writer == lake.run_id]
        if own:
            found[table] = RestoredTable(before=own[0] - 1, after=own[-1], restored_from=sources.get(table, []))
    return found


def _list_noted_pairs(archive: Archive, plan: RollbackPlan) -> list[tuple[date, date]]:
    """Return each date of the run with the dates that it has computed, which its next run computes again."""
    dates = {}
    for day in plan.dates:
        own = archive.run(plan.run.dates[day.isoformat()].run_id) if plan.run.is_range else plan.run
        dates[day] = {date.fromisoformat(touched) for each in own.stages for touched in each.details.touched_dates}
    # Dates for which the records name no date of the run are noted for each of them.
    unknown = plan.published.difference(*dates.values())
    return [(day, stale) for day, touched in dates.items() for stale in sorted(touched | unknown)]


@contextmanager
def _lock(settings: Settings, run_id: str) -> Iterator[Optional[HeldLeases]]:
    """Hold the dates of the run by their locks, or in a bucket by their leases, which are returned."""
    holder, dates = rollback_id(run_id), list_range(run_id)
    if is_bucket(settings.archive):
        leases = lease_dates(settings.lake, holder, dates)
        try:
            yield leases
        finally:
            release_dates(settings.lake, holder, dates)
        return
    with DateLocks(settings.archive, dates) as held:
        held.write_holder(holder)
        yield None


def _write_lineage_events(archive: Archive, settings: Settings, run: RunRecord, record: RollbackRecord) -> None:
    """Write the rollback as OpenLineage events. An error is logged and changes nothing about the rollback."""
    try:
        events = build_rollback_events(run, record, settings)
        archive.write_rollback_events(run.run_id, format_json_lines(events))
        if settings.openlineage_url:
            post_events(events, settings.openlineage_url)
    except Exception as error:  # noqa: BLE001 (as for a run: a warning in the log)
        message = str(error) if isinstance(error, DaybookError) else f"no lineage events were written ({type(error).__name__})."
        _log.warning("%s: %s", rollback_id(run.run_id), message)


def _is_finished(archive: Archive, run_id: str) -> bool:
    found = archive.read_rollback(run_id)
    return found is not None and found.ended_at is not None


def _dates(parts: Iterable[Part]) -> list[date]:
    return [day for day in parts if day is not None]
