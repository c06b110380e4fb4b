"""Command that removes files of old table versions: vacuum."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from daybook.cli.app import app, load_command_settings, refuse_while_running
from daybook.cli.options import EnvOption, JsonOption, SetOption, WhileRunningOption, YesOption
from daybook.cli.terminal import format_megabytes, print_json, print_line, print_table, require_confirmation
from daybook.errors import UsageError
from daybook.settings import require_own_lake

if TYPE_CHECKING:
    from daybook.lake.vacuum import VacuumPlan


@app.command()
def vacuum(
    env: EnvOption = "local",
    set_: SetOption = None,
    keep_days: Annotated[
        Optional[int],
        typer.Option("--keep-days", min=0, help="Keep versions that runs of this many days used, instead of retention_days."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and change nothing.")] = False,
    yes: YesOption = False,
    while_running: WhileRunningOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove table files that neither readers nor the records of recent runs need."""
    from daybook.lake.vacuum import apply_vacuum, plan_vacuum
    from daybook.records.archive import Archive

    if as_json and not (yes or dry_run):
        raise UsageError("--json cannot ask for confirmation; add --yes or --dry-run.")
    settings = load_command_settings(env, set_)
    # Records of another deployment are not read, so the versions that they need would be removed.
    require_own_lake(settings)
    if not dry_run:
        refuse_while_running(settings, "vacuum", while_running)
    days = settings.retention_days if keep_days is None else keep_days
    now = datetime.now(timezone.utc)
    plan = plan_vacuum(settings.lake, Archive(settings.archive), keep=timedelta(days=days), at=now)
    found = _summarize(plan)
    if not as_json:
        _print_summary(found)
    # Also without files to remove: tables of an earlier release get the setting that retains their log.
    if not dry_run:
        if plan.files:
            consequence = f"Table versions that only runs older than {days} days used can then no longer be read."
            require_confirmation(f"{consequence} Continue?", yes)
        apply_vacuum(plan)
    if as_json:
        print_json({"dry_run": dry_run, "keep_days": days, **found})
        return
    done = "would be" if dry_run else "were"
    print_line(
        f"{plan.files:,} files of {format_megabytes(plan.bytes)} {done} removed; "
        f"versions that runs of the last {days} days used are kept."
    )


def _summarize(plan: "VacuumPlan") -> dict[str, Any]:
    from daybook.lake.vacuum import total_bytes

    return {
        "tables": [
            {
                "table": each.table.full_name,
                "development": each.table.development or None,
                "versions_kept": list(each.kept_versions),
                "versions_lost_before": list(each.lost_versions),
                "files": len(each.files),
                "log_entries": len(each.entries),
                "bytes": total_bytes(each.files) + total_bytes(each.entries),
            }
            for each in plan.removals
        ],
        "in_no_table": {"files": len(plan.orphans), "bytes": total_bytes(plan.orphans)},
        "files": plan.files,
        "bytes": plan.bytes,
    }


def _print_summary(found: dict[str, Any]) -> None:
    rows = []
    for each in found["tables"]:
        name = f"{each['table']} ({each['development']})" if each["development"] else each["table"]
        kept, lost = len(each["versions_kept"]), len(each["versions_lost_before"])
        counts = (f"{kept:,}", f"{lost:,}" if lost else "", f"{each['files']:,}", f"{each['log_entries']:,}")
        rows.append((name, *counts, f"{each['bytes'] / 1e6:,.1f}"))
    orphans = found["in_no_table"]
    if orphans["files"]:
        rows.append(("in no table", "", "", f"{orphans['files']:,}", "", f"{orphans['bytes'] / 1e6:,.1f}"))
    counted = ["versions kept", "lost before", "files", "log entries", "MB"]
    print_table(["table", *counted], rows, right=counted)
