"""Check tables against the rules of their contracts, and decide in gates whether data may pass."""

from __future__ import annotations

from daybook.quality.checks import (
    MAX_SAMPLES,
    RuleResult,
    check_contract,
    check_rules,
    counting_sql,
    describe_value_error,
    failing_sql,
    reasons_sql,
    sample_sql,
)
from daybook.quality.gates import (
    Finding,
    GateResult,
    format_rule_result,
    format_warnings,
    gate_broken_rules,
    gate_differences,
    gate_rejected_share,
)
from daybook.quality.rules import WHOLE_ROW_CONDITION, Rule, landing_rules, table_rules

__all__ = [
    "MAX_SAMPLES",
    "WHOLE_ROW_CONDITION",
    "Finding",
    "GateResult",
    "Rule",
    "RuleResult",
    "check_contract",
    "check_rules",
    "counting_sql",
    "describe_value_error",
    "failing_sql",
    "format_rule_result",
    "format_warnings",
    "gate_broken_rules",
    "gate_differences",
    "gate_rejected_share",
    "landing_rules",
    "reasons_sql",
    "sample_sql",
    "table_rules",
]
