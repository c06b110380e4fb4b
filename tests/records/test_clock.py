"""How long things took, on machines whose clock is set back and forth at any moment."""

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
    """A machine whose wall clock and count are the test's to set; as good as the package's own for it."""

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
def test_what_ran_through_jumps_of_the_clock_took_what_passed(steps):
    machine = Machine()
    with machine.running():
        started, begun = machine.wall, read_clock()
        for seconds, jump in steps:
            machine.work(seconds)
            machine.wall += jump
        assert calculate_end_time(started, begun) - started == pytest.approx(sum(seconds for seconds, _ in steps), abs=0.01)


@given(SECONDS, HOURS, HOURS)
def test_what_was_last_seen_at_work_ended_between_its_start_and_now(passed, jump, seen):
    machine = Machine()
    with machine.running():
        started, begun = machine.wall, read_clock()
        machine.work(passed)
        machine.wall += jump
        ended = calculate_end_time(started, begun, seen=started + seen)
    assert started <= ended <= started + passed + 0.01
    if 0 <= seen <= passed:
        assert ended == pytest.approx(started + seen)


@given(SECONDS, HOURS, SECONDS)
def test_after_a_restart_the_wall_clock_decides_but_never_for_less_than_its_parts_took(passed, jump, least):
    machine = Machine()
    with machine.running():
        started, begun = machine.wall, read_clock()
        machine.work(passed)
        machine.wall += jump
        machine.restart()
        assert seconds_since(begun) is None
        assert calculate_end_time(started, begun, least=least) == max(machine.wall, started + least)


def test_a_start_that_noted_no_count_goes_by_the_wall_clock():
    machine = Machine()
    with machine.running():
        assert calculate_end_time(machine.wall - 60, None) == machine.wall


def test_the_count_of_this_machine_goes_on_and_is_the_same_in_every_process():
    first, second = read_clock(), read_clock()
    assert first.boot == second.boot
    assert first.seconds <= second.seconds
    assert 0 <= (seconds_since(first) or 0) < 60


def test_a_machine_that_does_not_name_its_start_is_compared_within_the_process_only(monkeypatch, tmp_path):
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "none")
    begun = read_clock()
    assert seconds_since(begun) is not None
    monkeypatch.setattr(clock, "_PROCESS_TOKEN", "another process")
    assert seconds_since(begun) is None
