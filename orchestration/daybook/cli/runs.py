"""Commands that start and look at runs: run, resume, runs, show, report."""

# No `from __future__ import annotations` here: on Python 3.9 Typer reads Annotated only where it is no text.

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

ProfileOption = Annotated[bool, typer.Option("--profile", help="Also show where the time of each stage went.")]


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
    """Process one business date: all six stages, by the state machine, where the deployment runs.

    On AWS, Ctrl-C only stops waiting for the run.
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
    """Go on with a run that failed or was cut off, from the stage that did not end; what ended well is not run again."""
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
    """Run a date whose name ``begin`` takes, show its progress, and end the command as it ends."""
    with wait_for_execution(settings, home, as_json):
        record = home.run(run_date, begin, progress_factory(settings, live=not as_json), follow=follow)
    finish_run(settings, record, as_json, profile=profile)


def progress_factory(settings: Settings, *, live: bool) -> "RunDisplay":
    """What shows a run's events once its name is known."""
    from daybook.cli.progress import Progress

    return lambda run_id: Progress(console, settings, run_id, live=live)


@contextmanager
def wait_for_execution(settings: Settings, home: "Runner", as_json: bool) -> Iterator[None]:
    """While something is executed: let a signal end it on record where it ends with this command; else say that it goes on.
    What the report needs, which comes after, is imported meanwhile.

    Exit code 0 where nobody was to wait, 1 where somebody no longer would.
    """
    from daybook.execution.runner import StillRunning

    Thread(target=_preload_report, daemon=True).start()

    if home.ends_with_command:
        install_signal_handlers()
    try:
        yield
    except StillRunning as going_on:
        if as_json:
            print_json({"started": going_on.name, "link": going_on.link})
        else:
            look = (
                f"`daybook show {settings.command_options} {going_on.name}`"
                if going_on.name
                else f"`daybook backfills {settings.command_options}`"
            )
            said = f"{going_on.name or 'The catch-up'} goes on on AWS: look with {look}, or at {going_on.link}"
            console.print(escape_markup(said), soft_wrap=True)
        raise typer.Exit(EXIT_FAILED if going_on.interrupted else EXIT_OK) from None


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
            record["run_id"],
            record["run_date"],
            style_outcome(record["outcome"]),
            record["started_at"][:19].replace("T", " "),
            f"{record['seconds']:.1f}" if "seconds" in record else "",
            str(len(record["stages"])),
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
    """Show what a run did: its stages and attempts, rows, tables, and why it ended as it did; or a backfill, by its dates."""
    from daybook.execution.runner import get_runner
    from daybook.records.archive import Archive
    from daybook.scheduling.backfills import is_backfill, read_backfill, read_results

    settings = load_command_settings(env, set_)
    archive = Archive(settings.archive)
    if is_backfill(run_id):
        from daybook.cli.backfills import print_backfill

        whole = read_backfill(archive, run_id)
        whole.setdefault("results", [each.to_record() for each in read_results(archive, run_id)])
        print_json(whole) if as_json else print_backfill(settings, whole)
        return
    record = get_runner(settings).refresh_record(archive.run(run_id))
    if as_json:
        print_json(record)
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
    """Write the HTML report over the archive: a calendar of business dates, the runs, a page for each."""
    index = write_report(load_command_settings(env, set_))
    print(index)
    if open_:
        webbrowser.open(index.as_uri())


def install_signal_handlers() -> None:
    """Let Ctrl-C, a closed terminal or a polite kill end what is run: with its jobs stopped and on record, ready to go on.

    That takes a moment, in which a second signal only says so. A third leaves at once, as a kill does.
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


def _print_profile(settings: Settings, record: dict[str, Any]) -> None:
    from daybook.cli.profile import print_profile
    from daybook.records.archive import Archive

    print_profile(Archive(settings.archive), record)


def _resolve_run_date(settings: Settings, day: Optional[str]) -> date:
    if day is not None:
        return parse_run_date(day)
    if settings.default_run_date is None:
        raise UsageError(f"Give the business date: --date YYYY-MM-DD (params/{settings.env}.yaml has no default_run_date).")
    return settings.default_run_date


def finish_run(settings: Settings, record: dict[str, Any], as_json: bool, *, profile: bool = False) -> None:
    """Write the report, show how a run ended, and end the command with its exit code."""
    # First what counts: the report is made of the archive, and can be made again where there is no room for it now.
    if as_json:
        print_json(record)
    else:
        _print_outcome(settings, record)
    if profile and not as_json:
        _print_profile(settings, record)
    index = write_report(settings)
    if not as_json:
        console.print(f"Report: {index}", soft_wrap=True)
    raise typer.Exit(EXIT_CODES.get(record["outcome"], EXIT_FAILED))


def _preload_report() -> None:
    from daybook.report import site  # noqa: F401 (imported for later)
    from daybook.report.pages import load_templates

    load_templates()


def write_report(settings: Settings) -> Path:
    """Write the HTML report over a deployment's archive; returns its first page."""
    from daybook.records.archive import Archive
    from daybook.report.site import build_site
    from daybook.scheduling.backfills import backfill_ids, read_backfill, read_results
    from daybook.scheduling.calendar import load_calendar

    archive = Archive(settings.archive)
    out = Path(settings.report)
    records = [archive.run(run_id) for run_id in archive.run_ids()]
    backfills = []
    for name in backfill_ids(archive):
        backfills.append(read_backfill(archive, name))
        backfills[-1].setdefault("results", [each.to_record() for each in read_results(archive, name)])

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


def _print_outcome(settings: Settings, record: dict[str, Any]) -> None:
    """How a run ended: the outcome and why, the day's figures, what the stages said to people."""
    from daybook.scheduling.freshness import has_published

    console.print(f"\n{style_outcome(record['outcome'])} {record['run_id']} in {record['seconds']:.1f} s")
    for reason in record["reasons"]:
        console.print(f"  {escape_markup(reason)}", soft_wrap=True)
    if record["outcome"] == "FAILED":
        command = f"daybook resume {settings.command_options} {record['run_id']}"
        console.print(escape_markup(f"  Go on from the stage that failed: `{command}`"), soft_wrap=True)
    for attempt in record["stages"]:
        for warning in attempt["details"].get("warnings", []):
            console.print(f"  [yellow]Note:[/] {escape_markup(warning)}", soft_wrap=True)
    _print_published_figures(settings, record)
    if record.get("summary") and has_published(record):
        from daybook.records.formatting import format_figures

        table = new_table(record["run_date"], record["title"], right=(record["title"],))
        order = [name for attempt in record["stages"] for name in attempt["details"].get("figures", ())]
        for name, text in format_figures(record["summary"], record["currency"], order):
            table.add_row(name, text)
        console.print(table)


def _print_published_figures(settings: Settings, record: dict[str, Any]) -> None:
    """Print whose figures readers see, where the run published none."""
    from daybook.records.archive import Archive
    from daybook.scheduling.freshness import describe_published_figures

    archive = Archive(settings.archive)
    of_date = archive.run_ids(date.fromisoformat(record["run_date"]))
    said = describe_published_figures(record, map(archive.run, of_date[: of_date.index(record["run_id"])]))
    if said:
        console.print(f"  {escape_markup(said)}", soft_wrap=True)


def _print_unusual_days(archive: "Archive", record: dict[str, Any]) -> None:
    """Print what the backfill of a run found unusual about its day."""
    from daybook.report.findings import list_unusual_days
    from daybook.scheduling.backfills import backfill_ids, read_backfill

    # One that was stopped is summed up by the one that continues it.
    whole = [read_backfill(archive, name) for name in backfill_ids(archive)]
    for each in list_unusual_days(whole).get(record["run_id"], []):
        said = f"{each.warning} (found by {each.backfill_id} after all its dates were published)"
        console.print(f"  [yellow]Note:[/] {escape_markup(said)}", soft_wrap=True)


def _print_run(settings: Settings, record: dict[str, Any]) -> None:
    from daybook.records.archive import Archive, describe_failure, describe_missing_files

    console.print(f"{style_outcome(record['outcome'])} {record['run_id']}, business date {record['run_date']}")
    for reason in record["reasons"]:
        console.print(f"  {escape_markup(reason)}", soft_wrap=True)
    _print_published_figures(settings, record)
    if record.get("part_of"):
        _print_unusual_days(Archive(settings.archive), record)
    table = new_table(
        "stage", "attempt", "outcome", "seconds", "rows in", "rows out", "rejected", "MB",
        right=("attempt", "seconds", "rows in", "rows out", "rejected", "MB"),
    )  # fmt: skip
    for each in record["stages"]:
        counts = [each["rows"].get(name) for name in ("in", "out", "rejected")]
        table.add_row(
            each["stage"],
            str(each["attempt"]),
            style_outcome(each["outcome"]),
            f"{each['seconds']:.1f}",
            *("" if count is None else f"{count:,}" for count in counts),
            f"{each['peak_memory_bytes'] / 1e6:,.0f}" if each["peak_memory_bytes"] else "",
        )
    console.print(table)
    cost = record.get("cost")
    if cost:
        estimated = "" if cost["basis"] == "measured" else ", an estimate"
        console.print(f"[dim]cost on AWS:[/] {cost['total']} {cost['currency']}{estimated}", soft_wrap=True)
    written = {name: version for each in record["stages"] for name, version in each["tables_written"].items()}
    for layer in ("bronze", "silver", "gold", "quarantine"):
        named = [f"{name.split('.')[1]} {version}" for name, version in written.items() if name.startswith(f"{layer}.")]
        if named:
            console.print(f"[dim]{layer} versions written:[/] {escape_markup(', '.join(named))}", soft_wrap=True)
    for each in record["stages"]:
        for said in filter(None, (each["failure"] and describe_failure(each), describe_missing_files(each))):
            console.print(f"  {escape_markup(said)}", soft_wrap=True)


def _summarize_run(record: dict[str, Any]) -> dict[str, Any]:
    keys = ("run_id", "run_date", "env", "outcome", "reasons", "started_at", "ended_at", "seconds", "summary")
    from daybook.scheduling.freshness import has_published

    return {**{key: record.get(key) for key in keys}, **({} if has_published(record) else {"summary": None})}
