"""Choose the business dates on which a change is previewed: from the records alone, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from statistics import median_low
from typing import Any, Optional

from daybook.contracts import load_tables
from daybook.records.archive import Archive
from daybook.records.models import RunOutcome, RunRecord
from daybook.records.names import run_date_of
from daybook.scheduling.gaps import find_ingest, read_runs_of_date

PREVIEW_DAY = "previewDay"
"""Custom property of a gold column. Its value names the kind of the date with the largest figure: a day with returns."""
_MAX_DATES = 366
"""Number of newest dates to choose from: a year has every season. Of older dates the landing files are often gone."""
_READ_THREADS = 16
"""Number of dates whose records are read in parallel: in a bucket, each takes about 30 ms."""
_SATURDAY = 5


@dataclass(frozen=True)
class RecordedDay:
    """A business date and its runs, newest first, back to the one that read landing."""

    run_date: date
    runs: Sequence[RunRecord]

    @property
    def outcome(self) -> RunOutcome:
        """The outcome of the newest run."""
        return self.runs[0].outcome

    @property
    def is_closed(self) -> bool:
        """Whether the date was skipped, or no row landed."""
        return self.outcome == "SKIPPED" or (self.outcome == "SUCCEEDED" and not self.rows)

    @property
    def rows(self) -> int:
        """Number of rows that landed."""
        read = next(filter(None, map(find_ingest, self.runs)), None)
        return (read.rows.rows_out or 0) if read else 0

    @property
    def restated(self) -> int:
        """Number of earlier dates whose figures the newest run changed.

        In a range, an earlier date of the range is published once, with what later dates have changed.
        """
        run = self.runs[0]
        found = {each.business_date for stage in run.stages for each in stage.details.restated}
        if run.range_id:
            found.update(day for stage in run.stages for day in stage.details.stale_dates)
        return len({day for day in found if day < self.run_date.isoformat()})


@dataclass(frozen=True)
class RepresentativeDays:
    """The chosen dates with their reasons, oldest first, and the kinds of days of which there is none."""

    reasons: Mapping[date, str]
    absent: Sequence[str]


def read_days(archive: Archive, dates: Optional[Sequence[date]] = None) -> list[RecordedDay]:
    """Return the recorded runs of business dates, oldest first; by default of the newest year of dates."""
    with ThreadPoolExecutor(_READ_THREADS) as readers:
        wanted = sorted(set(dates) if dates else archive.run_dates()[-_MAX_DATES:])
        histories = readers.map(lambda day: read_runs_of_date(archive, day), wanted)
        return [RecordedDay(day, runs) for day, runs in zip(wanted, histories) if runs]


def kinds_by_figure() -> dict[str, str]:
    """Return the kinds of days that the contracts of gold declare, by the name of the figure."""
    properties = [item for table in load_tables("gold").values() for item in table.properties]
    return {item.name: str(item.custom_property(PREVIEW_DAY)) for item in properties if item.custom_property(PREVIEW_DAY)}


def choose_days(days: Sequence[RecordedDay], kinds: Mapping[str, str]) -> RepresentativeDays:
    """Choose a normal weekday, the busiest day, a day with late data, a day of each declared kind, and a closed day.

    Only dates that were published or skipped are chosen. Of several equal dates, the newest is chosen. One date can be of
    several kinds.

    Parameters
    ----------
    days
        Dates with their records.
    kinds
        Further kinds of days by the figure whose largest value decides (``kinds_by_figure``).

    Returns
    -------
    RepresentativeDays
        Chosen dates and absent kinds.
    """
    days = sorted(days, key=lambda day: day.run_date, reverse=True)
    opened = [day for day in days if day.outcome == "SUCCEEDED" and day.rows]
    figures = _collect_figures(days)
    measures = [
        ("the busiest day", "{:,} rows", {day.run_date: Decimal(day.rows) for day in opened}),
        ("a day with late data", "earlier dates restated: {:,}", {day.run_date: Decimal(day.restated) for day in opened}),
    ]
    for name, kind in kinds.items():
        measures.append(
            (kind, f"{name} {{:,f}}", {day.run_date: _to_decimal(figures[day.run_date].get(name)) for day in opened})
        )
    found = {"a normal weekday": _find_normal_weekday(opened)}
    for kind, measured, sizes in measures:
        largest = max(sizes, key=sizes.__getitem__, default=None)
        found[kind] = (largest, measured.format(sizes[largest])) if largest and sizes[largest] > 0 else None
    found["a closed day"] = next(((day.run_date, "no rows") for day in days if day.is_closed), None)
    reasons: dict[date, list[str]] = {}
    for kind, choice in found.items():
        if choice:
            reasons.setdefault(choice[0], []).append(f"{kind} ({choice[1]})")
    absent = [kind for kind, choice in found.items() if choice is None]
    return RepresentativeDays({day: "; ".join(reasons[day]) for day in sorted(reasons)}, absent)


def _find_normal_weekday(opened: Sequence[RecordedDay]) -> Optional[tuple[date, str]]:
    """Return the first weekday with the median number of rows, and that number in words."""
    weekdays = {day.run_date: day.rows for day in opened if day.run_date.weekday() < _SATURDAY}
    if not weekdays:
        return None
    median = median_low(weekdays.values())
    return next(day for day, rows in weekdays.items() if rows == median), f"{median:,} rows, the median of weekdays"


def _collect_figures(days: Iterable[RecordedDay]) -> dict[date, dict[str, Any]]:
    """Return the figures of dates as published: by their own run, or by a later run that restated them."""
    figures: dict[date, dict[str, Any]] = {day.run_date: {} for day in days}
    for run in sorted((run for day in days for run in day.runs), key=lambda run: run.started_at):
        if run.summary:
            figures[run_date_of(run.run_id)] = dict(run.summary)
        for each in (restated for stage in run.stages for restated in stage.details.restated):
            with suppress(ValueError):  # A redacted date.
                figures.setdefault(date.fromisoformat(each.business_date), {}).update(each.after or {})
    return figures


def _to_decimal(figure: object) -> Decimal:
    """Return a figure of a record, which is a number or money as text; 0 for none, or if it was redacted."""
    try:
        return Decimal(str(figure or 0))
    except InvalidOperation:
        return Decimal(0)
