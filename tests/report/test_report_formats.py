"""Test how numbers, times and hashes are formatted, also when they are unknown."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from daybook.errors import ArchiveError
from daybook.records.archive import parse_record
from daybook.records.models import RunRecord
from daybook.report import formats


def plain(text: str) -> str:
    return text.replace(formats.NBSP, " ")


@pytest.mark.parametrize(("number", "shown"), [(None, "–"), (0, "0"), (999, "999"), (1234567, "1,234,567"), (-1200, "-1,200")])
def test_counts_have_thousands_separators(number, shown):
    assert formats.format_count(number) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        (None, "–"),
        ("12345.6700", "12,345.67 EUR"),
        ("0.0050", "0.01 EUR"),
        ("-3.5", "-3.50 EUR"),
        ("123456789012.9999", "123,456,789,013.00 EUR"),
    ],
)
def test_money_has_two_decimals_and_its_currency(amount, shown):
    assert plain(formats.format_money(amount, "EUR")) == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), ("1234.5000", "1,234.50 EUR"), (1234, "1,234"), (0.25, "0.25"), (True, "yes")]
)
def test_figures_are_money_if_they_are_decimals(value, shown):
    assert plain(formats.format_figure(value, "EUR")) == shown


def test_figure_name_becomes_a_heading():
    assert formats.format_label("tons_shipped") == "Tons shipped"


@pytest.mark.parametrize("amount", ["n/a", "", "NaN", "Infinity"])
def test_invalid_amount_is_an_error(amount):
    with pytest.raises(ArchiveError, match="where an amount of money belongs"):
        formats.format_money(amount, "EUR")


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (None, "–"),
        (0, "0.0 s"),
        (0.004, "< 0.1 s"),
        (3.21, "3.2 s"),
        (59.94, "59.9 s"),
        (59.97, "1 min 00 s"),
        (65.2, "1 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7380, "2 h 03 min"),
    ],
)
def test_durations_use_the_two_largest_units(seconds, shown):
    assert plain(formats.format_duration(seconds)) == shown


@pytest.mark.parametrize(
    ("size", "shown"),
    [(None, "–"), (85, "85 B"), (999, "999 B"), (3210, "3.2 kB"), (999_700, "1.0 MB"), (312_000_000, "312 MB")],
)
def test_file_sizes_use_decimal_units(size, shown):
    assert plain(formats.format_file_size(size)) == shown


@pytest.mark.parametrize(
    ("part", "whole", "shown"),
    [
        (32, 2468, "1.3 %"),
        (0, 10, "0.0 %"),
        (1, 100_000, "< 0.1 %"),
        (99_999, 100_000, "> 99.9 %"),
        (10, 10, "100.0 %"),
        (1, 0, "–"),
        (None, 10, "–"),
    ],
)
def test_shares_are_never_rounded_to_0_or_100_percent(part, whole, shown):
    assert plain(formats.format_share(part, whole)) == shown


def test_instants_are_converted_to_utc():
    east = datetime(2026, 11, 23, 15, 30, tzinfo=timezone(timedelta(hours=1)))
    assert formats.format_instant(east) == "2026-11-23 14:30:00"
    assert formats.format_instant("2026-11-23T14:30:00.123Z") == "2026-11-23 14:30:00"
    assert formats.format_instant("2026-11-23T14:30:00") == "2026-11-23 14:30:00"
    assert formats.format_instant(None) == "–"


def test_invalid_time_or_date_is_an_error():
    with pytest.raises(ArchiveError, match="where an ISO 8601 time belongs"):
        formats.parse_instant("yesterday")
    with pytest.raises(ArchiveError, match=r"run\.json: key 'run_date' is '05\.05\.2018'"):
        parse_record(RunRecord, b'{"run_id": "daily-2018-05-05-1", "run_date": "05.05.2018", "outcome": "FAILED"}', "run.json")
    with pytest.raises(ArchiveError, match=r"run\.json: key 'run_date'"):
        parse_record(RunRecord, b'{"run_id": "daily-2018-05-05-1", "outcome": "FAILED"}', "run.json")


def test_long_date_is_spelled_out():
    assert formats.format_long_date(date(2018, 5, 5)) == "Saturday, 5 May 2018"


@pytest.mark.parametrize(
    ("commit", "dirty", "shown"),
    [
        ("1a2b3c4d5e6f", False, "1a2b3c4d"),
        ("1a2b3c4d5e6f", True, "1a2b3c4d + changes"),
        ("1a2b3c4d5e6f", None, "1a2b3c4d (changes unknown)"),
        (None, None, "–"),
    ],
)
def test_code_version_shows_uncommitted_changes(commit, dirty, shown):
    assert formats.format_code_version(commit, dirty) == shown
