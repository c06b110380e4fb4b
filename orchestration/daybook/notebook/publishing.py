"""Publish a run's candidates once the gate has passed, and record what that changed for readers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, cast

import pyarrow.dataset as ds

from daybook.contracts import Table, load_tables
from daybook.lake.publish import publish
from daybook.notebook.aggregate import CandidateBasis
from daybook.notebook.context import Stage
from daybook.notebook.display import money_as_text
from daybook.notebook.stale_dates import clear_stale_notes, mark_stale_dates, read_held_dates, release_dates
from daybook.records.models import Restatement
from daybook.sources.mapping import quote


def publish_candidates(stage: Stage, dates: Sequence[date], basis: CandidateBasis) -> None:
    """Make the open candidates visible, one atomic commit per table. A retry finishes what a stopped attempt has begun.

    Leaves in ``stage.details``: ``published_dates``; ``left_to_newer``, dates that a run with a later snapshot of silver has
    published; ``restated``, dates other than the run's whose figures changed (columns with the custom property
    ``restatement``), with the values before and after; and ``publications``, for every gold table whether this run
    ``published`` it, left it to a ``newer`` run, or it is ``waiting``.
    """
    left: set[date] = set()
    versions: list[tuple[Table, int]] = []
    publications = stage.details["publications"] = {}
    stopped = sorted(day for day in read_held_dates(stage) if day != stage.run_date)
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
        done = publish(stage.lake, contract, candidate.to_table().cast(contract.arrow_schema), dates, basis.snapshot)
        stage.engine.refresh(contract.full_name)
        publications[contract.full_name] = "newer" if done.version is None else "published"
        if contract.date_column:
            left.update(done.superseded_dates)
            if done.version is not None:
                versions.append((contract, done.version))
    stage.details["published_dates"] = [day.isoformat() for day in dates if day not in left]
    stage.details["left_to_newer"] = [day.isoformat() for day in sorted(left)]
    others = [day for day in dates if day != stage.run_date]
    stage.details["restated"] = [
        restated for contract, version in versions for restated in _find_restated_dates(stage, contract, version, others)
    ]
    # Note the held dates for the next run first; only then may this run's notes go.
    mark_stale_dates(stage.lake, basis.held)
    release_dates(stage, [stage.run_date])
    clear_stale_notes(stage.lake, basis.notes)


def _find_restated_dates(stage: Stage, contract: Table, version: int, dates: Sequence[date]) -> list[dict[str, Any]]:
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
        Restatement(
            business_date=day.isoformat(),
            before=old and money_as_text({name: old[name] for name in shown}),
            after=new and money_as_text({name: new[name] for name in shown}),
        ).to_json()
        for day, old, new in zip(dates, before, after)
        if old != new
    ]
