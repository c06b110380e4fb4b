"""Test reasons of gates, and approvals that waive findings."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from daybook.quality.checks import RuleResult
from daybook.quality.gates import Finding, format_warnings, gate_broken_rules, gate_differences, gate_rejected_share

BROKEN = RuleResult("silver.orders", "status is present", 5000, 1200, holds=False)
HELD = RuleResult("silver.orders", "order_id is present", 5000, 0)
WARNED = RuleResult("silver.orders", "nothing is late", 5000, 1, "warning", holds=False)
WHOLE = RuleResult("orders", "there are rows", 0, 1, holds=False, measured="0, must be at least 1")

DAY = date(2025, 11, 30)


def reasons(findings: list[Finding]) -> list[str]:
    return [each.text for each in findings]


def test_broken_rules_are_reasons() -> None:
    assert reasons(gate_broken_rules([BROKEN, HELD, WARNED])) == ["silver.orders: 1,200 rows break 'status is present'"]
    assert not gate_broken_rules([HELD, WARNED])


def test_reason_of_a_table_rule_has_its_condition() -> None:
    assert reasons(gate_broken_rules([WHOLE])) == ["orders: 'there are rows' does not hold: 0, must be at least 1"]


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
    assert (not gate_rejected_share("orders", landed, rejected, most=0.05, tolerated=5)) is passes


def test_reason_of_a_rejected_share_has_its_limit() -> None:
    assert reasons(gate_rejected_share("orders", 2000, 1500, most=0.05, tolerated=5)) == [
        "orders: 1,500 of 2,000 rows (75.0%) are rejected, more than 5.0%"
    ]


def test_differing_figures_are_refused() -> None:
    agree = {"daily_sales.orders": (7, 7), "daily_sales.net_revenue": (Decimal("1.50"), Decimal("1.5000"))}
    assert not gate_differences({DAY: agree})
    assert reasons(gate_differences({DAY: {**agree, "daily_sales.units": (3, 4)}})) == [
        "daily_sales.units: 3 where silver gives 4 on 2025-11-30"
    ]
