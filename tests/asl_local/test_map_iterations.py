"""Test Map states: order of items, concurrency and failures."""

from __future__ import annotations

import threading

import pytest

from asl_local import TaskError
from tests.asl_local.machines import ScriptedService, build_definition, count_events, event_types, pass_state, task_state


def map_state(states=None, **fields):
    states = states or {"Run": task_state(Arguments="{% $states.input %}", Output="{% $states.result.done %}")}
    inner = {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": next(iter(states)), "States": states}
    return {"Type": "Map", "ItemProcessor": inner, "End": True, **fields}


def test_map_outputs_keep_order_of_items(runner):
    execution = runner.run(
        build_definition({"Each": map_state(Items="{% $states.input.days %}", MaxConcurrency=1)}), {"days": [3, 1]}
    )
    assert execution.output == [3, 1]
    iteration = [
        *("MapIterationStarted", "TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskSucceeded"),
        *("TaskStateExited", "MapIterationSucceeded"),
    ]
    assert event_types(execution) == [
        *("ExecutionStarted", "MapStateEntered", "MapStateStarted", *iteration, *iteration),
        *("MapStateSucceeded", "MapStateExited", "ExecutionSucceeded"),
    ]
    started = [event for event in execution.events if event["type"] == "MapIterationStarted"]
    assert [event["mapIterationStartedEventDetails"] for event in started] == [
        {"name": "Each", "index": 0},
        {"name": "Each", "index": 1},
    ]
    assert {event["previousEventId"] for event in started} == {3}
    assert execution.events[2]["mapStateStartedEventDetails"] == {"length": 2}
    ended = [event["id"] for event in execution.events if event["type"] == "MapIterationSucceeded"]
    assert execution.events[-3]["previousEventId"] == ended[-1]


def test_map_without_items_uses_input(runner):
    assert runner.run(build_definition({"Each": map_state()}), [5, 6]).output == [5, 6]


def test_empty_items_give_empty_output(runner):
    execution = runner.run(build_definition({"Each": map_state()}), [])
    assert (execution.status, execution.output) == ("SUCCEEDED", [])


def test_iteration_reads_item_input_and_variables(runner):
    output = {
        "day": "{% $states.context.Map.Item.Value %}",
        "place": "{% $states.context.Map.Item.Index %}",
        "input": "{% $states.input %}",
        "force": "{% $force %}",
    }
    states = {
        "Set": pass_state(Assign={"force": True}, Next="Each"),
        "Each": map_state({"Show": pass_state(Output=output)}, Items="{% $states.input.days %}"),
    }
    assert runner.run(build_definition(states), {"days": ["d"]}).output == [
        {"day": "d", "place": 0, "input": "d", "force": True}
    ]


def test_iterations_have_separate_variables(runner):
    inner = {
        "Set": pass_state(Assign={"mine": "{% $states.input + $base %}"}, Next="Get"),
        "Get": pass_state(Output="{% [$mine, $states.context.Map.Item.Index] %}"),
    }
    states = {"Base": pass_state(Assign={"base": 10}, Next="Each"), "Each": map_state(inner)}
    assert runner.run(build_definition(states), [1, 2, 3]).output == [[11, 0], [12, 1], [13, 2]]


def test_nested_maps(runner):
    inner = {"Inner": map_state({"Add": pass_state(Output="{% $states.input + 1 %}")})}
    assert runner.run(build_definition({"Outer": map_state(inner)}), [[1], [2, 3]]).output == [[2], [3, 4]]


def test_iterations_run_up_to_max_concurrency(runner):
    together = threading.Barrier(3, timeout=10)
    running, most = [], []

    def meet(arguments, heartbeat):
        running.append(arguments)
        most.append(len(running))
        together.wait()
        running.remove(arguments)
        return {"done": arguments}

    service = ScriptedService(*[meet] * 6)
    execution = runner.run(build_definition({"Each": map_state(MaxConcurrency="{% 3 %}")}), list(range(6)), service)
    assert execution.output == [0, 1, 2, 3, 4, 5]
    assert max(most) == 3


def test_items_other_than_array_are_evaluation_errors(runner):
    execution = runner.run(build_definition({"Each": map_state()}), {"not": "a list"})
    assert (execution.error, count_events(execution)["EvaluationFailed"]) == ("States.QueryEvaluationError", 1)


def test_failed_iteration_fails_map_state(runner):
    service = ScriptedService({"done": 0}, TaskError("Boom", "bang"))
    execution = runner.run(build_definition({"Each": map_state(MaxConcurrency=1)}), [0, 1, 2], service)
    assert (execution.status, execution.error, execution.cause) == ("FAILED", "Boom", "bang")
    assert len(service.calls) == 2
    assert event_types(execution)[-4:] == ["TaskFailed", "MapIterationFailed", "MapStateFailed", "ExecutionFailed"]


def test_map_state_catches_iteration_error(runner):
    catch = [{"ErrorEquals": ["Boom"], "Next": "After"}]
    states = {"Each": map_state(Catch=catch), "After": pass_state(Output="{% $states.input.Cause %}")}
    assert runner.run(build_definition(states), [1], ScriptedService(TaskError("Boom", "bang"))).output == "bang"


def test_map_retry_runs_all_iterations_again(runner):
    service = ScriptedService({"done": 0}, TaskError("Boom"))
    each = map_state(MaxConcurrency=1, Retry=[{"ErrorEquals": ["Boom"], "IntervalSeconds": 5}])
    execution = runner.run(build_definition({"Each": each}), [0, 1], service)
    assert execution.output == [0, 1]
    assert service.calls == [0, 1, 0, 1]
    assert (count_events(execution)["MapStateStarted"], runner.clock.sleeps) == (2, [5])


def test_failed_iteration_aborts_others(runner):
    started = threading.Barrier(2, timeout=10)

    def fail_or_wait(arguments, heartbeat):
        if arguments == 0:
            started.wait()
            return TaskError("Boom")
        started.wait()
        while True:
            heartbeat()

    execution = runner.run(build_definition({"Each": map_state()}), [0, 1], ScriptedService(fail_or_wait, fail_or_wait))
    assert (execution.status, execution.error) == ("FAILED", "Boom")
    assert count_events(execution)["MapIterationAborted"] == 1
    assert event_types(execution)[-2:] == ["MapStateFailed", "ExecutionFailed"]


def test_failed_iteration_ends_retry_wait_of_others(runner):
    waiting = threading.Event()

    class ObservedClock(type(runner.clock)):
        def sleep(self, seconds):
            waiting.set()
            failed.wait(10)
            super().sleep(seconds)

    failed = threading.Event()
    runner.clock.__class__ = ObservedClock

    def play(arguments, heartbeat):
        if arguments == 0:
            return TaskError("Busy")
        waiting.wait(10)
        return TaskError("Boom")

    def listen(event):
        if event["type"] == "MapIterationFailed":
            failed.set()

    runner.heard = type("Listener", (list,), {"append": staticmethod(listen)})()
    run = task_state(Arguments="{% $states.input %}", Retry=[{"ErrorEquals": ["Busy"], "IntervalSeconds": 900}])
    execution = runner.run(build_definition({"Each": map_state({"Run": run})}), [0, 1], ScriptedService(play, play))
    assert execution.error == "Boom"
    assert sum(runner.clock.sleeps) < 900


def test_interrupt_in_iteration_aborts_execution(runner):
    def stop(arguments, heartbeat):
        return KeyboardInterrupt()

    execution = runner.run(build_definition({"Each": map_state()}), [0, 1], ScriptedService(stop, stop))
    assert execution.status == "ABORTED"
    assert event_types(execution)[-1] == "ExecutionAborted"


def test_machine_timeout_ends_all_iterations(runner):
    def waiting(arguments, heartbeat):
        while True:
            runner.clock.advance(10)
            heartbeat()

    execution = runner.run(
        build_definition({"Each": map_state()}, TimeoutSeconds=50), [0, 1, 2], ScriptedService(*[waiting] * 3)
    )
    assert execution.status == "TIMED_OUT"


def test_service_exception_in_iteration_stops_others(runner):
    both = threading.Barrier(2, timeout=10)

    def play(arguments, heartbeat):
        both.wait()
        while arguments:
            heartbeat()
        return ZeroDivisionError()

    with pytest.raises(ZeroDivisionError):
        runner.run(build_definition({"Each": map_state()}), [0, 1], ScriptedService(play, play))


@pytest.mark.parametrize("concurrency", [1, 0])
def test_service_exception_in_iteration_propagates(runner, concurrency):
    with pytest.raises(ZeroDivisionError):
        runner.run(
            build_definition({"Each": map_state(MaxConcurrency=concurrency)}),
            [0, 1],
            ScriptedService(*[ZeroDivisionError()] * 2),
        )
