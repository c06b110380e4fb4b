"""Test a source's calendar: its expected business dates, and the errors of its YAML."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from daybook.errors import SourceError
from daybook.sources import Calendar, load_source
from demo_shop import generate

FILE = "params/sources/online_retail.yaml"
WRITTEN = "  closed_weekdays: [Saturday]"


def days(*texts):
    return [date.fromisoformat(text) for text in texts]


def expected(calendar, first, last):
    return Calendar.model_validate(calendar).expected(date.fromisoformat(first), date.fromisoformat(last))


def test_without_a_calendar_every_date_is_expected():
    assert expected({}, "2024-02-28", "2024-03-01") == days("2024-02-28", "2024-02-29", "2024-03-01")


def test_range_of_one_date_and_reversed_range():
    assert expected({}, "2025-11-30", "2025-11-30") == days("2025-11-30")
    assert expected({}, "2025-11-30", "2025-11-29") == []


def test_dates_before_first_and_after_last_are_not_expected():
    calendar = {"first": "2025-11-29", "last": date(2025, 11, 30)}
    assert expected(calendar, "2025-01-01", "2026-01-01") == days("2025-11-29", "2025-11-30")
    assert expected(calendar, "2025-12-01", "2026-01-01") == []
    assert not Calendar.model_validate(calendar).is_expected(date(2025, 11, 28))
    assert not Calendar.model_validate(calendar).is_expected(date(2025, 12, 1))


def test_closed_weekdays_are_left_out():
    found = expected({"closed_weekdays": ["Saturday", "sunday"]}, "2025-11-01", "2025-11-30")
    assert len(found) == 20
    assert {f"{day:%A}" for day in found} == {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday"}


def test_closed_ranges_include_both_ends():
    calendar = {"closed": [date(2010, 12, 21), "2010-12-24..2010-12-26"]}
    assert expected(calendar, "2010-12-20", "2010-12-27") == days("2010-12-20", "2010-12-22", "2010-12-23", "2010-12-27")


def test_demo_calendar_equals_the_generated_dates(tmp_path):
    made = generate(tmp_path / "landing", orders_per_day=1).days
    calendar = load_source("demo").calendar
    assert calendar.expected(made[0] - timedelta(days=9), made[-1] + timedelta(days=9)) == list(made)


def test_calendars_of_real_shops_include_all_dates_with_data(shared_data):
    files = {date.fromisoformat(path.stem) for path in (shared_data / "online_retail").glob("*.csv")}
    calendar = load_source("online_retail").calendar
    assert (calendar.first, calendar.last) == (min(files), max(files))
    assert all(calendar.is_expected(day) for day in files)
    orders = (shared_data / "olist" / "olist_orders_dataset.csv").read_text(encoding="utf-8").splitlines()
    at = orders[0].replace('"', "").split(",").index("order_purchase_timestamp")
    bought = {line.replace('"', "").split(",")[at][:10] for line in orders[1:]}
    calendar = load_source("olist").calendar
    assert (str(calendar.first), str(calendar.last)) == (min(bought), max(bought))


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("  closed_weekdays: [Samstag]", "key 'calendar.closed_weekdays.0' is 'Samstag': it should be 'Monday', 'Tuesday', "),
        (
            "  closed_weekdays: [Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday]",
            "it should leave out at least one weekday, on which the shop is open.",
        ),
        ("  closed: [Christmas]", "key 'calendar.closed.0' is 'Christmas': it should be a date, or a range such as "),
        ("  closed: [2010-12-24, 2011-01-03..]", "key 'calendar.closed.1' is '2011-01-03..': it should be a date, or a range"),
        ("  closed: [2010-12-24..2010-12-25..2010-12-26]", "it should be a date, or a range"),
        ("  closed: [2011-01-03..2010-12-24]", "key 'calendar.closed.0' is '2011-01-03..2010-12-24': it should be the earlier"),
        (
            "  closed: [2010-12-24, 2010-12-24..2010-13-01]",
            "key 'calendar.closed.1' is '2010-12-24..2010-13-01': it should be a",
        ),
        ("  closed: [20101224]", "key 'calendar.closed.0' is 20101224: it should be a date, or a range"),
        ("  holidays: [2010-12-24]", "there is no key 'calendar.holidays'; remove it."),
    ],
)
def test_error_names_file_and_key(project, written, told):
    project.replace(FILE, WRITTEN, written)
    with pytest.raises(SourceError) as caught:
        load_source("online_retail")
    assert str(caught.value).startswith(f"{FILE}: ")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("first: 2010-12-01", "first: 20101201", "key 'calendar.first' is 20101201: it should be a date such as 2025-11-30."),
        ("first: 2010-12-01", "first: 2010-12-01 00:00:00", "it should be a date such as 2025-11-30."),
        (
            "last: 2011-05-31",
            "last: 2010-05-31",
            "key 'calendar.last' is 2010-05-31: it should not be before the first date, 2010-12-01.",
        ),
    ],
)
def test_invalid_first_or_last_date_is_an_error(project, old, new, told):
    project.replace(FILE, old, new)
    with pytest.raises(SourceError) as caught:
        load_source("online_retail")
    assert str(caught.value).startswith(f"{FILE}: key 'calendar.")
    assert told in str(caught.value)


def test_check_reports_an_invalid_calendar(project):
    from daybook.cli.check import check_project

    project.replace(FILE, "first: 2010-12-01", "first: soon")
    found = {each.file: each.problems for each in check_project() if each.problems}
    assert found[FILE] == [f"{FILE}: key 'calendar.first' is 'soon': it should be a date such as 2025-11-30."]
