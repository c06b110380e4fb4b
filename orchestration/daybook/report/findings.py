"""Read findings of a run's gates from its record, and the figures that it restated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterable, List, Optional, Tuple

from daybook.records.models import BackfillRecord, RawRead, Restatement, RuleResult, RunRecord, StageDetails
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


@dataclass(frozen=True)
class UnusualDay:
    """What a backfill found unusual about a date, compared with the weeks before it."""

    backfill_id: str
    severity: str
    warning: str


@dataclass(frozen=True)
class RowAccounting:
    """Where the rows of one entity went: landed = accepted + quarantined + duplicates."""

    entity: str
    landed: int
    accepted: int
    quarantined: int
    duplicates: int

    @property
    def adds_up(self) -> bool:
        return self.landed == self.accepted + self.quarantined + self.duplicates


def list_rule_results(run: RunRecord) -> List[RuleResults]:
    """Return the rules of each stage that checked any, from its last attempt, in the order of stages."""
    found = []
    for stage, attempt in records.last_attempts(run).items():
        details = attempt.details
        if details.rules or details.rules_checked:
            broken = sorted(details.rules, key=lambda rule: (rule.severity != "error", -rule.failing))
            found.append(RuleResults(stage, details.rules_checked, tuple(broken)))
    return found


def list_row_accounting(run: RunRecord) -> List[RowAccounting]:
    """Return where the landed rows went by entity, and their sum if there are several entities."""
    counted = stage_details(run, "validate").accounting
    found = [
        RowAccounting(entity, rows.landed, rows.accepted, rows.quarantined, rows.duplicates) for entity, rows in counted.items()
    ]
    if len(found) > 1:
        parts = ("landed", "accepted", "quarantined", "duplicates")
        found.append(RowAccounting("all", *(sum(getattr(each, part) for each in found) for part in parts)))
    return found


def list_restatements(run: RunRecord) -> List[Restatement]:
    """Return the other dates whose figures the run changed, ascending."""
    return sorted(stage_details(run, "quality").restated, key=lambda each: each.order_date)


def list_figures(restatements: Iterable[Restatement]) -> List[str]:
    """Return the names of the figures of restated dates, in the order in which the record has them."""
    return list(dict.fromkeys(name for each in restatements for figures in (each.before, each.after) for name in figures or ()))


def list_unusual_days(backfills: Iterable[BackfillRecord]) -> Dict[str, List[UnusualDay]]:
    """Return what backfills found unusual about their dates after all were published, by the run of the date."""
    found: Dict[str, List[UnusualDay]] = {}
    for backfill in backfills:
        runs = {each.run_date: each.run_id for each in backfill.results or []}
        for each in backfill.unusual_days:
            of_run = found.setdefault(str(runs.get(each.run_date)), [])
            of_run.append(UnusualDay(backfill.backfill_id, each.severity, each.warning))
    return found


def count_redactions(run: RunRecord) -> Dict[str, int]:
    """Return the number of values that were replaced before the run was archived, by column."""
    total: Dict[str, int] = {}
    for redactions in (run.redactions, *(each.redactions for each in run.stages)):
        for column, count in redactions.items():
            total[column] = total.get(column, 0) + count
    return dict(sorted(total.items()))


def list_raw_reads(run: RunRecord) -> List[RawRead]:
    """Return the reads of raw values, in the order of attempts."""
    return [each for attempt in run.stages for each in attempt.details.raw_reads]


def list_lineage_errors(run: RunRecord) -> List[str]:
    """Return why the lineage of some tables is not known."""
    return [gap for attempt in records.last_attempts(run).values() for gap in attempt.details.lineage_gaps]


def stage_details(run: RunRecord, stage: str) -> StageDetails:
    """Return what a stage's last attempt added to its record; empty if there is none."""
    attempt = records.last_attempts(run).get(stage)
    return attempt.details if attempt else StageDetails()
