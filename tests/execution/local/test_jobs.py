"""Test the arguments of local jobs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daybook.execution.local import jobs


def test_job_gets_no_placeholder_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(pid=2**31 - 1, wait=lambda timeout: 0)

    monkeypatch.setenv("DAYBOOK_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "get_fork_server", lambda: SimpleNamespace(run=run))
    arguments = {"--bundle": "${BundleUri}", "--topic_arn": "${TopicArn}", "--stage": "ingest"}
    request = {"JobName": "daybook-local-ingest", "Arguments": arguments}
    ended = jobs.GlueJobs(tmp_path / "logs")(jobs.START_JOB_RUN, request, timeout_seconds=1, heartbeat=lambda: None)
    assert ended["JobRunState"] == "SUCCEEDED"
    assert commands[0][1:] == ["--JOB_NAME", "daybook-local-ingest", "--stage", "ingest"]
