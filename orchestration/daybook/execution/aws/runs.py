"""A run of one business date on AWS: started under its name, followed, gone on with, and put on record where no job could.

Two runs of a date never work at once: before a name is taken no execution of the date may be under way, and a name is taken
once, in the archive and in Step Functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from typing import Any, Callable, Optional

from asl_local import Clock, SystemClock, format_event
from daybook.errors import DateLockedError, DaybookError, UsageError
from daybook.execution.aws.executions import REDRIVABLE_STATUSES, ExecutionInfo, Executions, NameTakenError, archive_input
from daybook.execution.aws.follow import Follower, Listener
from daybook.execution.close import close_ended_run, find_resume_point, require_resumable_run
from daybook.execution.run_record import close_run
from daybook.records.archive import Archive, Record, parse_timestamp
from daybook.records.names import RunStart, format_run_id, run_date_of
from daybook.settings import Settings

_START_TIMEOUT = timedelta(minutes=10)
"""A run whose name was taken longer ago, and of which there is no execution, was never started."""
STOPPED_REASON = "stopped before it ended, by somebody who stopped its execution on AWS"


def start_run(settings: Settings, executions: Executions, run_date: date, begin: Callable[[], RunStart]) -> str:
    """Start a date's run; ``begin`` takes its name in the archive, and says at which stage it starts. Returns the name.

    ``DateLockedError`` says which run has the date, whose and since when.
    """
    archive = Archive(settings.archive)
    while True:
        require_date_free(executions, run_date)
        close_lost(settings, executions, archive.run_ids(run_date))
        start = begin()
        given = {
            "env": settings.env,
            "run_date": run_date.isoformat(),
            "overrides": settings.overrides,
            "archive": archive_input(settings.archive),
            "first_stage": start.first_stage,
        }
        try:
            executions.start("daily", start.run_id, given)
        except NameTakenError:
            # Somebody started it just now; or it ended before anything of it came into the archive, and the next is free.
            require_date_free(executions, run_date)
            continue
        except DaybookError as error:
            close_run(archive, settings, start.run_id, "FAILED", [f"it could not be started: {error}"])
            raise
        return start.run_id


def follow_run(
    settings: Settings,
    executions: Executions,
    run_id: str,
    *,
    execution: Optional[str] = None,
    before: int = 0,
    redriven: bool = False,
    listener: Optional[Listener] = None,
    clock: Optional[Clock] = None,
) -> Record:
    """Wait for the end of a run's ``execution`` (the one of its own name, if not given) and return the run's record.

    ``before`` is how many closing records the run had when the execution began. Whoever stops following stops nothing else.
    """
    follower = Follower(executions, "daily", execution or run_id, listener, clock=clock or SystemClock(), redriven=redriven)
    ended = follower.follow()
    return _close_record(settings, run_id, before, ended, follower.events)


def resume_run(settings: Settings, executions: Executions, run_id: str) -> tuple[str, int, bool]:
    """Go on with a run that failed or was cut off, from the stage that did not end, as ``daybook.execution.local`` does.

    A cut-off execution is redriven; where it FAILED, or can be redriven no more (after 14 days), another execution of the same
    run begins at the stage that failed. Returns that execution's name, how many closing records the run had, and whether it was
    redriven. Raises ``UsageError`` where there is nothing to go on with, ``DateLockedError`` where the date is at work.
    """
    archive, run_date = Archive(settings.archive), run_date_of(run_id)
    require_date_free(executions, run_date)
    of_run = executions.executions_of_run(run_id)
    if run_id not in archive.run_ids(run_date):
        if not of_run:
            raise UsageError(f"There is no run {run_id}; `daybook runs {settings.command_options}` lists them.")
        archive.ensure_started(run_id, {"env": settings.env, "title": settings.title})
    # Of others of the date too: an older one that was lost is no longer to be gone on with.
    records = require_resumable_run(settings, run_id)
    newest = of_run[-1] if of_run else None
    if newest is not None and newest.status in REDRIVABLE_STATUSES and newest.redrivable:
        executions.redrive("daily", newest.name)
        return newest.name, len(records), True
    begun: dict[str, Any] = {"env": settings.env, "run_date": run_date.isoformat(), "overrides": settings.overrides}
    begun.update({key: value for key, value in (newest.input if newest else {}).items() if key in _COPIED_FIELDS})
    begun["archive"] = archive_input(settings.archive)
    name = f"{run_id}-resumed-{max(len(of_run), 1)}"
    executions.start("daily", name, {**begun, **find_resume_point(archive, run_id, begun.get("first_stage")), "run_id": run_id})
    return name, len(records), False


def require_date_free(executions: Executions, run_date: date) -> None:
    """Raise ``DateLockedError`` while an execution of the date is under way."""
    stem = format_run_id(run_date, 1)[:-1]
    for name in executions.running("daily", stem):
        found = executions.find("daily", name)
        if found is not None and found.running:
            raise DateLockedError(
                f"{run_date} is being run by {found}; wait until it ends (`daybook show --env {executions.env} "
                f"{name.split('-resumed-')[0]}`), or stop its execution, then run the date again."
            )


def close_lost(settings: Settings, executions: Executions, run_ids: Iterable[str]) -> None:
    """Close the records of runs whose execution has ended without one: notify failed, or never came to it.

    Whoever calls it may write to the archive; a run that is under way is left alone.
    """
    archive = Archive(settings.archive)
    for run_id in run_ids:
        if archive.read_closing_records(run_id):
            continue
        of_run = executions.executions_of_run(run_id)
        begun = parse_timestamp(archive.started(run_id)["started_at"])
        if not of_run and datetime.now(timezone.utc) - begun < _START_TIMEOUT:
            continue  # Somebody may have taken its name and be about to start it.
        if not of_run:
            close_run(archive, settings, run_id, "FAILED", ["no execution of it was ever started"])
        elif not of_run[-1].running:
            pages = executions.events("daily", of_run[-1].name)
            _close_record(settings, run_id, 0, of_run[-1], list(pages.read()))


def reconcile_record(executions: Executions, record: Record) -> Record:
    """A run's record as ``Archive.run`` gives it; one that seems under way is asked for, and is lost where it is over."""
    if record["state"] != "running":
        return record
    of_run = executions.executions_of_run(record["run_id"])
    if of_run and of_run[-1].running:
        return {**record, "reasons": [f"The run is under way: {of_run[-1]}."]}
    how = f"its execution ended as {of_run[-1].status}" if of_run else "no execution of it was ever started"
    return {**record, "state": "lost", "outcome": "FAILED", "reasons": [f"lost: {how}, and there is no closing record"]}


_COPIED_FIELDS = ("env", "run_date", "overrides", "first_stage", "part_of", "failure")
"""What of an execution's input an execution that goes on with it has too; who started it is another."""


def _close_record(
    settings: Settings, run_id: str, before: int, ended: ExecutionInfo, events: Iterable[Mapping[str, Any]]
) -> Record:
    archive = Archive(settings.archive)
    archive.ensure_started(run_id, {"env": settings.env, "title": settings.title})
    events = list(events)
    known = archive.history(run_id)
    if [each.get("timestamp") for each in known] == [each["timestamp"] for each in events]:
        events = []  # Somebody else who followed it has put them there.
    return close_ended_run(
        settings,
        run_id,
        before=before,
        status=ended.status,
        error=ended.error,
        stopped=STOPPED_REASON,
        history=b"".join(map(format_event, events)),
    )
