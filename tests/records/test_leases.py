"""Test that the dates of runs in a bucket are leased to one run at a time: all dates of a run or none."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta, timezone

import pytest

from daybook.errors import DateLockedError, LeaseLostError
from daybook.records import leases
from daybook.records.leases import LEASE_DURATION, STAGE_DURATION, acquire, check, lease_dates, release, release_dates
from daybook.storage import Store

DAYS = [date(2025, 11, number) for number in range(1, 5)]
NOW = datetime(2025, 12, 1, 2, tzinfo=timezone.utc)
NIGHT, RANGE = "daily-2025-11-02-1", "range-2025-11-01-2025-11-04-1"


@pytest.fixture
def store() -> Store:
    return Store("memory:///lake")


def holders(store: Store) -> dict[str, tuple[str, int]]:
    """Return run and token of each stored lease, by day."""
    found = {key: json.loads(store.read(key)) for key in store.keys("leases")}
    return {key[-7:-5]: (each["run_id"], each["token"]) for key, each in found.items()}


def test_lease_names_run_token_and_expiry(store: Store) -> None:
    held = acquire(store, NIGHT, [DAYS[1]], NOW)
    assert held.tokens == {DAYS[1]: 1}
    assert store.keys() == ["leases/run_date=2025-11-02.json"]
    assert json.loads(store.read(store.keys()[0])) == {"run_id": NIGHT, "token": 1, "expires_at": "2025-12-01T04:00:00Z"}


def test_date_of_another_run_is_refused(store: Store) -> None:
    acquire(store, RANGE, DAYS, NOW)
    with pytest.raises(DateLockedError) as refused:
        acquire(store, NIGHT, [DAYS[1]], NOW + timedelta(minutes=5))
    assert str(refused.value) == (
        f"2025-11-02 is held by {RANGE} until 2025-12-01 04:00:00 UTC at the latest; wait until that run ends, then run the "
        "date again."
    )


def test_refused_range_takes_no_date(store: Store) -> None:
    acquire(store, "daily-2025-11-03-1", [DAYS[2]], NOW)
    with pytest.raises(DateLockedError, match="2025-11-03 is held by daily-2025-11-03-1"):
        acquire(store, RANGE, DAYS, NOW)
    assert holders(store) == {"01": ("", 1), "02": ("", 1), "03": ("daily-2025-11-03-1", 1)}
    # The next run of a released date gets a greater token.
    assert acquire(store, NIGHT, [DAYS[1]], NOW).tokens == {DAYS[1]: 2}


def test_refused_run_keeps_the_dates_that_it_held(store: Store) -> None:
    acquire(store, RANGE, DAYS[:2], NOW)
    acquire(store, "daily-2025-11-03-1", [DAYS[2]], NOW)
    with pytest.raises(DateLockedError):
        acquire(store, RANGE, DAYS, NOW)
    assert holders(store)["01"] == (RANGE, 1)


def test_retried_stage_keeps_its_tokens(store: Store) -> None:
    first = acquire(store, RANGE, DAYS, NOW)
    written = [each.modified for each in store.list_objects()]
    again = acquire(store, RANGE, DAYS, NOW + LEASE_DURATION - STAGE_DURATION)
    assert again.tokens == first.tokens
    # There is time enough for a stage, so nothing was written.
    assert [each.modified for each in store.list_objects()] == written


def test_later_stage_renews_the_lease(store: Store) -> None:
    first = acquire(store, NIGHT, [DAYS[1]], NOW)
    later = NOW + LEASE_DURATION - STAGE_DURATION + timedelta(seconds=1)
    assert acquire(store, NIGHT, [DAYS[1]], later).tokens == first.tokens
    with pytest.raises(DateLockedError):
        acquire(store, RANGE, DAYS, NOW + LEASE_DURATION)
    check(store, NIGHT, first.tokens, NOW + LEASE_DURATION)


def test_lease_lasts_longer_than_a_job() -> None:
    assert LEASE_DURATION > STAGE_DURATION > timedelta(seconds=3600)


def test_expired_lease_is_taken_with_a_greater_token(store: Store) -> None:
    lost = acquire(store, NIGHT, [DAYS[1]], NOW)
    later = NOW + LEASE_DURATION
    taken = acquire(store, RANGE, DAYS, later)
    assert taken.tokens == {DAYS[0]: 1, DAYS[1]: 2, DAYS[2]: 1, DAYS[3]: 1}
    check(store, RANGE, taken.tokens, later)
    with pytest.raises(
        LeaseLostError, match=rf"^{NIGHT} no longer holds 2025-11-02: {RANGE} has taken the date; the change was"
    ):
        check(store, NIGHT, lost.tokens, later)


@pytest.mark.parametrize("how", ["expired", "released", "taken again"])
def test_run_without_its_lease_fails_the_check(store: Store, how: str) -> None:
    held = acquire(store, NIGHT, [DAYS[1]], NOW)
    now = NOW + LEASE_DURATION if how == "expired" else NOW
    if how != "expired":
        release(store, NIGHT, [DAYS[1]], NOW)
    if how == "taken again":
        assert acquire(store, NIGHT, [DAYS[1]], NOW).tokens == {DAYS[1]: 2}
    with pytest.raises(LeaseLostError, match="it was released or has expired"):
        check(store, NIGHT, held.tokens, now)


def test_own_expired_lease_is_taken_with_a_greater_token(store: Store) -> None:
    acquire(store, NIGHT, [DAYS[1]], NOW)
    assert acquire(store, NIGHT, [DAYS[1]], NOW + LEASE_DURATION).tokens == {DAYS[1]: 2}


def test_release_leaves_the_dates_of_other_runs(store: Store) -> None:
    acquire(store, NIGHT, [DAYS[1]], NOW)
    release(store, RANGE, DAYS, NOW)
    assert holders(store) == {"02": (NIGHT, 1)}


@pytest.mark.parametrize("taken_before", [False, True])
def test_date_that_is_taken_meanwhile_is_refused(store: Store, taken_before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if taken_before:
        acquire(store, "daily-2025-11-02-9", [DAYS[1]], NOW)
        release(store, "daily-2025-11-02-9", [DAYS[1]], NOW)
    write, other = leases._write, iter([RANGE])

    def write_after_another(*arguments: object) -> bool:
        for run_id in other:
            acquire(store, run_id, [DAYS[1]], NOW)
        return write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(leases, "_write", write_after_another)
    with pytest.raises(DateLockedError, match=f"2025-11-02 is held by {RANGE}"):
        acquire(store, NIGHT, [DAYS[1]], NOW)


def test_lost_response_to_an_own_put_is_no_loss(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write = leases._write
    monkeypatch.setattr(leases, "_write", lambda *arguments: write(*arguments) and False)
    # The client repeats a put whose response was lost, and the repetition is refused.
    assert acquire(store, NIGHT, [DAYS[1]], NOW).tokens == {DAYS[1]: 1}


def test_folder_has_no_leases(tmp_path) -> None:
    assert lease_dates(str(tmp_path / "lake"), NIGHT, [DAYS[1]]) is None
    release_dates(str(tmp_path / "lake"), NIGHT, [DAYS[1]])
    assert list(tmp_path.iterdir()) == []
