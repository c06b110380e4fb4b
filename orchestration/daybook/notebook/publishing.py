"""Publish a run's candidates once the gate has passed, and record what that changed for readers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Optional, cast

import pyarrow.dataset as ds

from daybook.contracts import Table, load_tables
from daybook.contracts.columns import column_key
from daybook.errors import StageError
from daybook.lake.publish import PublishResult, publish
from daybook.notebook.aggregate import TOUCHED, pin_tables, read_touched_dates
from daybook.notebook.context import Stage
from daybook.notebook.stale_dates import clear_stale_notes, dates_table, mark_stale_dates, read_held_dates, release_dates
from daybook.records.models import RESTATED_DATE
from daybook.sources.mapping import quote


def open_candidates(stage: Stage) -> list[date]:
    """Open this run's candidates and return their dates.

    From here on the stage reads the candidates, and silver as it was when they were computed: what other dates merge in the
    meantime makes no difference. Also defines ``touched`` and the definitions that the notebook of the candidates has handed
    over. Raises ``StageError`` if the candidates are absent or incomplete.
    """
    dates, basis = read_touched_dates(stage)
    if set(basis.candidates) != {f"candidate.{name.split('.')[1]}" for name in load_tables("gold")}:
        raise StageError(f"The candidates of {stage.day} are not complete; run 4_aggregate for that date first.")
    pin_tables(stage, {**basis.snapshot.versions, **basis.candidates})
    stage.engine.register(TOUCHED, dates_table(dates))
    for name, sql in basis.definitions.items():
        stage.engine.define(name, sql)
        stage.definitions[name] = sql
    return dates


def publish_candidates(stage: Stage, dates: Sequence[date]) -> None:
    """Make the candidates visible, one atomic commit per table. A retry finishes what a stopped attempt has begun.

    Leaves in ``stage.details``: ``published_dates``; ``left_to_newer``, dates that a run with a later snapshot of silver has
    published; ``restated``, dates other than the run's whose figures changed (columns with the custom property
    ``restatement``), with the values before and after; and ``publications``, for every gold table whether this run
    ``published`` it, left it to a ``newer`` run, or it is ``waiting``.
    """
    if list(dates) != open_candidates(stage):
        raise StageError(f"The candidates of {stage.day} are not of the dates to publish; run 4_aggregate again.")
    _, basis = read_touched_dates(stage)
    done: dict[str, PublishResult] = {}
    stopped = sorted(day for day in read_held_dates(stage) if day != stage.run_date)
    for contract in load_tables("gold").values():
        if stopped and not contract.partition_by:
            # It is computed from all dates, those that a held date changed included, so it waits for that date.
            _warn_of_waiting(stage, contract.full_name, stopped)
            continue
        # It exists: its version is among those that were opened.
        candidate = cast(ds.Dataset, stage.lake.dataset(f"candidate.{contract.name}"))
        rows = candidate.to_table().cast(contract.arrow_schema)
        done[contract.full_name] = publish(stage.lake, contract, rows, dates, basis.snapshot)
        stage.engine.refresh(contract.full_name)
    stage.details["publications"] = {name: _publication_status(done.get(name)) for name in load_tables("gold")}
    by_date = [done[name].superseded_dates for name, contract in load_tables("gold").items() if contract.partition_by]
    left = {day for days in by_date for day in days}
    stage.details["published_dates"] = [day.isoformat() for day in dates if day not in left]
    stage.details["left_to_newer"] = [day.isoformat() for day in sorted(left)]
    others = [day for day in dates if day != stage.run_date]
    stage.details["restated"] = [
        restated
        for name, contract in load_tables("gold").items()
        if name in done
        for restated in _find_restated_dates(stage, contract, done[name].version, others)
    ]
    # Note the held dates for the next run first; only then may this run's notes go.
    mark_stale_dates(stage.lake, basis.held)
    release_dates(stage)
    clear_stale_notes(stage.lake, basis.notes)


def _publication_status(publication: Optional[PublishResult]) -> str:
    if publication is None:
        return "waiting"
    return "newer" if publication.version is None else "published"


def _warn_of_waiting(stage: Stage, table: str, stopped: list[date]) -> None:
    days = ", ".join(day.isoformat() for day in stopped)
    text = f"{table} stays as it is while a gate holds {days}; run that date again, or approve its run"
    stage.details["warnings"] = [*stage.details.get("warnings", []), text]


def _find_restated_dates(stage: Stage, contract: Table, version: Optional[int], dates: Sequence[date]) -> list[dict[str, Any]]:
    """Return those of ``dates`` whose row of a table this version has changed, with the row before and after."""
    shown = contract.columns_with("restatement")
    if version is None or not dates or not shown or not contract.partition_by:
        return []
    table, (when,) = contract.full_name, contract.partition_by
    pinned = dict(stage.lake.pinned)
    rows = []
    try:
        for each in (version - 1, version):
            stage.lake.pin({table: each})
            stage.engine.refresh(table)
            found = stage.engine.query(
                f"SELECT * FROM {table} WHERE {quote(when)} BETWEEN DATE '{min(dates)}' AND DATE '{max(dates)}'"
            )
            names = list(map(column_key, found.columns))
            rows.append({row[names.index(column_key(when))]: dict(zip(names, row)) for row in found.fetchall()})
    finally:
        stage.lake.pin(pinned)
        stage.engine.refresh(table)
    before, after = rows
    return [
        {
            RESTATED_DATE: day.isoformat(),
            "before": _format_row(before.get(day), shown),
            "after": _format_row(after.get(day), shown),
        }
        for day in dates
        if before.get(day) != after.get(day)
    ]


def _format_row(row: Optional[dict[str, Any]], shown: Sequence[str]) -> Optional[dict[str, Any]]:
    """Return a date's figures, money as text; None for a date without a row."""
    if row is None:
        return None
    figures = {name: row[column_key(name)] for name in shown}
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in figures.items()}
