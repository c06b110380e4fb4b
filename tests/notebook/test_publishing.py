"""Test which dates a run computes and publishes, with the notebooks' functions on a shop of a few rows."""

from __future__ import annotations

import shutil
from datetime import date
from decimal import Decimal
from typing import Any, Optional

import pytest

from daybook.contracts import load_tables
from daybook.errors import StageError
from daybook.lake import merge
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.notebook import publishing, stale_dates, transform
from daybook.notebook.stale_dates import ANY_RUN_DATE, hold_dates, mark_stale_dates
from tests.notebook.histories import DAYS, Landing, Run, list_stale_dates, moment, read_tables, rerun_date, shared_lake

pytestmark = pytest.mark.slow

EARLY, MIDDLE, LATE = DAYS
ANN, BOB = "1" * 32, "2" * 32


@pytest.fixture(autouse=True)
def quiet(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show no results."""
    monkeypatch.setattr(stages, "display", lambda *args, **named: None)


@pytest.fixture
def root(tmp_path: Any) -> str:
    return str(tmp_path / "lake")


def order(name: str, placed: date, *, by: Optional[str] = None, status: str = "paid", version: int = 1) -> dict[str, Any]:
    return {
        "order_id": name,
        "customer_key": by,
        "ordered_at": moment(placed, 12),
        "status": status,
        "version_at": moment(EARLY, version),
    }


def line(name: str, price: str, *, version: int = 1) -> dict[str, Any]:
    return {
        "order_id": name,
        "line_number": 1,
        "product_id": "p1",
        "quantity": 1,
        "unit_price": Decimal(price),
        "is_return": False,
        "version_at": moment(EARLY, version),
    }


def run(root: str, day: date, number: int, orders: list[Any], lines: Optional[list[Any]] = None, **others: list[Any]) -> Run:
    """Return a run of a date with these rows that has not begun."""
    rows = {"customers": [], "payments": [], "products": [], "reviews": [], **others}
    return Run(root, Landing(day, {**rows, "orders": orders, "order_items": lines or []}), number=number, gate=True)


def details(run: Run, stages_to_do: int = 3) -> dict[str, Any]:
    """Run some more stages; return the details of the last one."""
    for _ in range(stages_to_do):
        run.run_next_stage()
    assert run.last is not None
    return run.last.details


def texts(*days: date) -> list[str]:
    return [day.isoformat() for day in days]


def gross(root: str) -> dict[date, Decimal]:
    """Return the published gross revenue by date."""
    return {row[0]: row[4] for row in read_tables(root)["gold.daily_sales"]}


@pytest.fixture(scope="module")
def published_days(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a lake with two published days, to copy."""
    home = tmp_path_factory.mktemp("home")
    root = str(home / "lake")
    with shared_lake(home):
        run(root, EARLY, 1, [order("o1", EARLY, by=ANN)], [line("o1", "10")]).finish()
        run(root, MIDDLE, 1, [order("o2", MIDDLE, by=ANN)], [line("o2", "20")]).finish()
    return root


@pytest.fixture
def two_days(published_days: str, root: str) -> str:
    """Return a lake with two published days: an order of Ann for 10, then one for 20."""
    return shutil.copytree(published_days, root)


# Touched dates


def test_unchanged_rerun_touches_its_own_date_only(two_days: str) -> None:
    again = run(two_days, EARLY, 2, [order("o1", EARLY, by=ANN)], [line("o1", "10")])
    assert details(again, 1)["stale_dates"] == []
    assert details(again, 1)["touched_dates"] == texts(EARLY)


def test_equal_new_version_restates_nothing(two_days: str) -> None:
    late = run(two_days, LATE, 1, [order("o1", EARLY, by=ANN, version=3)], [line("o2", "20", version=3)])
    assert details(late, 1)["stale_dates"] == []


def test_new_first_order_restates_both_dates(two_days: str) -> None:
    run(two_days, LATE, 1, [order("o3", LATE, by=ANN), order("o4", LATE, by=BOB)]).finish()
    before = {row[0]: row[-2:] for row in read_tables(two_days)["gold.daily_sales"]}
    assert before == {EARLY: (1, 0), MIDDLE: (0, 1), LATE: (1, 1)}
    moved = run(two_days, LATE, 2, [order("o3", LATE, by=ANN), order("o4", MIDDLE, by=BOB)])
    assert details(moved)["published_dates"] == texts(MIDDLE, LATE)
    after = {row[0]: row[-2:] for row in read_tables(two_days)["gold.daily_sales"]}
    assert after == {EARLY: (1, 0), MIDDLE: (1, 1), LATE: (0, 1)}


def test_new_category_restates_the_dates_of_its_sales(two_days: str) -> None:
    tea = {"product_id": "p1", "name": "Assam", "category": "Tea", "version_at": moment(EARLY, 1)}
    done = details(run(two_days, LATE, 1, [order("o3", LATE)], [line("o3", "5")], products=[tea]))
    assert done["published_dates"] == texts(EARLY, MIDDLE, LATE)
    assert done["restated"] == []  # the day's sums are what they were
    assert {row[1] for row in read_tables(two_days)["gold.category_sales"]} == {"Tea"}
    renamed = {**tea, "name": "Darjeeling", "version_at": moment(EARLY, 2)}
    named = run(two_days, LATE, 2, [order("o3", LATE)], [line("o3", "5")], products=[renamed])
    assert details(named, 1)["stale_dates"] == []


# Changes of a publish


@pytest.mark.smoke
def test_restated_dates_have_figures_before_and_after(two_days: str) -> None:
    late = run(two_days, LATE, 1, [order("o1", EARLY, by=ANN, status="cancelled", version=2), order("o3", LATE)])
    done = details(late)
    assert done["published_dates"] == texts(EARLY, LATE)
    assert done["left_to_newer"] == []
    assert done["publications"] == dict.fromkeys(load_tables("gold"), "published")
    (only,) = done["restated"]
    assert only["order_date"] == EARLY.isoformat()
    assert (only["before"]["orders"], only["before"]["gross_revenue"]) == (1, "10.0000")
    assert (only["after"]["orders"], only["after"]["gross_revenue"]) == (0, "0.0000")
    assert set(only["after"]) == {"orders", "gross_revenue", "returns_amount", "net_revenue"}


def test_stopped_publish_is_finished_by_a_retry(two_days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    late = run(two_days, LATE, 1, [order("o1", EARLY, by=ANN, status="cancelled", version=2)])
    details(late, 2)
    publish = publishing.publish

    def killed(lake: Lake, contract: Any, *rest: Any) -> Any:
        if contract.name == "delivery_performance":
            raise KeyboardInterrupt
        return publish(lake, contract, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(publishing, "publish", killed)
        with pytest.raises(KeyboardInterrupt):
            details(late, 1)
    made = Lake(two_days).version("gold.daily_sales")
    assert list_stale_dates(two_days) != []
    late.ahead = [late.publish]
    done = details(late, 1)
    assert [each["order_date"] for each in done["restated"]] == texts(EARLY)
    assert late.last is not None
    assert late.last.lake.tables_written["gold.daily_sales"] == made == Lake(two_days).version("gold.daily_sales")
    assert list_stale_dates(two_days) == []


def test_older_snapshot_leaves_dates_to_the_newer_one(two_days: str) -> None:
    older = run(two_days, MIDDLE, 2, [order("o2", MIDDLE, by=ANN)], [line("o2", "21")])
    details(older, 2)
    newer = run(two_days, LATE, 1, [order("o1", EARLY, status="cancelled", version=2)], [line("o2", "30", version=2)])
    assert details(newer)["published_dates"] == texts(EARLY, MIDDLE, LATE)
    done = details(older, 1)
    assert (done["published_dates"], done["left_to_newer"], done["restated"]) == ([], texts(MIDDLE), [])
    assert done["publications"] == dict.fromkeys(load_tables("gold"), "newer")
    assert gross(two_days)[MIDDLE] == Decimal(30)


def test_candidates_are_checked_against_their_snapshot(two_days: str) -> None:
    early = run(two_days, EARLY, 2, [order("o1", EARLY, by=ANN)], [line("o1", "11")])
    details(early, 2)
    details(run(two_days, LATE, 1, [], [line("o1", "99", version=2)]), 1)
    early.run_next_stage()  # The run itself asserts that gold agrees with silver.
    assert gross(two_days)[EARLY] == Decimal(11)


def test_snapshot_versions_are_recorded(two_days: str) -> None:
    late = run(two_days, LATE, 1, [order("o3", LATE, by=BOB)], [line("o3", "30")])
    on_record = details(late, 2)["snapshot"]
    assert on_record == {name: Lake(two_days).version(name) for name in (*load_tables("silver"), stale_dates.LANDED_DATES)}


def test_incomplete_candidates_are_refused(two_days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    early = run(two_days, EARLY, 2, [order("o1", EARLY, by=ANN)], [line("o1", "11")])
    details(early, 1)
    write = Lake.write_candidate

    def killed(lake: Lake, table: str, rows: Any) -> None:
        if table == "candidate.payment_mix":
            raise KeyboardInterrupt
        write(lake, table, rows)

    with monkeypatch.context() as patch:
        patch.setattr(Lake, "write_candidate", killed)
        with pytest.raises(KeyboardInterrupt):
            early.run_next_stage()
    with pytest.raises(StageError, match="are not complete; run 4_aggregate for that date first"):
        early.publish()


def test_date_without_candidates_is_refused(two_days: str) -> None:
    with pytest.raises(StageError, match="There are no candidates of 2025-11-30 for this run"):
        run(two_days, LATE, 1, []).publish()


# Notes


def test_changes_of_a_killed_run_are_computed_by_its_retry(two_days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [order("o1", EARLY, by=ANN, status="cancelled", version=2)]
    with monkeypatch.context() as patch:
        patch.setattr(transform, "update_derived_columns", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(two_days, LATE, 1, rows).run_next_stage()
    again = run(two_days, LATE, 2, rows)
    assert details(again, 1)["merged"]["silver.orders"]["updated"] == 0
    assert details(again, 2)["published_dates"] == texts(EARLY, LATE)


def test_date_noted_by_hand_is_computed_by_any_next_run(two_days: str) -> None:
    mark_stale_dates(Lake(two_days), [EARLY])
    assert list_stale_dates(two_days) == [(ANY_RUN_DATE, EARLY)]
    assert details(run(two_days, LATE, 1, [order("o3", LATE)]))["published_dates"] == texts(EARLY, LATE)
    assert list_stale_dates(two_days) == []


def test_note_after_the_snapshot_waits_for_the_next_run(two_days: str) -> None:
    late = run(two_days, LATE, 1, [order("o3", LATE)])
    details(late, 2)
    mark_stale_dates(Lake(two_days), [EARLY, LATE])
    details(late, 1)
    assert sorted(list_stale_dates(two_days)) == [(ANY_RUN_DATE, EARLY), (ANY_RUN_DATE, LATE)]


# Held dates


def reject(run: Run) -> None:
    """Reject a run whose candidates are written, as the quality stage does."""
    assert run.last is not None
    hold_dates(run.last, run.last.dates)
    run.ahead.clear()


def test_changes_of_a_held_date_wait_until_it_is_published(two_days: str) -> None:
    wrong = [order("o1", EARLY, by=ANN, status="cancelled", version=2), order("o3", LATE, by=BOB)]
    stopped = run(two_days, LATE, 1, wrong, [line("o3", "1000")])
    details(stopped, 2)
    reject(stopped)
    assert details(stopped, 0)["held_dates"] == texts(EARLY, LATE)

    other = run(two_days, MIDDLE, 2, [order("o2", MIDDLE, by=ANN)], [line("o2", "20"), line("o1", "12", version=2)])
    details(other, 2)
    assert details(other, 0)["held_dates"] == texts(EARLY)
    done = details(other, 1)
    assert done["published_dates"] == texts(MIDDLE)
    wait = [name for name, what in done["publications"].items() if what == "waiting"]
    assert wait == ["gold.cohort_retention", "gold.customer_rfm"]
    assert {done["publications"][name] for name in load_tables("gold") if name not in wait} == {"published"}
    assert gross(two_days) == {EARLY: Decimal(10), MIDDLE: Decimal(20)}
    assert {row[0] for row in read_tables(two_days)["gold.customer_rfm"]} == {ANN}
    assert (ANY_RUN_DATE, EARLY) in list_stale_dates(two_days)

    repaired = run(two_days, LATE, 2, [order("o3", LATE, by=BOB)], [line("o3", "30")])
    assert details(repaired)["published_dates"] == texts(EARLY, LATE)
    assert gross(two_days) == {EARLY: Decimal(12), MIDDLE: Decimal(20), LATE: Decimal(30)}
    assert Lake(two_days).run_dates(stale_dates.HELD_DATES) == []
    assert list_stale_dates(two_days) == []


def test_changes_to_a_held_date_are_computed_by_its_next_run(two_days: str) -> None:
    stopped = run(two_days, LATE, 1, [order("o1", EARLY, by=ANN, status="cancelled", version=2)])
    details(stopped, 2)
    reject(stopped)
    repaired = run(two_days, LATE, 2, [order("o3", LATE, by=BOB)], [line("o3", "30")])
    details(repaired, 2)
    run(two_days, MIDDLE, 2, [order("o2", MIDDLE, by=ANN)], [line("o2", "20"), line("o1", "12", version=2)]).finish()
    details(repaired, 1)
    assert gross(two_days)[EARLY] == Decimal(10)
    rerun_date(two_days, LATE, 3).finish()
    assert gross(two_days)[EARLY] == Decimal(12)


def test_order_merged_between_note_and_lines_is_computed(two_days: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write = merge._commit_changes

    def after_the_order(lake: Lake, contract: Any, *rest: Any) -> None:
        if contract.name == "order_items":
            monkeypatch.setattr(merge, "_commit_changes", write)
            run(two_days, MIDDLE, 2, [order("o2", MIDDLE, by=ANN), order("o5", MIDDLE)], [line("o2", "20")]).finish()
        write(lake, contract, *rest)

    monkeypatch.setattr(merge, "_commit_changes", after_the_order)
    done = details(run(two_days, LATE, 1, [], [line("o5", "7")]))
    assert done["published_dates"] == texts(MIDDLE, LATE)
    assert gross(two_days)[MIDDLE] == Decimal(27)
