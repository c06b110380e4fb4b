"""Publishing a run's candidates once the gate has passed, and what that changed for readers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Optional, cast

import pyarrow.dataset as ds

from daybook.contracts import load_tables
from daybook.contracts.columns import column_key
from daybook.errors import StageError
from daybook.lake.publish import PublishResult, publish
from daybook.notebook.aggregate import pin_tables, read_touched_dates
from daybook.notebook.context import Stage
from daybook.notebook.stale_dates import clear_stale_notes, mark_stale_dates, read_held_dates, release_dates

RESTATED_COLUMNS = ("orders", "gross_revenue", "returns_amount", "net_revenue")
"""The figures that a restated day is shown with."""
_DAILY_SALES = "gold.daily_sales"


def open_candidates(stage: Stage) -> list[date]:
    """The dates of this run's candidates. From here on the stage reads those candidates, and silver as they were computed from.

    What other dates merge meanwhile is no difference between candidates and silver. ``StageError`` without candidates.
    """
    dates, basis = read_touched_dates(stage)
    if set(basis.candidates) != {f"candidate.{name.split('.')[1]}" for name in load_tables("gold")}:
        raise StageError(f"The candidates of {stage.day} are not complete; run 4_aggregate for that date first.")
    pin_tables(stage, {**basis.snapshot.versions, **basis.candidates})
    return dates


def publish_candidates(stage: Stage, dates: Sequence[date]) -> None:
    """Make the candidates visible, one atomic commit a table; a next try finishes what one that was stopped has begun.

    Leaves in ``stage.details``: ``published_dates``, ``left_to_newer`` (dates that a run with a later look at silver has
    published), ``restated`` (other days than the run's whose row of daily_sales changed, with the figures before and after) and
    ``publications``: of every gold table whether this run ``published`` it, left it to a ``newer`` one, or it is ``waiting``.
    """
    if list(dates) != open_candidates(stage):
        raise StageError(f"The candidates of {stage.day} are not of the dates to publish; run 4_aggregate again.")
    _, basis = read_touched_dates(stage)
    done: dict[str, PublishResult] = {}
    stopped = sorted(day for day in read_held_dates(stage) if day != stage.run_date)
    for contract in load_tables("gold").values():
        if stopped and not contract.partition_by:
            # Computed from all days, so from what a stopped day changed, too: it waits until that day is settled.
            _warn_of_waiting(stage, contract.full_name, stopped)
            continue
        # It is there: else its version would not be among those that were opened.
        candidate = cast(ds.Dataset, stage.lake.dataset(f"candidate.{contract.name}"))
        rows = candidate.to_table().cast(contract.arrow_schema)
        done[contract.full_name] = publish(stage.lake, contract, rows, dates, basis.snapshot)
        stage.engine.refresh(contract.full_name)
    stage.details["publications"] = {name: _publication_status(done.get(name)) for name in load_tables("gold")}
    by_date = [done[name].superseded_dates for name, contract in load_tables("gold").items() if contract.partition_by]
    left = {day for days in by_date for day in days}
    stage.details["published_dates"] = [day.isoformat() for day in dates if day not in left]
    stage.details["left_to_newer"] = [day.isoformat() for day in sorted(left)]
    stage.details["restated"] = _find_restated_dates(
        stage, done[_DAILY_SALES].version, [day for day in dates if day != stage.run_date]
    )
    # What is held is noted for whichever run comes once it no longer is; only then may this run's notes go.
    mark_stale_dates(stage.lake, basis.held)
    release_dates(stage)
    clear_stale_notes(stage.lake, basis.notes)


def _publication_status(publication: Optional[PublishResult]) -> str:
    if publication is None:
        return "waiting"
    return "newer" if publication.version is None else "published"


def _warn_of_waiting(stage: Stage, table: str, stopped: list[date]) -> None:
    days = ", ".join(day.isoformat() for day in stopped)
    said = f"{table} stays as it is while a gate holds {days}; run that date again, or approve its run"
    stage.details["warnings"] = [*stage.details.get("warnings", []), said]


def _find_restated_dates(stage: Stage, version: Optional[int], dates: Sequence[date]) -> list[dict[str, Any]]:
    """The days among ``dates`` whose row the publication with this version has changed, as readers had it and have it now."""
    if version is None or not dates:
        return []
    pinned = dict(stage.lake.pinned)
    rows = []
    try:
        for each in (version - 1, version):
            stage.lake.pin({_DAILY_SALES: each})
            stage.engine.refresh(_DAILY_SALES)
            found = stage.engine.query(
                f"SELECT * FROM {_DAILY_SALES} WHERE order_date BETWEEN DATE '{min(dates)}' AND DATE '{max(dates)}'"
            )
            names = list(map(column_key, found.columns))
            rows.append({row[names.index("order_date")]: dict(zip(names, row)) for row in found.fetchall()})
    finally:
        stage.lake.pin(pinned)
        stage.engine.refresh(_DAILY_SALES)
    before, after = rows
    return [
        {"order_date": day.isoformat(), "before": _format_row(before.get(day)), "after": _format_row(after.get(day))}
        for day in dates
        if before.get(day) != after.get(day)
    ]


def _format_row(row: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """A day's figures, money as text; None for a day that is not there."""
    if row is None:
        return None
    return {name: str(row[name]) if isinstance(row[name], Decimal) else row[name] for name in RESTATED_COLUMNS}
