"""Publish a run's candidates once the gate has passed, and record what that changed for readers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from daybook.contracts import Table, load_tables
from daybook.lake.publish import publish
from daybook.notebook.basis import CandidateBasis
from daybook.notebook.context import Stage
from daybook.notebook.display import money_as_text
from daybook.notebook.stale_dates import clear_stale_notes, mark_stale_dates, read_held_dates, release_dates
from daybook.records.models import Restatement
from daybook.sources.mapping import quote


def publish_candidates(stage: Stage, basis: CandidateBasis) -> None:
    """Make the open candidates visible, one atomic commit per table. A retry finishes what a stopped attempt has begun.

    Leaves in the details of the stage and of each date that continues: ``published_dates``; ``left_to_newer``, dates that a run
    with a later snapshot of silver has published; ``restated``, dates other than the run's whose figures changed (columns with
    the custom property ``restatement``), with the values before and after; and ``publications``, for every gold table whether
    this run ``published`` it, left it to a ``newer`` run, or it is ``waiting``.
    """
    dates = basis.dates
    left: set[date] = set()
    versions: list[tuple[Table, int]] = []
    publications = stage.details["publications"] = {}
    stopped = sorted({*read_held_dates(stage), *basis.refused} - {*stage.dates})
    for contract in load_tables("gold").values():
        if stopped and not contract.date_column:
            # It is computed from all dates, those that a held date changed included, so it waits for that date.
            publications[contract.full_name] = "waiting"
            stage.warnings.append(
                f"{contract.full_name} stays as it is while a gate holds {', '.join(map(str, stopped))}; run that date again, "
                "or approve its run"
            )
            continue
        # It exists: its version is among those that were opened.
        candidate = cast(ds.Dataset, stage.lake.dataset(f"candidate.{contract.name}"))
        rows = candidate.to_table().cast(contract.arrow_schema)
        if basis.stopped and contract.date_column:
            rows = rows.filter(pc.invert(pc.is_in(rows[contract.date_column], pa.array(basis.stopped, pa.date32()))))
        done = publish(stage.lake, contract, rows, dates, basis.snapshot)
        stage.engine.refresh(contract.full_name)
        publications[contract.full_name] = "newer" if done.version is None else "published"
        if contract.date_column:
            left.update(done.superseded_dates)
            if done.version is not None:
                versions.append((contract, done.version))
    others = [day for day in dates if day not in stage.dates]
    restated = [found for contract, version in versions for found in _find_restated_dates(stage, contract, version, others)]
    stage.details["published_dates"] = [day.isoformat() for day in dates if day not in left]
    stage.details["left_to_newer"] = [day.isoformat() for day in sorted(left)]
    stage.details["restated"] = [change for _, change in restated]
    if stage.is_range:
        _record_dates(stage, basis, left, restated)
    # Note the held dates for the next run first; only then may this run's notes go.
    mark_stale_dates(stage.lake, basis.held)
    release_dates(stage, stage.dates)
    clear_stale_notes(stage.lake, [name for names in basis.notes.values() for name in names])


def _record_dates(
    stage: Stage, basis: CandidateBasis, left: Collection[date], restated: Sequence[tuple[date, dict[str, Any]]]
) -> None:
    """Record what the publication was for each date of a range that continues."""
    for day in stage.dates:
        mine = [each for each in basis.dates if day in basis.touched_by.get(each, ()) or basis.owner(each) == day]
        status = "newer" if day in left else "published" if day in basis.dates else "waiting"
        stage.results[day].details.update(
            published_dates=[each.isoformat() for each in mine if each not in left],
            left_to_newer=[each.isoformat() for each in mine if each in left],
            restated=[change for each, change in restated if basis.owner(each) == day],
            publications={
                contract.full_name: status if contract.date_column else stage.details["publications"][contract.full_name]
                for contract in load_tables("gold").values()
            },
        )


def _find_restated_dates(
    stage: Stage, contract: Table, version: int, dates: Sequence[date]
) -> list[tuple[date, dict[str, Any]]]:
    """Return those of ``dates`` whose row of a table this version has changed, with the row before and after."""
    shown = contract.columns_with("restatement")
    if not dates or not shown:
        return []
    table, when = contract.full_name, quote(contract.date_column or "")
    pinned = dict(stage.lake.pinned)
    found = []
    for each in (version - 1, version):
        stage.lake.pin({table: each})
        stage.engine.refresh(table)
        rows = stage.engine.rows(
            f"SELECT {when}, {', '.join(map(quote, contract.columns))} FROM {table} "
            f"WHERE {when} BETWEEN DATE '{min(dates)}' AND DATE '{max(dates)}'"
        )
        found.append({day: dict(zip(contract.columns, figures)) for day, *figures in rows})
    stage.lake.pin(pinned)
    stage.engine.refresh(table)
    before, after = ([each.get(day) for day in dates] for each in found)
    return [
        (
            day,
            Restatement(
                business_date=day.isoformat(),
                before=old and money_as_text({name: old[name] for name in shown}),
                after=new and money_as_text({name: new[name] for name in shown}),
            ).to_json(),
        )
        for day, old, new in zip(dates, before, after)
        if old != new
    ]
