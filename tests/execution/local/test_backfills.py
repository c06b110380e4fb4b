"""Backfills on this machine without a job: the real state machines and records, with runs and jobs that play.

What is tried here is what real runs come to only by chance: a name taken meanwhile, a date held by somebody, a fault in a
thread, an interrupt at each moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

import daybook.execution.local.backfills as laptop
from asl_local import Execution, FakeClock, TaskError
from daybook.errors import LakeError, UsageError
from daybook.execution.local import is_running, run_backfill, run_catch_up
from daybook.execution.local.runs import INTERRUPTED_REASON
from daybook.execution.tasks import plan_gap_backfill, summarize_backfill
from daybook.records.archive import Archive, Record
from daybook.records.locks import DateLock
from daybook.records.names import NOT_STARTED, run_date_of
from daybook.scheduling.backfills import backfill_ids, plan_backfill, read_backfill, start_backfill
from daybook.settings import Settings, load_settings
from tests.scheduling.backfilling import add_run, day, write_run_record

Act = Callable[[], None]


class Machine:
    """This machine with runs that come to what they are told, and errands done in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.settings = load_settings("local")
        self.archive = Archive(self.settings.archive)
        self.ran: list[str] = []
        self.acts: dict[date, Act] = {}
        """What happens in the run of a date, before it succeeds."""
        self.errand: Act = lambda: None
        """What happens in a job, before it does its errand."""
        monkeypatch.setattr(laptop, "run_day", self._run_day)
        monkeypatch.setattr(laptop, "GlueJobs", lambda logs: self._do_errand)
        # What takes a quarter of a second each time, and is of no account here: digests of code, and gold tables without a row.
        monkeypatch.setattr("daybook.scheduling.backfills.compute_fingerprint", lambda settings: {"notebooks": "unchanged"})
        monkeypatch.setattr("daybook.execution.tasks.find_unusual_days", lambda settings, days: [])

    def backfill(self, last: int = 3, *, parallel: int = 1, listener: Any = None, **asked: Any) -> Record:
        """Plan and run a backfill of the first days of November."""
        plan = plan_backfill(self.settings, day(1), day(last), **asked)
        return run_backfill(self.settings, plan, parallel=parallel, listener=listener, clock=FakeClock())

    def _run_day(
        self, settings: Settings, run_id: str, *, lock: DateLock, part_of: str, heartbeat: Act, **_: Any
    ) -> tuple[Execution, Record]:
        lock.write_holder(run_id)
        self.ran.append(run_id)
        heartbeat()
        self.acts.get(run_date_of(run_id), lambda: None)()
        write_run_record(self.archive, run_id, "SUCCEEDED", part_of=part_of)
        return Execution(run_id, "SUCCEEDED", {"outcome": "SUCCEEDED"}, None, None, 0, ()), {}

    def _do_errand(self, resource: str, arguments: Any, **_: Any) -> Record:
        given = arguments["Arguments"]
        self.errand()
        if given["--errand"] == "gaps":
            plan_gap_backfill(self.settings, given["--execution"], limit=int(given["--limit"]), since=day(1), until=day(3))
        else:
            summarize_backfill(self.settings, given["--execution"])
        return {"JobRunState": "SUCCEEDED"}


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    Path(load_settings("local").landing).mkdir(parents=True)
    return Machine(monkeypatch)


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Locks that are held until the test ends."""
    with ExitStack() as stack:
        yield stack


def failing(error: BaseException) -> Act:
    def fail() -> None:
        raise error

    return fail


def came_to(record: Record) -> list[tuple[str, str]]:
    return [(each["run_id"], each["outcome"]) for each in record["results"]]


@pytest.mark.parametrize("parallel", [1, 3])
def test_dates_are_run_and_told_of_once(machine: Machine, parallel: int) -> None:
    record = machine.backfill(3, parallel=parallel)
    assert sorted(machine.ran) == [f"daily-2025-11-0{number}-1" for number in (1, 2, 3)]
    assert (record["outcome"], record["stopped"], record["counts"]) == ("SUCCEEDED", False, {"SUCCEEDED": 3})
    assert record["message"]["body"].endswith(": 3 succeeded")
    events = machine.archive.store.read(f"backfills/{record['backfill_id']}/history.jsonl").decode().splitlines()
    assert '"ExecutionSucceeded"' in events[-1]


def test_a_date_that_was_run_meanwhile_gets_the_next_name(machine: Machine) -> None:
    machine.acts[day(1)] = lambda: add_run(machine.archive, 2, "SUCCEEDED") and None
    record = machine.backfill(3)
    assert came_to(record) == [
        ("daily-2025-11-01-1", "SUCCEEDED"),
        ("daily-2025-11-02-2", "SUCCEEDED"),
        ("daily-2025-11-03-1", "SUCCEEDED"),
    ]


def test_a_date_that_somebody_holds_is_left_out_with_the_reason_and_the_others_are_run(
    machine: Machine, held: ExitStack
) -> None:
    def hold() -> None:
        lock = held.enter_context(DateLock(machine.settings.archive, day(2)))
        lock.write_holder(machine.archive.start_run(day(2), {}))

    machine.acts[day(1)] = hold
    record = machine.backfill(3)
    assert [outcome for _, outcome in came_to(record)] == ["SUCCEEDED", NOT_STARTED, "SUCCEEDED"]
    assert "2025-11-02 is being run by daily-2025-11-02-1 (process " in record["results"][1]["reason"]
    assert record["outcome"] == "FAILED"
    assert "2025-11-02 NOT STARTED: 2025-11-02 is being run by" in record["message"]["body"]


@pytest.mark.parametrize("parallel", [1, 3])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
        (LakeError("The lake is gone; bring it back."), "The lake is gone; bring it back."),
    ],
    ids=["unforeseen", "Daybook's own"],
)
def test_a_fault_in_one_dates_thread_is_that_dates_alone(
    machine: Machine, parallel: int, fault: Exception, reason: str
) -> None:
    machine.acts[day(2)] = failing(fault)
    record = machine.backfill(3, parallel=parallel)
    assert [outcome for _, outcome in came_to(record)] == ["SUCCEEDED", "FAILED", "SUCCEEDED"]
    assert record["results"][1]["reason"] == reason
    # On the run's own record too, so that `daybook gaps` and `daybook resume` know of it.
    found = machine.archive.run("daily-2025-11-02-1")
    assert (found["state"], found["outcome"], found["reasons"]) == ("closed", "FAILED", [reason])


def test_a_date_that_cannot_even_be_started_says_why(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    start_run = Archive.start_run

    def refuse(archive: Archive, run_date: date, facts: Record) -> str:
        if run_date == day(2):
            raise OSError(30, "Read-only file system")
        return start_run(archive, run_date, facts)

    monkeypatch.setattr(Archive, "start_run", refuse)
    record = machine.backfill(3)
    assert [outcome for _, outcome in came_to(record)] == ["SUCCEEDED", NOT_STARTED, "SUCCEEDED"]
    assert record["results"][1]["reason"] == "OSError: [Errno 30] Read-only file system"


# Stopping


def test_an_interrupt_closes_the_run_under_way_and_the_backfill(machine: Machine) -> None:
    machine.acts[day(2)] = failing(KeyboardInterrupt())
    record = machine.backfill(3)
    assert came_to(record) == [
        ("daily-2025-11-01-1", "SUCCEEDED"),
        ("daily-2025-11-02-1", "FAILED"),
        ("daily-2025-11-03-1", NOT_STARTED),
    ]
    assert (record["outcome"], record["stopped"], "message" in record) == ("FAILED", True, False)
    assert machine.archive.run("daily-2025-11-02-1")["reasons"] == [INTERRUPTED_REASON]


def interrupt_at(number: int) -> Callable[[Mapping[str, Any]], None]:
    """A listener that is interrupted at the n-th event of the backfill's machine."""
    heard = 0

    def listen(event: Mapping[str, Any]) -> None:
        nonlocal heard
        heard += 1
        if heard == number:
            raise KeyboardInterrupt

    return listen


def test_whenever_it_is_interrupted_it_is_closed_and_the_same_again_does_the_rest(machine: Machine) -> None:
    events: list[Any] = []
    machine.backfill(2, force=True, listener=events.append)
    assert len(events) > 20
    for number in range(1, len(events) + 1):
        before = len(machine.ran)
        record = machine.backfill(2, force=True, listener=interrupt_at(number))
        closed = read_backfill(machine.archive, record["backfill_id"])
        assert closed["state"] == "closed", number
        if "message" in record:
            # It had come to its summary: there is nothing left.
            assert record["counts"] == {"SUCCEEDED": 2}
            continue
        assert (record["outcome"], record["stopped"]) == ("FAILED", True), number
        rest = machine.backfill(2, force=True)
        assert (rest["continues"], rest["outcome"], rest["counts"]) == (
            record["backfill_id"],
            "SUCCEEDED",
            {"SUCCEEDED": 2},
        ), number
        assert rest["message"]["body"].endswith(": 2 succeeded")
        # What was through is not run again: at most the one date that was being told of.
        assert len(machine.ran) - before <= 3, number


def test_an_interrupt_while_it_is_being_closed_does_not_keep_it_open(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    real = laptop.close_backfill

    def interrupted(*arguments: Any, **named: Any) -> Record:
        monkeypatch.setattr(laptop, "close_backfill", real)
        raise KeyboardInterrupt

    monkeypatch.setattr(laptop, "close_backfill", interrupted)
    machine.acts[day(1)] = failing(KeyboardInterrupt())
    record = machine.backfill(2)
    assert (read_backfill(machine.archive, record["backfill_id"])["state"], record["stopped"]) == ("closed", True)


def test_a_fault_of_the_runner_is_raised_and_leaves_the_backfill_closed(machine: Machine) -> None:
    def broken(event: Mapping[str, Any]) -> None:
        if event["type"] == "MapIterationStarted":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        machine.backfill(2, listener=broken)
    (name,) = backfill_ids(machine.archive)
    assert read_backfill(machine.archive, name)["stopped"]


def test_one_that_was_killed_is_closed_by_the_one_that_goes_on(machine: Machine) -> None:
    plan = plan_backfill(machine.settings, day(1), day(2), force=True)
    killed = start_backfill(machine.archive, plan, {})
    record = machine.backfill(2, force=True)
    assert (record["continues"], read_backfill(machine.archive, killed)["stopped"]) == (killed, True)


def test_what_is_being_done_already_is_not_begun_again(machine: Machine) -> None:
    found: list[str] = []

    def again() -> None:
        (name,) = backfill_ids(machine.archive)
        assert is_running(machine.settings, name)
        with pytest.raises(UsageError, match=f"{name} is doing just that; wait until it ends, or stop it"):
            machine.backfill(2, force=True)
        found.append(name)

    machine.acts[day(2)] = again
    record = machine.backfill(2, force=True)
    assert (found, record["outcome"]) == ([record["backfill_id"]], "SUCCEEDED")
    assert not is_running(machine.settings, record["backfill_id"])


# The summary


def test_a_summary_that_fails_is_told_and_the_same_again_does_it_alone(machine: Machine) -> None:
    machine.errand = failing(TaskError("States.TaskFailed", "the lake is gone"))
    record = machine.backfill(2)
    assert (record["outcome"], record["counts"]) == ("FAILED", {"SUCCEEDED": 2})
    (reason,) = record["reasons"]
    assert reason.startswith("there is no summary: Daybook.SummaryFailed: ")
    assert "the lake is gone" in reason

    machine.errand, ran = lambda: None, list(machine.ran)
    again = machine.backfill(2)
    assert (again["outcome"], again["continues"], machine.ran) == ("SUCCEEDED", record["backfill_id"], ran)
    assert again["message"]["body"].endswith(": 2 succeeded")


# Catching up


def catch_up(machine: Machine, listener: Optional[Any] = None) -> tuple[str, Optional[Record]]:
    return run_catch_up(machine.settings, limit=2, parallel=1, listener=listener, clock=FakeClock())


def test_a_catch_up_runs_the_oldest_gaps(machine: Machine) -> None:
    add_run(machine.archive, 1, "SUCCEEDED")
    problem, record = catch_up(machine)
    assert problem == ""
    assert record is not None
    assert came_to(record) == [("daily-2025-11-02-1", "SUCCEEDED"), ("daily-2025-11-03-1", "SUCCEEDED")]
    assert (record["kind"], record["outcome"], "message" in record) == ("catch-up", "SUCCEEDED", True)


def test_a_catch_up_whose_gaps_are_gone_is_good_and_has_no_backfill(machine: Machine) -> None:
    for number in (1, 2, 3):
        add_run(machine.archive, number, "SUCCEEDED")
    assert catch_up(machine) == ("", None)


def test_a_catch_up_that_cannot_look_for_gaps_says_why(machine: Machine) -> None:
    machine.errand = failing(TaskError("States.TaskFailed", "the landing is gone"))
    problem, record = catch_up(machine)
    assert "the landing is gone" in problem
    assert record is None


def test_a_catch_up_that_is_interrupted_after_its_plan_leaves_no_backfill_open(machine: Machine) -> None:
    def listen(event: Mapping[str, Any]) -> None:
        if event["type"] == "TaskStateEntered" and event["stateEnteredEventDetails"]["name"] == "Backfill":
            raise KeyboardInterrupt

    _, record = catch_up(machine, listen)
    assert record is not None
    assert (record["stopped"], record["counts"]) == (True, {NOT_STARTED: 2})


def test_a_catch_up_that_is_interrupted_in_a_run_closes_all(machine: Machine) -> None:
    machine.acts[day(2)] = failing(KeyboardInterrupt())
    _, record = catch_up(machine)
    assert record is not None
    assert [outcome for _, outcome in came_to(record)] == ["SUCCEEDED", "FAILED"]
    assert record["stopped"]
