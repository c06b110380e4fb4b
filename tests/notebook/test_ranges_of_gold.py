"""Test that gold computed for a range of dates is that of its dates one after the other."""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from daybook.contracts import load_table
from daybook.errors import DatesFailedError, NotebookError
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.notebook import quality
from daybook.notebook.stale_dates import HELD_DATES, mark_stale_dates
from daybook.records.archive import Archive
from tests.notebook.histories import (
    DAYS,
    GoldRun,
    History,
    Run,
    histories,
    list_stale_dates,
    read_tables,
    run_history,
    shared_lake,
)
from tests.notebook.test_publishing import ANN, BOB, gross, line, order, run, texts

EARLY, MIDDLE, LATE = DAYS
BEFORE = EARLY - timedelta(days=1)
ONE_CENT = (
    "SELECT * REPLACE (gross_revenue + CASE WHEN order_date = DATE '{}' THEN 0.01 ELSE 0 END AS gross_revenue) FROM as_defined"
)
WHOLE_TABLES = ["gold.cohort_retention", "gold.customer_rfm"]


@pytest.fixture(autouse=True)
def quiet(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Show no results. The archive has no records."""

    def no_record(archive: Archive, run_id: str) -> None:
        raise FileNotFoundError(run_id)

    monkeypatch.setattr(stages, "display", lambda *args, **named: None)
    monkeypatch.setattr(Archive, "started", no_record)


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


def merge(root: str, day: date, orders: list[Any], lines: list[Any], number: int = 1) -> Run:
    """Merge the rows of a date into silver; return the run, whose gold is not computed."""
    started = run(root, day, number, orders, lines)
    started.run_next_stage()
    return started


def landed(day: date) -> tuple[list[Any], list[Any]]:
    """Return the landing of a date: a new order and, after the first date, the cancellation of the order before it."""
    name = {BEFORE: "o0", EARLY: "o1", MIDDLE: "o2", LATE: "o3"}
    orders, lines = [order(name[day], day, by=ANN if day < LATE else BOB)], [line(name[day], "10")]
    earlier = day - timedelta(days=1)
    if day > EARLY:
        orders.append(order(name[earlier], earlier, by=ANN, status="cancelled", version=2))
    return orders, lines


@pytest.fixture(scope="module")
def merged_days(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a lake whose silver has three dates, to copy."""
    home = tmp_path_factory.mktemp("home")
    with shared_lake(home):
        for day in DAYS:
            merge(str(home / "lake"), day, *landed(day))
    return str(home / "lake")


@pytest.fixture
def three_days(merged_days: str, root: str) -> str:
    """Return a lake whose silver has three dates. The second and the third cancel the order of the date before."""
    return shutil.copytree(merged_days, root)


CUTS = ([DAYS], [DAYS[:1], DAYS[1:]], [DAYS[:2], DAYS[2:]], [DAYS[1:], DAYS[:1]])


@pytest.mark.slow
@pytest.mark.parametrize("returns_count_on", ["order_date", "return_date"])
@settings(
    max_examples=4,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(history=histories(), cut=st.sampled_from(CUTS))
def test_any_cut_into_ranges_gives_the_same_gold(
    tmp_path_factory: pytest.TempPathFactory, returns_count_on: str, history: History, cut: list[list[date]]
) -> None:
    by_date, by_range = (str(tmp_path_factory.mktemp("lake")) for _ in range(2))
    run_history(by_date, History(history.last_landings()), returns_count_on=returns_count_on)
    for number, landing in enumerate(history.landings, start=1):
        Run(by_range, landing, number=number, gate=True, returns_count_on=returns_count_on).transform()
    days = {each.day for each in history.landings}
    for number, part in enumerate(cut, start=50):
        mine = [day for day in part if day in days]
        if mine:
            run_of_part = GoldRun(by_range, mine, number, returns_count_on=returns_count_on)
            assert run_of_part.aggregate().ended == "SUCCEEDED"
            run_of_part.publish_reconciled()
    assert read_tables(by_range) == read_tables(by_date)
    assert list_stale_dates(by_range) == []


def test_each_date_of_a_range_has_its_own_record(three_days: str) -> None:
    started = GoldRun(three_days, DAYS)
    touched = {day: result.details["touched_dates"] for day, result in started.aggregate().results.items()}
    assert touched == {EARLY: texts(EARLY), MIDDLE: texts(EARLY, MIDDLE), LATE: texts(MIDDLE, LATE)}
    stage = started.publish()
    assert stage.ended == "SUCCEEDED"
    for day, result in stage.results.items():
        assert result.details["published_dates"] == touched[day]
        assert set(result.details["publications"].values()) == {"published"}
        assert result.details["rules_checked"] == stage.results[EARLY].details["rules_checked"] > 50
        assert result.details["restated"] == []
    assert stage.details["published_dates"] == texts(*DAYS)
    assert gross(three_days) == {EARLY: 0, MIDDLE: 0, LATE: 10}
    assert list_stale_dates(three_days) == []


@pytest.mark.slow
def test_rows_of_dates_add_up_to_those_of_the_range(three_days: str) -> None:
    started = GoldRun(three_days, DAYS)
    for stage in (started.aggregate(), started.publish()):
        assert all(result.rows["out"] for result in stage.results.values())
        total = sum(read_rows for name, read_rows in stage.details.get("candidates", {}).items())
        assert total in (0, sum(result.rows["out"] or 0 for result in stage.results.values()))


@pytest.mark.slow
def test_restated_date_before_the_range_is_attributed_to_the_date_that_changed_it(root: str) -> None:
    run(root, BEFORE, 1, *landed(BEFORE)).finish()
    merge(root, EARLY, *landed(EARLY))
    merge(root, MIDDLE, [order("o0", BEFORE, by=ANN, status="cancelled", version=2), order("o2", MIDDLE)], [])
    started = GoldRun(root, DAYS[:2])
    started.aggregate()
    stage = started.publish()
    restated = {day: [each["order_date"] for each in result.details["restated"]] for day, result in stage.results.items()}
    assert restated == {EARLY: [], MIDDLE: texts(BEFORE)}
    assert stage.details["restated"] == stage.results[MIDDLE].details["restated"]


@pytest.mark.smoke
def test_one_cent_of_one_date_is_found(three_days: str) -> None:
    started = GoldRun(three_days, DAYS)
    started.aggregate(category_sales=ONE_CENT.format(LATE))
    audit = started.check()
    found = quality.gate_differences(audit.figures)
    assert [each.finding_id for each in found] == ["category_sales.gross_revenue: agrees with silver"]
    assert found[0].text == "category_sales.gross_revenue: 10.0100 where silver gives 10.0000 on 2025-11-30"


def test_rejected_date_holds_what_it_touched_and_others_are_published(three_days: str) -> None:
    started = GoldRun(three_days, DAYS)
    started.aggregate(category_sales=ONE_CENT.format(MIDDLE))
    stage = started.publish()
    assert stage.ended == "SUCCEEDED"
    assert [result.outcome for result in stage.results.values()] == [None, "REJECTED", None]
    difference = "category_sales.gross_revenue: 0.0100 where silver gives 0.0000 on 2025-11-29"
    assert difference in stage.results[MIDDLE].reasons
    assert stage.results[MIDDLE].details["held_dates"] == texts(EARLY, MIDDLE)
    # The order of the first date is cancelled by the rejected one, so the first date waits with it.
    assert list(gross(three_days)) == [LATE]
    assert stage.results[EARLY].details["publications"]["gold.daily_sales"] == "waiting"
    assert stage.results[LATE].details["publications"]["gold.daily_sales"] == "published"
    assert [name for name, what in stage.details["publications"].items() if what == "waiting"] == WHOLE_TABLES
    assert Lake(three_days).run_dates(HELD_DATES) == [MIDDLE]

    again = GoldRun(three_days, [MIDDLE], 2)
    again.aggregate()
    assert again.publish().ended == "SUCCEEDED"
    one_by_one = f"{three_days}-one-by-one"
    for day in DAYS:
        run(one_by_one, day, 1, *landed(day)).finish()
    assert read_tables(three_days) == read_tables(one_by_one)


def test_value_that_does_not_fit_rejects_its_date(three_days: str) -> None:
    started = GoldRun(three_days, DAYS)
    too_large = ONE_CENT.replace("0.01", "999999999999999").format(LATE)
    stage = started.aggregate(daily_sales=too_large)
    assert [result.outcome for result in stage.results.values()] == [None, None, "REJECTED"]
    assert "gross_revenue can be converted to DECIMAL(18,4)" in stage.results[LATE].reasons[0]
    assert stage.results[LATE].details["held_dates"] == texts(MIDDLE, LATE)
    rows = stage.engine.rows("SELECT order_date FROM candidate.daily_sales")
    assert rows == [(EARLY,)]


@pytest.mark.slow
def test_date_that_is_not_in_silver_fails_alone(root: str) -> None:
    for day in (EARLY, LATE):
        merge(root, day, *landed(day))
    started = GoldRun(root, DAYS)
    stage = started.aggregate()
    assert stage.ended == "SUCCEEDED"
    failure = stage.results[MIDDLE].failure
    assert failure is not None
    assert failure["message"] == "2025-11-29 is not in silver; run 3_transform for that date first."
    assert started.publish([EARLY, LATE]).details["published_dates"] == texts(EARLY, LATE)


def test_range_without_a_date_in_silver_fails(root: str) -> None:
    with pytest.raises(DatesFailedError, match="2025-11-28 is not in silver"):
        GoldRun(root, DAYS).aggregate()


@pytest.mark.slow
def test_date_noted_for_any_run_is_computed_by_the_range(three_days: str) -> None:
    first = GoldRun(three_days, [EARLY])
    first.aggregate()
    first.publish()
    mark_stale_dates(Lake(three_days), [EARLY])
    rest = GoldRun(three_days, DAYS[1:])
    rest.aggregate()
    stage = rest.publish()
    assert stage.details["published_dates"] == texts(*DAYS)
    assert list_stale_dates(three_days) == []


@pytest.mark.slow
def test_broken_date_that_every_date_computes_rejects_all(three_days: str) -> None:
    first = GoldRun(three_days, [EARLY])
    first.aggregate()
    first.publish()
    merge(three_days, MIDDLE, [order("o2", MIDDLE, by=ANN)], [line("o2", "10")], 2)
    mark_stale_dates(Lake(three_days), [EARLY])
    rest = GoldRun(three_days, DAYS[1:])
    rest.aggregate(product_sales=ONE_CENT.format(EARLY))
    stage = rest.publish()
    assert stage.results[MIDDLE].outcome == "REJECTED"


def publish_past(root: str, days: int) -> None:
    """Publish daily sales of the days before the first date."""
    contract = load_table("gold.daily_sales")
    rows = []
    for back in range(1, days + 1):
        figures = {item.name: Decimal(100 + back % 7) if "DECIMAL" in item.physicalType else 5 for item in contract.properties}
        rows.append({**figures, "order_date": EARLY - timedelta(days=back), "new_customers": 1, "returning_customers": 1})
    columns = {item.name: pa.array([row[item.name] for row in rows], item.arrow_type) for item in contract.properties}
    lake = Lake(root)
    lake.ensure_table(contract)
    write_deltalake(lake.uri("gold.daily_sales"), pa.table(columns), mode="append")


def test_past_inside_a_range_is_that_of_single_dates(root: str) -> None:
    results = []
    for name, parts in (("range", [DAYS]), ("dates", [[day] for day in DAYS])):
        lake = f"{root}-{name}"
        publish_past(lake, 28)
        for number, day in enumerate(DAYS):
            merge(lake, day, [order(f"o{number}", day, by=ANN)], [line(f"o{number}", f"{90 + number}")])
        found = []
        for part in parts:
            started = GoldRun(lake, part)
            started.aggregate()
            audit = started.check()
            found += [(day, [each for each in audit.results(day) if "usual" in each.rule]) for day in part]
            assert started.stage is not None
            quality.publish(started.stage, audit)
        results.append(found)
    in_range, one_by_one = results
    assert in_range == one_by_one
    assert any(each.measured for _, rules in in_range for each in rules)
    assert [rules[0].checked for _, rules in in_range] == [28, 28, 28]


@pytest.mark.slow
def test_rejected_date_is_not_in_the_past_of_later_dates(root: str) -> None:
    publish_past(root, 28)
    for number, day in enumerate(DAYS):
        merge(root, day, [order(f"o{number}", day, by=ANN)], [line(f"o{number}", "90")])
    started = GoldRun(root, DAYS)
    started.aggregate()
    audit = started.check()
    usual = {day: audit.results(day, {MIDDLE})[-1] for day in DAYS}
    assert [each.checked for each in usual.values()] == [28, 28, 27]


@pytest.mark.slow
def test_query_without_the_date_is_refused(three_days: str) -> None:
    started = GoldRun(three_days, DAYS)
    started.aggregate()
    audit = started.check()
    stage = started.stage
    assert stage is not None
    for name in ("ours", "theirs"):
        stage.define(name, "SELECT 1 AS orders")
    with pytest.raises(NotebookError, match=r"^ours has no column order_date; select a row per date, with the date\.$"):
        quality.reconcile(stage, audit, "ours", "theirs")


@pytest.mark.slow
def test_query_with_two_rows_of_a_date_is_refused(three_days: str) -> None:
    started = GoldRun(three_days, DAYS)
    started.aggregate()
    audit = started.check()
    stage = started.stage
    assert stage is not None
    stage.define(
        "ours", "SELECT order_date, order_id FROM silver.orders UNION ALL SELECT order_date, order_id FROM silver.orders"
    )
    with pytest.raises(NotebookError, match="several rows of a date; group each by order_date"):
        quality.reconcile(stage, audit, "ours", "ours")
