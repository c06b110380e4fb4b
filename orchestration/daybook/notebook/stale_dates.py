"""Business dates whose gold has to be computed: stale, landed, or held because a gate refused them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping
from datetime import date
from typing import NamedTuple

import pyarrow as pa

from daybook.contracts.canonical import business_date_column
from daybook.lake.tables import Lake
from daybook.notebook.context import Stage

STALE_DATES = "control.stale_dates"
"""Business dates whose gold differs from silver, by the run date that has to compute them again; each note is a row.

A date is noted before silver changes, in case the run is killed, and again once all tables are merged. Publishing removes
exactly the notes that its candidates are based on. Notes that were added meanwhile stay for the next run."""
LANDED_DATES = "control.landed_dates"
"""The business dates whose rows have passed validation and are in silver, a partition each."""
HELD_DATES = "control.held_dates"
"""By the run date that a gate refused: the business dates whose silver rows it has changed. No other run publishes them, except
each its own date, whose landing it holds whatever has changed it since."""
ANY_RUN_DATE = date(1, 1, 1)
"""The run date of notes for the next run of any date."""


class StaleNote(NamedTuple):
    """One row of ``control.stale_dates``."""

    run_date: date
    stale_date: date
    name: str


def mark_stale_dates(lake: Lake, dates: Iterable[date], *, under: date = ANY_RUN_DATE) -> None:
    """Note business dates whose gold the next run of the date ``under`` has to compute again.

    Without ``under``, the next run of any date does so. Note dates after the change of silver, or before and after it: a run
    that reads the note in between would take the date for done.
    """
    days = sorted(set(dates))
    if days:
        names = pa.array([uuid.uuid4().hex for _ in days], pa.string())
        lake.append(STALE_DATES, dates_table(days).append_column("note", names), under)


def dates_table(dates: Iterable[date]) -> pa.Table:
    """Return dates as a table of one column, which has the name of the business date in silver and gold."""
    return pa.table({business_date_column(): pa.array(list(dates), pa.date32())})


def read_stale_notes(stage: Stage) -> list[StaleNote]:
    """Return the notes for the business dates that continue, and those for the next run of any date."""
    stage.engine.refresh(STALE_DATES)
    if not stage.lake.exists(STALE_DATES):
        return []
    rows = stage.engine.rows(
        f"SELECT run_date, {business_date_column()} AS day, coalesce(note, '') AS note FROM {STALE_DATES} "
        f"WHERE run_date IN ({stage.dates_sql}, DATE '{ANY_RUN_DATE}') ORDER BY run_date, day, note"
    )
    return [StaleNote(*row) for row in rows]


def list_stale_dates(stage: Stage) -> set[date]:
    """Return the dates that this run has to compute again."""
    return {note.stale_date for note in read_stale_notes(stage)}


def clear_stale_notes(lake: Lake, names: Iterable[str]) -> None:
    """Remove notes whose dates are published; notes that are already gone are ignored."""
    lake.delete_rows(STALE_DATES, "note", sorted(names))


def read_held_dates(stage: Stage) -> dict[date, set[date]]:
    """Return the dates that no other run may publish, by the run date that a gate refused."""
    stage.engine.refresh(HELD_DATES)
    held: dict[date, set[date]] = {}
    if stage.lake.exists(HELD_DATES):
        for run_date, day in stage.engine.rows(f"SELECT run_date, {business_date_column()} FROM {HELD_DATES}"):
            held.setdefault(run_date, set()).add(day)
    return held


def hold_dates(stage: Stage, days: Collection[date]) -> dict[date, list[date]]:
    """Keep other runs from publishing what these run dates have changed in silver, until each is published.

    For a gate that refuses the run dates: their rows are in silver and not in gold.

    Returns
    -------
    dict
        By run date, the dates that it holds.
    """
    held: dict[date, set[date]] = {day: {day} for day in sorted(days)}
    for note in read_stale_notes(stage):
        if note.run_date in held:
            held[note.run_date].add(note.stale_date)
    _replace_held_dates(stage, held)
    for day, dates in held.items():
        stage.results[day].details["held_dates"] = [each.isoformat() for each in sorted(dates)]
    return {day: sorted(dates) for day, dates in held.items()}


def release_dates(stage: Stage, days: Collection[date]) -> None:
    """Let other runs publish what these run dates have changed, since it is published."""
    _replace_held_dates(stage, {day: set() for day in sorted({*days} & {*stage.lake.run_dates(HELD_DATES)})})


def _replace_held_dates(stage: Stage, held: Mapping[date, Collection[date]]) -> None:
    pairs = [(day, each) for day, dates in held.items() for each in sorted(dates)]
    rows = dates_table(each for _, each in pairs).append_column("run_date", pa.array([day for day, _ in pairs], pa.date32()))
    stage.lake.replace_dates(HELD_DATES, rows, list(held))
