"""Run small histories with records, so that their runs can be rolled back, without kernels."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional, Union

from daybook.contracts import load_tables
from daybook.engines import DuckDBEngine
from daybook.execution.rollback import roll_back
from daybook.lake.tables import Lake
from daybook.notebook.stale_dates import ANY_RUN_DATE, STALE_DATES, hold_dates
from daybook.records.archive import Archive, current_timestamp
from daybook.records.models import AttemptRecord, RollbackRecord, RunRecord
from daybook.records.names import run_number
from daybook.records.ranges import judge_dates
from daybook.settings import Settings, load_settings
from tests.notebook.histories import Landing, Run, moment, read_tables


class RecordedShop:
    """A lake and an archive whose runs are recorded as the job script does."""

    def __init__(self, place: Union[Path, str]) -> None:
        folders = {name: f"{place}/{name}" for name in ("lake", "archive", "landing")}
        self.settings: Settings = load_settings("local").model_copy(update=folders)
        self.lake = Lake(self.settings.lake)
        self.archive = Archive(self.settings.archive)

    def copy(self, place: Path) -> RecordedShop:
        """Return a copy of the shop in another folder."""
        for name in ("lake", "archive"):
            shutil.copytree(getattr(self.settings, name), place / name)
        return RecordedShop(place)

    def run(self, *landings: Landing, until: str = "quality", outcome: Optional[str] = None, hold: bool = False) -> str:
        """Run the landing of a date, or those of a range, up to a stage, and record the run; return its id.

        With ``hold``, the last stage holds its dates.
        """
        first, last = landings[0].day, landings[-1].day
        is_range = first < last
        facts = {"env": "local"}
        run_id = self.archive.start_range(first, last, facts) if is_range else self.archive.start_run(first, facts)
        run = Run(self.settings.lake, *landings, number=run_number(run_id), gate=False)
        attempts = []
        for stage in ("transform", "aggregate", "quality"):
            began = current_timestamp()
            run.run_next_stage()
            assert run.last is not None
            if hold and stage == until:
                hold_dates(run.last, run.last.dates)
            result = run.last.result("SUCCEEDED", [], {})
            attempts.append(AttemptRecord.model_validate({**result, "started_at": began, "ended_at": current_timestamp()}))
            if stage == until:
                break
        ended = outcome or ("SUCCEEDED" if until == "quality" else "FAILED")
        started = self.archive.started(run_id)
        record = RunRecord(
            run_id=run_id,
            run_date=first,
            outcome=ended,
            started_at=started.started_at,
            ended_at=current_timestamp(),
            stages=attempts,
            **({"until": last, "dates": judge_dates(attempts, started.dates)} if is_range else {}),
        )
        self.archive.write_run(record)
        return run_id

    def roll_back(self, run_id: str, why: str = "wrong prices") -> RollbackRecord:
        return roll_back(self.settings, run_id, by="a steward", why=why)

    def tables(self, layer: str = "") -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of silver and gold by table, sorted, of tables that exist."""
        return {name: rows for name, rows in read_tables(self.settings.lake).items() if name.startswith(layer)}

    def gold_without(self, dates: Sequence[date], tables: Sequence[str]) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of gold without those of some dates and tables."""
        engine = DuckDBEngine(Lake(self.settings.lake), self.settings.timezone)
        listed = ", ".join(f"DATE '{day}'" for day in [date(1, 1, 1), *dates])
        return {
            name: sorted(
                engine.rows(
                    f"SELECT * FROM {name}"
                    + (f" WHERE {contract.date_column} NOT IN ({listed})" if contract.date_column else "")
                ),
                key=repr,
            )
            for name, contract in load_tables("gold").items()
            if name not in tables
        }

    def dates_for_any_run(self) -> list[date]:
        """Return the dates that the next run of any date computes."""
        rows = self.lake.dataset(STALE_DATES, [ANY_RUN_DATE])
        return [] if rows is None else sorted(set(rows.to_table()["order_date"].to_pylist()))


def orders(day: date, *rows: tuple[str, date, str], customer: str = "1" * 32) -> Landing:
    """Return the landing of orders of a customer with one line each: id, order date and price."""
    landing, version = empty_landing(day), moment(day, 3)
    for order, ordered, price in rows:
        landing.rows["orders"].append(
            {
                "order_id": order,
                "customer_key": customer,
                "ordered_at": moment(ordered, 12),
                "status": "paid",
                "country": "DE",
                "version_at": version,
            }
        )
        landing.rows["order_items"].append(
            {
                "order_id": order,
                "line_number": 1,
                "product_id": "p1",
                "quantity": 1,
                "unit_price": Decimal(price),
                "is_return": False,
                "version_at": version,
            }
        )
    landing.rows["customers"].append({"customer_key": customer, "city": "Ulm", "version_at": version})
    return landing


def read_figures(shop: RecordedShop) -> dict[date, Decimal]:
    """Return the gross revenue that readers see, by date."""
    engine = DuckDBEngine(Lake(shop.settings.lake), shop.settings.timezone)
    return dict(engine.rows("SELECT order_date, gross_revenue FROM gold.daily_sales"))


def empty_landing(day: date) -> Landing:
    """Return the landing of a date without rows."""
    return Landing(day, {name.split(".")[1]: [] for name in load_tables("silver")})
