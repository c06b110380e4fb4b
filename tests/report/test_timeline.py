"""Test the timeline of a run: its states with their durations and errors."""

from __future__ import annotations

from datetime import datetime, timezone

from daybook.report.timeline import build_timeline

START = datetime(2026, 11, 23, 14, tzinfo=timezone.utc)


def test_states_are_placed_in_percent_of_the_run(history):
    steps = build_timeline(history(START, stages=2))
    assert [(step.state, step.kind, step.seconds) for step in steps] == [
        ("Ingest", "Task", 55.0),
        ("Validate", "Task", 55.0),
    ]
    assert [(step.offset, step.width) for step in steps] == [(0.0, 45.83), (50.0, 45.83)]


def test_error_is_noted_at_its_state(history):
    ingest, validate = build_timeline(history(START, stages=2, failing=True))
    assert ingest.troubles == []
    assert validate.troubles == ["TaskFailed: States.TaskFailed"]


def test_state_without_an_exit_has_no_duration(history):
    entered = [event for event in history(START, stages=1) if not event["type"].endswith("Exited")]
    (step,) = build_timeline(entered)
    assert step.seconds is None
    assert step.width == 100.0


def test_state_that_is_entered_again_has_its_own_row(history):
    first, again = history(START, stages=1), history(START.replace(hour=16), stages=1)
    steps = build_timeline([*first, {"type": "ExecutionRedriven", "timestamp": "2026-11-23T15:59:59.000Z"}, *again])
    assert [step.entered_at.hour for step in steps] == [14, 16]
    assert steps[0].troubles == ["ExecutionRedriven"]


def test_history_without_states_has_no_timeline(history):
    assert build_timeline([]) == []
    assert build_timeline(history(START, stages=0)) == []


def test_state_with_a_negative_duration_has_none(history):
    events = history(START.replace(hour=16), stages=1)
    entered = next(index for index, event in enumerate(events) if event["type"].endswith("Entered"))
    back = [{**event, "timestamp": event["timestamp"].replace("T16:", "T13:")} for event in events[entered + 1 :]]
    (step,) = build_timeline([*events[: entered + 1], *back])
    assert step.seconds is None
    assert (step.offset, step.width) == (0.0, 0.0)
