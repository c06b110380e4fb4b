"""Stage 6: the day's page and the message to people.

Here: what the earlier stages left in the archive, the day's figures, the message. Not here: pages over many days
(``daybook.report``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, time, timedelta, timezone
from typing import Any, Optional
from zoneinfo import ZoneInfo

from daybook.archive import Record, describe_failure, first_line
from daybook.notebook.display import Listing
from daybook.notebook.figures import FIGURES, MONEY, named_figures
from daybook.notebook.stage import Stage


@dataclass
class Day:
    """A run up to here: how it went, its stages' last attempts, and the day's published figures."""

    outcome: str
    reasons: list[str]
    stages: list[Record]
    summary: Optional[dict[str, Any]]
    currency: str

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
            return Listing(["figure", "value"], [])
        return Listing(["figure", "value"], named_figures(self.summary, self.currency))


def look_back(stage: Stage, failure: str = "null") -> Day:
    """Gather the run's records; ``failure`` is the JSON of what the state machine caught."""
    attempts = stage.archive.attempts(stage.run_id) if stage.run_id else []
    last = {each["stage"]: each for each in attempts if each["stage"] != stage.name}
    caught = json.loads(failure)
    ended = [each for each in last.values() if each["outcome"] in ("REJECTED", "SKIPPED")]
    if caught:
        outcome, reasons = "FAILED", [_why(caught, last)]
    elif ended:
        outcome, reasons = ended[-1]["outcome"], ended[-1]["reasons"]
    elif stage.run_id and last.get("quality", {}).get("outcome") != "SUCCEEDED":
        outcome, reasons = "FAILED", ["a stage ended without an outcome, so nothing was published"]
    else:
        outcome, reasons = "SUCCEEDED", []
    return Day(outcome, reasons, list(last.values()), published_figures(stage), stage.settings.currency)


def published_figures(stage: Stage) -> Optional[dict[str, Any]]:
    """The date's row of gold.daily_sales as readers see it, or None."""
    columns = ", ".join(FIGURES)
    rows = stage.engine.rows(f"SELECT {columns} FROM gold.daily_sales WHERE order_date = DATE '{stage.day}'")
    return dict(zip(FIGURES, rows[0])) if rows else None


def tell(stage: Stage, day: Day) -> str:
    """Compose the message, leave it in the record, and end the stage. Returns the message."""
    subject = f"Daybook {stage.settings.env}: {stage.day} {day.outcome}"
    lines = [subject, *day.reasons]
    if day.summary and day.outcome == "SUCCEEDED":
        figures = day.summary
        lines.append(
            f"{figures['orders']:,} orders, net revenue {figures['net_revenue']:,.2f} {day.currency}, "
            f"returns {figures['returns_amount']:,.2f} {day.currency}, {figures['new_customers']:,} new customers."
        )
    rejected = sum(each["rows"].get("rejected") or 0 for each in day.stages)
    if rejected:
        lines.append(f"{rejected:,} rows are in quarantine.")
    lines += [warning for each in day.stages for warning in each["details"].get("warnings", [])]
    if stage.part_of is None:
        stage.details["message"] = {"subject": subject, "body": "\n".join(lines)}
        # How old the newest figures are. A day of long ago says nothing of that.
        stage.details["freshness_hours"] = _hours_since(stage)
    else:
        lines.append(f"Nobody is told of this day: {stage.part_of} sends one summary of all its days.")
    stage.details["run_outcome"] = day.outcome
    stage.details["run_reasons"] = day.reasons
    stage.details["summary"] = day.summary and {
        name: str(value) if name in MONEY and value is not None else value for name, value in day.summary.items()
    }
    if day.outcome == "SUCCEEDED":
        # Published: nobody needs the candidates any more, and they hold pseudonyms.
        stage.lake.drop_candidates()
    stage.succeed()
    return "\n".join(lines)


def _hours_since(stage: Stage) -> float:
    """Hours from the end of the business date, at the shop's midnight, until now."""
    midnight = datetime.combine(stage.run_date + timedelta(days=1), time(), ZoneInfo(stage.settings.timezone))
    return round((datetime.now(timezone.utc) - midnight).total_seconds() / 3600, 1)


def _why(caught: dict[str, Any], last: dict[str, Record]) -> str:
    """One sentence for a failure: stage, cell, the exception's first line."""
    failed = [each for each in last.values() if each["outcome"] == "FAILED"]
    if failed:
        return describe_failure(failed[-1])
    return f"{caught.get('Error', 'The state machine failed')}: {first_line(str(caught.get('Cause') or ''))[:300]}"
