"""Package code and templates have no name of a table or column of the canonical model.

These names are in contracts, sources and notebooks.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from daybook.contracts import LAYERS, load_tables
from daybook.settings import project_root

PACKAGE = project_root() / "orchestration" / "daybook"
ORDINARY_WORDS = {
    "amount": "a number with a unit, in costs and reports",
    "as_of": "the date of a price table",
    "category": "the Unicode category of a character",
    "frequency": "a promise of the contract standard",
    "method": "a function of a class",
    "name": "what anything is called",
    "orders": "the demo shop's option --orders, and the verb",
    "payments": "in the help of the demo shop's faults",
    "retention": "a promise of the contract standard",
    "score": "the z-score of the anomaly check",
    "share": "a part of a whole",
    "state": "of a process or a state machine",
    "status": "of a run, a process or an HTTP response",
    "units": "of bytes and times, and UTF-16 code units",
}
"""Names of the canonical model that are also technical words, with what they mean in package code. Not allowed in SQL."""
TEMPLATE_WORDS = {"amount", "as_of", "name", "share", "state"}
"""The ordinary words that templates may hold."""
EXCEPTIONS = {
    ("engines/duckdb.py", "name"): "the column of SHOW TABLES in DuckDB",
    ("privacy/matcher.py", "name"): "a column and a kind of value in the matcher's own tables",
    ("privacy/patterns.py", "products"): "a label before a number in text",
    ("records/models.py", "order_date"): "a key of archived records",
    ("settings.py", "order_date"): "a value of the key returns_count_on in params files",
}
"""Names that a module may hold, with the reason."""
_SQL = re.compile(r"\b(SELECT|FROM|WHERE|JOIN|HAVING|(PARTITION|GROUP|ORDER) BY)\b")
_MARKUP = re.compile(r"\(\?[:=!<P]|<\w+[ >/]")
"""Regular expressions and HTML, whose words are not SQL."""


class Found(NamedTuple):
    """A name in the code of a module."""

    module: str
    line: int
    name: str
    text: str
    is_sql: bool


def canonical_names() -> set[str]:
    """Return the tables of silver and gold and their columns, without those that every silver table has for its versions."""
    silver = [set(table.columns) for table in load_tables("silver").values()]
    tables = [table for layer in LAYERS for table in load_tables(layer).values()]
    names = {name for table in tables for name in (table.name, *table.columns)}
    return names - set.intersection(*silver)


def scan(source: str, names: set[str], module: str = "") -> Iterator[Found]:
    """Find the names in the identifiers and texts of a module; docstrings are left out."""
    tree = ast.parse(source)
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            # A query is split by its placeholders, so whether a part is SQL is decided by the whole text.
            parts = [each for each in node.values if isinstance(each, ast.Constant)]
            left_out.update(map(id, parts))
            yield from _scan_text("".join(str(each.value) for each in parts), names, module, node.lineno)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield from _scan_text(node.value, names, module, node.lineno)
        for field in ("id", "attr", "arg", "name"):
            identifier = getattr(node, field, None)
            if isinstance(identifier, str):
                for name in _names_in_identifier(identifier, names):
                    yield Found(module, getattr(node, "lineno", 0), name, identifier, is_sql=False)


def _scan_text(text: str, names: set[str], module: str, line: int) -> Iterator[Found]:
    is_sql = bool(_SQL.search(text)) and not _MARKUP.search(text)
    for name in sorted(set(re.findall(r"\w+", text)) & names):
        yield Found(module, line, name, " ".join(text.split())[:80], is_sql)


def _names_in_identifier(identifier: str, names: set[str]) -> list[str]:
    """Return the names that an identifier is, or, if they have several words, that it contains."""
    words = f"_{identifier.lower()}_"
    return [name for name in sorted(names) if name == identifier.strip("_") or ("_" in name and f"_{name}_" in words)]


def scan_template(source: str, names: set[str], module: str = "") -> Iterator[Found]:
    """Find the names in a template or style sheet, in code and in prose: "Net revenue" is a name of several words."""
    patterns = {name: re.compile(rf"(?<![a-z0-9]){name.replace('_', '[_ ]')}(?![a-z0-9])", re.IGNORECASE) for name in names}
    for number, line in enumerate(source.splitlines(), start=1):
        for name in sorted(name for name, pattern in patterns.items() if pattern.search(line)):
            yield Found(module, number, name, line.strip()[:80], is_sql=False)


def is_allowed(found: Found) -> bool:
    return (found.module, found.name) in EXCEPTIONS or (found.name in ORDINARY_WORDS and not found.is_sql)


def scan_files(scan_text: Callable[[str, set[str], str], Iterator[Found]], *suffixes: str) -> list[Found]:
    names = canonical_names()
    paths = sorted(path for path in PACKAGE.rglob("*") if path.suffix in suffixes)
    return [
        found
        for path in paths
        for found in scan_text(path.read_text(encoding="utf-8"), names, path.relative_to(PACKAGE).as_posix())
    ]


def list_places(found: list[Found]) -> str:
    return "\n".join(f"{each.module}:{each.line}: {each.name} in {each.text!r}" for each in found)


def test_package_code_has_no_canonical_names() -> None:
    found = [each for each in scan_files(scan, ".py") if not is_allowed(each)]
    assert not found, list_places(found)


def test_templates_have_no_canonical_names() -> None:
    found = [each for each in scan_files(scan_template, ".j2", ".css", ".html") if each.name not in TEMPLATE_WORDS]
    assert not found, list_places(found)


def test_allowed_words_are_canonical_names() -> None:
    names = canonical_names()
    assert set(ORDINARY_WORDS) >= TEMPLATE_WORDS
    assert not {*ORDINARY_WORDS, *(name for _, name in EXCEPTIONS)} - names


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("x = 'SELECT order_id FROM t'", ["order_id"]),
        ("x = f'SELECT {a} FROM silver.{b} WHERE status = 1'", ["status"]),
        ("x = f'{a} AND product_id IN ({b})'", ["product_id"]),
        ("order_date = 1", ["order_date"]),
        ("def f(first_order_date): pass", ["first_order_date", "order_date"]),
        ("row.customer_key", ["customer_key"]),
        ("f(line_amount=1)", ["line_amount"]),
        ("x = {'gross_revenue': 1}", ["gross_revenue"]),
        ('"""About order_id."""', []),
        ("x = 'reordered'", []),
    ],
)
def test_scan_finds_names_in_texts_and_identifiers(code: str, names: list[str]) -> None:
    assert sorted({each.name for each in scan(code, canonical_names())}) == names


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ('{{ figures.get("net_revenue") | money }}', ["net_revenue"]),
        ("<dt>Net revenue</dt>", ["net_revenue"]),
        ("<dt>Orders</dt>", ["orders"]),
        ("{{ line.amount }} reordered", ["amount"]),
    ],
)
def test_scan_finds_names_in_templates(template: str, names: list[str]) -> None:
    assert [each.name for each in scan_template(template, canonical_names())] == names


def test_ordinary_words_are_refused_in_sql() -> None:
    (found,) = scan("x = f'SELECT {a} FROM t WHERE status = 1'", canonical_names())
    assert not is_allowed(found)
    (found,) = scan("x = {'status': 1}", canonical_names())
    assert is_allowed(found)
