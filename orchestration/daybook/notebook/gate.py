"""Decide as the gate of a stage: record rules and findings, and apply the approval of a rejected date."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date

from daybook.notebook.context import Stage
from daybook.notebook.display import Listing
from daybook.quality.checks import RuleResult
from daybook.quality.gates import Finding, format_rule_result


def apply_approval(
    stage: Stage, day: date, findings: Sequence[Finding], rules: Sequence[RuleResult], *, broken: str = "rejected"
) -> list[str]:
    """Record the results of rules and a gate's findings about a date; return the reasons to reject the date.

    The approval that the run was started with waives findings. Each waived finding is recorded with a warning. A run of several
    dates has no approval.

    Parameters
    ----------
    stage
        The open stage.
    day
        The business date that the rules and findings are about.
    findings
        Everything that the gate found about it.
    rules
        The results of all rules that were checked.
    broken
        The recorded outcome of a broken rule that does not stop the date.
    """
    result = stage.results[day]
    approval = stage.started.approval if not stage.is_range and stage.started else None
    waived = [each for each in findings if approval and each.waivable and each.finding_id in approval.waived]
    refused = [each for each in findings if each not in waived]
    result.details["refused"] = [{"about": each.finding_id, "waivable": each.waivable} for each in findings]
    if approval and findings:
        result.warnings.extend(f"approved by {approval.by} ({approval.why}): {each.text}" for each in waived)
        result.details["waived"] = [each.finding_id for each in waived]
    outcomes = {**{each.text: "approved" for each in waived}, **{each.text: "rejected" for each in refused}}
    result.details["rules_checked"] = result.details.get("rules_checked", 0) + len(rules)
    recorded = result.details.setdefault("rules", [])
    for each in rules:
        if each.failing or not each.holds:
            outcome = "within limits" if each.holds else "warned"
            if not each.holds and each.severity == "error":
                outcome = outcomes.get(format_rule_result(each), broken)
            recorded.append(each.to_record(outcome))
    return [each.text for each in refused]


def format_rules(rules: Sequence[RuleResult]) -> Listing:
    """Return a row per rule that something breaks, errors first."""
    found = sorted((each for each in rules if each.failing or not each.holds), key=lambda each: (each.severity, -each.failing))
    columns = ["table", "rule", "severity", "checked", "failing", "share", "measured", "for example", "SQL"]
    # The name of a file is enough: its folders are those of the entity and the date.
    samples = [", ".join(re.sub(r"^\S*/(?=[^/ ]+ / )", "", sample) for sample in each.samples) for each in found]
    rows = [
        (each.table, each.rule, each.severity, each.checked, each.failing, each.share, each.measured, shown, each.sql)
        for each, shown in zip(found, samples)
    ]
    return Listing(columns, rows, percent=["share"])
