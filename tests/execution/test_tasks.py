"""Test the plan of a catch-up and the summary of a backfill, on made-up archives and tables."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.execution.tasks import plan_gap_backfill, summarize_backfill
from daybook.records.archive import Archive
from daybook.records.models import BackfillRecord, PlannedDate
from daybook.records.names import NOT_STARTED
from daybook.scheduling.backfills import close_backfill, read_backfill, record_refusal, start_backfill
from daybook.settings import Settings, load_settings
from tests.runs.published import publish_days
from tests.sample_records import attempt_record, run_record
from tests.scheduling.backfilling import add_run, build_plan, day, run_backfill

NAME = "catch-up-20251201T020000000Z"


@pytest.fixture
def settings(home: Path) -> Settings:
    Path(load_settings("local").landing).mkdir(parents=True)
    return load_settings("local")


@pytest.fixture
def archive(settings: Settings) -> Archive:
    return Archive(settings.archive)


def answer(archive: Archive) -> Any:
    """Return the plan that the state machine reads."""
    return json.loads(archive.store.read(f"outcomes/{NAME}/gaps.json"))


def usual(last: int, weeks: int = 4) -> dict[date, int]:
    """Return values of about a thousand for each day of some weeks, up to a day of November."""
    return {day(last - back): 1000 + back % 5 for back in range(7 * weeks)}


# Gaps


def test_oldest_gaps_are_planned_up_to_the_limit(settings: Settings, archive: Archive) -> None:
    for number in (1, 4):
        add_run(archive, number, "SUCCEEDED")
    planned = plan_gap_backfill(settings, NAME, limit=2, since=day(1), until=day(6))
    assert planned.to_json() == answer(archive)
    assert planned.gaps == 4
    assert planned.dates == [
        PlannedDate(run_date=day(2), run_id="daily-2025-11-02-2"),
        PlannedDate(run_date=day(3), run_id="daily-2025-11-03-2"),
    ]
    plan = read_backfill(archive, planned.backfill_id)
    assert (plan.kind, plan.days, plan.asked_by, plan.state) == ("catch-up", planned.dates, NAME, "open")


def test_without_gaps_nothing_is_planned(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "SUCCEEDED")
    assert plan_gap_backfill(settings, NAME, limit=7, since=day(1), until=day(1)).to_json() == {"gaps": 0, "dates": []}
    assert answer(archive) == {"gaps": 0, "dates": []}
    assert archive.store.list_folders("backfills") == []


def test_gaps_that_no_run_can_close_are_only_counted(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "REJECTED")
    assert plan_gap_backfill(settings, NAME, limit=7, since=day(1), until=day(1)).to_json() == {"gaps": 1, "dates": []}


def test_stale_dates_are_planned_only_on_request(settings: Settings, archive: Archive) -> None:
    add_run(archive, 1, "SUCCEEDED", fingerprint={"notebooks": "of long ago"})
    asked: dict[str, Any] = {"limit": 7, "since": day(1), "until": day(1)}
    assert plan_gap_backfill(settings, NAME, **asked).dates == []
    planned = plan_gap_backfill(settings, NAME, include_stale=True, **asked).dates
    assert planned == [PlannedDate(run_date=day(1), run_id="daily-2025-11-01-2")]


# Summary


def test_summary_has_one_message_with_counts_and_failures(settings: Settings, archive: Archive) -> None:
    name = run_backfill(archive, build_plan(1, 2, 3, 4), ["SUCCEEDED", "REJECTED", "FAILED"])
    record_refusal(archive, name, day(4), "2025-11-04 is being run by somebody")
    publish_days(settings, {day(1): 1000})
    record = summarize_backfill(settings, name)
    assert (record.state, record.outcome, record.unusual_days) == ("closed", "FAILED", [])
    assert record.message.to_json() == {
        "subject": "Daybook local: backfill of 2025-11-01 to 2025-11-04: 1 succeeded, 1 rejected, 1 failed, 1 not started"[:99],
        "body": "Daybook local: backfill of 2025-11-01 to 2025-11-04: 1 succeeded, 1 rejected, 1 failed, 1 not started\n"
        "2025-11-02 REJECTED: daily-2025-11-02-1 came to REJECTED\n"
        "2025-11-03 FAILED: daily-2025-11-03-1 came to FAILED\n"
        "2025-11-04 NOT STARTED: 2025-11-04 is being run by somebody\n\n"
        f"What to do:\n  daybook show {name} --env local",
    }
    assert read_backfill(archive, name).message == record.message


def test_summary_of_successful_dates_is_one_line(settings: Settings, archive: Archive) -> None:
    name = run_backfill(archive, build_plan(1, 2), ["SKIPPED", "SKIPPED"])
    record = summarize_backfill(settings, name)
    assert (record.outcome, record.message.body) == (
        "SUCCEEDED",
        "Daybook local: backfill of 2025-11-01 to 2025-11-02: 2 skipped",
    )


def test_summary_of_a_backfill_without_runs(settings: Settings, archive: Archive) -> None:
    record = summarize_backfill(settings, start_backfill(archive, build_plan(1, 2), {}))
    assert (record.outcome, record.counts) == ("FAILED", {NOT_STARTED: 2})
    assert record.message.body.splitlines()[0].endswith(": 2 not started")


def test_long_list_of_failures_is_cut(settings: Settings, archive: Archive) -> None:
    numbers = range(1, 31)
    record = summarize_backfill(settings, run_backfill(archive, build_plan(*numbers), ["FAILED"] * 30))
    lines = record.message.body.split("\n\n")[0].splitlines()
    assert (len(lines), lines[-1]) == (22, "and 10 more")
    assert len(record.results) == 30


def test_consecutive_equal_failures_are_one_line(settings: Settings, archive: Archive) -> None:
    name = run_backfill(archive, build_plan(*range(1, 31)), ["SUCCEEDED"])
    for number in range(2, 31):
        record_refusal(archive, name, day(number), "the disk is full" if number != 9 else "another run has the date")
    publish_days(settings, {day(1): 1000})
    assert summarize_backfill(settings, name).message.body.split("\n\n")[0].splitlines()[1:] == [
        "2025-11-02 to 2025-11-08 (7 dates) NOT STARTED: the disk is full",
        "2025-11-09 NOT STARTED: another run has the date",
        "2025-11-10 to 2025-11-30 (21 dates) NOT STARTED: the disk is full",
    ]


def unusual(record: BackfillRecord) -> list[tuple[str, str, str]]:
    """Return date, severity and rule of each warning."""
    return [(str(each.run_date), each.severity, each.warning.split("'")[1]) for each in record.unusual_days]


@pytest.mark.parametrize("order", [(28, 29, 30), (30, 28, 29)], ids=["in order", "newest first"])
def test_dates_are_compared_with_the_final_history(settings: Settings, archive: Archive, order: tuple[int, ...]) -> None:
    # The row of each day is written when its run ends; the 29th sells half.
    publish_days(settings, usual(27))
    plan = build_plan(28, 29, 30)
    name = start_backfill(archive, plan, {})
    for number in order:
        publish_days(settings, {day(number): 500 if number == 29 else 1002})
        add_run(archive, number, "SUCCEEDED", part_of=name)
    record = summarize_backfill(settings, name)
    assert unusual(record) == [
        ("2025-11-29", "warning", f"{figure} is usual for its weekday")
        for figure in ("gross_revenue", "net_revenue", "average_order_value")
    ]
    assert "500.00 is below the 1,0" in record.unusual_days[0].warning
    assert record.message.body.split("\n\n")[0].splitlines()[1:] == [
        f"2025-11-29: {each.warning}" for each in record.unusual_days
    ]
    assert record.outcome == "SUCCEEDED"


def test_only_published_dates_are_checked(settings: Settings, archive: Archive) -> None:
    publish_days(settings, {**usual(27), day(28): 500, day(29): 500})
    record = summarize_backfill(settings, run_backfill(archive, build_plan(28, 29), ["FAILED", "SKIPPED"]))
    assert record.unusual_days == []


def run_with_past(archive: Archive, query: str) -> str:
    """Run a backfill of a day whose notebook gives the earlier days of daily sales by this query."""
    plan = build_plan(28)
    name = start_backfill(archive, plan, {})
    archive.start_named_run(plan.days[0].run_id, {"part_of": name})
    attempt = attempt_record("quality", "SUCCEEDED", details={"past": {"gold.daily_sales": query}})
    archive.write_run(run_record(plan.days[0].run_id, "SUCCEEDED", stages=[attempt]))
    return name


@pytest.mark.parametrize(("since", "found"), [("2025-11-01", 3), ("2025-11-25", 0)])
def test_dates_are_compared_by_the_query_of_their_notebook(
    settings: Settings, archive: Archive, since: str, found: int
) -> None:
    publish_days(settings, {**usual(27), day(28): 500})
    query = f"SELECT * FROM gold.daily_sales WHERE order_date >= DATE '{since}' -- a comment"
    assert len(summarize_backfill(settings, run_with_past(archive, query)).unusual_days) == found


def test_backfill_is_closed_if_a_query_fails(settings: Settings, archive: Archive) -> None:
    publish_days(settings, {day(28): 500})
    (found,) = summarize_backfill(settings, run_with_past(archive, "SELECT * FROM gold.no_table")).unusual_days
    assert found.warning.startswith("its figures cannot be compared with the days before: ")


def test_continued_backfill_checks_the_earlier_dates(settings: Settings, archive: Archive) -> None:
    publish_days(settings, {**usual(27), day(28): 500, day(29): 1000})
    stopped = run_backfill(archive, build_plan(28, 29), ["SUCCEEDED"])
    close_backfill(archive, stopped, stopped=True)
    record = summarize_backfill(settings, run_backfill(archive, build_plan(29, continues=stopped), ["SUCCEEDED"]))
    assert {each[0] for each in unusual(record)} == {"2025-11-28"}
    assert record.counts == {"SUCCEEDED": 2}


def test_history_rules_of_severity_error_are_reported(settings: Settings, archive: Archive, project: Any) -> None:
    contract = "params/contracts/gold/daily_sales.yaml"
    before, rule, after = (project.root / contract).read_text(encoding="utf-8").partition("- name: net_revenue\n")
    project.write(contract, before + rule + after.replace("severity: warning", "severity: error", 1))
    publish_days(settings, {**usual(27), day(28): 500})
    record = summarize_backfill(settings, run_backfill(archive, build_plan(28), ["SUCCEEDED"]))
    assert ("2025-11-28", "error", "net_revenue is usual for its weekday") in unusual(record)


def test_second_summary_gives_the_same_message(settings: Settings, archive: Archive) -> None:
    name = run_backfill(archive, build_plan(1), ["SKIPPED"])
    first = summarize_backfill(settings, name)
    assert summarize_backfill(settings, name).ended_at == first.ended_at
