"""Command on gaps: gaps."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from collections import Counter
from dataclasses import asdict, fields
from datetime import datetime, timezone
from typing import Annotated, Any, Optional

import typer

from daybook.cli.app import (
    EnvOption,
    JsonOption,
    SetOption,
    app,
    console,
    escape_markup,
    load_command_settings,
    new_table,
    print_json,
)
from daybook.errors import EXIT_FAILED
from daybook.scheduling.gaps import REASONS, GapReport, find_gaps, group_gaps, select_for_catch_up
from daybook.settings import parse_run_date

SinceOption = Annotated[
    Optional[str],
    typer.Option(
        "--since",
        help="First date; default: the first date of the source's calendar, or of the runs.",
        metavar="YYYY-MM-DD",
    ),
]
UntilOption = Annotated[
    Optional[str],
    typer.Option(
        "--until",
        help="Last date; default: that of the calendar. Never later than the newest due date (from 02:00 UTC: yesterday).",
        metavar="YYYY-MM-DD",
    ),
]


@app.command()
def gaps(
    env: EnvOption = "local",
    set_: SetOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the business dates that should have a successful run and have none, and why.

    A date is a gap if it never ran, if its newest run failed or was rejected, if its files in landing have changed since it
    read them, or if notebooks, contracts, source, settings or Daybook's logic have changed since (stale). With two more reasons
    the numbers may be the same: another engine or lock (other packages), and a fingerprint that cannot be compared (computed
    by an earlier release).

    Exit code: 0 without gaps, 1 with gaps.
    """
    settings = load_command_settings(env, set_)
    found = find_gaps(
        settings,
        now=datetime.now(timezone.utc),
        since=parse_run_date(since) if since else None,
        until=parse_run_date(until) if until else None,
    )
    if as_json:
        print_json(_to_json(found))
    else:
        _print_gaps(found, settings.command_options, since, until)
    if found.gaps:
        raise typer.Exit(EXIT_FAILED)


def _to_json(found: GapReport) -> dict[str, Any]:
    catch_up = {gap.run_date for gap in select_for_catch_up(found.gaps)}
    gaps = [
        {**asdict(gap), "weekday": f"{gap.run_date:%A}", "newest_run": gap.run_id, "catch_up": gap.run_date in catch_up}
        for gap in found.gaps
    ]
    keys = ("run_date", "weekday", "reason", "detail", "newest_run", "catch_up", "change")
    ranges = [{**asdict(span), "reason": gaps[0].reason, "detail": gaps[0].detail} for span, gaps in group_gaps(found)]
    others = {field.name: getattr(found, field.name) for field in fields(found) if field.name != "calendar"}
    return {**others, "gaps": [{key: gap[key] for key in keys} for gap in gaps], "ranges": ranges}


def _print_gaps(found: GapReport, options: str, since: Optional[str], until: Optional[str]) -> None:
    if found.gaps:
        table = new_table("date", "weekday", "reason", "detail", "newest run")
        for span, gaps in group_gaps(found):
            first = gaps[0]
            weekday = "" if len(gaps) > 1 else f"{first.run_date:%A}"
            # The values of the first date; a mark shows that others differ.
            detail, run_id = (
                f"{values[0]} …" if len(set(values)) > 1 else values[0]
                for values in ([gap.detail for gap in gaps], [gap.run_id or "" for gap in gaps])
            )
            table.add_row(str(span), weekday, first.reason, escape_markup(detail), run_id)
        console.print(table)
    for run_id in found.under_way:
        console.print(f"Under way: {run_id}", soft_wrap=True)
    if found.cleared:
        console.print(
            "Cleared: successful dates whose files are no longer in landing, so they cannot be compared: "
            f"{len(found.cleared)}, from {found.cleared[0]} to {found.cleared[-1]}.",
            soft_wrap=True,
        )
    console.print(escape_markup(_format_summary(found, options, since, until)), soft_wrap=True)


def _format_summary(found: GapReport, options: str, since: Optional[str], until: Optional[str]) -> str:
    """Return the number of gaps of each kind, and the command that closes them, with the options of `gaps`."""
    span = f"from {found.since} to {found.until}" if found.since <= found.until else f"from {found.since} on"
    if not found.gaps:
        expected = {0: "no date is expected", 1: "1 date is expected"}
        return f"No gaps: {expected.get(found.expected, f'{found.expected} dates are expected')} {span}."
    counts = Counter(gap.reason for gap in found.gaps)
    kinds = ", ".join(f"{counts[reason]} {reason}" for reason in REASONS if counts[reason])
    number = "1 gap" if len(found.gaps) == 1 else f"{len(found.gaps)} gaps"
    text = f"{number} in {found.expected} expected {'date' if found.expected == 1 else 'dates'} {span}: {kinds}."
    asked = [options, *(f"--{name} {day}" for name, day in (("since", since), ("until", until)) if day)]
    catch_up = f"daybook catch-up {' '.join(asked)}"
    to_run = select_for_catch_up(found.gaps)
    if to_run:
        return f"{text} Run them, oldest first: `{catch_up}`."
    rejected = [gap for gap in found.gaps if gap.reason == "rejected"]
    if rejected:
        run_id = rejected[0].run_id
        return f"{text} Correct the data, or read `daybook show {options} {run_id}` and approve it."
    lost = [gap for gap in found.gaps if gap.change and gap.change.withdrawn]
    if lost:
        return f"{text} Deliver the files again; a run without them would fail or lose rows."
    return f"{text} Run them again where the change matters: `{catch_up} --stale`."
