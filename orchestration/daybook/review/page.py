"""Write a comparison as a page: one file with the style sheet of the report."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from jinja2 import Environment

from daybook.report.pages import page_environment
from daybook.review import formats
from daybook.review.table_diff import Comparison
from daybook.storage import wrap_write_errors


def write_page(comparison: Comparison, path: Path, *, title: str) -> None:
    """Write the page of a comparison; ``title`` is the shop's title."""
    with wrap_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(render_comparison(comparison, title=title), encoding="utf-8")


def render_comparison(comparison: Comparison, *, title: str) -> str:
    """Return the page of a comparison; ``title`` is the shop's title."""
    return _environment().get_template("comparison.html.j2").render(comparison=comparison, title=title)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = page_environment("daybook.review")
    environment.filters.update(
        change=formats.format_change,
        dates=formats.format_dates,
        sample=formats.format_sample,
        schema_change=formats.describe_schema_change,
        totals=formats.format_totals,
        values=formats.format_values,
    )
    return environment
