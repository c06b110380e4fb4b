"""What is left to do of a run that failed."""

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
    ("first_stage", "attempts", "left"),
    [
        (None, [("ingest", "FAILED"), ("notify", "SUCCEEDED")], {"first_stage": "ingest"}),
        (None, [("ingest", "SUCCEEDED"), ("validate", "FAILED"), ("notify", "SUCCEEDED")], {"first_stage": "validate"}),
        # A stage that could not start, or whose job died at once, has no attempt on record.
        (None, [("notify", "SUCCEEDED")], {"first_stage": "ingest"}),
        ("aggregate", [("notify", "SUCCEEDED")], {"first_stage": "aggregate"}),
        (None, [("ingest", "SUCCEEDED"), ("notify", "SUCCEEDED")], {"first_stage": "validate"}),
        (None, [("ingest", "SKIPPED"), ("notify", "FAILED")], {"first_stage": "notify", "outcome": "SKIPPED"}),
    ],
)
def test_a_failed_run_goes_on_with_the_stage_that_failed(
    tmp_path: Path, first_stage: Optional[str], attempts: Attempts, left: dict[str, str]
) -> None:
    archive = Archive(str(tmp_path))
    for stage, outcome in attempts:
        archive.write_attempt(attempt_record(stage, outcome, run_id=RUN), None, None)
    assert find_resume_point(archive, RUN, first_stage) == left
