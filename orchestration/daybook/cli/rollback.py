"""Command that takes back a publication: rollback."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import getpass
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption, WhileRunningOption, YesOption
from daybook.cli.terminal import print_json, print_line, require_confirmation
from daybook.errors import UsageError
from daybook.settings import require_own_lake

if TYPE_CHECKING:
    from daybook.execution.rollback import RollbackPlan
    from daybook.records.models import RollbackRecord
    from daybook.settings import Settings


@app.command()
def rollback(
    run_id: Annotated[Optional[str], typer.Argument(metavar="RUN_ID", help="The run whose publication is taken back.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="The reason, for the record.", metavar="TEXT")] = "",
    table: Annotated[Optional[str], typer.Option("--table", help="A gold table, with --to.", metavar="TABLE")] = None,
    to: Annotated[
        Optional[int],
        typer.Option("--to", help="Roll back all runs that published the table after this version.", metavar="VERSION"),
    ] = None,
    by: Annotated[Optional[str], typer.Option("--by", help="Who decides; default: your login name.", metavar="NAME")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be restored, and change nothing.")] = False,
    yes: YesOption = False,
    while_running: WhileRunningOption = False,
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back what a run has published: gold and silver are as before it for its dates.

    The rollback is recorded with name and reason. A date whose only publication was taken back is a gap; `daybook catch-up`
    runs it only if its input has changed. A second call of the command finishes one that was killed.
    """
    from daybook.execution.rollback import plan_rollbacks, roll_back

    if not dry_run and not reason.strip():
        raise UsageError("A rollback needs a reason: --reason TEXT.")
    if as_json and not (yes or dry_run):
        raise UsageError("--json cannot ask for confirmation; add --yes or --dry-run.")
    settings = load_command_settings(env, set_)
    require_own_lake(settings)
    run_ids = _select_runs(settings, run_id, table, to)
    plans = plan_rollbacks(settings, run_ids, while_running=while_running)
    if dry_run and as_json:
        print_json({"dry_run": True, "rollbacks": [_summarize(each) for each in plans]})
        return
    if not as_json:
        for each in plans:
            _print_plan(each)
    if dry_run:
        print_line("Nothing was changed.")
        return
    require_confirmation("Continue?", yes)
    name = by or getpass.getuser()
    records = [roll_back(settings, each, by=name, why=reason, while_running=while_running) for each in run_ids]
    if as_json:
        print_json({"dry_run": False, "rollbacks": [each.to_json() for each in records]})
    else:
        for record in records:
            _print_record(record)
    _write_report(settings, as_json)


def _select_runs(settings: "Settings", run_id: Optional[str], table: Optional[str], to: Optional[int]) -> list[str]:
    """Return the runs to roll back, newest first."""
    from daybook.execution.rollback import find_publications_since

    if run_id is not None and table is None and to is None:
        return [run_id]
    if run_id is None and table is not None and to is not None:
        return find_publications_since(settings, table, to)
    raise UsageError("Give either RUN_ID, or --table TABLE and --to VERSION.")


def _summarize(plan: "RollbackPlan") -> dict[str, Any]:
    return {
        "run_id": plan.run.run_id,
        "run_date": plan.run.run_date,
        "shows": _list_shown(plan),
        "restored_dates": plan.restored,
        "removed_dates": plan.removed,
        "later_dates": sorted(plan.later - {*plan.removed}),
    }


def _list_shown(plan: "RollbackPlan") -> Any:
    """Return the earlier run of the date whose publication shows again; of a range, such runs by date."""
    if plan.run.is_range:
        return {day.isoformat(): run_id for day, run_id in plan.shows.items()}
    return plan.shows.get(plan.run.run_date)


def _print_plan(plan: "RollbackPlan") -> None:
    if plan.run.is_range:
        shown = f"earlier runs of {len(plan.shows)} of its {len(plan.dates)} dates show again"
    else:
        shown = f"{plan.shows[plan.run.run_date]} shows again" if plan.shows else "no earlier run of its date is published"
    print_line(f"{plan.run.run_id}: its publication is taken back; {shown}.")
    _print_list("restored as before the run", plan.restored)
    _print_list("removed from gold", plan.removed)
    _print_list("published again by later runs", sorted(plan.later - {*plan.removed}))


def _print_record(record: "RollbackRecord") -> None:
    print_line(("✓", "green"), f" {record.run_id} is rolled back.")
    _print_list("computed again by the next run of any date", [*record.stale_dates, *record.stale_tables])


def _print_list(title: str, items: Any) -> None:
    if items:
        print_line((f"  {title}:", "dim"), f" {', '.join(map(str, items))}")


def _write_report(settings: "Settings", as_json: bool) -> None:
    from daybook.cli.runs import write_report

    index = write_report(settings)
    if not as_json:
        print_line(f"Report: {index}")
