"""Test the clocks and the timestamp format."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from asl_local import FakeClock, SystemClock
from asl_local.clock import format_timestamp


def test_fake_clock_advances_and_records_sleeps():
    clock = FakeClock(datetime(2025, 12, 1, 2, tzinfo=timezone.utc))
    clock.sleep(90)
    clock.advance(30)
    assert clock.now() == datetime(2025, 12, 1, 2, 2, tzinfo=timezone.utc)
    assert clock.monotonic() == 120
    assert clock.sleeps == [90]


def test_fake_clock_rejects_negative_sleep():
    with pytest.raises(ValueError, match="cannot sleep"):
        FakeClock().sleep(-1)


def test_system_clock_is_in_utc():
    assert SystemClock().now().utcoffset() == timedelta(0)


def test_timestamp_is_formatted_in_utc_with_milliseconds():
    moment = datetime(2025, 12, 1, 3, 0, 0, 7999, tzinfo=timezone(timedelta(hours=1)))
    assert format_timestamp(moment) == "2025-12-01T02:00:00.007Z"


@pytest.mark.parametrize("hours", [-7, -1, 0, 3, 500])
def test_system_clock_ignores_wall_clock_jumps(monkeypatch, hours):
    counted = [100.0]
    monkeypatch.setattr("asl_local.clock._count", lambda: counted[0])
    clock = SystemClock()
    before = clock.now()

    class JumpedDatetime(datetime):
        @classmethod
        def now(cls, tz=None):
            return before + timedelta(hours=hours)

    monkeypatch.setattr("asl_local.clock.datetime", JumpedDatetime)
    counted[0] += 90
    assert clock.now() - before == timedelta(seconds=90)
