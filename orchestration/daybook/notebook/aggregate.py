"""Stage 4: compute gold for the dates that this run touched, as candidates that no reader sees yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import partial

import pyarrow as pa
from pydantic import ValidationError

from daybook.contracts import load_tables
from daybook.contracts.canonical import business_date_column, business_date_table
from daybook.contracts.columns import find_column
from daybook.errors import NotebookError, StageError
from daybook.lake.publish import take_lake_snapshot
from daybook.notebook.basis import CandidateBasis
from daybook.notebook.context import Stage
from daybook.notebook.conversions import find_unconvertible_values
from daybook.notebook.display import Listing
from daybook.notebook.gate import format_rules
from daybook.notebook.refusals import refuse_dates
from daybook.notebook.stale_dates import ANY_RUN_DATE, HELD_DATES, LANDED_DATES, dates_table, read_held_dates, read_stale_notes
from daybook.quality.checks import RuleResult
from daybook.quality.gates import Finding, gate_broken_rules
from daybook.sources.mapping import list_dates_sql, quote

TOUCHED_TABLE = "candidate.touched_dates"
"""The ``CandidateBasis`` of a run's candidates as JSON, in one row."""
TOUCHED = "touched"
"""The dates of the candidates, as cells read them."""
LANDED = "landed"
"""All dates whose landing is in silver, as cells read them."""


def touched_dates(stage: Stage) -> Listing:
    """Define ``touched``, the dates to compute, and ``landed``, all dates whose landing is in silver.

    The dates to compute are the run's own and those noted as stale. A date that was never ingested, or was rejected, is left
    out: silver holds only what later dates say of it. So is a date that another date's gate holds; the next run of that date
    publishes it. From here on the stage reads silver as it is at this moment.

    A date of a range that is not in silver fails.
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
    for day in [each for each in stage.dates if each not in landed]:
        error = StageError(f"{day} is not in silver; run 3_transform for that date first.")
        if not stage.is_range:
            raise error
        stage.fail_date(day, error)
    own = set(stage.dates)
    held = {stopped: days for stopped, days in read_held_dates(stage).items() if stopped not in own}
    landed -= held.keys()
    notes = [each for each in notes if each.run_date in own or each.run_date == ANY_RUN_DATE]
    noted = {note.stale_date for note in notes}
    left_out = (noted & {day for days in held.values() for day in days}) - own
    computed = (noted - left_out | own) & landed
    touched_by: dict[date, set[date]] = {day: {day} for day in own}
    answered: dict[date, list[str]] = {}
    for note in notes:
        # A note for the next run of any date stays until a run may publish its date.
        if note.stale_date not in left_out or note.run_date in own:
            answered.setdefault(note.run_date, []).append(note.name)
        if note.stale_date in computed and note.run_date in own:
            touched_by.setdefault(note.stale_date, set()).add(note.run_date)
    basis = CandidateBasis(
        snapshot=snapshot,
        run_dates=list(stage.dates),
        notes=answered,
        touched_by={day: sorted(touched_by[day]) for day in sorted(touched_by)},
        shared=sorted({note.stale_date for note in notes if note.run_date == ANY_RUN_DATE} & computed),
        held=sorted(left_out),
        definitions={},
    )
    stage.engine.register(TOUCHED, dates_table(basis.dates))
    stage.engine.register(LANDED, dates_table(sorted(landed)))
    _write_basis(stage, basis)
    # Vacuum keeps the versions that are on record readable until the candidates are published.
    stage.details["snapshot"] = {name: version for name, version in snapshot.versions.items() if version >= 0}
    stage.details["touched_dates"] = [day.isoformat() for day in basis.dates]
    stage.details["dates_not_landed"] = len(noted - landed - left_out)
    stage.details["held_dates"] = [day.isoformat() for day in sorted(left_out)]
    for day in stage.dates:
        stage.results[day].details["touched_dates"] = [each.isoformat() for each in basis.touched(day)]
    which = "a date of this run" if stage.is_range else "this run's date"
    listed = [(day, which if day in own else "restated") for day in basis.dates]
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
    basis = read_basis(stage)
    # Fail here rather than while publishing, when other tables may be published already.
    contracts = list(load_tables("gold").values())
    for contract in contracts:
        stage.lake.require_compatible(contract)
    undefined = [name for name in definitions if name not in stage.definitions]
    if undefined:
        raise NotebookError(
            f"No cell defines {undefined[0]}; add a cell that begins with %%sql {undefined[0]}, or hand over less."
        )
    rows_in = count_rows(stage, read, basis) if read else None
    unfit: dict[str, list[RuleResult]] = {}
    for contract in contracts:
        stage.materialize_table(contract, f"new.{contract.name}")
        unfit[contract.name] = find_unconvertible_values(stage.engine, f"marked.{contract.name}", contract, tuple(contract.key))
    if any(unfit.values()):
        refused = refuse_dates(stage, basis, partial(_find_unfit_values, stage, basis, unfit), rows_in or {})
        if not stage.dates:
            return format_rules([each for found in unfit.values() for each in found])
        basis = basis.leave_out(refused)
    rows_out = dict.fromkeys(stage.dates, 0)
    written = []
    versions = {}
    for contract in contracts:
        name, new = f"candidate.{contract.name}", f"new.{contract.name}"
        if basis.stopped and contract.date_column:
            kept = f"{contract.date_column} NOT IN ({list_dates_sql(basis.stopped)})"
            stage.engine.create_view(new, f"SELECT * EXCLUDE (_unfit) FROM marked.{contract.name} WHERE {kept}")
        rows = stage.engine.arrow(f"SELECT * FROM {new}").cast(contract.arrow_schema)
        stage.lake.write_candidate(name, rows)
        versions[name] = stage.lake.tables_written[name]
        written.append((contract.full_name, rows.num_rows))
        for day, number in count_rows(stage, new, basis).items():
            rows_out[day] += number
    shared = {name: stage.definitions[name] for name in definitions}
    _write_basis(stage, basis.model_copy(update={"candidates": versions, "definitions": shared}))
    stage.details["candidates"] = dict(written)
    stage.succeed(by_date={day: {"in": rows_in[day] if rows_in else None, "out": rows_out[day]} for day in stage.dates})
    return Listing(["candidate of", "rows"], written)


def read_basis(stage: Stage) -> CandidateBasis:
    """Return the basis of this run's candidates.

    Raises ``StageError`` if there are none, or they are another date's.
    """
    stage.engine.refresh(TOUCHED_TABLE)
    if not stage.lake.exists(TOUCHED_TABLE):
        raise StageError(f"There are no candidates of {stage.day} for this run; run 4_aggregate for that date first.")
    (text,) = stage.engine.fetch_row(f"SELECT basis FROM {TOUCHED_TABLE}")
    try:
        basis = CandidateBasis.model_validate_json(text)
    except ValidationError:
        raise StageError("The candidates were written by an earlier release; run 4_aggregate for that date first.") from None
    if not set(stage.dates) <= set(basis.run_dates):
        raise StageError(f"The candidates are not those of {stage.day}; run 4_aggregate for that date first.")
    return basis


def pin_tables(stage: Stage, versions: Mapping[str, int]) -> None:
    """Let the stage read these tables at these versions (-1: as if they did not exist), and all others at their newest."""
    before = stage.lake.pinned
    stage.lake.pin({name: None if version < 0 else version for name, version in versions.items()})
    for name in {*before, *versions}:
        stage.engine.refresh(name)


def count_rows(stage: Stage, relation: str, basis: CandidateBasis) -> dict[date, int]:
    """Return how many rows a relation has, by the run date to which the date of a row is attributed."""
    column = find_column(stage.engine.query(f"SELECT * FROM {relation} LIMIT 0").columns, business_date_column())
    day = quote(column) if column else "CAST(NULL AS DATE)"
    counts = dict.fromkeys(basis.run_dates, 0)
    for each, number in stage.engine.rows(f"SELECT {day}, count(*) FROM {relation} GROUP BY 1"):
        counts[basis.owner(each)] += number
    return counts


def _find_unfit_values(
    stage: Stage,
    basis: CandidateBasis,
    unfit: Mapping[str, list[RuleResult]],
    day: date,
    touched: Sequence[date],
    _: Collection[date],
) -> tuple[list[Finding], list[RuleResult]]:
    """Return the broken rules of values that do not fit their column, in rows of these dates and in tables without dates."""
    found = []
    for contract in load_tables("gold").values():
        results = unfit[contract.name]
        if results and contract.date_column and len(touched) < len(basis.dates):
            of_dates = f"of_dates.{contract.name}"
            kept = f"{contract.date_column} IN ({list_dates_sql(touched)})"
            stage.engine.create_table(of_dates, f"SELECT * FROM marked.{contract.name} WHERE {kept}")
            results = find_unconvertible_values(stage.engine, of_dates, contract, tuple(contract.key))
        found += results
    return gate_broken_rules(found), found


def _write_basis(stage: Stage, basis: CandidateBasis) -> None:
    text = pa.array([basis.model_dump_json()], pa.string())
    stage.lake.write_candidate(TOUCHED_TABLE, pa.table({"basis": text}))
