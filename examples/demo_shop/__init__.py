"""The demo: a seeded, made-up shop whose landing files have the rhythm, the lateness and the faults of real ones."""

from __future__ import annotations

from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path
from typing import Dict, List, Sequence

from daybook.errors import UsageError
from demo_shop import files
from demo_shop.export import COLUMNS, Export, build_export
from demo_shop.faults import inject_faults
from demo_shop.incidents import INCIDENTS, apply_incident, drop_orders, plan_incidents
from demo_shop.random_streams import random_stream
from demo_shop.rare_records import FaultSchedule
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

GENERATOR_VERSION = 2  # of the made-up shop: raise it when the same seed comes to mean other files


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
    """Write a made-up shop's landing files and return the account of them.

    One CSV per entity and day, ``<landing>/<entity>/<YYYY-MM-DD>/<entity>.csv``, for the ``days`` days up to and with
    ``last_day``. The same arguments always give the same bytes, whenever and wherever. A folder that already holds
    exactly this shop is left alone, unless ``force``; one that holds another generated shop is replaced whole.

    With ``incidents`` three days go wrong as a whole, as ``INCIDENTS`` says: 22 days before the last the orders that made 40 %
    of the revenue are missing, in every file; 17 days before it the file of order lines ends amid a line; 10 days before it
    the files of orders, lines and payments hold every row twice.

    Raises
    ------
    UsageError
        When ``days`` or ``orders_per_day`` is below 1, ``days`` is too few for ``incidents`` (51), or ``landing`` holds files
        that this function did not write.
    """
    if days < 1 or orders_per_day < 1:
        raise UsageError(f"days={days}, orders_per_day={orders_per_day}: a shop needs at least one of each")
    settings = {
        "version": GENERATOR_VERSION,
        "seed": seed,
        "last_day": last_day.isoformat(),
        "days": days,
        "orders_per_day": orders_per_day,
        "incidents": incidents,
    }
    stamp = files.read_stamp(landing)
    if stamp and stamp["settings"] == settings and not force:
        return Summary.from_json(stamp["summary"])
    calendar = [last_day - timedelta(days=back) for back in reversed(range(days))]
    happens = plan_incidents(calendar) if incidents else {}
    world = simulate_trade(seed, calendar, orders_per_day)
    for day, kind in happens.items():
        if kind is FaultKind.REVENUE_DROP:
            world.orders = drop_orders(random_stream(seed, "incidents"), world.orders, day)
    rows = build_export(world)
    with files.replace_folder(landing) as fresh:
        summary = _write_landing(fresh, seed, calendar, rows, happens)
        files.write_stamp(fresh, {"settings": settings, "summary": summary.to_json()})
    return summary


def _write_landing(
    landing: Path, seed: int, calendar: List[date], export_rows: Export, happens: Dict[date, FaultKind]
) -> Summary:
    chance = random_stream(seed, "trouble")
    rarities = FaultSchedule(random_stream(seed, "rarities"))
    written = dict.fromkeys(COLUMNS, 0)
    troubles: List[Fault] = []
    sound: Dict[str, List[Sequence[str]]] = defaultdict(list)
    for number, day in enumerate(calendar):
        for entity in COLUMNS:
            if files.has_byte_order_mark(entity, day):
                troubles.append(Fault(day, entity, FaultKind.BYTE_ORDER_MARK, 0, f"{entity}.csv"))
            if files.file_encoding(entity) == "cp1252":
                troubles.append(Fault(day, entity, FaultKind.WINDOWS_1252, 0, f"{entity}.csv"))
            rows = export_rows[entity][day]
            spoiled = inject_faults(chance, entity, day, rows, rarities.due(entity, number, rows))
            spoiled = apply_incident(happens.get(day), spoiled, entity, day)
            torn = any(trouble.kind is FaultKind.TRUNCATED for trouble in spoiled.troubles)
            files.write_file(landing, entity, day, spoiled.rows, torn=torn)
            written[entity] += len(spoiled.rows)
            troubles.extend(spoiled.troubles)
            sound[entity].extend(spoiled.valid_rows)
    return Summary(seed, calendar, written, troubles, compute_expected_figures(sound))
