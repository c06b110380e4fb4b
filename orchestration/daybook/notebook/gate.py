"""Decide as the gate of a stage: record rules and findings, and apply the approval of a rejected date."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
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
    """Return a row per rule that something breaks on a date, errors first."""
    found = sorted(filter(_is_broken, rules), key=lambda each: (each.severity, -each.failing))
    columns = ["table", "rule", "severity", "checked", "failing", "share", "measured", "for example", "SQL"]
    rows = [
        (
            *(each.table, each.rule, each.severity, each.checked, each.failing, each.share),
            *(each.measured, _format_samples(each), each.sql),
        )
        for each in found
    ]
    return Listing(columns, rows, percent=["share"])


@dataclass(frozen=True)
class RuleSummary:
    """The results of one rule for the dates of a range."""

    by_date: dict[date, RuleResult]

    @property
    def first(self) -> RuleResult:
        """The result of the first date, for what all have in common."""
        return next(iter(self.by_date.values()))

    @property
    def broken(self) -> list[date]:
        """The dates on which the rule does not hold, or some row breaks it."""
        return [day for day, each in self.by_date.items() if _is_broken(each)]

    @property
    def worst(self) -> date:
        """The first of the dates with the largest share, among those on which the rule does not hold if there are any."""
        return max(self.by_date, key=lambda day: (not self.by_date[day].holds, self.by_date[day].share))

    @property
    def checked(self) -> int:
        """The sum over the dates. Rows that were checked once for several dates count once."""
        return sum(each.checked for each in self._once())

    @property
    def failing(self) -> int:
        """The sum over the dates, as of ``checked``."""
        return sum(each.failing for each in self._once())

    def _once(self) -> Collection[RuleResult]:
        return {id(each): each for each in self.by_date.values()}.values()


def summarize_rules(rules: Mapping[date, Sequence[RuleResult]]) -> list[RuleSummary]:
    """Return the results of each rule by date, in the order of the rules."""
    found: dict[tuple[str, str], dict[date, RuleResult]] = {}
    for day, results in rules.items():
        for each in results:
            found.setdefault((each.table, each.rule), {})[day] = each
    return [RuleSummary(by_date) for by_date in found.values()]


def format_range_rules(rules: Mapping[date, Sequence[RuleResult]]) -> Listing:
    """Return a row per rule that something breaks on any date of a range, errors first.

    The measured value and the examples are those of the worst date.
    """
    found = sorted(
        (each for each in summarize_rules(rules) if each.broken), key=lambda each: (each.first.severity, -each.failing)
    )
    columns = ["table", "rule", "severity", "dates", "checked", "failing", "share"]
    rows = []
    for each in found:
        worst, shown = each.by_date[each.worst], each.first
        counts = (len(each.broken), each.checked, each.failing, each.failing / each.checked if each.checked else 0.0)
        of_worst = (each.worst, worst.share, worst.measured, _format_samples(worst))
        rows.append((shown.table, shown.rule, shown.severity, *counts, *of_worst, shown.sql))
    worst_columns = ["worst date", "its share", "measured", "for example"]
    return Listing([*columns, *worst_columns, "SQL"], rows, percent=["share", "its share"])


def _is_broken(result: RuleResult) -> bool:
    return bool(result.failing) or not result.holds


def _format_samples(result: RuleResult) -> str:
    # The name of a file is enough: its folders are those of the entity and the date.
    return ", ".join(re.sub(r"^\S*/(?=[^/ ]+ / )", "", sample) for sample in result.samples)
