"""Stage 5: check the candidates against contracts, silver and the past, and publish them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Optional

from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.model import RobustZScore
from daybook.engines import DuckDBEngine
from daybook.errors import NotebookError, StageError
from daybook.notebook.aggregate import TOUCHED, CandidateBasis, pin_tables, read_touched_dates
from daybook.notebook.context import Stage
from daybook.notebook.display import FactList, Listing
from daybook.notebook.gate import apply_approval, format_rules
from daybook.notebook.publishing import publish_candidates
from daybook.notebook.stale_dates import dates_table, hold_dates
from daybook.quality.anomaly import AnomalyScore, robust_z_score
from daybook.quality.checks import RuleResult, check_contract
from daybook.quality.gates import format_warnings, gate_broken_rules, gate_differences
from daybook.quality.rules import Rule, table_rules


@dataclass
class Audit:
    """What the checks of the candidates of ``dates`` have found."""

    dates: list[date]
    basis: CandidateBasis
    rules: list[RuleResult] = field(default_factory=list)
    figures: dict[str, tuple[object, object]] = field(default_factory=dict)
    """Pairs of figures that must be equal: of the candidates, and from silver."""
    notes: list[str] = field(default_factory=list)
    """Warnings of the notebook's own checks."""

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
        return FactList({name: " ".join(sql.split()) for name, sql in self.basis.definitions.items()})


def open_audit(stage: Stage) -> Audit:
    """Open this run's candidates for checking, with ``touched`` and the definitions they were computed with.

    From here on the stage reads the candidates, and silver as it was when they were computed: what other dates merge in the
    meantime makes no difference. Raises ``StageError`` if the candidates are absent or incomplete.
    """
    dates, basis = read_touched_dates(stage)
    if set(basis.candidates) != {f"candidate.{each.name}" for each in load_tables("gold").values()}:
        raise StageError(f"The candidates of {stage.day} are not complete; run 4_aggregate for that date first.")
    pin_tables(stage, {**basis.snapshot.versions, **basis.candidates})
    stage.engine.register(TOUCHED, dates_table(dates))
    for name, sql in basis.definitions.items():
        stage.define(name, sql)
    return Audit(dates, basis)


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


def check_past(stage: Stage, audit: Audit, past: Mapping[str, str]) -> Listing:
    """Compare the figures that contracts watch (``robustZScore``) with those of the days before; return a row per figure.

    Parameters
    ----------
    stage
        The open stage.
    audit
        Gets the results.
    past
        The query that gives the earlier days of a gold table, by the table's name. It has the table's date and a column per
        watched figure, and reads only tables of silver and gold. Other tables are compared with all their published days.
    """
    for name in past.values():
        if name not in stage.definitions:
            raise NotebookError(f"No %%sql cell defines {name}; add one that gives the earlier days.")
    sql = {table: stage.definitions[name] for table, name in past.items()}
    for table, name in past.items():
        if not {each.split(".")[0] for each in stage.engine.referenced_tables(sql[table])} <= set(LAYERS):
            raise NotebookError(f"{name} gives the past of {table}, so it may read only tables of silver and gold; change it.")
    results: list[tuple[Optional[int], str, str]]
    if stage.part_of is None:
        found = check_history(stage.engine, stage.run_date, of_today="candidate", past=sql)
        audit.rules += found
        results = [(each.checked, each.measured or "too few days", "yes" if each.holds else "NO") for each in found]
    else:
        # The past of a backfill's dates is complete only once all are published; `summarize_backfill` checks them then.
        stage.details["past"] = sql
        results = [(None, f"once {stage.part_of} has published all its dates", "") for _ in _history_rules()]
    return Listing(
        ["figure", "days", "measured", "holds", "threshold", "beyond the threshold"],
        [
            (
                f"{contract.full_name}.{column}",
                *result,
                settings.maximum,
                "stops the day" if rule.severity == "error" else "is a warning",
            )
            for (contract, rule, column, settings), result in zip(_history_rules(), results)
        ],
    )


def publish(stage: Stage, audit: Audit) -> None:
    """Publish the candidates, one atomic commit per table, if no check failed; end the stage."""
    if not audit.figures:
        raise NotebookError("No cell compares the candidates with silver; add a cell that calls quality.reconcile.")
    stage.warnings[:] = audit.warnings
    checked = sum(each.checked for each in audit.rules if each.rule.endswith("is unique"))
    reasons = apply_approval(
        stage, stage.run_date, gate_broken_rules(audit.rules) + gate_differences(audit.figures), audit.rules
    )
    if reasons:
        hold_dates(stage, [stage.run_date])
        stage.reject(reasons, rows_in=checked)
        return
    publish_candidates(stage, audit.dates, audit.basis)
    stage.succeed(rows_in=checked, rows_out=checked)


def _candidate_table(table: str) -> str:
    """Return where a foreign key of a gold table is looked up: the other table is published together with this one."""
    return f"candidate.{table.split('.')[1]}"


def _history_rules() -> list[tuple[Table, Rule, str, RobustZScore]]:
    """Return the rules of gold on the past of a figure, each with the figure's column and its settings."""
    return [
        (contract, rule, *rule.history)
        for contract in load_tables("gold").values()
        for rule in table_rules(contract)
        if rule.history
    ]


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
        SQL that gives the days before, by the table's name; the published table if absent.

    Returns
    -------
    list of RuleResult
        One per rule. ``checked`` is the number of days compared.
    """
    results = []
    for contract, rules in groupby(_history_rules(), key=itemgetter(0)):
        watched = [each[1:] for each in rules]
        when = contract.date_column
        columns = ", ".join([when, *(column for _, column, _ in watched)])
        first = day - timedelta(days=max(settings.days for _, _, settings in watched))
        rows = engine.rows(
            f"SELECT {columns} FROM (\n{past.get(contract.full_name, f'SELECT * FROM {contract.full_name}')}\n) AS past "
            f"WHERE {when} < DATE '{day}' AND {when} >= DATE '{first}' "
            f"UNION ALL SELECT {columns} FROM {of_today}.{contract.name} WHERE {when} = DATE '{day}'"
        )
        for number, (rule, _, settings) in enumerate(watched, start=1):
            since = day - timedelta(days=settings.days)
            figures = {row[0]: float(row[number]) for row in rows if row[number] is not None and row[0] >= since}
            value = figures.pop(day, 0.0)
            score = robust_z_score(figures, day, value)
            holds = score is None or abs(score.z_score) <= settings.maximum
            measured = "" if score is None else _format_score(day, value, score, settings.maximum)
            results.append(
                RuleResult(contract.full_name, rule.name, len(figures), int(not holds), rule.severity, holds, measured)
            )
    return results


def _format_score(day: date, value: float, score: AnomalyScore, maximum: float) -> str:
    direction = "above" if score.z_score > 0 else "below"
    return (
        f"{value:,.2f} is {direction} the {score.expected:,.2f} that {day:%A}s of the last {score.days} days let "
        f"expect (robust z-score {score.z_score:+.1f}, usual is up to {maximum:g})"
    )
