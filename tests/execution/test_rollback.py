"""Test that a rollback leaves the tables as if the run had not been, with random histories."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import daybook.lake.tables
from daybook.errors import DaybookError, UsageError
from daybook.execution import rollback
from daybook.execution.close import require_resumable_run
from daybook.execution.rollback import find_publications_since
from daybook.lake.rewrite import list_tables, remove_history, vacuum_table
from daybook.lake.tables import Lake
from daybook.lake.vacuum import apply_vacuum, plan_vacuum
from daybook.notebook import context as stages
from daybook.notebook.stale_dates import HELD_DATES, mark_stale_dates
from daybook.privacy import load_keys, make_pseudonym
from daybook.privacy.erasure import erase
from daybook.records.archive import Archive
from daybook.records.locks import DateLocks
from tests.conftest import Killed, Killer
from tests.emulator.emulator import Account
from tests.execution.rollbacks import RecordedShop, empty_landing, orders, read_figures
from tests.notebook.histories import DAYS, History, Run, histories, shared_lake

pytestmark = pytest.mark.slow
NEXT_DAY = DAYS[-1] + timedelta(days=1)
_QUICK = settings(
    max_examples=6,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


@pytest.fixture(autouse=True)
def quick(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between commit attempts, show no results, and search no landing for personal values."""
    monkeypatch.setattr(daybook.lake.tables.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stages, "display", lambda *args, **named: None)
    monkeypatch.setattr(rollback, "build_redactor", lambda *_: SimpleNamespace(redact_text=lambda text: text))


def standing_runs(made: dict[str, date]) -> list[str]:
    """Return the newest run of each date, which can be rolled back."""
    return list({day: run_id for run_id, day in made.items()}.values())


@_QUICK
@given(history=histories(), data=st.data())
def test_tables_are_as_if_the_runs_had_not_been(
    tmp_path_factory: pytest.TempPathFactory, history: History, data: st.DataObject
) -> None:
    shop, without = (RecordedShop(tmp_path_factory.mktemp("shop")) for _ in range(2))
    standing: dict[str, int] = {}
    stale_tables: set[str] = set()
    last = len(history.landings) - 1
    for place, landing in enumerate(history.landings):
        standing[shop.run(landing)] = place
        stale_tables.clear()
        dates = {run_id: history.landings[number].day for run_id, number in standing.items()}
        count = data.draw(st.integers(1 if place == last else 0, min(2, len(standing)) if place == last else 1))
        for _ in range(count):
            run_id = data.draw(st.sampled_from(standing_runs(dates)))
            stale_tables.update(shop.roll_back(run_id).stale_tables)
            del standing[run_id], dates[run_id]
    for number in sorted(standing.values()):
        without.run(history.landings[number])
    assert shop.tables("silver.") == without.tables("silver.")
    left = [shop.dates_for_any_run(), stale_tables]
    assert shop.gold_without(*left) == without.gold_without(*left)
    for each in (shop, without):
        each.run(empty_landing(NEXT_DAY))
    assert shop.tables() == without.tables()
    assert shop.dates_for_any_run() == []


# One history: two dates, the second of which changes an order of the first, and a third one after them


FIRST, SECOND, THIRD = DAYS
LANDINGS = [
    orders(FIRST, ("o1", FIRST, "10")),
    orders(SECOND, ("o1", FIRST, "11"), ("o2", SECOND, "20")),
    orders(THIRD, ("o2", SECOND, "21"), ("o3", THIRD, "30")),
]


@pytest.fixture(scope="module")
def three_dates(tmp_path_factory: pytest.TempPathFactory) -> RecordedShop:
    """Return a shop with three dates, to copy."""
    home = tmp_path_factory.mktemp("shop")
    with shared_lake(home):
        shop = RecordedShop(home)
        for each in LANDINGS:
            shop.run(each)
    return shop


@pytest.fixture
def shop(three_dates: RecordedShop, tmp_path: Path) -> RecordedShop:
    """Return a copy of the shop with three dates."""
    return three_dates.copy(tmp_path)


def test_rollback_removes_a_date_published_once(shop: RecordedShop) -> None:
    record = shop.roll_back(f"daily-{SECOND}-1")
    # The order of the second date that the third corrected stays in silver; its date waits until it lands.
    assert read_figures(shop) == {FIRST: 10, THIRD: 30}
    assert (record.removed_dates, record.restored_dates, record.shows) == ([SECOND], [FIRST], None)


def test_rollback_shows_the_earlier_publication(shop: RecordedShop) -> None:
    shop.run(orders(THIRD, ("o3", THIRD, "99")))
    record = shop.roll_back(f"daily-{THIRD}-2")
    assert read_figures(shop) == {FIRST: 11, SECOND: 21, THIRD: 30}
    assert (record.shows, record.stale_dates, record.stale_tables) == (f"daily-{THIRD}-1", [], [])


def test_later_run_of_the_date_publishes(shop: RecordedShop) -> None:
    shop.roll_back(f"daily-{SECOND}-1")
    assert shop.run(LANDINGS[1]) == f"daily-{SECOND}-2"
    assert read_figures(shop) == {FIRST: 11, SECOND: 21, THIRD: 30}


def test_rollback_of_a_range_takes_back_all_its_dates(tmp_path: Path) -> None:
    shop, without = RecordedShop(tmp_path / "shop"), RecordedShop(tmp_path / "without")
    for each in (shop, without):
        each.run(LANDINGS[0])
    range_id = shop.run(*LANDINGS[1:])
    record = shop.roll_back(range_id)
    assert read_figures(shop) == {FIRST: 10}
    assert record.removed_dates == [SECOND, THIRD]
    assert shop.tables("silver.") == without.tables("silver.")
    for each in (shop, without):
        each.run(empty_landing(NEXT_DAY))
    assert shop.tables() == without.tables()
    assert shop.run(*LANDINGS[1:]) == f"range-{SECOND}-{THIRD}-2"
    assert read_figures(shop) == {FIRST: 11, SECOND: 21, THIRD: 30}


def test_rollback_of_a_range_shows_the_earlier_publications(shop: RecordedShop) -> None:
    range_id = shop.run(*(orders(day, (f"o{place}", day, "99")) for place, day in enumerate((FIRST, SECOND), start=1)))
    assert read_figures(shop) == {FIRST: 99, SECOND: 21, THIRD: 30}
    shop.roll_back(range_id)
    assert read_figures(shop) == {FIRST: 11, SECOND: 21, THIRD: 30}


def test_date_of_a_range_is_not_rolled_back_alone(shop: RecordedShop) -> None:
    range_id = shop.run(*LANDINGS[1:])
    before = shop.tables()
    with pytest.raises(UsageError, match=f"was run together with others; roll back {range_id}, or run the date again"):
        shop.roll_back(f"daily-{SECOND}-2")
    assert shop.tables() == before


def test_range_of_which_a_date_was_published_again_is_not_rolled_back(shop: RecordedShop) -> None:
    range_id = shop.run(*LANDINGS[1:])
    later = shop.run(LANDINGS[2])
    with pytest.raises(UsageError, match=f"has been published again by {later}; roll that run back first"):
        shop.roll_back(range_id)
    shop.roll_back(later)
    shop.roll_back(range_id)
    assert read_figures(shop) == {FIRST: 11, SECOND: 21, THIRD: 30}


def test_next_run_computes_dates_that_no_version_has(shop: RecordedShop) -> None:
    shop.run(orders(FIRST, ("o1", FIRST, "12")))
    shop.run(orders(NEXT_DAY, ("o1", FIRST, "13")))
    record = shop.roll_back(f"daily-{NEXT_DAY}-1")
    assert read_figures(shop) == {FIRST: 11, SECOND: 21, THIRD: 30}
    shop.roll_back(f"daily-{SECOND}-1")
    shop.run(empty_landing(NEXT_DAY))
    assert record.stale_dates == []
    assert read_figures(shop)[FIRST] == 12


def test_line_of_an_order_that_moves_back_counts_there(shop: RecordedShop) -> None:
    """No version of the first date has the later price of the line."""
    moving = shop.run(orders(NEXT_DAY, ("o1", SECOND, "11")))
    later = orders(NEXT_DAY + timedelta(days=1), ("o1", SECOND, "50"))
    later.rows["orders"] = []
    shop.run(later)
    assert read_figures(shop) == {SECOND: 71, THIRD: 30}
    record = shop.roll_back(moving)
    assert set(record.stale_dates) >= {FIRST, SECOND}
    shop.run(empty_landing(NEXT_DAY))
    assert read_figures(shop) == {FIRST: 50, SECOND: 21, THIRD: 30}


def test_runs_since_a_version_are_rolled_back(shop: RecordedShop) -> None:
    since = shop.lake.version("gold.daily_sales")
    assert since is not None
    shop.run(orders(FIRST, ("o1", FIRST, "12")))
    shop.run(orders(NEXT_DAY, ("o4", NEXT_DAY, "40")))
    before = read_figures(shop)
    found = find_publications_since(shop.settings, "gold.daily_sales", since)
    assert found == [f"daily-{NEXT_DAY}-1", f"daily-{FIRST}-2"]
    for run_id in found:
        shop.roll_back(run_id)
    assert NEXT_DAY in before
    assert read_figures(shop) == {FIRST: 11, SECOND: 21, THIRD: 30}


def test_rejected_run_holds_its_dates_again(shop: RecordedShop) -> None:
    """A rejected run has merged its rows. Rolling back the run after it keeps them, and the hold."""
    landing = orders(THIRD, ("o3", THIRD, "500"))
    rejected = shop.run(landing, until="aggregate", outcome="REJECTED", hold=True)
    good = shop.run(orders(THIRD, ("o3", THIRD, "31")))
    assert read_figures(shop)[THIRD] == 31
    shop.roll_back(good)
    assert read_figures(shop)[THIRD] == 30
    assert shop.lake.run_dates(HELD_DATES) == [THIRD]
    assert rejected < good
    shop.run(empty_landing(NEXT_DAY))
    assert read_figures(shop)[THIRD] == 30


def test_resumed_run_does_not_bring_removed_dates_back(shop: RecordedShop) -> None:
    """Its candidates are older than the rollback."""
    other = Run(shop.settings.lake, orders(NEXT_DAY, ("o2", SECOND, "77")), number=1, gate=False)
    other.transform()
    other.aggregate()
    shop.roll_back(f"daily-{SECOND}-1")
    other.publish()
    assert SECOND not in read_figures(shop)


def test_run_that_left_a_date_to_the_run_is_not_lost(shop: RecordedShop) -> None:
    behind = Run(shop.settings.lake, orders(NEXT_DAY, ("o1", FIRST, "50")), number=1, gate=False)
    behind.transform()
    behind.aggregate()
    # It reads silver later, so it publishes the first date with the price of 50.
    newer = shop.run(orders(FIRST, ("o1", FIRST, "12")))
    shop.roll_back(newer)
    behind.publish()
    shop.run(empty_landing(NEXT_DAY + timedelta(days=1)))
    assert read_figures(shop)[FIRST] == 50


# Kills


WRITES = [(Lake, "commit"), (Archive, "write_rollback"), (Archive, "write_rollback_events")]
"""What a rollback writes."""


def test_second_call_finishes_a_killed_rollback(shop: RecordedShop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(monkeypatch, WRITES)
    run_id = f"daily-{SECOND}-1"
    before = shop.tables()
    whole = shop.copy(tmp_path / "whole")
    killer.aim(0)
    done = whole.roll_back(run_id)
    writes, after = killer.writes, whole.tables()
    assert writes > 15
    for number in range(1, writes + 1):
        place = tmp_path / f"killed-{number}"
        killed = shop.copy(place)
        killer.aim(number)
        with pytest.raises(Killed):
            killed.roll_back(run_id)
        for name, rows in killed.tables("gold.").items():
            assert rows in (before[name], after[name]), f"{name} before write {number}"
        killer.aim(0)
        if number == writes:
            # Only the lineage events are missing.
            assert killed.archive.run(run_id).rolled_back == done.changed(**_times(killed, run_id))
            continue
        record = killed.roll_back(run_id, why="another reason")
        assert killed.tables() == after, f"after a kill before write {number}"
        if number > 1:
            assert record.why == "wrong prices"
        assert set(done.stale_dates) <= set(record.stale_dates)
        shutil.rmtree(place)


def _times(shop: RecordedShop, run_id: str) -> dict[str, Any]:
    record = shop.archive.read_rollback(run_id)
    assert record is not None
    return {"started_at": record.started_at, "ended_at": record.ended_at}


# Refusals


def refused(shop: RecordedShop, run_id: str) -> str:
    before = shop.tables()
    with pytest.raises(DaybookError) as error:
        shop.roll_back(run_id)
    assert shop.tables() == before
    assert shop.archive.read_rollback(run_id) is None
    return str(error.value)


def test_unknown_run_cannot_be_rolled_back(shop: RecordedShop) -> None:
    assert refused(shop, f"daily-{FIRST}-7") == f"There is no run daily-{FIRST}-7; `daybook runs` lists them."


def test_run_that_published_nothing_is_refused(shop: RecordedShop) -> None:
    run_id = shop.run(orders(THIRD, ("o3", THIRD, "5")), until="transform")
    assert refused(shop, run_id).startswith(f"The run {run_id} ended as FAILED and published nothing")


def test_date_that_was_published_again_is_refused(shop: RecordedShop) -> None:
    again = shop.run(LANDINGS[0])
    assert refused(shop, f"daily-{FIRST}-1").endswith(f"published again by {again}; roll that run back first.")


def test_second_rollback_of_a_run_is_refused(shop: RecordedShop) -> None:
    shop.roll_back(f"daily-{THIRD}-1")
    with pytest.raises(UsageError, match="was already rolled back, by a steward"):
        shop.roll_back(f"daily-{THIRD}-1")


def test_rollback_without_the_versions_is_refused(shop: RecordedShop) -> None:
    for table in list_tables(shop.settings.lake):
        if table.layer == "versions":
            remove_history(table)
    assert "were removed by a vacuum, an erasure or a rekey" in refused(shop, f"daily-{SECOND}-1")


def test_rollback_without_old_files_is_refused(shop: RecordedShop) -> None:
    """The log has the versions, and their files are gone."""
    for table in list_tables(shop.settings.lake):
        if table.full_name == "gold.daily_sales":
            vacuum_table(table)
    assert "The earlier versions of gold.daily_sales" in refused(shop, f"daily-{THIRD}-1")


def test_rollback_during_a_run_of_the_date_is_refused(shop: RecordedShop) -> None:
    with DateLocks(shop.settings.archive, [SECOND]) as lock:
        lock.write_holder(f"daily-{SECOND}-2")
        assert "is being run by" in refused(shop, f"daily-{SECOND}-1")


def test_failed_run_before_the_rollback_cannot_resume(shop: RecordedShop) -> None:
    failed = shop.run(orders(THIRD, ("o3", THIRD, "5")), until="transform")
    shop.roll_back(f"daily-{THIRD}-1")
    with pytest.raises(UsageError, match="was rolled back after"):
        require_resumable_run(shop.settings, failed)
    assert read_figures(shop) == {FIRST: 11, SECOND: 20}


def test_vacuum_keeps_what_a_rollback_of_recent_runs_needs(shop: RecordedShop) -> None:
    at = datetime.now(timezone.utc) + timedelta(days=3)
    apply_vacuum(plan_vacuum(shop.settings.lake, shop.archive, keep=timedelta(days=30), at=at))
    shop.roll_back(f"daily-{SECOND}-1")
    assert read_figures(shop) == {FIRST: 10, THIRD: 30}


def test_rollback_brings_no_erased_person_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = RecordedShop(tmp_path)
    keys = load_keys(shop.settings.pii_key)
    person = make_pseudonym(keys, "C-00001")
    assert person is not None
    for each in (orders(FIRST, ("o1", FIRST, "10"), customer=person), orders(SECOND, ("o2", SECOND, "20"))):
        shop.run(each)
    shop.run(orders(FIRST, ("o1", FIRST, "12"), customer=person))
    erase(shop.settings, "C-00001", "asked to be", mark_stale_dates)
    assert "removed by a vacuum, an erasure or a rekey" in refused(shop, f"daily-{FIRST}-2")
    # Runs since the erasure can be rolled back: the rows before them have no person.
    again = shop.run(orders(FIRST, ("o1", FIRST, "15")))
    shop.roll_back(again)
    assert read_figures(shop) == {FIRST: 12, SECOND: 20}
    assert person not in repr(shop.tables())
    monkeypatch.setattr(rollback, "list_unfinished", lambda _: {person})
    with pytest.raises(UsageError, match="An erasure is not finished"):
        shop.roll_back(f"daily-{SECOND}-1")


def test_rollback_works_in_a_bucket(aws_account: Account) -> None:
    shop = RecordedShop(f"s3://{aws_account.new_bucket()}")
    for each in LANDINGS:
        shop.run(each)
    shop.roll_back(f"daily-{SECOND}-1")
    assert read_figures(shop) == {FIRST: 10, THIRD: 30}
