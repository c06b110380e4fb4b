"""Command that runs a change on representative dates and shows what it does to the numbers: preview."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import DONE, print_json, print_line, print_table, style_outcome
from daybook.errors import EXIT_REJECTED
from daybook.settings import parse_run_date

if TYPE_CHECKING:
    from daybook.records.models import StageResult
    from daybook.review.preview import Plan


@app.command()
def preview(
    dates: Annotated[
        Optional[list[date]],
        typer.Option(
            "--date",
            help="Run this date instead of representative ones; repeatable.",
            parser=parse_run_date,
            metavar="YYYY-MM-DD",
        ),
    ] = None,
    first_stage: Annotated[
        Optional[str],
        typer.Option("--stage", help="Begin with this stage instead of the first changed one.", metavar="NAME"),
    ] = None,
    html: Annotated[Optional[Path], typer.Option("--html", help="Also write the preview as a page.", metavar="FILE")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the development copy that the stages have written.")] = False,
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run the changed stages for representative dates in a copy of their own, and compare it with what is published.

    Nothing published changes. The JSON has schema changes, counts and totals, and no values of single rows.
    """
    from daybook.cli.runs import install_signal_handlers
    from daybook.review.preview import plan_preview, run_preview

    settings = load_command_settings(env, set_)
    plan = plan_preview(settings, dates or (), first_stage)
    if not as_json:
        _print_plan(plan)
    # The copy is removed after SIGTERM, too.
    install_signal_handlers()
    found = run_preview(settings, plan, _ignore_stage if as_json else _print_stage, keep=keep)
    if html is not None:
        from daybook.review.page import write_preview_page

        write_preview_page(found, html, title=settings.title)
    if as_json:
        print_json(found.without_rows().model_dump(mode="json"))
    elif plan.stages:
        from daybook.cli.compare import print_comparison

        print_line()
        if found.comparison.tables:
            print_comparison(found.comparison)
        else:
            print_line("No date has gold in the preview, so there is nothing to compare.")
        if html is not None:
            print_line(f"Page: {html}")
    if any(each.outcome == "REJECTED" for each in found.dates):
        raise typer.Exit(EXIT_REJECTED)


def _print_plan(plan: "Plan") -> None:
    if not plan.stages:
        print_line(DONE, " Nothing changed since the published dates were computed; --stage NAME runs a stage anyway.")
        return
    print_line(f"Changed: {', '.join(each.what for each in plan.changes) or 'nothing'}. Stages: {', '.join(plan.stages)}.")
    print_table(["date", "why"], [(str(day), why) for day, why in sorted(plan.reasons.items())])
    if plan.absent:
        print_line(f"The records have no such day: {', '.join(plan.absent)}.")
    print_line()


def _print_stage(day: date, result: "StageResult") -> None:
    print_line(f"{day} {result.stage} ", style_outcome(result.outcome), *(f"\n  {reason}" for reason in result.reasons))


def _ignore_stage(day: date, result: "StageResult") -> None:
    """Print nothing while a script waits for the JSON."""
