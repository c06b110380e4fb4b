"""Test that records of the previous release can be read, listed and rendered."""

from __future__ import annotations

import json
import shutil
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.cli import main
from daybook.errors import ArchiveError
from daybook.records.archive import Archive, outcome_key, parse_record
from daybook.records.models import (
    SCHEMA_VERSION,
    AttemptRecord,
    BackfillRecord,
    ClaimRecord,
    RecordModel,
    RunRecord,
    StageRecord,
    StartRecord,
)
from daybook.scheduling.backfills import read_backfills, read_results

FIXTURE = Path(__file__).parent / "previous_release"
"""An archive of the corner shop of tests/runs, written by the release before records had a version."""
PARAMS = """
title: Corner shop
source: demo
timezone: Europe/Berlin
currency: EUR
landing: "{home}/landing"
lake: "{home}/lake"
archive: "{home}/archive"
report: "{home}/report"
pii_key: "{home}/pii.key"
"""
OUTCOMES = {
    "daily-2025-11-03-1": ("SUCCEEDED", "closed"),
    "daily-2025-11-04-1": ("SKIPPED", "closed"),
    "daily-2025-11-05-1": ("REJECTED", "closed"),
    "daily-2025-11-05-2": ("SUCCEEDED", "closed"),
    "daily-2025-11-06-1": ("SUCCEEDED", "closed"),
    "daily-2025-11-07-1": ("FAILED", "closed"),
    "daily-2025-11-10-1": ("REJECTED", "closed"),
    "daily-2025-11-11-1": ("FAILED", "closed"),
    "daily-2025-11-12-1": ("FAILED", "lost"),
}
BACKFILL, CATCH_UP = "backfill-2025-11-08-2025-11-10-1", "catch-up-2025-11-07-2025-11-07-1"


@pytest.fixture
def archive(home: Path, project: Any) -> Archive:
    """Return a copy of the archive, for the deployment ``tiny``."""
    shutil.copytree(FIXTURE, home / "archive")
    project.write("params/tiny.yaml", PARAMS)
    return Archive(str(home / "archive"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs a command in this process and returns exit code and output."""

    def call(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", *arguments, "--env", "tiny"])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        assert printed.err == ""
        return int(ended.value.code or 0), printed.out

    return call


def list_records() -> list[tuple[type[RecordModel], Path]]:
    kinds = [
        (RunRecord, "**/run*.json"),
        (AttemptRecord, "**/*.attempt-*.json"),
        (ClaimRecord, "**/*.claim"),
        (StartRecord, "run_date=*/*/started.json"),
        (StageRecord, "outcomes/*/*.json"),
        (BackfillRecord, "backfills/*/*.json"),
    ]
    return [(model, path) for model, pattern in kinds for path in sorted(FIXTURE.glob(pattern))]


def test_every_record_is_read_and_written_unchanged() -> None:
    records = list_records()
    assert len({model for model, _ in records}) == 6
    for model, path in records:
        record = parse_record(model, path.read_bytes(), path.name)
        assert record.to_json() == json.loads(path.read_bytes()), path
        assert getattr(record, "schema_version", 0) == 0


def test_no_key_of_a_record_is_unknown() -> None:
    for model, path in list_records():
        assert_known(parse_record(model, path.read_bytes(), path.name), path)


def assert_known(node: Any, path: Path) -> None:
    if isinstance(node, RecordModel):
        assert not node.model_extra, (path, node.model_extra)
        node = [value for _, value in node]
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, (list, tuple)) else ():
        assert_known(each, path)


def test_runs_have_outcome_and_state(archive: Archive) -> None:
    found = {run_id: archive.run(run_id) for run_id in archive.run_ids()}
    assert {run_id: (run.outcome, run.state) for run_id, run in found.items()} == OUTCOMES
    resumed = archive.read_closing_records("daily-2025-11-06-1")
    assert [each.outcome for each in resumed] == ["FAILED", "SUCCEEDED"]
    failures = [each.failure for each in found["daily-2025-11-07-1"].stages if each.failure]
    assert [(each.exception, each.permanent) for each in failures] == [("NameError", False)] * 4
    approval = found["daily-2025-11-05-2"].approval
    assert approval is not None and approval.of == "daily-2025-11-05-1"
    assert found["daily-2025-11-11-1"].withheld == "FileNotFoundError"
    assert [stage for stage, _, _ in archive.read_abandoned_attempts("daily-2025-11-12-1")] == ["ingest"]
    ingest = parse_record(StageRecord, archive.store.read(outcome_key("daily-2025-11-03-1", "ingest")), "ingest")
    assert (ingest.outcome, ingest.rows.rows_in) == ("SUCCEEDED", 2)


def test_backfills_have_results(archive: Archive) -> None:
    found = {each.backfill_id: each for each in read_backfills(archive)}
    assert set(found) == {BACKFILL, CATCH_UP}
    assert found[BACKFILL].counts == {"SUCCEEDED": 2, "REJECTED": 1}
    assert [each.run_date for each in found[BACKFILL].results or []] == [date(2025, 11, day) for day in (8, 9, 10)]
    assert read_results(archive, CATCH_UP)[0].outcome == "NOT STARTED"  # The run is not in the fixture.


@pytest.mark.parametrize("as_json", [False, True])
def test_commands_list_all_records(archive: Archive, call: Any, as_json: bool) -> None:
    options = ("--json",) if as_json else ()
    code, out = call("runs", *options)
    assert code == 0 and all(run_id in out for run_id in OUTCOMES)
    code, out = call("backfills", *options)
    assert code == 0 and BACKFILL in out and CATCH_UP in out
    for name in (*OUTCOMES, BACKFILL, CATCH_UP):
        code, out = call("show", name, *options)
        assert code == 0 and name in out
    assert "rows in" in call("show", "daily-2025-11-03-1", "--profile")[1]
    code, out = call("gaps", "--since", "2025-11-03", "--until", "2025-11-12", *options)
    assert code == 1 and "daily-2025-11-12-1" in out
    code, out = call("status", "--at", "2025-11-13T09:00", *options)
    assert code == 1 and "gold.daily_sales" in out and "2025-11-06" in out
    code, out = call("cost", *options)
    assert code == 0 and "2025-11-03" in out and "USD" in out


def test_report_renders_all_records(archive: Archive, call: Any, home: Path) -> None:
    assert call("report")[0] == 0
    pages = {path.stem for path in (home / "report" / "runs").glob("*.html")}
    assert pages == set(OUTCOMES)
    assert {path.stem for path in (home / "report" / "backfills").glob("*.html")} == {BACKFILL, CATCH_UP}
    assert "Approved by analyst" in (home / "report" / "runs" / "daily-2025-11-05-2.html").read_text(encoding="utf-8")


def test_unknown_keys_of_a_newer_release_are_kept() -> None:
    data = (FIXTURE / "run_date=2025-11-04/daily-2025-11-04-1/run.json").read_bytes()
    newer = {**json.loads(data), "schema_version": SCHEMA_VERSION + 1, "region": {"name": "north"}}
    newer["stages"][0]["rows"]["late"] = 7
    record = parse_record(RunRecord, json.dumps(newer).encode(), "run.json")
    assert record.to_json() == newer


def test_missing_keys_of_an_older_release_have_defaults() -> None:
    older = {
        "run_id": "daily-2024-01-01-1",
        "run_date": "2024-01-01",
        "outcome": "SUCCEEDED",
        "stages": [{"stage": "ingest", "outcome": "SUCCEEDED", "details": None, "rows": None}],
        "fingerprint": None,
    }
    record = parse_record(RunRecord, json.dumps(older).encode(), "run.json")
    assert (record.schema_version, record.fingerprint, record.cost, record.in_backfill) == (0, {}, None, False)
    assert (record.stages[0].details.rules, record.stages[0].rows.rows_in) == ([], None)


def test_wrong_values_are_refused_with_file_and_key() -> None:
    with pytest.raises(ArchiveError, match=r"^a/run\.json: key 'stages\.0\.attempt' is 'first': "):
        broken = {"stage": "ingest", "outcome": "FAILED", "attempt": "first"}
        run = {"run_id": "daily-2024-01-01-1", "run_date": "2024-01-01", "outcome": "FAILED", "stages": [broken]}
        parse_record(RunRecord, json.dumps(run).encode(), "a/run.json")
