"""Test which days are chosen for a preview, on made-up records."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook.records.archive import Archive
from daybook.records.models import RunRecord
from daybook.review.representative_days import RecordedDay, choose_days, kinds_by_figure, read_days
from tests.sample_records import attempt_record, run_record

KINDS = {"returned": "a day with returns"}
MONDAY, TUESDAY, WEDNESDAY, SATURDAY, SUNDAY = (f"2025-11-{day:02}" for day in (3, 4, 5, 8, 9))


def make_run(day: str, rows: int, *, number: int = 1, restated: Optional[dict[str, Any]] = None, **values: Any) -> RunRecord:
    """Return a run of a date that landed some rows and restated dates with figures."""
    details = {"restated": [{"order_date": each, "after": after} for each, after in (restated or {}).items()]}
    stages = [attempt_record(rows={"out": rows}), attempt_record("quality", details=details)]
    values = {"stages": stages, "started_at": f"{day}T23:00:00.000Z", **values}
    return run_record(f"daily-{day}-{number}", **values)


def make_day(day: str, rows: int = 10, **values: Any) -> RecordedDay:
    return RecordedDay(date.fromisoformat(day), [make_run(day, rows, **values)])


def reasons(*days: RecordedDay) -> dict[str, str]:
    return {day.isoformat(): why for day, why in choose_days(days, KINDS).reasons.items()}


def absent(*days: RecordedDay) -> list[str]:
    return list(choose_days(days, KINDS).absent)


def test_median_weekday_is_the_normal_one() -> None:
    found = reasons(make_day(MONDAY, 1), make_day(TUESDAY, 20), make_day(WEDNESDAY, 500), make_day(SATURDAY, 30))
    assert found[TUESDAY] == "a normal weekday (20 rows, the median of weekdays)"
    assert found[WEDNESDAY] == "the busiest day (500 rows)"


def test_weekend_is_no_normal_weekday() -> None:
    assert "a normal weekday" in absent(make_day(SATURDAY), make_day(SUNDAY))


def test_newest_of_equal_days_is_chosen() -> None:
    (chosen,) = reasons(make_day(MONDAY), make_day(WEDNESDAY), make_day(TUESDAY))
    assert chosen == WEDNESDAY


def test_one_day_serves_several_kinds() -> None:
    found = reasons(make_day(TUESDAY, 7, summary={"returned": "1.5000"}, restated={MONDAY: {}}))
    assert found == {
        TUESDAY: "a normal weekday (7 rows, the median of weekdays); the busiest day (7 rows); "
        "a day with late data (earlier dates restated: 1); a day with returns (returned 1.5000)"
    }


def test_only_earlier_restated_dates_are_late_data() -> None:
    assert "a day with late data" in absent(make_day(TUESDAY, restated={WEDNESDAY: {}}))


def test_figures_of_a_later_restatement_count() -> None:
    monday = make_day(MONDAY, summary={"returned": "0.0000"})
    found = reasons(make_day(WEDNESDAY, restated={MONDAY: {"returned": "12.0000"}}), monday)
    assert found[MONDAY] == "a day with returns (returned 12.0000)"


def test_later_run_replaces_a_restatement() -> None:
    again = make_run(MONDAY, 10, number=2, summary={"returned": "0.0000"}, started_at="2025-11-06T00:00:00.000Z")
    days = [make_day(WEDNESDAY, restated={MONDAY: {"returned": "12.0000"}}), RecordedDay(date(2025, 11, 3), [again])]
    assert "a day with returns" in absent(*days)


def test_redacted_figures_count_as_none() -> None:
    redacted = "[redacted:phone]"
    assert "a day with returns" in absent(
        make_day(MONDAY, summary={"returned": redacted}, restated={redacted: {"returned": 1}})
    )


@pytest.mark.parametrize("closed", [make_day(SUNDAY, 0), make_day(SUNDAY, 0, outcome="SKIPPED")])
def test_day_without_rows_is_closed(closed: RecordedDay) -> None:
    assert reasons(make_day(MONDAY), closed)[SUNDAY] == "a closed day (no rows)"


@pytest.mark.parametrize("outcome", ["FAILED", "REJECTED", "RUNNING"])
def test_unpublished_days_are_not_chosen(outcome: str) -> None:
    days = [make_day(MONDAY, 99, outcome=outcome), make_day(TUESDAY, 1)]
    assert list(reasons(*days)) == [TUESDAY]


def test_kinds_without_a_day_are_absent() -> None:
    every = ["a normal weekday", "the busiest day", "a day with late data", "a day with returns", "a closed day"]
    assert (reasons(), absent()) == ({}, every)
    assert absent(make_day(MONDAY)) == every[2:]


@given(st.permutations([make_day(f"2025-11-{day:02}", day % 5, restated={MONDAY: {}}) for day in range(1, 15)]))
def test_order_of_days_makes_no_difference(days: list[RecordedDay]) -> None:
    assert choose_days(days, {}) == choose_days(sorted(days, key=lambda day: day.run_date), {})


def test_contracts_declare_a_day_with_returns() -> None:
    assert kinds_by_figure() == {"returns_amount": "a day with returns"}


def test_rows_are_those_of_the_run_that_read_landing(tmp_path: Path) -> None:
    archive = Archive(str(tmp_path))
    for number, stage in enumerate(["ingest", "aggregate"], start=1):
        run_id = archive.start_run(date(2025, 11, 3), {})
        run = run_record(run_id, stages=[attempt_record(stage, rows={"out": 5 * number})], schema_version=1)
        archive.write_run(run)
    (day,) = read_days(archive)
    assert (day.run_date, day.rows, len(day.runs)) == (date(2025, 11, 3), 5, 2)


def test_day_of_a_range_has_late_data_if_it_changed_an_earlier_date() -> None:
    late = attempt_record("transform", details={"stale_dates": [MONDAY, TUESDAY]})
    run = make_run(TUESDAY, 7)
    of_range = run.changed(range_id="range-2025-11-24-2025-11-25-1", stages=[*run.stages, late])
    assert RecordedDay(run.run_date, [of_range]).restated == 1
    assert RecordedDay(run.run_date, [run]).restated == 0
