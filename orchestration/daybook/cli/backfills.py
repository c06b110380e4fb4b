"""Commands on many business dates: backfill, catch-up, backfills."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import os
import sys
from collections.abc import Iterable
from datetime import date, datetime, timezone
from itertools import groupby
from typing import Annotated, NoReturn

import typer

from daybook.cli.app import (
    EXIT_CODES,
    AllowMissingOption,
    EnvOption,
    JsonOption,
    NoFollowOption,
    SetOption,
    app,
    console,
    escape_markup,
    load_command_settings,
    new_table,
    print_json,
    require_runnable,
    style_outcome,
)
from daybook.cli.gaps import SinceOption, UntilOption
from daybook.cli.runs import wait_for_execution, write_report
from daybook.errors import EXIT_FAILED, EXIT_OK, UsageError
from daybook.records.archive import Archive
from daybook.records.models import BackfillRecord
from daybook.records.names import NOT_STARTED, STAGES
from daybook.scheduling.backfills import BackfillPlan, count_outcomes, plan_backfill, read_backfills, read_results
from daybook.settings import Settings, parse_run_date, require_own_lake

ParallelOption = Annotated[
    int,
    typer.Option("--parallel", help="Number of dates at a time.", show_default="number of cores", min=1, max=40, metavar="N"),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask first.")]
DEFAULT_PARALLEL = min(os.cpu_count() or 1, 40)


@app.command()
def backfill(
    first: Annotated[str, typer.Argument(metavar="FIRST", help="The first business date, YYYY-MM-DD.")],
    last: Annotated[str, typer.Argument(metavar="LAST", help="The last business date, included.")],
    env: EnvOption = "local",
    set_: SetOption = None,
    parallel: ParallelOption = DEFAULT_PARALLEL,
    force: Annotated[bool, typer.Option("--force", help="Also run dates that have a successful run.")] = False,
    allow_missing: AllowMissingOption = False,
    stages: Annotated[
        str,
        typer.Option(
            "--stages", help="Begin at this stage, such as aggregate.., for dates that reached it before.", metavar="STAGE.."
        ),
    ] = f"{STAGES[0]}..",
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop all dates when one fails.")] = False,
    yes: YesOption = False,
    no_follow: NoFollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run all business dates from FIRST to LAST without a successful run, several at a time.

    Ctrl-C stops it cleanly; the same command then continues. Exit code: 1 if a date failed, else 3 if one was rejected, else 0.
    """
    from daybook.cli.progress import BackfillProgress
    from daybook.execution.runner import get_runner

    settings = load_command_settings(env, set_, allow_missing=allow_missing)
    require_runnable(settings)
    require_own_lake(settings)
    home = get_runner(settings)
    home.require_ready()
    home.close_lost_runs(parse_run_date(first), parse_run_date(last))
    plan = plan_backfill(
        settings, parse_run_date(first), parse_run_date(last), force=force, first_stage=_parse_first_stage(stages)
    )
    if not as_json:
        _print_plan(plan)
    # A backfill that was stopped after its last date still needs its summary.
    if not plan.days and plan.continues is None:
        if as_json:
            print_json(None)
        return
    if plan.days:
        _confirm(len(plan.days), parallel, yes)
    with wait_for_execution(settings, home, as_json):
        record = home.backfill(
            plan,
            lambda: BackfillProgress(console, len(plan.days), shown=not as_json),
            parallel=parallel,
            fail_fast=fail_fast,
            follow=not no_follow,
        )
    _finish(settings, record, as_json)


@app.command(name="catch-up")
def catch_up(
    env: EnvOption = "local",
    set_: SetOption = None,
    limit: Annotated[int, typer.Option("--limit", help="Maximum number of dates, oldest first.", min=1, max=1000)] = 30,
    since: SinceOption = None,
    until: UntilOption = None,
    stale: Annotated[
        bool, typer.Option("--stale", help="Also run dates with other code, contracts, packages or snapshot.")
    ] = False,
    parallel: ParallelOption = DEFAULT_PARALLEL,
    yes: YesOption = False,
    no_follow: NoFollowOption = False,
    as_json: JsonOption = False,
) -> None:
    """Run the dates that `daybook gaps` lists, oldest first.

    Dates that a run cannot help are left out: rejected dates with unchanged input, and dates that have lost their files. Dates
    that are gaps only because of other code, contracts or packages need --stale.
    """
    from daybook.cli.progress import BackfillProgress
    from daybook.execution.runner import get_runner
    from daybook.scheduling.gaps import find_gaps, select_for_catch_up

    settings = load_command_settings(env, set_)
    require_runnable(settings)
    require_own_lake(settings)
    home = get_runner(settings)
    home.require_ready()
    home.close_lost_runs(parse_run_date(since) if since else None, parse_run_date(until) if until else None)
    found = find_gaps(
        settings,
        now=datetime.now(timezone.utc),
        since=parse_run_date(since) if since else None,
        until=parse_run_date(until) if until else None,
    )
    chosen = select_for_catch_up(found.gaps, limit, include_stale=stale)
    if not as_json:
        number = "1 gap" if len(found.gaps) == 1 else f"{len(found.gaps)} gaps"
        console.print(
            f"{number} from {found.since} to {found.until}; {len(chosen)} to run:" if chosen else f"{number}, none to run."
        )
        _print_dates(gap.run_date for gap in chosen)
    if not chosen:
        if as_json:
            print_json(None)
        return
    _confirm(len(chosen), parallel, yes)
    with wait_for_execution(settings, home, as_json):
        problem, record = home.catch_up(
            lambda: BackfillProgress(console, len(chosen), shown=not as_json),
            limit=limit,
            parallel=parallel,
            since=since,
            until=until,
            include_stale=stale,
            follow=not no_follow,
        )
    if record is not None:
        _finish(settings, record, as_json)
    if as_json:
        print_json(None)
    if problem:
        print(f"The catch-up failed: {problem}", file=sys.stderr)
    elif not as_json:
        console.print("No gaps left: other runs have closed them.")
    raise typer.Exit(EXIT_FAILED if problem else EXIT_OK)


@app.command()
def backfills(env: EnvOption = "local", set_: SetOption = None, as_json: JsonOption = False) -> None:
    """List the backfills, newest first; `daybook show NAME` shows one."""
    settings = load_command_settings(env, set_)
    archive = Archive(settings.archive)
    records = list(reversed(read_backfills(archive)))
    if as_json:
        print_json([record.to_json() for record in records])
        return
    if not records:
        print("There are no backfills yet; `daybook backfill FIRST LAST` makes one.")
        return
    table = new_table("backfill", "started (UTC)", "outcome", "dates")
    for record in records:
        counts = record.counts if record.outcome else count_outcomes(read_results(archive, record.backfill_id))
        outcome = style_outcome(record.outcome) if record.outcome else _format_open_state(settings, record.backfill_id)
        table.add_row(record.backfill_id, record.started_at[:19].replace("T", " "), outcome, _format_counts(counts))
    console.print(table)


def print_backfill(settings: Settings, record: BackfillRecord) -> None:
    """Print a backfill: a table of its dates, its unusual days, and how to continue it."""
    table = new_table("date", "run", "outcome", "seconds", "reason", right=("seconds",))
    for each in record.results or []:
        outcome = "[dim]not started[/]" if each.outcome == NOT_STARTED else style_outcome(each.outcome)
        seconds = "" if each.seconds is None else f"{each.seconds:.1f}"
        table.add_row(each.run_date.isoformat(), each.run_id, outcome, seconds, escape_markup(each.reason))
    console.print(table)
    for day in record.unusual_days:
        console.print(f"  [yellow]Note:[/] {day.run_date}: {escape_markup(day.warning)}", soft_wrap=True)
    if record.outcome is None:
        console.print(f"{record.backfill_id} has not ended: {_format_open_state(settings, record.backfill_id)}")
        return
    for reason in record.reasons:
        console.print(f"  {escape_markup(reason)}", soft_wrap=True)
    stopped = " Stopped; the same command continues it." if record.stopped else ""
    console.print(
        f"{style_outcome(record.outcome)} {record.backfill_id} in {record.seconds or 0.0:.1f} s: "
        f"{_format_counts(record.counts)}.{stopped}"
    )


def _finish(settings: Settings, record: BackfillRecord, as_json: bool) -> NoReturn:
    # The outcome comes first: the report can be written again later, for example if the disk is full now.
    if as_json:
        print_json(record.to_json())
    else:
        print_backfill(settings, record)
    index = write_report(settings)
    if not as_json:
        console.print(f"Report: {index}", soft_wrap=True)
    raise typer.Exit(EXIT_CODES.get(record.outcome or "", EXIT_FAILED))


def _format_open_state(settings: Settings, backfill_id: str) -> str:
    """Return whether a backfill without a closing record is running or lost."""
    from daybook.execution.runner import get_runner

    return style_outcome("RUNNING") if get_runner(settings).is_running(backfill_id) else "[red]LOST[/]"


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome.lower()}" for outcome, count in counts.items()) or "no dates"


def _print_plan(plan: BackfillPlan) -> None:
    asked = (plan.last - plan.first).days + 1
    parts = [f"{len(plan.days)} to run"]
    if plan.already_done:
        parts.append(f"{len(plan.already_done)} omitted (already successful; --force runs them again)")
    if plan.missing_earlier_stages:
        parts.append(
            f"{len(plan.missing_earlier_stages)} omitted, because their newest run did not reach {plan.first_stage} "
            "(run them without --stages)"
        )
    if plan.under_way:
        parts.append(f"under way: {', '.join(plan.under_way)}")
    start = "" if plan.first_stage == STAGES[0] else f", from {plan.first_stage} on"
    dates = "1 date" if asked == 1 else f"{asked} dates"
    console.print(f"[bold]{plan.first} to {plan.last}[/]: {dates}{start}: {'; '.join(parts)}.", soft_wrap=True)
    if plan.continues:
        console.print(f"Continues {plan.continues}, which did not end.", soft_wrap=True)
    _print_dates(day.run_date for day in plan.days)


def _print_dates(days: Iterable[date]) -> None:
    """Print dates, one line for each month."""
    for month, of_month in groupby(days, key=lambda day: day.strftime("%Y-%m")):
        console.print(f"  {month}: {' '.join(f'{day:%d}' for day in of_month)}", soft_wrap=True)


def _confirm(dates: int, parallel: int, yes: bool) -> None:
    number = "1 date" if dates == 1 else f"{dates} dates"
    if not yes and not typer.confirm(f"Run {number}, {min(parallel, dates)} at a time?", err=True):
        raise typer.Exit(EXIT_FAILED)


def _parse_first_stage(text: str) -> str:
    """Return ``aggregate`` for ``aggregate..``. Raises ``UsageError`` for notify, which does nothing useful alone."""
    stage, dots, rest = text.partition("..")
    if stage not in STAGES[:-1] or dots != ".." or rest:
        raise UsageError(
            f"--stages {text}: give the stage to begin at and two dots, one of {', '.join(f'{s}..' for s in STAGES[:-1])}"
        )
    return stage
