"""Stage 5: check the candidates against contracts, silver and the past, and publish them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import partial
from typing import Optional

from daybook.contracts import LAYERS, Table, load_tables
from daybook.contracts.canonical import business_date_column
from daybook.contracts.columns import find_column
from daybook.engines import Query
from daybook.errors import NotebookError, StageError
from daybook.notebook.aggregate import TOUCHED, count_rows, pin_tables, read_basis
from daybook.notebook.basis import CandidateBasis
from daybook.notebook.context import Stage
from daybook.notebook.display import FactList, Listing
from daybook.notebook.gate import format_range_rules, format_rules
from daybook.notebook.past import History, list_history_rules, read_history
from daybook.notebook.publishing import publish_candidates
from daybook.notebook.refusals import refuse_dates
from daybook.notebook.stale_dates import dates_table
from daybook.quality.checks import RuleResult, check_contract, check_contract_by_date
from daybook.quality.gates import Finding, format_warnings, gate_broken_rules, gate_differences


@dataclass
class Audit:
    """What the checks of a run's candidates have found."""

    basis: CandidateBasis
    rules: dict[date, list[RuleResult]] = field(default_factory=dict)
    """By run date, the results of its rules."""
    history: Optional[History] = None
    """The figures to compare with their past; None if that is checked later."""
    figures: dict[date, dict[str, tuple[object, object]]] = field(default_factory=dict)
    """By date, pairs of figures that must be equal: of the candidates, and from silver."""
    notes: dict[date, list[str]] = field(default_factory=dict)
    """By run date, warnings of the notebook's own checks."""

    @property
    def dates(self) -> list[date]:
        """The dates of the candidates."""
        return self.basis.dates

    def note(self, day: date, text: str) -> None:
        """Publish a run date with a warning. A date that does not continue is ignored."""
        day = day.date() if isinstance(day, datetime) else day
        if day in self.basis.run_dates:
            self.notes.setdefault(day, []).append(text)

    def results(self, day: date, refused: Collection[date] = ()) -> list[RuleResult]:
        """Return the results of a run date, given the refused dates before it."""
        return [*self.rules.get(day, ()), *self._check_history(day, refused)]

    def _check_history(self, day: date, refused: Collection[date]) -> list[RuleResult]:
        """Compare the figures of a run date with their past, in which the run dates before it are published."""
        if self.history is None:
            return []
        replaced = {
            each
            for each, touched_by in self.basis.touched_by.items()
            if each < day and each not in refused and any(other < day and other not in refused for other in touched_by)
        }
        if self.basis.run_dates[0] < day:
            replaced.update(self.basis.shared)
        return self.history.check(day, replaced)

    def warnings_of(self, day: date) -> list[str]:
        """Return what a run date is published with as a warning."""
        return [*format_warnings(self.results(day)), *self.notes.get(day, ())]

    @property
    def warnings(self) -> list[str]:
        """What is published with a warning; for a range, with the date."""
        found = {day: self.warnings_of(day) for day in self.basis.run_dates}
        if len(found) == 1:
            return next(iter(found.values()))
        return [f"{day}: {text}" for day, texts in found.items() for text in texts]

    @property
    def broken(self) -> Listing:
        """A row per rule that does not hold, on any date of a range."""
        found = {day: self.results(day) for day in self.basis.run_dates}
        if len(found) == 1:
            return format_rules(*found.values())
        return format_range_rules(found)

    @property
    def shared_definitions(self) -> FactList:
        """The definitions that the candidates were computed with, as SQL."""
        return FactList({name: " ".join(sql.split()) for name, sql in self.basis.definitions.items()})


def open_audit(stage: Stage) -> Audit:
    """Open this run's candidates for checking, with ``touched`` and the definitions they were computed with.

    From here on the stage reads the candidates, and silver as it was when they were computed: what other dates merge in the
    meantime makes no difference. Raises ``StageError`` if the candidates are absent or incomplete.
    """
    basis = read_basis(stage)
    if set(basis.candidates) != {f"candidate.{each.name}" for each in load_tables("gold").values()}:
        raise StageError(f"The candidates of {stage.day} are not complete; run 4_aggregate for that date first.")
    pin_tables(stage, {**basis.snapshot.versions, **basis.candidates})
    stage.engine.register(TOUCHED, dates_table(basis.dates))
    for name, sql in basis.definitions.items():
        stage.define(name, sql)
    return Audit(basis)


def check_contracts(stage: Stage, audit: Audit) -> Listing:
    """Check every candidate against its contract; return a row per gold table.

    Each run date is checked by the dates that it touched, and by the tables without dates as they are after the last one.
    """
    rows = []
    touched = {day: audit.basis.touched(day) for day in stage.dates}
    for contract in load_tables("gold").values():
        found = _check_candidate(stage, audit, contract, touched)
        for day, results in found.items():
            audit.rules.setdefault(day, []).extend(results)
        every = [each for results in found.values() for each in results]
        if every:
            (count,) = stage.engine.fetch_row(f"SELECT count(*) FROM candidate.{contract.name}")
            broken = {each.rule for each in every if each.failing}
            rows.append((contract.full_name, count, len({each.rule for each in every}), len(broken)))
    return Listing(["table", "rows", "rules", "broken rules"], rows)


def _check_candidate(
    stage: Stage, audit: Audit, contract: Table, touched: Mapping[date, Sequence[date]]
) -> dict[date, list[RuleResult]]:
    """Check the candidate of a table for run dates that have touched these dates."""
    candidate = f"candidate.{contract.name}"
    if contract.date_column and audit.basis.run_dates != list(touched)[:1]:
        return check_contract_by_date(stage.engine, candidate, contract, touched, known=_candidate_table)
    results = check_contract(stage.engine, candidate, contract, run_date=audit.basis.run_dates[-1], known=_candidate_table)
    return dict.fromkeys(touched, results)


def reconcile(stage: Stage, audit: Audit, candidate: str, silver: str) -> Listing:
    """Require that two queries give the same figures of each date, with no tolerance; return a row per figure.

    Parameters
    ----------
    stage
        The open stage.
    audit
        Gets the pairs of figures. A pair that differs rejects a run date that touched its date. No approval lets it pass.
    candidate, silver
        Names of queries with a row per date and the same columns: the date, and a column per figure.
    """
    left, right = (stage.engine.query(f"SELECT * FROM {name}") for name in (candidate, silver))
    if left.columns != right.columns:
        only = ", ".join(sorted(set(left.columns) ^ set(right.columns))) or "sorted differently"
        raise NotebookError(f"{candidate} and {silver} have different columns ({only}); name each figure in both.")
    when = find_column(left.columns, business_date_column())
    if when is None:
        raise NotebookError(f"{candidate} has no column {business_date_column()}; select a row per date, with the date.")
    place = left.columns.index(when)
    names = [name for name in left.columns if name != when]

    def read(query: Query) -> dict[date, tuple[object, ...]]:
        rows = query.fetchall()
        found = {row[place]: (*row[:place], *row[place + 1 :]) for row in rows}
        if len(found) < len(rows):
            raise NotebookError(f"{candidate} or {silver} has several rows of a date; group each by {when}.")
        return found

    ours, theirs = read(left), read(right)
    nothing = (None,) * len(names)
    days = sorted({*ours, *theirs}, key=str)
    for day in days:
        both = zip(ours.get(day, nothing), theirs.get(day, nothing))
        audit.figures.setdefault(day, {}).update(zip(names, both))
    rows = []
    for name in names:
        pairs = [audit.figures[day][name] for day in days]
        wrong = [day for day, (mine, other) in zip(days, pairs) if mine != other]
        totals = (sum(each or 0 for each in side) for side in zip(*pairs)) if pairs else (0, 0)
        rows.append((name, *totals, f"NO: {', '.join(map(str, wrong))}" if wrong else "yes"))
    return Listing(["figure", "candidate", "from silver", "agrees"], rows)


def check_past(stage: Stage, audit: Audit, past: Mapping[str, str]) -> Listing:
    """Compare the figures that contracts watch (``robustZScore``) with those of the days before; return a row per figure.

    Each date of a range is compared with the past that it would have one date after the other: published days, and the
    candidates of the dates before it.

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
    watched = [
        (f"{contract.full_name}.{column}", settings.maximum, "stops the day" if rule.severity == "error" else "is a warning")
        for contract, rule, column, settings in list_history_rules()
    ]
    beyond = ["threshold", "beyond the threshold"]
    if stage.part_of is not None:
        # The past of a backfill's dates is complete only once all are published; `summarize_backfill` checks them then.
        for day in stage.dates:
            stage.results[day].details["past"] = sql
        later = f"once {stage.part_of} has published all its dates"
        return Listing(
            ["figure", "days", "measured", "holds", *beyond], [(name, None, later, "", *rest) for name, *rest in watched]
        )
    audit.history = read_history(stage.engine, stage.dates, of_today="candidate", past=sql)
    found = [audit.results(day)[len(audit.rules.get(day, ())) :] for day in stage.dates]
    if stage.is_range:
        unusual = [sum(not each.holds for each in results) for results in zip(*found)]
        return Listing(
            ["figure", "dates", "unusual dates", *beyond],
            [(name, len(found), count, *rest) for (name, *rest), count in zip(watched, unusual)],
        )
    return Listing(
        ["figure", "days", "measured", "holds", *beyond],
        [
            (name, each.checked, each.measured or "too few days", "yes" if each.holds else "NO", *rest)
            for (name, *rest), each in zip(watched, found[0])
        ],
    )


def publish(stage: Stage, audit: Audit) -> None:
    """Publish the candidates of the dates in which no check failed, one atomic commit per table; end the stage."""
    if not audit.figures:
        raise NotebookError("No cell compares the candidates with silver; add a cell that calls quality.reconcile.")
    basis = audit.basis
    rows: dict[date, int] = dict.fromkeys(basis.run_dates, 0)
    for contract in load_tables("gold").values():
        for day, count in count_rows(stage, f"candidate.{contract.name}", basis).items():
            rows[day] += count
    refused = refuse_dates(stage, basis, partial(_find_findings, stage, audit), rows)
    if not stage.dates:
        return
    publish_candidates(stage, basis.leave_out(refused))
    stage.succeed(by_date={day: {"in": rows[day], "out": rows[day]} for day in stage.dates})


def _find_findings(
    stage: Stage, audit: Audit, day: date, touched: Sequence[date], refused: Collection[date]
) -> tuple[list[Finding], list[RuleResult]]:
    """Return what is against publishing these dates, which a run date has touched, and the results of all rules."""
    if len(touched) < len(audit.basis.touched(day)) and day in touched:
        # The rows of a refused date before it are left out, so they cannot break a rule of this date.
        found = [_check_candidate(stage, audit, each, {day: touched}) for each in load_tables("gold").values()]
        audit.rules[day] = [each for results in found for each in results[day]]
    rules = audit.results(day, refused)
    stage.results[day].warnings[:] = [*format_warnings(rules), *audit.notes.get(day, ())]
    known = {*audit.dates}
    # A date of the candidates that no run date has touched is wrong for all of them.
    figures = {each: pairs for each, pairs in audit.figures.items() if each in touched or each not in known}
    return gate_broken_rules(rules) + gate_differences(figures), rules


def _candidate_table(table: str) -> str:
    """Return where a foreign key of a gold table is looked up: the other table is published together with this one."""
    return f"candidate.{table.split('.')[1]}"
