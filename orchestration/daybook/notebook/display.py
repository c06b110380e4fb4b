"""Show small tables, facts and the result of a stage in a notebook."""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional

from daybook.records.formatting import escape_control_characters, format_value

_CELL_STYLE = "padding:3px 12px 3px 0;border:0;border-bottom:1px solid rgba(128,128,128,.25);vertical-align:top;"
_LINE_WIDTH = 100
_ID_COLUMN = re.compile(r"(^|[ _])(id|number|seq(uence)?|no)$|(^|[a-z])(ID|Id|Number|No)$")
"""Columns whose numbers identify something (``item_id``, ``CustomerID``, ``row number``) and get no thousands separator."""
_PSEUDONYM = re.compile(r"(?<![0-9A-Za-z])([0-9a-f]{8})[0-9a-f]{24}(?![0-9A-Za-z])")
_OUTCOME_SYMBOLS = {"SUCCEEDED": "✓", "SKIPPED": "–", "REJECTED": "✗", "FAILED": "!"}


@dataclass
class Listing:
    """A small table: column names and rows. ``total`` is the number of all rows if ``rows`` has only the first.

    ``shorten_pseudonyms`` shows the first eight digits of each pseudonym: the archive has no whole ones.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    percent: Sequence[str] = field(default_factory=list)
    total: Optional[int] = None
    shorten_pseudonyms: bool = False

    def _format_cells(self) -> list[list[str]]:
        texts = []
        for row in self.rows:
            cells = []
            for name, value in zip(self.columns, row):
                # An identifying number is not grouped: order 1,234 would be hard to look up.
                named = isinstance(value, int) and _ID_COLUMN.search(name) is not None
                plain = str(value) if named and value is not None else format_value(value, percent=name in self.percent)
                cells.append(_PSEUDONYM.sub(r"\1…", plain) if self.shorten_pseudonyms else plain)
            texts.append(cells)
        return texts

    @property
    def _caption(self) -> str:
        if self.total is None:
            return ""
        shown = len(self.rows)
        rows = "1 row" if self.total == 1 else f"{self.total:,} rows"
        return rows if shown >= self.total else f"{rows}, the first {shown}"

    def _numeric_columns(self) -> list[bool]:
        values = zip(*self.rows) if self.rows else [()] * len(self.columns)
        return [any(isinstance(v, (int, float, Decimal)) and not isinstance(v, bool) for v in column) for column in values]

    def _repr_html_(self) -> str:
        numeric = self._numeric_columns()
        align = ["text-align:right;" if each else "text-align:left;" for each in numeric]
        head = "".join(
            f'<th style="{_CELL_STYLE}{side}font-weight:600;">{html.escape(name)}</th>'
            for name, side in zip(self.columns, align)
        )
        body = "".join(
            "<tr>"
            + "".join(
                f'<td style="{_CELL_STYLE}{side}font-variant-numeric:tabular-nums;">{html.escape(text)}</td>'
                for text, side in zip(row, align)
            )
            + "</tr>"
            for row in self._format_cells()
        )
        caption = f"<p><small>{self._caption}</small></p>" if self._caption else ""
        if not self.rows:
            body = f'<tr><td style="{_CELL_STYLE}opacity:.65;" colspan="{len(self.columns)}">no rows</td></tr>'
        table = f'<table style="border-collapse:collapse;margin:0;"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        return f'<div style="overflow-x:auto">{table}{caption}</div>'

    def __repr__(self) -> str:
        texts = [[escape_control_characters(text) for text in row] for row in (self.columns, *self._format_cells())]
        widths = [max(len(row[index]) for row in texts) for index in range(len(self.columns))]
        numeric = self._numeric_columns()
        lines = [
            "  ".join(
                text.rjust(width) if right else text.ljust(width) for text, width, right in zip(row, widths, numeric)
            ).rstrip()
            for row in texts
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([*lines, *([self._caption] if self._caption else [])])


@dataclass
class FactList:
    """A few facts, one line each."""

    facts: dict[str, str]

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><td style="{_CELL_STYLE}text-align:left;opacity:.65;">{html.escape(name)}</td>'
            f'<td style="{_CELL_STYLE}text-align:left;">{"<br>".join(map(html.escape, _wrap_lines(text)))}</td></tr>'
            for name, text in self.facts.items()
        )
        return f'<table style="border-collapse:collapse;margin:0;">{rows}</table>'

    def __repr__(self) -> str:
        width = max(len(name) for name in self.facts)
        indent = "\n" + " " * (width + 2)
        return "\n".join(f"{name.ljust(width)}  {indent.join(_wrap_lines(text))}" for name, text in self.facts.items())


@dataclass
class StageResult:
    """How a stage ended."""

    stage: str
    outcome: str
    reasons: list[str]
    rows: dict[str, Optional[int]]
    written: dict[str, int]

    def _facts(self) -> dict[str, str]:
        facts = {"Outcome": f"{_OUTCOME_SYMBOLS[self.outcome]} {self.outcome}"}
        if self.reasons:
            facts["Why"] = "; ".join(self.reasons)
        counted = [f"{count:,} {name}" for name, count in self.rows.items() if count is not None]
        if counted:
            facts["Rows"] = ", ".join(counted)
        for layer in dict.fromkeys(name.split(".")[0] for name in self.written):
            mine = [(name, version) for name, version in self.written.items() if name.startswith(f"{layer}.")]
            facts[f"Written to {layer}"] = ", ".join(f"{name.split('.')[1]} (version {version})" for name, version in mine)
        return facts

    def _repr_html_(self) -> str:
        return FactList(self._facts())._repr_html_()

    def __repr__(self) -> str:
        return repr(FactList(self._facts()))


def _wrap_lines(text: str) -> list[str]:
    """Wrap a long text to the width of a page; tables of reports do not wrap."""
    return textwrap.wrap(text, _LINE_WIDTH, break_long_words=False, break_on_hyphens=False) or [text]


def money_as_text(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return figures for a record, in which a decimal is a text."""
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in figures.items()}


def short_path(location: str) -> str:
    """Return a location with ``~`` for the home folder."""
    home = str(Path.home())
    return f"~{location[len(home) :]}" if location.startswith(f"{home}/") else location
