"""Write a comparison as a page: one file with the style sheet of the report."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment

from daybook.report.pages import page_environment
from daybook.review import formats
from daybook.review.table_diff import Comparison
from daybook.storage import wrap_write_errors

if TYPE_CHECKING:  # A preview imports what executes notebooks.
    from daybook.review.preview import Preview


def write_page(comparison: Comparison, path: Path, *, title: str) -> None:
    """Write the page of a comparison; ``title`` is the shop's title."""
    _write(path, render_comparison(comparison, title=title))


def write_preview_page(preview: Preview, path: Path, *, title: str) -> None:
    """Write the page of a preview: that of its comparison, with the dates and their reasons."""
    template = _environment().get_template("preview.html.j2")
    _write(path, template.render(preview=preview, comparison=preview.comparison, title=title))


def _write(path: Path, page: str) -> None:
    with wrap_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")


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
