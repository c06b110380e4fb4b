"""Render the page templates ``templates/*.html.j2``. Each page is one file that contains the style sheet."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from daybook.records.failures import NOT_RETRIED, first_line
from daybook.records.names import NOT_STARTED
from daybook.report import formats, records


def render_page(template: str, **values: Any) -> str:
    """Return the HTML page of ``templates/<template>.html.j2``. Every value is escaped unless it is Markup."""
    return page_environment().get_template(f"{template}.html.j2").render(values)


def load_templates() -> None:
    """Compile the templates in advance, which takes 0.2 s."""
    environment = page_environment()
    for name in environment.list_templates(extensions=["j2"]):
        environment.get_template(name)


@lru_cache(maxsize=2)
def page_environment(package: str = "daybook.report") -> Environment:
    """Return the environment of a package's templates, which can use those of the report: frame, macros and style sheet."""
    packages = dict.fromkeys([package, "daybook.report"])
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(each) for each in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=formats.format_count,
        money=formats.format_money,
        figure=formats.format_figure,
        label=formats.format_label,
        duration=formats.format_duration,
        file_size=formats.format_file_size,
        instant=formats.format_instant,
        short_hash=formats.format_short_hash,
        first_line=first_line,
        outcome=records.outcome_of,
        attempt_files=records.list_attempt_files,
    )
    environment.globals.update(
        UNKNOWN=formats.UNKNOWN,
        NOT_STARTED=NOT_STARTED,
        NOT_RETRIED=f"{NOT_RETRIED[0].upper()}{NOT_RETRIED[1:]}.",
        share=formats.format_share,
        code_version=formats.format_code_version,
        outcomes=list(records.OUTCOMES.values()),
    )
    return environment
