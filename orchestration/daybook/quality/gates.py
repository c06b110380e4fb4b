"""Decide whether data may pass, with findings as reasons, and waive findings that an approval names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from daybook.quality.checks import RuleResult


@dataclass(frozen=True)
class Finding:
    """A reason to reject data. ``finding_id`` is the same in every run, ``text`` has the figures."""

    finding_id: str
    text: str
    waivable: bool = True


@dataclass
class GateResult:
    """The result of a gate, which passes without findings."""

    findings: list[Finding] = field(default_factory=list)
    waived: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def reasons(self) -> list[str]:
        return [each.text for each in self.findings]

    def waive(self, finding_ids: Iterable[str]) -> GateResult:
        """Return the result with the waivable findings among ``finding_ids`` waived."""
        approved = set(finding_ids)
        waived = [each for each in self.findings if each.finding_id in approved and each.waivable]
        return GateResult([each for each in self.findings if each not in waived], [*self.waived, *waived])


def gate_broken_rules(results: list[RuleResult]) -> GateResult:
    """Reject data that breaks rules of severity ``error``."""
    broken = [each for each in results if each.severity == "error" and not each.holds]
    return GateResult([Finding(f"{each.table}: {each.rule}", format_rule_result(each), each.waivable) for each in broken])


def format_warnings(results: list[RuleResult]) -> list[str]:
    """Return a sentence for each broken rule of severity ``warning``."""
    return [format_rule_result(each) for each in results if each.severity == "warning" and not each.holds]


def gate_rejected_share(entity: str, landed: int, rejected: int, *, most: float, tolerated: int) -> GateResult:
    """Reject an entity with more than ``tolerated`` rejected rows and a rejected share above ``most`` (0 to 1)."""
    if rejected > tolerated and rejected / landed > most:
        text = f"{entity}: {rejected:,} of {landed:,} rows ({rejected / landed:.1%}) are rejected, more than {most:.1%}"
        return GateResult([Finding(f"{entity}: rejected share", text)])
    return GateResult()


def gate_differences(pairs: dict[str, tuple[Any, Any]]) -> GateResult:
    """Reject figures that differ: name -> (gold, computed from silver)."""
    return GateResult(
        [
            Finding(f"{name}: agrees with silver", f"{name}: {left} where silver gives {right}", waivable=False)
            for name, (left, right) in pairs.items()
            if left != right
        ]
    )


def format_rule_result(result: RuleResult) -> str:
    """Return a sentence about a broken rule."""
    if result.measured:
        return f"{result.table}: '{result.rule}' does not hold: {result.measured}"
    rows = "row breaks" if result.failing == 1 else "rows break"
    return f"{result.table}: {result.failing:,} {rows} '{result.rule}'"
