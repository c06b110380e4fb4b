"""What a state machine file may hold, and how a refusal reads."""

from __future__ import annotations

import json

import pytest

from asl_local import StateMachine
from asl_local.errors import StateMachineError
from tests.asl_local.machines import JOB, build_definition, load_definition, pass_state, task_state, write_definition


def refusal(tmp_path, definition) -> str:
    with pytest.raises(StateMachineError) as caught:
        load_definition(tmp_path, definition)
    return str(caught.value)


def test_a_machine_is_named_for_its_file_and_digested_regardless_of_layout(tmp_path):
    definition = build_definition({"Only": pass_state()}, TimeoutSeconds=60, Comment="x", Version="1.0")
    first = load_definition(tmp_path, definition)
    (tmp_path / "daily.asl.json").write_text(json.dumps(definition, indent=4, sort_keys=True))
    again = StateMachine.load(str(tmp_path / "daily.asl.json"))
    assert (first.name, first.timeout_seconds, first.digest) == ("daily", 60, again.digest)


def test_resources_include_those_inside_map_states(tmp_path):
    inner = {"StartAt": "Run", "States": {"Run": task_state()}}
    machine = load_definition(tmp_path, build_definition({"Each": {"Type": "Map", "ItemProcessor": inner, "End": True}}))
    assert machine.resources() == {JOB}


def test_a_refusal_names_file_state_field_and_what_is_allowed(tmp_path):
    message = refusal(tmp_path, build_definition({"Ingest": task_state(InputPath="$")}))
    assert str(tmp_path / "daily.asl.json") in message
    assert 'state "Ingest"' in message
    assert "InputPath" in message
    assert "allowed are Arguments, Assign, Catch" in message


@pytest.mark.parametrize(
    ("definition", "part"),
    [
        ([], "is a JSON object"),
        ({**build_definition({"A": pass_state()}), "QueryLanguage": "JSONPath"}, 'QueryLanguage must be "JSONata"'),
        (build_definition({"A": pass_state()}, Version="2.0"), "Version"),
        (build_definition({"A": pass_state()}, TimeoutSeconds=0), "TimeoutSeconds"),
        (build_definition({"A": pass_state()}, Retries=1), "allowed are Comment, QueryLanguage"),
        (build_definition({"A": pass_state()}, start_at="B"), "StartAt must name one of A"),
        (build_definition({"A": pass_state(Next="B")}), 'no state "B"'),
        (build_definition({"A": pass_state(), "B": pass_state()}), 'state "B": no state leads here'),
        (build_definition({"A": {"Type": "Parallel"}}), "Type must be one of Choice, Fail, Map"),
        (build_definition({"A": {"Type": "Pass"}}), "exactly one of Next and"),
        (build_definition({"A": pass_state(QueryLanguage="JSONata")}), "QueryLanguage is not known here"),
        (build_definition({"A" * 81: pass_state()}), "1 to 80 characters"),
        (build_definition({"A": task_state(Resource="glue")}), "Resource must be a service integration"),
        (build_definition({"A": task_state(Resource="arn:aws:lambda:us-east-1:1:function:f")}), "Resource"),
        (build_definition({"A": task_state(TimeoutSeconds=0)}), "TimeoutSeconds must be a whole number"),
        (build_definition({"A": task_state(Arguments={"Name.$": "$.x"})}), "JSONPath key 'Name.$'"),
        (build_definition({"A": task_state(Arguments="{% 1 + %}")}), "does not parse"),
        (build_definition({"A": task_state(Arguments={"x": "{% $eval('1') %}"})}), "$eval is not available"),
        (build_definition({"A": pass_state(Output="{% $nowhere %}")}), "uses $nowhere, which no state assigns"),
        (build_definition({"A": pass_state(Assign={"states": 1})}), "cannot set 'states'"),
        (build_definition({"A": pass_state(Assign={"a-b": 1})}), "cannot set 'a-b'"),
        (build_definition({"A": pass_state(Assign=[])}), "Assign must be an object"),
        (build_definition({"A": {"Type": "Wait", "End": True}}), "exactly one of Seconds and Timestamp"),
        (build_definition({"A": {"Type": "Wait", "Seconds": -1, "End": True}}), "Seconds must be a whole number"),
        (build_definition({"A": {"Type": "Choice", "Choices": []}}), "at least one entry"),
        (build_definition({"A": {"Type": "Choice", "Choices": [{"Condition": True, "Next": "A"}]}}), "Choices[0]/Condition"),
        (build_definition({"A": {"Type": "Choice", "Choices": [{"Condition": "{% true %}"}]}}), "Choices[0]/Next"),
        (build_definition({"A": {"Type": "Choice", "Output": 1, "Choices": []}}), "Output is not known here"),
        (build_definition({"A": {"Type": "Fail", "Error": 5}}), "Error must be a text"),
        (build_definition({"A": {"Type": "Map", "End": True}}), "needs an ItemProcessor"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": []}])}), "Retry[0]/ErrorEquals"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "BackoffRate": 0.5}])}), "BackoffRate"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "MaxAttempts": -1}])}), "MaxAttempts"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "JitterStrategy": "HALF"}])}), "JitterStrategy"),
        (
            build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "IntervalSeconds": 9, "MaxDelaySeconds": 5}])}),
            "MaxDelaySeconds",
        ),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["States.Oops"]}])}), "States.Oops"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X", "States.ALL"]}])}), "stand alone"),
        (
            build_definition({"A": task_state(Retry=[{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["X"]}])}),
            "in the last entry",
        ),
        (build_definition({"A": task_state(Catch=[{"ErrorEquals": ["X"]}])}), "Catch[0]/Next"),
        (build_definition({"A": task_state(Catch=[{"ErrorEquals": ["X"], "Next": "Gone"}])}), 'no state "Gone"'),
    ],
)
def test_what_step_functions_would_not_run_is_refused(tmp_path, definition, part):
    assert part in refusal(tmp_path, definition)


@pytest.mark.parametrize(
    ("processor", "part"),
    [
        ({"ProcessorConfig": {"Mode": "DISTRIBUTED"}}, '{"Mode": "INLINE"}'),
        ({"StartAt": "Gone"}, "StartAt must name one of Inner"),
        ({"States": {"Inner": pass_state(Next="Each")}}, 'no state "Each"'),
        ({"States": {"Inner": pass_state(Assign={"day": 1})}}, "$day, which belongs to the states around"),
        ({"States": {"Each": pass_state()}, "StartAt": "Each"}, "unique in the file"),
    ],
)
def test_a_map_states_processor_is_checked_as_strictly(tmp_path, processor, part):
    inner = {"StartAt": "Inner", "States": {"Inner": pass_state()}, **processor}
    each = {"Type": "Map", "Items": [1], "ItemProcessor": inner, "Assign": {"day": 1}, "End": True}
    assert part in refusal(tmp_path, build_definition({"Each": each}))


def test_a_variable_of_the_states_around_may_be_read_inside_a_map(tmp_path):
    inner = {"StartAt": "Inner", "States": {"Inner": pass_state(Output="{% $day %}")}}
    states = {
        "Set": pass_state(Assign={"day": 1}, Next="Each"),
        "Each": {"Type": "Map", "Items": [1], "ItemProcessor": inner, "End": True},
    }
    assert load_definition(tmp_path, build_definition(states)).name == "daily"


def test_a_variable_of_a_map_states_inside_is_unknown_outside(tmp_path):
    inner = {"StartAt": "Inner", "States": {"Inner": pass_state(Assign={"secret": 1})}}
    states = {
        "Each": {"Type": "Map", "Items": [1], "ItemProcessor": inner, "Next": "After"},
        "After": pass_state(Output="{% $secret %}"),
    }
    assert "uses $secret" in refusal(tmp_path, build_definition(states))


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "twice.asl.json"
    path.write_text('{"QueryLanguage": "JSONata", "StartAt": "A", "StartAt": "B", "States": {}}')
    with pytest.raises(StateMachineError, match="'StartAt' appears twice"):
        StateMachine.load(path)


@pytest.mark.parametrize("content", ["{", ""])
def test_a_file_that_is_not_json_is_refused(tmp_path, content):
    path = tmp_path / "broken.asl.json"
    path.write_text(content)
    with pytest.raises(StateMachineError, match=r"broken\.asl\.json: the file cannot be read as JSON"):
        StateMachine.load(path)


def test_an_absent_file_is_refused(tmp_path):
    with pytest.raises(StateMachineError, match="cannot be read"):
        StateMachine.load(tmp_path / "absent.asl.json")


def test_a_refusal_counts_the_other_faults(tmp_path):
    write_definition(tmp_path, build_definition({"A": {"Type": "Pass", "Oops": 1}}))
    with pytest.raises(StateMachineError, match="and 1 more"):
        StateMachine.load(tmp_path / "daily.asl.json")
