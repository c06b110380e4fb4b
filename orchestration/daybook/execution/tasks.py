"""Run the jobs that are not stages: plan a catch-up of gaps, and summarize an ended backfill."""

from __future__ import annotations

from datetime import date, datetime, timezone
from typing import Optional

from daybook.engines import DuckDBEngine
from daybook.errors import SqlError
from daybook.lake.tables import Lake
from daybook.notebook.past import read_history
from daybook.quality.gates import format_rule_result
from daybook.records.archive import Archive, serialize_record
from daybook.records.failures import first_line
from daybook.records.models import BackfillRecord, CatchUpPlan, DateOutcome, Notification, UnusualDay
from daybook.records.notifications import format_body, format_subject
from daybook.scheduling.backfills import (
    close_backfill,
    count_outcomes,
    plan_catch_up,
    read_backfill,
    read_results,
    start_backfill,
)
from daybook.scheduling.due import group_items
from daybook.scheduling.gaps import find_gaps, select_for_catch_up
from daybook.scheduling.ranges import DEFAULT_CHUNK
from daybook.settings import Settings, daybook_home, require_name
from daybook.sources import Calendar, load_source

_MAX_LISTED_RANGES = 20
"""Maximum number of date ranges in a message; the record has all."""


def plan_gap_backfill(
    settings: Settings,
    execution: str,
    *,
    limit: int,
    since: Optional[date] = None,
    until: Optional[date] = None,
    include_stale: bool = False,
    chunk: str = DEFAULT_CHUNK,
) -> CatchUpPlan:
    """Plan the backfill of gaps, oldest first, and write it where the state machine reads it.

    The clock decides here, and nowhere else, which dates are due. The plan is on record, and each date has its own run.

    Parameters
    ----------
    settings
        The deployment.
    execution
        Name of the catch-up's execution, under which the plan is written.
    limit
        Maximum number of dates.
    since, until
        First and last date to look at.
    include_stale
        Also run dates that are gaps because of a deploy (see ``STALE_REASONS``).
    chunk
        How the dates are cut into ranges (``cut_dates``).
    """
    found = find_gaps(settings, now=datetime.now(timezone.utc), since=since, until=until)
    chosen = select_for_catch_up(found.gaps, limit, include_stale=include_stale)
    archive = Archive(settings.archive)
    planned = CatchUpPlan(gaps=len(found.gaps), dates=[])
    if chosen:
        plan = plan_catch_up(settings, [gap.run_date for gap in chosen], chunk=chunk)
        facts = {"env": settings.env, "title": settings.title, "asked_by": execution}
        planned = planned.changed(
            dates=list(plan.days), ranges=list(plan.ranges), backfill_id=start_backfill(archive, plan, facts)
        )
    archive.store.replace(f"outcomes/{require_name(execution, 'an execution')}/gaps.json", serialize_record(planned))
    return planned


def summarize_backfill(settings: Settings, backfill_id: str) -> BackfillRecord:
    """Close a backfill, with the outcome of each date, its unusual days and one message on all dates.

    Dates of a backfill are not compared with their past while they run: they run side by side or in another order, so that past
    may not be published yet. Now it is.
    """
    archive = Archive(settings.archive)
    started = read_backfill(archive, backfill_id)
    found = read_results(archive, backfill_id)
    unusual = find_unusual_days(settings, [each for each in found if each.outcome == "SUCCEEDED"])
    headline = f"Daybook {settings.env}: {started.kind} of {started.first} to {started.last}: {_format_counts(found)}"
    calendar = load_source(settings.source).calendar
    lines = [
        headline,
        *_format_failures(found, calendar),
        *_limit_lines([f"{each.run_date}: {each.warning}" for each in unusual]),
    ]
    if len(lines) > 1:
        lines += ["", "What to do:", f"  daybook show {backfill_id} {settings.command_options}"]
    message = Notification(subject=format_subject(headline), body=format_body(lines))
    return close_backfill(archive, backfill_id, unusual_days=unusual, message=message)


def find_unusual_days(settings: Settings, published: list[DateOutcome]) -> list[UnusualDay]:
    """Return the findings of the contracts' history rules on published dates.

    The earlier days are those of the query that each run's notebook has left in its record. The findings include those of
    severity ``error``, which reject a date that runs by itself. A backfill has published it already, so these findings are only
    reported.
    """
    if not published:
        return []
    archive = Archive(settings.archive)
    engine = DuckDBEngine(Lake(settings.lake), settings.timezone, spill=daybook_home() / "scratch")
    unusual = []
    for each in sorted(published, key=lambda each: each.run_date):
        audits = [attempt.details for attempt in archive.run(each.run_id).stages if attempt.stage == "quality"]
        try:
            past = audits[-1].past if audits else {}
            results = read_history(engine, [each.run_date], of_today="gold", past=past).check(each.run_date)
        except SqlError as error:
            # A column of the query may have been renamed since. That must not keep the backfill from being closed.
            warning = f"its figures cannot be compared with the days before: {error}"
            unusual.append(UnusualDay(run_date=each.run_date, severity="warning", warning=warning))
            continue
        unusual += [
            UnusualDay(run_date=each.run_date, severity=found.severity, warning=format_rule_result(found))
            for found in results
            if not found.holds
        ]
    return unusual


def _format_counts(found: list[DateOutcome]) -> str:
    return ", ".join(f"{count:,} {outcome.lower()}" for outcome, count in count_outcomes(found).items()) or "no dates"


def _format_failures(found: list[DateOutcome], calendar: Calendar) -> list[str]:
    """Return a line for each range of dates that failed or were rejected for the same reason."""
    bad = [each for each in found if each.outcome not in ("SUCCEEDED", "SKIPPED")]
    grouped = group_items(bad, calendar, day_of=lambda each: each.run_date, like=lambda each: (each.outcome, each.reason))
    lines = []
    for span, (first, *_) in grouped:
        reason = first_line(first.reason) if first.reason else first.run_id if span.dates == 1 else ""
        lines.append(f"{span} {first.outcome}{f': {reason}' if reason else ''}")
    return _limit_lines(lines)


def _limit_lines(lines: list[str]) -> list[str]:
    more = len(lines) - _MAX_LISTED_RANGES
    return lines[:_MAX_LISTED_RANGES] + ([f"and {more:,} more"] if more > 0 else [])
