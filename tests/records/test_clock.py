"""Test durations on machines whose wall clock jumps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daybook.records import clock
from daybook.records.clock import calculate_end_time, read_clock, seconds_since

HOURS = st.floats(-200_000, 200_000)
SECONDS = st.floats(0, 100_000)


class Machine:
    """A machine whose wall clock and monotonic clock the test sets."""

    def __init__(self, wall: float = 1_750_000_000.0) -> None:
        self.wall, self.count, self.boot = wall, 5_000.0, "first"

    def work(self, seconds: float) -> None:
        self.wall += seconds
        self.count += seconds

    def restart(self) -> None:
        self.count, self.boot = 0.0, f"{self.boot} again"

    @contextmanager
    def running(self) -> Iterator[None]:
        own = mock.patch.multiple(clock, monotonic_seconds=lambda: self.count, _read_boot_id=lambda: self.boot)
        with own, mock.patch("daybook.records.clock.time.time", lambda: self.wall):
            yield


@given(st.lists(st.tuples(SECONDS, HOURS), max_size=5))
def test_duration_ignores_wall_clock_jumps(steps):
    machine = Machine()
    with machine.running():
        started, reading = machine.wall, read_clock()
        for seconds, jump in steps:
            machine.work(seconds)
            machine.wall += jump
        assert calculate_end_time(started, reading) - started == pytest.approx(sum(seconds for seconds, _ in steps), abs=0.01)


@given(SECONDS, HOURS, HOURS)
def test_end_time_is_between_start_and_now(passed, jump, seen):
    machine = Machine()
    with machine.running():
        started, reading = machine.wall, read_clock()
        machine.work(passed)
        machine.wall += jump
        ended = calculate_end_time(started, reading, seen=started + seen)
    assert started <= ended <= started + passed + 0.01
    if 0 <= seen <= passed:
        assert ended == pytest.approx(started + seen)


@given(SECONDS, HOURS, SECONDS)
def test_wall_clock_counts_after_a_restart(passed, jump, least):
    machine = Machine()
    with machine.running():
        started, reading = machine.wall, read_clock()
        machine.work(passed)
        machine.wall += jump
        machine.restart()
        assert seconds_since(reading) is None
        assert calculate_end_time(started, reading, least=least) == max(machine.wall, started + least)


def test_start_without_a_clock_reading_uses_the_wall_clock():
    machine = Machine()
    with machine.running():
        assert calculate_end_time(machine.wall - 60, None) == machine.wall


def test_monotonic_clock_is_shared_between_processes():
    first, second = read_clock(), read_clock()
    assert first.boot == second.boot
    assert first.seconds <= second.seconds
    assert 0 <= (seconds_since(first) or 0) < 60


def test_without_a_boot_id_only_the_own_process_compares(monkeypatch, tmp_path):
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "none")
    reading = read_clock()
    assert seconds_since(reading) is not None
    monkeypatch.setattr(clock, "_PROCESS_TOKEN", "another process")
    assert seconds_since(reading) is None
