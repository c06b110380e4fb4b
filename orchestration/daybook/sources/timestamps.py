"""SQL macros that read instants from text, and SQL that finds ambiguous and skipped local times.

An instant is a TIMESTAMPTZ. A text without an offset is a local time. As in PostgreSQL, a local time that occurs twice, when
the clock is set back, is the second one (standard time). One that is skipped, when the clock is set forward, moves forward by
the gap.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import NamedTuple
from zoneinfo import ZoneInfo

DATE_PATTERN = r"[0-9]{4}[-/][0-9]{1,2}[-/][0-9]{1,2}"
_TIME_PATTERN = r"[0-9]{1,2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"
_OFFSET_PATTERN = r"[+-](?:0[0-9]|1[0-5])(?::?[0-5][0-9])?"
_AM_PM_PATTERN = r" ?[AaPp]\.?[Mm]\.?"
_TWELVE_HOUR_PATTERN = r"([T ])(0?[1-9]|1[0-2])(:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?) ?([AaPp])\.?[Mm]\b\.?"
_PARTS_PATTERN = rf"^({DATE_PATTERN}[T ] *[0-9]{{1,2}}:[0-9]{{2}})((?::[0-9]{{2}}(?:\.[0-9]+)?)?) *(.*)$"
UNKNOWN_ZONE_PATTERN = rf"^{DATE_PATTERN}[T ] *{_TIME_PATTERN}(?:{_AM_PM_PATTERN})? *[A-Za-z+-].*$"
"""Matches a text that is not an instant only because of the text after the time of day."""

_ABBREVIATIONS_BY_OFFSET = {
    "+00": "Z UT UTC GMT WET", "+01": "WEST CET", "+02": "CEST EET", "+03": "EEST", "-04": "EDT", "-05": "EST CDT",
    "-06": "CST MDT", "-07": "MST PDT", "-08": "PST",
}  # fmt: skip
ZONE_OFFSETS = {name: offset for offset, names in _ABBREVIATIONS_BY_OFFSET.items() for name in names.split()}
"""Zone abbreviations and their offsets: those of RFC 5322 (section 4.3) and of Europe. An IANA zone of the same name, such as
CET, changes its offset in summer; the abbreviation does not."""

_FIRST_YEAR, _LAST_YEAR = 1970, 2037
_DIGIT_GLOB = "[0-9]"
_TIMESTAMP_GLOB = (
    f"{_DIGIT_GLOB * 4}-{_DIGIT_GLOB * 2}-{_DIGIT_GLOB * 2}[T ]{_DIGIT_GLOB * 2}:{_DIGIT_GLOB * 2}:{_DIGIT_GLOB * 2}"
)
"""A timestamp to the second. A cast raises an error on an unknown zone after the digits, so nothing else may follow."""


def list_macro_statements(zone_names: str) -> Iterator[str]:
    """Yield the statements that create the macros; ``zone_names`` are the engine's zones, each between ``|``."""
    listed = zone_names.replace("'", "''")
    offsets = " ".join(f"WHEN '{name}' THEN '{offset}'" for name, offset in ZONE_OFFSETS.items())
    yield f"CREATE MACRO known_zone(name) AS strpos('{listed}', '|' || name || '|') > 0"
    yield f"CREATE MACRO zone_offset(name) AS CASE name {offsets} END"
    # 09:50 PM becomes 21:50. An hour above 12 does not match, so the text after it is neither a zone nor a value.
    hour = (
        f"CAST(regexp_extract(t, '{_TWELVE_HOUR_PATTERN}', 2) AS INTEGER) % 12 + "
        f"CASE WHEN lower(regexp_extract(t, '{_TWELVE_HOUR_PATTERN}', 4)) = 'p' THEN 12 ELSE 0 END"
    )
    yield (
        f"CREATE MACRO on_24_hours(t) AS CASE WHEN regexp_matches(t, '{_TWELVE_HOUR_PATTERN}') "
        rf"THEN regexp_replace(t, '{_TWELVE_HOUR_PATTERN}', '\1' || ({hour}) || '\3') ELSE t END"
    )
    yield (
        "CREATE MACRO landed_clock(t) AS CASE "
        f"WHEN regexp_full_match(on_24_hours(t), '{DATE_PATTERN}(T| +){_TIME_PATTERN}') "
        "THEN TRY_CAST(on_24_hours(t) AS TIMESTAMP) END"
    )
    # A list comprehension gives a value a name, so that it is computed once.
    stamp = "p.stamp || CASE p.seconds WHEN '' THEN ':00' ELSE p.seconds END"
    yield (
        "CREATE MACRO landed_zoned(t) AS [CASE "
        f"WHEN regexp_full_match(p.zone, '{_OFFSET_PATTERN}') THEN TRY_CAST({stamp} || p.zone AS TIMESTAMPTZ) "
        f"WHEN zone_offset(p.zone) IS NOT NULL THEN TRY_CAST({stamp} || zone_offset(p.zone) AS TIMESTAMPTZ) "
        f"WHEN known_zone(p.zone) THEN TRY_CAST({stamp} || ' ' || p.zone AS TIMESTAMPTZ) END "
        f"FOR p IN [regexp_extract(on_24_hours(t), '{_PARTS_PATTERN}', ['stamp', 'seconds', 'zone'])]][1]"
    )
    # The GLOB patterns are for speed: most texts match one of them.
    offset = f"{DATE_PATTERN}(?:T| +)[0-9]{{1,2}}:[0-9]{{2}}:[0-9]{{2}}(?:\\.[0-9]+)?(?:Z|{_OFFSET_PATTERN})"
    yield (
        "CREATE MACRO landed_instant(t, zone) AS CASE "
        "WHEN t IS NULL THEN NULL "
        "WHEN t GLOB '????-??-??[T ]??:??:?[0-9]' THEN timezone(zone, TRY_CAST(t AS TIMESTAMP)) "
        f"WHEN t GLOB '{_TIMESTAMP_GLOB}Z' OR t GLOB '{_TIMESTAMP_GLOB}[+-]0[0-9]:[0-5][0-9]' "
        "THEN TRY_CAST(t AS TIMESTAMPTZ) "
        f"WHEN regexp_full_match(t, '{DATE_PATTERN}(?:(?:T| +){_TIME_PATTERN})?') "
        "THEN timezone(zone, TRY_CAST(t AS TIMESTAMP)) "
        f"WHEN regexp_full_match(t, '{offset}') THEN TRY_CAST(t AS TIMESTAMPTZ) "
        "ELSE [COALESCE(timezone(zone, landed_clock(x)), landed_zoned(x)) FOR x IN [t]][1] END"
    )
    # A time without an offset keeps its date. A time with an offset gets the shop's local date.
    yield (
        f"CREATE MACRO landed_date(t) AS CASE WHEN regexp_full_match(t, '{DATE_PATTERN}') THEN TRY_CAST(t AS DATE) ELSE "
        "COALESCE(CAST(landed_clock(t) AS DATE), CAST(landed_instant(t, current_setting('TimeZone')) AS DATE)) END"
    )
    yield ("CREATE MACRO utc_hour(x) AS month(make_timestamp(epoch_us(x))) * 100 + hour(make_timestamp(epoch_us(x)))")
    yield (
        "CREATE MACRO clock_change(x, clock, zone, shifts) AS CASE WHEN timezone(zone, x) <> clock THEN 'skipped' "
        "WHEN len([s FOR s IN shifts IF timezone(zone, x - to_minutes(s)) = clock]) > 0 THEN 'repeated' END"
    )
    # A plain cast reads a date as midnight in UTC, and raises an error on an unknown zone.
    yield (
        "CREATE MACRO as_instant(x, zone) AS CASE typeof(x) "
        "WHEN 'DATE' THEN TRY_CAST(TRY_CAST(x AS TIMESTAMP) AS TIMESTAMPTZ) "
        "WHEN 'VARCHAR' THEN landed_instant(TRY_CAST(x AS VARCHAR), zone) "
        "WHEN 'TIMESTAMP' THEN timezone(zone, TRY_CAST(x AS TIMESTAMP)) "
        "ELSE TRY_CAST(x AS TIMESTAMPTZ) END"
    )


def has_offset(strptime: str) -> bool:
    """Return whether a strptime format reads an offset or a zone."""
    return re.search(r"%[zZ]", strptime.replace("%%", "")) is not None


class ClockChanges(NamedTuple):
    """The changes of a zone's clock: their sizes, and their months and hours in UTC."""

    shifts: list[timedelta]
    hours: list[tuple[int, int]]


@functools.lru_cache(maxsize=16)
def find_clock_changes(zone: str) -> ClockChanges:
    """Return the changes of a zone's clock from 1970 to 2037; later years have the rules of 2037."""
    # No zone changes its clock twice within two weeks.
    place, step = ZoneInfo(zone), timedelta(days=14)
    shifts, hours = set(), set()
    at, end = datetime(_FIRST_YEAR, 1, 1, tzinfo=timezone.utc), datetime(_LAST_YEAR + 1, 1, 1, tzinfo=timezone.utc)
    before = _utc_offset(at, place)
    while at < end:
        after = _utc_offset(at + step, place)
        if before != after:
            low, high = at, at + step
            while high - low > timedelta(minutes=1):
                middle = (low + (high - low) / 2).replace(second=0, microsecond=0)
                low, high = (middle, high) if _utc_offset(middle, place) == before else (low, middle)
            shift = abs(after - before)
            shifts.add(shift)
            last = high + shift - timedelta(microseconds=1)
            hour = high.replace(minute=0)
            while hour <= last:
                hours.add((hour.month, hour.hour))
                hour += timedelta(hours=1)
        at, before = at + step, after
    return ClockChanges(sorted(shifts), sorted(hours))


def _utc_offset(at: datetime, place: ZoneInfo) -> timedelta:
    return at.astimezone(place).utcoffset() or timedelta(0)


def clock_change_sql(instant: str, clock: str, zone: str) -> str:
    """Return SQL for 'repeated' or 'skipped' if a local time occurs twice or never in a zone, else NULL.

    Parameters
    ----------
    instant, clock
        SQL of the instant, and of the local time that it was read from; the latter is NULL for a text with an offset.
    zone
        The name of the zone.
    """
    changes = find_clock_changes(zone)
    if not changes.hours:
        return "CAST(NULL AS VARCHAR)"
    # Month and hour in UTC exclude nearly all values. Computing the local time costs much more.
    near = ", ".join(str(month * 100 + hour) for month, hour in changes.hours)
    shifts = ", ".join(str(shift // timedelta(minutes=1)) for shift in changes.shifts)
    return f"CASE WHEN utc_hour({instant}) IN ({near}) THEN clock_change({instant}, {clock}, '{zone}', [{shifts}]) END"
