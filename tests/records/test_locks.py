"""Test that a business date is locked by one process at a time, and freed when that process ends."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from daybook.errors import DateLockedError, LakeError
from daybook.records import locks
from daybook.records.locks import DateLocks, LockHolder, find_lock_holder

DAY, OTHER_DAY = date(2025, 11, 30), date(2025, 11, 29)
RUN, RANGE = "daily-2025-11-30-1", "range-2025-11-29-2025-11-30-1"
HOLD = """
import subprocess, sys
from datetime import date
from daybook.records.locks import DateLocks

archive, with_child = sys.argv[1:]
with DateLocks(archive, [date(2025, 11, 30)]) as lock:
    lock.write_holder("daily-2025-11-30-1")
    child = None
    if with_child == "child":
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=sys.stdin, pass_fds=lock.descriptors)
    print(child.pid if child else 0, flush=True)
    input()
"""


@pytest.fixture
def archive(tmp_path: Path) -> str:
    return str(tmp_path / "archive")


@contextmanager
def held_elsewhere(archive: str, child: str = "") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Yield another process that holds the date, and the pid of its child that also holds it, or 0."""
    command = [sys.executable, "-c", HOLD, archive, child]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
        process.kill()


class Clock(SimpleNamespace):
    """A clock that advances only in ``sleep``; ``at`` maps times to actions."""

    def __init__(self) -> None:
        super().__init__(passed=0.0, at={})

    def monotonic(self) -> float:
        return float(self.passed)

    def sleep(self, seconds: float) -> None:
        self.passed += seconds
        for moment in [each for each in self.at if each <= self.passed]:
            self.at.pop(moment)()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(locks, "time", clock)
    return clock


def refusal(archive: str) -> str:
    """Return the error of a second process that takes the lock."""
    with pytest.raises(DateLockedError) as refused, DateLocks(archive, [DAY]):
        pytest.fail("the date was taken twice")
    return str(refused.value)


def test_refused_lock_names_holder_and_start_time(archive: str, clock: Clock) -> None:
    with held_elsewhere(archive) as (process, _):
        message = refusal(archive)
    assert re.fullmatch(
        rf"2025-11-30 is being run by {RUN} \(process {process.pid} of \S+ on \S+, since [\d-]{{10}} [\d:]{{8}} UTC\); "
        r"wait until it ends, or stop it, then run the date again\.",
        message,
    )
    # A live holder is checked twice and not waited for.
    assert clock.passed == locks._POLL_SECONDS


def test_second_lock_in_the_same_process_is_refused(archive: str) -> None:
    messages = []
    with DateLocks(archive, [DAY]) as lock:
        lock.write_holder(RUN)
        messages.append(refusal(archive))
        thread = threading.Thread(target=lambda: messages.append(refusal(archive)))
        thread.start()
        thread.join(30)
    assert messages == [messages[0]] * 2
    assert f"{RUN} (process {os.getpid()} of" in messages[0]


def test_holder_without_a_run_id_holds_the_lock(archive: str) -> None:
    with DateLocks(archive, [DAY]):
        assert refusal(archive).startswith("2025-11-30 is being run by a run that has just begun; wait")
        holder = find_lock_holder(archive, DAY)
        assert holder is not None
        assert (holder.run_id, holder.is_alive) == ("", True)


def test_entry_of_an_earlier_holder_is_ignored(archive: str) -> None:
    with DateLocks(archive, [DAY]) as lock:
        lock.write_holder("daily-2025-11-30-1-with-a-long-name")
    with DateLocks(archive, [DAY]) as lock:
        assert "just begun" in refusal(archive)
        lock.write_holder("daily-2025-11-30-2")
        assert "daily-2025-11-30-2 (" in refusal(archive)


def test_lock_is_released_after_an_exception(archive: str) -> None:
    lock = DateLocks(archive, [DAY])
    with pytest.raises(ZeroDivisionError), lock:
        lock.write_holder(RUN)
        raise ZeroDivisionError
    with pytest.raises(ValueError, match="not held"):
        _ = lock.descriptors
    assert find_lock_holder(archive, DAY) is None
    with DateLocks(archive, [DAY]):
        pass


def test_other_dates_are_free(archive: str) -> None:
    with DateLocks(archive, [DAY]) as lock, DateLocks(archive, [OTHER_DAY]) as other:
        lock.write_holder(RUN)
        other.write_holder("daily-2025-11-29-1")
        holders = [find_lock_holder(archive, day) for day in (DAY, OTHER_DAY, date(2025, 11, 28))]
    assert [each and each.run_id for each in holders] == [RUN, "daily-2025-11-29-1", None]


def test_killed_holder_frees_its_date(archive: str, clock: Clock) -> None:
    with held_elsewhere(archive) as (process, _):
        process.kill()
        process.wait(30)
        assert find_lock_holder(archive, DAY) is None
        with DateLocks(archive, [DAY]):
            assert clock.passed == 0


def test_live_child_of_a_killed_holder_keeps_the_lock(archive: str, clock: Clock) -> None:
    with held_elsewhere(archive, "child") as (process, child):
        process.kill()
        process.wait(30)
        holder = find_lock_holder(archive, DAY)
        message = refusal(archive)
        os.kill(child, signal.SIGKILL)
    assert holder is not None
    assert (holder.run_id, holder.is_alive) == (RUN, False)
    assert re.fullmatch(
        rf"2025-11-30 was being run by {RUN} \(process {process.pid} of .* UTC\), which is gone, "
        r"but a process of it still works; end it, then run the date\.",
        message,
    )
    # The child got time to end, up to a limit.
    assert clock.passed == pytest.approx(locks._GRACE_SECONDS, abs=2 * locks._POLL_SECONDS)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="tells the end of a process that is no child, on Linux only")
def test_ending_child_of_a_killed_holder_is_waited_for(archive: str, clock: Clock) -> None:
    with held_elsewhere(archive, "child") as (process, child):
        process.kill()
        process.wait(30)
        gone = os.pidfd_open(child)

        def end() -> None:
            os.kill(child, signal.SIGKILL)
            # Readable when the child has ended and its files are closed.
            assert select.select([gone], [], [], 30)[0]
            os.close(gone)

        clock.at[3.0] = end
        with DateLocks(archive, [DAY]):
            assert 3.0 <= clock.passed < locks._GRACE_SECONDS


def test_reused_pid_is_not_taken_for_the_holder(archive: str) -> None:
    with DateLocks(archive, [DAY]) as lock:
        lock.write_holder(RUN)
        file = next(Path(archive, "locks").iterdir())
        holder = json.loads(file.read_text())
        assert LockHolder(**holder).is_alive
        assert not LockHolder(**{**holder, "began": holder["began"] - 100}).is_alive
        # Processes of other machines cannot be checked, so they count as alive.
        assert LockHolder(**{**holder, "began": 0.0, "host": "elsewhere"}).is_alive


def test_concurrent_reader_does_not_block_the_lock(archive: str, clock: Clock) -> None:
    with DateLocks(archive, [DAY]) as lock:
        lock.write_holder(RUN)
    looking = os.open(next(Path(archive, "locks").iterdir()), os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    clock.at[0.01] = lambda: os.close(looking)
    with DateLocks(archive, [DAY]):
        assert find_lock_holder(archive, DAY) is not None


def test_reading_the_holder_changes_nothing(archive: str) -> None:
    assert find_lock_holder(archive, DAY) is None
    assert not Path(archive).exists()
    with DateLocks(archive, [DAY]) as lock:
        lock.write_holder(RUN)
    assert [find_lock_holder(archive, DAY) for _ in range(2)] == [None, None]


def test_range_holds_all_its_dates(archive: str) -> None:
    with DateLocks(archive, [DAY, OTHER_DAY]) as held:
        held.write_holder(RANGE)
        holders = [find_lock_holder(archive, day) for day in (OTHER_DAY, DAY)]
        assert [each and each.run_id for each in holders] == [RANGE, RANGE]
        assert len(held.descriptors) == 2
        assert f"2025-11-30 is being run by {RANGE} (" in refusal(archive)
    assert [find_lock_holder(archive, day) for day in (OTHER_DAY, DAY)] == [None, None]


def test_refused_range_holds_no_date(archive: str) -> None:
    before, after = date(2025, 11, 28), date(2025, 12, 1)
    with DateLocks(archive, [DAY]) as other:
        other.write_holder(RUN)
        wanted = DateLocks(archive, [after, DAY, before])
        with pytest.raises(DateLockedError, match=rf"^2025-11-30 is being run by {RUN} "), wanted:
            pytest.fail("a part of the range was locked")
        assert [find_lock_holder(archive, day) for day in (before, after)] == [None, None]
        # A date of the refused range is free for others, in this process too.
        with DateLocks(archive, [before]):
            pass
    with wanted:
        assert len(wanted.descriptors) == 3


def test_locks_are_taken_in_date_order(archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[date] = []
    take = locks._take_lock
    monkeypatch.setattr(locks, "_take_lock", lambda archive, day: taken.append(day) or take(archive, day))
    with DateLocks(archive, [DAY, date(2025, 12, 1), OTHER_DAY, DAY]) as held:
        assert taken == [OTHER_DAY, DAY, date(2025, 12, 1)]
        assert len(held.descriptors) == 3


def test_archive_in_a_bucket_cannot_be_locked_locally() -> None:
    with pytest.raises(
        LakeError, match=r"^s3://shop/archive is no folder, so a run on this machine cannot lock a date there; "
    ):
        DateLocks("s3://shop/archive", [DAY])
    assert find_lock_holder("s3://shop/archive", DAY) is None


def test_split_off_locks_are_released_with_their_context(tmp_path: Path) -> None:
    first, second = date(2025, 11, 1), date(2025, 11, 2)
    with DateLocks(str(tmp_path), [first, second]) as locks:
        locks.write_holder("range-2025-11-01-2025-11-02-1")
        with locks.split_off([second]) as part:
            part.write_holder("daily-2025-11-02-3")
            assert len(locks.descriptors) == len(part.descriptors) == 1
            holders = [find_lock_holder(str(tmp_path), day) for day in (first, second)]
            assert [holder and holder.run_id for holder in holders] == ["range-2025-11-01-2025-11-02-1", "daily-2025-11-02-3"]
        assert find_lock_holder(str(tmp_path), second) is None
        assert find_lock_holder(str(tmp_path), first) is not None
    assert find_lock_holder(str(tmp_path), first) is None
