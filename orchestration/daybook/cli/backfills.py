"""Commands on many business dates: backfill, catch-up, backfills."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import os
import sys
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timezone
from itertools import groupby
from typing import Annotated, Callable, NoReturn

import typer

from daybook.cli.app import app, load_command_settings, load_runner
from daybook.cli.gaps import SinceOption, UntilOption
from daybook.cli.options import AllowMissingOption, EnvOption, JsonOption, NoFollowOption, SetOption, YesOption
from daybook.cli.runs import exit_with_report, wait_for_execution
from daybook.cli.terminal import (
    NOTE,
    Part,
    console,
    format_megabytes,
    format_number,
    print_json,
    print_line,
    print_table,
    require_confirmation,
    style_outcome,
)
from daybook.errors import EXIT_FAILED, EXIT_OK, UsageError
from daybook.execution.halves import find_date_outcomes
from daybook.execution.runner import get_runner
from daybook.records.archive import Archive
from daybook.records.formatting import format_decimal
from daybook.records.models import BackfillRecord, RangeDate
from daybook.records.names import NOT_STARTED, STAGES
from daybook.scheduling.backfills import (
    BackfillPlan,
    count_outcomes,
    plan_backfill,
    plan_catch_up,
    read_backfills,
    read_results,
)
from daybook.scheduling.estimates import estimate_backfill
from daybook.scheduling.gaps import find_gaps, select_for_catch_up
from daybook.scheduling.ranges import DEFAULT_CHUNK, parse_chunk
from daybook.settings import Settings, parse_run_date

ParallelOption = Annotated[
    int,
    typer.Option("--parallel", help="Number of runs at a time.", show_default="number of cores", min=1, max=40, metavar="N"),
]
ChunkOption = Annotated[
    str,
    typer.Option(
        "--chunk",
        help="The longest range that one run processes: day, week, month, or a number of dates.",
        metavar="day|week|month|N",
        callback=parse_chunk,
    ),
]
_MAX_LISTED_RANGES = 24
"""Maximum number of ranges in a printed plan."""
DEFAULT_PARALLEL = min(os.cpu_count() or 1, 40)


@app.command()
def backfill(
    first: Annotated[date, typer.Argument(metavar="FIRST", parser=parse_run_date, help="The first business date, YYYY-MM-DD.")],
    last: Annotated[date, typer.Argument(metavar="LAST", parser=parse_run_date, help="The last business date, included.")],
    env: EnvOption = "local",
    set_: SetOption = None,
    parallel: ParallelOption = DEFAULT_PARALLEL,
    chunk: ChunkOption = DEFAULT_CHUNK,
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
    """Run all business dates from FIRST to LAST without a successful run.

    One run processes a range of consecutive dates, by default a calendar month, and several runs work at a time. The plan is
    printed first, with the expected time, memory and cost on AWS.

    Ctrl-C stops it cleanly; the same command then continues. Exit code: 1 if a date failed, else 3 if one was rejected, else 0.
    """
    from daybook.cli.progress import BackfillProgress

    settings, runner = load_runner(env, set_, allow_missing=allow_missing)
    runner.require_ready()
    runner.close_lost_runs(first, last)
    plan = plan_backfill(settings, first, last, force=force, first_stage=_parse_first_stage(stages), chunk=chunk)
    if not as_json:
        _print_plan(plan)
        _print_estimate(settings, plan, parallel)
    # A backfill that was stopped after its last date still needs its summary.
    if not plan.days and plan.continues is None:
        if as_json:
            print_json(None)
        return
    if plan.days:
        _require_confirmation(plan, parallel, yes)
    with wait_for_execution(settings, runner, as_json):
        record = runner.backfill(
            plan,
            lambda: BackfillProgress(console, len(plan.days), shown=not as_json, read_outcomes=_outcome_reader(settings)),
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
    chunk: ChunkOption = DEFAULT_CHUNK,
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

    settings, runner = load_runner(env, set_)
    runner.require_ready()
    runner.close_lost_runs(since, until)
    found = find_gaps(settings, now=datetime.now(timezone.utc), since=since, until=until)
    chosen = select_for_catch_up(found.gaps, limit, include_stale=stale)
    if not as_json:
        number = format_number(len(found.gaps), "gap")
        dates = f" from {found.since} to {found.until}; {len(chosen)} to run:" if chosen else ", none to run."
        print_line(number, dates)
        _print_dates(gap.run_date for gap in chosen)
    if not chosen:
        if as_json:
            print_json(None)
        return
    plan = plan_catch_up(settings, [gap.run_date for gap in chosen], chunk=chunk)
    if not as_json:
        _print_estimate(settings, plan, parallel)
    _require_confirmation(plan, parallel, yes)
    with wait_for_execution(settings, runner, as_json):
        problem, record = runner.catch_up(
            lambda: BackfillProgress(console, len(chosen), shown=not as_json, read_outcomes=_outcome_reader(settings)),
            limit=limit,
            parallel=parallel,
            chunk=chunk,
            since=str(since) if since else None,
            until=str(until) if until else None,
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
        print_line("No gaps left: other runs have closed them.")
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
    rows = []
    for record in records:
        counts = record.counts if record.outcome else count_outcomes(read_results(archive, record.backfill_id))
        started = record.started_at[:19].replace("T", " ")
        rows.append((record.backfill_id, started, _style_state(settings, record), _format_counts(counts)))
    print_table(["backfill", "started (UTC)", "outcome", "dates"], rows)


def print_backfill(settings: Settings, record: BackfillRecord) -> None:
    """Print a backfill: a table of its dates, its unusual days, and how to continue it."""
    rows: list[list[Part]] = [
        [
            str(each.run_date),
            each.run_id,
            ("not started", "dim") if each.outcome == NOT_STARTED else style_outcome(each.outcome),
            "" if each.seconds is None else f"{each.seconds:.1f}",
            each.reason,
        ]
        for each in record.results or []
    ]
    print_table(["date", "run", "outcome", "seconds", "reason"], rows, right=["seconds"])
    for day in record.unusual_days:
        print_line("  ", NOTE, f" {day.run_date}: {day.warning}")
    if record.outcome is None:
        print_line(f"{record.backfill_id} has not ended: ", _style_state(settings, record))
        return
    for reason in record.reasons:
        print_line(f"  {reason}")
    text = f" {record.backfill_id} in {record.seconds or 0.0:.1f} s: {_format_counts(record.counts)}."
    stopped = " Stopped; the same command continues it." if record.stopped else ""
    print_line(style_outcome(record.outcome), text, stopped)


def _outcome_reader(settings: Settings) -> Callable[[str], Mapping[str, RangeDate]]:
    """Return a function that reads the outcomes of an ended run's dates."""
    archive = Archive(settings.archive)

    def read(run_id: str) -> Mapping[str, RangeDate]:
        closed = archive.read_closing_records(run_id)
        return find_date_outcomes(archive, closed[-1]) if closed else {}

    return read


def _finish(settings: Settings, record: BackfillRecord, as_json: bool) -> NoReturn:
    if as_json:
        print_json(record.to_json())
    else:
        print_backfill(settings, record)
    exit_with_report(settings, record.outcome, as_json)


def _style_state(settings: Settings, record: BackfillRecord) -> Part:
    """Return the outcome of a backfill. One without a closing record is running or lost."""
    if record.outcome:
        return style_outcome(record.outcome)
    return style_outcome("RUNNING" if get_runner(settings).is_running(record.backfill_id) else "LOST")


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {outcome.lower()}" for outcome, count in counts.items()) or "no dates"


def _print_plan(plan: BackfillPlan) -> None:
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
    dates = format_number((plan.last - plan.first).days + 1, "date")
    print_line((f"{plan.first} to {plan.last}", "bold"), f": {dates}{start}: {'; '.join(parts)}.")
    if plan.continues:
        print_line(f"Continues {plan.continues}, which did not end.")
    _print_dates(day.run_date for day in plan.days)


def _print_dates(days: Iterable[date]) -> None:
    """Print dates, one line for each month."""
    for month, of_month in groupby(days, key=lambda day: day.strftime("%Y-%m")):
        print_line(f"  {month}: {' '.join(f'{day:%d}' for day in of_month)}")


def _print_estimate(settings: Settings, plan: BackfillPlan, parallel: int) -> None:
    """Print the ranges of a plan, and the jobs, time, memory and cost that are expected."""
    if not plan.ranges:
        return
    for each in plan.ranges[:_MAX_LISTED_RANGES]:
        span = f"{each.run_date} to {each.until}" if each.until else str(each.run_date)
        print_line(f"  {span}: {format_number(len(each.dates), 'date')}, {format_megabytes(each.size or 0)}")
    if len(plan.ranges) > _MAX_LISTED_RANGES:
        print_line(f"  and {len(plan.ranges) - _MAX_LISTED_RANGES:,} more ranges")
    found = estimate_backfill(settings, plan, parallel=parallel)
    parts = [f"{format_number(len(plan.ranges), 'range')}, {format_number(found.jobs, 'job')}"]
    bound = "about" if found.from_ranges else "at most"
    parts.append("no run is on record that says how long" if found.seconds is None else f"{bound} {found.seconds:,.0f} s")
    if found.peak_memory_bytes:
        of_one_date = "" if found.from_ranges else " for one date"
        parts.append(f"{format_megabytes(found.peak_memory_bytes)} of memory{of_one_date}")
    if found.cost is not None:
        # A job is billed at least a minute.
        least = "at least " if found.seconds is None else ""
        cost = f"{least}{format_decimal(found.cost, 4)} {found.currency} on AWS"
        if found.cost_by_date is not None and found.jobs_by_date > found.jobs:
            cost += f" ({format_decimal(found.cost_by_date, 4)} with the {found.jobs_by_date:,} jobs of a run for each date)"
        parts.append(cost)
    print_line(f"Expected: {'; '.join(parts)}.")


def _require_confirmation(plan: BackfillPlan, parallel: int, yes: bool) -> None:
    runs = len(plan.ranges)
    dates = format_number(len(plan.days), "date")
    what = dates if runs == len(plan.days) else f"{dates} in {format_number(runs, 'range')}"
    require_confirmation(f"Run {what}, {min(parallel, runs)} at a time?", yes, err=True)


def _parse_first_stage(text: str) -> str:
    """Return ``aggregate`` for ``aggregate..``. Raises ``UsageError`` for notify, which does nothing useful alone."""
    stage, dots, rest = text.partition("..")
    if stage not in STAGES[:-1] or dots != ".." or rest:
        raise UsageError(
            f"--stages {text}: give the stage to begin at and two dots, one of {', '.join(f'{s}..' for s in STAGES[:-1])}"
        )
    return stage
