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
    AllowMissing,
    AsJson,
    Env,
    NoFollow,
    Set,
    app,
    console,
    escaped,
    new_table,
    print_json,
    require_runnable,
    settings_of,
    styled,
)
from daybook.errors import EXIT_FAILED, EXIT_GOOD, UsageError
from daybook.settings import Settings, parse_run_date

if TYPE_CHECKING:
    from daybook.execution.runner import Begin, Home, Showing
    from daybook.records.archive import Archive

Profile = Annotated[bool, typer.Option("--profile", help="Also show where the time of each stage went.")]


@app.command()
def run(
    env: Env = "local",
    day: Annotated[Optional[str], typer.Option("--date", help="The business date.", metavar="YYYY-MM-DD")] = None,
    set_: Set = None,
    allow_missing: AllowMissing = False,
    no_follow: NoFollow = False,
    as_json: AsJson = False,
    profile: Profile = False,
) -> None:
    """Process one business date: all six stages, by the state machine, where the deployment runs.

    On AWS, Ctrl-C only stops waiting for the run.
    """
    from daybook.execution.runner import home_of, start_of

    settings = settings_of(env, set_, allow_missing=allow_missing)
    run_date = _run_date(settings, day)
    require_runnable(settings)
    home = home_of(settings)
    home.require_ready()
    execute(
        settings,
        home,
        run_date,
        lambda: start_of(settings, run_date),
        follow=not no_follow,
        as_json=as_json,
        profile=profile,
    )


@app.command()
def resume(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    env: Env = "local",
    set_: Set = None,
    no_follow: NoFollow = False,
) -> None:
    """Go on with a run that failed or was cut off, from the stage that did not end; what ended well is not run again."""
    from daybook.execution.runner import home_of

    settings = settings_of(env, set_)
    require_runnable(settings)
    home = home_of(settings)
    with following(settings, home, as_json=False):
        record = home.resume(run_id, showing(settings, live=True), follow=not no_follow)
    finish(settings, record, as_json=False)


def execute(
    settings: Settings,
    home: "Home",
    run_date: date,
    begin: "Begin",
    *,
    follow: bool = True,
    as_json: bool,
    profile: bool = False,
) -> None:
    """Run a date whose name ``begin`` takes, show its progress, and end the command as it ends."""
    with following(settings, home, as_json):
        record = home.run(run_date, begin, showing(settings, live=not as_json), follow=follow)
    finish(settings, record, as_json, profile=profile)


def showing(settings: Settings, *, live: bool) -> "Showing":
    """What shows a run's events once its name is known."""
    from daybook.cli.progress import Progress

    return lambda run_id: Progress(console, settings, run_id, live=live)


@contextmanager
def following(settings: Settings, home: "Home", as_json: bool) -> Iterator[None]:
    """While something is executed: let a signal end it on record where it ends with this command; else say that it goes on.
    What the report needs, which comes after, is imported meanwhile.

    Exit code 0 where nobody was to wait, 1 where somebody no longer would.
    """
    from daybook.execution.runner import StillRunning

    Thread(target=_prepare_report, daemon=True).start()

    if home.ends_with_command:
        end_on_signals()
    try:
        yield
    except StillRunning as going_on:
        if as_json:
            print_json({"started": going_on.name, "link": going_on.link})
        else:
            look = (
                f"`daybook show {settings.options} {going_on.name}`"
                if going_on.name
                else f"`daybook backfills {settings.options}`"
            )
            said = f"{going_on.name or 'The catch-up'} goes on on AWS: look with {look}, or at {going_on.link}"
            console.print(escaped(said), soft_wrap=True)
        raise typer.Exit(EXIT_FAILED if going_on.left else EXIT_GOOD) from None


@app.command()
def runs(env: Env = "local", set_: Set = None, as_json: AsJson = False) -> None:
    """List the runs of the archive, newest business date first."""
    from daybook.execution.runner import home_of
    from daybook.records.archive import Archive

    settings = settings_of(env, set_)
    archive, home = Archive(settings.archive), home_of(settings)
    records = [home.judged(archive.run(run_id)) for run_id in reversed(archive.run_ids())]
    if as_json:
        print_json([_brief(record) for record in records])
        return
    if not records:
        print("There are no runs yet; `daybook run` makes one.")
        return
    table = new_table("run", "date", "outcome", "started (UTC)", "seconds", "attempts", right=("seconds", "attempts"))
    for record in records:
        table.add_row(
            record["run_id"],
            record["run_date"],
            styled(record["outcome"]),
            record["started_at"][:19].replace("T", " "),
            f"{record['seconds']:.1f}" if "seconds" in record else "",
            str(len(record["stages"])),
        )
    console.print(table)


@app.command()
def show(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID")],
    env: Env = "local",
    set_: Set = None,
    as_json: AsJson = False,
    profile: Profile = False,
) -> None:
    """Show what a run did: its stages and attempts, rows, tables, and why it ended as it did; or a backfill, by its dates."""
    from daybook.execution.runner import home_of
    from daybook.records.archive import Archive
    from daybook.scheduling.backfills import is_backfill, read_backfill, results

    settings = settings_of(env, set_)
    archive = Archive(settings.archive)
    if is_backfill(run_id):
        from daybook.cli.backfills import print_backfill

        whole = read_backfill(archive, run_id)
        whole.setdefault("results", [each.to_record() for each in results(archive, run_id)])
        print_json(whole) if as_json else print_backfill(settings, whole)
        return
    record = home_of(settings).judged(archive.run(run_id))
    if as_json:
        print_json(record)
        return
    _print_run(settings, record)
    if profile:
        _print_phases(settings, record)
    console.print(f"Files: {archive.store.href(archive.folder(run_id))}", soft_wrap=True)


@app.command()
def report(
    env: Env = "local",
    set_: Set = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the HTML report over the archive: a calendar of business dates, the runs, a page for each."""
    index = write_report(settings_of(env, set_))
    print(index)
    if open_:
        webbrowser.open(index.as_uri())


def end_on_signals() -> None:
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


def _print_phases(settings: Settings, record: dict[str, Any]) -> None:
    from daybook.cli.profile import print_phases
    from daybook.records.archive import Archive

    print_phases(Archive(settings.archive), record)


def _run_date(settings: Settings, day: Optional[str]) -> date:
    if day is not None:
        return parse_run_date(day)
    if settings.default_run_date is None:
        raise UsageError(f"Give the business date: --date YYYY-MM-DD (params/{settings.env}.yaml has no default_run_date).")
    return settings.default_run_date


def finish(settings: Settings, record: dict[str, Any], as_json: bool, *, profile: bool = False) -> None:
    """Write the report, show how a run ended, and end the command with its exit code."""
    # First what counts: the report is made of the archive, and can be made again where there is no room for it now.
    if as_json:
        print_json(record)
    else:
        _print_day(settings, record)
    if profile and not as_json:
        _print_phases(settings, record)
    index = write_report(settings)
    if not as_json:
        console.print(f"Report: {index}", soft_wrap=True)
    raise typer.Exit(EXIT_CODES.get(record["outcome"], EXIT_FAILED))


def _prepare_report() -> None:
    from daybook.report import site  # noqa: F401 (imported for later)
    from daybook.report.pages import load_templates

    load_templates()


def write_report(settings: Settings) -> Path:
    """Write the HTML report over a deployment's archive; returns its first page."""
    from daybook.records.archive import Archive
    from daybook.report.site import build_site
    from daybook.scheduling.backfills import backfill_ids, read_backfill, results
    from daybook.scheduling.calendar import calendar_of

    archive = Archive(settings.archive)
    out = Path(settings.report)
    records = [archive.run(run_id) for run_id in archive.run_ids()]
    backfills = []
    for name in backfill_ids(archive):
        backfills.append(read_backfill(archive, name))
        backfills[-1].setdefault("results", [each.to_record() for each in results(archive, name)])

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
        calendar=calendar_of(settings),
        backfills=backfills,
    )


def _print_day(settings: Settings, record: dict[str, Any]) -> None:
    """How a run ended: the outcome and why, the day's figures, what the stages said to people."""
    from daybook.scheduling.freshness import has_published

    console.print(f"\n{styled(record['outcome'])} {record['run_id']} in {record['seconds']:.1f} s")
    for reason in record["reasons"]:
        console.print(f"  {escaped(reason)}", soft_wrap=True)
    if record["outcome"] == "FAILED":
        command = f"daybook resume {settings.options} {record['run_id']}"
        console.print(escaped(f"  Go on from the stage that failed: `{command}`"), soft_wrap=True)
    for attempt in record["stages"]:
        for warning in attempt["details"].get("warnings", []):
            console.print(f"  [yellow]Note:[/] {escaped(warning)}", soft_wrap=True)
    _print_standing(settings, record)
    if record.get("summary") and has_published(record):
        from daybook.records.formatting import named_figures

        table = new_table(record["run_date"], record["title"], right=(record["title"],))
        for name, text in named_figures(record["summary"], record["currency"]):
            table.add_row(name, text)
        console.print(table)


def _print_standing(settings: Settings, record: dict[str, Any]) -> None:
    """Print whose figures readers see, where the run published none."""
    from daybook.records.archive import Archive
    from daybook.scheduling.freshness import standing

    archive = Archive(settings.archive)
    of_date = archive.run_ids(date.fromisoformat(record["run_date"]))
    said = standing(record, map(archive.run, of_date[: of_date.index(record["run_id"])]))
    if said:
        console.print(f"  {escaped(said)}", soft_wrap=True)


def _print_unusual(archive: "Archive", record: dict[str, Any]) -> None:
    """Print what the backfill of a run found unusual about its day."""
    from daybook.report.findings import unusual
    from daybook.scheduling.backfills import backfill_ids, read_backfill

    # One that was stopped is summed up by the one that continues it.
    whole = [read_backfill(archive, name) for name in backfill_ids(archive)]
    for each in unusual(whole).get(record["run_id"], []):
        said = f"{each.warning} (found by {each.backfill_id} after all its dates were published)"
        console.print(f"  [yellow]Note:[/] {escaped(said)}", soft_wrap=True)


def _print_run(settings: Settings, record: dict[str, Any]) -> None:
    from daybook.records.archive import Archive, describe_failure, describe_missing

    console.print(f"{styled(record['outcome'])} {record['run_id']}, business date {record['run_date']}")
    for reason in record["reasons"]:
        console.print(f"  {escaped(reason)}", soft_wrap=True)
    _print_standing(settings, record)
    if record.get("part_of"):
        _print_unusual(Archive(settings.archive), record)
    table = new_table(
        "stage", "attempt", "outcome", "seconds", "rows in", "rows out", "rejected", "MB",
        right=("attempt", "seconds", "rows in", "rows out", "rejected", "MB"),
    )  # fmt: skip
    for each in record["stages"]:
        counts = [each["rows"].get(name) for name in ("in", "out", "rejected")]
        table.add_row(
            each["stage"],
            str(each["attempt"]),
            styled(each["outcome"]),
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
            console.print(f"[dim]{layer} versions written:[/] {escaped(', '.join(named))}", soft_wrap=True)
    for each in record["stages"]:
        for said in filter(None, (each["failure"] and describe_failure(each), describe_missing(each))):
            console.print(f"  {escaped(said)}", soft_wrap=True)


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    keys = ("run_id", "run_date", "env", "outcome", "reasons", "started_at", "ended_at", "seconds", "summary")
    from daybook.scheduling.freshness import has_published

    return {**{key: record.get(key) for key in keys}, **({} if has_published(record) else {"summary": None})}
