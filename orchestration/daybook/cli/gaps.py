"""Command on gaps: gaps."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

from collections import Counter
from dataclasses import asdict
from datetime import date, datetime, timezone
from typing import Annotated, Any, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import format_number, print_json, print_line, print_table
from daybook.errors import EXIT_FAILED
from daybook.scheduling.gaps import REASONS, GapReport, find_gaps, group_gaps, select_for_catch_up
from daybook.settings import parse_run_date

_SINCE_HELP = "First date; default: the first date of the source's calendar, or of the runs."
_UNTIL_HELP = "Last date; default: that of the calendar. Never later than the newest due date (from 02:00 UTC: yesterday)."
SinceOption = Annotated[Optional[date], typer.Option("--since", help=_SINCE_HELP, parser=parse_run_date, metavar="YYYY-MM-DD")]
UntilOption = Annotated[Optional[date], typer.Option("--until", help=_UNTIL_HELP, parser=parse_run_date, metavar="YYYY-MM-DD")]


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
    found = find_gaps(settings, now=datetime.now(timezone.utc), since=since, until=until)
    if as_json:
        print_json(_to_json(found))
    else:
        _print_gaps(found, settings.command_options, since, until)
    if found.gaps:
        raise typer.Exit(EXIT_FAILED)


def _to_json(found: GapReport) -> dict[str, Any]:
    catch_up = {gap.run_date for gap in select_for_catch_up(found.gaps)}
    gaps = [
        {
            "run_date": gap.run_date,
            "weekday": f"{gap.run_date:%A}",
            "reason": gap.reason,
            "detail": gap.detail,
            "newest_run": gap.run_id,
            "catch_up": gap.run_date in catch_up,
            "change": gap.change and asdict(gap.change),
        }
        for gap in found.gaps
    ]
    ranges = [{**asdict(span), "reason": gaps[0].reason, "detail": gaps[0].detail} for span, gaps in group_gaps(found)]
    return {**{name: value for name, value in vars(found).items() if name != "calendar"}, "gaps": gaps, "ranges": ranges}


def _print_gaps(found: GapReport, options: str, since: Optional[date], until: Optional[date]) -> None:
    rows = []
    for span, gaps in group_gaps(found):
        # The values of the first date; a mark shows that others differ.
        detail, run_id = (
            f"{values[0]} …" if len(set(values)) > 1 else values[0]
            for values in ([gap.detail for gap in gaps], [gap.run_id or "" for gap in gaps])
        )
        rows.append((str(span), "" if len(gaps) > 1 else f"{gaps[0].run_date:%A}", gaps[0].reason, detail, run_id))
    if rows:
        print_table(["date", "weekday", "reason", "detail", "newest run"], rows)
    for run_id in found.under_way:
        print_line(f"Under way: {run_id}")
    if found.cleared:
        print_line(
            "Cleared: successful dates whose files are no longer in landing, so they cannot be compared: "
            f"{len(found.cleared)}, from {found.cleared[0]} to {found.cleared[-1]}."
        )
    print_line(_format_summary(found, options, since, until))


def _format_summary(found: GapReport, options: str, since: Optional[date], until: Optional[date]) -> str:
    """Return the number of gaps of each kind, and the command that closes them, with the options of `gaps`."""
    span = f"from {found.since} to {found.until}" if found.since <= found.until else f"from {found.since} on"
    if not found.gaps:
        expected = {0: "no date is expected", 1: "1 date is expected"}
        return f"No gaps: {expected.get(found.expected, f'{found.expected} dates are expected')} {span}."
    counts = Counter(gap.reason for gap in found.gaps)
    kinds = ", ".join(f"{counts[reason]} {reason}" for reason in REASONS if counts[reason])
    text = f"{format_number(len(found.gaps), 'gap')} in {format_number(found.expected, 'expected date')} {span}: {kinds}."
    asked = [options, *(f"--{name} {day}" for name, day in (("since", since), ("until", until)) if day)]
    catch_up = f"daybook catch-up {' '.join(asked)}"
    if select_for_catch_up(found.gaps):
        return f"{text} Run them, oldest first: `{catch_up}`."
    rejected = next((gap.run_id for gap in found.gaps if gap.reason == "rejected"), None)
    if rejected:
        return f"{text} Correct the data, or read `daybook show {options} {rejected}` and approve it."
    if all(gap.reason == "rolled back" for gap in found.gaps):
        again = f"daybook run {options} --date {found.gaps[0].run_date}"
        return f"{text} Correct the data or the notebook, then run each date: `{again}`."
    if any(gap.change and gap.change.withdrawn for gap in found.gaps):
        return f"{text} Deliver the files again; a run without them would fail or lose rows."
    return f"{text} Run them again where the change matters: `{catch_up} --stale`."
