"""Counting what breaks a table's rules: one aggregate query, and one more for the rows at fault where there are any."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, Callable, Optional

import pyarrow as pa

from daybook.contracts import Severity, Table
from daybook.engines import DuckDBEngine
from daybook.errors import ContractError, SqlError
from daybook.quality.rules import Rule, table_rules
from daybook.sources.mapping import literal, quote

MAX_SAMPLES = 5
"""So many keys of failing rows stand in a report."""


@dataclass(frozen=True)
class RuleResult:
    """What a rule found in a table. ``failing`` are rows (1 for a number about the whole table that does not hold)."""

    table: str
    rule: str
    checked: int
    failing: int
    severity: Severity = "error"
    holds: bool = True
    measured: str = ""
    """The number that was held to the rule, with what it must be, where that is no count of rows."""
    samples: tuple[str, ...] = ()
    """Keys of the first failing rows. They hold no personal data: pseudonyms are cut."""
    waivable: bool = True
    computed: bool = True
    """False where the rule's SQL raises on a value, so that nothing is known of the rows."""
    sql: str = ""
    """The rule as SQL: what is true for a failing row, or the number about the table."""

    @property
    def share(self) -> float:
        return self.failing / self.checked if self.checked else 0.0

    def to_record(self, outcome: str) -> dict[str, Any]:
        """The result as a run record holds it."""
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
    """The one query: how many rows there are, then a number for each rule, in one pass over the relation.

    ``objects`` is what rules about the whole table read, where that is not the relation itself.
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
    """The other query: the key of every row that breaks one of the rules, and which it breaks (``rule_0``, ``rule_1`` …)."""
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
    """Hold a relation against rules.

    Returns the results in the order of the rules, the failing rows (``key`` columns and a flag for each rule that rows break),
    and the rules those flags stand for.
    """
    in_sql = [rule for rule in rules if rule.history is None]
    raised: dict[str, str] = {}
    try:
        checked, *numbers = engine.fetch_row(
            counting_sql(relation, in_sql, counted=counted, run_date=run_date, objects=objects)
        )
    except SqlError:
        checked, numbers, raised = _count_each_rule(engine, relation, in_sql, counted, run_date, objects)
    held = [_is_satisfied(rule, number, checked) for rule, number in zip(in_sql, numbers)]
    of_rows = [rule for rule, number in zip(in_sql, numbers) if rule.failing and number]
    rows = engine.arrow(failing_sql(relation, of_rows, key)) if of_rows else pa.table({name: [] for name in key})
    samples = _fetch_samples(engine, rows, len(of_rows), key, pseudonyms)
    shown = {rule.name: texts for rule, texts in zip(of_rows, samples)}
    results = []
    for rule, number, holds in zip(in_sql, numbers, held):
        if rule.name in raised:
            said = f"it cannot be computed ({raised[rule.name]})"
            results.append(RuleResult(table, rule.name, checked, 1, rule.severity, False, said, computed=False, sql=rule.sql))
            continue
        failing = int(number or 0) if rule.failing else int(not holds)
        results.append(
            RuleResult(
                table, rule.name, checked, failing, rule.severity, holds, _format_measured(rule, number), shown.get(rule.name, ()),
                rule.waivable, sql=rule.sql,
            )
        )  # fmt: skip
    return results, rows, of_rows


def _count_each_rule(
    engine: DuckDBEngine, relation: str, rules: list[Rule], counted: str, run_date: Optional[date], objects: str
) -> tuple[int, list[Any], dict[str, str]]:
    """Count each rule by itself: the rows checked, the numbers (None where a rule raises), and what the raising rules say."""
    (checked,) = engine.fetch_row(counting_sql(relation, [], counted=counted))
    numbers: list[Any] = []
    raised: dict[str, str] = {}
    for rule in rules:
        try:
            numbers.append(
                engine.fetch_row(counting_sql(relation, [rule], counted=counted, run_date=run_date, objects=objects))[1]
            )
        except SqlError as error:
            said = describe_value_error(error)
            if said is None:
                raise
            raised[rule.name] = said
            numbers.append(None)
    return checked, numbers, raised


def describe_value_error(error: SqlError) -> Optional[str]:
    """Return what an error says that a value has caused, without the value, which can be personal; None for any other error."""
    if not str(error).startswith(_VALUE_ERRORS):
        return None
    # A value can hold quotes, and numbers stand without.
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
    """Hold a relation that is to become ``table`` against its contract; ``known`` as for ``table_rules``."""
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


def reasons_sql(rules: Sequence[Optional[Rule]]) -> str:
    """An SQL text that lists the rules a failing row (with flags, as ``check_rules`` gives it) breaks, separated by ``; ``; a rule
    that is None is left out."""
    cases = ", ".join(
        f"CASE WHEN rule_{index} THEN {literal(rule.name)} END" for index, rule in enumerate(rules) if rule is not None
    )
    return f"concat_ws('; ', {cases})"


def _fetch_samples(
    engine: DuckDBEngine, rows: pa.Table, rules: int, key: list[str], pseudonyms: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """The first keys of the failing rows, for each of their flags ``rule_0``, ``rule_1`` …"""
    if not rules:
        return []
    engine.register("_failing_rows", rows)
    text = sample_sql(key, pseudonyms)
    first = ", ".join(f"min(DISTINCT said, {MAX_SAMPLES}) FILTER (WHERE rule_{index})" for index in range(rules))
    found = engine.fetch_row(f"SELECT {first} FROM (SELECT *, {text} AS said FROM _failing_rows) AS told")
    return [tuple(texts or ()) for texts in found]


def sample_sql(key: Sequence[str], pseudonyms: Collection[str]) -> str:
    """SQL for a key as it is shown in reports and messages: pseudonyms are cut."""
    shown = [f"left({quote(name)}, 8) || '…'" if name in pseudonyms else f"CAST({quote(name)} AS VARCHAR)" for name in key]
    return f"concat_ws(' / ', {', '.join(shown)})"


def _is_satisfied(rule: Rule, number: Any, checked: int) -> bool:
    """Whether the measured number is what it must be. No number at all (a share of no rows) breaks nothing."""
    if number is None:
        return True
    if rule.unit == "percent" and rule.failing:
        number = 100 * number / checked if checked else 0
    if isinstance(number, bool) or not isinstance(number, (int, float, Decimal)):
        raise ContractError(f"The rule {rule.name!r} gives a {type(number).__name__}, which is no number; correct its query.")
    operator, operand = rule.must
    if operator in ("mustBeBetween", "mustNotBeBetween"):
        return bool(operand[0] <= number <= operand[1]) == (operator == "mustBeBetween")
    comparisons = {
        "mustBe": number == operand,
        "mustNotBe": number != operand,
        "mustBeGreaterThan": number > operand,
        "mustBeGreaterOrEqualTo": number >= operand,
        "mustBeLessThan": number < operand,
        "mustBeLessOrEqualTo": number <= operand,
    }
    return bool(comparisons[operator])


_CONDITION_TEXTS = {
    "mustBe": "must be {}",
    "mustNotBe": "must not be {}",
    "mustBeGreaterThan": "must be more than {}",
    "mustBeGreaterOrEqualTo": "must be at least {}",
    "mustBeLessThan": "must be less than {}",
    "mustBeLessOrEqualTo": "must be at most {}",
    "mustBeBetween": "must be from {} to {}",
    "mustNotBeBetween": "must not be from {} to {}",
}


def _format_measured(rule: Rule, number: Any) -> str:
    if rule.failing or number is None:
        return ""
    operator, operand = rule.must
    operands = operand if isinstance(operand, (tuple, list)) else [operand]
    said = f"{float(number):,.4g}" if isinstance(number, float) else f"{number:,}"
    return f"{said}, {_CONDITION_TEXTS[operator].format(*(f'{each:,}' for each in operands))}"
