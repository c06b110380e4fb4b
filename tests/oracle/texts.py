"""Parse landed texts: trim them, and read numbers and times."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cache
from typing import Optional
from zoneinfo import ZoneInfo

BLANKS = " \u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
"""Characters that are trimmed: Unicode space separators, but no tabs and newlines."""

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)")
_INSTANT = re.compile(
    r"(?P<year>[0-9]{4})(?P<between>[-/])(?P<month>[0-9]{1,2})(?P=between)(?P<day>[0-9]{1,2})"
    r"(?:(?:T| +)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\b\.?)? *(?P<zone>\S.*)?)?",
    re.ASCII,
)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>0[0-9]|1[0-5])(?::?(?P<minutes>[0-5][0-9]))?")
ABBREVIATIONS = {
    "Z": 0,
    "UT": 0,
    "UTC": 0,
    "GMT": 0,
    "EST": -5,
    "EDT": -4,
    "CST": -6,
    "CDT": -5,
    "MST": -7,
    "MDT": -6,
    "PST": -8,
    "PDT": -7,
    "WET": 0,
    "WEST": 1,
    "CET": 1,
    "CEST": 2,
    "EET": 2,
    "EEST": 3,
}
"""Hours east of UTC."""


def trim_text(text: str, pad: int = 0) -> Optional[str]:
    """Return the trimmed text, padded with zeros to ``pad`` characters; None if it is empty."""
    text = text.strip(BLANKS)
    return text.rjust(pad, "0") if text else None


def parse_integer(text: str) -> Optional[int]:
    """Parse an integer of 64 bits; 17850.0 is one."""
    whole, _, zeros = text.partition(".")
    if ("." in text and not re.fullmatch("0+", zeros)) or not re.fullmatch("[+-]?[0-9]+", whole):
        return None
    return int(whole) if -(2**63) <= int(whole) < 2**63 else None


def parse_decimal(text: str) -> Optional[Decimal]:
    """Parse a number with at most 14 digits before the point and 4 after it, without trailing zeros."""
    if not _NUMBER.fullmatch(text):
        return None
    whole, _, fraction = text.lstrip("+-").partition(".")
    if len(whole.lstrip("0")) > 14 or len(fraction.rstrip("0")) > 4:
        return None
    value = Decimal(f"{whole or 0}.{fraction.rstrip('0') or 0}")
    return -value if text[0] == "-" else value


def parse_instant(text: str, shop: str) -> Optional[datetime]:
    """Parse a date, a local time of the shop or a time with a zone, and return it in UTC.

    Outside of the years 1 to 9999 it returns the nearest time that Python supports; the contracts' bounds reject these.
    """
    found = _INSTANT.fullmatch(text)
    if not found:
        return None
    hour, minute, second = (int(found[part] or 0) for part in ("hour", "minute", "second"))
    if found["half"]:
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if found["half"] in "Pp" else 0)
    midnight = found["hour"] is not None and not found["half"] and (hour, minute, second) == (24, 0, 0)
    fraction = (found["fraction"] or "")[:6].ljust(6, "0")
    year, far = int(found["year"]), datetime.min.replace(tzinfo=timezone.utc)
    try:
        # The year 0 is a leap year.
        local = datetime(year or 4, int(found["month"]), int(found["day"]), 0 if midnight else hour, minute, second)
    except ValueError:
        return None
    if midnight and int(fraction):
        return None
    try:
        local += timedelta(days=midnight, microseconds=int(fraction))
        moment = _to_utc(local, found["zone"], shop)
    except OverflowError:
        return far if year <= 1 else datetime.max.replace(tzinfo=timezone.utc)
    return far if moment and not year else moment


def _to_utc(local: datetime, zone: Optional[str], shop: str) -> Optional[datetime]:
    """Convert a local time in a zone to UTC; return None if the zone is unknown."""
    offset = _OFFSET.fullmatch(zone or "")
    if offset:
        east = timedelta(hours=int(offset["hours"]), minutes=int(offset["minutes"] or 0))
        return (local - (east if offset["sign"] == "+" else -east)).replace(tzinfo=timezone.utc)
    if zone in ABBREVIATIONS:
        return (local - timedelta(hours=ABBREVIATIONS[zone])).replace(tzinfo=timezone.utc)
    loaded = _load_zone(zone or shop)
    if loaded is None:
        return None
    # Use the smaller offset: a repeated time is the second one, and a skipped time moves forward by the gap.
    first, second = (local.replace(fold=fold, tzinfo=loaded).utcoffset() or timedelta() for fold in (0, 1))
    return (local - min(first, second)).replace(tzinfo=timezone.utc)


@cache
def _load_zone(name: str) -> Optional[ZoneInfo]:
    try:
        return ZoneInfo(name)
    except (OSError, LookupError, ValueError):
        return None


def local_midnight(day: str, shop: str) -> datetime:
    """Return the start of a date in the shop's time zone."""
    found = parse_instant(day, shop)
    assert found is not None
    return found


def local_day(moment: Optional[datetime], shop: str) -> Optional[date]:
    """Return the calendar day of a time in the shop's time zone."""
    return moment.astimezone(ZoneInfo(shop)).date() if moment and moment.year < 9999 else None
