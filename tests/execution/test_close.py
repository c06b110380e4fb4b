"""Test at which stage a failed run resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

import pytest

from daybook.execution.close import find_resume_point
from daybook.records.archive import Archive
from tests.sample_records import attempt_record

RUN = "daily-2025-11-30-1"
Attempts = list[tuple[str, str]]


@pytest.mark.parametrize(
    ("first_stage", "attempts", "expected"),
    [
        (None, [("ingest", "FAILED"), ("notify", "SUCCEEDED")], {"first_stage": "ingest"}),
        (None, [("ingest", "SUCCEEDED"), ("validate", "FAILED"), ("notify", "SUCCEEDED")], {"first_stage": "validate"}),
        # A stage that could not start, or whose job died at once, has no recorded attempt.
        (None, [("notify", "SUCCEEDED")], {"first_stage": "ingest"}),
        ("aggregate", [("notify", "SUCCEEDED")], {"first_stage": "aggregate"}),
        (None, [("ingest", "SUCCEEDED"), ("notify", "SUCCEEDED")], {"first_stage": "validate"}),
        (None, [("ingest", "SKIPPED"), ("notify", "FAILED")], {"first_stage": "notify", "outcome": "SKIPPED"}),
    ],
)
def test_failed_run_resumes_at_the_failed_stage(
    tmp_path: Path, first_stage: Optional[str], attempts: Attempts, expected: dict[str, str]
) -> None:
    archive = Archive(str(tmp_path))
    for stage, outcome in attempts:
        archive.write_attempt(attempt_record(stage, outcome, run_id=RUN), None, None)
    assert find_resume_point(archive, RUN, first_stage) == expected
