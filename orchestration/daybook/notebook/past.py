"""Compare figures of gold with those of the days before, by the contracts' rules on the past (``robustZScore``)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from daybook.contracts import Table, load_tables
from daybook.contracts.model import RobustZScore
from daybook.engines import DuckDBEngine
from daybook.quality.anomaly import AnomalyScore, robust_z_score
from daybook.quality.checks import RuleResult
from daybook.quality.rules import Rule, table_rules


@dataclass(frozen=True)
class _Watched:
    """The watched figures of a table: those of the days before as published, and those of the dates to check."""

    contract: Table
    rules: Sequence[tuple[Rule, str, RobustZScore]]
    published: Mapping[date, Sequence[Any]]
    of_today: Mapping[date, Sequence[Any]]


@dataclass(frozen=True)
class History:
    """The figures that contracts watch, and their past."""

    tables: Sequence[_Watched]

    def check(self, day: date, replaced: Collection[date] = ()) -> list[RuleResult]:
        """Check the rules for a date; ``checked`` of a result is the number of days compared.

        ``replaced`` are earlier dates whose figures are those to check, as if these were published.
        """
        results = []
        for table in self.tables:
            past = {when: row for when, row in table.published.items() if when < day and when not in replaced}
            past.update((when, table.of_today[when]) for when in replaced if when < day and when in table.of_today)
            today = table.of_today.get(day)
            for number, (rule, _, settings) in enumerate(table.rules):
                since = day - timedelta(days=settings.days)
                figures = {when: float(row[number]) for when, row in past.items() if row[number] is not None and when >= since}
                value = float(today[number]) if today and today[number] is not None else 0.0
                score = robust_z_score(figures, day, value)
                holds = score is None or abs(score.z_score) <= settings.maximum
                measured = "" if score is None else _format_score(day, value, score, settings.maximum)
                name = table.contract.full_name
                results.append(RuleResult(name, rule.name, len(figures), int(not holds), rule.severity, holds, measured))
        return results


def list_history_rules() -> list[tuple[Table, Rule, str, RobustZScore]]:
    """Return the rules of gold on the past of a figure, each with the figure's column and its settings."""
    return [
        (contract, rule, *rule.history)
        for contract in load_tables("gold").values()
        for rule in table_rules(contract)
        if rule.history
    ]


def read_history(engine: DuckDBEngine, days: Sequence[date], *, of_today: str, past: Mapping[str, str] = {}) -> History:
    """Read the figures of business dates and of the days before them, with one query per table.

    Parameters
    ----------
    engine
        The engine that reads the tables.
    days
        The business dates to check.
    of_today
        The layer that has the figures of ``days``: ``candidate`` or ``gold``.
    past
        SQL that gives the days before, by the table's name; the published table if absent.
    """
    tables = []
    for contract, rules in groupby(list_history_rules(), key=itemgetter(0)):
        watched = [each[1:] for each in rules]
        when = contract.date_column
        columns = ", ".join([when, *(column for _, column, _ in watched)])
        first, last = min(days) - timedelta(days=max(settings.days for _, _, settings in watched)), max(days)
        earlier = past.get(contract.full_name, f"SELECT * FROM {contract.full_name}")
        rows = engine.rows(
            f"SELECT FALSE AS of_today, {columns} FROM (\n{earlier}\n) AS past "
            f"WHERE {when} < DATE '{last}' AND {when} >= DATE '{first}' UNION ALL "
            f"SELECT TRUE, {columns} FROM {of_today}.{contract.name} WHERE {when} BETWEEN DATE '{first}' AND DATE '{last}'"
        )
        published, current = (
            {day: figures for is_current, day, *figures in rows if is_current == wanted} for wanted in (False, True)
        )
        tables.append(_Watched(contract, watched, published, current))
    return History(tables)


def _format_score(day: date, value: float, score: AnomalyScore, maximum: float) -> str:
    direction = "above" if score.z_score > 0 else "below"
    return (
        f"{value:,.2f} is {direction} the {score.expected:,.2f} that {day:%A}s of the last {score.days} days let "
        f"expect (robust z-score {score.z_score:+.1f}, usual is up to {maximum:g})"
    )
