"""Gates: what findings speak against letting data through, said in sentences; and what an approval lets pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from daybook.quality.checks import RuleResult


@dataclass(frozen=True)
class Finding:
    """One thing that speaks against the data. ``finding_id`` names it the same way in every run; ``text`` has the figures."""

    finding_id: str
    text: str
    waivable: bool = True


@dataclass
class GateResult:
    """A gate's answer: it passes as long as nothing is found against it."""

    findings: list[Finding] = field(default_factory=list)
    waived: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def reasons(self) -> list[str]:
        return [each.text for each in self.findings]

    def waive(self, abouts: Iterable[str]) -> GateResult:
        """The verdict when a person has answered for these findings. What has no right answer stays."""
        answered = set(abouts)
        lets_pass = [each for each in self.findings if each.finding_id in answered and each.waivable]
        return GateResult([each for each in self.findings if each not in lets_pass], [*self.waived, *lets_pass])


def gate_broken_rules(results: list[RuleResult]) -> GateResult:
    """The verdict on rules of severity ``error`` that do not hold."""
    broken = [each for each in results if each.severity == "error" and not each.holds]
    return GateResult([Finding(_finding_id(each), format_rule_result(each), each.waivable) for each in broken])


def format_warnings(results: list[RuleResult]) -> list[str]:
    """A sentence for each rule of severity ``warning`` that does not hold."""
    return [format_rule_result(each) for each in results if each.severity == "warning" and not each.holds]


def gate_rejected_share(entity: str, landed: int, rejected: int, *, most: float, tolerated: int) -> GateResult:
    """The verdict on an entity of which too much was rejected: more than the share ``most``, and more than a few rows."""
    if rejected > tolerated and rejected / landed > most:
        text = f"{entity}: {rejected:,} of {landed:,} rows ({rejected / landed:.1%}) are rejected, more than {most:.1%}"
        return GateResult([Finding(f"{entity}: rejected share", text)])
    return GateResult()


def gate_differences(pairs: dict[str, tuple[Any, Any]]) -> GateResult:
    """The verdict on figures that must agree to the cent: name -> (published to be, from silver)."""
    return GateResult(
        [
            Finding(f"{name}: agrees with silver", f"{name}: {left} where silver gives {right}", waivable=False)
            for name, (left, right) in pairs.items()
            if left != right
        ]
    )


def format_rule_result(result: RuleResult) -> str:
    """What a broken rule found, for a message."""
    if result.measured:
        return f"{result.table}: '{result.rule}' does not hold: {result.measured}"
    rows = "row breaks" if result.failing == 1 else "rows break"
    return f"{result.table}: {result.failing:,} {rows} '{result.rule}'"


def _finding_id(result: RuleResult) -> str:
    return f"{result.table}: {result.rule}"
