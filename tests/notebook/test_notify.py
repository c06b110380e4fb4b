"""Test the notify stage: the outcome of a run from the records of its attempts, and its message."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any, Optional

import pytest

from daybook.errors import NotebookError
from daybook.notebook import begin, notify
from daybook.records.archive import Archive
from daybook.records.failures import describe_failure
from daybook.records.models import AttemptRecord
from daybook.settings import load_settings
from tests.sample_records import attempt_record, run_record

DAY = "2025-11-30"
RUN = EARLIER = f"daily-{DAY}-1"
GOOD = ("ingest", "validate", "transform", "aggregate", "quality")
SAID = "ingest did not start (not retried: the same input would fail again): NotebookError: 1_ingest.ipynb has no parameter."
UNSTARTED = json.dumps({"State": "Ingest", "Error": "Daybook.PermanentFailure", "Cause": SAID})
CAUGHT = json.dumps({"State": "Transform", "Error": "States.TaskFailed", "Cause": "{}"})


@pytest.fixture
def archive(home: Path) -> Archive:
    return Archive(load_settings("local").archive)


def attempt(stage: str, outcome: str = "SUCCEEDED", number: int = 1, **fields: Any) -> AttemptRecord:
    return attempt_record(stage, outcome, run_id=RUN, attempt=number, seconds=2.0, **fields)


def report(summary: Optional[dict[str, Any]] = None) -> notify.RunReport:
    """Return the report of a run that published its date."""
    dates = {date.fromisoformat(DAY): notify.DateReport("SUCCEEDED", [], [], summary)}
    return notify.RunReport("SUCCEEDED", [], [], "EUR", dates)


def run_notify(
    archive: Archive,
    *attempts: AttemptRecord,
    caught: str = "null",
    part_of: Optional[str] = None,
    overrides: Any = None,
    run_id: str = RUN,
) -> tuple[dict[str, Any], str]:
    """Run notify after these attempts; return its details and what it shows."""
    archive.start_named_run(run_id, {"env": "local", **({"part_of": part_of} if part_of else {})})
    for each in attempts:
        archive.write_attempt(each.changed(run_id=run_id), b"{}", b"<p>")
    stage = begin("notify", env="local", run_date=DAY, run_id=run_id, overrides=overrides)
    stage.engine.define("day_figures", "SELECT 7 AS orders")
    day = notify.look_back(stage, caught)
    notify.read_figures(stage, day, "day_figures")
    shown = notify.write_message(stage, day, headline="{orders} orders.")
    assert stage.ended == "SUCCEEDED"
    return stage.details, shown


@pytest.mark.parametrize("value", ["DATE '2025-11-30'", "'many'"])
def test_figure_that_is_not_a_number_is_refused(archive: Archive, value: str) -> None:
    archive.start_named_run(RUN, {"env": "local"})
    stage = begin("notify", env="local", run_date=DAY, run_id=RUN)
    stage.engine.define("day_figures", f"SELECT 7 AS orders, {value} AS best")
    with pytest.raises(NotebookError, match=r"^The figure best is .* and not a number; select numbers only for day_figures\.$"):
        notify.read_figures(stage, report(), "day_figures")


@pytest.mark.parametrize("failure", [None, {}, {"cell": None, "source": None, "exception": None, "message": ""}])
def test_failed_attempt_without_failure_is_described(archive: Archive, failure: Optional[dict[str, Any]]) -> None:
    details, _ = run_notify(archive, attempt("transform", "FAILED", failure=failure), caught=CAUGHT)
    assert details["message"]["body"].splitlines()[1] == "transform failed (attempt 1): no reason was given"


def test_permanent_failure_has_the_reason_for_no_retry(archive: Archive) -> None:
    failure = {"cell": 4, "source": "x", "exception": "MissingFileError", "message": "a.csv is not there.", "permanent": True}
    description = describe_failure(attempt("ingest", "FAILED", failure=failure))
    why = "not retried: the same input would fail again"
    assert description == f"ingest failed in cell 4 (attempt 1, {why}): MissingFileError: a.csv is not there."
    caught = json.dumps({"State": "Ingest", "Error": "Daybook.PermanentFailure", "Cause": description})
    details, shown = run_notify(archive, attempt("ingest", "FAILED", failure=failure), caught=caught)
    assert (details["run_outcome"], details["run_reasons"]) == ("FAILED", [description])
    assert description in shown


@pytest.mark.parametrize("earlier", [True, False])
def test_stage_that_did_not_start_is_described(archive: Archive, earlier: bool) -> None:
    failure = {"cell": 4, "source": "x", "exception": "MissingFileError", "message": "a.csv is not there.", "permanent": True}
    before = [attempt("ingest", "FAILED", failure=failure)] if earlier else []
    details, shown = run_notify(archive, *before, caught=UNSTARTED)
    assert (details["run_outcome"], details["run_reasons"]) == ("FAILED", [SAID])
    assert SAID in shown


def test_failure_is_that_of_the_last_failed_attempt(archive: Archive) -> None:
    failure = {"cell": 6, "source": "%%sql silver.orders", "exception": "SqlError", "message": "no such column\nat all"}
    attempts = [attempt(stage) for stage in GOOD[:2]]
    attempts += [attempt("transform", "FAILED", number, failure=failure) for number in (1, 2)]
    details, shown = run_notify(archive, *attempts, caught=CAUGHT)
    assert details["run_outcome"] == "FAILED"
    assert details["run_reasons"] == ["transform failed in cell 6 (attempt 2): SqlError: no such column"]
    assert details["message"]["subject"] == f"Daybook local: {DAY} FAILED in transform"
    assert "Cell 6 begins: %%sql silver.orders" in details["message"]["body"]
    assert "3_transform.attempt-2.html" in details["message"]["body"]
    # The notebook shows the message that is sent.
    assert shown == f"{details['message']['subject']}\n\n{details['message']['body']}"


def test_rejection_names_its_gate_and_a_remedy(archive: Archive) -> None:
    refused = attempt("validate", "REJECTED", reasons=["sales: 6 of 9 rows are rejected"], rows={"in": 9, "rejected": 6})
    details, _ = run_notify(archive, attempt("ingest"), refused)
    assert details["message"]["subject"] == f"Daybook local: {DAY} REJECTED in validate"
    body = details["message"]["body"]
    assert "sales: 6 of 9 rows are rejected\n6 rows are in quarantine.\n" in body
    assert f"daybook approve {RUN}" in body


def test_good_day_sends_no_message(archive: Archive) -> None:
    details, shown = run_notify(archive, *(attempt(stage) for stage in GOOD))
    assert details["run_outcome"] == "SUCCEEDED"
    assert "message" not in details
    assert details["silent"].startswith("it is a good day")
    assert shown.endswith(f"No message is sent: {details['silent']}")
    assert "freshness_hours" in details


def test_good_day_sends_a_message_if_tell_is_always(archive: Archive) -> None:
    details, _ = run_notify(archive, *(attempt(stage) for stage in GOOD), overrides={"tell": "always"})
    assert details["message"]["subject"] == f"Daybook local: {DAY} SUCCEEDED"
    assert details["summary"] == {"orders": 7}
    assert "7 orders." in details["message"]["body"].splitlines()


def test_headline_with_an_unknown_figure_is_refused(archive: Archive) -> None:
    day = report({"orders": 7})
    stage = begin("notify", env="local", run_date=DAY)
    with pytest.raises(NotebookError, match="The headline names 'sales', which is no figure; the figures are: orders"):
        notify.write_message(stage, day, headline="{sales}")


def test_warning_is_in_the_message(archive: Archive) -> None:
    warned = attempt("quality", details={"warnings": ["net_revenue: 500.00 is below the usual"]})
    details, _ = run_notify(archive, *(attempt(stage) for stage in GOOD[:-1]), warned)
    assert "net_revenue: 500.00 is below the usual" in details["message"]["body"]


def test_skipped_date_sends_no_message(archive: Archive) -> None:
    details, shown = run_notify(archive, attempt("ingest", "SKIPPED", reasons=["the shop was closed"]))
    assert (details["run_outcome"], details["silent"]) == ("SKIPPED", "there was nothing to do.")
    assert "the shop was closed" in shown


@pytest.mark.parametrize("outcome", ["SUCCEEDED", "FAILED"])
def test_date_of_a_backfill_sends_no_message(archive: Archive, outcome: str) -> None:
    attempts = [attempt(stage) for stage in GOOD] if outcome == "SUCCEEDED" else []
    part_of = "backfill-2025-11-01-2025-11-30-1"
    details, _ = run_notify(archive, *attempts, caught="null" if attempts else CAUGHT, part_of=part_of)
    assert details["run_outcome"] == outcome
    assert not {"message", "freshness_hours"} & set(details)
    assert details["silent"] == f"{part_of} sends one summary of all its days."


def published_before(archive: Archive) -> None:
    """Add an earlier run of the date, whose figures are published."""
    archive.start_named_run(EARLIER, {"env": "local"})
    stages = [attempt(stage) for stage in GOOD]
    archive.write_run(run_record(EARLIER, stages=stages))


@pytest.mark.parametrize("outcome", ["FAILED", "REJECTED"])
def test_run_without_figures_names_the_run_that_published(archive: Archive, outcome: str) -> None:
    published_before(archive)
    refused = attempt("validate", outcome, reasons=["no"], failure={"cell": 1, "source": "x", "exception": "E", "message": "m"})
    caught = CAUGHT if outcome == "FAILED" else "null"
    details, shown = run_notify(archive, attempt("ingest"), refused, caught=caught, run_id=f"daily-{DAY}-2")
    assert details["summary"] is None
    assert f"This run published nothing; readers see the figures that {EARLIER} published." in details["message"]["body"]
    assert "7 orders" not in shown


def test_commands_of_a_message_have_the_runs_overrides(archive: Archive) -> None:
    refused = attempt("validate", "REJECTED", reasons=["no"])
    details, _ = run_notify(archive, refused, overrides={"tell": "always"})
    assert f"daybook run --date {DAY} --env local --set tell=always " in details["message"]["body"]
