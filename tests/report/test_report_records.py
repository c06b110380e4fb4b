"""Test what pages read from run and attempt records."""

from __future__ import annotations

import json

import pytest

from daybook.errors import ArchiveError
from daybook.records.archive import parse_record
from daybook.records.models import RunRecord
from daybook.report import records


def test_run_without_closing_record_is_running(run):
    assert records.outcome_of(run(state="running", outcome="RUNNING")) is records.OUTCOMES["RUNNING"]
    assert records.outcome_of(run(state="lost", outcome="FAILED")) is records.OUTCOMES["FAILED"]
    assert records.outcome_of(run()) is records.OUTCOMES["SUCCEEDED"]


def test_unknown_outcome_is_an_error(run):
    data = json.dumps({**run().to_json(), "outcome": "FINE"}).encode()
    with pytest.raises(ArchiveError, match=r"run\.json: key 'outcome' is 'FINE': .*'SUCCEEDED', 'SKIPPED'"):
        parse_record(RunRecord, data, "run.json")


@pytest.mark.parametrize("run_id", ["../../etc/passwd", "", "daily/1", "a" * 81, "daily-1\n"])
def test_run_id_that_is_not_a_file_name_is_an_error(run_id):
    with pytest.raises(ArchiveError, match="run_id"):
        records.require_page_name(run_id, "run_id")


def test_runs_are_ordered_by_start_then_by_number(run):
    tenth, second = run(run_id="daily-2018-05-05-10"), run(run_id="daily-2018-05-05-2")
    later = run(run_id="daily-2018-05-05-1", started_at="2026-11-24T02:00:00Z")
    assert sorted([later, tenth, second], key=records.chronological_key) == [second, tenth, later]


def test_retries_are_attempts_beyond_the_first_per_stage(run, attempt):
    stages = [attempt("ingest"), *(attempt("transform", attempt=number) for number in (1, 2, 3))]
    assert records.count_retries(run(stages=stages)) == 2
    assert records.count_retries(run(stages=[])) == 0


def test_row_counts_come_from_the_last_attempts(run, attempt):
    stages = [
        attempt("ingest", rows={"in": 500, "out": 500}),
        attempt("validate", rows={"in": 500, "out": 488, "rejected": 12}),
        attempt("transform", rows={"in": 488, "out": None, "rejected": 99}, outcome="FAILED"),
        attempt("transform", attempt=2, rows={"in": 488, "out": 480, "rejected": 0}),
    ]
    assert records.count_run_rows(run(stages=stages)) == records.RunRowCounts(landed=500, merged=480, rejected=12)
    assert records.count_run_rows(run(stages=[])) == records.RunRowCounts(None, None, None)


def test_table_usage_has_versions_before_and_after_the_run(run, attempt):
    stages = [
        attempt("ingest", tables_written={"bronze.orders": 7}),
        attempt("transform", tables_read={"bronze.orders": 7, "silver.orders": 3}, outcome="FAILED"),
        attempt("transform", attempt=2, tables_read={"silver.orders": 3}, tables_written={"silver.orders": 5}),
        attempt("aggregate", tables_read={"silver.orders": 5, "silver.customers": 2}),
    ]
    uses = {use.table: use for use in records.list_table_usage(run(stages=stages))}
    assert list(uses) == ["bronze.orders", "silver.customers", "silver.orders"]
    assert (uses["bronze.orders"].before, uses["bronze.orders"].after) == (None, 7)
    assert (uses["silver.orders"].before, uses["silver.orders"].after) == (3, 5)
    assert (uses["silver.customers"].before, uses["silver.customers"].after) == (2, None)
    assert uses["silver.orders"].read_by == ("transform", "aggregate")
    assert uses["silver.orders"].written_by == ("transform",)


def test_input_is_listed_once_per_content(run, attempt):
    file = {"file": "orders.csv", "bytes": 1, "sha256": "a", "rows": 1}
    stages = [attempt("ingest", inputs=[file]), attempt("ingest", attempt=2, inputs=[file, {**file, "sha256": "b"}])]
    assert [item.sha256 for item in records.list_input_files(run(stages=stages))] == ["a", "b"]


def test_attempt_without_a_notebook_has_its_record(attempt):
    assert records.list_attempt_files(attempt(attempt=2)) == {
        "page": "3_transform.attempt-2.html",
        "notebook": "3_transform.attempt-2.ipynb",
        "record": "3_transform.attempt-2.json",
    }
    assert records.list_attempt_files(attempt("quality", notebook=None, html=None)) == {"record": "5_quality.attempt-1.json"}


def test_failure_of_a_run_is_its_last_failed_attempt(run, attempt, failure):
    first, last = (attempt(attempt=number, outcome="FAILED", failure=failure()) for number in (1, 2))
    assert records.find_failed_attempt(run(outcome="FAILED", stages=[first, last])) is last
    mended = attempt(attempt=3)
    assert records.find_failed_attempt(run(stages=[first, last, mended])) is None
