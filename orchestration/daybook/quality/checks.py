"""Check a table's rules with one aggregate query, and fetch the failing rows with a second one."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any, Callable, Optional

import pyarrow as pa

from daybook.contracts import Table
from daybook.contracts.model import OPERATORS, Severity
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, SqlError
from daybook.quality.rules import Rule, format_condition, table_rules
from daybook.sources.mapping import literal, quote

MAX_SAMPLES = 5
"""Maximum number of keys of failing rows in a report."""


@dataclass(frozen=True)
class RuleResult:
    """Result of a rule for a table. ``failing`` is a number of rows, or 1 for a number about the table that does not hold."""

    table: str
    rule: str
    checked: int
    failing: int
    severity: Severity = "error"
    holds: bool = True
    measured: str = ""
    """The measured number and its condition, for a rule that does not count rows."""
    samples: tuple[str, ...] = ()
    """Keys of the first failing rows, with shortened pseudonyms."""
    waivable: bool = True
    computed: bool = True
    """False if the rule's SQL raises an error on a value."""
    sql: str = ""
    """SQL that is true for a failing row, or that computes a number about the table."""

    @property
    def share(self) -> float:
        return self.failing / self.checked if self.checked else 0.0

    def to_record(self, outcome: str) -> dict[str, Any]:
        """Return the result for a run record."""
        return {
            "table": self.table,
            "rule": self.rule,
            "severity": self.severity,
            "checked": self.checked,
            "failing": self.failing,
            "share": round(self.share, 6),
            "measured": self.measured,
            "samples": list(self.samples),
            "outcome": outcome,
        }


def counting_sql(
    relation: str, rules: list[Rule], *, counted: str = "TRUE", run_date: Optional[date] = None, objects: str = ""
) -> str:
    """Return SQL for the number of rows and a number for each rule, in one pass over the relation.

    ``counted`` is the condition of rows that count as checked. ``objects`` is the relation for rules about the whole table, if
    it is another one.
    """
    numbers = [f"COALESCE(count_if({counted}), 0) AS checked"]
    for index, rule in enumerate(rules):
        number = f"COALESCE(count_if({rule.failing}), 0)"
        if rule.value:
            number = rule.value.replace("${object}", objects or relation)
            number = number.replace("${run_date}", run_date.isoformat()) if run_date else number
        numbers.append(f"{number} AS rule_{index}")
    return f"SELECT {', '.join(numbers)} FROM {relation}"


def failing_sql(relation: str, rules: list[Rule], key: list[str]) -> str:
    """Return SQL for the key of every failing row, with a flag for each rule (``rule_0``, ``rule_1`` …)."""
    flags = ", ".join(f"COALESCE({rule.failing}, FALSE) AS rule_{index}" for index, rule in enumerate(rules))
    keys = ", ".join(quote(name) for name in key)
    broken = " OR ".join(f"rule_{index}" for index in range(len(rules)))
    return f"SELECT * FROM (SELECT {keys}, {flags} FROM {relation}) AS flagged WHERE {broken}"


def check_rules(
    engine: DuckDBEngine,
    relation: str,
    rules: list[Rule],
    table: str,
    *,
    key: list[str],
    counted: str = "TRUE",
    pseudonyms: tuple[str, ...] = (),
    run_date: Optional[date] = None,
    objects: str = "",
) -> tuple[list[RuleResult], pa.Table, list[Rule]]:
    """Check a relation against rules.

    Parameters
    ----------
    engine
        Engine that runs the SQL.
    relation
        The rows to check.
    rules
        Rules in SQL. Rules on history are skipped.
    table
        Name of the table in the results.
    key
        Columns that identify a row.
    counted
        SQL condition of rows that count as checked.
    pseudonyms
        Key columns that are shortened in samples.
    run_date
        Business date for rules with ``${run_date}``.
    objects
        Relation for rules about the whole table, if it is another one.

    Returns
    -------
    The results in the order of the rules; the failing rows with their key and a flag for each broken rule; and the rules of
    these flags.
    """
    sql_rules = [rule for rule in rules if rule.history is None]

    def count(counted_rules: list[Rule]) -> list[Any]:
        return list(
            engine.fetch_row(counting_sql(relation, counted_rules, counted=counted, run_date=run_date, objects=objects))
        )

    raised: dict[str, str] = {}
    try:
        checked, *numbers = count(sql_rules)
    except SqlError:
        # Count each rule by itself, to find those that raise.
        (checked,), numbers = count([]), []
        for rule in sql_rules:
            try:
                numbers.append(count([rule])[1])
            except SqlError as error:
                message = describe_value_error(error)
                if message is None:
                    raise
                raised[rule.name] = f"it cannot be computed ({message})"
                numbers.append(None)
    row_rules = [rule for rule, number in zip(sql_rules, numbers) if rule.failing and number]
    rows = engine.arrow(failing_sql(relation, row_rules, key)) if row_rules else pa.table({name: [] for name in key})
    samples = _fetch_samples(engine, rows, row_rules, key, pseudonyms).get(None, {})
    results = [
        _build_result(table, rule, checked, number, samples.get(rule.name, ()), raised.get(rule.name, ""))
        for rule, number in zip(sql_rules, numbers)
    ]
    return results, rows, row_rules


def check_rules_by_date(
    engine: DuckDBEngine,
    relation: str,
    rules: list[Rule],
    table: str,
    *,
    key: list[str],
    dates: Sequence[date],
    restrict: Callable[[Collection[str], Sequence[date]], None],
    counted: str = "TRUE",
    pseudonyms: tuple[str, ...] = (),
    objects: str = "",
) -> tuple[dict[date, list[RuleResult]], pa.Table, list[Rule]]:
    """Check the rows of several dates against rules, with the results of ``check_rules`` for each date alone.

    Rules are computed for all dates together. A rule with a query of its own, which may compare rows in any way, is computed
    for one date after the other; all rules are if one raises on a value.

    Parameters
    ----------
    engine, relation, rules, table, counted, pseudonyms, objects
        See ``check_rules``. The rows have a column ``run_date``.
    key
        Columns that identify a row within its date.
    dates
        The dates of the results.
    restrict
        Restricts tables, by their names, to some dates.

    Returns
    -------
    The results by date; the failing rows with ``run_date``, their key and a flag for each broken rule; and the rules of these
    flags.
    """
    sql_rules = [rule for rule in rules if rule.history is None]
    together = [rule for rule in sql_rules if not _needs_own_query(rule)]
    found: dict[date, dict[str, RuleResult]] = {day: {} for day in dates}
    flagged: list[tuple[pa.Table, list[Rule]]] = []
    try:
        flagged.append(_check_together(engine, relation, together, table, key, counted, pseudonyms, objects, found))
    except SqlError as error:
        if describe_value_error(error) is None:
            raise
        together = []
    apart = [rule for rule in sql_rules if rule not in together]
    read = engine.referenced_tables(counting_sql(relation, apart, objects=objects)) if apart else []
    for day in dates if apart else ():
        restrict(read, [day])
        of_day = f"(SELECT * FROM {relation} WHERE run_date = DATE '{day}') AS checked"
        results, rows, broken = check_rules(
            engine, of_day, apart, table, key=key, counted=counted, pseudonyms=pseudonyms, run_date=day, objects=objects
        )
        found[day].update({each.rule: each for each in results})
        flagged.append((rows.add_column(0, "run_date", pa.repeat(pa.scalar(day, pa.date32()), rows.num_rows)), broken))
    if apart:
        restrict(read, dates)
    rows, broken = _combine_flags(engine, flagged, sql_rules, ["run_date", *key])
    return {day: [results[rule.name] for rule in sql_rules] for day, results in found.items()}, rows, broken


def _needs_own_query(rule: Rule) -> bool:
    """Return whether a rule is computed for each date by itself, since its query is not known to compare rows of one date."""
    if rule.value:
        return not rule.value_by_date
    return not rule.failing_by_date and "SELECT" in rule.failing.upper()


def _check_together(
    engine: DuckDBEngine,
    relation: str,
    rules: list[Rule],
    table: str,
    key: list[str],
    counted: str,
    pseudonyms: tuple[str, ...],
    objects: str,
    found: dict[date, dict[str, RuleResult]],
) -> tuple[pa.Table, list[Rule]]:
    """Check the rows of all dates in one pass and add the results of each date to ``found``; return the failing rows."""
    dated = [replace(rule, failing=rule.failing_by_date or rule.failing) for rule in rules]
    of_rows = [rule for rule in dated if not rule.value]
    columns = ", ".join(f"COALESCE(count_if({condition}), 0)" for condition in [counted, *(rule.failing for rule in of_rows)])
    checked: dict[date, int] = {}
    numbers: dict[tuple[str, date], Any] = {}
    for day, rows_of_day, *counts in engine.rows(f"SELECT run_date, {columns} FROM {relation} GROUP BY run_date"):
        checked[day] = rows_of_day
        numbers.update({(rule.name, day): number for rule, number in zip(of_rows, counts)})
    for rule in dated:
        if rule.value:
            values = engine.rows(rule.value_by_date.replace("${object}", objects or relation))
            numbers.update({(rule.name, day): number for day, number in values})
    broken = [rule for rule in dated if rule.failing and any(numbers.get((rule.name, day)) for day in found)]
    address = ["run_date", *key]
    rows = engine.arrow(failing_sql(relation, broken, address)) if broken else pa.table({name: [] for name in address})
    samples = _fetch_samples(engine, rows, broken, key, pseudonyms, by="run_date")
    for day, results in found.items():
        for rule in rules:
            number = numbers.get((rule.name, day), rule.value_without_rows if rule.value else 0)
            shown = samples.get(day, {}).get(rule.name, ())
            results[rule.name] = _build_result(table, rule, checked.get(day, 0), number, shown)
    return rows, broken


def _combine_flags(
    engine: DuckDBEngine, flagged: Sequence[tuple[pa.Table, list[Rule]]], rules: list[Rule], key: list[str]
) -> tuple[pa.Table, list[Rule]]:
    """Return the failing rows of several checks with a flag for each broken rule, in the order of the rules."""
    flagged = [(rows, broken) for rows, broken in flagged if broken]
    if not flagged:
        return pa.table({name: [] for name in key}), []
    if len(flagged) == 1:
        return flagged[0]
    names = {rule.name for _, broken in flagged for rule in broken}
    order = [rule for rule in rules if rule.name in names]
    places = {rule.name: place for place, rule in enumerate(order)}
    renamed = [rows.rename_columns([*key, *(f"rule_{places[rule.name]}" for rule in broken)]) for rows, broken in flagged]
    engine.register("_flagged_parts", pa.concat_tables(renamed, promote_options="default"))
    flags = ", ".join(f"COALESCE(bool_or(rule_{place}), FALSE) AS rule_{place}" for place in range(len(order)))
    return engine.arrow(f"SELECT {', '.join(key)}, {flags} FROM _flagged_parts GROUP BY ALL"), order


def _build_result(table: str, rule: Rule, checked: int, number: Any, samples: tuple[str, ...], raised: str = "") -> RuleResult:
    """Return the result of a rule that was measured, or that could not be computed, with the reason."""
    holds = not raised and _is_satisfied(rule, number, checked)
    return RuleResult(
        table,
        rule.name,
        checked,
        int(number or 0) if rule.failing and not raised else int(not holds),
        rule.severity,
        holds,
        raised or _format_measured(rule, number),
        samples,
        rule.waivable or bool(raised),
        not raised,
        rule.sql,
    )


def describe_value_error(error: SqlError) -> Optional[str]:
    """Return the message of an error that a value caused, without the value, which can be personal; None for other errors."""
    if not str(error).startswith(_VALUE_ERRORS):
        return None
    # A value can contain quotes, and numbers are not quoted.
    return re.sub(r"(['\"]).*\1|\([^)]*[0-9][^)]*\)|[0-9]{4,}", "…", str(error)).rstrip(".")


_VALUE_ERRORS = ("Conversion Error", "Out of Range Error", "Invalid Input Error", "Not implemented Error: Unknown TimeZone")


def check_contract(
    engine: DuckDBEngine,
    relation: str,
    table: Table,
    *,
    run_date: Optional[date] = None,
    known: Callable[[str], str] = str,
) -> list[RuleResult]:
    """Check candidate rows of ``table`` against its contract; for ``known`` see ``table_rules``."""
    results, _, _ = check_rules(
        engine,
        relation,
        table_rules(table, known),
        table.full_name,
        key=table.key,
        pseudonyms=tuple(table.pseudonyms),
        run_date=run_date,
    )
    return results


def check_contract_by_date(
    engine: DuckDBEngine,
    relation: str,
    table: Table,
    dates: Mapping[date, Sequence[date]],
    *,
    known: Callable[[str], str] = str,
) -> dict[date, list[RuleResult]]:
    """Check candidate rows of a table with dates; return the results by run date.

    Parameters
    ----------
    engine
        Engine that runs the SQL.
    relation
        The candidates of all run dates.
    table
        The contract. Its rows are partitioned by date.
    dates
        By run date, the dates whose rows are checked for it.
    known
        See ``table_rules``.

    Returns
    -------
    dict
        For each run date, what ``check_contract`` returns for its rows.
    """
    # A row that several run dates have touched is a row of each of them; one without a date is a row of all.
    pairs = [(day, each) for day, mine in dates.items() for each in mine]
    columns = {"run_date": [day for day, _ in pairs], "day": [each for _, each in pairs]}
    engine.register("of_dates.pairs", pa.table({name: pa.array(days, pa.date32()) for name, days in columns.items()}))
    column = f"r.{quote(str(table.date_column))}"
    engine.define(
        "of_dates.checked",
        f"SELECT d.run_date, r.* FROM {relation} AS r, (SELECT DISTINCT run_date FROM of_dates.pairs) AS d "
        f"WHERE {column} IS NULL OR (d.run_date, {column}) IN (SELECT (run_date, day) FROM of_dates.pairs)",
    )
    rules = table_rules(table, known)
    found, _, _ = check_rules_by_date(
        engine,
        "of_dates.checked",
        # The tables that a rule reads besides have no run dates.
        [replace(rule, failing_by_date="") if "SELECT" in rule.failing.upper() else rule for rule in rules],
        table.full_name,
        key=table.key,
        dates=list(dates),
        restrict=lambda tables, dates: None,
        pseudonyms=tuple(table.pseudonyms),
    )
    return found


def reasons_sql(rules: Sequence[Optional[Rule]]) -> str:
    """Return SQL for the names of the rules that a failing row of ``check_rules`` breaks, separated by ``; ``, without None."""
    cases = ", ".join(
        f"CASE WHEN rule_{index} THEN {literal(rule.name)} END" for index, rule in enumerate(rules) if rule is not None
    )
    return f"concat_ws('; ', {cases})"


def _fetch_samples(
    engine: DuckDBEngine, rows: pa.Table, rules: list[Rule], key: list[str], pseudonyms: tuple[str, ...], *, by: str = "NULL"
) -> dict[Optional[date], dict[str, tuple[str, ...]]]:
    """Return the first keys of the failing rows, by date (``by``) and the name of the rule that they break."""
    if not rules:
        return {}
    engine.register("_failing_rows", rows)
    text = sample_sql(key, pseudonyms)
    first = ", ".join(f"min(DISTINCT sample, {MAX_SAMPLES}) FILTER (WHERE rule_{index})" for index in range(len(rules)))
    found = engine.rows(f"SELECT {by}, {first} FROM (SELECT *, {text} AS sample FROM _failing_rows) AS samples GROUP BY 1")
    return {day: {rule.name: tuple(shown or ()) for rule, shown in zip(rules, texts)} for day, *texts in found}


def sample_sql(key: Sequence[str], pseudonyms: Collection[str]) -> str:
    """Return SQL for a key in reports and messages, with shortened pseudonyms."""
    shown = [f"left({quote(name)}, 8) || '…'" if name in pseudonyms else f"CAST({quote(name)} AS VARCHAR)" for name in key]
    return f"concat_ws(' / ', {', '.join(shown)})"


def _is_satisfied(rule: Rule, number: Any, checked: int) -> bool:
    """Return whether the measured number satisfies the rule. No number, such as a share of no rows, satisfies it."""
    if number is None:
        return True
    if rule.unit == "percent" and rule.failing:
        number = 100 * number / checked if checked else 0
    if isinstance(number, bool) or not isinstance(number, (int, float, Decimal)):
        raise ContractError(f"The rule {rule.name!r} returns a {type(number).__name__} instead of a number; correct its query.")
    operator, operand = rule.condition
    return OPERATORS[operator].holds(number, operand)


def _format_measured(rule: Rule, number: Any) -> str:
    if rule.failing or number is None:
        return ""
    shown = f"{float(number):,.4g}" if isinstance(number, float) else f"{number:,}"
    return f"{shown}, must be {format_condition(rule.condition)}".replace("must be not", "must not be")
