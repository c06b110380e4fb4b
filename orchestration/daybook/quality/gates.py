"""Find the reasons for which a gate rejects data. Without findings it passes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from daybook.quality.checks import RuleResult


@dataclass(frozen=True)
class Finding:
    """A reason to reject data. ``finding_id`` is the same in every run, ``text`` has the figures."""

    finding_id: str
    text: str
    waivable: bool = True


def gate_broken_rules(results: list[RuleResult]) -> list[Finding]:
    """Reject data that breaks rules of severity ``error``."""
    broken = [each for each in results if each.severity == "error" and not each.holds]
    return [Finding(f"{each.table}: {each.rule}", format_rule_result(each), each.waivable) for each in broken]


def format_warnings(results: list[RuleResult]) -> list[str]:
    """Return a sentence for each broken rule of severity ``warning``."""
    return [format_rule_result(each) for each in results if each.severity == "warning" and not each.holds]


def gate_rejected_share(entity: str, landed: int, rejected: int, *, most: float, tolerated: int) -> list[Finding]:
    """Reject an entity with more than ``tolerated`` rejected rows and a rejected share above ``most`` (0 to 1)."""
    if rejected <= tolerated or rejected / landed <= most:
        return []
    text = f"{entity}: {rejected:,} of {landed:,} rows ({rejected / landed:.1%}) are rejected, more than {most:.1%}"
    return [Finding(f"{entity}: rejected share", text)]


def gate_differences(figures: Mapping[date, Mapping[str, tuple[Any, Any]]]) -> list[Finding]:
    """Reject figures that differ: date -> name -> (gold, computed from silver)."""
    differing: dict[str, list[str]] = {}
    for day, pairs in figures.items():
        for name, (left, right) in pairs.items():
            if left != right:
                differing.setdefault(name, []).append(f"{left} where silver gives {right} on {day}")
    texts = {name: f"{name}: {', '.join(found)}" for name, found in differing.items()}
    return [Finding(f"{name}: agrees with silver", text, waivable=False) for name, text in texts.items()]


def format_rule_result(result: RuleResult) -> str:
    """Return a sentence about a broken rule."""
    if result.measured:
        return f"{result.table}: '{result.rule}' does not hold: {result.measured}"
    rows = "row breaks" if result.failing == 1 else "rows break"
    return f"{result.table}: {result.failing:,} {rows} '{result.rule}'"
