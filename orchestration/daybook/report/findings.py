"""Read findings of a run's gates from its record, and the figures that it restated."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from daybook.records.models import BackfillRecord, EntityRows, Restatement, RuleResult, RunRecord, StageDetails
from daybook.report import records


@dataclass(frozen=True)
class RuleResults:
    """The rules of one stage: how many were checked, and those that some rows break."""

    stage: str
    checked: Optional[int]
    broken: Tuple[RuleResult, ...]

    @property
    def within_limits(self) -> int:
        """The number of broken rules whose limits allow it."""
        return sum(rule.outcome == "within limits" for rule in self.broken)


class UnusualDay(NamedTuple):
    """What a backfill found unusual about a date, compared with the weeks before it."""

    backfill_id: str
    severity: str
    warning: str


def list_rule_results(run: RunRecord) -> List[RuleResults]:
    """Return the rules of each stage that checked any, from its last attempt, in the order of stages."""
    found = []
    for stage, attempt in records.last_attempts(run).items():
        details = attempt.details
        if details.rules or details.rules_checked:
            broken = sorted(details.rules, key=lambda rule: (rule.severity != "error", -rule.failing))
            found.append(RuleResults(stage, details.rules_checked, tuple(broken)))
    return found


def list_row_accounting(run: RunRecord) -> Dict[str, EntityRows]:
    """Return where the landed rows went by entity, and their sum if there are several entities."""
    found = stage_details(run, "validate").accounting
    if len(found) < 2:
        return found
    parts = ("landed", "accepted", "quarantined", "duplicates")
    return {**found, "all": EntityRows(**{part: sum(getattr(each, part) for each in found.values()) for part in parts})}


def order_figures(run: RunRecord) -> Dict[str, Any]:
    """Return the figures in the summary of a run, in the order of its notebook: records are stored with sorted keys."""
    figures = run.summary or {}
    order = [name for attempt in run.stages for name in attempt.details.figures]
    return {**{name: figures[name] for name in order if name in figures}, **figures}


def list_restatements(run: RunRecord) -> List[Restatement]:
    """Return the other dates whose figures the run changed, ascending."""
    return sorted(stage_details(run, "quality").restated, key=lambda each: each.business_date)


def list_figures(restatements: Iterable[Restatement]) -> List[str]:
    """Return the names of the figures of restated dates, in the order in which the record has them."""
    return list(dict.fromkeys(name for each in restatements for figures in (each.before, each.after) for name in figures or ()))


def list_unusual_days(backfills: Iterable[BackfillRecord]) -> Dict[str, List[UnusualDay]]:
    """Return what backfills found unusual about their dates after all were published, by the run of the date."""
    found: Dict[str, List[UnusualDay]] = {}
    for backfill in backfills:
        runs = {each.run_date: each.run_id for each in backfill.results or []}
        for each in backfill.unusual_days:
            unusual = UnusualDay(backfill.backfill_id, each.severity, each.warning)
            found.setdefault(str(runs.get(each.run_date)), []).append(unusual)
    return found


def count_redactions(run: RunRecord) -> Dict[str, int]:
    """Return the number of values that were replaced before the run was archived, by column."""
    total = sum(map(Counter, [run.redactions, *(each.redactions for each in run.stages)]), Counter[str]())
    return dict(sorted(total.items()))


def stage_details(run: RunRecord, stage: str) -> StageDetails:
    """Return what a stage's last attempt added to its record; empty if there is none."""
    attempt = records.last_attempts(run).get(stage)
    return attempt.details if attempt else StageDetails()
