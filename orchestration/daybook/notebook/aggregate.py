"""Stage 4: gold recomputed for the order dates this run touched, as candidates that no reader sees yet.

Here: which dates those are, and writing candidates. Not here: the SQL of the gold tables (the notebook), publishing
(``quality``).
"""

from __future__ import annotations

import pyarrow as pa

from daybook.contracts import load_tables
from daybook.errors import StageError
from daybook.notebook.display import Listing
from daybook.notebook.stage import Stage
from daybook.notebook.transform import LANDED_DATES, stale_dates

TOUCHED = "candidate.touched_dates"
"""The dates that a run's candidates stand for, beside the candidates."""


def touched_dates(stage: Stage) -> Listing:
    """Make the order dates to recompute queryable as ``touched``: those noted by transform, and the date itself; and all
    dates whose landing is in silver as ``landed``.

    Only dates whose own landing is in silver: of a day that never was ingested, or was rejected, silver holds only what later
    days said of it, which is no day to show.
    """
    landed = set(stage.lake.partitions(LANDED_DATES))
    if stage.run_date not in landed:
        raise StageError(f"{stage.day} is not in silver; run 3_transform for that date first.")
    noted = stale_dates(stage)
    dates = sorted((noted | {stage.run_date}) & landed)
    rows = pa.table({"order_date": pa.array(dates, pa.date32())})
    stage.engine.register("touched", rows)
    stage.engine.register("landed", pa.table({"order_date": pa.array(sorted(landed), pa.date32())}))
    stage.lake.write_candidate(TOUCHED, rows)
    stage.details["touched_dates"] = [day.isoformat() for day in dates]
    stage.details["dates_not_landed"] = len(noted - landed)
    return Listing(
        ["business date", "why"], [(day, "this run's date" if day == stage.run_date else "restated") for day in dates]
    )


def write_candidates(stage: Stage) -> Listing:
    """Write every gold table that the notebook defines as a candidate, and end the stage."""
    written = []
    for contract in load_tables("gold").values():
        rows = stage.relation(contract)
        stage.lake.write_candidate(f"candidate.{contract.name}", rows)
        written.append((contract.full_name, rows.num_rows))
    (read,) = stage.engine.one("SELECT count(*) FROM silver.orders WHERE order_date IN (SELECT order_date FROM touched)")
    stage.details["candidates"] = dict(written)
    stage.succeed(rows_in=read, rows_out=sum(count for _, count in written))
    return Listing(["candidate of", "rows"], written)
