"""Test that status, gaps, report and message agree on the missing dates, for random calendars and runs."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.contracts import load_table
from daybook.notebook import notify
from daybook.records.archive import Archive
from daybook.records.models import RunRecord
from daybook.records.names import list_dates
from daybook.report.site import build_site
from daybook.scheduling import gaps
from daybook.scheduling.due import end_of_day, format_dates
from daybook.scheduling.freshness import compute_freshness
from daybook.settings import Settings, load_settings
from daybook.sources import Calendar
from daybook.sources.calendar import WEEKDAYS
from tests.sample_records import run_record

SALES = load_table("gold.daily_sales")
FIRST = date(2025, 10, 20)
OFFSETS = st.integers(min_value=0, max_value=21)


@st.composite
def calendars(draw: Any) -> Calendar:
    """Return a calendar of about three weeks, with closed weekdays, closed spans, and ends or none."""
    first, last = sorted((draw(OFFSETS), draw(OFFSETS)))
    start = draw(OFFSETS)
    given = {
        "first": draw(st.sampled_from([None, FIRST + timedelta(days=first)])),
        "last": draw(st.sampled_from([None, FIRST + timedelta(days=last)])),
        "closed_weekdays": draw(st.lists(st.sampled_from(WEEKDAYS), max_size=3, unique=True)),
        "closed": [f"{FIRST + timedelta(days=start)}..{FIRST + timedelta(days=start + draw(st.integers(0, 4)))}"],
    }
    return Calendar.model_validate(given)


RUNS = st.dictionaries(OFFSETS, st.sampled_from(["SUCCEEDED", "SKIPPED", "REJECTED", "FAILED"]), min_size=1, max_size=6)
MOMENTS = st.integers(min_value=0, max_value=24 * 24).map(
    lambda hours: datetime(2025, 10, 21, tzinfo=timezone.utc) + timedelta(hours=hours)
)


@dataclass
class FakeStage:
    """Return the record of a stage as the message reads it."""

    settings: Settings
    archive: Archive
    run_id: str = "daily-2025-10-20-1"
    part_of: Optional[str] = None


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def written(archive: Archive, offset: int, outcome: str) -> RunRecord:
    """Write the run of a date, and return its record."""
    day = FIRST + timedelta(days=offset)
    run_id = archive.start_run(day, {})
    at = f"{day}T12:00:00.000Z"
    quality = {"stage": "quality", "outcome": outcome, "started_at": at, "ended_at": at, "seconds": 1.0, "rows": {}}
    published = {SALES.full_name: 1} if outcome == "SUCCEEDED" else {}
    quality.update(tables_written=published, details={}, inputs=[])
    archive.write_run(run_record(run_id, outcome, started_at=at, seconds=1.0, stages=[quality]))
    return archive.run(run_id)


def titled(page: str, meaning: str) -> set[date]:
    """Return the dates that the report's calendar marks with a meaning."""
    return {date.fromisoformat(day) for day in re.findall(rf'title="(\S+): {meaning}', page)}


@given(calendar=calendars(), outcomes=RUNS, at=MOMENTS)
@settings(max_examples=60)
def test_all_agree_on_which_dates_are_missing(base: Path, calendar: Calendar, outcomes: dict[int, str], at: datetime) -> None:
    place = Path(tempfile.mkdtemp(dir=base))
    shop = load_settings("local", {"archive": str(place / "archive"), "landing": str(place / "landing")})
    archive = Archive(shop.archive)
    runs = [written(archive, *each) for each in sorted(outcomes.items())]

    ran = {FIRST + timedelta(days=offset): outcome for offset, outcome in outcomes.items()}
    newest = (at - timedelta(hours=2)).date() - timedelta(days=1)
    dates = [day for day in list_dates(calendar.first or min(ran), newest) if calendar.is_expected(day)]
    never = {day for day in dates if day not in ran}
    bad = never | {day for day in dates if ran.get(day) in ("FAILED", "REJECTED")}

    with pytest.MonkeyPatch.context() as patch:
        for module in (gaps, notify):
            patch.setattr(module, "load_calendar", lambda _: calendar)
        found = gaps.find_gaps(shop, now=at)
        line = notify._format_missing_dates(FakeStage(shop, archive), at)
    (fresh,) = compute_freshness(runs, [SALES], zone=ZoneInfo(shop.timezone), at=at, calendar=calendar)
    index = build_site(
        runs,
        out=place / "report",
        history_of=lambda _: [],
        archive_href=lambda run_id, file: f"{run_id}/{file}",
        title=shop.title,
        now=at,
        calendar=calendar,
    ).read_text(encoding="utf-8")

    assert {gap.run_date for gap in found.gaps if gap.reason == "never ran"} == never
    assert {gap.run_date for gap in found.gaps} == bad
    assert (
        line == []
        if not never
        else line[0].startswith(f"{len(never)} date") and f": {format_dates(never, calendar)}; " in line[0]
    )
    # A month without any run is in the list of ranges only.
    months = {(day.year, day.month) for day in ran}
    assert titled(index, "no run for this date") == {day for day in never if (day.year, day.month) in months}
    assert not titled(index, "no run expected") & set(dates)
    assert ("never ran</summary>" in index) == bool(never)
    # A table is late after its latency. Dates with a run are listed at once, even before their nightly run is due.
    assert SALES.latency is not None
    promised = {day for day in bad if end_of_day(day, ZoneInfo(shop.timezone)) + SALES.latency <= at}
    assert {*fresh.late, *fresh.missing} == promised
