"""The job script on this machine gets the arguments that Glue would give it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from daybook.execution.local import jobs


def test_a_job_gets_no_argument_of_a_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        commands.append(command)
        return SimpleNamespace(pid=2**31 - 1, wait=lambda timeout: 0)

    monkeypatch.setenv("DAYBOOK_HOME", str(tmp_path))
    monkeypatch.setattr(jobs, "get_fork_server", lambda: SimpleNamespace(run=run))
    given = {"--bundle": "${BundleUri}", "--topic_arn": "${TopicArn}", "--stage": "ingest"}
    asked = {"JobName": "daybook-local-ingest", "Arguments": given}
    ended = jobs.GlueJobs(tmp_path / "logs")(jobs.START_JOB_RUN, asked, timeout_seconds=1, heartbeat=lambda: None)
    assert ended["JobRunState"] == "SUCCEEDED"
    assert commands[0][1:] == ["--JOB_NAME", "daybook-local-ingest", "--stage", "ingest"]
