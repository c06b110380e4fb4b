"""Test with random histories that order, repetition and parallelism of dates do not change the tables."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import daybook.lake.tables
from daybook.notebook import context as stages
from tests.notebook.histories import History, histories, list_stale_dates, read_tables, run_at_once, run_history

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between commit attempts, and show no results."""
    monkeypatch.setattr(daybook.lake.tables.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stages, "display", lambda *args, **named: None)


@pytest.mark.parametrize("returns_count_on", ["order_date", "return_date"])
# No shrinking: a history takes seconds, and a failing one is small enough to read.
@settings(
    max_examples=6,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
@given(history=histories())
def test_order_repetition_and_interleaving_of_dates_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, returns_count_on: str, history: History
) -> None:
    """Run a history, and the last landing of each date in one run of all dates."""
    by_date, at_once = (str(tmp_path_factory.mktemp("lake")) for _ in range(2))
    run_history(by_date, history, gate=True, returns_count_on=returns_count_on)
    run_at_once(at_once, history, returns_count_on=returns_count_on)
    assert read_tables(by_date) == read_tables(at_once)
    assert list_stale_dates(by_date) == []
