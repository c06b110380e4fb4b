"""Test the freshness of gold tables by the records of runs, also in time zones with days of 23 and 25 hours."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone
from typing import Any, Optional
from zoneinfo import ZoneInfo

import pytest

from daybook.contracts import load_table
from daybook.records.models import RunRecord, StageDetails
from daybook.records.ranges import build_date_records
from daybook.scheduling.due import end_of_day
from daybook.scheduling.freshness import (
    Freshness,
    compute_freshness,
    describe_published_figures,
    describe_rollback,
    find_visible_dates,
)
from daybook.sources import Calendar
from tests.range_records import build_attempts, build_range_record
from tests.sample_records import rollback_record, run_record

BERLIN = ZoneInfo("Europe/Berlin")
SALES, RFM = load_table("gold.daily_sales"), load_table("gold.customer_rfm")
ALL = (SALES.full_name, RFM.full_name)
NOW = datetime(2025, 12, 1, 12, tzinfo=timezone.utc)


def day(number: int) -> date:
    return date(2025, 11, number)


def run(
    number: int,
    outcome: str = "SUCCEEDED",
    *,
    publications: Optional[dict[str, str]] = None,
    at: Optional[int] = None,
    stages: tuple[str, ...] = ("transform", "aggregate", "quality"),
    **details: Any,
) -> RunRecord:
    """Return the record of a run of a day of November, whose stages start one minute apart in the hour ``at``."""
    started = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(hours=number if at is None else at)
    attempts: list[dict[str, Any]] = []
    for place, stage in enumerate(stages):
        good = outcome in ("SUCCEEDED", "RUNNING") or place < len(stages) - 1
        attempts.append(
            {
                "stage": stage,
                "outcome": "SUCCEEDED" if good else outcome,
                "started_at": (started + timedelta(minutes=place)).isoformat(),
                "ended_at": (started + timedelta(minutes=place + 1)).isoformat(),
                "tables_written": {},
                "details": {},
            }
        )
    if stages and stages[-1] == "quality" and outcome == "SUCCEEDED":
        publications = dict.fromkeys(ALL, "published") if publications is None else publications
        attempts[-1]["details"] = {"publications": publications, "published_dates": [day(number).isoformat()], **details}
        attempts[-1]["tables_written"] = dict.fromkeys((name for name, what in publications.items() if what == "published"), 7)
    return run_record(f"daily-{day(number)}-1", outcome, started_at=started.isoformat(), stages=attempts)


def describe(run: RunRecord, earlier: list[RunRecord]) -> str:
    return describe_published_figures(run.outcome, run.stages, earlier)


def fresh(*runs: RunRecord, at: datetime = NOW, zone: ZoneInfo = BERLIN, **calendar: Any) -> Freshness:
    (found,) = compute_freshness(runs, [SALES], zone=zone, at=at, calendar=Calendar.model_validate(calendar))
    return found


def local(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=BERLIN)  # type: ignore[arg-type, misc]


# Rollbacks


def rolled_back(number: int, **values: Any) -> RunRecord:
    record = run(number)
    return record.changed(rolled_back=rollback_record(record.run_id, **values))


def test_date_that_was_rolled_back_is_not_visible() -> None:
    assert fresh(run(28), rolled_back(29)).newest == day(28)


def test_rollback_names_whose_figures_show() -> None:
    told = "Rolled back by a steward at 2025-12-24 08:00 UTC: wrong prices; "
    assert describe_rollback(run(29), []) == ""
    assert describe_rollback(rolled_back(29), []) == f"{told}no earlier run of its date is published."
    earlier = [run(29), rolled_back(29)]
    assert describe_rollback(rolled_back(29), earlier) == f"{told}readers see the figures that {earlier[0].run_id} published."
    assert describe_rollback(rolled_back(29, ended_at=None), []).endswith("is not finished; give the same command again.")


# When a date is due


def test_latency_holds_until_a_day_after_the_next_date_ends() -> None:
    before = fresh(run(1), at=local(2025, 11, 3, 23, 59, 59))
    after = fresh(run(1), at=local(2025, 11, 4))
    assert (before.states, before.holds) == ((), True)
    assert (after.states, after.late, after.holds) == (("late",), (day(2),), False)


def test_age_counts_from_the_end_of_the_newest_date() -> None:
    assert fresh(run(1), run(2), at=local(2025, 11, 3, 9, 30)).age == timedelta(hours=9, minutes=30)


def test_age_of_a_day_that_has_not_ended_is_negative() -> None:
    assert fresh(run(2), at=local(2025, 11, 2, 21)).age == timedelta(hours=-3)


@pytest.mark.parametrize(
    ("zone", "of", "hours"),
    [
        ("Europe/Berlin", date(2025, 3, 30), 23),
        ("Europe/Berlin", date(2025, 10, 26), 25),
        ("Europe/Berlin", date(2025, 11, 1), 24),
        ("America/New_York", date(2025, 3, 9), 23),
        ("America/Sao_Paulo", date(2018, 11, 3), 24),  # the next day begins at 01:00, for there is no midnight
        ("America/Sao_Paulo", date(2018, 11, 4), 23),
        ("America/Sao_Paulo", date(2018, 2, 17), 25),  # 23:00 to 24:00 twice
        ("Australia/Lord_Howe", date(2025, 4, 6), 24.5),
    ],
)
def test_length_of_a_day_depends_on_its_time_zone(zone: str, of: date, hours: float) -> None:
    where = ZoneInfo(zone)
    assert end_of_day(of, where) - end_of_day(of - timedelta(days=1), where) == timedelta(hours=hours)


@pytest.mark.parametrize(
    ("zone", "first", "deadline"),
    [
        # 26 October has 25 hours and ends at 23:00 UTC; the day after 29 March has 23 hours.
        ("Europe/Berlin", date(2025, 10, 25), datetime(2025, 10, 27, 23, tzinfo=timezone.utc)),
        ("Europe/Berlin", date(2025, 3, 28), datetime(2025, 3, 30, 23, tzinfo=timezone.utc)),
        ("America/New_York", date(2025, 3, 8), datetime(2025, 3, 11, 4, tzinfo=timezone.utc)),
    ],
)
def test_latency_counts_elapsed_hours(zone: str, first: date, deadline: datetime) -> None:
    """The deadline of the date after ``first`` is 24 elapsed hours after its end, at another local time on some days."""
    record = run(1).changed(run_date=first)
    assert fresh(record, zone=ZoneInfo(zone), at=deadline - timedelta(seconds=1)).late == ()
    assert fresh(record, zone=ZoneInfo(zone), at=deadline).late == (first + timedelta(days=1),)


def test_latency_in_days_counts_24_hours_each() -> None:
    (promise, *_) = SALES.sla
    table = SALES.model_copy(update={"sla": [promise.model_copy(update={"value": 3, "unit": "d"}), promise]})
    assert table.latency == timedelta(hours=24)
    assert SALES.model_copy(update={"sla": [promise.model_copy(update={"value": 3, "unit": "d"})]}).latency == timedelta(days=3)


def test_table_without_a_latency_always_holds() -> None:
    (found,) = compute_freshness([run(1)], [SALES.model_copy(update={"sla": []})], zone=BERLIN, at=NOW, calendar=Calendar())
    assert (found.newest, found.latency, found.states, found.holds) == (day(1), None, (), True)


# Late and missing


def test_earlier_dates_are_missing_and_later_ones_late() -> None:
    found = fresh(run(1), run(2, "FAILED"), run(3), run(4, "REJECTED"), at=local(2025, 11, 7))
    assert (found.newest, found.missing, found.late) == (day(3), (day(2),), (day(4), day(5)))
    assert found.states == ("late", "missing")


def test_dates_before_their_deadline_are_neither() -> None:
    assert fresh(run(1), run(2, "FAILED"), run(3), at=local(2025, 11, 3, 8)).states == ()


def test_all_due_dates_are_missing_without_runs() -> None:
    assert (fresh().states, fresh().missing) == (("missing",), ())
    found = fresh(run(1, "FAILED"), at=local(2025, 11, 4))
    assert (found.newest, found.age, found.missing, found.late) == (None, None, (day(1), day(2)), ())


def test_skipped_date_needs_no_rows() -> None:
    assert fresh(run(1), run(2, "SKIPPED", stages=("ingest",)), run(3), at=local(2025, 11, 5, 8)).states == ()
    assert fresh(run(1), run(2, "SKIPPED", stages=("ingest",)), at=local(2025, 11, 4, 8)).states == ()


def test_newest_ended_run_decides_if_a_date_is_skipped() -> None:
    skipped, failed = run(2, "SKIPPED", stages=("ingest",)), run(2, "FAILED")
    running = run(2, "RUNNING", stages=("ingest",))
    assert fresh(run(1), failed, skipped, run(3), at=local(2025, 11, 5, 8)).missing == ()
    assert fresh(run(1), skipped, failed, run(3), at=local(2025, 11, 5, 8)).missing == (day(2),)
    assert fresh(run(1), skipped, running, run(3), at=local(2025, 11, 5, 8)).missing == ()


def test_only_expected_dates_are_due() -> None:
    weekend = {"closed_weekdays": ["Saturday", "Sunday"]}
    friday, monday = run(7), run(10)
    assert fresh(friday, monday, at=local(2025, 11, 13, 8), **weekend).states == ("late",)
    assert fresh(friday, monday, at=local(2025, 11, 12, 8), **weekend).states == ()
    assert fresh(friday, monday, at=local(2025, 11, 11, 8)).missing == (day(8), day(9))


def test_nothing_before_the_first_run_without_a_first_date() -> None:
    assert fresh(run(9), run(4, "FAILED"), at=local(2025, 11, 11)).missing == tuple(map(day, range(4, 9)))


def test_calendar_dates_before_the_first_run_are_missing() -> None:
    found = fresh(run(3), at=local(2025, 11, 4, 8), first="2025-11-01")
    assert (found.states, found.missing) == (("missing",), (day(1), day(2)))


def test_calendar_dates_are_missing_without_runs() -> None:
    assert fresh(at=local(2025, 11, 4), first="2025-11-01").missing == (day(1), day(2))


def test_latency_of_an_hour_ends_before_the_nightly_run() -> None:
    promise = SALES.sla[0].model_copy(update={"value": 1})
    table = SALES.model_copy(update={"sla": [promise]})
    tokyo, at = ZoneInfo("Asia/Tokyo"), datetime(2025, 11, 2, 16, tzinfo=timezone.utc)
    (found,) = compute_freshness([run(1)], [table], zone=tokyo, at=at, calendar=Calendar())
    assert found.late == (day(2),)


# What is shown


@pytest.mark.parametrize("then", ["REJECTED", "FAILED", "RUNNING"])
def test_published_date_stays_after_a_later_bad_run(then: str) -> None:
    assert find_visible_dates([run(1), run(1, then, at=5)], SALES) == {day(1)}


def test_approved_date_is_shown_after_its_approval() -> None:
    refused = run(1, "REJECTED")
    assert find_visible_dates([refused], SALES) == set()
    assert find_visible_dates([refused, run(1, at=5, stages=("aggregate", "quality"))], SALES) == {day(1)}


def test_date_is_shown_although_notify_failed() -> None:
    record = run(1)
    record.outcome = "FAILED"
    record.stages.append(record.stages[-1].changed(stage="notify", outcome="FAILED", details=StageDetails()))
    assert find_visible_dates([record], SALES) == {day(1)}


def test_date_left_to_a_newer_run_is_shown() -> None:
    assert find_visible_dates([run(1, publications=dict.fromkeys(ALL, "newer"))], RFM) == {day(1)}


def waits(number: int, **named: Any) -> RunRecord:
    return run(number, publications={SALES.full_name: "published", RFM.full_name: "waiting"}, **named)


def test_only_tables_that_wait_for_a_held_date_are_late() -> None:
    runs = [run(1), run(2, "REJECTED"), waits(3)]
    assert find_visible_dates(runs, SALES) == {day(1), day(3)}
    assert find_visible_dates(runs, RFM) == {day(1)}


def test_approval_of_a_held_date_publishes_waiting_dates() -> None:
    runs = [run(1), run(2, "REJECTED"), run(2, at=9, stages=("aggregate", "quality")), waits(3)]
    assert find_visible_dates(runs, RFM) == {day(1), day(2), day(3)}


def test_aggregate_before_the_merge_does_not_show_the_date() -> None:
    assert find_visible_dates([run(1, at=2), waits(3, at=3)], RFM) == {day(1)}


def test_shown_date_stays_after_a_merge_without_publish() -> None:
    waited, later, again = waits(1, at=1), run(2, at=2), run(1, "REJECTED", at=3)
    assert find_visible_dates([waited, again, later], RFM) == {day(1), day(2)}


def test_new_table_lacks_older_dates_until_restated() -> None:
    old = run(1, publications={"gold.payment_mix": "published"})
    assert find_visible_dates([old, run(2)], SALES) == {day(2)}
    assert find_visible_dates([old, run(2, published_dates=["2025-11-01", "2025-11-02"])], SALES) == {day(1), day(2)}


def test_withheld_record_counts_by_its_written_tables() -> None:
    record = run(1)
    record.stages[-1].details = StageDetails()
    assert find_visible_dates([record], SALES) == {day(1)}
    record.stages[-1].tables_written = {}
    assert find_visible_dates([record], SALES) == set()
    record.stages[-1].details = StageDetails(left_to_newer=["2025-11-01"])
    assert find_visible_dates([record], SALES) == {day(1)}


# Which run published a date


def test_published_run_has_no_sentence() -> None:
    good = run(1)
    assert describe(good, []) == describe(good.changed(outcome="FAILED"), []) == ""
    assert describe(run(1, "RUNNING"), [good]) == ""


def test_skipped_date_names_an_earlier_run_only() -> None:
    skipped = run(1, "SKIPPED", stages=("ingest",))
    assert describe(skipped, []) == ""
    assert (
        describe(skipped, [run(1)]) == "This run published nothing; readers see the figures that daily-2025-11-01-1 published."
    )


def test_run_that_failed_in_publish_names_its_tables() -> None:
    failed = run(1, "FAILED")
    failed.stages[-1].tables_written = {"gold.daily_sales": 4, "candidate.payment_mix": 2}
    assert describe(failed, []) == "This run published only gold.daily_sales; no earlier run of its date did."


def test_dates_of_a_range_are_judged_one_by_one() -> None:
    range_id, days = "range-2025-11-28-2025-11-30-1", [day(number).isoformat() for number in (28, 29, 30)]
    attempts = build_attempts(range_id, days, {days[1]: ("quality", "REJECTED")})
    for result in (attempts[4].dates[each] for each in (days[0], days[2])):
        result.details = StageDetails(publications={SALES.full_name: "published"}, published_dates=days)
    record = build_range_record(range_id, {each: f"daily-{each}-2" for each in days}, attempts)
    runs = list(build_date_records(record).values())
    assert find_visible_dates(runs, SALES) == {day(28), day(30)}
    found = fresh(*runs, first=day(28))
    assert (found.newest, found.missing) == (day(30), (day(29),))
