"""Test resuming after failures, aborts and kills, and which executions cannot be resumed."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asl_local import FakeClock, StateMachine, TaskError, read_events, resume_execution, run_execution
from asl_local.errors import StateMachineError
from tests.asl_local.machines import (
    GET,
    JOB,
    ScriptedService,
    build_definition,
    count_events,
    event_types,
    load_definition,
    pass_state,
    task_state,
)


def resume(runner, service=None, machine=None):
    return resume_execution(
        machine or StateMachine.load(runner.directory / "daily.asl.json"),
        journal=runner.journal,
        services={JOB: service or ScriptedService(), GET: service or ScriptedService()},
        clock=runner.clock,
        random=random.Random(8),  # noqa: S311
        listener=runner.heard.append,
    )


TWO = build_definition(
    {
        "First": task_state(Arguments={"n": 1}, Assign={"day": "{% $states.input.day %}"}, Next="Second"),
        "Second": task_state(Arguments={"n": 2, "day": "{% $day %}"}, Next="Last"),
        "Last": pass_state(Output={"day": "{% $day %}", "redrives": "{% $states.context.Execution.RedriveCount %}"}),
    }
)


def test_redrive_restores_input_and_variables(runner):
    first = runner.run(TWO, {"day": "d"}, ScriptedService("one", TaskError("Boom")))
    assert first.status == "FAILED"
    service = ScriptedService("two")
    again = resume(runner, service)
    assert (again.status, again.output) == ("SUCCEEDED", {"day": "d", "redrives": 1})
    assert service.calls == [{"n": 2, "day": "d"}]
    assert again.redrive_count == 1
    assert again.name == "daily-2025-11-30-1"
    assert again.events[: len(first.events)] == first.events
    assert event_types(again)[len(first.events) :][:3] == ["ExecutionRedriven", "TaskScheduled", "TaskStarted"]


def test_aborted_execution_can_be_resumed(runner):
    assert runner.run(TWO, {"day": "d"}, ScriptedService(KeyboardInterrupt())).status == "ABORTED"
    assert resume(runner).status == "SUCCEEDED"


def test_redrive_resets_machine_timeout(runner):
    definition = build_definition({"First": task_state(Next="T"), "T": task_state()}, TimeoutSeconds=100)

    def slow(arguments, heartbeat):
        runner.clock.advance(60)
        heartbeat()

    assert runner.run(definition, service=ScriptedService(slow, slow)).status == "TIMED_OUT"
    assert resume(runner, ScriptedService(slow)).status == "SUCCEEDED"


def test_redrive_resets_retries(runner):
    definition = build_definition({"T": task_state(Retry=[{"ErrorEquals": ["A"], "MaxAttempts": 1}])})
    assert runner.run(definition, service=ScriptedService(TaskError("A"), TaskError("A"))).status == "FAILED"
    assert resume(runner, ScriptedService(TaskError("A"), "done")).output == "done"


def test_redrives_are_counted(runner):
    runner.run(TWO, {"day": "d"}, ScriptedService("one", TaskError("Boom")))
    assert resume(runner, ScriptedService(TaskError("Boom"))).status == "FAILED"
    assert resume(runner).output == {"day": "d", "redrives": 2}


def test_redrive_repeats_task_with_unusable_result(runner):
    definition = build_definition({"T": task_state(Output="{% $states.result.id %}")})
    assert runner.run(definition, service=ScriptedService({})).error == "States.QueryEvaluationError"
    assert resume(runner, ScriptedService({"id": 5})).output == 5


def test_redrive_continues_unfinished_iterations(runner):
    inner = {
        "Load": task_state(Arguments={"load": "{% $states.input %}"}, Assign={"loaded": "{% $states.result %}"}, Next="Sum"),
        "Sum": task_state(Arguments={"sum": "{% $loaded %}"}),
    }
    each = {"Type": "Map", "MaxConcurrency": 1, "ItemProcessor": {"StartAt": "Load", "States": inner}, "End": True}
    first = ScriptedService("a", "A", "b", TaskError("Boom"))
    assert runner.run(build_definition({"Each": each}), [1, 2, 3], first).status == "FAILED"
    second = ScriptedService("B", "c", "C")
    again = resume(runner, second)
    assert again.output == ["A", "B", "C"]
    assert second.calls == [{"sum": "b"}, {"load": 3}, {"sum": "c"}]


def test_redrive_skips_finished_iterations(runner):
    each = {
        "Type": "Map",
        "MaxConcurrency": 1,
        "ItemProcessor": {"StartAt": "A", "States": {"A": task_state()}},
        "End": True,
    }
    runner.run(build_definition({"Each": each}), [1, 2], ScriptedService("a", TaskError("Boom")))
    started = [event for event in resume(runner).events if event["type"] == "MapIterationStarted"]
    assert [event["mapIterationStartedEventDetails"]["index"] for event in started] == [0, 1, 1]


def test_redrive_uses_result_after_machine_timeout(runner):
    def slow(arguments, heartbeat):
        runner.clock.advance(101)
        return "done"

    assert (
        runner.run(build_definition({"T": task_state()}, TimeoutSeconds=100), service=ScriptedService(slow)).status
        == "TIMED_OUT"
    )
    service = ScriptedService()
    assert resume(runner, service).output == "done"
    assert service.calls == []


# -- kills ------------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """End a run like SIGKILL: nothing is written after it."""


EVERYTHING = build_definition(
    {
        "Day": pass_state(Assign={"day": "{% $states.input.day %}"}, Next="Ingest"),
        "Ingest": task_state(
            Arguments={"stage": "ingest"},
            Assign={"rows": "{% $states.result.rows %}"},
            Retry=[{"ErrorEquals": ["Busy"], "IntervalSeconds": 5}],
            Next="Look",
        ),
        "Look": {
            "Type": "Choice",
            "Choices": [{"Condition": "{% $rows > 0 %}", "Next": "Rest", "Assign": {"seen": True}}],
            "Default": "Lost",
        },
        "Rest": pass_state(Next="Each"),
        "Each": {
            "Type": "Map",
            "Items": ["x", "y"],
            "MaxConcurrency": 1,
            "ItemProcessor": {
                "StartAt": "Sub",
                "States": {
                    "Sub": task_state(
                        Arguments={"stage": "{% $states.input %}"},
                        Assign={"sub": "{% $states.result.rows %}"},
                        Next="Add",
                    ),
                    "Add": pass_state(Output="{% $sub + $rows %}"),
                },
            },
            "Assign": {"sums": "{% $states.result %}"},
            "Next": "Broken",
        },
        "Broken": task_state(
            Arguments={"stage": "broken"},
            Catch=[{"ErrorEquals": ["Boom"], "Next": "Done", "Assign": {"caught": "{% $states.errorOutput.Cause %}"}}],
            Next="Lost",
        ),
        "Done": {
            "Type": "Succeed",
            "Output": {
                "day": "{% $day %}",
                "rows": "{% $rows %}",
                "seen": "{% $seen %}",
                "sums": "{% $sums %}",
                "caught": "{% $caught %}",
            },
        },
        "Lost": {"Type": "Fail", "Error": "Lost"},
    }
)
FINAL = {"day": "d", "rows": 4, "seen": True, "sums": [5, 6], "caught": "bang"}


class Shop:
    """A service whose answers depend on the arguments only, except for one Busy error."""

    def __init__(self):
        self.was_busy = False

    def __call__(self, resource, arguments, *, timeout_seconds, heartbeat):
        stage = arguments["stage"]
        if stage == "ingest" and not self.was_busy:
            self.was_busy = True
            raise TaskError("Busy")
        if stage == "broken":
            raise TaskError("Boom", "bang")
        return {"rows": {"ingest": 4, "x": 1, "y": 2}[stage]}


def run_with_kills(directory: Path, kills: list, torn: bytes = b"") -> tuple:
    """Run EVERYTHING with a kill and a resume after each number of events in ``kills``; return its events."""
    machine = load_definition(directory, EVERYTHING)
    journal, shop = directory / "history.jsonl", Shop()
    plan = iter(kills)
    left = [next(plan, None)]

    def listen(event):
        if event["type"] == "RetryScheduled" or left[0] is None:
            return
        left[0] -= 1
        if left[0] == 0:
            left[0] = next(plan, None)
            raise Killed

    common = {"services": {JOB: shop, GET: shop}, "journal": journal, "listener": listen, "clock": FakeClock()}
    started = False
    while True:
        try:
            if not started:
                started = True
                execution = run_execution(machine, name="x", input={"day": "d"}, **common)
            else:
                execution = resume_execution(machine, **common)
        except Killed:
            with journal.open("ab") as file:
                file.write(torn)
            continue
        except StateMachineError as refused:
            assert "succeeded and cannot be resumed" in str(refused)  # killed after the last event
            return read_events(journal), machine
        return list(execution.events), machine


LENGTH = len(run_with_kills(Path(tempfile.mkdtemp()), [])[0])


def check_history(events):
    assert json.loads(events[-1]["executionSucceededEventDetails"]["output"]) == FINAL
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    entered = Counter(event["stateEnteredEventDetails"]["name"] for event in events if "stateEnteredEventDetails" in event)
    exited = Counter(event["stateExitedEventDetails"]["name"] for event in events if "stateExitedEventDetails" in event)
    times = {"Sub": 2, "Add": 2}
    assert entered == exited == Counter({name: times.get(name, 1) for name in exited})
    finished = Counter()
    scheduled = {}
    for event in events:
        if event["type"] == "TaskScheduled":
            scheduled[event["id"]] = event["taskScheduledEventDetails"]["parameters"]
        if event["type"] == "TaskSucceeded":
            finished[scheduled[event["id"] - 2]] += 1
    assert set(finished.values()) == {1}, "a task that succeeded ran again"
    assert len(finished) == 3


@pytest.mark.parametrize("after", range(1, LENGTH + 1))
def test_kill_after_any_event_is_resumed(tmp_path, after):
    events, _ = run_with_kills(tmp_path, [after])
    check_history(events)
    assert Counter(event["type"] for event in events)["ExecutionRedriven"] == (after < LENGTH)


@settings(max_examples=60)
@given(kills=st.lists(st.integers(1, 20), max_size=8), torn=st.sampled_from([b"", b'{"timest', b"\x00\x00", b"{}\n"]))
def test_any_series_of_kills_gives_same_output(kills, torn):
    with tempfile.TemporaryDirectory() as directory:
        events, _ = run_with_kills(Path(directory), kills, torn)
        check_history(events)


@settings(max_examples=40)
@given(data=st.data())
def test_kill_in_map_repeats_no_finished_task(data):
    inner = {
        "A": task_state(Arguments={"a": "{% $states.input %}"}, Next="B"),
        "B": task_state(Arguments={"b": "{% $states.input.done.a %}"}),
    }
    each = {"Type": "Map", "MaxConcurrency": 3, "ItemProcessor": {"StartAt": "A", "States": inner}, "End": True}
    after = data.draw(st.integers(1, 50))
    with tempfile.TemporaryDirectory() as directory:
        machine = load_definition(Path(directory), build_definition({"Each": each}))
        service, seen = ScriptedService(), Counter()

        def listen(event):
            seen["events"] += 1
            if seen["events"] == after:
                raise Killed

        common = {"services": {JOB: service}, "journal": Path(directory) / "h.jsonl", "clock": FakeClock()}
        try:
            execution = run_execution(machine, name="x", input=[0, 1, 2, 3], listener=listen, **common)
        except Killed:
            if read_events(common["journal"])[-1]["type"] == "ExecutionSucceeded":
                return
            execution = resume_execution(machine, **common)
        assert execution.output == [{"done": {"b": n}} for n in range(4)]
        assert count_events(execution)["MapIterationSucceeded"] == 4
        assert count_events(execution)["TaskSucceeded"] == 8
        assert count_events(execution)["TaskStateEntered"] == 8


SCRIPT = """
import os, sys
from pathlib import Path
from asl_local import FakeClock, StateMachine, run_execution
from tests.asl_local.test_resume import Shop

left = int(sys.argv[2])

def listen(event):
    global left
    left -= event["type"] != "RetryScheduled"
    if left == 0:
        os._exit(9)

directory = Path(sys.argv[1])
shop = Shop()
run_execution(
    StateMachine.load(directory / "daily.asl.json"), name="x", input={"day": "d"}, journal=directory / "history.jsonl",
    services={"arn:aws:states:::glue:startJobRun.sync": shop}, listener=listen, clock=FakeClock(),
)
"""


@pytest.mark.parametrize("after", [1, 9, 30])
def test_killed_process_is_resumed(tmp_path, after):
    machine = load_definition(tmp_path, EVERYTHING)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(tmp_path), str(after)]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 9
    journal = tmp_path / "history.jsonl"
    assert len(read_events(journal)) == after
    execution = resume_execution(machine, journal=journal, services={JOB: Shop()}, clock=FakeClock())
    check_history(list(execution.events))


# -- errors -----------------------------------------------------------------------------------------------------------


def test_succeeded_execution_cannot_be_resumed(runner):
    runner.run(build_definition({"A": pass_state()}))
    before = runner.journal.read_bytes()
    with pytest.raises(StateMachineError, match="succeeded and cannot be resumed"):
        resume(runner)
    assert runner.journal.read_bytes() == before


def test_changed_definition_cannot_be_resumed(runner):
    runner.run(TWO, {"day": "d"}, ScriptedService("one", TaskError("Boom")))
    changed = load_definition(runner.directory, build_definition({"Second": task_state()}))
    with pytest.raises(StateMachineError, match=r"a definition of .* that differs"):
        resume(runner, machine=changed)


def test_resume_needs_all_services(runner):
    runner.run(TWO, {"day": "d"}, ScriptedService(TaskError("Boom")))
    with pytest.raises(StateMachineError, match="no local service"):
        resume_execution(load_definition(runner.directory, TWO), journal=runner.journal, services={})


def test_resume_needs_journal(runner):
    load_definition(runner.directory, TWO)
    with pytest.raises(StateMachineError, match="cannot be opened"):
        resume(runner)


def test_resume_needs_started_event(runner):
    load_definition(runner.directory, TWO)
    runner.journal.write_text('{"timestamp":')
    with pytest.raises(StateMachineError, match="has no ExecutionStarted event"):
        resume(runner)


def test_running_execution_cannot_be_resumed(runner):
    refused = []

    def try_to_resume(arguments, heartbeat):
        try:
            resume(runner)
        except StateMachineError as refusal:
            refused.append(str(refusal))

    runner.run(build_definition({"T": task_state()}), service=ScriptedService(try_to_resume))
    assert len(refused) == 1
    assert "another process is running this execution" in refused[0]
