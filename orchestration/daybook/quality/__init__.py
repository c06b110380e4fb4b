"""Rules, and what they say of rows: contracts compiled to SQL, counted in one pass, verdicts with reasons."""

from __future__ import annotations

from daybook.quality.checks import (
    SAMPLES,
    RuleResult,
    check,
    check_contract,
    counting_sql,
    failing_sql,
    of_values,
    reasons_sql,
    sample_sql,
)
from daybook.quality.gates import Finding, Verdict, differences, refuse_broken, refuse_share, sentence, warnings_of
from daybook.quality.rules import LANDED_WHOLE, Rule, landing_rules, table_rules

__all__ = [
    "LANDED_WHOLE",
    "SAMPLES",
    "Finding",
    "Rule",
    "RuleResult",
    "Verdict",
    "check",
    "check_contract",
    "counting_sql",
    "differences",
    "failing_sql",
    "landing_rules",
    "of_values",
    "reasons_sql",
    "refuse_broken",
    "refuse_share",
    "sample_sql",
    "sentence",
    "table_rules",
    "warnings_of",
]
