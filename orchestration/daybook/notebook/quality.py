"""Stage 5: check the candidates against contracts, silver and the past, and publish them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta

from daybook.contracts import load_tables
from daybook.engines import DuckDBEngine
from daybook.errors import NotebookError
from daybook.notebook.approval import apply_approval
from daybook.notebook.context import Stage
from daybook.notebook.display import FactList, Listing
from daybook.notebook.publishing import open_candidates, publish_candidates
from daybook.notebook.stale_dates import hold_dates
from daybook.notebook.validate import format_rules, record_rules
from daybook.quality.anomaly import AnomalyScore, robust_z_score
from daybook.quality.checks import RuleResult, check_contract
from daybook.quality.gates import GateResult, format_warnings, gate_broken_rules, gate_differences
from daybook.quality.rules import table_rules


@dataclass
class Audit:
    """What the checks of the candidates of ``dates`` have found."""

    dates: list[date]
    definitions: dict[str, str] = field(default_factory=dict)
    """Queries that the notebook of the candidates has handed over, by name."""
    rules: list[RuleResult] = field(default_factory=list)
    figures: dict[str, tuple[object, object]] = field(default_factory=dict)
    """Pairs of figures that must be equal: of the candidates, and from silver."""
    notes: list[str] = field(default_factory=list)
    """Warnings of the notebook's own checks."""

    @property
    def verdict(self) -> GateResult:
        return GateResult(gate_broken_rules(self.rules).findings + gate_differences(self.figures).findings)

    @property
    def warnings(self) -> list[str]:
        """What is published with a warning."""
        return [*format_warnings(self.rules), *self.notes]

    @property
    def broken(self) -> Listing:
        """A row per rule that does not hold."""
        return format_rules(self.rules)

    @property
    def shared_definitions(self) -> FactList:
        """The definitions that the candidates were computed with, as SQL."""
        return FactList({name: " ".join(sql.split()) for name, sql in self.definitions.items()})


def open_audit(stage: Stage) -> Audit:
    """Open this run's candidates for checking, with ``touched`` and the definitions they were computed with.

    From here on the stage reads silver as it was when the candidates were computed.
    """
    before = set(stage.definitions)
    dates = open_candidates(stage)
    return Audit(dates, {name: sql for name, sql in stage.definitions.items() if name not in before})


def check_contracts(stage: Stage, audit: Audit) -> Listing:
    """Check every candidate against its contract; return a row per gold table."""
    rows = []
    for contract in load_tables("gold").values():
        found = check_contract(
            stage.engine, f"candidate.{contract.name}", contract, run_date=stage.run_date, known=_candidate_table
        )
        audit.rules += found
        if found:
            rows.append((contract.full_name, found[0].checked, len(found), sum(1 for each in found if each.failing)))
    return Listing(["table", "rows", "rules", "broken rules"], rows)


def reconcile(stage: Stage, audit: Audit, candidate: str, silver: str) -> Listing:
    """Require that two queries give the same figures, with no tolerance; return a row per figure.

    Parameters
    ----------
    stage
        The open stage.
    audit
        Gets the pairs of figures. A pair that differs stops the stage, and no approval lets it pass.
    candidate, silver
        Names of queries with one row each and the same columns: a column per figure.
    """
    left, right = (stage.engine.query(f"SELECT * FROM {name}") for name in (candidate, silver))
    if left.columns != right.columns:
        only = ", ".join(sorted(set(left.columns) ^ set(right.columns))) or "sorted differently"
        raise NotebookError(f"{candidate} and {silver} have different columns ({only}); name each figure in both.")
    (ours,), (theirs,) = left.fetchall(), right.fetchall()
    figures = dict(zip(left.columns, zip(ours, theirs)))
    audit.figures.update(figures)
    rows = [(name, mine, other, "yes" if mine == other else "NO") for name, (mine, other) in figures.items()]
    return Listing(["figure", "candidate", "from silver", "agrees"], rows)


def list_watched_figures() -> Listing:
    """Return a row per gold figure that the contracts compare with its past (``robustZScore``), with its threshold."""
    return Listing(
        ["figure", "threshold", "days compared", "beyond the threshold"],
        [
            (
                f"{contract.full_name}.{column}",
                settings.maximum,
                settings.days,
                "stops the day" if rule.severity == "error" else "is a warning",
            )
            for contract in load_tables("gold").values()
            for rule in table_rules(contract)
            if rule.history
            for column, settings in [rule.history]
        ],
    )


def check_past(stage: Stage, audit: Audit, past: Mapping[str, str]) -> Listing:
    """Compare the day's figures with those of the days before; return a row per figure.

    Parameters
    ----------
    stage
        The open stage.
    audit
        Gets the results.
    past
        The query that gives the earlier days of a gold table, by the table's name. It has the table's date and a column per
        watched figure. Other tables are compared with all their published days.
    """
    if stage.part_of is not None:
        # The past of a backfill's dates is complete only once all are published; `summarize_backfill` checks them then.
        return Listing(["checked"], [(f"once {stage.part_of} has published all its dates",)])
    found = check_history(stage.engine, stage.run_date, of_today="candidate", past=past)
    audit.rules += found
    rows = [
        (f"{each.table}: {each.rule}", each.checked, each.measured or "too few days", "yes" if each.holds else "NO")
        for each in found
    ]
    return Listing(["rule", "days", "measured", "holds"], rows)


def publish(stage: Stage, audit: Audit) -> None:
    """Publish the candidates, one atomic commit per table, if no check failed; end the stage."""
    if not audit.figures:
        raise NotebookError("No cell compares the candidates with silver; add a cell that calls quality.reconcile.")
    stage.details["warnings"] = audit.warnings
    checked = sum(each.checked for each in audit.rules if each.rule.endswith("is unique"))
    verdict = apply_approval(stage, audit.verdict)
    record_rules(stage, audit.rules, verdict, broken="rejected")
    if not verdict.passed:
        hold_dates(stage)
        stage.reject(verdict.reasons, rows_in=checked)
        return
    publish_candidates(stage, audit.dates)
    stage.succeed(rows_in=checked, rows_out=checked)


def _candidate_table(table: str) -> str:
    """Return where a foreign key of a gold table is looked up: the other table is published together with this one."""
    return f"candidate.{table.split('.')[1]}"


def check_history(engine: DuckDBEngine, day: date, *, of_today: str, past: Mapping[str, str] = {}) -> list[RuleResult]:
    """Check the contracts' rules on the past of figures (``robustZScore``) for one date.

    Parameters
    ----------
    engine
        The engine that reads the tables.
    day
        The business date.
    of_today
        The layer that has the figures of ``day``: ``candidate`` or ``gold``.
    past
        The query that gives the days before, by the table's name; the published table if absent.

    Returns
    -------
    list of RuleResult
        One per rule. ``checked`` is the number of days compared.
    """
    results = []
    for contract in load_tables("gold").values():
        rules = [(rule, *rule.history) for rule in table_rules(contract) if rule.history is not None]
        if not rules:
            continue
        (when,) = contract.partition_by
        columns = sorted({column for _, column, _ in rules})
        since = day - timedelta(days=max(settings.days for _, _, settings in rules))
        rows = engine.rows(
            f"SELECT {when}, {', '.join(columns)} FROM {past.get(contract.full_name, contract.full_name)} "
            f"WHERE {when} < DATE '{day}' AND {when} >= DATE '{since}' ORDER BY {when}"
        )
        today = engine.rows(f"SELECT {', '.join(columns)} FROM {of_today}.{contract.name} WHERE {when} = DATE '{day}'")
        for rule, column, settings in rules:
            at = columns.index(column)
            since = day - timedelta(days=settings.days)
            known = [(row[0], float(row[1 + at])) for row in rows if row[1 + at] is not None and row[0] >= since]
            figures = [float(row[at]) for row in today if row[at] is not None]
            value = figures[0] if figures else 0.0
            score = robust_z_score(known, day, value)
            holds = score is None or abs(score.z_score) <= settings.maximum
            measured = "" if score is None else _format_score(day, value, score, settings.maximum)
            results.append(
                RuleResult(contract.full_name, rule.name, len(known), int(not holds), rule.severity, holds, measured)
            )
    return results


def _format_score(day: date, value: float, score: AnomalyScore, maximum: float) -> str:
    direction = "above" if score.z_score > 0 else "below"
    return (
        f"{value:,.2f} is {direction} the {score.expected:,.2f} that {day:%A}s of the last {score.days} days let "
        f"expect (robust z-score {score.z_score:+.1f}, usual is up to {maximum:g})"
    )
