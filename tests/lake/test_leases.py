"""Test that a run whose lease another run has taken commits nothing, however their steps are interleaved."""

from __future__ import annotations

import shutil
import tempfile
from datetime import date, datetime, timedelta, timezone
from typing import Any, Callable

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

from daybook.errors import DateLockedError, LeaseLostError
from daybook.lake.merge import merge
from daybook.lake.publish import publish
from daybook.lake.tables import DATE_APP_ID, Lake
from daybook.records import leases
from daybook.records.leases import LEASE_DURATION, HeldLeases, acquire, release
from daybook.storage import Store
from tests.lake.tables import FIRST, PAYMENTS, PRODUCTS, SECOND, Version, landing_rows, payments, products, read_rows
from tests.lake.writing import replace_date

START = datetime(2025, 12, 1, 2, tzinfo=timezone.utc)
OLD, NEW = "daily-2025-11-01-1", "range-2025-11-01-2025-11-02-1"
TABLE = "bronze.orders"


class Clock:
    """The time of leases, which advances only on request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        monkeypatch.setattr(leases, "_utc_now", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def store() -> Store:
    return Store("memory:///lake")


def leased(root: str, store: Store, clock: Clock, run_id: str, *dates: date) -> Lake:
    return Lake(root, run_id=run_id, leases=acquire(store, run_id, dates, clock.now))


def token_of(lake: Lake, table: str, day: date) -> Any:
    return DeltaTable(lake.uri(table)).transaction_version(f"{DATE_APP_ID}.{day}")


COMMITS: dict[str, Callable[[Lake], object]] = {
    "replace": lambda lake: replace_date(lake, TABLE, landing_rows("x"), FIRST),
    "append": lambda lake: lake.append(TABLE, landing_rows("x"), FIRST),
    "delete": lambda lake: lake.delete_rows(TABLE, "value", ["a"]),
    "merge": lambda lake: merge(lake, PRODUCTS, products(FIRST, Version("p", "x", 9)), dates=[FIRST]),
    "publish": lambda lake: publish(lake, PAYMENTS, payments((FIRST, "9.00")), [FIRST]),
    "candidate": lambda lake: lake.write_candidate("candidate.payment_mix", payments((FIRST, "9.00"))),
    "new columns": lambda lake: replace_date(lake, TABLE, pa.table({"other": ["x"]}), FIRST),
}


def fill(lake: Lake) -> None:
    replace_date(lake, TABLE, landing_rows("a"), FIRST)
    merge(lake, PRODUCTS, products(FIRST, Version("p", "a", 1)), dates=[FIRST])
    publish(lake, PAYMENTS, payments((FIRST, "1.00")), [FIRST])


@pytest.mark.parametrize("name", COMMITS)
def test_run_without_its_lease_commits_nothing(root: str, store: Store, clock: Clock, name: str) -> None:
    fill(Lake(root, run_id="daily-2025-11-01-0"))
    old = leased(root, store, clock, OLD, FIRST)
    clock.now += LEASE_DURATION
    leased(root, store, clock, NEW, FIRST, SECOND)
    with pytest.raises(LeaseLostError, match=f"{OLD} no longer holds 2025-11-01: {NEW} has taken the date"):
        COMMITS[name](old)
    assert old.tables_written == {}


@pytest.mark.parametrize("name", [name for name in COMMITS if name not in ("candidate", "new columns")])
def test_commit_after_the_check_loses_to_a_later_holder(
    root: str, store: Store, clock: Clock, name: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new holder takes the date and commits in the moment between the check of the old one and its commit."""
    fill(Lake(root, run_id="daily-2025-11-01-0"))
    old = leased(root, store, clock, OLD, FIRST)
    names = (TABLE, "versions.products", PRODUCTS.full_name, PAYMENTS.full_name)
    tables = {name: DeltaTable(old.uri(name)) for name in names}
    check = HeldLeases.check

    def check_and_lose(self: HeldLeases) -> None:
        check(self)
        if self.run_id == OLD:
            clock.now += LEASE_DURATION
            new = leased(root, store, clock, NEW, FIRST)
            # An empty append: only the transaction of the date is in conflict with the old holder's commit.
            for delta in tables.values():
                rows = pa.table(delta.to_pyarrow_dataset().schema.empty_table())
                write_deltalake(delta, rows, mode="append", commit_properties=new.commit_properties())

    monkeypatch.setattr(HeldLeases, "check", check_and_lose)
    before = {table: read_rows(Lake(root), table) for table in tables}
    with pytest.raises(LeaseLostError):
        COMMITS[name](old)
    assert {table: read_rows(Lake(root), table) for table in tables} == before
    assert old.tables_written == {}
    assert len(waits) == 1


def test_commits_have_a_transaction_for_each_date(root: str, store: Store, clock: Clock) -> None:
    lake = leased(root, store, clock, OLD, FIRST)
    fill(lake)
    for table in (TABLE, "versions.products", PRODUCTS.full_name, PAYMENTS.full_name):
        assert (token_of(lake, table, FIRST), token_of(lake, table, SECOND)) == (1, None)
    release(store, OLD, [FIRST], clock.now)
    later = leased(root, store, clock, NEW, FIRST, SECOND)
    replace_date(later, TABLE, landing_rows("b"), FIRST)
    assert (token_of(lake, TABLE, FIRST), token_of(lake, TABLE, SECOND)) == (2, 1)


def test_runs_of_other_dates_do_not_conflict(root: str, store: Store, clock: Clock, waits: list[float]) -> None:
    one, other = (leased(root, store, clock, f"daily-{day}-1", day) for day in (FIRST, SECOND))
    replace_date(one, TABLE, landing_rows("a"), FIRST)
    delta = DeltaTable(other.uri(TABLE))
    replace_date(one, TABLE, landing_rows("b"), FIRST)
    commit = other.commit_properties()
    rows = pa.table({"run_date": pa.array([SECOND]), "value": ["c"]})
    write_deltalake(delta, rows, mode="overwrite", predicate="run_date = '2025-11-02'", commit_properties=commit)
    assert read_rows(one, TABLE, "value") == [("b",), ("c",)]
    assert waits == []


def test_lake_without_leases_has_no_transactions_of_dates(lake: Lake) -> None:
    replace_date(lake, TABLE, landing_rows("a"), FIRST)
    assert token_of(lake, TABLE, FIRST) is None


def test_unchanged_table_is_ensured_without_a_check(root: str, store: Store, clock: Clock) -> None:
    lake = leased(root, store, clock, OLD, FIRST)
    lake.ensure_table(PAYMENTS)
    clock.now += LEASE_DURATION
    lake.ensure_table(PAYMENTS)


DAYS = [date(2025, 11, number) for number in (1, 2, 3)]
RUNS = {
    "daily-2025-11-02-1": DAYS[1:2],
    "range-2025-11-01-2025-11-02-1": DAYS[:2],
    "range-2025-11-02-2025-11-03-1": DAYS[1:],
}


class LeasedRuns(RuleBasedStateMachine):
    """Three runs with overlapping dates take, renew, release and lose their leases, and commit in two steps.

    Commits are split where a process can be suspended: after the check of the leases, before the write.
    """

    handles = Bundle("handles")
    commits = Bundle("commits")

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock(self.patch)
        self.store = Store("memory:///lake")
        self.folder = tempfile.mkdtemp()
        self.tokens: dict[date, int] = {}
        """The greatest token of each date so far."""
        self.holder: dict[date, tuple[str, datetime]] = {}
        """The run that took each date last, and when its lease ends."""
        self.committed: dict[date, int] = {}
        """The token of the newest commit of each date."""
        self.uri = f"{self.folder}/orders"

    @initialize()
    def create(self) -> None:
        write_deltalake(self.uri, pa.table({"value": ["a"]}))

    def teardown(self) -> None:
        self.patch.undo()
        shutil.rmtree(self.folder)

    def is_held(self, day: date, by: str = "") -> bool:
        run_id, until = self.holder.get(day, ("", START))
        return bool(run_id) and self.clock.now < until and by in ("", run_id)

    @rule(target=handles, run_id=st.sampled_from(sorted(RUNS)))
    def acquire(self, run_id: str) -> Any:
        days = RUNS[run_id]
        own = {day for day in days if self.is_held(day, run_id)}
        free = all(day in own or not self.is_held(day) for day in days)
        try:
            held = acquire(self.store, run_id, days, self.clock.now)
        except DateLockedError:
            assert not free
            for day in days:
                if not self.is_held(day):  # Taken and released again, perhaps.
                    self.holder.pop(day, None)
                    self.tokens[day] = self.stored_token(day)
            return HeldLeases(self.store, run_id, dict.fromkeys(days, 0))
        assert free
        for day in days:
            if day in own:
                assert held.tokens[day] == self.tokens[day]
            else:
                assert held.tokens[day] == self.tokens.get(day, 0) + 1
            self.tokens[day] = held.tokens[day]
            kept = self.holder[day][1] if day in own else START
            renewed = kept - self.clock.now < leases.STAGE_DURATION
            self.holder[day] = (run_id, self.clock.now + LEASE_DURATION if renewed else kept)
        return held

    def stored_token(self, day: date) -> int:
        stored = leases._read(self.store, day).lease
        assert stored is None or stored.token >= self.tokens.get(day, 0)
        return 0 if stored is None else stored.token

    @rule(run_id=st.sampled_from(sorted(RUNS)))
    def release(self, run_id: str) -> None:
        release(self.store, run_id, RUNS[run_id], self.clock.now)
        for day in RUNS[run_id]:
            if self.holder.get(day, ("",))[0] == run_id:
                del self.holder[day]

    @rule(minutes=st.sampled_from([20, 60, 121]))
    def wait(self, minutes: int) -> None:
        self.clock.now += timedelta(minutes=minutes)

    @rule(target=commits, held=handles)
    def begin_commit(self, held: HeldLeases) -> Any:
        """Open the table and check the leases, as ``Lake.commit`` does."""
        valid = all(self.is_held(day, held.run_id) and self.tokens[day] == token for day, token in held.tokens.items())
        delta = DeltaTable(self.uri)
        try:
            commit = Lake(self.folder, run_id=held.run_id, leases=held).commit_properties()
        except LeaseLostError:
            assert not valid
            return None
        assert valid
        return held, delta, commit

    @rule(begun=consumes(commits))
    def end_commit(self, begun: Any) -> None:
        if begun is None:
            return
        held, delta, commit = begun
        since = {day for day, token in held.tokens.items() if self.committed.get(day, 0) > token}
        try:
            write_deltalake(delta, pa.table({"value": [held.run_id]}), mode="append", commit_properties=commit)
        except Exception as error:  # noqa: BLE001 (deltalake's error, checked here)
            assert "Concurrent transaction" in str(error)
            return
        assert not since, "an outdated holder committed after a later one"
        self.committed.update(held.tokens)

    @precondition(lambda self: self.committed)
    @invariant()
    def tokens_of_commits_are_those_of_the_newest(self) -> None:
        delta = DeltaTable(self.uri)
        for day, token in self.committed.items():
            assert delta.transaction_version(f"{DATE_APP_ID}.{day}") == token

    @invariant()
    def one_run_holds_a_date(self) -> None:
        for day in DAYS:
            stored = leases._read(self.store, day).lease
            held = stored is not None and stored.is_held(self.clock.now)
            assert held == self.is_held(day)
            if stored is not None and held:
                assert (stored.run_id, stored.token) == (self.holder[day][0], self.tokens[day])


TestLeasedRuns = LeasedRuns.TestCase
TestLeasedRuns.settings = settings(max_examples=25, stateful_step_count=30)
