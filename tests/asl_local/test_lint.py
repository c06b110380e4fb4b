"""Test the lint rules for state machine files."""

from __future__ import annotations

import copy

import pytest

from asl_local import lint_file
from tests.asl_local.machines import build_definition, pass_state, task_state, write_definition

RETRY = {
    "ErrorEquals": ["States.ALL"],
    "IntervalSeconds": 30,
    "MaxAttempts": 3,
    "BackoffRate": 2,
    "MaxDelaySeconds": 300,
    "JitterStrategy": "FULL",
}
GOOD = build_definition(
    {
        "Ingest": task_state(
            Arguments={"JobName": "daybook"},
            TimeoutSeconds=3600,
            Retry=[RETRY],
            Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Lost"}],
            Next="Look",
        ),
        "Look": {"Type": "Choice", "Choices": [{"Condition": "{% true %}", "Next": "Done"}], "Default": "Lost"},
        "Done": {"Type": "Succeed"},
        "Lost": {"Type": "Fail", "Error": "Lost"},
    },
    TimeoutSeconds=7200,
)


def findings(tmp_path, change) -> list:
    definition = copy.deepcopy(GOOD)
    change(definition, definition["States"])
    return [str(finding) for finding in lint_file(write_definition(tmp_path, definition))]


def test_valid_file_has_no_findings(tmp_path):
    assert lint_file(write_definition(tmp_path, GOOD)) == []


@pytest.mark.parametrize(
    ("change", "state", "part"),
    [
        (lambda machine, _: machine.pop("TimeoutSeconds"), "", "machine has no TimeoutSeconds"),
        (lambda _, states: states["Look"].pop("Default"), "Look", "Choice has no Default"),
        (lambda _, states: states["Ingest"].pop("TimeoutSeconds"), "Ingest", "Task has no TimeoutSeconds"),
        (lambda _, states: states["Ingest"].pop("Retry"), "Ingest", "no Retry with MaxAttempts 3"),
        (lambda _, states: states["Ingest"]["Retry"][0].update(MaxAttempts=2), "Ingest", "MaxAttempts 3"),
        (lambda _, states: states["Ingest"]["Retry"][0].update(BackoffRate=1), "Ingest", "BackoffRate"),
        (lambda _, states: states["Ingest"]["Retry"][0].pop("MaxDelaySeconds"), "Ingest", "MaxDelaySeconds"),
        (lambda _, states: states["Ingest"]["Retry"][0].pop("JitterStrategy"), "Ingest", "JitterStrategy FULL"),
        (lambda _, states: states["Ingest"]["Catch"][0].update(ErrorEquals=["X"]), "Ingest", "no Catch for States.ALL"),
        (
            lambda _, states: states["Ingest"].update(Resource="arn:aws:states:::glue:startJobRun"),
            "Ingest",
            "does not end in .sync",
        ),
        (lambda _, states: states.update(Island=pass_state()), "Island", "the state is unreachable"),
        (lambda _, states: states["Ingest"].update(Next="Gone"), "Ingest", 'the next state "Gone" does not exist'),
        (lambda _, states: states["Ingest"].update(Arguments="{% ( %}"), "Ingest", "does not parse"),
    ],
)
def test_finding_names_state_of_broken_rule(tmp_path, change, state, part):
    found = [finding for finding in findings(tmp_path, change) if part in finding]
    assert found
    assert all(finding.startswith(f'state "{state}"') == bool(state) for finding in found)


def test_tasks_inside_map_states_are_checked(tmp_path):
    def change(_, states):
        inner = {"StartAt": "Inner", "States": {"Inner": task_state()}}
        states["Done"] = {"Type": "Map", "Items": [1], "ItemProcessor": inner, "End": True}

    assert any('"Inner": Task has no TimeoutSeconds' in finding for finding in findings(tmp_path, change))


def test_retrier_without_attempts_needs_no_backoff(tmp_path):
    def change(_, states):
        states["Ingest"]["Retry"].insert(0, {"ErrorEquals": ["Glue.EntityNotFoundException"], "MaxAttempts": 0})

    assert findings(tmp_path, change) == []


def test_invalid_json_is_a_finding(tmp_path):
    (tmp_path / "x.asl.json").write_text("{")
    assert "cannot be read as JSON" in str(lint_file(tmp_path / "x.asl.json")[0])
