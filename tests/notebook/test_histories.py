"""Test with random histories that order, repetition and parallelism of dates do not change the tables."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings

import daybook.lake.tables
from daybook.notebook import context as stages
from tests.notebook.histories import History, histories, list_stale_dates, read_tables, run_history

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def quick(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait between commit attempts, and show no results."""
    monkeypatch.setattr(daybook.lake.tables.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(stages, "display", lambda *args, **named: None)


RETURNS = pytest.mark.parametrize("returns_count_on", ["order_date", "return_date"])
# No shrinking: a history takes seconds, and a failing one is small enough to read.
_QUICK = settings(
    max_examples=7,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)


@RETURNS
@_QUICK
@given(history=histories(parallel=False))
def test_order_and_repetition_of_dates_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, returns_count_on: str, history: History
) -> None:
    otherwise, in_order = (str(tmp_path_factory.mktemp("lake")) for _ in range(2))
    run_history(otherwise, history, gate=True, returns_count_on=returns_count_on)
    run_history(in_order, history.in_order(), returns_count_on=returns_count_on)
    assert read_tables(otherwise) == read_tables(in_order)
    assert list_stale_dates(otherwise) == []


@RETURNS
@_QUICK
@given(history=histories(parallel=True))
def test_interleaved_dates_give_the_tables_of_sequential_runs(
    tmp_path_factory: pytest.TempPathFactory, returns_count_on: str, history: History
) -> None:
    otherwise, in_order = (str(tmp_path_factory.mktemp("lake")) for _ in range(2))
    run_history(otherwise, history, gate=True, returns_count_on=returns_count_on)
    run_history(in_order, history.in_order(), returns_count_on=returns_count_on)
    assert read_tables(otherwise) == read_tables(in_order)
    assert list_stale_dates(otherwise) == []
