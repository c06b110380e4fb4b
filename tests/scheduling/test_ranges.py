"""Test that dates are cut into ranges within their bounds, and that backfills of ranges keep a result for each date."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from daybook.scheduling import ranges
from daybook.scheduling.backfills import (
    close_backfill,
    is_planned,
    plan_backfill,
    plan_catch_up,
    read_backfill,
    read_results,
    start_backfill,
)
from daybook.scheduling.ranges import MAX_RANGE_BYTES, cut_dates, measure_landing, parse_chunk
from daybook.settings import Settings, load_settings
from daybook.sources import load_source
from tests.range_records import add_range, close_range
from tests.scheduling.backfilling import add_run, day


@pytest.fixture
def settings(home: Path) -> Settings:
    return load_settings("local")


@pytest.fixture
def archive(settings: Settings) -> Archive:
    return Archive(settings.archive)


def spans(cut: list[tuple[date, ...]]) -> list[str]:
    return [f"{each[0]:%m-%d}..{each[-1]:%m-%d}" for each in cut]


# Cutting


@pytest.mark.parametrize(
    "chunk, expected",
    [
        ("month", ["11-20..11-30", "12-01..12-05"]),
        # 2025-11-24 and 2025-12-01 are Mondays.
        ("week", ["11-20..11-23", "11-24..11-30", "12-01..12-05"]),
        ("7", ["11-20..11-26", "11-27..12-03", "12-04..12-05"]),
        ("100", ["11-20..12-05"]),
    ],
)
def test_chunk_bounds_ranges(chunk: str, expected: list[str]) -> None:
    assert spans(cut_dates([day(number) for number in range(20, 36)], chunk, {})) == expected


def test_each_date_is_a_range_with_chunk_day() -> None:
    assert cut_dates([day(1), day(2)], "day", {}) == [(day(1),), (day(2),)]


def test_missing_date_divides_a_range() -> None:
    assert spans(cut_dates([day(1), day(2), day(4)], "month", {})) == ["11-01..11-02", "11-04..11-04"]


def test_week_at_the_turn_of_a_year_is_one_range() -> None:
    dates = [date(2025, 12, 29) + timedelta(days=number) for number in range(7)]
    assert spans(cut_dates(dates, "week", {})) == ["12-29..01-04"]


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    sizes=st.dictionaries(st.integers(0, 120).map(lambda number: day(1) + timedelta(days=number)), st.integers(0, 60)),
    chunk=st.sampled_from(["day", "week", "month", "1", "3", "50"]),
    limit=st.integers(1, 100),
)
def test_every_date_is_in_one_range_within_bounds(sizes: dict[date, int], chunk: str, limit: int) -> None:
    cut = cut_dates(sizes, chunk, sizes, limit)
    assert [each for dates in cut for each in dates] == sorted(sizes)
    for dates in cut:
        assert dates[-1] - dates[0] == timedelta(days=len(dates) - 1)
        assert len(dates) == 1 or sum(sizes[each] for each in dates) <= limit
        assert chunk != "month" or len({(each.year, each.month) for each in dates}) == 1
        assert chunk != "week" or len({each.isocalendar()[:2] for each in dates}) == 1
        assert len(dates) <= (int(chunk) if chunk.isdigit() else {"day": 1, "week": 7, "month": 31}[chunk])
    # No range could have been longer.
    for before, after in zip(cut, cut[1:]):
        joined = (*before, after[0])
        assert len(cut_dates(joined, chunk, sizes, limit)) == 2


@pytest.mark.parametrize("text, chunk", [("day", "day"), ("week", "week"), ("month", "month"), ("007", "7")])
def test_chunk_is_a_period_or_a_number(text: str, chunk: str) -> None:
    assert parse_chunk(text) == chunk


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "year", "Month", "٣"])
def test_other_chunks_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_chunk(text)
    assert str(caught.value) == f"--chunk {text}: give day, week, month, or a number of dates such as 10."


# Plans


def test_landing_files_of_dates_are_measured(settings: Settings) -> None:
    pattern = load_source("demo").entities["orders"].pattern(day(1))
    path = Path(settings.landing) / pattern.replace("*", "")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"12345")
    assert measure_landing(settings, [day(1), day(2)]) == {day(1): 5, day(2): 0}


def test_plan_has_a_range_for_each_month(settings: Settings, archive: Archive) -> None:
    add_run(archive, 27, "SUCCEEDED")
    plan = plan_backfill(settings, day(26), day(32))
    assert [(each.run_id, len(each.dates), each.size) for each in plan.ranges] == [
        ("daily-2025-11-26-1", 1, 0),
        ("range-2025-11-28-2025-11-30-1", 3, 0),
        ("range-2025-12-01-2025-12-02-1", 2, 0),
    ]
    assert [each.run_id for each in plan.days][:2] == ["daily-2025-11-26-1", "daily-2025-11-28-2"]
    assert plan.ranges[0].to_json() == {"run_date": "2025-11-26", "run_id": "daily-2025-11-26-1", "bytes": 0}
    assert plan.ranges[1].to_json()["until"] == "2025-11-30"


def test_landed_bytes_bound_a_planned_range(settings: Settings, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {day(number): MAX_RANGE_BYTES // 2 for number in range(1, 6)}
    monkeypatch.setattr("daybook.scheduling.backfills.measure_landing", lambda *_: sizes)
    plan = plan_catch_up(settings, [day(number) for number in range(1, 6)])
    assert [len(each.dates) for each in plan.ranges] == [2, 2, 1]
    assert ranges.DEFAULT_CHUNK == plan.chunk == "month"


def test_backfill_records_its_ranges(settings: Settings, archive: Archive) -> None:
    plan = plan_backfill(settings, day(1), day(6), chunk="4")
    name = start_backfill(archive, plan, {})
    record = read_backfill(archive, name)
    assert ([each.run_id for each in record.ranges], record.chunk) == (
        ["range-2025-11-01-2025-11-04-1", "range-2025-11-05-2025-11-06-1"],
        "4",
    )
    assert is_planned(archive, name, "range-2025-11-05-2025-11-06-1")
    assert is_planned(archive, name, "daily-2025-11-05-2")
    assert not is_planned(archive, name, "range-2025-11-05-2025-11-06-2")


def test_another_chunk_continues_a_stopped_backfill(settings: Settings, archive: Archive) -> None:
    name = start_backfill(archive, plan_backfill(settings, day(1), day(4), chunk="2"), {})
    add_range(archive, day(1), day(2), part_of=name)
    close_backfill(archive, name, stopped=True)
    plan = plan_backfill(settings, day(1), day(4), chunk="month")
    assert plan.continues == name
    assert [each.run_id for each in plan.ranges] == ["range-2025-11-03-2025-11-04-1"]


def test_planned_range_has_the_next_free_number(settings: Settings, archive: Archive) -> None:
    add_range(archive, day(1), day(3), {f"{day(2)}": ("ingest", "FAILED")})
    add_range(archive, day(1), day(3), {f"{day(number)}": ("ingest", "FAILED") for number in (1, 2, 3)})
    plan = plan_backfill(settings, day(1), day(3))
    assert [each.run_id for each in plan.ranges] == ["range-2025-11-01-2025-11-03-3"]
    assert [each.run_id for each in plan.days] == [f"daily-{day(number)}-4" for number in (1, 2, 3)]


def test_running_range_is_named_once(settings: Settings, archive: Archive) -> None:
    range_id = archive.start_range(day(1), day(2), {})
    with DateLocks(settings.archive, [day(1)]) as first, DateLocks(settings.archive, [day(2)]) as second:
        for lock in (first, second):
            lock.write_holder(range_id)
        plan = plan_backfill(settings, day(1), day(3))
    assert (plan.under_way, [each.run_id for each in plan.ranges]) == ((range_id,), ["daily-2025-11-03-1"])


def test_later_stages_run_for_dates_of_a_range_that_reached_them(settings: Settings, archive: Archive) -> None:
    add_range(archive, day(1), day(3), {f"{day(2)}": ("validate", "REJECTED"), f"{day(3)}": ("aggregate", "FAILED")})
    plan = plan_backfill(settings, day(1), day(3), first_stage="aggregate")
    assert ([each.run_date for each in plan.days], plan.missing_earlier_stages) == ([day(1), day(3)], (day(2),))


# Results


def test_results_have_a_line_for_each_date_of_a_range(settings: Settings, archive: Archive) -> None:
    plan = plan_backfill(settings, day(1), day(4))
    name = start_backfill(archive, plan, {})
    range_id = archive.start_range(day(1), day(4), {"part_of": name})
    close_range(archive, range_id, {f"{day(2)}": ("validate", "REJECTED")}, part_of=name)
    found = read_results(archive, name)
    assert [(each.run_id, each.outcome) for each in found] == [
        ("daily-2025-11-01-2", "SUCCEEDED"),
        ("daily-2025-11-02-2", "REJECTED"),
        ("daily-2025-11-03-2", "SUCCEEDED"),
        ("daily-2025-11-04-2", "SUCCEEDED"),
    ]
    assert found[1].reason == "validate came to REJECTED for 2025-11-02"
    assert sum(each.seconds or 0 for each in found) == pytest.approx(61.0)


def test_result_of_a_date_is_that_of_the_half_of_its_range(settings: Settings, archive: Archive) -> None:
    name = start_backfill(archive, plan_backfill(settings, day(1), day(4)), {})
    range_id = archive.start_range(day(1), day(4), {"part_of": name})
    close_range(archive, range_id, {f"{day(number)}": ("transform", "FAILED") for number in range(1, 5)}, part_of=name)
    add_range(archive, day(1), day(2), part_of=name)
    assert [(each.run_id, each.outcome) for each in read_results(archive, name)] == [
        ("daily-2025-11-01-3", "SUCCEEDED"),
        ("daily-2025-11-02-3", "SUCCEEDED"),
        ("daily-2025-11-03-2", "FAILED"),
        ("daily-2025-11-04-2", "FAILED"),
    ]
