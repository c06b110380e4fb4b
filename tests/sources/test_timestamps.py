"""Test how texts are read as instants: offsets, zones, 12-hour clocks, repeated and skipped local times."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.sources import Column
from daybook.sources.config import Entity, Source
from daybook.sources.mapping import typed_select, typed_sql
from daybook.sources.timestamps import ZONE_OFFSETS, find_clock_changes

ENGINES: dict[str, DuckDBEngine] = {}


def engine_in(zone):
    if zone not in ENGINES:
        ENGINES[zone] = DuckDBEngine(Lake("memory:///lake"), zone)
    return ENGINES[zone]


def read(texts, zone="Europe/Berlin", **column):
    """Return the instants of texts in UTC as ISO texts."""
    engine = engine_in(zone)
    engine.register("landed", pa.table({"n": pa.array(range(len(texts))), "x": pa.array(texts, pa.string())}))
    typed = typed_sql("x", Column(**{"type": "timestamp", **column}), [])
    rows = engine.rows(f"SELECT CAST(epoch_us({typed}) AS BIGINT), CAST({typed} AS VARCHAR) FROM landed ORDER BY n")
    if column.get("type", "timestamp") != "timestamp":
        return [value for _, value in rows]
    return [None if us is None else _iso(us) for us, _ in rows]


def _iso(microseconds):
    at = datetime(1970, 1, 1) + timedelta(microseconds=microseconds)
    return at.isoformat(sep=" ")


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2025-10-07 10:00:00", "2025-10-07 08:00:00"),
        ("2025-10-07", "2025-10-06 22:00:00"),
        ("2025-1-7 9:05", "2025-01-07 08:05:00"),
        ("2025/10/07 10:00", "2025-10-07 08:00:00"),
        ("2025-10-07T10:00:00Z", "2025-10-07 10:00:00"),
        ("2025-10-07 10:00:00.250Z", "2025-10-07 10:00:00.250000"),
        ("2025-10-07 10:00:00 UTC", "2025-10-07 10:00:00"),
        ("2025-10-07 10:00:00 GMT", "2025-10-07 10:00:00"),
        ("2025-10-07T10:00:00+02", "2025-10-07 08:00:00"),
        ("2025-10-07T10:00:00-1130", "2025-10-07 21:30:00"),
        ("2025-10-07 10:00:00 +0200", "2025-10-07 08:00:00"),
        ("2025-10-07 10:00:00 +02:00", "2025-10-07 08:00:00"),
        ("2025-10-07 10:00:00 -03", "2025-10-07 13:00:00"),
        ("2025-10-07 10:00+02:00", "2025-10-07 08:00:00"),
        ("2025-10-07 10:00Z", "2025-10-07 10:00:00"),
        ("2025-10-07 10:00:00 CEST", "2025-10-07 08:00:00"),
        ("2025-07-07 10:00:00 CET", "2025-07-07 09:00:00"),
        ("2025-10-07 10:00:00 PDT", "2025-10-07 17:00:00"),
        ("2025-10-07 10:00:00 America/New_York", "2025-10-07 14:00:00"),
        ("2025-10-07 10:00 America/Argentina/Buenos_Aires", "2025-10-07 13:00:00"),
        ("2025-10-07 02:15 PM", "2025-10-07 12:15:00"),
        ("2025-10-07 09:50:26 PM", "2025-10-07 19:50:26"),
        ("2025-10-07 12:00:00 am", "2025-10-06 22:00:00"),
        ("2025-10-07 12:30pm", "2025-10-07 10:30:00"),
        ("2025-10-07 2:15 p.m.", "2025-10-07 12:15:00"),
        ("2025-10-07 02:15:00 PM +0200", "2025-10-07 12:15:00"),
        ("2025-10-07 02:15:00 PM America/New_York", "2025-10-07 18:15:00"),
    ],
)
def test_text_is_read_as_an_instant(text, utc):
    assert read([text]) == [utc]


@pytest.mark.parametrize(
    "text",
    [
        *("2025-10-07 09:50:26 Uhr", "2025-10-07 09:50:26 GMT+2", "2025-10-07 09:50:26 N/A", "2025-10-07 13:00 PM"),
        *("2025-10-07 00:15 AM", "2025-10-07 09:50:26 BST", "2025-10-07 09:50:26 IST", "2025-10-07 09:50:26 Mars/Olympus"),
        *("2025-10-07 09:50:26 Europe/berlin", "2025-10-07T09:50:26+99", "2025-10-07T09:50:26+02:75", "2025-10-07 PM"),
        *("infinity", "-infinity", "epoch", "now", "290000-01-01 00:00:00", "290000-01-01", "2025-10-07 09:50:26 BC"),
        *("2025-10-07 10:00:0Z", "2025-10-07 10:00:00 +", "10:00:00", "2025-10-07 10:61", "2025-02-30 10:00:00"),
    ],
)
def test_text_that_is_not_an_instant_is_null(text):
    assert read([text]) == [None]


@pytest.mark.parametrize("name", ZONE_OFFSETS)
def test_abbreviation_has_its_offset_all_year(name):
    summer, winter = read([f"2025-07-07 10:00:00 {name}", f"2025-01-07 10:00:00 {name}"])
    assert summer[10:] == winter[10:]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("infinity", "epoch", "2025-10-07 x", "290000-01-01", "2025-02-30")],
        *[(text, "2025-10-07") for text in ("2025-10-07", "2025-10-07 23:30:00", "2025-10-07T21:30:00Z")],
        ("2025-10-07T23:30:00Z", "2025-10-08"),
        ("2025-10-07 25:00:00", None),
    ],
)
def test_text_that_is_not_a_date_is_null(text, value):
    assert read([text], type="date") == [value]


# Local times


@pytest.mark.parametrize(
    ("zone", "text", "utc"),
    [
        ("Europe/Berlin", "2025-10-26 02:30:00", "2025-10-26 01:30:00"),
        ("America/New_York", "2025-11-02 01:30:00", "2025-11-02 06:30:00"),
        ("Australia/Lord_Howe", "2025-04-06 01:45:00", "2025-04-05 15:15:00"),
    ],
)
def test_repeated_local_time_is_the_second_one(zone, text, utc):
    assert read([text], zone) == [utc]


@pytest.mark.parametrize(
    ("zone", "text", "utc"),
    [
        ("Europe/Berlin", "2025-03-30 02:30:00", "2025-03-30 01:30:00"),
        ("America/New_York", "2025-03-09 02:30:00", "2025-03-09 07:30:00"),
        ("Australia/Lord_Howe", "2025-10-05 02:15:00", "2025-10-04 15:45:00"),
        ("America/Sao_Paulo", "2018-11-04", "2018-11-04 03:00:00"),
    ],
)
def test_skipped_local_time_moves_forward_by_the_gap(zone, text, utc):
    assert read([text], zone) == [utc]


def test_offset_distinguishes_repeated_times():
    assert read(["2025-10-26T02:30:00+02:00", "2025-10-26T02:30:00+01:00", "2025-10-26T00:30:00Z"]) == [
        "2025-10-26 00:30:00",
        "2025-10-26 01:30:00",
        "2025-10-26 00:30:00",
    ]


def test_local_times_are_those_of_the_columns_zone():
    texts = ["2025-11-02 03:30:00", "2025-11-02T03:30:00Z", "2025-11-02 03:30:00 PM"]
    assert read(texts, "America/New_York", timezone="UTC") == [
        "2025-11-02 03:30:00",
        "2025-11-02 03:30:00",
        "2025-11-02 15:30:00",
    ]
    assert read(["03.11.2025 00:30"], "America/New_York", timezone="Asia/Tokyo", format="%d.%m.%Y %H:%M") == [
        "2025-11-02 15:30:00"
    ]
    shown = engine_in("America/New_York").fetch_row("SELECT CAST(TIMESTAMPTZ '2025-11-02 03:30:00+00' AS DATE)")
    assert shown == (date(2025, 11, 1),)


@pytest.mark.parametrize(
    ("pattern", "text", "utc"),
    [
        ("%Y-%m-%d %H:%M:%S %z", "2025-10-26 02:30:00 +0200", "2025-10-26 00:30:00"),
        ("%Y-%m-%d %H:%M:%S %z", "2025-10-26 02:30:00 +0100", "2025-10-26 01:30:00"),
        ("%Y-%m-%d %H:%M:%S %Z", "2025-10-07 10:00:00 PM", None),
        ("%d.%m.%Y %I:%M %p", "07.10.2025 02:15 PM", "2025-10-07 12:15:00"),
        ("%%z %d.%m.%Y", "%z 07.10.2025", "2025-10-06 22:00:00"),
    ],
)
def test_format_gives_an_instant(pattern, text, utc):
    assert read([text], format=pattern) == [utc]


def clocks(texts, zone="Europe/Berlin", **column):
    """Return which local times ``typed_select`` finds repeated or skipped."""
    columns = {"x": Column(**{"type": "timestamp", **column})}
    minimal = [{"from": "rows", "columns": {"order_id": "x", "ordered_at": "x", "status": "x"}}]
    lines = [
        {"from": "rows", "columns": dict.fromkeys(("order_id", "line_number", "product_id", "quantity", "unit_price"), "x")}
    ]
    source = Source(
        name="s",
        title="S",
        entities={"rows": Entity(files="r.csv", columns=columns)},
        mapping={"orders": minimal, "order_items": lines},
    )
    engine = engine_in(zone)
    technical = "'f' AS _source_file, n AS _row_number, NULL AS _problem, 1 AS _copy, '' AS _waived"
    engine.register("landed", pa.table({"n": pa.array(range(len(texts))), "x": pa.array(texts, pa.string())}))
    sql = typed_select(source, "rows", f"(SELECT x, {technical} FROM landed)", zone)
    return [row[0] for row in engine.rows(f"SELECT _clock_x FROM ({sql}) AS t ORDER BY _row_number")]


def test_only_local_times_of_a_clock_change_are_flagged():
    texts = {
        "2025-10-26 02:30:00": "repeated",
        "2025-10-26 01:59:59": None,
        "2025-10-26 02:00": "repeated",
        "2025-10-26 02:30 AM": "repeated",
        "2025-10-26 03:00:00": None,
        "2025-10-26T02:30:00+01:00": None,
        "2025-10-26T01:30:00Z": None,
        "2025-10-26 02:30:00 CET": None,
        "2025-03-30 02:30:00": "skipped",
        "2025-03-30 03:30:00": None,
        "2025-03-30 01:30:00Z": None,
        "nonsense": None,
    }
    assert dict(zip(texts, clocks(list(texts)))) == texts


def test_half_hour_change_is_flagged_to_the_minute():
    texts = ["2025-04-06 01:29:00", "2025-04-06 01:30:00", "2025-04-06 02:00:00", "2025-10-05 02:29:00", "2025-10-05 02:30:00"]
    assert clocks(texts, "Australia/Lord_Howe") == [None, "repeated", None, "skipped", None]


def test_skipped_midnight_of_a_date_is_not_flagged():
    assert clocks(["2018-11-04", "2018-11-04 00:30:00"], "America/Sao_Paulo") == [None, "skipped"]


def test_formats_are_flagged_unless_they_read_an_offset():
    assert clocks(["26.10.2025 02:30"], format="%d.%m.%Y %H:%M") == ["repeated"]
    assert clocks(["26.10.2025 02:30 +0100"], format="%d.%m.%Y %H:%M %z") == [None]
    assert clocks(["26.10.2025 02:30"], timezone="UTC", format="%d.%m.%Y %H:%M") == [None]


def test_zone_without_clock_changes_is_not_flagged():
    assert find_clock_changes("UTC").hours == [] and find_clock_changes("Asia/Kolkata").hours == []
    assert find_clock_changes("Australia/Lord_Howe").shifts[0] == timedelta(minutes=30)


# Any text

NEARLY = st.one_of(
    st.text(),
    st.from_regex(r"\A20[0-9]{2}[-/][01]?[0-9][-/][0-3][0-9][T ][0-2]?[0-9]:[0-9]{2}(:[0-9]{2})?(\.[0-9]{1,7})?.{0,8}\Z"),
    st.from_regex(r"\A[+-]?[0-9.,]{1,40}[eE%]?[0-9]?\Z"),
    st.sampled_from(["infinity", "-infinity", "epoch", "nan", "PM", "2025-10-07 10:00:00 PM", "9" * 400, "2025-10-07 CEST"]),
)
KINDS = [
    *({"type": kind} for kind in ("text", "integer", "decimal", "date", "timestamp", "boolean")),
    *({"type": kind, "decimal_comma": True} for kind in ("integer", "decimal")),
    *({"type": "timestamp", "timezone": zone} for zone in ("UTC", "Australia/Lord_Howe")),
    *(
        {"type": "timestamp", "format": each}
        for each in ("%d.%m.%Y %H:%M", "%Y-%m-%d %H:%M:%S %z", "%d/%m/%y %I:%M %p", "%c %Z")
    ),
    *({"type": "date", "format": each} for each in ("%d.%m.%Y", "%Y%m%d", "%Y-%m-%d %H:%M %z", "%j %y")),
    {"type": "text", "pad": 5},
]
TYPED = [typed_sql("x", Column(**kind), ["-"]) for kind in KINDS]


@settings(max_examples=60)
@given(st.lists(NEARLY, min_size=1, max_size=20))
@pytest.mark.slow
def test_any_text_is_read_without_an_error(texts):
    engine = engine_in("Europe/Berlin")
    engine.register("landed", pa.table({"x": pa.array(texts, pa.string())}))
    engine.rows(f"SELECT {', '.join(f'count({sql})' for sql in TYPED)} FROM landed")


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.datetimes(datetime(1900, 1, 1), datetime(2099, 12, 31)),
            st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
            st.sampled_from(["T", " "]),
            st.sampled_from(["auto", "seconds", "milliseconds"]),
        ),
        min_size=1,
    )
)
def test_iso_texts_are_read_as_in_python(drawn):
    stamps = [(at.replace(tzinfo=zone).isoformat(sep, spec), at) for at, zone, sep, spec in drawn]
    expected = [datetime.fromisoformat(text).astimezone(timezone.utc).replace(tzinfo=None).isoformat(" ") for text, _ in stamps]
    assert read([text for text, _ in stamps]) == expected


@pytest.mark.parametrize("text", ["2025-11-11T10:00:5 Z", "2025-11-11T1A:00:55Z", "2025-11-11 10:00: 5+01:00"])
def test_text_like_a_zoned_time_does_not_raise(text):
    assert read([text]) == [None]


@pytest.mark.parametrize("word", ["infinity", "-infinity", "epoch"])
def test_words_for_times_are_not_strptime_values(word):
    assert read([word], format="%d.%m.%Y") == [None]
