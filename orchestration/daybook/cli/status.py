"""Command on the freshness of published tables: status."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from datetime import datetime, timedelta, timezone
from typing import Annotated, Any, Optional
from zoneinfo import ZoneInfo

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import Part, print_json, print_line, print_table
from daybook.contracts import load_tables
from daybook.errors import EXIT_FAILED, UsageError
from daybook.records.archive import Archive
from daybook.scheduling.calendar import load_calendar
from daybook.scheduling.due import format_dates, group_dates
from daybook.scheduling.freshness import Freshness, compute_freshness
from daybook.sources import Calendar


@app.command()
def status(
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
    at: Annotated[
        Optional[str],
        typer.Option(
            "--at",
            help="Point in time, default now, such as 2025-12-01T09:00; in the shop's time zone unless it has an offset.",
            metavar="MOMENT",
        ),
    ] = None,
) -> None:
    """Show how fresh each gold table is, and whether its contract's latency holds; exit code 1 if one does not."""
    settings = load_command_settings(env, set_)
    zone = ZoneInfo(settings.timezone)
    moment = _parse_at(at, zone)
    archive = Archive(settings.archive)
    records = [archive.run(run_id) for run_id in archive.run_ids()]
    calendar = load_calendar(settings)
    found = compute_freshness(records, load_tables("gold").values(), zone=zone, at=moment, calendar=calendar)
    if as_json:
        print_json(
            {"at": moment.isoformat(), "timezone": settings.timezone, "tables": [_to_json(each, calendar) for each in found]}
        )
    else:
        _print_freshness(found, moment, calendar, settings.command_options)
    raise typer.Exit(0 if all(each.holds for each in found) else EXIT_FAILED)


def _parse_at(text: Optional[str], zone: ZoneInfo) -> datetime:
    if text is None:
        return datetime.now(timezone.utc).astimezone(zone)
    try:
        # Python 3.9 does not read the Z.
        found = datetime.fromisoformat(text[:-1] + "+00:00" if text.endswith(("Z", "z")) else text)
    except ValueError:
        raise UsageError(f"--at {text} is not a point in time; write it in ISO 8601, for example 2025-12-01T09:00.") from None
    return (found if found.tzinfo else found.replace(tzinfo=zone)).astimezone(zone)


def _print_freshness(found: list[Freshness], moment: datetime, calendar: Calendar, options: str) -> None:
    rows: list[list[Part]] = [
        [
            each.table,
            str(each.newest or "none"),
            f"{_hours(each.age):,.1f}" if each.age is not None else "",
            f"{_hours(each.latency):,.4g} h" if each.latency is not None else "",
            (", ".join(each.states) or "in time", "red" if "missing" in each.states else "green" if each.holds else "yellow"),
            "; ".join(f"{name} {format_dates(getattr(each, name), calendar)}" for name in each.states if getattr(each, name)),
        ]
        for each in found
    ]
    right = ["hours since", "promised"]
    print_table(["table", "newest date", *right, "state", "dates"], rows, right=right)
    behind = sum(1 for each in found if not each.holds)
    count = f"{behind} of {len(found)} tables exceed" if behind else f"All {len(found)} tables meet"
    todo = f"; `daybook gaps {options}` shows why" if behind else ""
    print_line(f"{count} their promised latency at {moment.isoformat(timespec='minutes')}{todo}.")


def _to_json(each: Freshness, calendar: Calendar) -> dict[str, Any]:
    return {
        "table": each.table,
        "newest": each.newest,
        "hours_since": None if each.age is None else round(_hours(each.age), 2),
        "promised_hours": None if each.latency is None else _hours(each.latency),
        "holds": each.holds,
        "states": list(each.states),
        "late": list(each.late),
        "missing": list(each.missing),
        "ranges": {name: [vars(span) for span in group_dates(getattr(each, name), calendar)] for name in ("late", "missing")},
    }


def _hours(span: timedelta) -> float:
    return span / timedelta(hours=1)
