"""Test with random histories of a flat source that any order of dates keeps the newest lines of each order."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import daybook.lake.tables
from daybook.notebook import context as stages
from daybook.sources import load_source
from tests.notebook import histories
from tests.notebook.histories import DAYS, History, Landing, list_stale_dates, moment, read_tables, run_at_once, run_history

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def flat(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge as for a flat source, without waits between commit attempts, and show no results."""
    monkeypatch.setattr(histories, "load_source", lambda name: load_source("online_retail"))
    monkeypatch.setattr(daybook.lake.tables.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stages, "display", lambda *args, **named: None)


@st.composite
def exports(draw: st.DrawFn, landing: Landing) -> Landing:
    """Draw a landing with the lines of a flat file: complete orders of one version, with lines numbered from 1."""
    lines = []
    for order in draw(st.lists(st.sampled_from(["o1", "o2", "o3"]), unique=True, max_size=3)):
        version = moment(DAYS[0], draw(st.integers(1, 3)))
        for number, product in enumerate(draw(st.lists(st.sampled_from(["p1", "p2"]), min_size=1, max_size=3)), start=1):
            price = Decimal(draw(st.sampled_from(["1.50", "7"])))
            lines.append(
                {
                    "order_id": order,
                    "line_number": number,
                    "product_id": product,
                    "quantity": 1,
                    "unit_price": price,
                    "is_return": False,
                    "version_at": version,
                }
            )
    return Landing(landing.day, {**landing.rows, "order_items": lines})


@st.composite
def flat_histories(draw: st.DrawFn) -> History:
    """Draw histories with interleaved dates, some of them exported again."""
    history = draw(histories.histories())
    return History([draw(exports(each)) for each in history.landings], history.holds, history.strides)


@settings(max_examples=5, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(flat_histories())
def test_flat_dates_in_any_order_leave_the_newest_lines(tmp_path_factory: pytest.TempPathFactory, history: History) -> None:
    by_date, at_once = (str(tmp_path_factory.mktemp("lake")) for _ in range(2))
    run_history(by_date, history, gate=True)
    run_at_once(at_once, history)
    assert read_tables(by_date) == read_tables(at_once)
    assert list_stale_dates(by_date) == []
    newest = {}
    for landing in history.last_landings():
        for line in landing.rows["order_items"]:
            order, version = line["order_id"], (line["version_at"], landing.day)
            newest[order] = max(newest.get(order, version), version)
    expected = sorted(
        (line["order_id"], line["line_number"], line["product_id"])
        for landing in history.last_landings()
        for line in landing.rows["order_items"]
        if newest[line["order_id"]] == (line["version_at"], landing.day)
    )
    assert sorted(row[:3] for row in read_tables(by_date)["silver.order_items"]) == expected
