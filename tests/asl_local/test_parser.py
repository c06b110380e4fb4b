"""Test which state machine files are valid, and the errors of the others."""

from __future__ import annotations

import json

import pytest

from asl_local import StateMachine
from asl_local.errors import StateMachineError
from tests.asl_local.machines import JOB, build_definition, load_definition, pass_state, task_state, write_definition


def load_error(tmp_path, definition) -> str:
    with pytest.raises(StateMachineError) as caught:
        load_definition(tmp_path, definition)
    return str(caught.value)


def test_digest_ignores_layout_of_json(tmp_path):
    definition = build_definition({"Only": pass_state()}, TimeoutSeconds=60, Comment="x", Version="1.0")
    first = load_definition(tmp_path, definition)
    (tmp_path / "daily.asl.json").write_text(json.dumps(definition, indent=4, sort_keys=True))
    again = StateMachine.load(str(tmp_path / "daily.asl.json"))
    assert (first.name, first.definition.timeout_seconds, first.digest) == ("daily", 60, again.digest)


def test_resources_include_those_inside_map_states(tmp_path):
    inner = {"StartAt": "Run", "States": {"Run": task_state()}}
    machine = load_definition(tmp_path, build_definition({"Each": {"Type": "Map", "ItemProcessor": inner, "End": True}}))
    assert machine.resources() == {JOB}


def test_error_names_file_state_field_and_allowed_fields(tmp_path):
    message = load_error(tmp_path, build_definition({"Ingest": task_state(InputPath="$")}))
    assert str(tmp_path / "daily.asl.json") in message
    assert 'state "Ingest"' in message
    assert "InputPath" in message
    assert "allowed are Arguments, Assign, Catch" in message


@pytest.mark.parametrize(
    ("definition", "part"),
    [
        ([], "must be a JSON object"),
        ({**build_definition({"A": pass_state()}), "QueryLanguage": "JSONPath"}, "QueryLanguage: must be 'JSONata'"),
        (build_definition({"A": pass_state()}, Version="2.0"), "Version"),
        (build_definition({"A": pass_state()}, TimeoutSeconds=0), "TimeoutSeconds"),
        (build_definition({"A": pass_state()}, Retries=1), "allowed are Comment, QueryLanguage"),
        (build_definition({"A": pass_state()}, start_at="B"), "StartAt must name one of A"),
        (build_definition({"A": pass_state(Next="B")}), 'the next state "B" does not exist'),
        (build_definition({"A": pass_state(), "B": pass_state()}), 'state "B": the state is unreachable'),
        (build_definition({"A": {"Type": "Parallel"}}), "Type must be one of Choice, Fail, Map"),
        (build_definition({"A": {"Type": "Pass"}}), "exactly one of Next and"),
        (build_definition({"A": pass_state(QueryLanguage="JSONata")}), "QueryLanguage is not allowed here"),
        (build_definition({"A" * 81: pass_state()}), "1 to 80 characters"),
        (build_definition({"A": task_state(Resource="glue")}), "Resource: must be a service integration"),
        (build_definition({"A": task_state(Resource="arn:aws:lambda:us-east-1:1:function:f")}), "Resource"),
        (build_definition({"A": task_state(TimeoutSeconds=0)}), "TimeoutSeconds: must be greater than or equal to 1"),
        (build_definition({"A": task_state(TimeoutSeconds="{% 60 %}")}), "TimeoutSeconds: must be a valid integer"),
        (build_definition({"A": task_state(Arguments={"Name.$": "$.x"})}), "JSONPath key 'Name.$'"),
        (build_definition({"A": task_state(Arguments="{% 1 + %}")}), "does not parse"),
        (build_definition({"A": task_state(Arguments={"x": "{% $eval('1') %}"})}), "$eval is not available"),
        (build_definition({"A": pass_state(Output="{% $nowhere %}")}), "uses the unassigned variable $nowhere"),
        (build_definition({"A": pass_state(Assign={"states": 1})}), "cannot set 'states'"),
        (build_definition({"A": pass_state(Assign={"a-b": 1})}), "cannot set 'a-b'"),
        (build_definition({"A": pass_state(Assign=[])}), "Assign: must be an object"),
        (build_definition({"A": pass_state(Next=None)}), "the field Next is null"),
        (build_definition({"A": pass_state(End=1)}), "End: must be a valid boolean"),
        (build_definition({"A": task_state(TimeoutSeconds=None)}), "the field TimeoutSeconds is null"),
        (build_definition({"A": {"Type": "Wait", "Seconds": 1, "End": True}}), "Type must be one of Choice, Fail, Map"),
        (build_definition({"A": {"Type": "Succeed", "Next": "A"}}), "Next is not allowed here; allowed are Comment, Output"),
        (build_definition({"A": {"Type": "Choice", "Choices": []}}), "Choices: must have at least one entry"),
        (build_definition({"A": {"Type": "Choice", "Choices": [{"Condition": True, "Next": "A"}]}}), "Choices[0]/Condition"),
        (build_definition({"A": {"Type": "Choice", "Choices": [{"Condition": "{% true %}"}]}}), "Choices[0]/Next"),
        (build_definition({"A": {"Type": "Choice", "Output": 1, "Choices": []}}), "Output is not allowed here"),
        (build_definition({"A": {"Type": "Fail", "Error": 5}}), "Error: must be a string"),
        (build_definition({"A": {"Type": "Map", "End": True}}), "ItemProcessor: is missing"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": []}])}), "Retry[0]/ErrorEquals"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "BackoffRate": 0.5}])}), "BackoffRate"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "MaxAttempts": -1}])}), "MaxAttempts"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "JitterStrategy": "HALF"}])}), "JitterStrategy"),
        (
            build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X"], "IntervalSeconds": 9, "MaxDelaySeconds": 5}])}),
            "MaxDelaySeconds",
        ),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["States.Oops"]}])}), "States.Oops"),
        (build_definition({"A": task_state(Retry=[{"ErrorEquals": ["X", "States.ALL"]}])}), "must be the only error"),
        (
            build_definition({"A": task_state(Retry=[{"ErrorEquals": ["States.ALL"]}, {"ErrorEquals": ["X"]}])}),
            "in the last entry",
        ),
        (build_definition({"A": task_state(Catch=[{"ErrorEquals": ["X"]}])}), "Catch[0]/Next"),
        (
            build_definition({"A": task_state(Catch=[{"ErrorEquals": ["X"], "Next": "Gone"}])}),
            'the next state "Gone" does not exist',
        ),
    ],
)
def test_invalid_definition_is_rejected(tmp_path, definition, part):
    assert part in load_error(tmp_path, definition)


@pytest.mark.parametrize(
    ("processor", "part"),
    [
        ({"ProcessorConfig": {"Mode": "DISTRIBUTED"}}, "ProcessorConfig/Mode: must be 'INLINE'"),
        ({"StartAt": "Gone"}, "StartAt must name one of Inner"),
        ({"States": {"Inner": pass_state(Next="Each")}}, 'the next state "Each" does not exist'),
        ({"States": {"Inner": pass_state(Assign={"day": 1})}}, "$day, a variable of the states outside"),
        ({"States": {"Each": pass_state()}, "StartAt": "Each"}, "unique in the file"),
    ],
)
def test_item_processor_is_checked(tmp_path, processor, part):
    inner = {"StartAt": "Inner", "States": {"Inner": pass_state()}, **processor}
    each = {"Type": "Map", "Items": [1], "ItemProcessor": inner, "Assign": {"day": 1}, "End": True}
    assert part in load_error(tmp_path, build_definition({"Each": each}))


def test_map_state_reads_outer_variables(tmp_path):
    inner = {"StartAt": "Inner", "States": {"Inner": pass_state(Output="{% $day %}")}}
    states = {
        "Set": pass_state(Assign={"day": 1}, Next="Each"),
        "Each": {"Type": "Map", "Items": [1], "ItemProcessor": inner, "End": True},
    }
    assert load_definition(tmp_path, build_definition(states)).name == "daily"


def test_map_variables_are_unknown_outside(tmp_path):
    inner = {"StartAt": "Inner", "States": {"Inner": pass_state(Assign={"secret": 1})}}
    states = {
        "Each": {"Type": "Map", "Items": [1], "ItemProcessor": inner, "Next": "After"},
        "After": pass_state(Output="{% $secret %}"),
    }
    assert "uses the unassigned variable $secret" in load_error(tmp_path, build_definition(states))


def test_duplicate_key_is_rejected(tmp_path):
    path = tmp_path / "twice.asl.json"
    path.write_text('{"QueryLanguage": "JSONata", "StartAt": "A", "StartAt": "B", "States": {}}')
    with pytest.raises(StateMachineError, match="'StartAt' appears twice"):
        StateMachine.load(path)


@pytest.mark.parametrize("content", ["{", ""])
def test_invalid_json_is_rejected(tmp_path, content):
    path = tmp_path / "broken.asl.json"
    path.write_text(content)
    with pytest.raises(StateMachineError, match=r"broken\.asl\.json: the file cannot be read as JSON"):
        StateMachine.load(path)


def test_missing_file_is_rejected(tmp_path):
    with pytest.raises(StateMachineError, match="cannot be read"):
        StateMachine.load(tmp_path / "absent.asl.json")


def test_error_counts_other_findings(tmp_path):
    write_definition(tmp_path, build_definition({"A": {"Type": "Pass", "Oops": 1}, "B": {"Type": "Pass"}}))
    with pytest.raises(StateMachineError, match="and 1 more"):
        StateMachine.load(tmp_path / "daily.asl.json")
