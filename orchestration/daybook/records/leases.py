"""Lease the business dates of a lake in a bucket, so that two runs of a date never work at once.

The lease of a date is the object ``leases/run_date=D.json`` of the lake, which is written with conditional puts only. Its
fencing token grows each time that the date is taken. A run checks its tokens when it commits (``Lake.commit_properties``).
On a laptop the locks of files hold the dates (``daybook.records.locks``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from typing import Optional

from pydantic import Field

from daybook.errors import DateLockedError, LeaseLostError, ObjectExistsError
from daybook.records.models import RecordModel
from daybook.storage import Store, is_bucket

LEASE_DURATION = timedelta(hours=2)
"""How long a lease lasts. The dates of a run that was lost, and not closed, are free after this time."""
STAGE_DURATION = timedelta(minutes=70)
"""Time that a lease must have left when a stage starts: the timeout of its job in the state machine, and a margin."""
_PARALLEL_READS = 16


class Lease(RecordModel):
    """``leases/run_date=D.json``: the run that holds a date."""

    run_id: str = Field(description="Id of the run that holds the date; empty if the date was released.")
    token: int = Field(description="Fencing token: greater by one each time that the date is taken.")
    expires_at: datetime = Field(description="Until when the run holds the date.")

    def is_held(self, now: datetime) -> bool:
        """Return whether a run holds the date."""
        return bool(self.run_id) and now < self.expires_at


@dataclass(frozen=True)
class HeldLeases:
    """The leases of a run: the fencing token of each of its dates."""

    store: Store
    run_id: str
    tokens: Mapping[date, int]

    def check(self) -> None:
        """Raise ``LeaseLostError`` unless the run still holds all its dates."""
        check(self.store, self.run_id, self.tokens, _utc_now())


@dataclass(frozen=True)
class _Stored:
    """A lease and the ETag of its object; None for both if the date was never taken."""

    lease: Optional[Lease] = None
    e_tag: Optional[str] = None


def lease_dates(lake: str, run_id: str, dates: Iterable[date]) -> Optional[HeldLeases]:
    """Take or renew the leases of a run if the lake is in a bucket; return None for a folder, whose dates are locked."""
    return acquire(Store(lake), run_id, dates, _utc_now()) if is_bucket(lake) else None


def release_dates(lake: str, run_id: str, dates: Iterable[date]) -> None:
    """Release the leases of a run if the lake is in a bucket."""
    if is_bucket(lake):
        release(Store(lake), run_id, dates, _utc_now())


def acquire(store: Store, run_id: str, dates: Iterable[date], now: datetime) -> HeldLeases:
    """Take the leases of dates: all of them or none.

    A run that holds a date keeps its token. Its lease is renewed if less than ``STAGE_DURATION`` is left.

    Parameters
    ----------
    store
        The root of the lake.
    run_id, dates
        The run, and its business dates.
    now
        The current time, UTC.

    Raises
    ------
    DateLockedError
        Another run holds one of the dates. The message names date and run, and when its lease ends.
    """
    # In one order for all runs: of two runs that start at once, one gets all its dates.
    days = sorted(set(dates))
    tokens: dict[date, int] = {}
    taken: list[date] = []
    try:
        for day, stored in zip(days, _read_all(store, days)):
            lease = _take(store, run_id, day, stored, now)
            if stored.lease is None or stored.lease.token < lease.token:
                taken.append(day)
            tokens[day] = lease.token
    except BaseException:
        release(store, run_id, taken, now)
        raise
    return HeldLeases(store, run_id, tokens)


def release(store: Store, run_id: str, dates: Iterable[date], now: datetime) -> None:
    """Release the dates that a run holds. The object of the lease stays, since the next token must be greater."""
    days = sorted(set(dates))
    for day, stored in zip(days, _read_all(store, days)):
        while stored.lease is not None and stored.lease.run_id == run_id:
            if _write(store, day, stored.lease.changed(run_id="", expires_at=now), stored.e_tag):
                break
            stored = _read(store, day)


def check(store: Store, run_id: str, tokens: Mapping[date, int], now: datetime) -> None:
    """Raise ``LeaseLostError`` unless a run still holds these dates with these tokens."""
    for (day, token), stored in zip(tokens.items(), _read_all(store, tokens)):
        lease = stored.lease
        if lease is not None and lease.is_held(now) and (lease.run_id, lease.token) == (run_id, token):
            continue
        if lease is None or lease.run_id in ("", run_id):
            reason = "it was released or has expired"
        else:
            reason = f"{lease.run_id} has taken the date"
        raise LeaseLostError(f"{run_id} no longer holds {day}: {reason}; the change was not committed, so run the date again.")


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


def _take(store: Store, run_id: str, day: date, stored: _Stored, now: datetime) -> Lease:
    while True:
        lease = stored.lease
        held = lease is not None and lease.is_held(now)
        if lease is not None and held and lease.run_id != run_id:
            raise DateLockedError(
                f"{day} is held by {lease.run_id} until {lease.expires_at:%Y-%m-%d %H:%M:%S} UTC at the latest; wait until "
                "that run ends, then run the date again."
            )
        if lease is not None and held and lease.expires_at - now >= STAGE_DURATION:
            return lease
        token = 1 if lease is None else lease.token if held else lease.token + 1
        wanted = Lease(run_id=run_id, token=token, expires_at=now + LEASE_DURATION)
        if _write(store, day, wanted, stored.e_tag):
            return wanted
        stored = _read(store, day)


def _key(day: date) -> str:
    return f"leases/run_date={day.isoformat()}.json"


def _read(store: Store, day: date) -> _Stored:
    try:
        content, e_tag = store.read_with_e_tag(_key(day))
    except FileNotFoundError:
        return _Stored()
    return _Stored(Lease.model_validate_json(content), e_tag)


def _read_all(store: Store, days: Iterable[date]) -> list[_Stored]:
    """Read the leases of dates, several at a time: a range has one for each of its dates."""
    asked = list(days)
    if len(asked) < 2:
        return [_read(store, day) for day in asked]
    with ThreadPoolExecutor(min(len(asked), _PARALLEL_READS)) as pool:
        return list(pool.map(lambda day: _read(store, day), asked))


def _write(store: Store, day: date, lease: Lease, e_tag: Optional[str]) -> bool:
    """Write a lease over the one with this ETag (None: no lease); return False if another run was first."""
    content = lease.model_dump_json().encode()
    if e_tag is not None:
        return store.replace_if_unchanged(_key(day), content, e_tag)
    try:
        store.create(_key(day), content)
    except ObjectExistsError:
        return False
    return True
