"""Stage 4: compute gold for the dates that this run touched, as candidates that no reader sees yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import pyarrow as pa
from pydantic import BaseModel, ValidationError

from daybook.contracts import load_tables
from daybook.contracts.canonical import business_date_column, business_date_table
from daybook.errors import NotebookError, StageError
from daybook.lake.publish import LakeSnapshot, take_lake_snapshot
from daybook.notebook.context import Stage
from daybook.notebook.conversions import find_unconvertible_values
from daybook.notebook.display import Listing
from daybook.notebook.gate import apply_approval, format_rules
from daybook.notebook.stale_dates import HELD_DATES, LANDED_DATES, dates_table, hold_dates, read_held_dates, read_stale_notes
from daybook.quality.checks import RuleResult
from daybook.quality.gates import gate_broken_rules

TOUCHED_TABLE = "candidate.touched_dates"
"""The dates of a run's candidates, each with the ``CandidateBasis`` of the candidates as JSON."""
TOUCHED = "touched"
"""The dates of the candidates, as cells read them."""
LANDED = "landed"
"""All dates whose landing is in silver, as cells read them."""


class CandidateBasis(BaseModel):
    """What a run's candidates were computed from."""

    snapshot: LakeSnapshot
    """The versions of silver."""
    notes: list[str]
    """The notes of stale dates that the candidates answer."""
    held: list[date]
    """The stale dates that a gate holds."""
    candidates: dict[str, int] = {}
    """The versions of the candidates once all are written."""
    definitions: dict[str, str]
    """Queries of the notebook by name, which the quality stage reads again."""


def touched_dates(stage: Stage) -> Listing:
    """Define ``touched``, the dates to compute, and ``landed``, all dates whose landing is in silver.

    The dates to compute are the run's own and those noted as stale. A date that was never ingested, or was rejected, is left
    out: silver holds only what later dates say of it. So is a date that another date's gate holds; the next run of that date
    publishes it. From here on the stage reads silver as it is at this moment.
    """
    pin_tables(stage, {})
    # Read the notes first: a change is made before its last note, so the snapshot that follows contains it.
    notes = read_stale_notes(stage)
    silver = list(load_tables("silver"))
    snapshot = take_lake_snapshot(
        stage.lake,
        [*silver, LANDED_DATES, HELD_DATES],
        list(load_tables("gold")),
        identified_by=business_date_table().full_name,
    )
    pin_tables(stage, snapshot.versions)
    landed = set(stage.lake.run_dates(LANDED_DATES))
    if stage.run_date not in landed:
        raise StageError(f"{stage.day} is not in silver; run 3_transform for that date first.")
    held = {stopped: days for stopped, days in read_held_dates(stage).items() if stopped != stage.run_date}
    landed -= held.keys()
    noted = {note.stale_date for note in notes}
    left_out = (noted & {day for days in held.values() for day in days}) - {stage.run_date}
    dates = sorted((noted - left_out | {stage.run_date}) & landed)
    stage.engine.register(TOUCHED, dates_table(dates))
    stage.engine.register(LANDED, dates_table(sorted(landed)))
    # A note for the next run of any date stays until a run may publish its date.
    answered = [each.name for each in notes if each.stale_date not in left_out or each.run_date == stage.run_date]
    basis = CandidateBasis(snapshot=snapshot, notes=answered, held=sorted(left_out), definitions={})
    _write_touched_dates(stage, dates, basis)
    # Vacuum keeps the versions that are on record readable until the candidates are published.
    stage.details["snapshot"] = {name: version for name, version in snapshot.versions.items() if version >= 0}
    stage.details["touched_dates"] = [day.isoformat() for day in dates]
    stage.details["dates_not_landed"] = len(noted - landed - left_out)
    stage.details["held_dates"] = [day.isoformat() for day in sorted(left_out)]
    listed = [(day, "this run's date" if day == stage.run_date else "restated") for day in dates]
    listed += [(day, "left out: held, since a gate rejected the date that changed it") for day in sorted(left_out)]
    return Listing(["business date", "why"], sorted(listed))


def write_candidates(stage: Stage, *, read: str = "", definitions: Sequence[str] = ()) -> Listing:
    """Write every gold table that the notebook defines as a candidate, and end the stage.

    Ends the stage as REJECTED if a value does not fit the type of its column.

    Parameters
    ----------
    stage
        The open stage.
    read
        The relation whose rows count as the rows that the stage read.
    definitions
        Queries of this notebook that the quality stage uses to check the candidates. Each may read only silver and others of
        them.
    """
    dates, basis = read_touched_dates(stage)
    # Fail here rather than while publishing, when other tables may be published already.
    for contract in load_tables("gold").values():
        stage.lake.require_compatible(contract)
    undefined = [name for name in definitions if name not in stage.definitions]
    if undefined:
        raise NotebookError(
            f"No cell defines {undefined[0]}; add a cell that begins with %%sql {undefined[0]}, or hand over less."
        )
    rows_in = int(stage.engine.fetch_row(f"SELECT count(*) FROM {read}")[0]) if read else None
    written = []
    versions = {}
    unfit: list[RuleResult] = []
    for contract in load_tables("gold").values():
        count = stage.materialize_table(contract, f"new.{contract.name}")
        unfit += find_unconvertible_values(stage.engine, f"marked.{contract.name}", contract, tuple(contract.key))
        name = f"candidate.{contract.name}"
        stage.lake.write_candidate(name, stage.engine.arrow(f"SELECT * FROM new.{contract.name}").cast(contract.arrow_schema))
        versions[name] = stage.lake.tables_written[name]
        written.append((contract.full_name, count))
    if unfit:
        reasons = apply_approval(stage, gate_broken_rules(unfit), unfit)
        # As in the quality stage: silver has the rows, and gold stays without them.
        hold_dates(stage, [stage.run_date])
        stage.reject(reasons, rows_in=rows_in)
        return format_rules(unfit)
    shared = {name: stage.definitions[name] for name in definitions}
    _write_touched_dates(stage, dates, basis.model_copy(update={"candidates": versions, "definitions": shared}))
    stage.details["candidates"] = dict(written)
    stage.succeed(rows_in=rows_in, rows_out=sum(count for _, count in written))
    return Listing(["candidate of", "rows"], written)


def read_touched_dates(stage: Stage) -> tuple[list[date], CandidateBasis]:
    """Return the dates of this run's candidates and their basis.

    Raises ``StageError`` if there are none, or they are another date's.
    """
    stage.engine.refresh(TOUCHED_TABLE)
    if not stage.lake.exists(TOUCHED_TABLE):
        raise StageError(f"There are no candidates of {stage.day} for this run; run 4_aggregate for that date first.")
    rows = stage.engine.rows(f"SELECT {business_date_column()}, basis FROM {TOUCHED_TABLE} ORDER BY 1")
    dates = [row[0] for row in rows]
    if stage.run_date not in dates:
        raise StageError(f"The candidates are not those of {stage.day}; run 4_aggregate for that date first.")
    try:
        return dates, CandidateBasis.model_validate_json(rows[0][1])
    except ValidationError:
        raise StageError("The candidates were written by an earlier release; run 4_aggregate for that date first.") from None


def pin_tables(stage: Stage, versions: Mapping[str, int]) -> None:
    """Let the stage read these tables at these versions (-1: as if they did not exist), and all others at their newest."""
    before = stage.lake.pinned
    stage.lake.pin({name: None if version < 0 else version for name, version in versions.items()})
    for name in {*before, *versions}:
        stage.engine.refresh(name)


def _write_touched_dates(stage: Stage, dates: list[date], basis: CandidateBasis) -> None:
    basis_column = pa.array([basis.model_dump_json()] * len(dates), pa.string())
    stage.lake.write_candidate(TOUCHED_TABLE, dates_table(dates).append_column("basis", basis_column))
