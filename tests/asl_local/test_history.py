"""Test the journal: durable lines, incomplete last lines and locking."""

from __future__ import annotations

import errno
import json
import os

import pytest

from asl_local import FakeClock, is_executing, read_events
from asl_local.errors import JournalError, StateMachineError
from asl_local.history import History, RecordingStopped, event_details_key


@pytest.fixture
def path(tmp_path):
    return tmp_path / "archive" / "history.jsonl"


def create_history(path, listener=None):
    return History.create(path, FakeClock(), listener)


def test_event_is_written_before_listener_is_called(path):
    lengths = []
    history = create_history(path, lambda event: lengths.append(len(path.read_text().splitlines())))
    history.record("ExecutionStarted", 0, {"input": "é"})
    history.record("ExecutionSucceeded", 1)
    assert lengths == [1, 2]
    assert json.loads(path.read_text().splitlines()[0]) == {
        "timestamp": "2025-12-01T02:00:00.000Z",
        "type": "ExecutionStarted",
        "id": 1,
        "previousEventId": 0,
        "executionStartedEventDetails": {"input": "é"},
    }


def test_every_line_is_synced(path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    history = create_history(path)
    before = len(synced)
    history.record("ExecutionStarted", 0)
    assert len(synced) == before + 1


@pytest.mark.parametrize("torn", [b'{"id":2,"type":"Pa', b"\x00\x00\x00", b"not json\n", b'{"id":2,' + b"x" * 500])
def test_incomplete_last_line_is_overwritten(path, torn):
    history = create_history(path)
    history.record("ExecutionStarted", 0)
    history.close()
    with path.open("ab") as file:
        file.write(torn)
    assert len(read_events(path)) == 1
    History.open(path, FakeClock()).record("ExecutionRedriven", 1)
    assert [event["id"] for event in read_events(path)] == [1, 2]
    assert path.read_bytes().count(b"\n") == 2


def test_invalid_line_before_the_last_is_an_error(path):
    history = create_history(path)
    for _ in range(3):
        history.record("ExecutionStarted", 0)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"###\n" + lines[2])
    with pytest.raises(StateMachineError, match="line 2 is not event 2"):
        read_events(path)


def test_interrupted_event_is_not_duplicated(path, monkeypatch):
    history = create_history(path)
    history.record("ExecutionStarted", 0)

    def interrupted(descriptor):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            history.record("PassStateEntered", 1, {"name": "a long name that is overwritten by a short one"})
    history.record("ExecutionAborted", history.last_id)
    assert [(event["id"], event["type"]) for event in read_events(path)] == [
        (1, "ExecutionStarted"),
        (2, "ExecutionAborted"),
    ]


def test_failed_recording_stops_history(path):
    def fail(event):
        raise OSError("no space")

    history = create_history(path, fail)
    with pytest.raises(OSError, match="no space"):
        history.record("ExecutionStarted", 0)
    with pytest.raises(RecordingStopped):
        history.record("ExecutionSucceeded", 1)
    assert len(read_events(path)) == 1


def test_closed_history_rejects_events(path):
    history = create_history(path)
    history.close()
    with pytest.raises(RecordingStopped):
        history.record("TaskSucceeded", 1)


def test_ended_history_rejects_events(path):
    history = create_history(path)
    history.record("ExecutionAborted", 0)
    with pytest.raises(RecordingStopped):
        history.record("TaskSucceeded", 1)


def test_journal_is_created_once_and_locked_while_open(path):
    history = create_history(path)
    with pytest.raises(StateMachineError, match="was already started"):
        create_history(path)
    with pytest.raises(StateMachineError, match="another process"):
        History.open(path, FakeClock())
    history.close()
    History.open(path, FakeClock()).close()


def test_missing_journal_is_an_error(tmp_path):
    with pytest.raises(StateMachineError, match="cannot be read"):
        read_events(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("TaskStateEntered", "stateEnteredEventDetails"),
        ("MapStateExited", "stateExitedEventDetails"),
        ("MapStateStarted", "mapStateStartedEventDetails"),
        ("TaskFailed", "taskFailedEventDetails"),
        ("EvaluationFailed", "evaluationFailedEventDetails"),
    ],
)
def test_details_keys_are_those_of_aws(kind, key):
    assert event_details_key(kind) == key


def test_is_executing_while_journal_is_open(path):
    assert not is_executing(path)
    history = create_history(path)
    assert is_executing(path)
    history.close()
    assert not is_executing(path)
    History.open(path, FakeClock()).close()  # the shared lock of is_executing has been released


@pytest.mark.parametrize("leave", [0, 4096, 8192])
def test_execution_resumes_after_full_disk(disks, tmp_path, leave):
    disk = disks.mount(tmp_path / "disk")
    path = disk.path / "history.jsonl"
    history = create_history(path)
    history.record("ExecutionStarted", 0, {"input": "x" * 100})
    disk.fill(leave)
    with pytest.raises(JournalError) as caught:
        history.record("TaskStateEntered", 1, {"name": "A", "input": "y" * 20_000})
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    with pytest.raises(RecordingStopped):
        history.record("TaskStateEntered", 1)
    torn = path.read_bytes()
    assert [event["type"] for event in read_events(path)] == ["ExecutionStarted"]
    assert leave == 0 or not torn.endswith(b"\n")
    history.close()
    disk.free()
    History.open(path, FakeClock()).record("ExecutionRedriven", 1)
    assert [event["type"] for event in read_events(path)] == ["ExecutionStarted", "ExecutionRedriven"]
    assert path.read_bytes().count(b"\n") == 2


def test_journal_on_read_only_disk_is_an_error(disks, tmp_path):
    disk = disks.mount(tmp_path / "disk")
    disk.read_only()
    with pytest.raises(JournalError, match=r"Read-only file system: .*executions/history\.jsonl"):
        create_history(disk.path / "executions" / "history.jsonl")
