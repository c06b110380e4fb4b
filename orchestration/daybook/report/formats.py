"""Format numbers, times and hashes for pages. Unknown values are ``–``."""

from __future__ import annotations

from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from typing import Any, Optional, Union

from daybook.errors import ArchiveError
from daybook.records.formatting import format_decimal, format_value

UNKNOWN = "–"
NBSP = "\u00a0"  # keeps a number and its unit on one line


def format_count(number: Optional[int]) -> str:
    """Return a count with thousands separators: ``12,345``."""
    return UNKNOWN if number is None else f"{number:,}"


def format_money(amount: Union[str, Decimal, int, None], currency: Optional[str], decimals: int = 2) -> str:
    """Return an amount, rounded half up, and its currency: ``12,345.67 EUR``.

    Raises
    ------
    ArchiveError
        If ``amount`` is not a decimal number.
    """
    if amount is None:
        return UNKNOWN
    rounded = format_decimal(to_decimal(amount), decimals)
    return f"{rounded}{NBSP}{currency}" if currency else rounded


def format_figure(value: Any, currency: Optional[str]) -> str:
    """Return a figure of a day: decimals, which records hold as text, are money; other numbers have no unit."""
    if value is None or isinstance(value, (str, Decimal)):
        return format_money(value, currency)
    return format_value(value)


def format_label(name: str) -> str:
    """Return the name of a figure as a heading: ``Tons shipped`` for ``tons_shipped``."""
    return name.replace("_", " ").capitalize()


def to_decimal(amount: Union[str, Decimal, int]) -> Decimal:
    """Return a record's amount as a finite decimal; raise ``ArchiveError`` if it is not a number."""
    try:
        value = Decimal(amount)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ArchiveError(f"A record holds {amount!r} where an amount of money belongs; fix the record's summary.")
    return value


def format_duration(seconds: Optional[float]) -> str:
    """Return a duration in its two largest units: ``3.2 s``, ``1 min 05 s``, ``2 h 03 min``."""
    if seconds is None:
        return UNKNOWN
    if 0 < seconds < 0.05:
        return f"<{NBSP}0.1{NBSP}s"
    if seconds < 59.95:
        return f"{seconds:.1f}{NBSP}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min{NBSP}{rest:02d}{NBSP}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours:,}{NBSP}h{NBSP}{minutes:02d}{NBSP}min"


def format_file_size(size: Optional[int]) -> str:
    """Return a number of bytes in decimal units: ``85 B``, ``3.2 MB``, ``312 MB``."""
    if size is None:
        return UNKNOWN
    if size < 1000:
        return f"{size}{NBSP}B"
    value, units = size / 1000, ["kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        del units[0]
    return f"{value:.1f}{NBSP}{units[0]}" if value < 9.95 else f"{value:,.0f}{NBSP}{units[0]}"


def format_share(part: Optional[int], whole: Optional[int]) -> str:
    """Return ``part`` of ``whole`` in percent with one decimal; ``0.0 %`` and ``100.0 %`` only if they are exact."""
    if part is None or not whole:
        return UNKNOWN
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return f"<{NBSP}0.1{NBSP}%"
    if 99.95 <= percent < 100:
        return f">{NBSP}99.9{NBSP}%"
    return f"{percent:.1f}{NBSP}%"


def parse_instant(text: str) -> datetime:
    """Parse an ISO 8601 instant to an aware UTC datetime. An instant without an offset is UTC.

    Raises
    ------
    ArchiveError
        If ``text`` is not an ISO 8601 instant.
    """
    try:
        # Python 3.9's fromisoformat does not accept the Z.
        moment = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith("Z") else text)
    except ValueError:
        raise ArchiveError(f"A record holds {text!r} where an ISO 8601 time belongs; fix the record.") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)


def format_instant(moment: Union[str, datetime, None]) -> str:
    """Return an instant in UTC to the second, without the time zone: ``2026-11-23 14:00:00``."""
    if not moment:
        return UNKNOWN
    if isinstance(moment, str):
        moment = parse_instant(moment)
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")


def format_long_date(day: date) -> str:
    """Return a date in English words: ``Saturday, 5 May 2018``."""
    return f"{day:%A}, {day.day} {day:%B %Y}"


def format_short_hash(digest: Optional[str], length: int = 12) -> str:
    """Return the first ``length`` characters of a SHA-256 or a commit."""
    return digest[:length] if digest else UNKNOWN


def format_code_version(commit: Optional[str], dirty: Optional[bool]) -> str:
    """Return the commit that ran and whether files were changed since: ``1a2b3c4d``, ``1a2b3c4d + changes``."""
    if not commit:
        return UNKNOWN
    state = {True: " + changes", False: "", None: " (changes unknown)"}[dirty]
    return format_short_hash(commit, 8) + state
