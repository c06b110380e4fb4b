"""Test local backfills with the real state machines and records, and with scripted runs and jobs.

The tests cover rare events: a name taken by another run, a locked date, an exception in a thread, an interrupt at any event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Optional, cast

import pytest

import daybook.execution.backfills as shared
import daybook.execution.local.backfills as laptop
from asl_local import Execution, FakeClock, TaskError
from daybook.errors import LakeError, UsageError
from daybook.execution.local.backfills import is_running, run_backfill, run_catch_up
from daybook.execution.local.runs import INTERRUPTED_REASON
from daybook.execution.tasks import plan_gap_backfill, summarize_backfill
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from daybook.records.models import BackfillRecord, RunRecord
from daybook.records.names import NOT_STARTED, is_range_id, range_of
from daybook.scheduling.backfills import plan_backfill, read_backfill, read_backfills, start_backfill
from daybook.settings import Settings, load_settings
from tests.range_records import close_range
from tests.scheduling.backfilling import add_run, day, write_run_record

Act = Callable[[], None]


class Events:
    """Pass a backfill's events to a function, if there is one, and ignore those of its runs."""

    def __init__(self, listener: Optional[Callable[[Mapping[str, Any]], Any]]) -> None:
        self._listener = listener

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self._listener is not None:
            self._listener(event)

    def on_run_event(self, run_id: str, event: Mapping[str, Any]) -> None:
        pass


class Machine:
    """Run backfills with scripted runs, and with tasks executed in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = load_settings("local")
        self.archive = Archive(self.settings.archive)
        self.ran: list[str] = []
        self.acts: dict[date, Act] = {}
        """Actions in the run of a date, before it succeeds."""
        self.ends: dict[str, tuple[str, str]] = {}
        """Of runs of ranges, by date, the stage and the outcome with which the date ends before the last stage."""
        self.errand: Act = lambda: None
        """Action in a job before its task."""
        monkeypatch.setattr("daybook.execution.local.runs.run_dates", self._run_dates)
        monkeypatch.setattr(laptop, "GlueJobs", lambda logs: self._do_errand)
        monkeypatch.setattr("daybook.execution.local.interpreter.SystemClock", FakeClock)
        # These take 0.25 s each and do not matter here: digests of code, and a search in empty gold tables.
        monkeypatch.setattr("daybook.scheduling.backfills.compute_fingerprint", lambda settings: {"notebooks": "unchanged"})
        monkeypatch.setattr("daybook.execution.tasks.find_unusual_days", lambda settings, days: [])

    def backfill(
        self, last: int = 3, *, parallel: int = 1, listener: Any = None, chunk: str = "day", **asked: Any
    ) -> BackfillRecord:
        """Plan and run a backfill of the first days of November, by default a run for each date."""
        plan = plan_backfill(self.settings, day(1), day(last), chunk=chunk, **asked)
        return run_backfill(self.settings, plan, Events(listener), parallel=parallel)

    def _run_dates(
        self, settings: Settings, run_id: str, *, locks: DateLocks, part_of: str, heartbeat: Act, **_: Any
    ) -> tuple[Execution, RunRecord]:
        locks.write_holder(run_id)
        self.ran.append(run_id)
        heartbeat()
        self.acts.get(range_of(run_id)[0], lambda: None)()
        if is_range_id(run_id):
            close_range(self.archive, run_id, self.ends, part_of=part_of)
        else:
            write_run_record(self.archive, run_id, "SUCCEEDED", part_of=part_of)
        return cast(Execution, SimpleNamespace(status="SUCCEEDED", output={"outcome": "SUCCEEDED"})), self.archive.run(run_id)

    def _do_errand(self, resource: str, arguments: Any, **_: Any) -> dict[str, Any]:
        given = arguments["Arguments"]
        self.errand()
        if given["--errand"] == "gaps":
            limit, chunk = int(given["--limit"]), given["--chunk"]
            plan_gap_backfill(self.settings, given["--execution"], limit=limit, since=day(1), until=day(3), chunk=chunk)
        else:
            summarize_backfill(self.settings, given["--execution"])
        return {"JobRunState": "SUCCEEDED"}


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    Path(load_settings("local").landing).mkdir(parents=True)
    return Machine(monkeypatch)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Hold locks until the end of the test."""
    with ExitStack() as stack:
        yield stack


def failing(error: BaseException) -> Act:
    def fail() -> None:
        raise error

    return fail


def results_of(record: BackfillRecord) -> list[tuple[str, str]]:
    return [(each.run_id, each.outcome) for each in record.results]


@pytest.mark.parametrize("parallel", [1, 3])
def test_backfill_runs_dates_and_sends_one_message(machine: Machine, parallel: int) -> None:
    record = machine.backfill(3, parallel=parallel)
    assert sorted(machine.ran) == [f"daily-2025-11-0{number}-1" for number in (1, 2, 3)]
    assert (record.outcome, record.stopped, record.counts) == ("SUCCEEDED", False, {"SUCCEEDED": 3})
    assert record.message.body.endswith(": 3 succeeded")
    events = machine.archive.store.read(f"backfills/{record.backfill_id}/history.jsonl").decode().splitlines()
    assert '"ExecutionSucceeded"' in events[-1]


def test_date_with_new_run_gets_next_name(machine: Machine) -> None:
    machine.acts[day(1)] = lambda: add_run(machine.archive, 2, "SUCCEEDED") and None
    record = machine.backfill(3)
    assert results_of(record) == [
        ("daily-2025-11-01-1", "SUCCEEDED"),
        ("daily-2025-11-02-2", "SUCCEEDED"),
        ("daily-2025-11-03-1", "SUCCEEDED"),
    ]


def test_locked_date_is_skipped_with_reason(machine: Machine, held: ExitStack) -> None:
    def hold() -> None:
        lock = held.enter_context(DateLocks(machine.settings.archive, [day(2)]))
        lock.write_holder(machine.archive.start_run(day(2), {}))

    machine.acts[day(1)] = hold
    record = machine.backfill(3)
    assert [outcome for _, outcome in results_of(record)] == ["SUCCEEDED", NOT_STARTED, "SUCCEEDED"]
    assert "2025-11-02 is being run by daily-2025-11-02-1 (process " in record.results[1].reason
    assert record.outcome == "FAILED"
    assert "2025-11-02 NOT STARTED: 2025-11-02 is being run by" in record.message.body


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (LakeError("The lake is gone; bring it back."), "The lake is gone; bring it back."),
    ],
    ids=["unforeseen", "Daybook's own"],
)
def test_exception_fails_its_date_only(machine: Machine, parallel: int, fault: Exception, reason: str) -> None:
    machine.acts[day(2)] = failing(fault)
    record = machine.backfill(3, parallel=parallel)
    assert [outcome for _, outcome in results_of(record)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert record.results[1].reason == reason
    # The run's record has it too, for `daybook gaps` and `daybook resume`.
    found = machine.archive.run("daily-2025-11-02-1")
    assert (found.state, found.outcome, found.reasons) == ("closed", "FAILED", [reason])


def test_date_that_cannot_start_has_reason(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    start_run = Archive.start_run

    def refuse(archive: Archive, run_date: date, facts: dict[str, Any]) -> str:
        if run_date == day(2):
            raise OSError(30, "Read-only file system")
        return start_run(archive, run_date, facts)

    monkeypatch.setattr(Archive, "start_run", refuse)
    record = machine.backfill(3)
    assert [outcome for _, outcome in results_of(record)] == ["SUCCEEDED", NOT_STARTED, "SUCCEEDED"]
    assert record.results[1].reason == "OSError: [Errno 30] Read-only file system"


# Ranges


def test_backfill_of_a_range_has_an_outcome_for_each_date(machine: Machine) -> None:
    machine.ends = {"2025-11-02": ("validate", "REJECTED")}
    record = machine.backfill(3, chunk="month")
    assert machine.ran == ["range-2025-11-01-2025-11-03-1"]
    assert results_of(record) == [
        ("daily-2025-11-01-2", "SUCCEEDED"),
        ("daily-2025-11-02-2", "REJECTED"),
        ("daily-2025-11-03-2", "SUCCEEDED"),
    ]
    assert (record.outcome, record.counts) == ("REJECTED", {"SUCCEEDED": 2, "REJECTED": 1})


def test_locked_date_keeps_its_range_from_starting(machine: Machine, held: ExitStack) -> None:
    lock = held.enter_context(DateLocks(machine.settings.archive, [day(2)]))
    lock.write_holder("daily-2025-11-02-1")
    record = machine.backfill(3, chunk="2")
    assert machine.ran == ["daily-2025-11-03-1"]
    assert [outcome for _, outcome in results_of(record)] == [NOT_STARTED, NOT_STARTED, "SUCCEEDED"]
    assert all("2025-11-02 is being run by daily-2025-11-02-1" in each.reason for each in record.results[:2])


def test_range_with_taken_id_gets_the_next_one(machine: Machine) -> None:
    plan = plan_backfill(machine.settings, day(1), day(2))
    machine.archive.start_range(day(1), day(2), {})
    record = run_backfill(machine.settings, plan, Events(None), parallel=1)
    assert machine.ran == ["range-2025-11-01-2025-11-02-2"]
    assert results_of(record) == [("daily-2025-11-01-3", "SUCCEEDED"), ("daily-2025-11-02-3", "SUCCEEDED")]


def test_interrupted_range_closes_all_its_dates(machine: Machine) -> None:
    machine.acts[day(1)] = failing(KeyboardInterrupt())
    record = machine.backfill(3, chunk="2")
    assert [outcome for _, outcome in results_of(record)] == ["FAILED", "FAILED", NOT_STARTED]
    for name in ("daily-2025-11-01-2", "daily-2025-11-02-2"):
        found = machine.archive.run(name)
        assert (found.state, found.outcome, found.reasons) == ("closed", "FAILED", [INTERRUPTED_REASON])


def test_exception_in_a_range_fails_its_dates_only(machine: Machine) -> None:
    machine.acts[day(1)] = failing(LakeError("The lake is gone; bring it back."))
    record = machine.backfill(3, chunk="2")
    assert [outcome for _, outcome in results_of(record)] == ["FAILED", "FAILED", "SUCCEEDED"]
    assert {each.reason for each in record.results[:2]} == {"The lake is gone; bring it back."}


def test_catch_up_runs_gaps_as_a_range(machine: Machine) -> None:
    problem, record = run_catch_up(machine.settings, Events(None), limit=2, parallel=1)
    assert (problem, machine.ran) == ("", ["range-2025-11-01-2025-11-02-1"])
    assert record is not None
    assert record.counts == {"SUCCEEDED": 2}


# Stopping


def test_interrupt_closes_running_run_and_backfill(machine: Machine) -> None:
    machine.acts[day(2)] = failing(KeyboardInterrupt())
    record = machine.backfill(3)
    assert results_of(record) == [
        ("daily-2025-11-01-1", "SUCCEEDED"),
        ("daily-2025-11-02-1", "FAILED"),
        ("daily-2025-11-03-1", NOT_STARTED),
    ]
    assert (record.outcome, record.stopped, record.message is not None) == ("FAILED", True, False)
    assert machine.archive.run("daily-2025-11-02-1").reasons == [INTERRUPTED_REASON]


def interrupt_at(number: int) -> Callable[[Mapping[str, Any]], None]:
    """Return a listener that raises KeyboardInterrupt at event ``number``."""
    count = 0

    def listen(event: Mapping[str, Any]) -> None:
        nonlocal count
        count += 1
        if count == number:
            raise KeyboardInterrupt

    return listen


def test_backfill_continues_after_interrupt_at_any_event(machine: Machine) -> None:
    events: list[Any] = []
    machine.backfill(2, force=True, listener=events.append)
    assert len(events) > 20
    for number in range(1, len(events) + 1):
        before = len(machine.ran)
        record = machine.backfill(2, force=True, listener=interrupt_at(number))
        closed = read_backfill(machine.archive, record.backfill_id)
        assert closed.state == "closed", number
        if record.message is not None:
            # The summary was complete, so nothing remains.
            assert record.counts == {"SUCCEEDED": 2}
            continue
        assert (record.outcome, record.stopped) == ("FAILED", True), number
        rest = machine.backfill(2, force=True)
        assert (rest.continues, rest.outcome, rest.counts) == (
            record.backfill_id,
            "SUCCEEDED",
            {"SUCCEEDED": 2},
        ), number
        assert rest.message.body.endswith(": 2 succeeded")
        # Completed dates do not run again, except for at most one whose end was being recorded.
        assert len(machine.ran) - before <= 3, number


def test_interrupt_while_closing_still_closes(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shared.close_backfill

    def interrupted(*arguments: Any, **named: Any) -> BackfillRecord:
        monkeypatch.setattr(shared, "close_backfill", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(shared, "close_backfill", interrupted)
    machine.acts[day(1)] = failing(KeyboardInterrupt())
    record = machine.backfill(2)
    assert (read_backfill(machine.archive, record.backfill_id).state, record.stopped) == ("closed", True)


def test_runner_exception_closes_backfill(machine: Machine) -> None:
    def broken(event: Mapping[str, Any]) -> None:
        if event["type"] == "MapIterationStarted":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        machine.backfill(2, listener=broken)
    (name,) = (each.backfill_id for each in read_backfills(machine.archive))
    assert read_backfill(machine.archive, name).stopped


def test_killed_backfill_is_closed_by_next_one(machine: Machine) -> None:
    plan = plan_backfill(machine.settings, day(1), day(2), force=True)
    killed = start_backfill(machine.archive, plan, {})
    record = machine.backfill(2, force=True)
    assert (record.continues, read_backfill(machine.archive, killed).stopped) == (killed, True)


def test_running_backfill_cannot_start_again(machine: Machine) -> None:
    found: list[str] = []

    def again() -> None:
        (name,) = (each.backfill_id for each in read_backfills(machine.archive))
        assert is_running(machine.settings, name)
        with pytest.raises(UsageError, match=f"{name} is already running these dates; wait until it ends or stop it"):
            machine.backfill(2, force=True)
        found.append(name)

    machine.acts[day(2)] = again
    record = machine.backfill(2, force=True)
    assert (found, record.outcome) == ([record.backfill_id], "SUCCEEDED")
    assert not is_running(machine.settings, record.backfill_id)


# The summary


def test_failed_summary_is_repeated_by_next_backfill(machine: Machine) -> None:
    machine.errand = failing(TaskError("States.TaskFailed", "the lake is gone"))
    record = machine.backfill(2)
    assert (record.outcome, record.counts) == ("FAILED", {"SUCCEEDED": 2})
    (reason,) = record.reasons
    assert reason.startswith("there is no summary: Daybook.SummaryFailed: ")
    assert "the lake is gone" in reason

    machine.errand, ran = lambda: None, list(machine.ran)
    again = machine.backfill(2)
    assert (again.outcome, again.continues, machine.ran) == ("SUCCEEDED", record.backfill_id, ran)
    assert again.message.body.endswith(": 2 succeeded")


# Catching up


def catch_up(machine: Machine, listener: Optional[Any] = None) -> tuple[str, Optional[BackfillRecord]]:
    return run_catch_up(machine.settings, Events(listener), limit=2, parallel=1, chunk="day")


def test_catch_up_runs_oldest_gaps(machine: Machine) -> None:
    add_run(machine.archive, 1, "SUCCEEDED")
    problem, record = catch_up(machine)
    assert problem == ""
    assert record is not None
    assert results_of(record) == [("daily-2025-11-02-1", "SUCCEEDED"), ("daily-2025-11-03-1", "SUCCEEDED")]
    assert (record.kind, record.outcome, record.message is not None) == ("catch-up", "SUCCEEDED", True)


def test_catch_up_without_gaps_has_no_backfill(machine: Machine) -> None:
    for number in (1, 2, 3):
        add_run(machine.archive, number, "SUCCEEDED")
    assert catch_up(machine) == ("", None)


def test_failed_gap_search_is_reported(machine: Machine) -> None:
    machine.errand = failing(TaskError("States.TaskFailed", "the landing is gone"))
    problem, record = catch_up(machine)
    assert "the landing is gone" in problem
    assert record is None


def test_interrupt_after_plan_closes_backfill(machine: Machine) -> None:
    def listen(event: Mapping[str, Any]) -> None:
        if event["type"] == "TaskStateEntered" and event["stateEnteredEventDetails"]["name"] == "Backfill":
            raise KeyboardInterrupt

    _, record = catch_up(machine, listen)
    assert record is not None
    assert (record.stopped, record.counts) == (True, {NOT_STARTED: 2})


def test_interrupt_in_run_closes_catch_up(machine: Machine) -> None:
    machine.acts[day(2)] = failing(KeyboardInterrupt())
    _, record = catch_up(machine)
    assert record is not None
    assert [outcome for _, outcome in results_of(record)] == ["SUCCEEDED", "FAILED"]
    assert record.stopped
