"""Rules, and what they say of rows: checks compiled to SQL, verdicts with reasons.

Here: the rules of landing entities and of contracts, one aggregate query a table, the gate's decision. Not here: where
rejected rows go and what a stage does about a verdict (``daybook.notebook``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from daybook.contracts import Table
from daybook.engines import DuckDBEngine
from daybook.sources.mapping import clean_sql, literal, quote, typed_sql
from daybook.sources.spec import Entity, Source


@dataclass(frozen=True)
class Rule:
    """One check of a row. ``failing`` is SQL that is true for a row that breaks it."""

    name: str
    failing: str


@dataclass(frozen=True)
class RuleResult:
    """What a rule found in a table."""

    table: str
    rule: str
    checked: int
    failing: int

    @property
    def share(self) -> float:
        return self.failing / self.checked if self.checked else 0.0


@dataclass
class Verdict:
    """A gate's answer: it passes as long as there are no reasons against it."""

    reasons: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.reasons


def landing_rules(source: Source, entity: Entity) -> list[Rule]:
    """The rules that an entity's columns declare, for rows of text as they landed."""
    rules = [Rule("row splits into the header's columns", "_problem IS NOT NULL")]
    whole = "_problem IS NULL"
    for name, column in entity.columns.items():
        text = clean_sql(name, column, source.null_values)
        typed = typed_sql(name, column, source.null_values)
        if column.required:
            rules.append(Rule(f"{name} is present", f"{whole} AND {text} IS NULL"))
        if column.type != "text":
            rules.append(Rule(f"{name} is {_article(column.type)}", f"{whole} AND {text} IS NOT NULL AND {typed} IS NULL"))
        if column.accepted is not None:
            listed = ", ".join(literal(value) for value in column.accepted)
            rules.append(Rule(f"{name} is an accepted value", f"{whole} AND {text} NOT IN ({listed})"))
        if column.minimum is not None:
            rules.append(Rule(f"{name} is at least {column.minimum:.15g}", f"{whole} AND {typed} < {column.minimum:.15g}"))
        if column.maximum is not None:
            rules.append(Rule(f"{name} is at most {column.maximum:.15g}", f"{whole} AND {typed} > {column.maximum:.15g}"))
    return rules


def contract_rules(table: Table) -> list[Rule]:
    """The row rules of a contract: nothing required is null, and no value but the valid ones."""
    rules = [Rule(f"{name} is present", f"{quote(name)} IS NULL") for name in table.required]
    for item in table.properties:
        if item.valid_values:
            listed = ", ".join(literal(value) for value in item.valid_values)
            rules.append(Rule(f"{item.name} is a valid value", f"{quote(item.name)} NOT IN ({listed})"))
    return rules


def check(engine: DuckDBEngine, relation: str, rules: list[Rule], table: str) -> list[RuleResult]:
    """Count what breaks each rule, in one pass over the relation."""
    counts = ", ".join(f"count(*) FILTER (WHERE {rule.failing})" for rule in rules)
    checked, *failing = engine.one(f"SELECT count(*), {counts} FROM {relation}")
    return [RuleResult(table, rule.name, checked, broken) for rule, broken in zip(rules, failing)]


def reasons_sql(rules: list[Rule]) -> str:
    """An SQL text that lists the rules a row breaks, separated by ``; `` (empty where it breaks none)."""
    cases = ", ".join(f"CASE WHEN {rule.failing} THEN {literal(rule.name)} END" for rule in rules)
    return f"concat_ws('; ', {cases})"


def check_contract(engine: DuckDBEngine, relation: str, table: Table) -> list[RuleResult]:
    """Nulls in required columns and repeated keys of a relation that is to become ``table``."""
    results = check(engine, relation, contract_rules(table), table.full_name)
    key = ", ".join(quote(name) for name in table.key)
    rows, keys = engine.one(f"SELECT count(*), (SELECT count(*) FROM (SELECT DISTINCT {key} FROM {relation})) FROM {relation}")
    results.append(RuleResult(table.full_name, f"({', '.join(table.key)}) is unique", rows, rows - keys))
    return results


def refuse_broken(results: list[RuleResult]) -> Verdict:
    """The verdict on rules that no row may break."""
    return Verdict([f"{each.table}: {each.failing:,} rows break '{each.rule}'" for each in results if each.failing])


def refuse_share(entity: str, landed: int, rejected: int, *, most: float, tolerated: int) -> Verdict:
    """The verdict on an entity of which too much was rejected: more than the share ``most``, and more than a few rows."""
    if rejected > tolerated and rejected / landed > most:
        return Verdict(
            [f"{entity}: {rejected:,} of {landed:,} rows ({rejected / landed:.1%}) are rejected, more than {most:.1%}"]
        )
    return Verdict()


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def differences(pairs: dict[str, tuple[Any, Any]]) -> Verdict:
    """The verdict on figures that must agree to the cent: name -> (published to be, from silver)."""
    return Verdict([f"{name}: {left} where silver gives {right}" for name, (left, right) in pairs.items() if left != right])
