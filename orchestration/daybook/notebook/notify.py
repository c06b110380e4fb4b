"""Stage 6: show how the run went, and write the message about it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timezone
from decimal import Decimal
from typing import Any, Optional
from zoneinfo import ZoneInfo

from daybook.contracts.canonical import business_date_column
from daybook.contracts.columns import find_column
from daybook.errors import NotebookError
from daybook.notebook.context import Stage
from daybook.notebook.display import Listing, money_as_text
from daybook.records.formatting import format_figure, format_figures
from daybook.records.models import AttemptRecord, RunOutcome
from daybook.records.notifications import describe_run_failure, find_suppression_reason, list_warnings, run_message
from daybook.records.ranges import date_outcome, slice_attempts, worst_outcome
from daybook.scheduling.calendar import load_calendar
from daybook.scheduling.due import end_of_day, format_dates, list_date_states, list_never_ran
from daybook.scheduling.freshness import describe_published_figures, has_published

_NO_OUTCOME = "a stage ended without an outcome, so nothing was published"


@dataclass
class DateReport:
    """How a business date of the run went."""

    outcome: RunOutcome
    reasons: list[str]
    stages: list[AttemptRecord]
    """What the last attempt of each stage did for the date."""
    summary: Optional[dict[str, Any]] = None
    """The date's figures by name, if the run has published them."""
    standing: str = ""
    """Whose figures readers see, if this run published none."""


@dataclass
class RunReport:
    """A run up to this stage: its outcome, the last attempt of each stage, and its dates."""

    outcome: RunOutcome
    reasons: list[str]
    stages: list[AttemptRecord]
    currency: str
    dates: dict[date, DateReport]
    caught: Optional[dict[str, Any]] = None
    """What the state machine caught, if anything."""

    @property
    def failed(self) -> Optional[AttemptRecord]:
        """The attempt that decided the outcome, if it failed or a gate rejected the data."""
        if self.outcome not in ("FAILED", "REJECTED"):
            return None
        blamed = [each.stage for day in self.dates.values() for each in day.stages if each.outcome == self.outcome]
        return next((each for each in reversed(self.stages) if each.stage in blamed), None)

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
    attempts = [each for each in attempts if each.stage != stage.name]
    last = list({each.stage: each for each in attempts}.values())
    caught = json.loads(failure)
    if stage.is_range:
        slices = slice_attempts(attempts, [day.isoformat() for day in stage.dates])
        dates = {day: _judge_date(stage, date_outcome(attempts, day), slices[day.isoformat()], caught) for day in stage.dates}
    else:
        dates = {stage.run_date: _judge_run(stage, last, caught)}
    outcome = worst_outcome(each.outcome for each in dates.values())
    found = {day: each.reasons for day, each in dates.items() if each.outcome == outcome}
    reasons = _group_texts(found, in_range=stage.is_range)
    run = RunReport(outcome, reasons, last, stage.settings.currency, dates, caught=caught)
    if stage.run_id:
        for day, each in dates.items():
            each.standing = _describe_standing(stage, day, each)
    return run


def _judge_run(stage: Stage, last: list[AttemptRecord], caught: Optional[dict[str, Any]]) -> DateReport:
    """Return how the only date of a run went."""
    ended = [each for each in last if each.outcome in ("REJECTED", "SKIPPED")]
    if caught:
        failed = [each for each in last if each.outcome == "FAILED"]
        return DateReport("FAILED", [describe_run_failure(failed[-1] if failed else None, caught)], last)
    if ended:
        return DateReport(ended[-1].outcome, ended[-1].reasons, last)
    if stage.run_id and not any((each.stage, each.outcome) == ("quality", "SUCCEEDED") for each in last):
        return DateReport("FAILED", [_NO_OUTCOME], last)
    return DateReport("SUCCEEDED", [], last)


def _judge_date(
    stage: Stage, ended: tuple[RunOutcome, list[str]], slices: list[AttemptRecord], caught: Optional[dict[str, Any]]
) -> DateReport:
    """Return how a date of a range went, given its outcome and reasons by the run's attempts."""
    last = list({each.stage: each for each in slices}.values())
    outcome, reasons = ended
    if not stage.run_id:
        outcome = "SUCCEEDED"
    elif outcome == "FAILED" and not reasons:
        failed = [each for each in last if each.outcome == "FAILED"]
        reasons = [describe_run_failure(failed[-1] if failed else None, caught) if caught else _NO_OUTCOME]
    return DateReport(outcome, reasons, last)


def _describe_standing(stage: Stage, day: date, report: DateReport) -> str:
    """Return whose figures of a date are published if the run has published none."""
    if has_published(report.outcome, report.stages):
        return ""
    started = stage.started
    own = getattr(started, "dates", {}).get(day.isoformat(), stage.run_id)
    of_date = stage.archive.run_ids(day)
    earlier = map(stage.archive.run, of_date[: of_date.index(own)] if own in of_date else of_date)
    return describe_published_figures(report.outcome, report.stages, earlier)


def read_figures(stage: Stage, run: RunReport, name: str) -> Listing:
    """Read the figures of each date if the run has published them; return a row per figure, or for a range per date.

    Parameters
    ----------
    stage
        The open stage.
    run
        Its dates get the figures as their ``summary``.
    name
        A query with a column per figure and at most one row per date. Decimals are money. The date is a column if there are
        several.
    """
    found = stage.engine.query(f"SELECT * FROM {name}")
    when = find_column(found.columns, business_date_column())
    if when is None and stage.is_range:
        raise NotebookError(f"{name} has no column {business_date_column()}; select a row per date, with the date.")
    for row in found.fetchall():
        figures = dict(zip(found.columns, row))
        report = run.dates.get(figures.pop(when) if when else stage.run_date)
        if report is None or report.outcome != "SUCCEEDED":
            continue
        for each, value in figures.items():
            if not isinstance(value, (int, float, Decimal, type(None))):
                raise NotebookError(f"The figure {each} is {value!r} and not a number; select numbers only for {name}.")
        report.summary = figures
    if not stage.is_range:
        (report,) = run.dates.values()
        if report.summary is None:
            return Listing(["figure", "value"], [("published", report.standing)] if report.standing else [])
        return Listing(["figure", "value"], format_figures(report.summary, run.currency))
    names = [each for each in found.columns if each != when]
    rows = []
    for day, report in run.dates.items():
        shown = dict(format_figures(report.summary, run.currency)) if report.summary else {}
        rows.append((day, report.outcome, *(shown.get(each.replace("_", " "), "·") for each in names)))
    return Listing(["business date", "outcome", *(each.replace("_", " ") for each in names)], rows)


def write_message(stage: Stage, run: RunReport, execution: str = "", *, headline: str = "") -> str:
    """Write the message about the run into the record if somebody is to be notified, and end the stage.

    Parameters
    ----------
    stage
        The open stage.
    run
        The run.
    execution
        The ARN of the state machine's execution.
    headline
        The first sentence about published figures of a date. ``{name}`` stands for a figure with its unit.

    Returns
    -------
    str
        The message, or why there is none.
    """
    of_dates = {day: list_warnings(each.stages) for day, each in run.dates.items()}
    warnings = _group_texts(of_dates, in_range=stage.is_range)
    if stage.is_range:
        warnings += list_warnings(run.stages)
    news = [
        *(_format_outcomes(run) if stage.is_range else []),
        *_group_texts({day: _format_headline(run, each, headline) for day, each in run.dates.items()}, in_range=stage.is_range),
        *_format_quarantined(run),
        *warnings,
        *_group_texts(
            {day: [each.standing] if each.standing else [] for day, each in run.dates.items()}, in_range=stage.is_range
        ),
        *_format_missing_dates(stage, datetime.now(timezone.utc)),
    ]
    silent = find_suppression_reason(stage.run_id, run.outcome, warnings, stage.settings.tell, stage.part_of)
    if stage.part_of is None:
        # The age of the newest figures. A date of a backfill says nothing about that.
        stage.details["freshness_hours"] = _hours_since(stage)
    if silent:
        stage.details["silent"] = silent
        shown = "\n".join([f"{stage.day} {run.outcome}", *run.reasons, *news, f"No message is sent: {silent}"])
    else:
        message = run_message(
            env=stage.settings.env,
            options=stage.settings.command_options,
            title=stage.settings.title,
            run_id=stage.run_id,
            run_date=stage.day,
            rejected=_find_rejected(stage, run),
            outcome=run.outcome,
            reasons=run.reasons,
            news=news,
            failed=run.failed,
            caught=run.caught,
            archive=stage.archive,
            execution=execution,
        )
        stage.details["message"] = message.to_json()
        shown = f"{message.subject}\n\n{message.body}"
    stage.details["run_outcome"], stage.details["run_reasons"] = run.outcome, run.reasons
    for day, report in run.dates.items():
        stage.results[day].details.update(
            run_outcome=report.outcome,
            run_reasons=report.reasons,
            summary=report.summary and money_as_text(report.summary),
            figures=list(report.summary or ()),
        )
    if run.outcome == "SUCCEEDED":
        # The candidates are published, so nothing reads them any more, and they hold pseudonyms.
        stage.lake.drop_candidates()
    stage.succeed()
    return shown


def _find_rejected(stage: Stage, run: RunReport) -> Optional[tuple[str, str]]:
    """Return the run id and the date that commands on the first rejected date of a range name; None without one."""
    days = [day.isoformat() for day, each in run.dates.items() if each.outcome == "REJECTED"]
    if not stage.is_range or not days:
        return None
    return getattr(stage.started, "dates", {}).get(days[0], stage.run_id), days[0]


def _format_outcomes(run: RunReport) -> list[str]:
    """Return how many dates of a range ended with each outcome, and the reasons of those that did not end well."""
    outcomes = [each.outcome for each in run.dates.values()]
    counts = ", ".join(f"{outcomes.count(outcome):,} {outcome}" for outcome in dict.fromkeys(outcomes))
    found = {
        day: [f"{each.outcome}: {reason}" for reason in each.reasons or ["no reason was given"]]
        for day, each in run.dates.items()
        if each.outcome not in ("SUCCEEDED", run.outcome)
    }
    return [f"{counts}.", *_group_texts(found, in_range=True)]


def _format_headline(run: RunReport, report: DateReport, headline: str) -> list[str]:
    if not report.summary or not headline:
        return []
    try:
        return [headline.format(**{name: format_figure(value, run.currency) for name, value in report.summary.items()})]
    except KeyError as error:
        raise NotebookError(
            f"The headline names {error.args[0]!r}, which is no figure; the figures are: {', '.join(report.summary)}."
        ) from None


def _format_quarantined(run: RunReport) -> list[str]:
    rejected = sum(each.rows.rejected or 0 for each in run.stages)
    return [f"{rejected:,} rows are in quarantine."] if rejected else []


def _group_texts(texts: Mapping[date, Sequence[str]], *, in_range: bool) -> list[str]:
    """Return the texts about dates; for a range each text once, after the dates that it is about."""
    if not in_range:
        return [text for found in texts.values() for text in found]
    dates: dict[str, list[date]] = {}
    for day, found in texts.items():
        for text in found:
            dates.setdefault(text, []).append(day)
    return [f"{_format_spans(days)}: {text}" for text, days in dates.items()]


def _format_spans(days: Sequence[date]) -> str:
    """Return dates in order as text, consecutive ones as ``first to last``."""
    spans: list[list[date]] = []
    for day in days:
        if spans and (day - spans[-1][-1]).days == 1:
            spans[-1].append(day)
        else:
            spans.append([day])
    return ", ".join(f"{each[0]} to {each[-1]}" if len(each) > 1 else f"{each[0]}" for each in spans)


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
    """Hours from the end of the last business date, at the shop's midnight, until now."""
    ended = end_of_day(stage.until, ZoneInfo(stage.settings.timezone))
    return round((datetime.now(timezone.utc) - ended).total_seconds() / 3600, 1)
