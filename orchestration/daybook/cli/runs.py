"""Commands that start and show runs: run, resume, runs, show, report."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import gc
import os
import signal
import webbrowser
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timezone
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Annotated, Any, Callable, NoReturn, Optional

import typer

from daybook.cli.app import app, load_command_settings, load_runner
from daybook.cli.options import AllowMissingOption, EnvOption, JsonOption, NoFollowOption, SetOption
from daybook.cli.profile import print_profile
from daybook.cli.terminal import NOTE, console, print_json, print_line, print_table, style_outcome
from daybook.errors import EXIT_FAILED, EXIT_OK, EXIT_REJECTED, UsageError
from daybook.execution.halves import find_date_outcomes
from daybook.execution.runner import RunDisplay, Runner, StillRunning, allocate_run, get_runner
from daybook.records.archive import Archive, describe_missing_files
from daybook.records.failures import describe_failure, first_line
from daybook.records.formatting import format_figures
from daybook.records.models import RangeDate, RunRecord
from daybook.records.names import range_of
from daybook.records.ranges import worst_outcome
from daybook.settings import DateRange, Settings, parse_date_range, parse_run_date

_EXIT_CODES = {"SUCCEEDED": EXIT_OK, "SKIPPED": EXIT_OK, "REJECTED": EXIT_REJECTED}
ProfileOption = Annotated[bool, typer.Option("--profile", help="Also show how long each phase of each stage took.")]
RunDateOption = Annotated[
    Optional[date], typer.Option("--date", help="The business date.", parser=parse_run_date, metavar="YYYY-MM-DD")
]

DateRangeOption = Annotated[
    Optional[DateRange],
    typer.Option(
        "--date",
        help="The business date, or the first and the last date of a range.",
        parser=parse_date_range,
        metavar="YYYY-MM-DD[..YYYY-MM-DD]",
    ),
]
_MAX_FIGURES = 4
"""Number of figures in the table of a range's dates; `daybook show` has all figures of a date."""


@app.command()
def run(
    env: EnvOption = "local",
    dates: DateRangeOption = None,
    set_: SetOption = None,
    allow_missing: AllowMissingOption = False,
    no_follow: NoFollowOption = False,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Process one business date, or a range of dates together: run the state machine with all six stages.

    On AWS, Ctrl-C stops waiting for the run, not the run. Exit code of a range: 1 if a date failed, else 3 if one was rejected,
    else 0.
    """
    settings, runner = load_runner(env, set_, allow_missing=allow_missing)
    default = settings.default_run_date
    dates = dates or (DateRange(default, default) if default else None)
    if dates is None:
        raise UsageError(f"Give the business date: --date YYYY-MM-DD (params/{settings.env}.yaml has no default_run_date).")
    runner.require_ready()
    execute_run(
        settings,
        runner,
        lambda display: runner.run(dates, lambda: allocate_run(settings, dates), display, follow=not no_follow),
        as_json=as_json,
        profile=profile,
    )


@app.command()
def resume(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    env: EnvOption = "local",
    set_: SetOption = None,
    no_follow: NoFollowOption = False,
) -> None:
    """Resume a run that failed or was interrupted, from the stage that did not end; completed stages are not run again."""
    settings, runner = load_runner(env, set_)
    execute_run(settings, runner, lambda display: runner.resume(run_id, display, follow=not no_follow), as_json=False)


def execute_run(
    settings: Settings, runner: Runner, start: Callable[[RunDisplay], RunRecord], *, as_json: bool, profile: bool = False
) -> NoReturn:
    """Start a run, show its progress and how it ended, and exit with the code of its outcome."""
    from daybook.cli.progress import Progress

    with wait_for_execution(settings, runner, as_json):
        record = start(lambda run_id: Progress(console, settings, run_id, live=not as_json))
    archive = Archive(settings.archive)
    found = find_date_outcomes(archive, record)
    if as_json:
        print_json(record.to_json())
    else:
        _print_outcome(settings, record, found)
        if profile:
            print_profile(archive, record)
    # The dates of a range that failed have the outcomes of its halves. A range without dates was lost when it started.
    outcome = worst_outcome(each.outcome for each in found.values()) if record.halves else record.outcome
    exit_with_report(settings, outcome, as_json)


def exit_with_report(settings: Settings, outcome: Optional[str], as_json: bool) -> NoReturn:
    """Write the report, and exit with the code of an outcome.

    Print the outcome first: the report can be written again later, for example if the disk is full now.
    """
    index = write_report(settings)
    if not as_json:
        print_line(f"Report: {index}")
    raise typer.Exit(_EXIT_CODES.get(outcome or "", EXIT_FAILED))


@contextmanager
def wait_for_execution(settings: Settings, runner: Runner, as_json: bool) -> Iterator[None]:
    """Wait for an execution, and import what the report needs meanwhile.

    A signal ends an execution that ends with this command. Otherwise the command prints that the execution continues, and
    exits with code 0 after --no-follow, with 1 after an interrupt.
    """
    Thread(target=_preload_report, daemon=True).start()

    if runner.ends_with_command:
        install_signal_handlers()
    try:
        yield
    except StillRunning as running:
        if as_json:
            print_json({"started": running.name, "link": running.link})
        else:
            command = f"{'show' if running.name else 'backfills'} {settings.command_options} {running.name}".rstrip()
            name = running.name or "The catch-up"
            print_line(f"{name} continues on AWS; follow it with `daybook {command}`, or at {running.link}")
        raise typer.Exit(EXIT_FAILED if running.interrupted else EXIT_OK) from None


@app.command()
def runs(env: EnvOption = "local", set_: SetOption = None, as_json: JsonOption = False) -> None:
    """List the runs of the archive, newest business date first. A run over a range of dates is one line.

    JSON also has the date runs of ranges.
    """
    settings = load_command_settings(env, set_)
    archive, runner = Archive(settings.archive), get_runner(settings)
    run_ids = [*reversed(archive.range_ids()), *reversed(archive.run_ids())]
    # The sort is stable, so a range comes before the date runs of its last date.
    run_ids.sort(key=lambda run_id: range_of(run_id)[1], reverse=True)
    records = [runner.refresh_record(archive.run(run_id)) for run_id in run_ids]
    if as_json:
        print_json([_summarize_run(record) for record in records])
        return
    if not records:
        print("There are no runs yet; `daybook run` makes one.")
        return
    rows = [
        (
            record.run_id,
            _format_dates(record),
            style_outcome("ROLLED BACK" if record.rolled_back else record.outcome),
            record.started_at[:19].replace("T", " "),
            "" if record.seconds is None else f"{record.seconds:.1f}",
            str(len(record.stages)),
        )
        for record in records
        if not record.range_id
    ]
    print_table(["run", "date", "outcome", "started (UTC)", "seconds", "attempts"], rows, right=["seconds", "attempts"])


def _format_dates(record: RunRecord) -> str:
    """Return the date of a run; of a range, the number of its dates by outcome."""
    if not record.is_range:
        return str(record.run_date)
    counts = Counter(each.outcome for each in record.dates.values())
    return ", ".join(f"{count} {outcome.lower()}" for outcome, count in sorted(counts.items())) or "no dates"


def _summarize_run(record: RunRecord) -> dict[str, Any]:
    from daybook.scheduling.freshness import is_published

    keys = ("run_id", "run_date", "env", "outcome", "reasons", "started_at", "ended_at", "seconds", "summary")
    content = {key: getattr(record, key) for key in keys}
    if record.range_id:
        content["range_id"] = record.range_id
    if record.is_range:
        content["until"] = record.until
        content["dates"] = {day: each.to_json() for day, each in record.dates.items()}
    if record.rolled_back:
        content["rolled_back"] = record.rolled_back.to_json()
    return content if is_published(record) else {**content, "summary": None}


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Show a run: stages, attempts, rows, tables and the reasons of its outcome; or a range or a backfill, by dates."""
    from daybook.scheduling.backfills import is_backfill, read_backfill, read_results

    settings = load_command_settings(env, set_)
    archive = Archive(settings.archive)
    if is_backfill(run_id):
        from daybook.cli.backfills import print_backfill

        whole = read_backfill(archive, run_id)
        if whole.results is None:
            whole.results = read_results(archive, run_id)
        print_json(whole.to_json()) if as_json else print_backfill(settings, whole)
        return
    record = get_runner(settings).refresh_record(archive.run(run_id))
    if as_json:
        print_json(record.to_json())
        return
    _print_run(archive, record)
    if profile:
        print_profile(archive, record)
    print_line(f"Files: {archive.store.href(archive.folder(record.range_id or run_id))}")


@app.command()
def report(
    env: EnvOption = "local",
    set_: SetOption = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the HTML report: a calendar of business dates, the list of runs, a page for each run."""
    index = write_report(load_command_settings(env, set_))
    print(index)
    if open_:
        webbrowser.open(index.as_uri())


def install_signal_handlers() -> None:
    """Let Ctrl-C, a closed terminal or SIGTERM end an execution: its jobs are stopped and recorded, so that it can be resumed.

    That takes a moment. A second signal prints that; a third one ends the process at once.
    """
    received = count(1)

    def stop(signum: int, frame: object) -> None:
        if next(received) == 2:
            os.write(2, b"Stopping: what is under way is being put on record. Once more leaves at once.\n")
            return
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


def _preload_report() -> None:
    from daybook.report import site  # noqa: F401 (imported for later)
    from daybook.report.pages import load_templates

    load_templates()


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Pause the garbage collector: a thousand records are many objects without cycles, and tracing them takes a second."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_without_garbage_collection()
def write_report(settings: Settings) -> Path:
    """Write the HTML report over a deployment's archive, and return its first page."""
    from daybook.report.site import build_site
    from daybook.scheduling.backfills import read_backfills, read_results
    from daybook.scheduling.calendar import load_calendar

    archive = Archive(settings.archive)
    out = Path(settings.report)
    records = [archive.run(run_id) for run_id in archive.run_ids()]
    backfills = read_backfills(archive)
    for each in backfills:
        if each.results is None:
            each.results = read_results(archive, each.backfill_id)

    def href(run_id: str, file: str) -> str:
        place = archive.store.href(f"{archive.folder(run_id)}/{file}")
        return place if "://" in place else os.path.relpath(place, out / "runs")

    return build_site(
        records,
        out=out,
        history_of=archive.history,
        archive_href=href,
        title=settings.title,
        now=datetime.now(timezone.utc),
        calendar=load_calendar(settings),
        backfills=backfills,
        ranges=[archive.run(run_id) for run_id in archive.range_ids()],
    )


def _print_outcome(settings: Settings, record: RunRecord, dates: Mapping[str, RangeDate]) -> None:
    """Print how a run ended: the outcome and its reasons, the figures of its ``dates``, the warnings of stages."""
    from daybook.records.notifications import list_warnings
    from daybook.report.findings import order_figures
    from daybook.scheduling.freshness import has_published

    print_line("\n", style_outcome(record.outcome), f" {record.run_id} in {record.seconds or 0.0:.1f} s")
    for reason in record.reasons:
        print_line(f"  {reason}")
    if record.halves:
        print_line(f"  Its halves: {', '.join(record.halves)}")
    elif record.outcome == "FAILED":
        print_line(f"  Resume at the failed stage: `daybook resume {settings.command_options} {record.run_id}`")
    for warning in list_warnings(record.stages):
        print_line("  ", NOTE, f" {warning}")
    if record.is_range:
        _print_dates(Archive(settings.archive), dates)
        return
    _print_published_figures(Archive(settings.archive), record)
    if record.summary and has_published(record.outcome, record.stages):
        title = record.title or ""
        figures = format_figures(order_figures(record), record.currency or "")
        print_table([str(record.run_date), title], figures, right=[title])


def _print_dates(archive: Archive, dates: Mapping[str, RangeDate]) -> None:
    """Print the dates of a range with their date runs, outcomes, first figures if they published, and reasons."""
    from daybook.report.findings import order_figures
    from daybook.scheduling.freshness import has_published

    records = [archive.run(each.run_id) for each in dates.values()]
    figures = {
        record.run_id: dict(format_figures(order_figures(record), record.currency or ""))
        for record in records
        if record.summary and has_published(record.outcome, record.stages)
    }
    columns = list(dict.fromkeys(name for each in figures.values() for name in each))[:_MAX_FIGURES]
    rows = [
        [
            str(record.run_date),
            record.run_id,
            style_outcome("ROLLED BACK" if record.rolled_back else record.outcome),
            *(figures.get(record.run_id, {}).get(name, "") for name in columns),
            first_line(record.reasons[0]) if record.reasons else "",
        ]
        for record in records
    ]
    print_table(["date", "run", "outcome", *columns, "reason"], rows, right=columns)


def _print_published_figures(archive: Archive, record: RunRecord) -> None:
    """Print whose figures of the date are published, if the run published none or was rolled back."""
    from daybook.scheduling.freshness import describe_published_figures, describe_rollback

    of_date = archive.run_ids(record.run_date)
    earlier = [archive.run(each) for each in of_date[: of_date.index(record.run_id)]]
    sentence = describe_rollback(record, earlier) or describe_published_figures(record.outcome, record.stages, earlier)
    if sentence:
        print_line(f"  {sentence}")


def _print_unusual_days(archive: Archive, record: RunRecord) -> None:
    """Print what the backfill of a run found unusual about its date."""
    from daybook.report.findings import list_unusual_days
    from daybook.scheduling.backfills import read_backfills

    # All backfills: the one that continues a stopped backfill has the findings on its dates.
    for each in list_unusual_days(read_backfills(archive)).get(record.run_id, []):
        print_line("  ", NOTE, f" {each.warning} (found by {each.backfill_id} after all its dates were published)")


def _print_run(archive: Archive, record: RunRecord) -> None:
    dates = f"business dates {record.run_date} to {record.until}" if record.is_range else f"business date {record.run_date}"
    part = f", the date run of {record.range_id}" if record.range_id else ""
    print_line(style_outcome(record.outcome), f" {record.run_id}, {dates}{part}")
    for reason in record.reasons:
        print_line(f"  {reason}")
    if record.halves:
        print_line(f"  Its halves were run as {', '.join(record.halves)}.")
    if record.is_range:
        _print_dates(archive, record.dates)
    else:
        _print_published_figures(archive, record)
    if record.part_of:
        _print_unusual_days(archive, record)
    rows = [
        (
            each.stage,
            str(each.attempt),
            style_outcome(each.outcome),
            f"{each.seconds or 0.0:.1f}",
            *("" if count is None else f"{count:,}" for count in (each.rows.rows_in, each.rows.rows_out, each.rows.rejected)),
            f"{each.peak_memory_bytes / 1e6:,.0f}" if each.peak_memory_bytes else "",
        )
        for each in record.stages
    ]
    numbers = ["seconds", "rows in", "rows out", "rejected", "MB"]
    print_table(["stage", "attempt", "outcome", *numbers], rows, right=["attempt", *numbers])
    if record.cost:
        estimated = "" if record.cost.basis == "measured" else ", an estimate"
        print_line(("cost on AWS:", "dim"), f" {record.cost.total} {record.cost.currency}{estimated}")
    written = {name: version for each in record.stages for name, version in each.tables_written.items()}
    for layer in ("bronze", "silver", "gold", "quarantine"):
        named = [f"{name.split('.')[1]} {version}" for name, version in written.items() if name.startswith(f"{layer}.")]
        if named:
            print_line((f"{layer} versions written:", "dim"), f" {', '.join(named)}")
    for each in record.stages:
        for sentence in (describe_failure(each) if each.failure else "", describe_missing_files(each)):
            if sentence:
                print_line(f"  {sentence}")
