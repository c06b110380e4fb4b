"""Execute runs of a deployment on this machine or on AWS behind one interface."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.models import BackfillRecord, RunRecord
from daybook.records.names import STAGES, RunStart, run_date_of
from daybook.settings import DateRange, Settings

if TYPE_CHECKING:  # Commands that only list runs do not import these.
    from daybook.execution.aws.executions import Executions
    from daybook.scheduling.backfills import BackfillPlan


class RunListener(Protocol):
    """Called with a run's events; ``on_half_event`` gets those of the halves of a range that failed."""

    def __call__(self, event: Mapping[str, Any]) -> None: ...

    def on_half_event(self, run_id: str, event: Mapping[str, Any]) -> None: ...


class BackfillListener(Protocol):
    """Called with a backfill's events; ``on_run_event`` gets those of its runs."""

    def __call__(self, event: Mapping[str, Any]) -> None: ...

    def on_run_event(self, run_id: str, event: Mapping[str, Any]) -> None: ...


RunDisplay = Callable[[str], AbstractContextManager[RunListener]]
"""Given the name of a started run, returns a context manager that shows its events."""
BackfillDisplay = Callable[[], AbstractContextManager[BackfillListener]]
AllocateRun = Callable[[], RunStart]
"""Records a run as started and returns its name. It is called when no other run of its dates is running."""


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

    def run(self, dates: DateRange, allocate: AllocateRun, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        """Run dates and return the run's record; raise ``StillRunning`` with ``follow=False`` or after an interrupt."""

    def resume(self, run_id: str, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        """Resume a failed or interrupted run and return its record."""

    def backfill(self, plan: BackfillPlan, display: BackfillDisplay, *, follow: bool = True, **options: Any) -> BackfillRecord:
        """Run the ranges of a plan and return the backfill's record.

        The options are those of ``daybook.execution.backfills.record_backfill``.
        """

    def catch_up(
        self, display: BackfillDisplay, *, follow: bool = True, **options: Any
    ) -> tuple[str, Optional[BackfillRecord]]:
        """Run the gaps; return the error of the catch-up itself (or an empty string) and the backfill's record, if any.

        The options are those of ``daybook.execution.backfills.build_catch_up_input``.
        """

    def is_running(self, backfill_id: str) -> bool:
        """Return whether a backfill is running."""

    def refresh_record(self, record: RunRecord) -> RunRecord:
        """Return a run's record from the archive with the present state of the run."""


def get_runner(settings: Settings) -> Runner:
    """Return the runner for the ``runs_on`` of a deployment."""
    if settings.runs_on == "aws":
        return _AwsRunner(settings)
    return _LocalRunner(settings)


def allocate_run(settings: Settings, dates: DateRange) -> RunStart:
    """Record a run of all stages as started, with the next free name of the dates."""
    run_id = Archive(settings.archive).start_next(dates.first, dates.last, {"env": settings.env, "title": settings.title})
    return RunStart(run_id, STAGES[0])


def require_local(settings: Settings, command: str) -> None:
    """Raise ``UsageError`` if a command that works on local folders is used for a deployment on AWS."""
    if settings.runs_on != "laptop":
        raise UsageError(
            f"`daybook {command}` works on folders of this machine, and {settings.env} is on AWS; give an --env that runs here."
        )


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

    def run(self, dates: DateRange, allocate: AllocateRun, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        self._prepare(follow)
        from daybook.execution.local.runs import run_dates
        from daybook.records.locks import DateLocks

        with DateLocks(self._settings.archive, dates.list()) as locks:
            start = allocate()
            with display(start.run_id) as listener:
                return run_dates(
                    self._settings,
                    start.run_id,
                    first_stage=start.first_stage,
                    locks=locks,
                    listener=listener,
                    half_listener=listener.on_half_event,
                )[1]

    def resume(self, run_id: str, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        self._prepare(follow)
        from daybook.execution.local.runs import resume_dates

        with display(run_id) as listener:
            return resume_dates(self._settings, run_id, listener=listener, half_listener=listener.on_half_event)[1]

    def backfill(self, plan: BackfillPlan, display: BackfillDisplay, *, follow: bool = True, **options: Any) -> BackfillRecord:
        self._prepare(follow)
        from daybook.execution.local.backfills import run_backfill

        with display() as listener:
            return run_backfill(self._settings, plan, listener, **options)

    def catch_up(
        self, display: BackfillDisplay, *, follow: bool = True, **options: Any
    ) -> tuple[str, Optional[BackfillRecord]]:
        self._prepare(follow)
        from daybook.execution.local.backfills import run_catch_up

        with display() as listener:
            return run_catch_up(self._settings, listener, **options)

    def is_running(self, backfill_id: str) -> bool:
        from daybook.execution.local.backfills import is_running

        return is_running(self._settings, backfill_id)

    def refresh_record(self, record: RunRecord) -> RunRecord:
        return record  # The archive has checked the lock of its date.

    def _prepare(self, follow: bool) -> None:
        if not follow:
            raise UsageError(
                f"--no-follow works for deployments on AWS only, and {self._settings.env} runs here; omit the option."
            )
        _start_fork_server()


def _start_fork_server() -> None:
    """Start the fork server early, since it imports for a second while this process does the same."""
    from daybook.execution.fork_server import get_fork_server

    get_fork_server().start()


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

        archive = Archive(self._settings.archive)
        between = DateRange(first or date.min, last or date.max)
        close_lost(self._executions, [each for each in archive.run_ids() if run_date_of(each) in between])

    def run(self, dates: DateRange, allocate: AllocateRun, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        from daybook.execution.aws.runs import follow_run, start_run

        run_id = start_run(self._executions, dates, allocate)
        with self._follow("daily", run_id, run_id, follow), display(run_id) as listener:
            return follow_run(self._executions, run_id, run_id, listener=listener, half_listener=listener.on_half_event)

    def resume(self, run_id: str, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        from daybook.execution.aws.runs import follow_run, resume_run

        resumed = resume_run(self._executions, run_id)
        with self._follow("daily", resumed[0], run_id, follow), display(run_id) as listener:
            return follow_run(self._executions, run_id, *resumed, listener=listener, half_listener=listener.on_half_event)

    def backfill(self, plan: BackfillPlan, display: BackfillDisplay, *, follow: bool = True, **options: Any) -> BackfillRecord:
        from daybook.execution.aws.backfills import follow_backfill, start_backfill_execution

        name = start_backfill_execution(self._executions, plan, **options)
        with self._follow("backfill", name, name, follow), display() as listener:
            return follow_backfill(self._executions, name, listener)

    def catch_up(
        self, display: BackfillDisplay, *, follow: bool = True, **options: Any
    ) -> tuple[str, Optional[BackfillRecord]]:
        from daybook.execution.aws.backfills import follow_catch_up, start_catch_up

        name = start_catch_up(self._executions, **options)
        with self._follow("catch-up", name, "", follow), display() as listener:
            return follow_catch_up(self._executions, name, listener)

    def is_running(self, backfill_id: str) -> bool:
        from daybook.execution.aws.backfills import is_running

        return is_running(self._executions, backfill_id)

    def refresh_record(self, record: RunRecord) -> RunRecord:
        from daybook.execution.aws.runs import reconcile_record

        return reconcile_record(self._executions, record)

    @contextmanager
    def _follow(self, machine: str, execution: str, name: str, follow: bool) -> Iterator[None]:
        """Raise ``StillRunning`` instead of following, or after an interrupt."""
        still_running = StillRunning(name, self._executions.console_link(machine, execution))
        if not follow:
            raise still_running
        try:
            yield
        except KeyboardInterrupt:
            still_running.interrupted = True
            raise still_running from None
