"""The frame of every page: templates, the one style sheet, and the words and formats that templates use.

Here: loading and rendering ``templates/*.html.j2``, each page complete in itself with the style sheet inside. Not here:
what a page shows (``notebook_page``, ``site``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from daybook.archive import NOT_RETRIED
from daybook.report import formats, records
from daybook.stages import NOT_STARTED


def render_page(template: str, **values: Any) -> str:
    """One whole HTML page from ``templates/<template>.html.j2``; every value is escaped unless it is Markup."""
    return _environment().get_template(f"{template}.html.j2").render(values)


def load_templates() -> None:
    """Compile the templates: the first page of a process else waits a fifth of a second for it."""
    environment = _environment()
    for name in environment.list_templates(extensions=["j2"]):
        environment.get_template(name)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("daybook.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=formats.count,
        money=formats.money,
        small_money=formats.small_money,
        duration=formats.duration,
        file_size=formats.file_size,
        instant=formats.instant,
        short_hash=formats.short_hash,
        first_line=records.first_line,
        outcome=records.outcome_of,
        attempt_files=records.attempt_files,
    )
    environment.globals.update(
        UNKNOWN=formats.UNKNOWN,
        NOT_STARTED=NOT_STARTED,
        NOT_RETRIED=f"{NOT_RETRIED[0].upper()}{NOT_RETRIED[1:]}.",
        share=formats.share,
        code_version=formats.code_version,
        outcomes=records.OUTCOMES,
    )
    return environment
