"""Generate random landing histories of a small shop, and run them with the notebooks' SQL and functions.

A run can be paused at each read of a table and at each commit while the run of another date continues. This reproduces the
interleavings of separate processes in one process.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timezone
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Callable, Optional

import pyarrow as pa
import pytest
from hypothesis import strategies as st

from daybook.contracts import load_table, load_tables
from daybook.engines import DuckDBEngine, ViewEngine
from daybook.lake.tables import Lake
from daybook.notebook import aggregate, context, publishing, quality, stale_dates, transform
from daybook.notebook.context import Stage
from daybook.quality.gates import gate_differences
from daybook.records.names import format_range_id, format_run_id
from daybook.settings import load_settings
from daybook.sources import load_source
from tests.cells import define_sql_cells, load_sql_cells

DAYS = [date(2025, 11, day) for day in (28, 29, 30)]
_CUSTOMERS = ["1" * 32, "2" * 32]
_COMPUTED_COLUMNS = ("order_date", "line_amount", "landed_on", "first_order_date")
_TECHNICAL_FIELDS = [
    *(pa.field("_unfit", pa.string()), pa.field("_source_file", pa.string()), pa.field("_row_number", pa.int64())),
    pa.field("landed_on", pa.date32()),
]


@dataclass(frozen=True)
class Landing:
    """The landed rows of a date, by table of the canonical model, as after the mapping."""

    day: date
    rows: dict[str, list[dict[str, Any]]]


@dataclass
class History:
    """Landings in the order of their runs, and the steps at which each run is paused.

    ``holds[n]`` are steps of run n. At each of them another run executes ``strides[n]`` stages.
    """

    landings: list[Landing]
    holds: list[list[int]] = field(default_factory=list)
    strides: list[int] = field(default_factory=list)

    def last_landings(self) -> list[Landing]:
        """Return the last landing of each date, in the order of dates."""
        last = {each.day: each for each in self.landings}
        return [last[day] for day in sorted(last)]


def moment(day: date, hour: int) -> datetime:
    """Return an hour of a day."""
    return datetime(day.year, day.month, day.day, hour, tzinfo=timezone.utc)


@st.composite
def landings(draw: st.DrawFn, day: date) -> Landing:
    """Draw a few old and new orders with their rows; a later date can have an older version."""
    rows: dict[str, list[dict[str, Any]]] = {name.split(".")[1]: [] for name in load_tables("silver")}

    def version() -> datetime:
        return moment(DAYS[0], draw(st.integers(1, 3)))

    placed = [each for each in DAYS if each <= day]
    customers = [None, *_CUSTOMERS]
    for order in draw(st.lists(st.sampled_from(["o1", "o2", "o3"]), unique=True, max_size=3)):
        rows["orders"].append(
            {
                "order_id": order,
                "customer_key": draw(st.sampled_from(customers)),
                # Usually the date of the order; sometimes a corrected one.
                "ordered_at": moment(draw(st.sampled_from(placed)), 12),
                "status": draw(st.sampled_from(["paid", "delivered", "cancelled", "adjustment"])),
                "country": "DE",
                "delivered_at": draw(st.sampled_from([None, moment(DAYS[-1], 20)])),
                "version_at": version(),
            }
        )
    lines = st.sampled_from([("o1", 1), ("o1", 2), ("o2", 1), ("o3", 1)])
    for order, number in draw(st.lists(lines, unique=True, max_size=3)):
        pieces = draw(st.sampled_from([1, 2, -1]))
        rows["order_items"].append(
            {
                "order_id": order,
                "line_number": number,
                "product_id": draw(st.sampled_from(["p1", "p2"])),
                "quantity": pieces,
                "unit_price": Decimal(draw(st.sampled_from(["1.50", "7"]))),
                "is_return": pieces < 0,
                "returned_at": draw(st.sampled_from([None, *(moment(each, 15) for each in DAYS)])) if pieces < 0 else None,
                "version_at": version(),
            }
        )
    for order in draw(st.lists(st.sampled_from(["o1", "o2"]), unique=True, max_size=1)):
        amount = Decimal(draw(st.sampled_from(["3", "5"])))
        method = draw(st.sampled_from(["card", "invoice"]))
        rows["payments"].append({"order_id": order, "sequence": 1, "method": method, "amount": amount, "version_at": version()})
    for product in draw(st.lists(st.sampled_from(["p1", "p2"]), unique=True, max_size=1)):
        category = draw(st.sampled_from(["Toys", "Tea"]))
        rows["products"].append({"product_id": product, "name": product, "category": category, "version_at": version()})
    for customer in draw(st.lists(st.sampled_from(_CUSTOMERS), unique=True, max_size=1)):
        city = draw(st.sampled_from(["Ulm", "Kiel"]))
        rows["customers"].append({"customer_key": customer, "city": city, "version_at": version()})
    return Landing(day, rows)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw two or three dates in any order, some of them landed again with other or fewer rows, often with paused runs."""
    days = draw(st.permutations(DAYS[-draw(st.integers(2, 3)) :]))
    again = draw(st.lists(st.sampled_from(days), max_size=2))
    drawn = [draw(landings(day)) for day in [*days, *again]]
    count = len(drawn)
    holds = draw(st.lists(st.lists(st.integers(0, 130), max_size=3), min_size=count, max_size=count))
    strides = draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    return History(drawn, holds, strides)


class HeldLake(Lake):
    """A lake that can pause its run at each read of a table, and before and after each commit."""

    def __init__(self, root: str, run: Run) -> None:
        super().__init__(root, run_id=run.run_id)
        self._run = run

    def dataset(self, table: str, dates: Optional[Collection[date]] = None) -> Any:
        found = super().dataset(table, dates)
        self._run.step()
        return found

    def version(self, table: str) -> Optional[int]:
        found = super().version(table)
        self._run.step()
        return found

    def commit(self, table: str, action: Any) -> Any:
        def held(delta: Any) -> Any:
            self._run.step()
            return action(delta)

        done = super().commit(table, held)
        self._run.step()
        return done


class Run:
    """A run of a date, or of the consecutive dates of several landings.

    It has three stages, each with its own lake and engine, as in separate kernels.
    """

    def __init__(self, root: str, *landings: Landing, number: int, gate: bool, returns_count_on: str = "order_date") -> None:
        self.root, self.landings, self.landing, self.returns_count_on = root, landings, landings[0], returns_count_on
        self.days = [each.day for each in landings]
        first, last = self.days[0], self.days[-1]
        self.run_id = format_run_id(first, number) if first == last else format_range_id(first, last, number)
        self.gate = gate
        self.ahead: list[Callable[[], None]] = [self.transform, self.aggregate, self.publish]
        self.holds: list[int] = []
        self.meanwhile: Callable[[], None] = lambda: None
        self.steps = 0
        self.under_way = False
        self.last: Optional[Stage] = None

    def step(self) -> None:
        """Count a read of a table or a commit, and let other runs continue if it is in ``holds``."""
        self.steps += 1
        if self.steps - 1 in self.holds:
            self.meanwhile()

    def run_next_stage(self) -> None:
        """Run the next stage."""
        self.under_way = True
        try:
            self.ahead.pop(0)()
        finally:
            self.under_way = False

    def finish(self) -> None:
        """Run all remaining stages."""
        while self.ahead:
            self.run_next_stage()

    def _begin(self, name: str) -> Stage:
        settings = _settings(self.returns_count_on)
        lake = HeldLake(self.root, self)
        source = load_source(settings.source)
        engine = ViewEngine(DuckDBEngine(lake, settings.timezone), source)
        self.last = Stage(name, settings, self.days[0], self.days[-1], [*self.days], self.run_id, source, lake, engine)
        return self.last

    def transform(self) -> None:
        stage = self._begin("transform")
        for name in self.landing.rows:
            rows = [build_table(name, each.rows[name], each.day) for each in self.landings]
            stage.engine.register(f"mapped.{name}", pa.concat_tables(rows))
        for name, sql in load_sql_cells("transform").items():
            stage.engine.define(name, sql)
        result = transform.merge_silver(stage)
        assert stage.ended == "SUCCEEDED", result

    def aggregate(self) -> None:
        stage = self._begin("aggregate")
        aggregate.touched_dates(stage)
        define_sql_cells(stage, "aggregate")
        aggregate.write_candidates(stage, read="touched_orders", definitions=["all_orders", "all_lines"])

    def publish(self) -> None:
        stage = self._begin("quality")
        audit = quality.open_audit(stage)
        if self.gate:
            define_sql_cells(stage, "quality", audit=audit)
            quality.reconcile(stage, audit, "from_candidates", "from_silver")
            unequal = gate_differences(audit.figures)
            assert not unequal, f"merges of other dates must not change the figures: {unequal}"
        publishing.publish_candidates(stage, audit.basis)


class GoldRun:
    """The stages that compute gold, for consecutive dates whose rows are in silver, as one run."""

    def __init__(self, root: str, days: Sequence[date], number: int = 1, *, returns_count_on: str = "order_date") -> None:
        self.root, self.days, self.returns_count_on = root, list(days), returns_count_on
        first, last = self.days[0], self.days[-1]
        self.run_id = format_run_id(first, number) if first == last else format_range_id(first, last, number)
        self.stage: Optional[Stage] = None

    def begin(self, name: str, days: Optional[Sequence[date]] = None) -> Stage:
        """Open a stage for the dates that continue."""
        settings = _settings(self.returns_count_on)
        lake = Lake(self.root, run_id=self.run_id)
        source = load_source(settings.source)
        engine = ViewEngine(DuckDBEngine(lake, settings.timezone), source)
        dates = list(self.days if days is None else days)
        self.stage = Stage(name, settings, self.days[0], self.days[-1], dates, self.run_id, source, lake, engine)
        return self.stage

    def aggregate(self, **changed: str) -> Stage:
        """Write the candidates. ``changed`` are other queries for gold tables; they read the notebook's as ``as_defined``."""
        stage = self.begin("aggregate")
        aggregate.touched_dates(stage)
        define_sql_cells(stage, "aggregate")
        for name, sql in changed.items():
            stage.define("as_defined", stage.definitions[f"gold.{name}"])
            stage.define(f"gold.{name}", sql)
        aggregate.write_candidates(stage, read="touched_orders", definitions=["all_orders", "all_lines"])
        return stage

    def check(self, days: Optional[Sequence[date]] = None) -> quality.Audit:
        """Check the candidates."""
        stage = self.begin("quality", days)
        audit = quality.open_audit(stage)
        define_sql_cells(stage, "quality", audit=audit)
        quality.check_contracts(stage, audit)
        quality.reconcile(stage, audit, "from_candidates", "from_silver")
        quality.check_past(stage, audit, {"gold.daily_sales": "past"})
        return audit

    def publish_reconciled(self) -> None:
        """Publish the candidates, which agree with silver. Random rows may break rules of contracts."""
        stage = self.begin("quality")
        audit = quality.open_audit(stage)
        define_sql_cells(stage, "quality", audit=audit)
        quality.reconcile(stage, audit, "from_candidates", "from_silver")
        assert not gate_differences(audit.figures)
        publishing.publish_candidates(stage, audit.basis)

    def publish(self, days: Optional[Sequence[date]] = None) -> Stage:
        """Check and publish the candidates; return the stage, which has ended."""
        audit = self.check(days)
        assert self.stage is not None
        quality.publish(self.stage, audit)
        return self.stage


def run_history(root: str, history: History, *, gate: bool = False, returns_count_on: str = "order_date") -> list[Run]:
    """Run all landings. Runs of the same date are sequential; runs of different dates interleave."""
    runs = [
        Run(root, landing, number=number, gate=gate, returns_count_on=returns_count_on)
        for number, landing in enumerate(history.landings, start=1)
    ]
    for number, run in enumerate(runs):
        if history.holds:
            run.holds = history.holds[number]
            run.meanwhile = lambda run=run, stride=history.strides[number]: _advance_others(runs, run, stride)  # type: ignore[misc]
    for run in runs:
        run.finish()
    return runs


def run_at_once(root: str, history: History, *, returns_count_on: str = "order_date") -> None:
    """Run the last landing of each date in one run of all dates."""
    Run(root, *history.last_landings(), number=1, gate=True, returns_count_on=returns_count_on).finish()


def _advance_others(runs: list[Run], held: Run, stages: int) -> None:
    """While a run is paused, run some stages of the next run of another date."""
    for number, run in enumerate(runs):
        earlier = any(each.ahead or each.under_way for each in runs[:number] if each.landing.day == run.landing.day)
        if run.ahead and not run.under_way and not earlier and run is not held:
            for _ in range(min(stages, len(run.ahead))):
                run.run_next_stage()
            return


@contextmanager
def shared_lake(home: Path) -> Iterator[None]:
    """Set DAYBOOK_HOME and show no results while a fixture makes a lake that several tests copy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_HOME", str(home))
        patch.setattr(context, "display", lambda *args, **named: None)
        yield


def rerun_date(root: str, day: date, number: int) -> Run:
    """Return a run of a date without new rows; it does the work that waits for the next run."""
    return Run(root, Landing(day, {name.split(".")[1]: [] for name in load_tables("silver")}), number=number, gate=False)


def read_tables(root: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of silver and gold by table, sorted."""
    engine = DuckDBEngine(Lake(root), _settings().timezone)
    names = [*load_tables("silver"), *load_tables("gold")]
    return {name: sorted(engine.rows(f"SELECT * FROM {name}"), key=repr) for name in names}


def list_stale_dates(root: str) -> list[tuple[Any, ...]]:
    """Return the notes of stale dates that no run has processed."""
    engine = DuckDBEngine(Lake(root), _settings().timezone)
    return (
        engine.rows(f"SELECT run_date, order_date FROM {stale_dates.STALE_DATES}")
        if engine.lake.exists(stale_dates.STALE_DATES)
        else []
    )


@cache
def _settings(returns_count_on: str = "order_date") -> Any:
    return load_settings("local", {"returns_count_on": returns_count_on})


def build_table(name: str, rows: Iterable[dict[str, Any]], day: date) -> pa.Table:
    """Return landed rows of a date as the mapping gives them."""
    contract = load_table(f"silver.{name}")
    fields = [each for each in contract.arrow_schema if each.name not in _COMPUTED_COLUMNS]
    full = [
        {**row, "_unfit": "", "_source_file": "f", "_row_number": number, "landed_on": day} for number, row in enumerate(rows)
    ]
    return pa.Table.from_pylist(full, schema=pa.schema([*fields, *_TECHNICAL_FIELDS]))
