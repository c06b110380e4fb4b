"""Test that sixty days of the demo shop break every row rule, by planned faults only."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path
from typing import NamedTuple

import pytest

from daybook.quality.anomaly import robust_z_score
from daybook.quality.gates import gate_broken_rules, gate_rejected_share
from daybook.quality.rules import landing_rules
from daybook.sources import open_landing
from daybook.sources.config import load_source
from demo_shop import Summary, generate
from tests.quality.conftest import Bench
from tests.reading import read_entity

pytestmark = pytest.mark.slow


class Judged(NamedTuple):
    """Failing rows by entity and rule, quarantined rows, and findings that stop a day."""

    summary: Summary
    broken: Counter[tuple[str, str]]
    quarantined: set[tuple[date, str, int]]
    stopped: list[str]


@pytest.fixture(scope="module")
def judged(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Check every day of the default shop against the landing contract."""
    landing = tmp_path_factory.mktemp("shop") / "landing"
    source = load_source("demo")
    found = Judged(generate(Path(landing)), Counter(), set(), [])
    store = open_landing(str(landing))
    for day in found.summary.days:
        rows_of = {}
        for name in source.entities:
            rows, _ = read_entity(store, source, name, day)
            assert rows is not None
            bench.load_entity(source, name, rows)
            rows_of[name] = rows.num_rows
        for name, landed in rows_of.items():
            results, quarantined = bench.check_landing(source, name, day)
            per_row = {rule.name for rule in landing_rules(source, name) if rule.is_per_row}
            found.broken.update({(name, each.rule): each.failing for each in results})
            found.quarantined.update((day, name, int(number)) for _, number in quarantined)
            whole = gate_broken_rules([each for each in results if each.rule not in per_row])
            share = gate_rejected_share(name, landed, len(quarantined), most=0.05, tolerated=5)
            found.stopped.extend(f"{day}: {reason}" for reason in (each.text for each in whole + share))
    return found


def test_every_rule_on_rows_is_broken_at_least_once(judged: Judged) -> None:
    source = load_source("demo")
    rules = {
        (name, rule.name)
        for name in source.entities
        for rule in landing_rules(source, name)
        if rule.failing and not rule.default
    }
    assert len(rules) > 80
    assert {rule for rule in rules if not judged.broken[rule]} == set()


def test_quarantined_rows_are_exactly_the_planned_faults(judged: Judged) -> None:
    assert judged.quarantined == {(each.day, each.entity, each.row) for each in judged.summary.broken()}


def test_ordinary_days_pass_the_gate(judged: Judged) -> None:
    assert judged.stopped == []


def test_ordinary_month_has_few_anomalies(judged: Judged) -> None:
    account = judged.summary.expected
    figures = {
        "orders": {day: float(each.orders - each.cancelled_orders) for day, each in account.items()},
        "gross_revenue": {day: float(each.gross_revenue) for day, each in account.items()},
        "net_revenue": {day: float(each.gross_revenue - each.returns_amount) for day, each in account.items()},
    }
    black_friday = {date(2025, 11, day) for day in (27, 28, 29)}
    for name, values in figures.items():
        unusual = set()
        for day in list(values)[-30:]:
            past = {each: value for each, value in values.items() if 0 < (day - each).days <= 28}
            score = robust_z_score(past, day, values[day])
            assert score is not None
            if abs(score.z_score) > 3.5:
                unusual.add(day)
        assert date(2025, 11, 28) in unusual, name
        # Black Friday and the adjacent days are real anomalies.
        assert len(unusual - black_friday) <= 3, (name, sorted(unusual))
