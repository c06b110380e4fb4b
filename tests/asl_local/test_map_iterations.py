"""Map states: items, their order, running side by side, failing together."""

from __future__ import annotations

import threading

import pytest

from asl_local import TaskError
from tests.asl_local.machines import ScriptedService, build_definition, count_events, event_types, pass_state, task_state


def mapping(states=None, **fields):
    states = states or {"Run": task_state(Arguments="{% $states.input %}", Output="{% $states.result.done %}")}
    inner = {"ProcessorConfig": {"Mode": "INLINE"}, "StartAt": next(iter(states)), "States": states}
    return {"Type": "Map", "ItemProcessor": inner, "End": True, **fields}


def test_outputs_come_in_the_items_order_and_the_history_tells_each_iteration(runner):
    execution = runner.run(
        build_definition({"Each": mapping(Items="{% $states.input.days %}", MaxConcurrency=1)}), {"days": [3, 1]}
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


def test_without_items_the_input_is_the_list(runner):
    assert runner.run(build_definition({"Each": mapping()}), [5, 6]).output == [5, 6]


def test_no_items_give_no_outputs(runner):
    execution = runner.run(build_definition({"Each": mapping()}), [])
    assert (execution.status, execution.output) == ("SUCCEEDED", [])


def test_the_item_selector_sees_item_input_and_variables(runner):
    selector = {
        "day": "{% $states.context.Map.Item.Value %}",
        "place": "{% $states.context.Map.Item.Index %}",
        "shop": "{% $states.input.shop %}",
        "force": "{% $force %}",
    }
    states = {
        "Set": pass_state(Assign={"force": True}, Next="Each"),
        "Each": mapping(Items="{% $states.input.days %}", ItemSelector=selector),
    }
    assert runner.run(build_definition(states), {"shop": "s", "days": ["d"]}).output == [
        {"day": "d", "place": 0, "shop": "s", "force": True}
    ]


def test_variables_of_an_iteration_are_its_own(runner):
    inner = {
        "Set": pass_state(Assign={"mine": "{% $states.input + $base %}"}, Next="Get"),
        "Get": pass_state(Output="{% [$mine, $states.context.Map.Item.Index] %}"),
    }
    states = {"Base": pass_state(Assign={"base": 10}, Next="Each"), "Each": mapping(inner)}
    assert runner.run(build_definition(states), [1, 2, 3]).output == [[11, 0], [12, 1], [13, 2]]


def test_a_map_in_a_map(runner):
    inner = {"Inner": mapping({"Add": pass_state(Output="{% $states.input + 1 %}")})}
    assert runner.run(build_definition({"Outer": mapping(inner)}), [[1], [2, 3]]).output == [[2], [3, 4]]


def test_iterations_run_side_by_side_up_to_max_concurrency(runner):
    together = threading.Barrier(3, timeout=10)
    running, most = [], []

    def meet(arguments, heartbeat):
        running.append(arguments)
        most.append(len(running))
        together.wait()
        running.remove(arguments)
        return {"done": arguments}

    service = ScriptedService(*[meet] * 6)
    execution = runner.run(build_definition({"Each": mapping(MaxConcurrency="{% 3 %}")}), list(range(6)), service)
    assert execution.output == [0, 1, 2, 3, 4, 5]
    assert max(most) == 3


def test_items_that_are_no_array_are_an_evaluation_error(runner):
    execution = runner.run(build_definition({"Each": mapping()}), {"not": "a list"})
    assert (execution.error, count_events(execution)["EvaluationFailed"]) == ("States.QueryEvaluationError", 1)


def test_an_iteration_that_fails_fails_the_map_state(runner):
    service = ScriptedService({"done": 0}, TaskError("Boom", "bang"))
    execution = runner.run(build_definition({"Each": mapping(MaxConcurrency=1)}), [0, 1, 2], service)
    assert (execution.status, execution.error, execution.cause) == ("FAILED", "Boom", "bang")
    assert len(service.calls) == 2
    assert event_types(execution)[-4:] == ["TaskFailed", "MapIterationFailed", "MapStateFailed", "ExecutionFailed"]


def test_an_iterations_error_can_be_caught_by_the_map_state(runner):
    catch = [{"ErrorEquals": ["Boom"], "Next": "After"}]
    states = {"Each": mapping(Catch=catch), "After": pass_state(Output="{% $states.input.Cause %}")}
    assert runner.run(build_definition(states), [1], ScriptedService(TaskError("Boom", "bang"))).output == "bang"


def test_a_retry_of_the_map_state_starts_all_iterations_afresh(runner):
    service = ScriptedService({"done": 0}, TaskError("Boom"))
    each = mapping(MaxConcurrency=1, Retry=[{"ErrorEquals": ["Boom"], "IntervalSeconds": 5}])
    execution = runner.run(build_definition({"Each": each}), [0, 1], service)
    assert execution.output == [0, 1]
    assert service.calls == [0, 1, 0, 1]
    assert (count_events(execution)["MapStateStarted"], runner.clock.sleeps) == (2, [5])


def test_when_one_fails_the_others_are_told_and_aborted(runner):
    started = threading.Barrier(2, timeout=10)

    def wait_for_word(arguments, heartbeat):
        if arguments == 0:
            started.wait()
            return TaskError("Boom")
        started.wait()
        while True:
            heartbeat()

    execution = runner.run(build_definition({"Each": mapping()}), [0, 1, 2][:2], ScriptedService(wait_for_word, wait_for_word))
    assert (execution.status, execution.error) == ("FAILED", "Boom")
    assert count_events(execution)["MapIterationAborted"] == 1
    assert event_types(execution)[-2:] == ["MapStateFailed", "ExecutionFailed"]


def test_a_retry_wait_ends_when_another_iteration_fails(runner):
    waiting = threading.Event()

    class NotedClock(type(runner.clock)):
        def sleep(self, seconds):
            waiting.set()
            failed.wait(10)
            super().sleep(seconds)

    failed = threading.Event()
    runner.clock.__class__ = NotedClock

    def play(arguments, heartbeat):
        if arguments == 0:
            return TaskError("Busy")
        waiting.wait(10)
        return TaskError("Boom")

    def hear(event):
        if event["type"] == "MapIterationFailed":
            failed.set()

    runner.heard = type("Ear", (list,), {"append": staticmethod(hear)})()
    run = task_state(Arguments="{% $states.input %}", Retry=[{"ErrorEquals": ["Busy"], "IntervalSeconds": 900}])
    execution = runner.run(build_definition({"Each": mapping({"Run": run})}), [0, 1], ScriptedService(play, play))
    assert execution.error == "Boom"
    assert sum(runner.clock.sleeps) < 900


def test_an_interrupt_inside_an_iteration_aborts_the_execution(runner):
    def stop(arguments, heartbeat):
        return KeyboardInterrupt()

    execution = runner.run(build_definition({"Each": mapping()}), [0, 1], ScriptedService(stop, stop))
    assert execution.status == "ABORTED"
    assert event_types(execution)[-1] == "ExecutionAborted"


def test_the_machines_timeout_ends_all_iterations(runner):
    def waiting(arguments, heartbeat):
        while True:
            runner.clock.advance(10)
            heartbeat()

    execution = runner.run(build_definition({"Each": mapping()}, TimeoutSeconds=50), [0, 1, 2], ScriptedService(*[waiting] * 3))
    assert execution.status == "TIMED_OUT"


def test_a_fault_of_the_service_in_an_iteration_stops_the_others(runner):
    both = threading.Barrier(2, timeout=10)

    def play(arguments, heartbeat):
        both.wait()
        while arguments:
            heartbeat()
        return ZeroDivisionError()

    with pytest.raises(ZeroDivisionError):
        runner.run(build_definition({"Each": mapping()}), [0, 1], ScriptedService(play, play))


@pytest.mark.parametrize("concurrency", [1, 0])
def test_a_fault_of_the_service_in_an_iteration_is_not_hidden(runner, concurrency):
    with pytest.raises(ZeroDivisionError):
        runner.run(
            build_definition({"Each": mapping(MaxConcurrency=concurrency)}), [0, 1], ScriptedService(*[ZeroDivisionError()] * 2)
        )
