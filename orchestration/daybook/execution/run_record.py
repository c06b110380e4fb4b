"""Close a run: write its record with its attempts, duration and cost, and its lineage as OpenLineage events."""

from __future__ import annotations

import logging
import platform
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from statistics import median
from typing import Any, Callable, Optional

from daybook.contracts import LAYERS, load_tables
from daybook.errors import DaybookError
from daybook.execution.attempt import close_abandoned_attempts, compute_ended_at, load_redactor, seconds_between
from daybook.execution.openlineage import build_run_events, format_json_lines, post_events
from daybook.lake.lineage.graph import collect_lineage, without_lineage
from daybook.privacy.redactor import Redactor, withhold_free_text
from daybook.records.archive import Archive
from daybook.records.cost import calculate_cost, estimate_usage, load_prices, usage_from_history
from daybook.records.fingerprint import code_version, compute_fingerprint, package_versions, state_machine_version
from daybook.records.leases import release_dates
from daybook.records.models import (
    SCHEMA_VERSION,
    ArchivedFile,
    AttemptRecord,
    CodeVersion,
    PackageVersions,
    PlannedRange,
    RunCost,
    RunOutcome,
    RunRecord,
)
from daybook.records.names import list_range, range_of
from daybook.records.ranges import judge_dates, worst_outcome
from daybook.settings import Settings

_log = logging.getLogger(__name__)

HistoryLoader = Callable[[], Iterable[Mapping[str, Any]]]
"""Returns the events of the run's execution, oldest first."""
_BASELINE_DAYS, _MIN_BASELINE_RUNS = 28, 7
"""Number of earlier business dates whose runs give the usual duration, and the minimum number of successful ones."""


def close_run(
    archive: Archive,
    settings: Settings,
    run_id: str,
    outcome: RunOutcome,
    reasons: list[str],
    summary: Optional[dict[str, Any]] = None,
    *,
    execution: str = "",
    history: Optional[HistoryLoader] = None,
    redactor_now: Optional[Callable[[], Redactor]] = None,
    halves: Iterable[PlannedRange] = (),
) -> RunRecord:
    """Write a run's record from those of its attempts; of a range, with the part of each date.

    Parameters
    ----------
    archive, settings, run_id
        Where the record is written, the deployment and the run.
    outcome, reasons
        Outcome of the run, and its reasons. A range that did not fail as a whole has the outcome of its worst date.
    summary
        The published figures of the date, if there are any.
    execution
        ARN of the state machine's execution; empty if there is none.
    history
        Returns the execution's events, from which the cost is measured. Without it the cost is estimated.
    redactor_now
        Returns the run's redactor, if there is one already.
    halves
        The runs that process the halves of a range after this one.

    Returns
    -------
    RunRecord
        The record as it is archived.
    """
    close_abandoned_attempts(archive, settings, run_id)
    attempts = archive.attempts(run_id)
    order = {name: table.columns for layer in LAYERS for name, table in load_tables(layer).items()}
    started = archive.started(run_id)
    ended = compute_ended_at(started.started_at, started.clock, least=sum(each.seconds or 0.0 for each in attempts))
    first, last = range_of(run_id)
    record = RunRecord(
        record="run",
        schema_version=SCHEMA_VERSION,
        run_id=run_id,
        run_date=first,
        env=settings.env,
        source=settings.source,
        title=settings.title,
        currency=settings.currency,
        outcome=outcome,
        reasons=reasons,
        started_at=started.started_at,
        ended_at=ended,
        seconds=seconds_between(started.started_at, ended),
        # Runs of ranges take longer, and have no usual duration.
        usual_seconds=None if started.part_of or last != first else _median_seconds(archive, first),
        state_machine=ArchivedFile(**state_machine_version()),
        code=CodeVersion(**code_version()),
        # A date whose fingerprint differs from the current one is stale.
        fingerprint=compute_fingerprint(settings),
        packages=PackageVersions(**package_versions()),
        engine=next((each.engine for each in attempts if each.engine), None),
        python=platform.python_version(),
        stages=[without_lineage(each) for each in attempts],
        summary=summary,
        cost=_compute_cost(archive, settings, run_id, attempts, execution, history),
        lineage=collect_lineage(attempts, order),
    )
    if last != first:
        record.until, record.halves = last, [each.run_id for each in halves]
        record.dates = judge_dates(attempts, started.dates)
        if outcome != "FAILED":
            record.outcome = worst_outcome(each.outcome for each in record.dates.values())
    if started.approval:
        record.approval = started.approval
    if started.part_of:
        record.part_of = started.part_of
    try:
        redactor = redactor_now() if redactor_now else load_redactor(settings, run_id)
        record = RunRecord.model_validate(redactor.redact_record(record.to_json()))
    except Exception as error:  # noqa: BLE001 (what cannot be searched is not archived, whatever the reason)
        record = RunRecord.model_validate(withhold_free_text(record.to_json(), error))
    archive.write_run(record)
    _release_dates(settings, run_id)
    _write_lineage_events(archive, settings, record)
    return record


def _release_dates(settings: Settings, run_id: str) -> None:
    """Release the leases of a closed run. An error is logged: the record is written, and leases expire."""
    try:
        release_dates(settings.lake, run_id, list_range(run_id))
    except DaybookError as error:
        _log.warning("%s: the leases of its dates were not released and will expire: %s", run_id, error)


def _median_seconds(archive: Archive, run_date: date) -> Optional[float]:
    """Return the median seconds of the successful runs of the four weeks before a date; None if there are too few.

    Dates of a backfill or of a range do not count: they run side by side or together.
    """
    days = (run_date - timedelta(days=back) for back in range(1, _BASELINE_DAYS + 1))
    runs = [archive.run(ids[-1]) for ids in map(archive.run_ids, days) if ids]
    found = [run.seconds or 0.0 for run in runs if run.outcome == "SUCCEEDED" and not run.in_backfill and not run.range_id]
    return median(found) if len(found) >= _MIN_BASELINE_RUNS else None


def _compute_cost(
    archive: Archive,
    settings: Settings,
    run_id: str,
    attempts: list[AttemptRecord],
    execution: str,
    history: Optional[HistoryLoader],
) -> Optional[RunCost]:
    """Return the run's cost by the deployment's price table; None without one. Errors are logged and do not fail the run."""
    if settings.prices is None:
        return None
    try:
        prices = load_prices(settings.prices)
    except DaybookError as error:
        _log.warning("%s: no cost is recorded: %s", run_id, error)
        return None
    use = estimate_usage(attempts)
    if history is not None:
        try:
            use = usage_from_history(history(), datetime.now(timezone.utc), execution)
        except Exception as error:  # noqa: BLE001 (a service may fail in any way; the record says that it is an estimate)
            _log.warning("%s: its cost is an estimate: its history could not be read (%s).", run_id, type(error).__name__)
    before = archive.read_closing_records(run_id)
    return calculate_cost(use, attempts, prices, before[-1].cost if before else None)


def _write_lineage_events(archive: Archive, settings: Settings, record: RunRecord) -> None:
    """Write the closed run as OpenLineage events. An error is logged and changes nothing about the run."""
    try:
        events = build_run_events(record, settings)
        archive.write_lineage_events(record.run_id, format_json_lines(events))
        if settings.openlineage_url:
            post_events(events, settings.openlineage_url)
    except Exception as error:  # noqa: BLE001 (a warning in the log, never a failed run)
        message = str(error) if isinstance(error, DaybookError) else f"no lineage events were written ({type(error).__name__})."
        _log.warning("%s: %s", record.run_id, message)
