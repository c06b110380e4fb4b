"""Test the notify stage of a range: the outcome and figures of each date, and one message."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.errors import NotebookError
from daybook.notebook import begin, notify
from daybook.records.archive import Archive
from daybook.records.models import AttemptRecord
from tests.sample_records import attempt_record

FIRST, MIDDLE, LAST = (f"2025-11-{day}" for day in (28, 29, 30))
RUN = f"range-{FIRST}-{LAST}-1"
FIGURES = (
    f"SELECT * FROM (VALUES (DATE '{FIRST}', 7), (DATE '{MIDDLE}', 1), (DATE '{LAST}', 8)) AS figures (order_date, orders)"
)


def attempt(stage: str, **outcomes: str) -> AttemptRecord:
    """Return an attempt with these outcomes of dates, by ``d28`` and so on; its outcome is SUCCEEDED."""
    dates = {
        f"2025-11-{name[1:]}": {
            "outcome": outcome,
            "reasons": ["a sum is wrong"] if outcome == "REJECTED" else [],
            "rows": {"in": 1},
            "details": {"warnings": ["a file has copies"] if stage == "validate" else []},
            "failure": {"exception": "StorageError", "message": "no access"} if outcome == "FAILED" else None,
        }
        for name, outcome in outcomes.items()
    }
    return attempt_record(stage, run_id=RUN, attempt=1, seconds=2.0, dates=dates)


def run_notify(monkeypatch: pytest.MonkeyPatch, *attempts: AttemptRecord, caught: str = "null") -> tuple[Any, str]:
    """Run notify after these attempts; return its stage and what it shows."""

    def no_record(archive: Archive, run_id: str) -> None:
        raise FileNotFoundError(run_id)

    monkeypatch.setattr(Archive, "attempts", lambda archive, run_id: list(attempts))
    monkeypatch.setattr(Archive, "started", no_record)
    monkeypatch.setattr(Archive, "run_ids", lambda archive, day=None: [])
    monkeypatch.setattr(Archive, "folder", lambda archive, run_id: f"ranges/{run_id}")
    stage = begin("notify", env="local", run_date=FIRST, until=LAST, run_id=RUN)
    run = notify.look_back(stage, caught)
    stage.engine.define("day_figures", FIGURES)
    notify.read_figures(stage, run, "day_figures")
    return stage, notify.write_message(stage, run, headline="{orders} orders.")


def details(stage: Any, name: str) -> list[Any]:
    """Return a detail of each date, in order."""
    return [result.details[name] for result in stage.results.values()]


def test_range_sends_one_message_on_its_dates(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = {"d28": "SUCCEEDED", "d29": "SUCCEEDED", "d30": "SUCCEEDED"}
    quality = attempt("quality", **{**every, "d29": "REJECTED"})
    stage, shown = run_notify(monkeypatch, attempt("validate", **every), quality)
    assert (stage.details["run_outcome"], stage.details["run_reasons"]) == ("REJECTED", [f"{MIDDLE}: a sum is wrong"])
    assert details(stage, "run_outcome") == ["SUCCEEDED", "REJECTED", "SUCCEEDED"]
    assert details(stage, "run_reasons") == [[], ["a sum is wrong"], []]
    assert details(stage, "summary") == [{"orders": 7}, None, {"orders": 8}]
    message = stage.details["message"]
    assert message["subject"] == f"Daybook local: {FIRST} to {LAST} REJECTED in quality"
    lines = message["body"].splitlines()
    for line in (
        f"{MIDDLE}: a sum is wrong",
        "2 SUCCEEDED, 1 REJECTED.",
        f"{FIRST}: 7 orders.",
        f"{LAST}: 8 orders.",
        f"{FIRST} to {LAST}: a file has copies",
        f"{MIDDLE}: This run published nothing; no earlier run of its date did.",
    ):
        assert line in lines
    assert f"daybook run --date {MIDDLE} " in message["body"]
    assert shown == f"{message['subject']}\n\n{message['body']}"


def test_date_that_a_fault_ended_fails_the_range(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest = attempt("ingest", d28="FAILED", d29="SUCCEEDED", d30="SUCCEEDED")
    quality = attempt("quality", d29="SUCCEEDED", d30="SUCCEEDED")
    stage, _ = run_notify(monkeypatch, ingest, quality)
    assert stage.details["run_outcome"] == "FAILED"
    assert details(stage, "run_outcome") == ["FAILED", "SUCCEEDED", "SUCCEEDED"]
    (reason,) = stage.results[date(2025, 11, 28)].details["run_reasons"]
    assert "StorageError: no access" in reason


def test_date_without_quality_is_failed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, _ = run_notify(monkeypatch, attempt("ingest", d28="SKIPPED", d29="SUCCEEDED", d30="SUCCEEDED"))
    assert details(stage, "run_outcome") == ["SKIPPED", "FAILED", "FAILED"]
    assert stage.details["run_reasons"] == [f"{MIDDLE} to {LAST}: a stage ended without an outcome, so nothing was published"]


def test_figures_of_a_range_need_the_date(home: Path) -> None:
    stage = begin("notify", env="local", run_date=FIRST, until=LAST)
    stage.engine.define("day_figures", "SELECT 7 AS orders")
    run = notify.look_back(stage)
    with pytest.raises(NotebookError, match=r"^day_figures has no column order_date; select a row per date, with the date\.$"):
        notify.read_figures(stage, run, "day_figures")
