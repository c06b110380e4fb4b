"""Check rows and tables by the rules of severity error in the contracts' YAML files."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from tests.oracle import texts
from tests.oracle.landing import Row

Table = dict[str, Any]
Values = dict[str, Any]
Landed = dict[str, list[Row]]

BOUNDS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("at least", lambda value, bound: value < bound),
    "maximum": ("at most", lambda value, bound: value > bound),
    "exclusiveMinimum": ("more than", lambda value, bound: value <= bound),
    "exclusiveMaximum": ("less than", lambda value, bound: value >= bound),
}
TYPES = {"integer": "an integer", "number": "a decimal", "timestamp": "a timestamp"}
ROW_RULES: dict[str, Callable[[Values], bool]] = {
    "an order is not changed before it is placed": lambda row: row["updated_at"] < row["ordered_at"],
    "an order is not delivered before it is placed": lambda row: row["delivered_at"] < row["ordered_at"],
    "an order belongs to the day it was placed": lambda row: False,  # ``model`` derives order_date from ordered_at.
    "a line amounts to quantity times price": lambda row: row["line_amount"] != row["quantity"] * row["unit_price"],
    "a returned line has a negative quantity": lambda row: row["is_return"] and row["quantity"] >= 0,
    "net revenue is gross revenue less returns": lambda row: row["net_revenue"] != row["gross_revenue"] - row["returns_amount"],
    "a customer counts once": lambda row: row["new_customers"] + row["returning_customers"] > row["orders"],
    "no more orders are late than were delivered": lambda row: row["late_orders"] > row["delivered_orders"],
}
"""SQL rules that count rows, by name; each function returns whether a row breaks the rule."""
SHARE_RULES: dict[str, Callable[[Landed, date, str], list[bool]]] = {
    "new orders have lines": lambda landed, day, shop: [
        row.values["order_id"] not in _order_ids(landed["order_items"])
        for row in landed["orders"]
        if texts.local_day(row.values["ordered_at"], shop) == day
    ],
    "lines have an order": lambda landed, day, shop: [
        row.values["order_id"] not in _order_ids(landed["orders"]) for row in landed["order_items"]
    ],
}
"""SQL rules on a share of rows, by name; each function returns whether each row fails. Ten rows are the minimum."""
SKIPPED_RULES = {"a day's shares add up to one"}
"""Rules that only an error in the SQL of gold can break."""


def load_tables(files: Path) -> dict[str, Table]:
    """Return the tables of a contract, or of all contracts in a folder, by name."""
    paths = sorted(files.glob("*.yaml")) if files.is_dir() else [files]
    return {table["name"]: table for path in paths for table in yaml.safe_load(path.read_text(encoding="utf-8"))["schema"]}


def parse_row(row: Row, table: Table, shop: str) -> None:
    """Parse the texts of a landed row into ``values``; columns with invalid texts are added to ``misfits``."""
    parsers: dict[str, Callable[[str], Any]] = {
        "string": str,
        "integer": texts.parse_integer,
        "number": texts.parse_decimal,
        "timestamp": lambda text: texts.parse_instant(text, shop),
    }
    for column in table["properties"]:
        name = column["name"]
        pad = next((each["value"] for each in column.get("customProperties", []) if each["property"] == "pad"), 0)
        text = texts.trim_text(row.texts.get(name, ""), pad)
        row.values[name] = None if text is None else parsers[column["logicalType"]](text)
        if text is not None and row.values[name] is None:
            row.misfits.add(name)


def list_broken_rules(row: Row, table: Table, shop: str) -> set[str]:
    """Return the rules that a landed row breaks."""
    if not row.splits:
        return {"row splits into the header's columns"}
    types = {column["name"]: TYPES.get(column["logicalType"], "") for column in table["properties"]}
    # A text that does not fit its type is present.
    present = {f"{name} is present" for name in row.misfits}
    return {f"{name} is {types[name]}" for name in row.misfits} | (list_broken_typed_rules(row.values, table, shop) - present)


def list_broken_typed_rules(values: Values, table: Table, shop: str) -> set[str]:
    """Return the rules that a row of typed values breaks."""
    found = set()
    for column in table["properties"]:
        name, value = column["name"], values[column["name"]]
        if value is not None:
            found |= {f"{name} {rule}" for rule in _iter_broken_rules(value, column, shop)}
        elif column.get("required") or column.get("primaryKey"):
            found.add(f"{name} is present")
    return found | {rule["name"] for rule in _errors(table) if rule.get("name") in ROW_RULES and _breaks(values, rule["name"])}


def _iter_broken_rules(value: Any, column: dict[str, Any], shop: str) -> Iterator[str]:
    options = {**_default_bounds(column), **column.get("logicalTypeOptions", {})}
    for option, (comparison, breaks) in BOUNDS.items():
        if option in options:
            bound = options[option]
            if column["logicalType"] == "timestamp":
                limit: Any = texts.local_midnight(bound, shop)
            else:
                limit = date.fromisoformat(bound) if isinstance(bound, str) else Decimal(str(bound))
            if breaks(value, limit):
                yield f"is {comparison} {bound if isinstance(bound, str) else format(bound, ',.15g')}"
    if len(str(value)) < options.get("minLength", 0):
        yield f"has at least {options['minLength']} characters"
    if "maxLength" in options and len(str(value)) > options["maxLength"]:
        yield f"has at most {options['maxLength']} characters"
    if "pattern" in options and not re.fullmatch(options["pattern"], value):
        yield "fits its pattern"
    if any(value not in rule["arguments"]["validValues"] for rule in _errors(column) if rule.get("metric") == "invalidValues"):
        yield "is an accepted value"


def _default_bounds(column: dict[str, Any]) -> dict[str, Any]:
    """Return the bounds of dates, timestamps and decimals whose contract has none."""
    if column["logicalType"] in ("date", "timestamp"):
        low, high = {"minimum": "1900-01-01"}, {"exclusiveMaximum": "2100-01-01"}
    elif column["logicalType"] == "number":
        kind = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", column["physicalType"])
        digits = int(kind[1]) - int(kind[2]) if kind else 14
        low, high = {"minimum": 1 - 10**digits}, {"maximum": 10**digits - 1}
    else:
        return {}
    options = column.get("logicalTypeOptions", {})
    if "exclusiveMinimum" in options:
        low = {}
    return low if {"maximum", "exclusiveMaximum"} & set(options) else {**low, **high}


def _breaks(values: Values, rule: str) -> bool:
    try:
        return ROW_RULES[rule](values)
    except TypeError:
        return False  # as in SQL, a comparison with NULL does not break a rule


def list_broken_table_rules(landed: Landed, entity: str, table: Table, day: date, shop: str) -> set[str]:
    """Return the table rules that an entity breaks; rows are deduplicated, rejected ones included, unsplittable ones not."""
    rows = landed[entity]
    found = set()
    for rule in _errors(table):
        name = rule.get("name", "")
        if rule.get("metric") == "rowCount":
            low, high = rule.get("mustBeBetween", (rule.get("mustBeGreaterOrEqualTo"), float("inf")))
            if not low <= len(rows) <= high:
                found.add("row count")
        elif name in SHARE_RULES:
            failing = SHARE_RULES[name](landed, day, shop)
            if len(failing) >= 10 and Fraction(sum(failing), len(failing)) * 100 >= rule["mustBeLessThan"]:
                found.add(name)
        else:
            assert name in ROW_RULES or name in SKIPPED_RULES, f"{entity}: add the rule {name!r} to the oracle"
    return found


def _errors(item: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for rule in item.get("quality", []) if rule.get("severity", "error") == "error"]


def _order_ids(rows: list[Row]) -> set[Any]:
    return {row.values["order_id"] for row in rows} - {None}
