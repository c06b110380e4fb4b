"""Execute runs of a deployment on this machine or on AWS behind one interface."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import date
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.models import BackfillRecord, RunRecord
from daybook.records.names import STAGES, RunStart, run_date_of
from daybook.settings import Settings

if TYPE_CHECKING:  # Commands that only list runs do not import these.
    from daybook.execution.aws.executions import Executions
    from daybook.scheduling.backfills import BackfillPlan

Listener = Callable[[Mapping[str, Any]], None]


class BackfillListener(Protocol):
    """Called with a backfill's events; ``on_run_event`` gets those of its runs."""

    def __call__(self, event: Mapping[str, Any]) -> None: ...

    def on_run_event(self, run_id: str, event: Mapping[str, Any]) -> None: ...


RunDisplay = Callable[[str], AbstractContextManager[Listener]]
"""Given the name of a started run, returns a context manager that shows its events."""
BackfillDisplay = Callable[[], AbstractContextManager[BackfillListener]]
AllocateRun = Callable[[], RunStart]
"""Records a run as started and returns its name. It is called when no other run of the date is running."""


class StillRunning(Exception):
    """Report that the command stops waiting while the run or backfill ``name`` continues.

    ``interrupted`` is set if an interrupt ended the waiting.
    """

    interrupted = False

    def __init__(self, name: str, link: str) -> None:
        super().__init__(name)
        self.name = name
        self.link = link


class Runner(Protocol):
    """Execute runs in one place. ``ends_with_command`` tells whether a run ends with the command that started it."""

    ends_with_command: bool

    def require_ready(self) -> None:
        """Raise an error at once for problems that would make a run fail after all retries."""

    def close_lost_runs(self, first: Optional[date] = None, last: Optional[date] = None) -> None:
        """Close the records of lost runs of these dates, before the dates to run are selected."""

    def run(self, run_date: date, allocate: AllocateRun, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        """Run a date and return the run's record; raise ``StillRunning`` with ``follow=False`` or after an interrupt."""

    def resume(self, run_id: str, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        """Resume a failed or interrupted run and return its record."""

    def backfill(
        self, plan: BackfillPlan, display: BackfillDisplay, *, parallel: int, fail_fast: bool, follow: bool = True
    ) -> BackfillRecord:
        """Run the dates of a plan and return the backfill's record."""

    def catch_up(
        self,
        display: BackfillDisplay,
        *,
        limit: int,
        parallel: int,
        since: Optional[str],
        until: Optional[str],
        include_stale: bool,
        follow: bool = True,
    ) -> tuple[str, Optional[BackfillRecord]]:
        """Run the gaps; return the error of the catch-up itself (or an empty string) and the backfill's record, if any."""

    def is_running(self, backfill_id: str) -> bool:
        """Return whether a backfill is running."""

    def refresh_record(self, record: RunRecord) -> RunRecord:
        """Return a run's record from the archive with the present state of the run."""


def get_runner(settings: Settings) -> Runner:
    """Return the runner for the ``runs_on`` of a deployment."""
    if settings.runs_on == "aws":
        return _AwsRunner(settings)
    return _LocalRunner(settings)


def allocate_run(settings: Settings, run_date: date) -> RunStart:
    """Record a run of all stages as started, with the next free name of the date."""
    run_id = Archive(settings.archive).start_run(run_date, {"env": settings.env, "title": settings.title})
    return RunStart(run_id, STAGES[0])


def require_local(settings: Settings, command: str) -> None:
    """Raise ``UsageError`` if a command that works on local folders is used for a deployment on AWS."""
    if settings.runs_on != "laptop":
        raise UsageError(
            f"`daybook {command}` works on folders of this machine, and {settings.env} is on AWS; give an --env that runs here."
        )


def _start_fork_server() -> None:
    """Start the fork server early, since it imports for a second while this process does the same."""
    from daybook.execution.fork_server import get_fork_server

    get_fork_server().start()


class _LocalRunner:
    """Execute runs on this machine."""

    ends_with_command = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def require_ready(self) -> None:
        _start_fork_server()  # first, because the first job waits for it
        from daybook.sources import open_landing
        from daybook.storage import require_writable

        open_landing(self._settings.landing).require_no_outside_links()
        require_writable(self._settings.lake)

    def close_lost_runs(self, first: Optional[date] = None, last: Optional[date] = None) -> None:
        """Do nothing: the next run of a date does it under the date's lock."""

    def run(self, run_date: date, allocate: AllocateRun, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        from daybook.records.locks import DateLock

        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import run_day

        with DateLock(self._settings.archive, run_date) as lock:
            start = allocate()
            with display(start.run_id) as listener:
                _, record = run_day(self._settings, start.run_id, first_stage=start.first_stage, lock=lock, listener=listener)
        return record

    def resume(self, run_id: str, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import resume_day

        with display(run_id) as listener:
            return resume_day(self._settings, run_id, listener=listener)[1]

    def backfill(
        self, plan: BackfillPlan, display: BackfillDisplay, *, parallel: int, fail_fast: bool, follow: bool = True
    ) -> BackfillRecord:
        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import run_backfill

        with display() as listener:
            return run_backfill(
                self._settings,
                plan,
                parallel=parallel,
                fail_fast=fail_fast,
                listener=listener,
                day_listener=listener.on_run_event,
            )

    def catch_up(
        self, display: BackfillDisplay, *, follow: bool = True, **options: Any
    ) -> tuple[str, Optional[BackfillRecord]]:
        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import run_catch_up

        with display() as listener:
            return run_catch_up(self._settings, listener=listener, day_listener=listener.on_run_event, **options)

    def is_running(self, backfill_id: str) -> bool:
        from daybook.execution.local import is_running

        return is_running(self._settings, backfill_id)

    def refresh_record(self, record: RunRecord) -> RunRecord:
        return record  # The archive has checked the lock of its date.


class _AwsRunner:
    """Execute runs on AWS, where they continue without this process."""

    ends_with_command = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def _executions(self) -> Executions:
        # Connected on demand, because reading the archive needs no other permission.
        from daybook.execution.aws.executions import Executions

        return Executions(self._settings)

    def require_ready(self) -> None:
        """Check that there are credentials. Each call reports missing permissions."""
        self._executions.machine_arn("daily")

    def close_lost_runs(self, first: Optional[date] = None, last: Optional[date] = None) -> None:
        from daybook.execution.aws.runs import close_lost

        between = [
            run_id
            for run_id in Archive(self._settings.archive).run_ids()
            if (first is None or first <= run_date_of(run_id)) and (last is None or run_date_of(run_id) <= last)
        ]
        close_lost(self._settings, self._executions, between)

    def run(self, run_date: date, allocate: AllocateRun, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        from daybook.execution.aws.runs import follow_run, start_run

        run_id = start_run(self._settings, self._executions, run_date, allocate)
        with self._follow_context("daily", run_id, run_id, follow), display(run_id) as listener:
            return follow_run(self._settings, self._executions, run_id, listener=listener)

    def resume(self, run_id: str, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        from daybook.execution.aws.runs import follow_run, resume_run

        name, before, redriven = resume_run(self._settings, self._executions, run_id)
        with self._follow_context("daily", name, run_id, follow), display(run_id) as listener:
            return follow_run(
                self._settings,
                self._executions,
                run_id,
                execution=name,
                before=before,
                redriven=redriven,
                listener=listener,
            )

    def backfill(
        self, plan: BackfillPlan, display: BackfillDisplay, *, parallel: int, fail_fast: bool, follow: bool = True
    ) -> BackfillRecord:
        from daybook.execution.aws.backfills import follow_backfill, start_backfill_execution

        name = start_backfill_execution(self._settings, self._executions, plan, parallel=parallel, fail_fast=fail_fast)
        with self._follow_context("backfill", name, name, follow), display() as listener:
            return follow_backfill(
                self._settings, self._executions, name, listener=listener, day_listener=listener.on_run_event
            )

    def catch_up(
        self, display: BackfillDisplay, *, follow: bool = True, **options: Any
    ) -> tuple[str, Optional[BackfillRecord]]:
        from daybook.execution.aws.backfills import follow_catch_up, start_catch_up

        name = start_catch_up(self._settings, self._executions, **options)
        with self._follow_context("catch-up", name, "", follow), display() as listener:
            return follow_catch_up(
                self._settings, self._executions, name, listener=listener, day_listener=listener.on_run_event
            )

    def is_running(self, backfill_id: str) -> bool:
        from daybook.execution.aws.backfills import is_running

        return is_running(self._executions, backfill_id)

    def refresh_record(self, record: RunRecord) -> RunRecord:
        from daybook.execution.aws.runs import reconcile_record

        return reconcile_record(self._executions, record)

    def _follow_context(self, machine: str, execution: str, name: str, follow: bool) -> AbstractContextManager[None]:
        return _FollowContext(StillRunning(name, self._executions.console_link(machine, execution)), follow)


class _FollowContext(AbstractContextManager[None]):
    """Raise ``StillRunning`` instead of following, or after an interrupt."""

    def __init__(self, still_running: StillRunning, follow: bool) -> None:
        self._still_running = still_running
        self._follow = follow

    def __enter__(self) -> None:
        if not self._follow:
            raise self._still_running

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._still_running.interrupted = True
            raise self._still_running from None


def _require_follow(settings: Settings, follow: bool) -> None:
    if not follow:
        raise UsageError(f"--no-follow works for deployments on AWS only, and {settings.env} runs here; omit the option.")
