"""Where a deployment's runs are executed, behind one small interface: this machine, or AWS."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from contextlib import AbstractContextManager
from datetime import date
from typing import TYPE_CHECKING, Any, Callable, Optional, Protocol

from daybook.errors import UsageError
from daybook.records.archive import Archive, Record
from daybook.records.names import STAGES, RunStart, run_date_of
from daybook.settings import Settings

if TYPE_CHECKING:  # Lists of runs need not wait for what carries runs out.
    from daybook.execution.aws.executions import Executions
    from daybook.scheduling.backfills import BackfillPlan

Listener = Callable[[Mapping[str, Any]], None]


class BackfillListener(Protocol):
    """Hears of a backfill's events, and (``on_run_event``) of those of its dates' runs."""

    def __call__(self, event: Mapping[str, Any]) -> None: ...

    def on_run_event(self, run_id: str, event: Mapping[str, Any]) -> None: ...


RunDisplay = Callable[[str], AbstractContextManager[Listener]]
"""Given the name of a run that has just been started, what shows its events while it lasts."""
BackfillDisplay = Callable[[], AbstractContextManager[BackfillListener]]
AllocateRun = Callable[[], RunStart]
"""Takes the name of a run; called once it is certain that nobody else works on its date."""


class StillRunning(Exception):
    """Nobody waits for the end any longer, but what was started goes on. ``name`` is the run's, or the backfill's; ``left``
    says that somebody waited and was interrupted."""

    left = False

    def __init__(self, name: str, link: str) -> None:
        super().__init__(name)
        self.name = name
        self.link = link


class Runner(Protocol):
    """Where runs are executed. ``ends_with_command`` says whether a run ends when the command that started it does."""

    ends_with_command: bool

    def require_ready(self) -> None:
        """Tell at once what is wrong for certain, rather than by a run that fails after its retries."""

    def close_lost_runs(self, first: Optional[date] = None, last: Optional[date] = None) -> None:
        """Put on record how runs of these dates ended that nobody could close, before it is decided which dates to run."""

    def run(self, run_date: date, begin: AllocateRun, showing: RunDisplay, *, follow: bool = True) -> Record:
        """Run a date to its end; returns its record. ``StillRunning`` where nobody waits for that."""

    def resume(self, run_id: str, showing: RunDisplay, *, follow: bool = True) -> Record:
        """Go on with a run that failed or was cut off."""

    def backfill(
        self, plan: BackfillPlan, showing: BackfillDisplay, *, parallel: int, fail_fast: bool, follow: bool = True
    ) -> Record:
        """Run the dates of a plan; returns the backfill's record."""

    def catch_up(
        self,
        showing: BackfillDisplay,
        *,
        limit: int,
        parallel: int,
        since: Optional[str],
        until: Optional[str],
        include_stale: bool,
        follow: bool = True,
    ) -> tuple[str, Optional[Record]]:
        """Run the gaps; what went wrong with that itself, and the backfill's record, where there was one."""

    def is_running(self, backfill_id: str) -> bool:
        """Whether somebody is at work on a backfill."""

    def refresh_record(self, record: Record) -> Record:
        """A run's record as the archive gives it, judged by what is known here of a run that seems under way."""


def get_runner(settings: Settings) -> Runner:
    """Where this deployment's runs are executed, by its ``runs_on``."""
    if settings.runs_on == "aws":
        return _AwsRunner(settings)
    return _LocalRunner(settings)


def allocate_run(settings: Settings, run_date: date) -> RunStart:
    """Take the next free name of a date, for a run of all its stages."""
    run_id = Archive(settings.archive).start_run(run_date, {"env": settings.env, "title": settings.title})
    return RunStart(run_id, STAGES[0])


def require_local(settings: Settings, doing: str) -> None:
    """``UsageError`` where a command has no meaning for a deployment whose places are not on this machine."""
    if settings.runs_on != "laptop":
        raise UsageError(
            f"`daybook {doing}` works in folders of this machine, and {settings.env} is on AWS; give an --env that runs here."
        )


def _start_fork_server() -> None:
    """Start what jobs are forked from: it imports for a second, and meanwhile so does this process."""
    from daybook.execution.fork_server import get_fork_server

    get_fork_server().begin()


class _LocalRunner:
    """This machine, which does what AWS does with the same files."""

    ends_with_command = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def require_ready(self) -> None:
        # The soonest, since the first job waits for it: whoever asks this has jobs next.
        _start_fork_server()
        from daybook.sources import open_landing
        from daybook.storage import require_writable

        open_landing(self._settings.landing).require_no_outside_links()
        require_writable(self._settings.lake)

    def close_lost_runs(self, first: Optional[date] = None, last: Optional[date] = None) -> None:
        """Each date's next run does it, under its lock; who works on a date is known here without."""

    def run(self, run_date: date, begin: AllocateRun, showing: RunDisplay, *, follow: bool = True) -> Record:
        from daybook.records.locks import DateLock

        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import run_day

        with DateLock(self._settings.archive, run_date) as lock:
            start = begin()
            with showing(start.run_id) as listener:
                _, record = run_day(self._settings, start.run_id, first_stage=start.first_stage, lock=lock, listener=listener)
        return record

    def resume(self, run_id: str, showing: RunDisplay, *, follow: bool = True) -> Record:
        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import resume_day

        with showing(run_id) as listener:
            return resume_day(self._settings, run_id, listener=listener)[1]

    def backfill(
        self, plan: BackfillPlan, showing: BackfillDisplay, *, parallel: int, fail_fast: bool, follow: bool = True
    ) -> Record:
        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import run_backfill

        with showing() as listener:
            return run_backfill(
                self._settings,
                plan,
                parallel=parallel,
                fail_fast=fail_fast,
                listener=listener,
                day_listener=listener.on_run_event,
            )

    def catch_up(self, showing: BackfillDisplay, *, follow: bool = True, **asked: Any) -> tuple[str, Optional[Record]]:
        _require_follow(self._settings, follow)
        _start_fork_server()
        from daybook.execution.local import run_catch_up

        with showing() as listener:
            return run_catch_up(self._settings, listener=listener, day_listener=listener.on_run_event, **asked)

    def is_running(self, backfill_id: str) -> bool:
        from daybook.execution.local import is_running

        return is_running(self._settings, backfill_id)

    def refresh_record(self, record: Record) -> Record:
        return record  # The lock of its date has told.


class _AwsRunner:
    """AWS, where what was started goes on whoever looks."""

    ends_with_command = False

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def _executions(self) -> Executions:
        # Only where it is asked: the archive can be read by who may do nothing else.
        from daybook.execution.aws.executions import Executions

        return Executions(self._settings)

    def require_ready(self) -> None:
        """Whether there are credentials; what they may do, each call tells in a sentence."""
        self._executions.machine_arn("daily")

    def close_lost_runs(self, first: Optional[date] = None, last: Optional[date] = None) -> None:
        from daybook.execution.aws.runs import close_lost

        between = [
            run_id
            for run_id in Archive(self._settings.archive).run_ids()
            if (first is None or first <= run_date_of(run_id)) and (last is None or run_date_of(run_id) <= last)
        ]
        close_lost(self._settings, self._executions, between)

    def run(self, run_date: date, begin: AllocateRun, showing: RunDisplay, *, follow: bool = True) -> Record:
        from daybook.execution.aws.runs import follow_run, start_run

        run_id = start_run(self._settings, self._executions, run_date, begin)
        with self._follow_context("daily", run_id, run_id, follow), showing(run_id) as listener:
            return follow_run(self._settings, self._executions, run_id, listener=listener)

    def resume(self, run_id: str, showing: RunDisplay, *, follow: bool = True) -> Record:
        from daybook.execution.aws.runs import follow_run, resume_run

        name, before, redriven = resume_run(self._settings, self._executions, run_id)
        with self._follow_context("daily", name, run_id, follow), showing(run_id) as listener:
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
        self, plan: BackfillPlan, showing: BackfillDisplay, *, parallel: int, fail_fast: bool, follow: bool = True
    ) -> Record:
        from daybook.execution.aws.backfills import follow_backfill, start_backfill_execution

        name = start_backfill_execution(self._settings, self._executions, plan, parallel=parallel, fail_fast=fail_fast)
        with self._follow_context("backfill", name, name, follow), showing() as listener:
            return follow_backfill(
                self._settings, self._executions, name, listener=listener, day_listener=listener.on_run_event
            )

    def catch_up(self, showing: BackfillDisplay, *, follow: bool = True, **asked: Any) -> tuple[str, Optional[Record]]:
        from daybook.execution.aws.backfills import follow_catch_up, start_catch_up

        name = start_catch_up(self._settings, self._executions, **asked)
        with self._follow_context("catch-up", name, "", follow), showing() as listener:
            return follow_catch_up(
                self._settings, self._executions, name, listener=listener, day_listener=listener.on_run_event
            )

    def is_running(self, backfill_id: str) -> bool:
        from daybook.execution.aws.backfills import is_running

        return is_running(self._executions, backfill_id)

    def refresh_record(self, record: Record) -> Record:
        from daybook.execution.aws.runs import reconcile_record

        return reconcile_record(self._executions, record)

    def _follow_context(self, machine: str, execution: str, name: str, follow: bool) -> AbstractContextManager[None]:
        return _FollowContext(StillRunning(name, self._executions.console_link(machine, execution)), follow)


class _FollowContext(AbstractContextManager[None]):
    """What is watched goes on when the watching ends by an interrupt, or never begins."""

    def __init__(self, goes_on: StillRunning, follow: bool) -> None:
        self._still_running = goes_on
        self._follow = follow

    def __enter__(self) -> None:
        if not self._follow:
            raise self._still_running

    def __exit__(self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Any) -> None:
        if isinstance(error, KeyboardInterrupt):
            self._still_running.left = True
            raise self._still_running from None


def _require_follow(settings: Settings, follow: bool) -> None:
    if not follow:
        raise UsageError(f"--no-follow is for deployments on AWS; {settings.env} runs here, and ends with this command.")
