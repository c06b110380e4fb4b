"""Stage 6: show how the run went, and write the message about it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Optional
from zoneinfo import ZoneInfo

from daybook.errors import NotebookError
from daybook.notebook.context import Stage
from daybook.notebook.display import Listing, money_as_text
from daybook.records.formatting import format_figure, format_figures
from daybook.records.models import AttemptRecord, RunOutcome
from daybook.records.notifications import describe_run_failure, find_suppression_reason, list_warnings, run_message
from daybook.scheduling.calendar import load_calendar
from daybook.scheduling.due import end_of_day, format_dates, list_date_states, list_never_ran
from daybook.scheduling.freshness import describe_published_figures


@dataclass
class RunReport:
    """A run up to this stage: its outcome, the last attempt of each stage, and the figures that it published."""

    outcome: RunOutcome
    reasons: list[str]
    stages: list[AttemptRecord]
    currency: str
    summary: Optional[dict[str, Any]] = None
    """The day's figures by name, if the run has published them."""
    caught: Optional[dict[str, Any]] = None
    """What the state machine caught, if anything."""
    standing: str = ""
    """Whose figures readers see, if this run published none."""

    @property
    def failed(self) -> Optional[AttemptRecord]:
        """The attempt that decided the outcome, if it failed or a gate rejected the data."""
        blamed = [each for each in self.stages if each.outcome == self.outcome and self.outcome in ("FAILED", "REJECTED")]
        return blamed[-1] if blamed else None

    @property
    def stage_listing(self) -> Listing:
        """A row per stage, from its last attempt."""
        return Listing(
            ["stage", "outcome", "attempts", "seconds", "rows in", "rows out", "rejected"],
            [
                (
                    each.stage,
                    each.outcome,
                    each.attempt,
                    each.seconds,
                    each.rows.rows_in,
                    each.rows.rows_out,
                    each.rows.rejected,
                )
                for each in self.stages
            ],
        )


def look_back(stage: Stage, failure: str = "null") -> RunReport:
    """Read the run's records; ``failure`` is the JSON of what the state machine caught."""
    attempts = stage.archive.attempts(stage.run_id) if stage.run_id else []
    last = {each.stage: each for each in attempts if each.stage != stage.name}
    caught = json.loads(failure)
    outcome: RunOutcome
    reasons: list[str]
    ended = [each for each in last.values() if each.outcome in ("REJECTED", "SKIPPED")]
    if caught:
        failed = [each for each in last.values() if each.outcome == "FAILED"]
        outcome, reasons = "FAILED", [describe_run_failure(failed[-1] if failed else None, caught)]
    elif ended:
        outcome, reasons = ended[-1].outcome, ended[-1].reasons
    elif stage.run_id and ("quality" not in last or last["quality"].outcome != "SUCCEEDED"):
        outcome, reasons = "FAILED", ["a stage ended without an outcome, so nothing was published"]
    else:
        outcome, reasons = "SUCCEEDED", []
    day = RunReport(outcome, reasons, list(last.values()), stage.settings.currency, caught=caught)
    if stage.run_id:
        of_date = stage.archive.run_ids(stage.run_date)
        earlier = map(stage.archive.run, of_date[: of_date.index(stage.run_id)])
        day.standing = describe_published_figures(outcome, attempts, earlier)
    return day


def read_figures(stage: Stage, day: RunReport, name: str) -> Listing:
    """Read the day's figures if the run has published them; return a row per figure.

    Parameters
    ----------
    stage
        The open stage.
    day
        Gets the figures as its ``summary``.
    name
        A query with a column per figure and at most one row. Decimals are money.
    """
    found = stage.engine.query(f"SELECT * FROM {name}")
    rows = found.fetchall() if day.outcome == "SUCCEEDED" else []
    if not rows:
        return Listing(["figure", "value"], [("published", day.standing)] if day.standing else [])
    figures = dict(zip(found.columns, rows[0]))
    for each, value in figures.items():
        if not isinstance(value, (int, float, Decimal, type(None))):
            raise NotebookError(f"The figure {each} is {value!r} and not a number; select numbers only for {name}.")
    day.summary = figures
    return Listing(["figure", "value"], format_figures(day.summary, day.currency))


def write_message(stage: Stage, day: RunReport, execution: str = "", *, headline: str = "") -> str:
    """Write the message about the day into the record if somebody is to be notified, and end the stage.

    Parameters
    ----------
    stage
        The open stage.
    day
        The run.
    execution
        The ARN of the state machine's execution.
    headline
        The first sentence about published figures. ``{name}`` stands for a figure with its unit.

    Returns
    -------
    str
        The message, or why there is none.
    """
    warnings = list_warnings(day.stages)
    news = [
        *_format_headline(day, headline),
        *_format_quarantined(day),
        *warnings,
        *filter(None, [day.standing]),
        *_format_missing_dates(stage, datetime.now(timezone.utc)),
    ]
    silent = find_suppression_reason(stage.run_id, day.outcome, warnings, stage.settings.tell, stage.part_of)
    if stage.part_of is None:
        # The age of the newest figures. A date of a backfill says nothing about that.
        stage.details["freshness_hours"] = _hours_since(stage)
    if silent:
        stage.details["silent"] = silent
        shown = "\n".join([f"{stage.day} {day.outcome}", *day.reasons, *news, f"No message is sent: {silent}"])
    else:
        message = run_message(
            env=stage.settings.env,
            options=stage.settings.command_options,
            title=stage.settings.title,
            run_id=stage.run_id,
            run_date=stage.day,
            outcome=day.outcome,
            reasons=day.reasons,
            news=news,
            failed=day.failed,
            caught=day.caught,
            archive=stage.archive,
            execution=execution,
        )
        stage.details["message"] = message.to_json()
        shown = f"{message.subject}\n\n{message.body}"
    stage.details["run_outcome"] = day.outcome
    stage.details["run_reasons"] = day.reasons
    stage.details["summary"] = day.summary and money_as_text(day.summary)
    stage.details["figures"] = list(day.summary or ())
    if day.outcome == "SUCCEEDED":
        # The candidates are published, so nothing reads them any more, and they hold pseudonyms.
        stage.lake.drop_candidates()
    stage.succeed()
    return shown


def _format_headline(day: RunReport, headline: str) -> list[str]:
    if not day.summary or not headline:
        return []
    try:
        return [headline.format(**{name: format_figure(value, day.currency) for name, value in day.summary.items()})]
    except KeyError as error:
        raise NotebookError(
            f"The headline names {error.args[0]!r}, which is no figure; the figures are: {', '.join(day.summary)}."
        ) from None


def _format_quarantined(day: RunReport) -> list[str]:
    rejected = sum(each.rows.rejected or 0 for each in day.stages)
    return [f"{rejected:,} rows are in quarantine."] if rejected else []


def _format_missing_dates(stage: Stage, moment: datetime) -> list[str]:
    """Return a line on the dates that are due at a moment and have no run."""
    if not stage.run_id or stage.part_of is not None:
        return []
    calendar = load_calendar(stage.settings)
    started = dict.fromkeys(stage.archive.run_dates(), "RUNNING")
    missing = list_never_ran(list_date_states(calendar, started, moment))
    if not missing:
        return []
    number = "1 date" if len(missing) == 1 else f"{len(missing):,} dates"
    return [
        f"{number} never ran: {format_dates(missing, calendar)}; `daybook gaps {stage.settings.command_options}` lists them."
    ]


def _hours_since(stage: Stage) -> float:
    """Hours from the end of the business date, at the shop's midnight, until now."""
    ended = end_of_day(stage.run_date, ZoneInfo(stage.settings.timezone))
    return round((datetime.now(timezone.utc) - ended).total_seconds() / 3600, 1)
