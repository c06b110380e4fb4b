"""Commands that start and show runs: run, resume, runs, show, report."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import gc
import os
import signal
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timezone
from itertools import count
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated, Any, Optional

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
from daybook.errors import EXIT_FAILED, EXIT_OK, UsageError
from daybook.settings import Settings, parse_run_date

if TYPE_CHECKING:
    from daybook.execution.runner import AllocateRun, RunDisplay, Runner
    from daybook.records.archive import Archive
    from daybook.records.models import RunRecord

ProfileOption = Annotated[bool, typer.Option("--profile", help="Also show how long each phase of each stage took.")]


@app.command()
def run(
    env: EnvOption = "local",
    day: Annotated[Optional[str], typer.Option("--date", help="The business date.", metavar="YYYY-MM-DD")] = None,
    set_: SetOption = None,
    allow_missing: AllowMissingOption = False,
    no_follow: NoFollowOption = False,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Process one business date: run the state machine with all six stages.

    On AWS, Ctrl-C stops waiting for the run, not the run.
    """
    from daybook.execution.runner import allocate_run, get_runner

    settings = load_command_settings(env, set_, allow_missing=allow_missing)
    run_date = _resolve_run_date(settings, day)
    require_runnable(settings)
    home = get_runner(settings)
    home.require_ready()
    execute_run(
        settings,
        home,
        run_date,
        lambda: allocate_run(settings, run_date),
        follow=not no_follow,
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
    from daybook.execution.runner import get_runner

    settings = load_command_settings(env, set_)
    require_runnable(settings)
    home = get_runner(settings)
    with wait_for_execution(settings, home, as_json=False):
        record = home.resume(run_id, progress_factory(settings, live=True), follow=not no_follow)
    finish_run(settings, record, as_json=False)


def execute_run(
    settings: Settings,
    home: "Runner",
    run_date: date,
    begin: "AllocateRun",
    *,
    follow: bool = True,
    as_json: bool,
    profile: bool = False,
) -> None:
    """Run a date under the id that ``begin`` takes, show its progress, and exit with the code of its outcome."""
    with wait_for_execution(settings, home, as_json):
        record = home.run(run_date, begin, progress_factory(settings, live=not as_json), follow=follow)
    finish_run(settings, record, as_json, profile=profile)


def progress_factory(settings: Settings, *, live: bool) -> "RunDisplay":
    """Return what shows a run's events once its id is known."""
    from daybook.cli.progress import Progress

    return lambda run_id: Progress(console, settings, run_id, live=live)


@contextmanager
def wait_for_execution(settings: Settings, home: "Runner", as_json: bool) -> Iterator[None]:
    """Wait for an execution, and import what the report needs meanwhile.

    A signal ends an execution that ends with this command. Otherwise the command prints that the execution continues, and
    exits with code 0 after --no-follow, with 1 after an interrupt.
    """
    from daybook.execution.runner import StillRunning

    Thread(target=_preload_report, daemon=True).start()

    if home.ends_with_command:
        install_signal_handlers()
    try:
        yield
    except StillRunning as running:
        if as_json:
            print_json({"started": running.name, "link": running.link})
        else:
            command = (
                f"`daybook show {settings.command_options} {running.name}`"
                if running.name
                else f"`daybook backfills {settings.command_options}`"
            )
            text = f"{running.name or 'The catch-up'} continues on AWS; follow it with {command}, or at {running.link}"
            console.print(escape_markup(text), soft_wrap=True)
        raise typer.Exit(EXIT_FAILED if running.interrupted else EXIT_OK) from None


@app.command()
def runs(env: EnvOption = "local", set_: SetOption = None, as_json: JsonOption = False) -> None:
    """List the runs of the archive, newest business date first."""
    from daybook.execution.runner import get_runner
    from daybook.records.archive import Archive

    settings = load_command_settings(env, set_)
    archive, home = Archive(settings.archive), get_runner(settings)
    records = [home.refresh_record(archive.run(run_id)) for run_id in reversed(archive.run_ids())]
    if as_json:
        print_json([_summarize_run(record) for record in records])
        return
    if not records:
        print("There are no runs yet; `daybook run` makes one.")
        return
    table = new_table("run", "date", "outcome", "started (UTC)", "seconds", "attempts", right=("seconds", "attempts"))
    for record in records:
        table.add_row(
            record.run_id,
            record.run_date.isoformat(),
            style_outcome(record.outcome),
            record.started_at[:19].replace("T", " "),
            "" if record.seconds is None else f"{record.seconds:.1f}",
            str(len(record.stages)),
        )
    console.print(table)


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
    profile: ProfileOption = False,
) -> None:
    """Show a run: stages, attempts, rows, tables and the reasons of its outcome; or a backfill, by dates."""
    from daybook.execution.runner import get_runner
    from daybook.records.archive import Archive
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
    _print_run(settings, record)
    if profile:
        _print_profile(settings, record)
    console.print(f"Files: {archive.store.href(archive.folder(run_id))}", soft_wrap=True)


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
    heard = count(1)

    def stop(signum: int, frame: object) -> None:
        if next(heard) == 2:
            os.write(2, b"Stopping: what is under way is being put on record. Once more leaves at once.\n")
            return
        raise KeyboardInterrupt

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)


def _print_profile(settings: Settings, record: "RunRecord") -> None:
    from daybook.cli.profile import print_profile
    from daybook.records.archive import Archive

    print_profile(Archive(settings.archive), record)


def _resolve_run_date(settings: Settings, day: Optional[str]) -> date:
    if day is not None:
        return parse_run_date(day)
    if settings.default_run_date is None:
        raise UsageError(f"Give the business date: --date YYYY-MM-DD (params/{settings.env}.yaml has no default_run_date).")
    return settings.default_run_date


def finish_run(settings: Settings, record: "RunRecord", as_json: bool, *, profile: bool = False) -> None:
    """Write the report, show how a run ended, and end the command with its exit code."""
    # The outcome comes first: the report can be written again later, for example if the disk is full now.
    if as_json:
        print_json(record.to_json())
    else:
        _print_outcome(settings, record)
    if profile and not as_json:
        _print_profile(settings, record)
    index = write_report(settings)
    if not as_json:
        console.print(f"Report: {index}", soft_wrap=True)
    raise typer.Exit(EXIT_CODES.get(record.outcome, EXIT_FAILED))


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
    from daybook.records.archive import Archive
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
    )


def _print_outcome(settings: Settings, record: "RunRecord") -> None:
    """Print how a run ended: the outcome and its reasons, the date's figures, the warnings of stages."""
    from daybook.records.notifications import list_warnings
    from daybook.scheduling.freshness import has_published

    console.print(f"\n{style_outcome(record.outcome)} {record.run_id} in {record.seconds or 0.0:.1f} s")
    for reason in record.reasons:
        console.print(f"  {escape_markup(reason)}", soft_wrap=True)
    if record.outcome == "FAILED":
        command = f"daybook resume {settings.command_options} {record.run_id}"
        console.print(escape_markup(f"  Resume at the failed stage: `{command}`"), soft_wrap=True)
    for warning in list_warnings(record.stages):
        console.print(f"  [yellow]Note:[/] {escape_markup(warning)}", soft_wrap=True)
    _print_published_figures(settings, record)
    if record.summary and has_published(record.outcome, record.stages):
        from daybook.records.formatting import format_figures

        title = record.title or ""
        table = new_table(record.run_date.isoformat(), title, right=(title,))
        order = [name for attempt in record.stages for name in attempt.details.figures]
        for name, text in format_figures(record.summary, record.currency or "", order):
            table.add_row(name, text)
        console.print(table)


def _print_published_figures(settings: Settings, record: "RunRecord") -> None:
    """Print whose figures of the date are published, if the run published none."""
    from daybook.records.archive import Archive
    from daybook.scheduling.freshness import describe_published_figures

    archive = Archive(settings.archive)
    of_date = archive.run_ids(record.run_date)
    earlier = map(archive.run, of_date[: of_date.index(record.run_id)])
    sentence = describe_published_figures(record.outcome, record.stages, earlier)
    if sentence:
        console.print(f"  {escape_markup(sentence)}", soft_wrap=True)


def _print_unusual_days(archive: "Archive", record: "RunRecord") -> None:
    """Print what the backfill of a run found unusual about its date."""
    from daybook.report.findings import list_unusual_days
    from daybook.scheduling.backfills import read_backfills

    # All backfills: the one that continues a stopped backfill has the findings on its dates.
    for each in list_unusual_days(read_backfills(archive)).get(record.run_id, []):
        note = f"{each.warning} (found by {each.backfill_id} after all its dates were published)"
        console.print(f"  [yellow]Note:[/] {escape_markup(note)}", soft_wrap=True)


def _print_run(settings: Settings, record: "RunRecord") -> None:
    from daybook.records.archive import Archive, describe_failure, describe_missing_files

    console.print(f"{style_outcome(record.outcome)} {record.run_id}, business date {record.run_date}")
    for reason in record.reasons:
        console.print(f"  {escape_markup(reason)}", soft_wrap=True)
    _print_published_figures(settings, record)
    if record.part_of:
        _print_unusual_days(Archive(settings.archive), record)
    table = new_table(
        "stage", "attempt", "outcome", "seconds", "rows in", "rows out", "rejected", "MB",
        right=("attempt", "seconds", "rows in", "rows out", "rejected", "MB"),
    )  # fmt: skip
    for each in record.stages:
        table.add_row(
            each.stage,
            str(each.attempt),
            style_outcome(each.outcome),
            f"{each.seconds or 0.0:.1f}",
            *("" if count is None else f"{count:,}" for count in (each.rows.rows_in, each.rows.rows_out, each.rows.rejected)),
            f"{each.peak_memory_bytes / 1e6:,.0f}" if each.peak_memory_bytes else "",
        )
    console.print(table)
    if record.cost:
        estimated = "" if record.cost.basis == "measured" else ", an estimate"
        console.print(f"[dim]cost on AWS:[/] {record.cost.total} {record.cost.currency}{estimated}", soft_wrap=True)
    written = {name: version for each in record.stages for name, version in each.tables_written.items()}
    for layer in ("bronze", "silver", "gold", "quarantine"):
        named = [f"{name.split('.')[1]} {version}" for name, version in written.items() if name.startswith(f"{layer}.")]
        if named:
            console.print(f"[dim]{layer} versions written:[/] {escape_markup(', '.join(named))}", soft_wrap=True)
    for each in record.stages:
        for sentence in (describe_failure(each) if each.failure else "", describe_missing_files(each)):
            if sentence:
                console.print(f"  {escape_markup(sentence)}", soft_wrap=True)


def _summarize_run(record: "RunRecord") -> dict[str, Any]:
    from daybook.scheduling.freshness import has_published

    keys = ("run_id", "run_date", "env", "outcome", "reasons", "started_at", "ended_at", "seconds", "summary")
    content = {key: getattr(record, key) for key in keys}
    return content if has_published(record.outcome, record.stages) else {**content, "summary": None}
