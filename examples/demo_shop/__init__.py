"""Generate the landing files of a simulated shop, with the seasons, late records and faults of real ones."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Dict, List, Sequence

from daybook.errors import UsageError
from demo_shop import files
from demo_shop.export import COLUMNS, Export, build_export
from demo_shop.faults import INCIDENTS, FaultSchedule, apply_incident, drop_orders, inject_faults, plan_incidents
from demo_shop.random_streams import random_stream
from demo_shop.summary import (
    QUARANTINED_KINDS,
    WHOLE_DAY_KINDS,
    ExpectedFigures,
    Fault,
    FaultKind,
    Summary,
    compute_expected_figures,
)
from demo_shop.trade import simulate_trade

__all__ = [
    "COLUMNS",
    "INCIDENTS",
    "QUARANTINED_KINDS",
    "WHOLE_DAY_KINDS",
    "ExpectedFigures",
    "Fault",
    "FaultKind",
    "Summary",
    "generate",
]

GENERATOR_VERSION = 3  # increment it when a change gives other files or another summary for the same seed


def generate(
    landing: Path,
    *,
    seed: int = 7,
    last_day: date = date(2025, 11, 30),
    days: int = 60,
    orders_per_day: int = 300,
    incidents: bool = False,
    force: bool = False,
) -> Summary:
    """Write the landing files of a simulated shop and return a summary of them.

    There is one CSV per entity and day, ``<landing>/<entity>/<YYYY-MM-DD>/<entity>.csv``. The same arguments give the
    same bytes on every machine. A folder that already holds this shop is not written again, unless ``force``; a folder
    that holds another generated shop is replaced.

    Parameters
    ----------
    landing
        Folder to write; it may be missing or empty.
    seed
        Seed of all random numbers.
    last_day, days
        The files cover the ``days`` days up to and including ``last_day``.
    orders_per_day
        Average number of orders a day.
    incidents
        Damage three whole days: 22 days before the last day, the orders that made 40 % of the revenue are missing from
        all files; 17 days before it, the file of order lines ends within a line; 10 days before it, the files of
        orders, lines and payments contain every row twice.
    force
        Write the files even if ``landing`` already holds this shop.

    Returns
    -------
    Summary
        Rows written, faults injected, and the figures that a correct pipeline computes.

    Raises
    ------
    UsageError
        When ``days`` or ``orders_per_day`` is below 1, ``incidents`` are asked for with fewer than 51 days, or
        ``landing`` holds files that this function did not write.
    """
    if days < 1 or orders_per_day < 1:
        raise UsageError(f"days={days}, orders_per_day={orders_per_day}: set each to at least 1")
    settings = {
        "version": GENERATOR_VERSION,
        "seed": seed,
        "last_day": last_day.isoformat(),
        "days": days,
        "orders_per_day": orders_per_day,
        "incidents": incidents,
    }
    existing = files.read_summary(landing, settings)
    if existing and not force:
        return existing
    calendar = [last_day - timedelta(days=back) for back in reversed(range(days))]
    incident_days = plan_incidents(calendar) if incidents else {}
    history = simulate_trade(seed, calendar, orders_per_day)
    for day, kind in incident_days.items():
        if kind is FaultKind.REVENUE_DROP:
            history.orders = drop_orders(random_stream(seed, "incidents"), history.orders, day)
    export = build_export(history)
    with files.replace_folder(landing) as folder:
        summary = _write_landing(folder, seed, calendar, export, incident_days)
        files.write_stamp(folder, settings, summary)
    return summary


def _write_landing(
    landing: Path, seed: int, calendar: List[date], export: Export, incident_days: Dict[date, FaultKind]
) -> Summary:
    rng = random_stream(seed, "trouble")
    schedule = FaultSchedule(random_stream(seed, "rarities"))
    written = dict.fromkeys(COLUMNS, 0)
    faults: List[Fault] = []
    valid: Dict[str, List[Sequence[str]]] = defaultdict(list)
    for number, day in enumerate(calendar):
        for entity in COLUMNS:
            if files.has_byte_order_mark(entity, day):
                faults.append(Fault(day, entity, FaultKind.BYTE_ORDER_MARK, 0, f"{entity}.csv"))
            if files.file_encoding(entity) == "cp1252":
                faults.append(Fault(day, entity, FaultKind.WINDOWS_1252, 0, f"{entity}.csv"))
            rows = export[entity][day]
            file = inject_faults(rng, entity, day, rows, schedule.next_fault(entity, number, rows))
            file = apply_incident(incident_days.get(day), file, entity, day)
            truncated = any(fault.kind is FaultKind.TRUNCATED for fault in file.faults)
            files.write_file(landing, entity, day, file.rows, truncated=truncated)
            written[entity] += len(file.rows)
            faults.extend(file.faults)
            valid[entity].extend(file.valid_rows)
    return Summary(seed, calendar, written, faults, compute_expected_figures(valid))
