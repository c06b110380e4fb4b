"""Command that removes files of old table versions: vacuum."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from daybook.cli.app import (
    EnvOption,
    JsonOption,
    SetOption,
    WhileRunningOption,
    YesOption,
    app,
    console,
    escape_markup,
    load_command_settings,
    new_table,
    print_json,
    refuse_while_running,
    require_confirmation,
)
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
    if not as_json:
        _print_plan(plan)
    # Also without files to remove: tables of an earlier release get the setting that retains their log.
    if not dry_run:
        if plan.files:
            require_confirmation(f"Table versions that only runs older than {days} days used can then no longer be read.", yes)
        apply_vacuum(plan)
    if as_json:
        print_json({"dry_run": dry_run, "keep_days": days, **_to_json(plan)})
        return
    done = "would be" if dry_run else "were"
    console.print(
        f"{plan.files:,} files of {_format_megabytes(plan.bytes)} MB {done} removed; "
        f"versions that runs of the last {days} days used are kept."
    )


def _print_plan(plan: "VacuumPlan") -> None:
    from daybook.lake.vacuum import total_bytes

    listing = new_table(
        "table", "versions kept", "lost before", "files", "log entries", "MB",
        right=("versions kept", "lost before", "files", "log entries", "MB"),
    )  # fmt: skip
    for each in plan.removals:
        name = f"{each.table.full_name} ({each.table.development})" if each.table.development else each.table.full_name
        listing.add_row(
            escape_markup(name),
            f"{len(each.kept_versions):,}",
            f"{len(each.lost_versions):,}" if each.lost_versions else "",
            f"{len(each.files):,}",
            f"{len(each.entries):,}",
            _format_megabytes(total_bytes(each.files) + total_bytes(each.entries)),
        )
    if plan.orphans:
        listing.add_row("in no table", "", "", f"{len(plan.orphans):,}", "", _format_megabytes(total_bytes(plan.orphans)))
    console.print(listing)


def _to_json(plan: "VacuumPlan") -> dict[str, Any]:
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


def _format_megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f}"
