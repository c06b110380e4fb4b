"""Transforming a range of dates leaves the silver rows of its dates one after the other; a rejected date is left out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daybook.contracts import load_tables
from daybook.engines import DuckDBEngine, ViewEngine
from daybook.lake.tables import Lake
from daybook.notebook import transform
from daybook.notebook.context import Stage
from daybook.notebook.stale_dates import LANDED_DATES
from daybook.settings import load_settings
from daybook.sources import load_source
from tests.cells import load_sql_cells
from tests.notebook.histories import DAYS, Landing, build_table, landings, list_stale_dates, moment

EARLY, MIDDLE, LATE = DAYS


@pytest.fixture(autouse=True)
def _no_output(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybook.notebook.context.display", lambda *_, **__: None)


def transform_dates(root: str, landed: Sequence[Landing]) -> Stage:
    """Merge the landings of contiguous dates as one stage."""
    setting = load_settings("local")
    dates = [each.day for each in landed]
    lake, source = Lake(root, run_id=f"range-{dates[0]}-{dates[-1]}-2"), load_source(setting.source)
    engine = ViewEngine(DuckDBEngine(lake, setting.timezone), source)
    stage = Stage("transform", setting, dates[0], dates[-1], dates, "", source, lake, engine)
    for table in load_tables("silver"):
        short = table.split(".")[1]
        rows = pa.concat_tables([build_table(short, each.rows[short], each.day) for each in landed])
        engine.tables.register(f"mapped.{short}", rows)
    for table, sql in load_sql_cells("transform").items():
        engine.define(table, sql)
    transform.merge_silver(stage)
    return stage


def landing(day: date, **rows: list[dict[str, Any]]) -> Landing:
    return Landing(day, {**{name.split(".")[1]: [] for name in load_tables("silver")}, **rows})


def order(order_id: str, placed: date, status: str = "paid", version: int = 1) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "customer_key": "1" * 32,
        "ordered_at": moment(placed, 12),
        "status": status,
        "version_at": moment(DAYS[0], version),
    }


def line(order_id: str, number: int = 1) -> dict[str, Any]:
    return {
        "order_id": order_id,
        "line_number": number,
        "product_id": "p1",
        "quantity": 1,
        "unit_price": Decimal(1),
        "is_return": False,
        "version_at": moment(DAYS[0], 1),
    }


def read_silver(root: str) -> dict[str, list[tuple[Any, ...]]]:
    engine = DuckDBEngine(Lake(root), load_settings("local").timezone)
    return {name: sorted(engine.rows(f"SELECT * FROM {name}"), key=repr) for name in load_tables("silver")}


def test_range_counts_the_rows_of_each_date(tmp_path: Any) -> None:
    stage = transform_dates(
        str(tmp_path), [landing(EARLY, orders=[order("o1", EARLY), order("o2", EARLY)]), landing(MIDDLE), landing(LATE)]
    )
    assert (stage.ended, stage.dates) == ("SUCCEEDED", list(DAYS))
    assert [stage.results[day].rows["out"] for day in DAYS] == [2, 0, 0]
    assert Lake(str(tmp_path)).run_dates(LANDED_DATES) == DAYS


def test_stale_dates_are_noted_under_the_date_that_changed_them(tmp_path: Any) -> None:
    stage = transform_dates(
        str(tmp_path),
        [
            landing(EARLY, orders=[order("o1", EARLY)]),
            landing(MIDDLE, orders=[order("o2", MIDDLE)]),
            landing(LATE, orders=[order("o1", EARLY, "delivered", 2)]),
        ],
    )
    assert set(list_stale_dates(str(tmp_path))) >= {(EARLY, EARLY), (MIDDLE, MIDDLE), (LATE, EARLY)}
    assert stage.results[MIDDLE].details["stale_dates"] == [MIDDLE.isoformat()]


def test_rejected_date_within_a_range_is_left_out(tmp_path: Any) -> None:
    wrong = landing(MIDDLE, orders=[{**order("o1", EARLY, "delivered", 2), "order_id": None}, order("o2", MIDDLE)])
    others = [landing(EARLY, orders=[order("o1", EARLY)]), landing(LATE, orders=[order("o3", LATE)])]
    stage = transform_dates(f"{tmp_path}/range", [others[0], wrong, others[1]])
    assert (stage.ended, stage.dates) == ("SUCCEEDED", [EARLY, LATE])
    assert stage.results[MIDDLE].outcome == "REJECTED"
    assert "order_id" in stage.results[MIDDLE].reasons[0]
    for each in others:
        transform_dates(f"{tmp_path}/single", [each])
    assert read_silver(f"{tmp_path}/range") == read_silver(f"{tmp_path}/single")
    assert Lake(f"{tmp_path}/range").run_dates(LANDED_DATES) == [EARLY, LATE]


@pytest.mark.parametrize("together", [False, True])
def test_line_of_a_known_order_is_not_warned_of(tmp_path: Any, together: bool) -> None:
    landed = [
        landing(EARLY, orders=[order("o1", EARLY)]),
        landing(MIDDLE, order_items=[line("o1"), line("o2"), line("o3")]),
        landing(LATE, orders=[order("o2", LATE)], order_items=[line("o2", 2)]),
    ]
    stages = [transform_dates(str(tmp_path), part) for part in ([landed] if together else [[each] for each in landed])]
    warnings = {day: result.warnings for stage in stages for day, result in stage.results.items()}
    assert [[each for each in warnings[day] if "is among orders" in each] for day in DAYS] == [
        [],
        ["silver.order_items: 2 rows break 'order_id is among orders'"],
        [],
    ]


@settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.tuples(*(landings(day) for day in DAYS)), st.sampled_from([[0], [1], [2], []]))
def test_any_cut_leaves_the_same_silver(
    tmp_path_factory: pytest.TempPathFactory, landed: tuple[Landing, ...], cuts: list[int]
) -> None:
    check_cut(str(tmp_path_factory.mktemp("lake")), landed, cuts)


@pytest.mark.slow
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.tuples(*(landings(day) for day in DAYS)), st.sampled_from([[0], [1], [2], []]))
def test_many_cuts_leave_the_same_silver(
    tmp_path_factory: pytest.TempPathFactory, landed: tuple[Landing, ...], cuts: list[int]
) -> None:
    check_cut(str(tmp_path_factory.mktemp("lake")), landed, cuts)


def check_cut(root: str, landed: Sequence[Landing], cuts: list[int]) -> None:
    """Transform dates one by one, and as ranges of which the later comes first; compare silver and the notes."""
    warnings = {each.day: transform_dates(f"{root}/single", [each]).results[each.day].warnings for each in landed}
    cut = cuts[0] if cuts else 0
    ascending = transform_dates(f"{root}/ascending", landed)
    assert {day: result.warnings for day, result in ascending.results.items()} == warnings
    assert read_silver(f"{root}/ascending") == read_silver(f"{root}/single")
    # Merged one after the other, each date notes at most what the range notes for it. The range knows where an order is at its
    # end: the date from which a later date moved it is noted for that later date.
    noted = set(list_stale_dates(f"{root}/ascending"))
    for run_date, stale in set(list_stale_dates(f"{root}/single")) - noted:
        assert any((later, stale) in noted for later in (each.day for each in landed) if later > run_date)
    for part in (landed[cut:], landed[:cut]):
        if part:
            transform_dates(f"{root}/cut", part)
    assert read_silver(f"{root}/cut") == read_silver(f"{root}/single")
