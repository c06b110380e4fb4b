"""Test each type of state and the events it records."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import pytest

from asl_local import TaskError, TaskTimeout, run_execution
from asl_local.errors import StateMachineError
from asl_local.history import get_event_details
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

RETRY = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 10, "MaxAttempts": 3, "BackoffRate": 2}


def details_of_type(execution, kind):
    return [get_event_details(event) for event in execution.events if event["type"] == kind]


# -- states -----------------------------------------------------------------------------------------------------------


def test_task_records_events_of_step_functions(runner):
    service = ScriptedService({"JobRunState": "SUCCEEDED"})
    definition = build_definition({"Ingest": task_state(Arguments={"JobName": "{% $states.input.job %}"}, TimeoutSeconds=60)})
    execution = runner.run(definition, {"job": "daybook"}, service)
    assert execution.status == "SUCCEEDED"
    assert execution.output == {"JobRunState": "SUCCEEDED"}
    assert service.calls == [{"JobName": "daybook"}]
    assert event_types(execution) == [
        *("ExecutionStarted", "TaskStateEntered", "TaskScheduled", "TaskStarted", "TaskSucceeded", "TaskStateExited"),
        "ExecutionSucceeded",
    ]
    assert [event["id"] for event in execution.events] == [1, 2, 3, 4, 5, 6, 7]
    assert [event["previousEventId"] for event in execution.events] == [0, 0, 2, 3, 4, 5, 6]
    assert execution.events[0]["timestamp"] == "2025-12-01T02:00:00.000Z"
    assert details_of_type(execution, "TaskScheduled") == [
        {
            "resourceType": "glue",
            "resource": "startJobRun.sync",
            "region": "local",
            "parameters": '{"JobName":"daybook"}',
            "timeoutInSeconds": 60,
        }
    ]
    assert execution.events[1]["stateEnteredEventDetails"] == {"name": "Ingest", "input": '{"job":"daybook"}'}
    assert execution.events[5]["stateExitedEventDetails"] == {
        "name": "Ingest",
        "output": '{"JobRunState":"SUCCEEDED"}',
    }


def test_listener_and_journal_get_every_event(runner):
    execution = runner.run(build_definition({"A": pass_state()}))
    assert runner.heard == list(execution.events)
    assert [json.loads(line) for line in runner.journal.read_text().splitlines()] == runner.heard


def test_output_and_assign_use_previous_variables(runner):
    states = {
        "One": pass_state(Assign={"x": 1}, Next="Two"),
        "Two": pass_state(Assign={"x": "{% $x + 1 %}", "y": "{% $x %}"}, Output="{% $x %}", Next="Three"),
        "Three": pass_state(Output={"x": "{% $x %}", "y": "{% $y %}", "from": "{% $states.input %}"}),
    }
    execution = runner.run(build_definition(states))
    assert execution.output == {"x": 2, "y": 1, "from": 1}
    assert details_of_type(execution, "PassStateExited")[1]["assignedVariables"] == {"x": "2", "y": "1"}


def test_default_output_is_result_or_input(runner):
    assert runner.run(
        build_definition({"A": task_state(Next="B"), "B": pass_state()}), service=ScriptedService([1, 2])
    ).output == [1, 2]


def test_null_output_is_kept(runner):
    assert runner.run(build_definition({"A": pass_state(Output=None)}), {"x": 1}).output is None


def test_context_object(runner):
    fields = ["Execution.Id", "Execution.Name", "Execution.Input", "Execution.StartTime", "Execution.RedriveCount"]
    fields += ["State.Name", "State.EnteredTime", "State.RetryCount", "StateMachine.Name"]
    output = {field: "{% $states.context." + field + " %}" for field in fields}
    assert runner.run(build_definition({"A": pass_state(Output=output)}), {"run_date": "2025-11-30"}).output == {
        "Execution.Id": "arn:aws:states:local:000000000000:execution:daily:daily-2025-11-30-1",
        "Execution.Name": "daily-2025-11-30-1",
        "Execution.Input": {"run_date": "2025-11-30"},
        "Execution.StartTime": "2025-12-01T02:00:00.000Z",
        "Execution.RedriveCount": 0,
        "State.Name": "A",
        "State.EnteredTime": "2025-12-01T02:00:00.000Z",
        "State.RetryCount": 0,
        "StateMachine.Name": "daily",
    }


CHOICE = build_definition(
    {
        "Look": {
            "Type": "Choice",
            "Choices": [
                {"Condition": "{% $states.input.n > 10 %}", "Next": "Big", "Assign": {"size": "big"}},
                {"Condition": "{% $states.input.n > 5 %}", "Next": "Middle", "Output": "{% $states.input.n * 2 %}"},
            ],
            "Default": "Small",
        },
        "Big": pass_state(Output="{% $size %}"),
        "Middle": pass_state(),
        "Small": pass_state(),
    }
)


@pytest.mark.parametrize(("n", "output"), [(11, "big"), (6, 12), (1, {"n": 1})])
def test_choice_uses_first_true_rule_or_default(runner, n, output):
    assert runner.run(CHOICE, {"n": n}).output == output


def test_choice_without_match_or_default_fails(runner):
    rule = {"Condition": "{% false %}", "Next": "B"}
    execution = runner.run(build_definition({"A": {"Type": "Choice", "Choices": [rule]}, "B": pass_state()}))
    assert (execution.status, execution.error) == ("FAILED", "States.NoChoiceMatched")


def test_condition_other_than_boolean_is_evaluation_error(runner):
    rule = {"Condition": "{% 'yes' %}", "Next": "B"}
    execution = runner.run(build_definition({"A": {"Type": "Choice", "Choices": [rule]}, "B": pass_state()}))
    assert execution.error == "States.QueryEvaluationError"
    assert "'Choices[0]/Condition' must be true or false" in execution.cause


@pytest.mark.parametrize("field", ["Error", "Cause"])
def test_fail_state_with_other_than_string_is_evaluation_error(runner, field):
    execution = runner.run(build_definition({"A": {"Type": "Fail", field: "{% 1 %}"}}))
    assert execution.error == "States.QueryEvaluationError"
    assert f"The field '{field}' must be a string, and is 1." in execution.cause


def test_fail_state_sets_error_and_cause(runner):
    fail = {"Type": "Fail", "Error": "Rejected", "Cause": "{% 'on ' & $states.input.day %}"}
    execution = runner.run(build_definition({"A": fail}), {"day": "2025-11-30"})
    assert (execution.status, execution.error, execution.cause) == ("FAILED", "Rejected", "on 2025-11-30")
    assert event_types(execution) == ["ExecutionStarted", "FailStateEntered", "ExecutionFailed"]
    assert execution.output is None


def test_fail_state_without_error_and_cause(runner):
    execution = runner.run(build_definition({"A": {"Type": "Fail"}}))
    assert (execution.status, execution.error, execution.cause) == ("FAILED", None, None)


def test_succeed_state_ends_execution_with_output(runner):
    execution = runner.run(build_definition({"A": {"Type": "Succeed", "Output": "{% $states.input.n + 1 %}"}}), {"n": 1})
    assert execution.output == 2
    assert event_types(execution)[1:3] == ["SucceedStateEntered", "SucceedStateExited"]


# -- failures ---------------------------------------------------------------------------------------------------------


def test_undefined_expression_fails_execution(runner):
    execution = runner.run(build_definition({"A": pass_state(Output={"x": "{% $states.input.absent %}"})}))
    assert execution.status == "FAILED"
    assert execution.error == "States.QueryEvaluationError"
    assert "executing the state 'A' (entered at the event id #2)" in execution.cause
    assert details_of_type(execution, "EvaluationFailed") == [
        {
            "error": "States.QueryEvaluationError",
            "cause": "The JSONata expression '$states.input.absent' specified for the field 'Output/x' "
            "returned nothing (undefined).",
            "location": "Output/x",
            "state": "A",
        }
    ]


def test_pass_state_has_no_result(runner):
    assert runner.run(build_definition({"A": pass_state(Output="{% $states.result %}")})).error == "States.QueryEvaluationError"


def test_failed_task_fails_execution(runner):
    execution = runner.run(
        build_definition({"A": task_state()}), service=ScriptedService(TaskError("States.TaskFailed", '{"Id":"jr_1"}'))
    )
    assert (execution.status, execution.error, execution.cause) == ("FAILED", "States.TaskFailed", '{"Id":"jr_1"}')
    assert details_of_type(execution, "TaskFailed") == [
        {
            "resourceType": "glue",
            "resource": "startJobRun.sync",
            "error": "States.TaskFailed",
            "cause": '{"Id":"jr_1"}',
        }
    ]


def test_catch_passes_error_and_cause(runner):
    catch = [
        {"ErrorEquals": ["Other"], "Next": "Wrong"},
        {
            "ErrorEquals": ["States.ALL"],
            "Next": "Handle",
            "Assign": {"error": "{% $states.errorOutput.Error %}"},
            "Output": "{% $states.input.day & ': ' & $states.errorOutput.Cause %}",
        },
    ]
    states = {
        "A": task_state(Catch=catch, Next="Wrong"),
        "Handle": pass_state(Output={"error": "{% $error %}", "input": "{% $states.input %}"}),
        "Wrong": {"Type": "Fail"},
    }
    execution = runner.run(build_definition(states), {"day": "d"}, ScriptedService(TaskError("Boom", "bang")))
    assert execution.output == {"error": "Boom", "input": "d: bang"}


def test_catch_without_output_passes_error_output(runner):
    states = {"A": task_state(Catch=[{"ErrorEquals": ["Boom"], "Next": "B"}]), "B": pass_state()}
    execution = runner.run(build_definition(states), service=ScriptedService(TaskError("Boom", "bang")))
    assert execution.output == {"Error": "Boom", "Cause": "bang"}


def test_catch_handles_evaluation_error_in_task(runner):
    catch = [{"ErrorEquals": ["States.QueryEvaluationError"], "Next": "B"}]
    states = {"A": task_state(Arguments="{% $states.input.absent %}", Catch=catch), "B": pass_state(Output="caught")}
    assert runner.run(build_definition(states)).output == "caught"


def test_evaluation_error_in_catch_fails_execution(runner):
    catch = [{"ErrorEquals": ["States.ALL"], "Next": "B", "Output": "{% $states.result %}"}]
    execution = runner.run(
        build_definition({"A": task_state(Catch=catch), "B": pass_state()}), service=ScriptedService(TaskError("Boom"))
    )
    assert (execution.status, execution.error) == ("FAILED", "States.QueryEvaluationError")


@pytest.mark.parametrize(
    "definition",
    [
        build_definition({"A": pass_state(Output="{% $pad('', 262143, 'x') %}")}),
        build_definition({"A": pass_state(Assign={"x": "{% $pad('', 262143, 'x') %}"})}),
        build_definition(
            {"A": task_state(Arguments="{% $pad('', 262143, 'x') %}", Catch=[{"ErrorEquals": ["States.ALL"], "Next": "A"}])}
        ),
    ],
)
def test_states_all_does_not_catch_data_limit_exceeded(runner, definition):
    assert runner.run(definition).error == "States.DataLimitExceeded"


def test_256_kib_exactly_is_allowed(runner):
    assert runner.run(build_definition({"A": pass_state(Output="{% $pad('', 262142, 'x') %}")})).status == "SUCCEEDED"


def test_result_over_256_kib_fails_task_state(runner):
    assert (
        runner.run(build_definition({"A": task_state()}), service=ScriptedService("é" * 131_072)).error
        == "States.DataLimitExceeded"
    )


# -- retries and time -------------------------------------------------------------------------------------------------


def test_retries_wait_longer_and_are_recorded(runner):
    service = ScriptedService(TaskError("A"), TaskError("B"), "done")
    execution = runner.run(
        build_definition({"T": task_state(Retry=[RETRY], Output="{% $states.context.State.RetryCount %}")}), {}, service
    )
    assert execution.output == 2
    assert runner.clock.sleeps == [10, 20]
    assert (count_events(execution)["TaskScheduled"], count_events(execution)["TaskFailed"]) == (3, 2)


def test_retry_notice_goes_to_listener_only(runner):
    execution = runner.run(build_definition({"T": task_state(Retry=[RETRY])}), service=ScriptedService(TaskError("A"), "done"))
    notice = {"type": "RetryScheduled", "stateName": "T", "waitSeconds": 10.0, "attempt": 1, "error": "A"}
    assert notice in runner.heard
    assert "RetryScheduled" not in event_types(execution)


def test_catch_applies_after_max_attempts(runner):
    service = ScriptedService(*[TaskError("A", str(n)) for n in range(9)])
    states = {"T": task_state(Retry=[RETRY], Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}]), "B": pass_state()}
    execution = runner.run(build_definition(states), service=service)
    assert len(service.calls) == 4
    assert execution.output == {"Error": "A", "Cause": "3"}


def test_retriers_count_attempts_separately(runner):
    busy = {"ErrorEquals": ["Busy"], "IntervalSeconds": 100, "MaxAttempts": 1}
    service = ScriptedService(TaskError("Busy"), TaskError("X"), TaskError("X"), TaskError("Busy"))
    execution = runner.run(build_definition({"T": task_state(Retry=[busy, RETRY])}), service=service)
    assert runner.clock.sleeps == [100, 10, 20]
    assert (execution.status, execution.error) == ("FAILED", "Busy")


def test_retry_defaults_are_those_of_step_functions(runner):
    service = ScriptedService(*[TaskError("A") for _ in range(9)])
    runner.run(build_definition({"T": task_state(Retry=[{"ErrorEquals": ["A"]}])}), service=service)
    assert runner.clock.sleeps == [1, 2, 4]


def test_retry_count_resets_when_state_is_reentered(runner):
    look = {"Condition": "{% $states.input.again %}", "Next": "T"}
    states = {
        "T": task_state(Retry=[{"ErrorEquals": ["A"], "MaxAttempts": 1}], Next="Look"),
        "Look": {"Type": "Choice", "Choices": [look], "Default": "Done"},
        "Done": {"Type": "Succeed"},
    }
    service = ScriptedService(TaskError("A"), {"again": True}, TaskError("A"), {"again": False})
    assert runner.run(build_definition(states), service=service).status == "SUCCEEDED"
    assert runner.clock.sleeps == [1, 1]


def test_failed_assign_retries_task(runner):
    service = ScriptedService({}, {"id": 1})
    states = {"T": task_state(Retry=[RETRY], Assign={"id": "{% $states.result.id %}"})}
    execution = runner.run(build_definition(states), service=service)
    assert (execution.status, len(service.calls)) == ("SUCCEEDED", 2)


@pytest.mark.parametrize(
    "overrun",
    [TaskTimeout("too slow"), lambda runner: lambda *_: runner.clock.advance(61)],
    ids=["the service stops the task", "the service does not"],
)
def test_task_over_timeout_fails_with_states_timeout(runner, overrun):
    catch = [{"ErrorEquals": ["States.TaskFailed"], "Next": "No"}, {"ErrorEquals": ["States.Timeout"], "Next": "Yes"}]
    states = {"T": task_state(TimeoutSeconds=60, Catch=catch), "No": {"Type": "Fail"}, "Yes": pass_state()}
    service = ScriptedService(overrun if isinstance(overrun, Exception) else overrun(runner))
    execution = runner.run(build_definition(states), service=service)
    assert execution.output["Error"] == "States.Timeout"
    assert count_events(execution)["TaskTimedOut"] == 1
    assert service.limits == [60]


def test_service_gets_remaining_time_of_machine(runner):
    states = {"First": task_state(Next="T"), "T": task_state(TimeoutSeconds=60)}
    service = ScriptedService(lambda *_: runner.clock.advance(70))
    runner.run(build_definition(states, TimeoutSeconds=100), service=service)
    assert service.limits == [100, 30]


def test_catch_does_not_handle_machine_timeout(runner):
    def slow(arguments, heartbeat):
        runner.clock.advance(101)
        return TaskTimeout()

    states = {"T": task_state(Retry=[RETRY], Catch=[{"ErrorEquals": ["States.ALL"], "Next": "B"}]), "B": pass_state()}
    execution = runner.run(build_definition(states, TimeoutSeconds=100), service=ScriptedService(slow))
    assert (execution.status, execution.error) == ("TIMED_OUT", "States.Timeout")
    assert event_types(execution)[-1] == "ExecutionTimedOut"


def test_retry_wait_ends_at_machine_timeout(runner):
    states = {"T": task_state(Retry=[{"ErrorEquals": ["A"], "IntervalSeconds": 1000}])}
    execution = runner.run(build_definition(states, TimeoutSeconds=100), service=ScriptedService(TaskError("A")))
    assert execution.status == "TIMED_OUT"
    assert runner.clock.sleeps == [100]


def test_heartbeat_raises_after_machine_timeout(runner):
    def waiting(arguments, heartbeat):
        while True:
            runner.clock.advance(10)
            heartbeat()

    assert (
        runner.run(build_definition({"T": task_state()}, TimeoutSeconds=100), service=ScriptedService(waiting)).status
        == "TIMED_OUT"
    )


# -- starting ---------------------------------------------------------------------------------------------------------


def test_missing_service_is_rejected(runner):
    machine = load_definition(runner.directory, build_definition({"T": task_state(Resource=GET)}))
    with pytest.raises(StateMachineError, match=r"no local service for .*s3:getObject; the local services are .*glue"):
        run_execution(machine, name="x", input={}, services={JOB: ScriptedService()}, journal=runner.journal)
    assert not runner.journal.exists()


@pytest.mark.parametrize("name", ["", "a:b", "x" * 81, "daily 1"])
def test_invalid_execution_name_is_rejected(runner, name):
    with pytest.raises(StateMachineError, match="execution name"):
        runner.run(build_definition({"A": pass_state()}), name=name)
    assert not runner.journal.exists()


@pytest.mark.parametrize("data", [{"x": "y" * 300_000}, {"x": datetime.now(timezone.utc)}, float("nan")])
def test_input_over_256_kib_or_not_json_is_rejected(runner, data):
    with pytest.raises(StateMachineError, match="256 KiB"):
        runner.run(build_definition({"A": pass_state()}), data)
    assert not runner.journal.exists()


def test_existing_journal_is_rejected(runner):
    runner.run(build_definition({"A": pass_state()}))
    before = runner.journal.read_bytes()
    with pytest.raises(StateMachineError, match="was already started"):
        runner.run(build_definition({"A": pass_state()}))
    assert runner.journal.read_bytes() == before


def test_interrupt_aborts_execution(runner):
    execution = runner.run(build_definition({"T": task_state(Retry=[RETRY])}), service=ScriptedService(KeyboardInterrupt()))
    assert execution.status == "ABORTED"
    assert event_types(execution)[-2:] == ["TaskStarted", "ExecutionAborted"]


def test_service_exception_propagates(runner):
    with pytest.raises(ZeroDivisionError):
        runner.run(build_definition({"T": task_state(Retry=[RETRY])}), service=ScriptedService(ZeroDivisionError()))
    assert json.loads(runner.journal.read_text().splitlines()[-1])["type"] == "TaskStarted"
