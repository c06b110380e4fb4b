"""Test runs over ranges of dates from start to closing record without kernels: dates, halves, resumed and lost runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any, Callable

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from asl_local import Execution, FakeClock, TaskError
from daybook.errors import DateLockedError, UsageError
from daybook.execution.halves import MAX_SPLITS, find_date_outcomes
from daybook.execution.local.runs import INTERRUPTED_REASON, resume_dates, run_dates
from daybook.execution.stage import run_stage
from daybook.records.archive import LOST_REASON, Archive
from daybook.records.locks import DateLocks, find_lock_holder
from daybook.records.models import RunRecord
from daybook.records.names import RESULT_MIME, STAGES, list_dates
from daybook.settings import Settings, load_settings

FIRST, LAST = date(2025, 11, 1), date(2025, 11, 4)
RANGE = "range-2025-11-01-2025-11-04-1"
HALVES = ["range-2025-11-01-2025-11-02-1", "range-2025-11-03-2025-11-04-1"]
CORRUPT = {"exception": "FormatError", "message": "corrupt", "permanent": True}


class Machine:
    """Run jobs in this process, with notebooks whose dates end as ``ends`` tells."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ends: dict[str, tuple[str, str]] = {}
        """By date, the stage that ends it, and its outcome there."""
        self.fault: Callable[[str, list[date]], bool] = lambda stage, dates: False
        """Whether a stage of these dates fails as a whole."""
        self.act: Callable[[str, str], None] = lambda stage, run_id: None
        """Called with the stage and the run before a job."""
        self.tried: list[tuple[str, str]] = []
        self._ended: dict[str, dict[str, str]] = {}
        monkeypatch.setattr("papermill.execute_notebook", self.execute)
        # These take half a second of each stage, and do not matter here: the page, and the digests of the code.
        monkeypatch.setattr("daybook.execution.attempt.render_notebook", lambda *_, **__: "<p>page</p>")
        monkeypatch.setattr("daybook.execution.run_record.compute_fingerprint", lambda settings: {})
        monkeypatch.setattr("daybook.execution.local.interpreter.SystemClock", FakeClock)
        # The clock of halves, which can be interrupted, must not wait either.
        monkeypatch.setattr("daybook.execution.local.interpreter._InterruptibleClock", lambda heartbeat: FakeClock())
        monkeypatch.setattr("daybook.execution.local.runs.GlueJobs", lambda *_: self.job)

    def execute(self, path: str, output: str, *, parameters: dict[str, Any], **_: Any) -> None:
        """Write the executed notebook of a stage."""
        stage, run_id = Path(path).stem.split("_", 1)[1], parameters["run_id"]
        first = date.fromisoformat(parameters["run_date"])
        dates = list_dates(first, date.fromisoformat(parameters.get("until", "") or str(first)))
        if self.fault(stage, dates):
            raise MemoryError("too many dates")
        ended = self._ended.setdefault(run_id, {})
        found = {}
        for day in map(str, dates):
            if stage != STAGES[-1] and ended.get(day, stage) != stage:
                continue
            at, outcome = self.ends.get(day, ("", "SUCCEEDED"))
            outcome = outcome if at == stage else "SUCCEEDED"
            if outcome != "SUCCEEDED":
                ended[day] = stage
            found[day] = {
                "outcome": outcome,
                "reasons": [f"{stage} ends {day}"] if outcome in ("REJECTED", "SKIPPED") else [],
                "rows": {"in": 10, "out": 9},
                "failure": CORRUPT if outcome == "FAILED" else None,
            }
        outcomes = [each["outcome"] for each in found.values()]
        outcome = "SUCCEEDED" if parameters.get("failure", "null") == "null" else "FAILED"
        details = {"run_outcome": outcome, "run_reasons": [], "summary": None} if stage == STAGES[-1] else {}
        result: dict[str, Any] = {
            "stage": stage, "outcome": "SUCCEEDED" if "SUCCEEDED" in outcomes else outcomes[0], "reasons": [],
            "rows": {"in": 10 * len(found)}, "details": details,
        }  # fmt: skip
        if len(dates) > 1:
            result["dates"] = found
        shown = new_output("display_data", data={RESULT_MIME: result})
        nbformat.write(new_notebook(cells=[new_code_cell("end()", outputs=[shown])]), output)

    def job(self, resource: str, arguments: Any, **_: Any) -> dict[str, Any]:
        given: Mapping[str, str] = {name.lstrip("-"): value for name, value in arguments["Arguments"].items()}
        self.act(given["stage"], given["run_id"])
        self.tried.append((given["stage"], given["run_id"]))
        failed = given["stage"] == STAGES[-1] and given["failure"] != "null"
        record = run_stage(
            given["stage"],
            env=given["env"],
            run_date=given["run_date"],
            until=None if given["until"] == "none" else given["until"],
            run_id=given["run_id"],
            splits=int(given.get("splits", 0)),
            extra={"failure": given["failure"]} if failed else None,
        )
        if record.outcome == "FAILED" and not record.permanent:
            raise TaskError("States.TaskFailed", "the job failed")
        return {"JobRunState": "SUCCEEDED"}

    def stages_of(self, run_id: str) -> list[str]:
        return [stage for stage, each in self.tried if each == run_id]


@pytest.fixture
def machine(home: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings("local")


def run(settings: Settings, last: date = LAST, **more: Any) -> tuple[Execution, RunRecord, Archive]:
    archive = Archive(settings.archive)
    execution, record = run_dates(settings, archive.start_range(FIRST, last, {"env": settings.env}), **more)
    return execution, record, archive


def outcomes(archive: Archive, record: RunRecord) -> dict[str, str]:
    return {day[-2:]: each.outcome for day, each in find_date_outcomes(archive, record).items()}


def test_range_has_a_record_and_one_for_each_date(machine: Machine, settings: Settings) -> None:
    execution, record, archive = run(settings)
    assert execution.output == {"outcome": "SUCCEEDED"}
    assert (record.run_id, record.outcome, record.until, record.halves) == (RANGE, "SUCCEEDED", LAST, [])
    assert machine.tried == [(stage, RANGE) for stage in STAGES]
    for number, day in enumerate(list_dates(FIRST, LAST), 1):
        found = archive.run(f"daily-2025-11-{number:02d}-2")
        assert (found.run_date, found.range_id, found.outcome, found.state) == (day, RANGE, "SUCCEEDED", "closed")
        assert [each.stage for each in found.stages] == list(STAGES)


def test_parameters_of_a_range_have_its_last_date(machine: Machine, settings: Settings) -> None:
    _, record, _ = run(settings)
    assert {each.parameters["until"] for each in record.stages} == {"2025-11-04"}
    assert {(each.run_date, each.until) for each in record.stages} == {(FIRST, LAST)}


@pytest.mark.parametrize("outcome", ["REJECTED", "FAILED"])
def test_range_has_the_outcome_of_its_worst_date(machine: Machine, settings: Settings, outcome: str) -> None:
    machine.ends = {"2025-11-02": ("validate", outcome), "2025-11-03": ("ingest", "SKIPPED")}
    execution, record, archive = run(settings)
    assert (execution.status, record.outcome) == ("FAILED", outcome)
    assert outcomes(archive, record) == {"01": "SUCCEEDED", "02": outcome, "03": "SKIPPED", "04": "SUCCEEDED"}
    assert machine.stages_of(RANGE) == list(STAGES)
    assert [each.stage for each in archive.run("daily-2025-11-03-2").stages] == ["ingest", "notify"]


def test_failed_stage_of_a_range_is_repeated_by_its_halves(machine: Machine, settings: Settings) -> None:
    machine.fault = lambda stage, dates: stage == "transform" and len(dates) > 2
    execution, record, archive = run(settings)
    assert execution.output == {"outcome": "SUCCEEDED"}
    assert machine.stages_of(RANGE) == ["ingest", "validate", *["transform"] * 4, "notify"]
    assert (record.outcome, record.halves) == ("FAILED", HALVES)
    assert [machine.stages_of(half) for half in HALVES] == [list(STAGES)] * 2
    assert outcomes(archive, record) == dict.fromkeys(("01", "02", "03", "04"), "SUCCEEDED")
    assert archive.run("daily-2025-11-04-3").range_id == HALVES[1]
    assert archive.run_ids(LAST)[-1] == "daily-2025-11-04-3"


def test_range_is_halved_down_to_one_date(machine: Machine, settings: Settings) -> None:
    machine.fault = lambda stage, dates: stage == "transform" and date(2025, 11, 3) in dates
    execution, record, archive = run(settings)
    assert (execution.status, record.outcome) == ("FAILED", "FAILED")
    assert outcomes(archive, record) == {"01": "SUCCEEDED", "02": "SUCCEEDED", "03": "FAILED", "04": "SUCCEEDED"}
    found = find_date_outcomes(archive, record)
    assert (found["2025-11-03"].run_id, found["2025-11-04"].run_id) == ("daily-2025-11-03-4", "daily-2025-11-04-4")
    assert archive.list_halves(RANGE) == [*HALVES, "daily-2025-11-03-4", "daily-2025-11-04-4"]


def test_range_is_halved_at_most_five_times(machine: Machine, settings: Settings) -> None:
    machine.fault = lambda stage, dates: stage == "ingest"
    _, record, archive = run(settings, splits=MAX_SPLITS - 1)
    assert [archive.run(half).halves for half in record.halves] == [[], []]
    assert [machine.stages_of(half) for half in HALVES] == [[*["ingest"] * 4, "notify"]] * 2


def test_permanent_failure_of_a_range_is_not_repeated(machine: Machine, settings: Settings) -> None:
    machine.ends = {f"2025-11-{day:02d}": ("ingest", "FAILED") for day in (1, 2, 3, 4)}
    _, record, archive = run(settings)
    assert (record.outcome, record.halves) == ("FAILED", [])
    assert set(outcomes(archive, record).values()) == {"FAILED"}


def test_range_holds_all_its_dates_and_a_half_its_own(machine: Machine, settings: Settings) -> None:
    held: dict[str, list[str]] = {}

    def look(stage: str, run_id: str) -> None:
        holders = [find_lock_holder(settings.archive, day) for day in list_dates(FIRST, LAST)]
        held[f"{stage} of {run_id}"] = [holder.run_id if holder else "" for holder in holders]

    machine.act = look
    machine.fault = lambda stage, dates: stage == "transform" and len(dates) > 2
    run(settings)
    assert held[f"ingest of {RANGE}"] == [RANGE] * 4
    assert held[f"ingest of {HALVES[0]}"] == [HALVES[0]] * 2 + [RANGE] * 2
    assert held[f"ingest of {HALVES[1]}"] == ["", "", *[HALVES[1]] * 2]
    assert find_lock_holder(settings.archive, LAST) is None


def test_events_of_halves_go_to_their_listener(machine: Machine, settings: Settings) -> None:
    events: list[str] = []
    of_halves: list[tuple[str, str]] = []
    machine.fault = lambda stage, dates: stage == "transform" and len(dates) > 2
    run(
        settings,
        listener=lambda event: events.append(event["type"]),
        half_listener=lambda name, event: of_halves.append((name, event["type"])),
    )
    assert events.count("ExecutionStarted") == 1
    assert [name for name, kind in of_halves if kind == "ExecutionSucceeded"] == HALVES


def test_interrupted_range_closes_all_dates_and_is_resumed(machine: Machine, settings: Settings) -> None:
    def interrupt(stage: str, run_id: str) -> None:
        if stage == "transform":
            raise KeyboardInterrupt

    machine.act = interrupt
    machine.ends = {"2025-11-02": ("validate", "REJECTED")}
    execution, record, archive = run(settings)
    assert (execution.status, record.outcome, record.reasons) == ("ABORTED", "FAILED", [INTERRUPTED_REASON])
    assert outcomes(archive, record) == {"01": "FAILED", "02": "REJECTED", "03": "FAILED", "04": "FAILED"}

    machine.act = lambda stage, run_id: None
    machine.tried.clear()
    execution, record = resume_dates(settings, RANGE)
    assert machine.stages_of(RANGE) == list(STAGES[2:])
    assert outcomes(archive, record) == {"01": "SUCCEEDED", "02": "REJECTED", "03": "SUCCEEDED", "04": "SUCCEEDED"}
    assert archive.count_closing_records("daily-2025-11-01-2") == 2


def test_range_resumes_at_its_failed_stage(machine: Machine, settings: Settings) -> None:
    machine.fault = lambda stage, dates: stage == "transform"
    _, record, _ = run(settings, splits=MAX_SPLITS)
    assert (record.outcome, record.halves) == ("FAILED", [])
    machine.fault = lambda stage, dates: False
    machine.tried.clear()
    _, record = resume_dates(settings, RANGE)
    assert (record.outcome, machine.stages_of(RANGE)) == ("SUCCEEDED", list(STAGES[2:]))


def test_halved_range_is_not_resumed(machine: Machine, settings: Settings) -> None:
    machine.fault = lambda stage, dates: stage == "transform"
    run(settings)
    with pytest.raises(UsageError, match=f"{RANGE} was halved into {' and '.join(HALVES)}; resume the one that failed"):
        resume_dates(settings, RANGE)


def test_range_with_failed_dates_is_not_resumed(machine: Machine, settings: Settings) -> None:
    machine.ends = {"2025-11-02": ("validate", "FAILED")}
    run(settings)
    with pytest.raises(UsageError, match="but some of its dates; run these again with `daybook backfill"):
        resume_dates(settings, RANGE)


def test_range_with_a_newer_run_of_a_date_is_not_resumed(machine: Machine, settings: Settings) -> None:
    machine.fault = lambda stage, dates: stage == "transform" and len(dates) > 1
    _, _, archive = run(settings, splits=MAX_SPLITS)
    run_dates(settings, archive.start_run(date(2025, 11, 3), {}))
    with pytest.raises(UsageError, match=f"The date 2025-11-03 of {RANGE} has been run again as daily-2025-11-03-3"):
        resume_dates(settings, RANGE)


def test_running_range_is_not_resumed(machine: Machine, settings: Settings) -> None:
    archive = Archive(settings.archive)
    archive.start_range(FIRST, LAST, {})
    with DateLocks(settings.archive, list_dates(FIRST, LAST)) as locks:
        locks.write_holder(RANGE)
        with pytest.raises(DateLockedError, match=RANGE):
            resume_dates(settings, RANGE)


def test_lost_range_is_closed_by_the_next_run_of_a_date(machine: Machine, settings: Settings) -> None:
    archive = Archive(settings.archive)
    archive.start_range(FIRST, LAST, {"env": settings.env})
    assert archive.run(RANGE).state == "lost"
    run_dates(settings, archive.start_run(date(2025, 11, 3), {}))
    for name in (RANGE, "daily-2025-11-01-2", "daily-2025-11-04-2"):
        found = archive.run(name)
        assert (found.state, found.outcome, found.reasons) == ("closed", "FAILED", [LOST_REASON])
    run_dates(settings, archive.start_run(LAST, {}))
    assert archive.count_closing_records(RANGE) == 1


def test_locked_date_keeps_a_range_from_starting(machine: Machine, settings: Settings) -> None:
    with DateLocks(settings.archive, [LAST]) as locks:
        locks.write_holder("daily-2025-11-04-1")
        with pytest.raises(DateLockedError, match="2025-11-04 is being run by daily-2025-11-04-1"):
            run(settings)
    assert machine.tried == []


def test_outcome_file_names_first_stage_and_halves(machine: Machine, settings: Settings) -> None:
    machine.fault = lambda stage, dates: stage == "quality" and len(dates) > 2
    _, _, archive = run(settings, first_stage="aggregate")
    content = json.loads(archive.store.read(f"outcomes/{RANGE}/range.json"))
    assert (content["outcome"], content["first_stage"]) == ("FAILED", "aggregate")
    assert [half["run_id"] for half in content["halves"]] == HALVES
    assert machine.stages_of(HALVES[0])[0] == "aggregate"
