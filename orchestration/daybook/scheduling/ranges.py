"""Cut business dates into ranges of consecutive dates, each of which one run processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import Callable

from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.models import PlannedDate, PlannedRange
from daybook.settings import Settings
from daybook.sources import LandingListing, LandingStore, load_source

MAX_RANGE_BYTES = 512 * 1024 * 1024
"""Maximum bytes of the landing files of a range. A single date may have more."""
DEFAULT_CHUNK = "month"
_PERIODS: Mapping[str, Callable[[date], object]] = {
    "day": lambda day: day,
    "week": lambda day: day.isocalendar()[:2],
    "month": lambda day: (day.year, day.month),
}
"""By name of a chunk, what is the same for all dates of one period. A week begins on Monday."""


def parse_chunk(text: str) -> str:
    """Return a chunk as plans have it: day, week, month or a number of dates. Raises ``UsageError``."""
    if text in _PERIODS:
        return text
    if text.isascii() and text.isdigit() and int(text) > 0:
        return str(int(text))
    raise UsageError(f"--chunk {text}: give {', '.join(_PERIODS)}, or a number of dates such as 10.")


def cut_dates(
    dates: Iterable[date], chunk: str, sizes: Mapping[date, int], limit: int = MAX_RANGE_BYTES
) -> list[tuple[date, ...]]:
    """Cut dates into ranges of consecutive dates; return the dates of each range, oldest first.

    Parameters
    ----------
    dates
        Business dates, each once.
    chunk
        The longest range: ``day``, ``week`` or ``month``, which end with the period, or a number of dates.
    sizes
        Bytes of the landing files by date. Dates without files may be missing.
    limit
        Maximum bytes of a range of several dates.
    """
    ranges: list[list[date]] = []
    size = 0
    for day in sorted(dates):
        if ranges and _fits(ranges[-1], day, chunk) and size + sizes.get(day, 0) <= limit:
            ranges[-1].append(day)
            size += sizes.get(day, 0)
        else:
            ranges.append([day])
            size = sizes.get(day, 0)
    return [tuple(each) for each in ranges]


def plan_ranges(
    archive: Archive, dates: Sequence[date], chunk: str, sizes: Mapping[date, int]
) -> tuple[list[PlannedRange], list[PlannedDate]]:
    """Return the runs that process these dates, and the dates with their planned run ids.

    A range of one date is an ordinary run of that date.
    """
    ranges, days = [], []
    for cut in cut_dates(dates, chunk, sizes):
        own = [PlannedDate(run_date=day, run_id=archive.next_run_id(day, in_range=len(cut) > 1)) for day in cut]
        size = sum(sizes.get(day, 0) for day in cut)
        several = {"until": cut[-1], "run_id": archive.next_range_id(cut[0], cut[-1])} if len(cut) > 1 else {}
        ranges.append(PlannedRange.model_validate({"run_date": cut[0], "run_id": own[0].run_id, **several, "bytes": size}))
        days += own
    return ranges, days


def measure_landing(settings: Settings, dates: Iterable[date]) -> dict[date, int]:
    """Return the bytes of the landing files of dates, from one listing. A snapshot, which is of no date, is not counted."""
    source, listing = load_source(settings.source), LandingListing(LandingStore(settings.landing))
    dated = [entity for entity in source.entities.values() if entity.is_dated]
    return {day: sum(listing.size(file) for entity in dated for file in listing.files(entity, day)) for day in dates}


def _fits(before: Sequence[date], day: date, chunk: str) -> bool:
    """Return whether a date continues a range."""
    if day - before[-1] != timedelta(days=1):
        return False
    period = _PERIODS.get(chunk)
    return period(before[0]) == period(day) if period else len(before) < int(chunk)
