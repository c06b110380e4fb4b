"""Test the message of a run: when it is sent, its text, its links, and the limits of SNS."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Optional

import pytest

from daybook.records.archive import Archive
from daybook.records.models import AttemptRecord, Notification
from daybook.records.notifications import (
    MAX_BODY_BYTES,
    MAX_SUBJECT_LENGTH,
    describe_run_failure,
    find_suppression_reason,
    format_body,
    format_subject,
    run_message,
)

RUN = "daily-2025-11-30-1"
EXECUTION = f"arn:aws:states:eu-central-1:123456789012:execution:daybook-prod-daily:{RUN}"
CAUSE = json.dumps(
    {
        "Arguments": {"--stage": "transform"},
        "ErrorMessage": 'The job could not begin (ValueError): "s3://code/daybook-0.zip" cannot be fetched\nand more',
        "ExecutionTime": 12,
        "Id": "jr_0123456789abcdef",
        "JobName": "daybook-prod-transform",
        "JobRunState": "FAILED",
    }
)
CAUGHT = {"State": "Transform", "Error": "States.TaskFailed", "Cause": CAUSE}
FAILED = AttemptRecord.model_validate(
    {
        "stage": "transform",
        "attempt": 4,
        "outcome": "FAILED",
        "html": {"file": "3_transform.attempt-4.html"},
        "failure": {
            "cell": 5,
            "source": "%%sql silver.orders",
            "exception": "ConversionException",
            "message": "Could not convert [redacted:name] to DATE\nLINE 3",
        },
    }
)


@pytest.fixture(autouse=True)
def account(monkeypatch: pytest.MonkeyPatch) -> None:
    """Allow an archive in a bucket by name, without reading from it."""
    for name, value in (("AWS_REGION", "eu-central-1"), ("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")):
        monkeypatch.setenv(name, value)


def message(
    outcome: str = "FAILED",
    *,
    failed: Optional[AttemptRecord] = FAILED,
    caught: Optional[dict[str, Any]] = CAUGHT,
    archive: str = "s3://shop-archive/prod",
    execution: str = EXECUTION,
    **changes: Any,
) -> Notification:
    facts: dict[str, Any] = {
        "env": "prod",
        "options": "--env prod --set landing=elsewhere",
        "title": "Käseladen",
        "run_id": RUN,
        "run_date": "2025-11-30",
        "reasons": [describe_run_failure(failed, caught or {})]
        if outcome == "FAILED"
        else ["sales: 6 of 9 rows (66.7%) are rejected"],
        "news": ["22 rows are in quarantine."],
        "archive": Archive(archive),
    }
    return run_message(outcome=outcome, failed=failed, caught=caught, execution=execution, **{**facts, **changes})


def test_failure_names_date_stage_cell_and_first_line() -> None:
    found = message()
    assert found.subject == "Daybook prod: 2025-11-30 FAILED in transform"
    assert found.body.splitlines()[:4] == [
        "Käseladen, 2025-11-30: FAILED in transform",
        "transform failed in cell 5 (attempt 4): ConversionException: Could not convert [redacted:name] to DATE",
        "Cell 5 begins: %%sql silver.orders",
        "22 rows are in quarantine.",
    ]
    assert "LINE 3" not in found.body


def test_remedy_is_a_command_to_copy() -> None:
    options = "--env prod --set landing=elsewhere"
    assert f"  daybook show {RUN} {options}\n  daybook resume {RUN} {options} " in message().body
    rejected = message("REJECTED", failed=FAILED.changed(outcome="REJECTED", failure=None), caught=None).body
    assert f"  daybook quarantine list --date 2025-11-30 {options}\n" in rejected
    assert f'  daybook approve {RUN} --why "..." {options} ' in rejected
    assert "What to do" not in message("SUCCEEDED", failed=None, caught=None).body


def test_links_of_a_bucket_lead_to_the_console() -> None:
    lines = message().body.splitlines()
    console = "https://eu-central-1.console.aws.amazon.com"
    folder = f"run_date%3D2025-11-30/{RUN}"
    s3, page = "https://s3.console.aws.amazon.com/s3", "3_transform.attempt-4.html"
    assert lines[lines.index("Where to look:") + 1 :] == [
        f"  the executed notebook: {s3}/object/shop-archive?region=eu-central-1&prefix=prod/{folder}/{page}",
        f"  the run's records: {s3}/buckets/shop-archive?region=eu-central-1&prefix=prod/{folder}/",
        f"  the execution: {console}/states/home?region=eu-central-1#/v2/executions/details/{EXECUTION}",
        "  the job's log (stream jr_0123456789abcdef): "
        f"{console}/cloudwatch/home?region=eu-central-1#logsV2:log-groups$3FlogGroupNameFilter$3D$252Faws-glue$252Fpython-jobs",
    ]


@pytest.mark.parametrize("execution", ["", "arn:aws:states:local:000000000000:execution:daily:daily-2025-11-30-1"])
def test_local_archive_has_paths_and_no_links(tmp_path: Path, execution: str) -> None:
    found = message(archive=str(tmp_path), execution=execution).body
    assert f"{tmp_path}/run_date=2025-11-30/{RUN}/3_transform.attempt-4.html" in found
    assert "https" not in found


def test_job_without_a_record_is_described_by_its_error() -> None:
    found = message(failed=None)
    assert found.subject == "Daybook prod: 2025-11-30 FAILED in transform"
    assert found.body.splitlines()[1] == (
        "transform failed (States.TaskFailed): "
        'The job could not begin (ValueError): "s3://code/daybook-0.zip" cannot be fetched'
    )


@pytest.mark.parametrize(
    ("caught", "sentence"),
    [
        # The state machine cuts a cause after 2000 characters, also inside its JSON.
        ({**CAUGHT, "Cause": CAUSE[:60]}, f"transform failed (States.TaskFailed): {CAUSE[:60]}"),
        (
            {"State": "ReadIngestOutcome", "Error": "S3.NoSuchKeyException", "Cause": ""},
            "ingest failed (S3.NoSuchKeyException): no",
        ),
        ({"State": "QualityEnded", "Error": "States.Runtime"}, "quality failed (States.Runtime): no reason was given"),
        ({}, "The run failed (no error was named): no reason was given"),
        (
            {"State": "Ingest", "Error": "Daybook.PermanentFailure", "Cause": "ingest did not start: no"},
            "ingest did not start: no",
        ),
        ({"State": "Ingest", "Error": "Daybook.PermanentFailure"}, "ingest failed (Daybook.PermanentFailure): no reason"),
    ],
)
def test_caught_error_is_one_sentence(caught: dict[str, Any], sentence: str) -> None:
    assert describe_run_failure(None, caught).startswith(sentence)


@pytest.mark.parametrize(
    ("outcome", "warnings", "tell", "part_of", "sent"),
    [
        ("FAILED", [], "trouble", None, True),
        ("REJECTED", [], "trouble", None, True),
        ("SUCCEEDED", ["unusual"], "trouble", None, True),
        ("SUCCEEDED", [], "always", None, True),
        ("SUCCEEDED", [], "trouble", None, False),
        ("SKIPPED", ["unusual"], "always", None, False),
        ("FAILED", [], "always", "backfill-2025-11-01-2025-11-30-1", False),
    ],
)
def test_message_depends_on_outcome_and_settings(
    outcome: str, warnings: list[str], tell: str, part_of: Optional[str], sent: bool
) -> None:
    assert (find_suppression_reason(RUN, outcome, warnings, tell, part_of) == "") is sent


def test_notebook_executed_alone_sends_no_message() -> None:
    assert find_suppression_reason("", "FAILED", [], "always", None)


def test_subject_is_one_short_line_of_ascii() -> None:
    assert format_subject("Daybook prod: Käse\nund\tBrot – 5 €\x07") == "Daybook prod: Kase und Brot 5"
    assert len(format_subject("a b" * 100)) == MAX_SUBJECT_LENGTH < 100


def test_body_is_cut_at_the_limit_of_sns() -> None:
    body = format_body(["ü" * 900] * 1000)
    assert len(body.encode()) < 256 * 1024
    assert body.endswith("… cut here; the record has all.")
    assert len(body.encode()) > MAX_BODY_BYTES
    assert format_body(["a" * 5000]).endswith("a …")
    many = message("REJECTED", failed=None, caught=None, reasons=[f"rule {number}" for number in range(100)]).body
    assert "rule 39\nand 60 more\n" in many
