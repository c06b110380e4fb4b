"""Test reasons of gates, and approvals that waive findings."""

from __future__ import annotations

from decimal import Decimal

import pytest

from daybook.quality.checks import RuleResult
from daybook.quality.gates import Finding, GateResult, format_warnings, gate_broken_rules, gate_differences, gate_rejected_share

BROKEN = RuleResult("silver.orders", "status is present", 5000, 1200, holds=False)
HELD = RuleResult("silver.orders", "order_id is present", 5000, 0)
WARNED = RuleResult("silver.orders", "nothing is late", 5000, 1, "warning", holds=False)
WHOLE = RuleResult("orders", "there are rows", 0, 1, holds=False, measured="0, must be at least 1")


def test_gate_passes_without_findings() -> None:
    assert GateResult().passed
    assert not GateResult([Finding("a rule", "because")]).passed


def test_broken_rules_are_reasons() -> None:
    assert gate_broken_rules([BROKEN, HELD, WARNED]).reasons == ["silver.orders: 1,200 rows break 'status is present'"]
    assert gate_broken_rules([HELD, WARNED]).passed


def test_reason_of_a_table_rule_has_its_condition() -> None:
    assert gate_broken_rules([WHOLE]).reasons == ["orders: 'there are rows' does not hold: 0, must be at least 1"]


def test_warnings_come_from_warning_rules() -> None:
    assert format_warnings([BROKEN, HELD, WARNED]) == ["silver.orders: 1 row breaks 'nothing is late'"]


@pytest.mark.parametrize(
    ("landed", "rejected", "passes"),
    [
        (1000, 0, True),
        (1000, 50, True),
        (1000, 51, False),
        (10, 5, True),  # Up to the tolerated number.
        (10, 6, False),
        (5, 5, True),
        (0, 0, True),
    ],
)
def test_rejected_share_above_tolerated_rows_is_refused(landed: int, rejected: int, passes: bool) -> None:
    assert gate_rejected_share("orders", landed, rejected, most=0.05, tolerated=5).passed is passes


def test_reason_of_a_rejected_share_has_its_limit() -> None:
    verdict = gate_rejected_share("orders", 2000, 1500, most=0.05, tolerated=5)
    assert verdict.reasons == ["orders: 1,500 of 2,000 rows (75.0%) are rejected, more than 5.0%"]


def test_differing_figures_are_refused() -> None:
    agree = {"daily_sales.orders": (7, 7), "daily_sales.net_revenue": (Decimal("1.50"), Decimal("1.5000"))}
    assert gate_differences(agree).passed
    assert gate_differences({**agree, "daily_sales.units": (3, 4)}).reasons == ["daily_sales.units: 3 where silver gives 4"]


def test_approval_waives_only_the_named_findings() -> None:
    verdict = GateResult([Finding("a", "a breaks"), Finding("b", "b breaks"), Finding("key", "twice", waivable=False)])
    decided = verdict.waive(["a", "key", "other"])
    assert [each.finding_id for each in decided.findings] == ["b", "key"]
    assert [each.finding_id for each in decided.waived] == ["a"]
    assert verdict.waive(["a", "b"]).passed is False
