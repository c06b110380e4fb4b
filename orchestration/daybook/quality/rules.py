"""Compile the rules of a contract to SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional, Union

import sqlglot
from sqlglot import exp

from daybook.contracts import Property, Table
from daybook.contracts.model import OPERATORS, Quality, RobustZScore, Severity, TypeOptions
from daybook.errors import ContractError
from daybook.privacy import ERASED_PREFIX
from daybook.sources.config import Source
from daybook.sources.mapping import clock_column, literal, quote, text_column, typed_sql
from daybook.sources.timestamps import UNKNOWN_ZONE_PATTERN

WHOLE_ROW_CONDITION = "_copy = 1 AND _problem IS NULL"
"""Condition of landing rows to which column rules apply: not a duplicate, and split into columns."""
LANDED_DECIMAL = "DECIMAL(18,4)"
"""Type of decimal columns in landing."""
MIN_DATE, MAX_DATE = "1900-01-01", "2100-01-01"
"""Default bounds of dates and timestamps, the second exclusive."""
SPLIT_RULE_NAME = "row splits into the header's columns"
_OBJECT_PLACEHOLDER = "${object}"
_COPY_CONDITION = "_copy > 1"
"""Condition of duplicates of a row, which are dropped and not quarantined."""
_TYPE_NAMES = {"string": "text", "number": "decimal"}


@dataclass(frozen=True)
class Rule:
    """One check of a table's rows, or of a number about the whole table.

    ``failing`` is SQL that is true for a failing row. ``value`` is SQL for a number about the relation ``${object}``. The
    measured number (of failing rows, their percentage, or the value) must satisfy ``condition``: (operator, operand).
    """

    name: str
    severity: Severity = "error"
    failing: str = ""
    value: str = ""
    condition: tuple[str, Any] = ("mustBe", 0)
    unit: str = "rows"
    waivable: bool = True
    """Whether a user may approve data that breaks the rule. Duplicate keys cannot be approved."""
    default: bool = False
    """Whether the rule follows from a column's type instead of the contract."""
    history: Optional[tuple[str, RobustZScore]] = None
    """(column, settings) of a rule on past values, which is not computed in SQL."""
    failing_by_date: str = ""
    """``failing`` for rows of several dates, if it compares rows: only those of one ``run_date`` are compared."""
    value_by_date: str = ""
    """SELECT of ``run_date`` and the value, for rows of several dates. A date that it does not list has 0."""

    @property
    def sql(self) -> str:
        """Return the SQL of the rule."""
        return self.failing or self.value

    @property
    def is_per_row(self) -> bool:
        """Whether each failing row is invalid by itself and can be quarantined."""
        of_rows = bool(self.failing) and not self.value and self.failing != _COPY_CONDITION
        return of_rows and self.condition == ("mustBe", 0) and self.unit == "rows"

    def map_failing(self, change: Callable[[str], str]) -> Rule:
        """Return the rule with another condition of failing rows."""
        by_date = change(self.failing_by_date) if self.failing_by_date else ""
        return replace(self, failing=change(self.failing), failing_by_date=by_date)


def table_rules(table: Table, known: Callable[[str], str] = str) -> list[Rule]:
    """Return the rules of a silver or gold contract.

    ``known`` returns the SQL relation of a table that a foreign key refers to.
    """
    rules = [rule for item in table.properties for rule in _column_rules(table, item, required=item.name in table.required)]
    rules += _relationship_rules(table, lambda to: known(f"{table.layer}.{to}"))
    if table.key:
        rules.append(_unique_rule(table.key, "error", waivable=False))
    return _require_distinct_names(table, rules + list(_table_quality_rules(table)))


def landing_rules(source: Source, entity: str) -> list[Rule]:
    """Return the rules of a landing entity, for the relation of ``sources.mapping.typed_select``."""
    table = source.contracts[entity]
    rules = [Rule(SPLIT_RULE_NAME, failing="_copy = 1 AND _problem IS NOT NULL", waivable=False)]
    snapshot = source.entities[entity]
    if snapshot.date:
        undated = literal(snapshot.undated)
        rules = [
            Rule(SPLIT_RULE_NAME, failing=f"_copy = 1 AND _problem <> {undated}", waivable=False),
            Rule(usable_date_rule_name(snapshot.date), failing=f"_copy = 1 AND _problem = {undated}", waivable=False),
        ]
    whole_row_rules = []
    for item in table.properties:
        not_erased = f"NOT starts_with({quote(item.name)}, {literal(ERASED_PREFIX)})"
        erasable = item.classification == "restricted" and item.logicalType == "string"
        for rule in _column_rules(table, item, required=item.name in table.required):
            whole_row_rules.append(_restrict(rule, not_erased) if erasable and rule.waivable else rule)
    whole_row_rules += _relationship_rules(table, quote)
    if table.key and table.key_rule is None:
        # Landing can have several versions of a row. The newest is used.
        whole_row_rules.append(_unique_rule(table.key, "warning"))
    whole_row_rules += _table_quality_rules(table)
    return _require_distinct_names(table, [*rules, *(_restrict(rule, WHOLE_ROW_CONDITION) for rule in whole_row_rules)])


def snapshot_day_sql(source: Source, entity: str) -> str:
    """Return SQL for the business date of a snapshot's row; NULL if its date is not usable."""
    column = source.entities[entity].date or ""
    day = f"CAST({typed_sql(column, source.entities[entity].columns[column], source.null_values)} AS DATE)"
    # A date outside the default bounds is a placeholder or a mistake.
    return f"CASE WHEN {day} >= DATE '{MIN_DATE}' AND {day} < DATE '{MAX_DATE}' THEN {day} END"


def usable_date_rule_name(column: str) -> str:
    """Return the name of the rule on the business date of a snapshot's rows."""
    return f"{column} is a usable date"


def _column_rules(table: Table, item: Property, *, required: bool) -> Iterator[Rule]:
    name, column = item.name, quote(item.name)
    landed = table.layer == "landing"
    # In landing, a value is present if its text is. Another rule checks that the text fits the type.
    text = text_column(name) if landed and item.logicalType != "string" else ""
    if required:
        yield Rule(f"{name} is present", failing=f"{column} IS NULL" + (f" AND {text} IS NULL" if text else ""), waivable=False)
    if landed and item.logicalType != "string":
        yield from _type_rules(item, text)
    given, options = item.logicalTypeOptions.model_dump().values(), _with_default_bounds(item)
    bounds = (
        (options.minimum, "<", "at least"),
        (options.maximum, ">", "at most"),
        (options.exclusiveMinimum, "<=", "more than"),
        (options.exclusiveMaximum, ">=", "less than"),
    )
    for bound, operator, relation in bounds:
        if bound is not None:
            failing = f"{column} {operator} {_bound_sql(item, bound)}"
            yield Rule(f"{name} is {relation} {_format_bound(bound)}", failing=failing, default=bound not in given)
    if options.minLength is not None:
        yield Rule(f"{name} has at least {options.minLength} characters", failing=f"length({column}) < {options.minLength}")
    if options.maxLength is not None:
        yield Rule(f"{name} has at most {options.maxLength} characters", failing=f"length({column}) > {options.maxLength}")
    if options.pattern is not None:
        yield Rule(f"{name} fits its pattern", failing=_pattern_mismatch_sql(column, options.pattern))
    if item.unique:
        yield _unique_rule([name], "error")
    for rule in item.quality:
        yield _quality_rule(table, rule, item)


def _type_rules(item: Property, text: str) -> Iterator[Rule]:
    """Yield rules on the text of a landing column: that it fits the type, and warnings about ambiguous local times."""
    kind = _TYPE_NAMES.get(item.logicalType, item.logicalType)
    misfit, misfit_name = "", ""
    if item.logicalType == "timestamp" and item.custom_property("strptime") is None:
        misfit, misfit_name = UNKNOWN_ZONE_PATTERN, f"{item.name} has a known time zone"
    elif item.logicalType in ("integer", "number"):
        # BIGINT and DECIMAL(18,4).
        digits = 18 if item.logicalType == "integer" else 14
        point, thousands = (",", r"\.?") if item.custom_property("decimalComma") else (r"\.", "")
        misfit = rf"^[+-]?0*[1-9]({thousands}[0-9]){{{digits},}}({point}[0-9]*)?$"
        misfit_name = f"{item.name} has at most {digits} digits" + (" before the point" if digits == 14 else "")
    failing = f"{text} IS NOT NULL"
    if misfit:
        failing += f" AND NOT regexp_matches({text}, {literal(misfit)})"
        yield Rule(misfit_name, failing=f"regexp_matches({text}, {literal(misfit)})", waivable=False, default=True)
    yield Rule(f"{item.name} is {_add_article(kind)}", failing=failing, waivable=False)
    if item.logicalType == "timestamp":
        clock, name = clock_column(item.name), f"{item.name} is not in the hour that the clock"
        yield Rule(f"{name} repeats", "warning", failing=f"{clock} = 'repeated'", default=True)
        yield Rule(f"{name} skips", "warning", failing=f"{clock} = 'skipped'", default=True)


def _with_default_bounds(item: Property) -> TypeOptions:
    """Return the bounds of a column, with default ones if the contract has none.

    A date or timestamp is from ``MIN_DATE`` to before ``MAX_DATE``: infinity or a year of many digits would be the newest
    version forever. A decimal has no more digits before the point than its type. Delta stores minimum and maximum of a file
    as floats, and cannot read back one that was rounded up beyond the type.
    """
    options = item.logicalTypeOptions
    defaults: dict[str, Union[int, str]] = {}
    if item.logicalType in ("date", "timestamp"):
        defaults = {"minimum": MIN_DATE, "exclusiveMaximum": MAX_DATE}
    elif item.logicalType == "number":
        decimal = re.fullmatch(
            r"DECIMAL\((\d+),(\d+)\)", LANDED_DECIMAL if item.physicalType == "VARCHAR" else item.physicalType
        )
        if decimal:
            limit = 10 ** (int(decimal[1]) - int(decimal[2])) - 1
            defaults = {"minimum": -limit, "maximum": limit}
    if options.minimum is not None or options.exclusiveMinimum is not None:
        defaults.pop("minimum", None)
    if options.maximum is not None or options.exclusiveMaximum is not None:
        defaults.pop("maximum", None)
        defaults.pop("exclusiveMaximum", None)
    return options.model_copy(update=defaults)


def _quality_rule(table: Table, rule: Quality, item: Optional[Property] = None) -> Rule:
    """Return a rule of a contract, on a column or on the table."""
    name = item.name if item else ""
    column = quote(name)
    if rule.type == "custom" and rule.implementation:
        return Rule(
            rule.name or f"{name} is usual for its weekday", severity=rule.severity, history=(name, rule.implementation)
        )
    if rule.type == "sql":
        return _sql_rule(table, rule)
    if rule.metric == "rowCount":
        count = f"(SELECT count(*) FROM {_OBJECT_PLACEHOLDER})"
        text = f"there are {format_condition(rule.condition)} rows"
        by_date = f"SELECT run_date, count(*) FROM {_OBJECT_PLACEHOLDER} GROUP BY ALL"
        return Rule(rule.name or text, rule.severity, value=count, condition=rule.condition, value_by_date=by_date)
    if rule.metric == "duplicateValues":
        columns = [name] if item else rule.arguments.properties
        if columns:
            return _unique_rule(columns, rule.severity, rule)
        # Rows equal in every column, which are numbered in landing.
        text, failing = "rows stand once", _COPY_CONDITION
    elif rule.metric in ("nullValues", "missingValues"):
        missing = [each for each in rule.arguments.missingValues or [] if each]
        text = f"{name} is given"
        failing = f"{column} IS NULL" + (f" OR {column} IN ({_literals(missing)})" if missing else "")
    elif rule.arguments.validValues:
        text, failing = f"{name} is an accepted value", f"{column} NOT IN ({_literals(rule.arguments.validValues)})"
    else:
        text, failing = f"{name} is a valid value", _pattern_mismatch_sql(column, str(rule.arguments.pattern))
    return Rule(rule.name or f"{text}{_format_limit(rule)}", rule.severity, failing, condition=rule.condition, unit=rule.unit)


def _literals(values: list[str]) -> str:
    return ", ".join(map(literal, values))


def _table_quality_rules(table: Table) -> Iterator[Rule]:
    for rule in table.quality:
        yield _quality_rule(table, rule)
    for promise in table.sla:
        if promise.property == "freshness":
            name = promise.element.partition(".")[2]
            column = quote(name)
            # The run is on the next day, so the business date is one day old.
            age = f"DATE_DIFF('day', CAST(max({column}) AS DATE), DATE '${{run_date}}') + 1"
            yield Rule(
                f"{name} is fresh",
                # An empty table has no newest row. Whether it may be empty is a rowCount rule.
                value=f"(SELECT {age} FROM {_OBJECT_PLACEHOLDER})",
                condition=("mustBeLessOrEqualTo", promise.value),
            )


def _sql_rule(table: Table, rule: Quality) -> Rule:
    """Return a rule in SQL.

    A count of rows (``SELECT COUNT(*) FROM ${object} WHERE …``) becomes a check of each row, which is counted in the same pass
    and whose rows can be quarantined. Any other query is a number about the table.
    """
    query = str(rule.query)
    fields: dict[str, Any] = {"severity": rule.severity, "condition": rule.condition, "unit": rule.unit}
    try:
        parsed = sqlglot.parse_one(
            query.replace(_OBJECT_PLACEHOLDER, "__object__").replace("${run_date}", "2000-01-01"), read="duckdb"
        )
    except sqlglot.errors.SqlglotError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ContractError(
            f"{table.file}: key 'schema': rule {rule.name!r} has a query that does not parse: {reason}."
        ) from None
    if not isinstance(parsed, exp.Select) or len(parsed.expressions) != 1:
        raise ContractError(
            f"{table.file}: key 'schema': rule {rule.name!r} has a query that is not a SELECT of one number; write one."
        )
    where = parsed.args.get("where")
    counts = isinstance(parsed.expressions[0], exp.Count) and isinstance(parsed.expressions[0].this, exp.Star)
    plain = ("expressions", "from", "from_", "where", "kind")
    others = [key for key, value in parsed.args.items() if value and key not in plain]
    tables = list(parsed.find_all(exp.Table))
    plain_table = len(tables) == 1 and tables[0].name == "__object__" and not tables[0].alias
    bounded = rule.condition[0] in ("mustBeLessThan", "mustBeLessOrEqualTo") or rule.condition == ("mustBe", 0)
    # A query with the run date, or with a minimum count, cannot be checked row by row.
    if counts and where and not others and plain_table and bounded and "${run_date}" not in query:
        return Rule(rule.name, failing=where.this.sql(dialect="duckdb"), **fields)
    return Rule(rule.name, value=f"({query.strip().rstrip(';')})", **fields)


def _relationship_rules(table: Table, known: Callable[[str], str]) -> Iterator[Rule]:
    for item in table.properties:
        for relationship in item.relationships:
            name, _, column = relationship.to.partition(".")
            parents = f"FROM {known(name)} WHERE {quote(column)} IS NOT NULL"
            given = f"{quote(item.name)} IS NOT NULL AND "
            yield Rule(
                f"{item.name} is among {name}",
                severity="error" if relationship.severity == "error" else "warning",
                failing=f"{given}{quote(item.name)} NOT IN (SELECT {quote(column)} {parents})",
                failing_by_date=f"{given}(run_date, {quote(item.name)}) NOT IN (SELECT (run_date, {quote(column)}) {parents})",
            )


def _unique_rule(columns: list[str], severity: Severity, rule: Optional[Quality] = None, *, waivable: bool = True) -> Rule:
    listed = ", ".join(quote(name) for name in columns)
    none_null = " AND ".join(f"{quote(name)} IS NOT NULL" for name in columns)
    # The number of rows beyond the first of each key. A separate query reads the key columns only, and groups, unlike distinct
    # values, spill to disk.
    counted = f"count(*) AS _rows FROM {_OBJECT_PLACEHOLDER} WHERE {none_null} GROUP BY"
    groups = f"SELECT {counted} {listed}"
    by_date = f"SELECT run_date, {counted} run_date, {listed}"
    value = f"(SELECT COALESCE(sum(_rows - 1), 0) FROM ({groups}) AS _groups WHERE _rows > 1)"
    shown = columns[0] if len(columns) == 1 else f"({', '.join(columns)})"
    return Rule(
        (rule.name if rule else "") or f"{shown} is unique{_format_limit(rule)}",
        severity,
        failing=f"count(*) OVER (PARTITION BY {listed}) > 1 AND {none_null}",
        value=value,
        condition=rule.condition if rule else ("mustBe", 0),
        unit=rule.unit if rule else "rows",
        waivable=waivable,
        failing_by_date=f"count(*) OVER (PARTITION BY run_date, {listed}) > 1 AND {none_null}",
        value_by_date=f"SELECT run_date, sum(_rows - 1) FROM ({by_date}) AS _groups WHERE _rows > 1 GROUP BY ALL",
    )


def _restrict(rule: Rule, condition: str) -> Rule:
    """Return a rule that only rows with a condition can break. Duplicates are found among all rows."""
    if not rule.failing or rule.value or rule.failing == _COPY_CONDITION:
        return rule
    return rule.map_failing(lambda failing: f"{condition} AND ({failing})")


def _require_distinct_names(table: Table, rules: list[Rule]) -> list[Rule]:
    """Return the rules if their names, which identify them in records, are distinct."""
    names = [rule.name for rule in rules]
    for name in names:
        if "; " in name:
            raise ContractError(f"{table.file}: key 'schema': the rule {name!r} contains a semicolon; rename it.")
        if names.count(name) > 1:
            raise ContractError(f"{table.file}: key 'schema': {table.name!r} has two rules named {name!r}; rename one.")
    return rules


def _pattern_mismatch_sql(column: str, pattern: str) -> str:
    return f"NOT regexp_matches({column}, {literal(f'^({pattern})$')})"


def _bound_sql(item: Property, bound: Union[int, float, str]) -> str:
    if isinstance(bound, str):
        return f"CAST({literal(bound)} AS {'DATE' if item.logicalType == 'date' else 'TIMESTAMPTZ'})"
    return f"{bound:.15g}"


def _format_bound(bound: Union[int, float, str]) -> str:
    return bound if isinstance(bound, str) else f"{bound:,.15g}"


def _format_limit(rule: Optional[Quality]) -> str:
    """Return the part of a rule's name about its limit; empty if no row may break it."""
    if rule is None or rule.condition == ("mustBe", 0):
        return ""
    operator, operand = rule.condition
    allowed = {"mustBeLessThan": "broken by less than", "mustBeLessOrEqualTo": "broken by at most"}
    share = " %" if rule.unit == "percent" else " rows"
    return f" ({allowed.get(operator, operator)} {operand}{share})"


def format_condition(condition: tuple[str, Any]) -> str:
    """Return a condition as text, such as "at least 1"."""
    operator, operand = condition
    operands = operand if isinstance(operand, (tuple, list)) else [operand]
    return OPERATORS[operator].text.format(*(f"{each:,}" for each in operands))


def _add_article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
