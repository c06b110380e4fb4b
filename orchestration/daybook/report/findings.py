"""What a run's gates found and decided, and what that changed for readers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from daybook.report import records
from daybook.report.records import Record


@dataclass(frozen=True)
class RuleResults:
    """What the rules of one stage found: how many were asked, and those that something broke, be it within limits."""

    stage: str
    checked: Optional[int]
    broken: Tuple[Record, ...]

    @property
    def within_limits(self) -> int:
        """How many of the broken ones allow for as much."""
        return sum(rule.get("outcome") == "within limits" for rule in self.broken)


@dataclass(frozen=True)
class UnusualDay:
    """What a backfill found unusual about one of its days, held against the weeks before it."""

    backfill_id: str
    severity: str
    warning: str


@dataclass(frozen=True)
class Restatement:
    """One date as readers saw it and see it now; ``before`` is empty where it was not published."""

    order_date: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]


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


def list_rule_results(run: Record) -> List[RuleResults]:
    """The stages that asked rules, in their order; of a stage, the attempt that counts."""
    found = []
    for stage, attempt in records.last_attempts(run).items():
        details = _attempt_details(attempt)
        if details.get("rules") or details.get("rules_checked"):
            broken = sorted(details.get("rules") or [], key=lambda rule: (rule.get("severity") != "error", -rule["failing"]))
            found.append(RuleResults(stage, details.get("rules_checked"), tuple(broken)))
    return found


def list_row_accounting(run: Record) -> List[RowAccounting]:
    """Where validation says the landed rows went, by entity, and their sum where there is more than one."""
    told = _stage_details(run, "validate").get("accounting") or {}
    parts = ("landed", "accepted", "quarantined", "duplicates")
    found = [RowAccounting(entity, *(int(counts.get(part) or 0) for part in parts)) for entity, counts in told.items()]
    if len(found) > 1:
        found.append(RowAccounting("all", *(sum(getattr(each, part) for each in found) for part in parts)))
    return found


def list_restatements(run: Record) -> List[Restatement]:
    """The dates that the run has published anew, besides its own, ascending."""
    told = _stage_details(run, "quality").get("restated") or []
    found = [Restatement(str(each["order_date"]), each.get("before") or {}, each.get("after") or {}) for each in told]
    return sorted(found, key=lambda each: each.order_date)


def list_figures(restatements: Iterable[Restatement]) -> List[str]:
    """Return the names of the figures of restated dates, in the order in which the record has them."""
    return list(dict.fromkeys(name for each in restatements for figures in (each.before, each.after) for name in figures or ()))


def list_stage_dates(run: Record, stage: str, name: str) -> List[str]:
    """The dates that a stage lists under a name: ``held_dates``, ``left_to_newer``."""
    return [str(day) for day in _stage_details(run, stage).get(name) or []]


def list_unusual_days(backfills: Iterable[Record]) -> Dict[str, List[UnusualDay]]:
    """Return what backfills found unusual about their days once all were published, by the run of the day."""
    found: Dict[str, List[UnusualDay]] = {}
    for backfill in backfills:
        runs = {each["run_date"]: each["run_id"] for each in backfill.get("results") or []}
        for each in backfill.get("unusual_days") or []:
            of_run = found.setdefault(str(runs.get(each["run_date"])), [])
            of_run.append(UnusualDay(str(backfill["backfill_id"]), str(each["severity"]), str(each["warning"])))
    return found


def count_redactions(run: Record) -> Dict[str, int]:
    """How many values were replaced before the run was archived, by the column they are from."""
    total: Dict[str, int] = {}
    for record in [run, *records.list_attempts(run)]:
        for column, count in (record.get("redactions") or {}).items():
            total[column] = total.get(column, 0) + count
    return dict(sorted(total.items()))


def list_raw_reads(run: Record) -> List[Record]:
    """Return who read raw values in which cell and why, in the order of attempts."""
    return [each for attempt in records.list_attempts(run) for each in _attempt_details(attempt).get("raw_reads") or []]


def list_lineage_errors(run: Record) -> List[str]:
    """Why the lineage of some table is not there."""
    return [
        gap for attempt in records.last_attempts(run).values() for gap in _attempt_details(attempt).get("lineage_gaps") or []
    ]


def _stage_details(run: Record, stage: str) -> Mapping[str, Any]:
    return _attempt_details(records.last_attempts(run).get(stage) or {})


def _attempt_details(attempt: Record) -> Mapping[str, Any]:
    return attempt.get("details") or {}
