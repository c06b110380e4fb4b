"""The ``daybook`` command.

Here: options, what is printed, exit codes. Not here: anything a program could want too (the other rooms).
"""

# No `from __future__ import annotations` here: on Python 3.9 Typer reads Annotated only where it is no text.

import json
import os
import signal
import subprocess
import sys
import webbrowser
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Optional

import click
import typer
from rich.console import Console
from rich.table import Table

from daybook import __version__
from daybook.errors import EXIT_FAILED, EXIT_GOOD, EXIT_REJECTED, EXIT_USAGE, DaybookError, UsageError
from daybook.params import Settings, load_settings, parse_run_date, project_root, require_own_lake

app = typer.Typer(
    name="daybook",
    help="A shop's day, from landing files to dashboards, as executed notebooks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# Where there is no terminal, lines are as long as they are: what reads them is a program or a log.
console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)

EXIT_CODES = {"SUCCEEDED": EXIT_GOOD, "SKIPPED": EXIT_GOOD, "REJECTED": EXIT_REJECTED}
_STYLES = {"SUCCEEDED": "green", "SKIPPED": "cyan", "REJECTED": "yellow", "FAILED": "red", "UNFINISHED": "magenta"}

Env = Annotated[str, typer.Option("--env", help="The deployment: a file in params/.", metavar="NAME")]
Set = Annotated[
    Optional[list[str]], typer.Option("--set", help="Change a key of the params file; repeatable.", metavar="KEY=VALUE")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a script.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"daybook {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    _State.debug = debug


class _State:
    debug = False


@app.command()
def run(
    env: Env = "local",
    day: Annotated[Optional[str], typer.Option("--date", help="The business date.", metavar="YYYY-MM-DD")] = None,
    set_: Set = None,
    as_json: AsJson = False,
) -> None:
    """Process one business date: all six stages, by the state machine, on this machine."""
    from daybook.archive import Archive
    from daybook.laptop import run_day
    from daybook.progress import Progress
    from daybook.sources import open_landing

    settings = _settings(env, set_)
    run_date = _run_date(settings, day)
    # What is wrong for certain is told at once, rather than by a run that fails after its retries.
    require_own_lake(settings)
    open_landing(settings.landing)
    run_id = Archive(settings.archive).start_run(run_date, {"env": settings.env, "title": settings.title})
    _end_on_signals()
    with Progress(console, settings, run_id, live=not as_json) as progress:
        _, record = run_day(settings, run_id, listener=progress)
    _finish(settings, record, as_json)


@app.command()
def resume(run_id: Annotated[str, typer.Argument(metavar="RUN_ID")], env: Env = "local", set_: Set = None) -> None:
    """Go on with a run that was cut off, from the stage that did not end."""
    from daybook.laptop import resume_day
    from daybook.progress import Progress

    settings = _settings(env, set_)
    _end_on_signals()
    with Progress(console, settings, run_id, live=True) as progress:
        _, record = resume_day(settings, run_id, listener=progress)
    _finish(settings, record, as_json=False)


@app.command()
def runs(env: Env = "local", set_: Set = None, as_json: AsJson = False) -> None:
    """List the runs of the archive, newest business date first."""
    from daybook.archive import Archive

    archive = Archive(_settings(env, set_).archive)
    records = [archive.run(run_id) for run_id in reversed(archive.run_ids())]
    if as_json:
        _print_json([_brief(record) for record in records])
        return
    if not records:
        print("There are no runs yet; `daybook run` makes one.")
        return
    table = _table("run", "date", "outcome", "started (UTC)", "seconds", "attempts", right=("seconds", "attempts"))
    for record in records:
        table.add_row(
            record["run_id"],
            record["run_date"],
            _styled(record["outcome"]),
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
) -> None:
    """Show what a run did: its stages and attempts, rows, tables, and why it ended as it did."""
    from daybook.archive import Archive

    archive = Archive(_settings(env, set_).archive)
    record = archive.run(run_id)
    if as_json:
        _print_json(record)
        return
    _print_run(record)
    console.print(f"Files: {archive.store.href(archive.folder(run_id))}", soft_wrap=True)


@app.command()
def report(
    env: Env = "local",
    set_: Set = None,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Write the HTML report over the archive: a calendar of business dates, the runs, a page for each."""
    index = _write_report(_settings(env, set_))
    print(index)
    if open_:
        webbrowser.open(index.as_uri())


@app.command()
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY")],
    env: Env = "local",
    set_: Set = None,
    as_json: AsJson = False,
    rows: Annotated[int, typer.Option("--rows", help="Print at most so many rows.")] = 100,
) -> None:
    """Run a SELECT over the published tables (bronze, silver, gold, quarantine)."""
    from daybook.engines import DuckDBEngine
    from daybook.lake import Lake
    from daybook.notebook.display import Listing

    settings = _settings(env, set_)
    engine = DuckDBEngine(Lake(settings.lake), settings.timezone)
    columns = list(engine.query(query).columns)
    listed = engine.rows(query)
    if as_json:
        _print_json([dict(zip(columns, row)) for row in listed])
        return
    print(Listing(columns, listed[:rows], total=len(listed)))


@app.command()
def check() -> None:
    """Check params, contracts, sources, notebooks and state machines."""
    from daybook.check import check_project

    problems = files = 0
    for checked in check_project():
        files += 1
        for problem in checked.problems:
            problems += 1
            text = problem if problem.startswith(checked.file) else f"{checked.file}: {problem}"
            console.print(f"[red]✗[/] {_escaped(text)}", soft_wrap=True)
    if problems:
        console.print(f"{problems} problems in {files} files.")
        raise typer.Exit(EXIT_FAILED)
    console.print(f"[green]✓[/] {files} files are good.")


@app.command()
def demo(
    env: Env = "local",
    set_: Set = None,
    seed: Annotated[int, typer.Option(help="Another seed, another shop.")] = 7,
    days: Annotated[int, typer.Option(help="How many days, up to 2025-11-30.")] = 60,
    orders: Annotated[int, typer.Option(help="Orders a day, on average.")] = 300,
) -> None:
    """Make the landing files of a seeded, made-up shop."""
    from daybook.demo import generate

    settings = _settings(env, set_)
    summary = generate(Path(settings.landing), seed=seed, days=days, orders_per_day=orders)
    total = sum(summary.rows.values())
    print(f"{days} days of a made-up shop, {total:,} rows of {len(summary.rows)} entities, lie in {settings.landing}")


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks; what they write goes to your development copy of the tables."""
    raise typer.Exit(subprocess.call([sys.executable, "-m", "jupyter", "lab", str(project_root() / "notebooks")]))  # noqa: S603


def main() -> None:
    """The console script: errors as one sentence, exit codes as documented."""
    try:
        # Outside standalone mode click returns the code of an Exit instead of raising it.
        sys.exit(app(standalone_mode=False) or EXIT_GOOD)
    except DaybookError as error:
        if _State.debug:
            raise
        print(f"{error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        # A wrong option or command: the sentence, and where to read on.
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "daybook"
        print(f"{error.format_message()} Run `{command} --help`.", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(EXIT_FAILED)


def _end_on_signals() -> None:
    """Let a closed terminal or a polite kill end a run as Ctrl-C does: with its job stopped, ready to be resumed."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)


def _settings(env: str, set_: Optional[list[str]]) -> Settings:
    overrides = {}
    for text in set_ or []:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--set {text} has no value; write --set KEY=VALUE.")
        overrides[key] = value
    return load_settings(env, overrides)


def _run_date(settings: Settings, day: Optional[str]) -> date:
    if day is not None:
        return parse_run_date(day)
    if settings.default_run_date is None:
        raise UsageError(f"Give the business date: --date YYYY-MM-DD (params/{settings.env}.yaml has no default_run_date).")
    return settings.default_run_date


def _finish(settings: Settings, record: dict[str, Any], as_json: bool) -> None:
    index = _write_report(settings)
    if as_json:
        _print_json(record)
    else:
        _print_day(record)
        console.print(f"Report: {index}", soft_wrap=True)
    raise typer.Exit(EXIT_CODES.get(record["outcome"], EXIT_FAILED))


def _write_report(settings: Settings) -> Path:
    from daybook.archive import Archive
    from daybook.report import build_site

    archive = Archive(settings.archive)
    out = Path(settings.report)
    records = [{**archive.run(run_id), "history": archive.history(run_id)} for run_id in archive.run_ids()]

    def href(run_id: str, file: str) -> str:
        place = archive.store.href(f"{archive.folder(run_id)}/{file}")
        return place if "://" in place else os.path.relpath(place, out / "runs")

    return build_site(records, out=out, archive_href=href, title=settings.title, now=datetime.now(timezone.utc))


def _print_day(record: dict[str, Any]) -> None:
    """How a run ended: the outcome and why, the day's figures, what the stages said to people."""
    if record["state"] == "open":
        resume = f"daybook resume --env {record['env']} {record['run_id']}"
        console.print(f"\n{_styled('UNFINISHED')} {record['run_id']}; go on with `{resume}`.")
        return
    console.print(f"\n{_styled(record['outcome'])} {record['run_id']} in {record['seconds']:.1f} s")
    for reason in record["reasons"]:
        console.print(f"  {_escaped(reason)}", soft_wrap=True)
    for attempt in record["stages"]:
        for warning in attempt["details"].get("warnings", []):
            console.print(f"  [yellow]Note:[/] {_escaped(warning)}", soft_wrap=True)
    if record.get("summary"):
        from daybook.notebook.figures import named_figures

        table = _table(record["run_date"], record["title"], right=(record["title"],))
        for name, text in named_figures(record["summary"], record["currency"]):
            table.add_row(name, text)
        console.print(table)


def _print_run(record: dict[str, Any]) -> None:
    from daybook.archive import describe_failure

    console.print(f"{_styled(record['outcome'])} {record['run_id']}, business date {record['run_date']}")
    for reason in record["reasons"]:
        console.print(f"  {_escaped(reason)}", soft_wrap=True)
    table = _table(
        "stage", "attempt", "outcome", "seconds", "rows in", "rows out", "rejected", "MB",
        right=("attempt", "seconds", "rows in", "rows out", "rejected", "MB"),
    )  # fmt: skip
    for each in record["stages"]:
        counts = [each["rows"].get(name) for name in ("in", "out", "rejected")]
        table.add_row(
            each["stage"],
            str(each["attempt"]),
            _styled(each["outcome"]),
            f"{each['seconds']:.1f}",
            *("" if count is None else f"{count:,}" for count in counts),
            f"{each['peak_memory_bytes'] / 1e6:,.0f}" if each["peak_memory_bytes"] else "",
        )
    console.print(table)
    written = {name: version for each in record["stages"] for name, version in each["tables_written"].items()}
    for layer in ("bronze", "silver", "gold", "quarantine"):
        named = [f"{name.split('.')[1]} {version}" for name, version in written.items() if name.startswith(f"{layer}.")]
        if named:
            console.print(f"[dim]{layer} versions written:[/] {_escaped(', '.join(named))}", soft_wrap=True)
    for each in record["stages"]:
        if each["failure"]:
            console.print(f"  {_escaped(describe_failure(each))}", soft_wrap=True)


def _brief(record: dict[str, Any]) -> dict[str, Any]:
    keys = ("run_id", "run_date", "env", "outcome", "reasons", "started_at", "ended_at", "seconds", "summary")
    return {key: record.get(key) for key in keys}


def _table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in right else "left")
    return table


def _styled(outcome: str) -> str:
    return f"[{_STYLES[outcome]}]{outcome}[/]"


def _escaped(text: str) -> str:
    return text.replace("[", "\\[")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))
