"""What a job does besides stages: find the gaps that a catch-up fills, and sum up a backfill once its dates are through."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Any, Optional

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook.quality import check_history
from daybook.quality import format_rule_result
from daybook.records.archive import Archive, Record, first_line, serialize_record
from daybook.records.notifications import Message, format_body, format_subject
from daybook.scheduling.backfills import (
    DateResult,
    close_backfill,
    count_outcomes,
    plan_catch_up,
    read_backfill,
    read_results,
    start_backfill,
)
from daybook.scheduling.due import group_items
from daybook.scheduling.gaps import find_gaps, select_for_catch_up
from daybook.settings import Settings, daybook_home, require_name
from daybook.sources import Calendar, load_source

_MAX_LISTED_RANGES = 20
"""Ranges of dates that a message names; the record has all."""


def plan_gap_backfill(
    settings: Settings,
    execution: str,
    *,
    limit: int,
    since: Optional[date] = None,
    until: Optional[date] = None,
    include_stale: bool = False,
) -> Record:
    """Plan the backfill of at most ``limit`` gaps, oldest first, and leave it where the state machine reads it.

    The clock says which dates are due, here alone: the answer goes on record, and each date is then run by its own name.
    """
    found = find_gaps(settings, now=datetime.now(timezone.utc), since=since, until=until)
    chosen = select_for_catch_up(found.gaps, limit, include_stale=include_stale)
    archive = Archive(settings.archive)
    answer: dict[str, Any] = {"gaps": len(found.gaps), "dates": []}
    if chosen:
        plan = plan_catch_up(settings, [gap.run_date for gap in chosen])
        facts = {"env": settings.env, "title": settings.title, "asked_by": execution}
        answer["backfill_id"] = start_backfill(archive, plan, facts)
        answer["dates"] = [day.to_record() for day in plan.days]
    archive.store.replace(f"outcomes/{require_name(execution, 'an execution')}/gaps.json", serialize_record(answer))
    return answer


def summarize_backfill(settings: Settings, backfill_id: str) -> Record:
    """Close a backfill: what each date came to, which days are unlike the weeks before them, and one message of it all.

    A backfill's days are not judged against their past while they run: side by side, or in another order, that past would not
    be there yet, and the answer would depend on it. Now it is.
    """
    archive = Archive(settings.archive)
    started = read_backfill(archive, backfill_id)
    found = read_results(archive, backfill_id)
    unusual = find_unusual_days(settings, [each.run_date for each in found if each.outcome == "SUCCEEDED"])
    told = f"Daybook {settings.env}: {started['kind']} of {started['first']} to {started['last']}: {_format_counts(found)}"
    calendar = load_source(settings.source).calendar
    lines = [
        told,
        *_format_failures(found, calendar),
        *_limit_lines([f"{each['run_date']}: {each['warning']}" for each in unusual]),
    ]
    if len(lines) > 1:
        lines += ["", "What to do:", f"  daybook show {backfill_id} {settings.command_options}"]
    message = Message(format_subject(told), format_body(lines))
    return close_backfill(archive, backfill_id, unusual_days=unusual, message=message.to_record())


def find_unusual_days(settings: Settings, days: list[date]) -> list[Record]:
    """What the contracts' rules on history find, by date, over what is published now.

    Also those of severity ``error``, which stop a day that is run by itself: a backfill has published it, so people decide.
    """
    if not days:
        return []
    lake = Lake(settings.lake)
    engine = DuckDBEngine(lake, settings.timezone, spill=daybook_home() / "scratch")
    return [
        {"run_date": day.isoformat(), "severity": found.severity, "warning": format_rule_result(found)}
        for day in sorted(days)
        for found in check_history(engine, day, of_today="gold")
        if not found.holds
    ]


def _format_counts(found: list[DateResult]) -> str:
    return ", ".join(f"{count:,} {outcome.lower()}" for outcome, count in count_outcomes(found).items()) or "no dates"


def _format_failures(found: list[DateResult], calendar: Calendar) -> list[str]:
    """Return a line for each range of dates that ended badly for the same reason."""
    bad = [each for each in found if each.outcome not in ("SUCCEEDED", "SKIPPED")]
    grouped = group_items(bad, calendar, day_of=lambda each: each.run_date, like=lambda each: (each.outcome, each.reason))
    lines = []
    for span, (first, *_) in grouped:
        said = first_line(first.reason) if first.reason else first.run_id if span.dates == 1 else ""
        lines.append(f"{span} {first.outcome}{f': {said}' if said else ''}")
    return _limit_lines(lines)


def _limit_lines(lines: list[str]) -> list[str]:
    more = len(lines) - _MAX_LISTED_RANGES
    return lines[:_MAX_LISTED_RANGES] + ([f"and {more:,} more"] if more > 0 else [])
