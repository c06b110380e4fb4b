"""Commands on the project and its tables: sql, check, demo, lab."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from pathlib import Path
from typing import Annotated, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import DONE, print_json, print_line
from daybook.errors import EXIT_FAILED, UsageError
from daybook.settings import daybook_home, project_root


@app.command()
def sql(
    query: Annotated[str, typer.Argument(metavar="QUERY")],
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
    rows: Annotated[int, typer.Option("--rows", help="Maximum number of rows to print.")] = 100,
    raw: Annotated[
        bool, typer.Option("--raw", help="Do not pseudonymise personal values; needs --why and is recorded.")
    ] = False,
    why: Annotated[str, typer.Option("--why", help="The reason for --raw, without names of people.", metavar="TEXT")] = "",
) -> None:
    """Query the published tables with SELECT, PIVOT, UNPIVOT, DESCRIBE, SUMMARIZE or SHOW TABLES.

    Personal values of bronze and quarantine are shown as pseudonyms.
    """
    import duckdb

    from daybook.engines import DuckDBEngine, ViewEngine, query_error
    from daybook.engines.duckdb import TextFunction
    from daybook.lake.tables import Lake
    from daybook.notebook.display import Listing
    from daybook.privacy import load_keys, pseudonym_function
    from daybook.privacy.raw_reads import read_raw_values
    from daybook.privacy.rekey import require_keys
    from daybook.records.archive import Archive
    from daybook.sources import load_source

    def pseudonyms() -> TextFunction:
        keys = load_keys(settings.pii_key)
        require_keys(settings.lake, keys, settings.env)
        return pseudonym_function(keys)

    settings = load_command_settings(env, set_)
    engine = DuckDBEngine(Lake(settings.lake), settings.timezone, spill=daybook_home() / "scratch")
    if raw:
        found, _ = read_raw_values(engine, Archive(settings.archive), query, why, {"env": settings.env, "command": "sql"})
    elif why:
        raise UsageError("--why is the reason for --raw; give both or neither.")
    else:
        found = ViewEngine(engine, load_source(settings.source), pseudonyms).query(query)
    columns = list(found.columns)
    try:
        listed = found.fetchall()
    except duckdb.Error as error:
        raise query_error(error) from None
    if as_json:
        print_json([dict(zip(columns, row)) for row in listed])
        return
    print(Listing(columns, listed[:rows], total=len(listed)))


@app.command()
def check(
    files: Annotated[
        Optional[list[Path]], typer.Argument(metavar="[FILE]...", help="Check these files only, such as params/local.yaml.")
    ] = None,
) -> None:
    """Check params, contracts, sources, notebooks and state machines."""
    from daybook.cli.check import check_project

    problems = count = 0
    for checked in check_project(files or []):
        count += 1
        for problem in checked.problems:
            problems += 1
            print_line(("✗", "red"), " ", problem if problem.startswith(checked.file) else f"{checked.file}: {problem}")
    if problems:
        print_line(f"{problems} problems in {count} files.")
        raise typer.Exit(EXIT_FAILED)
    print_line(DONE, " 1 file is valid." if count == 1 else f" {count} files are valid.")


@app.command()
def demo(
    env: EnvOption = "local",
    set_: SetOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers; another seed gives another shop.")] = 7,
    days: Annotated[int, typer.Option(help="Number of days, up to 2025-11-30.")] = 60,
    orders: Annotated[int, typer.Option(help="Average number of orders a day.")] = 300,
    incidents: Annotated[
        bool,
        typer.Option(
            "--incidents",
            help="Damage three days: on 2025-11-08 40 % of the revenue is missing, on 2025-11-13 the file of order lines is "
            "truncated, on 2025-11-20 orders, lines and payments are delivered twice. Needs at least 51 days.",
        ),
    ] = False,
) -> None:
    """Generate the landing files of a demo shop from a seed."""
    from daybook.execution.runner import require_local
    from demo_shop import WHOLE_DAY_KINDS, generate

    settings = load_command_settings(env, set_)
    require_local(settings, "demo")
    summary = generate(Path(settings.landing), seed=seed, days=days, orders_per_day=orders, incidents=incidents)
    total = sum(summary.rows.values())
    print(f"Wrote {days} days of a demo shop, {total:,} rows of {len(summary.rows)} entities, to {settings.landing}")
    for fault in summary.faults:
        if fault.kind in WHOLE_DAY_KINDS:
            print(f"{fault.day} {fault.kind.value.replace('_', ' ')}: {fault.entity}")


@app.command()
def lab() -> None:
    """Open JupyterLab on the notebooks. They write to your development copy of the tables."""
    try:
        from jupyter_server import version_info
        from jupyter_server.serverapp import ServerApp
        from jupyterlab.labapp import LabApp  # type: ignore[import-untyped]
    except ImportError:
        raise UsageError("JupyterLab is not installed; run `make setup`, or install daybook[dev].") from None
    if version_info < (2, 20):
        # CVE-2026-44727: a page that nbconvert makes of a notebook runs the notebook's scripts with the user's rights.
        served = [name for name in ServerApp.default_services if name != "nbconvert"]
        setattr(ServerApp, "default_services", served)  # noqa: B010 (it is typed as a tuple of just these names)
    LabApp.launch_instance([str(project_root() / "notebooks")])
