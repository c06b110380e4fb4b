"""Stage 6: the day's page and the message to people."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Optional
from zoneinfo import ZoneInfo

from daybook.notebook.context import Stage
from daybook.notebook.display import Listing
from daybook.records.archive import Record
from daybook.records.formatting import MONEY_FIGURES, SUMMARY_FIGURES, format_figures
from daybook.records.notifications import describe_run_failure, find_suppression_reason, list_warnings, run_message
from daybook.scheduling.calendar import load_calendar
from daybook.scheduling.due import NewestRun, end_of_day, format_dates, list_date_states, list_never_ran
from daybook.scheduling.freshness import describe_published_figures


@dataclass
class RunReport:
    """A run up to here: how it went, its stages' last attempts, and the figures that it published."""

    outcome: str
    reasons: list[str]
    stages: list[Record]
    summary: Optional[dict[str, Any]]
    currency: str
    caught: Optional[Record] = None
    """What the state machine caught, if it did."""
    standing: str = ""
    """Whose figures readers see, where this run published none."""

    @property
    def failed(self) -> Optional[Record]:
        """The attempt to blame: the stage's last one, where it failed or said no."""
        blamed = [each for each in self.stages if each["outcome"] == self.outcome and self.outcome in ("FAILED", "REJECTED")]
        return blamed[-1] if blamed else None

    @property
    def stage_listing(self) -> Listing:
        """A row a stage, by its last attempt."""
        return Listing(
            ["stage", "outcome", "attempts", "seconds", "rows in", "rows out", "rejected"],
            [
                (
                    each["stage"],
                    each["outcome"],
                    each["attempt"],
                    each["seconds"],
                    *(each["rows"].get(name) for name in ("in", "out", "rejected")),
                )
                for each in self.stages
            ],
        )

    @property
    def figure_listing(self) -> Listing:
        """The day's row of gold.daily_sales, a line a figure."""
        if self.summary is None:
            return Listing(["figure", "value"], [("published", self.standing)] if self.standing else [])
        return Listing(["figure", "value"], format_figures(self.summary, self.currency))


def look_back(stage: Stage, failure: str = "null") -> RunReport:
    """Gather the run's records; ``failure`` is the JSON of what the state machine caught."""
    attempts = stage.archive.attempts(stage.run_id) if stage.run_id else []
    last = {each["stage"]: each for each in attempts if each["stage"] != stage.name}
    caught = json.loads(failure)
    ended = [each for each in last.values() if each["outcome"] in ("REJECTED", "SKIPPED")]
    if caught:
        failed = [each for each in last.values() if each["outcome"] == "FAILED"]
        outcome, reasons = "FAILED", [describe_run_failure(failed[-1] if failed else None, caught)]
    elif ended:
        outcome, reasons = ended[-1]["outcome"], ended[-1]["reasons"]
    elif stage.run_id and last.get("quality", {}).get("outcome") != "SUCCEEDED":
        outcome, reasons = "FAILED", ["a stage ended without an outcome, so nothing was published"]
    else:
        outcome, reasons = "SUCCEEDED", []
    figures = read_published_figures(stage) if outcome == "SUCCEEDED" else None
    day = RunReport(outcome, reasons, list(last.values()), figures, stage.settings.currency, caught)
    if stage.run_id:
        of_date = stage.archive.run_ids(stage.run_date)
        earlier = map(stage.archive.run, of_date[: of_date.index(stage.run_id)])
        day.standing = describe_published_figures({"outcome": outcome, "stages": attempts}, earlier)
    return day


def read_published_figures(stage: Stage) -> Optional[dict[str, Any]]:
    """The date's row of gold.daily_sales as readers see it, or None."""
    columns = ", ".join(SUMMARY_FIGURES)
    rows = stage.engine.rows(f"SELECT {columns} FROM gold.daily_sales WHERE order_date = DATE '{stage.day}'")
    return dict(zip(SUMMARY_FIGURES, rows[0])) if rows else None


def tell(stage: Stage, day: RunReport, execution: str = "") -> str:
    """Leave the message in the record, where somebody is to be told of the day, and end the stage.

    ``execution`` is the ARN of the state machine's execution. Returns the message as text, or why there is none.
    """
    warnings = list_warnings(day.stages)
    news = [
        *_format_figures(day),
        *_format_quarantined(day),
        *warnings,
        *filter(None, [day.standing]),
        *_format_missing_dates(stage, datetime.now(timezone.utc)),
    ]
    silent = find_suppression_reason(stage.run_id, day.outcome, warnings, stage.settings.tell, stage.part_of)
    if stage.part_of is None:
        # How old the newest figures are. A day of long ago says nothing of that.
        stage.details["freshness_hours"] = _hours_since(stage)
    if silent:
        stage.details["silent"] = silent
        shown = "\n".join([f"{stage.day} {day.outcome}", *day.reasons, *news, f"Nobody is told of this day: {silent}"])
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
        stage.details["message"] = message.to_record()
        shown = f"{message.subject}\n\n{message.body}"
    stage.details["run_outcome"] = day.outcome
    stage.details["run_reasons"] = day.reasons
    stage.details["summary"] = day.summary and {
        name: str(value) if name in MONEY_FIGURES and value is not None else value for name, value in day.summary.items()
    }
    if day.outcome == "SUCCEEDED":
        # Published: nobody needs the candidates any more, and they hold pseudonyms.
        stage.lake.drop_candidates()
    stage.succeed()
    return shown


def _format_figures(day: RunReport) -> list[str]:
    if not day.summary:
        return []
    figures = day.summary
    return [
        f"{figures['orders']:,} orders, net revenue {figures['net_revenue']:,.2f} {day.currency}, "
        f"returns {figures['returns_amount']:,.2f} {day.currency}, {figures['new_customers']:,} new customers."
    ]


def _format_quarantined(day: RunReport) -> list[str]:
    rejected = sum(each["rows"].get("rejected") or 0 for each in day.stages)
    return [f"{rejected:,} rows are in quarantine."] if rejected else []


def _format_missing_dates(stage: Stage, moment: datetime) -> list[str]:
    """Return a line on the dates that are due at a moment and have no run."""
    if not stage.run_id or stage.part_of is not None:
        return []
    calendar = load_calendar(stage.settings)
    started = {day: NewestRun("", "RUNNING") for day in stage.archive.run_dates()}
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
