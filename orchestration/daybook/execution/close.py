"""Close the record of a run whose execution has ended, and find where a failed run resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from daybook.errors import UsageError
from daybook.records.archive import Archive, parse_timestamp
from daybook.records.failures import describe_failure
from daybook.records.models import RunRecord
from daybook.records.names import STAGES, format_dates_input, list_range, range_of
from daybook.settings import DateRange, Settings

ABORTED = "ABORTED"
"""The status of an execution that was stopped."""
_COPIED_FIELDS = ("env", "run_date", "until", "overrides", "first_stage", "part_of", "splits", "failure")
"""Input fields that a resuming execution copies from the one it resumes."""


def close_ended_run(
    settings: Settings, run_id: str, *, before: int, status: str, error: Optional[str], stopped: str, history: bytes
) -> RunRecord:
    """Archive an execution's history, and write the run's record if the notify stage could not.

    Parameters
    ----------
    settings, run_id
        The deployment and the run.
    before
        Number of closing records that the run had when the execution started.
    status, error
        Status of the execution, and the name of its error.
    stopped
        Reason of a run whose execution was stopped.
    history
        Events of the execution, one JSON object a line; empty if they are archived already.

    Returns
    -------
    RunRecord
        The run's newest record.
    """
    archive = Archive(settings.archive)
    if history:
        archive.write_history(run_id, history)
    written = archive.read_closing_records(run_id)
    # The notify stage of this execution has closed the run, unless it failed or was never reached. An interrupt after that
    # changes nothing: the record is right as it is.
    if len(written) > before:
        return written[-1].changed(state="closed")
    # Most runs have closed themselves, and importing what reads notebooks and tables takes a second.
    from daybook.execution.attempt import close_abandoned_attempts
    from daybook.execution.run_record import close_run

    close_abandoned_attempts(archive, settings, run_id)
    failed = [each for each in archive.attempts(run_id) if each.outcome == "FAILED"]
    if status == ABORTED:
        reasons = [stopped]
    elif failed:
        reasons = [describe_failure(failed[-1])]
    else:
        reasons = [f"the run ended as {status}: {error}"]
    return close_run(archive, settings, run_id, "FAILED", reasons).changed(state="closed")


def require_resumable_run(settings: Settings, run_id: str) -> list[RunRecord]:
    """Return the closing records of a run that can be resumed, oldest first.

    Raises ``UsageError`` if the run did not fail, or if one of its dates has been run again since. Nor can a range be resumed
    that was halved, or of which no stage failed: then some of its dates failed, and have to be run again.
    """
    archive = Archive(settings.archive)
    dates = DateRange(*range_of(run_id))
    records = archive.read_closing_records(run_id)
    again = f"daybook run {settings.command_options} --date {format_date_option(dates)}"
    if records and records[-1].outcome != "FAILED":
        raise UsageError(f"The run {run_id} has ended as {records[-1].outcome}; run its date again with `{again}`.")
    if records and records[-1].halves:
        halves = " and ".join(records[-1].halves)
        raise UsageError(f"The run {run_id} was halved into {halves}; resume the one that failed.")
    if records and _ended_for_each_date(records[-1]):
        raise UsageError(
            f"No stage of {run_id} failed, but some of its dates; run these again with `daybook backfill "
            f"{settings.command_options} {dates.first} {dates.last}`."
        )
    require_not_rolled_back_since(archive, run_id)
    for day in dates.list():
        runs = [archive.files_run_id(each) for each in archive.run_ids(day)]
        later = runs[runs.index(run_id) + 1 :] if run_id in runs else []
        if later:
            which = "The date" if len(dates) == 1 else f"The date {day}"
            raise UsageError(f"{which} of {run_id} has been run again as {later[-1]}; resume that one, or start `{again}`.")
    return records


def format_date_option(dates: DateRange) -> str:
    """Return dates as ``daybook run --date`` takes them."""
    return str(dates.first) if len(dates) == 1 else f"{dates.first}..{dates.last}"


def _ended_for_each_date(record: RunRecord) -> bool:
    """Return whether a range went through all its stages."""
    last = {each.stage: each.outcome for each in record.stages}
    return record.is_range and last.get(STAGES[-1]) == "SUCCEEDED" and "FAILED" not in last.values()


def require_not_rolled_back_since(archive: Archive, run_id: str) -> None:
    """Raise ``UsageError`` if a publication of one of a run's dates was taken back after the run had started.

    The rollback has replaced what the run merged into silver, so nothing can continue from there.
    """
    started = parse_timestamp(archive.started(run_id).started_at)
    for other in (each for day in list_range(run_id) for each in archive.run_ids(day)):
        found = archive.read_rollback(other)
        if found and parse_timestamp(found.started_at) > started:
            raise UsageError(f"{other} was rolled back after {run_id} had started; run the date again.")


def find_resume_input(archive: Archive, run_id: str, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the input of a new execution that resumes an ended run, except for fields that all inputs have.

    ``before`` is the input of the run's newest execution; empty if it is not known.
    """
    copied = {key: before[key] for key in _COPIED_FIELDS if key in before}
    point = find_resume_point(archive, run_id, before.get("first_stage"))
    return {**format_dates_input(*range_of(run_id)), **copied, **point, "run_id": run_id}


def find_resume_point(archive: Archive, run_id: str, first_stage: Optional[str]) -> dict[str, str]:
    """Return the stage at which an ended run resumes, and for notify the outcome of the stages before it."""
    last = {each.stage: each.outcome for each in archive.attempts(run_id)}
    # Notify is never the first: it also runs if a stage failed before it had an attempt on record.
    first = first_stage or next((stage for stage in STAGES[:-1] if stage in last), STAGES[0])
    for stage in STAGES[STAGES.index(first) : -1]:
        outcome = last.get(stage, "FAILED")
        if outcome == "FAILED":
            return {"first_stage": stage}
        if outcome != "SUCCEEDED":
            return {"first_stage": STAGES[-1], "outcome": outcome}
    return {"first_stage": STAGES[-1], "outcome": "SUCCEEDED"}
