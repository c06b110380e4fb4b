"""Test that ingest and validate of a range give what they give for each of its dates alone."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.engines import DuckDBEngine
from daybook.errors import DaybookError, EngineError, FormatError, is_permanent
from daybook.lake.tables import Lake
from daybook.notebook import ingest, validate
from daybook.notebook.context import Stage, begin
from daybook.notebook.releases import Release, digest_sql, list_landed_columns, write_releases
from daybook.sources import load_source

DAYS = [date(2025, 11, 28) + timedelta(days=number) for number in range(3)]
_PLAIN = {
    "orders": {
        "order_id": "DB-000001",
        "customer_id": "c1",
        "status": "paid",
        "ordered_at": "{day}T10:00:00Z",
        "updated_at": "{day}T11:00:00Z",
        "ship_country": "DE",
    },
    "order_items": {"order_id": "DB-000001", "line_number": "1", "product_id": "p1", "quantity": "1", "unit_price": "2.00"},
    "categories": {"category_id": "1", "category_name": "Tea"},
}
"""A valid row of the entities that must have rows, with the date for {day}."""
_TABLES = [f"{layer}.{name}" for layer in ("bronze", "quarantine") for name in load_source("demo").entities]


@dataclass
class Delivery:
    """What lands for a date: changes to plain rows of orders and lines, absent files, and whether a file is no CSV."""

    day: date
    orders: list[dict[str, str]] = field(default_factory=list)
    order_items: list[dict[str, str]] = field(default_factory=list)
    categories: list[dict[str, str]] = field(default_factory=lambda: [{}])
    absent: list[str] = field(default_factory=list)
    corrupt: bool = False

    def write(self, landing: Path) -> None:
        """Write the files."""
        for name, entity in load_source("demo").entities.items():
            if name in self.absent:
                continue
            file = landing / entity.pattern(self.day)
            file.parent.mkdir(parents=True)
            plain = {column: value.format(day=self.day) for column, value in _PLAIN.get(name, {}).items()}
            rows = [{**plain, **each} for each in getattr(self, name, [])]
            with file.open("w", encoding="utf-8", newline="") as text:
                writer = csv.DictWriter(text, list(entity.columns), restval="")
                writer.writeheader()
                writer.writerows(rows)
        if self.corrupt:
            (landing / f"order_items/{self.day}/order_items.csv").write_text("a,b\n1,2\n")


@st.composite
def deliveries(draw: st.DrawFn, day: date) -> Delivery:
    """Draw a few valid, invalid and repeated rows. A line can refer to an order of another date."""
    ids = st.sampled_from(["DB-000001", "DB-000002", "DB-000003", "bad"])
    orders = st.fixed_dictionaries({"order_id": ids}, optional={"status": st.sampled_from(["lost", "created"])})
    lines = st.fixed_dictionaries({"order_id": ids}, optional={"quantity": st.sampled_from(["0", "2", "x"])})
    absent = draw(st.sampled_from([[], [], [], ["returns"], ["payments"]]))
    listed = draw(st.lists(orders, max_size=5)), draw(st.lists(lines, max_size=5))
    return Delivery(day, *listed, absent=absent, corrupt=draw(st.integers(0, 5)) == 5)


@dataclass
class Shop:
    """A landing, and a lake in which the dates are run."""

    landing: Path
    place: Path
    records: dict[date, dict[str, Any]] = field(default_factory=dict)
    """By date, the outcome, reasons, rows, details and inputs of the last stage that the date came to."""
    waits: list[float] = field(default_factory=list)

    @property
    def overrides(self) -> dict[str, str]:
        own = {name: str(self.place / name) for name in ("lake", "archive", "pii_key")}
        return {**own, "landing": str(self.landing), "tolerated_rejected_rows": "1"}

    def open(self, name: str, days: Sequence[date]) -> Stage:
        until = str(days[-1]) if len(days) > 1 else ""
        run_id = f"range-{days[0]}-{until}-1" if until else f"daily-{days[0]}-1"
        return begin(name, env="local", run_date=str(days[0]), until=until, run_id=run_id, overrides=self.overrides)

    def run(self, days: Sequence[date]) -> None:
        """Run both stages; keep what they say of each date."""
        for name in ("ingest", "validate"):
            stage = self.open(name, days)
            try:
                if name == "ingest":
                    landing = ingest.read_landing(stage, wait=self.waits.append)
                    if stage.dates:
                        ingest.replace_bronze(stage, landing)
                else:
                    validate.quarantine(stage, validate.check_landing(stage))
            except DaybookError as error:
                if not stage.is_range:
                    self.records[days[0]] = {
                        "outcome": "FAILED",
                        "failure": {
                            "exception": type(error).__name__,
                            "message": str(error),
                            "cell": None,
                            "permanent": is_permanent(type(error).__name__),
                        },
                    }
                    return
            for day, result in stage.results.items():
                record = result.to_json()
                if not stage.is_range:
                    # The stage has the numbers of a single date that it ended well.
                    record["outcome"] = stage.ended
                self.records[day] = {"outcome": "FAILED", "failure": record["failure"]} if record["failure"] else record
            if not stage.dates:
                return

    def rows(self, table: str) -> list[tuple[Any, ...]]:
        """Return the rows of a table without the run that wrote them."""
        engine = DuckDBEngine(Lake(str(self.place / "lake")), "UTC")
        if not engine.lake.exists(table):
            return []
        columns = [name for name in engine.query(f"SELECT * FROM {table} LIMIT 0").columns if name != "_run_id"]
        return sorted(engine.rows(f"SELECT {', '.join(sorted(columns))} FROM {table}"), key=repr)


@contextmanager
def two_shops(delivered: Sequence[Delivery]) -> Iterator[tuple[Shop, Shop]]:
    """Provide two lakes with one landing."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for each in delivered:
            each.write(root / "landing")
        yield Shop(root / "landing", root / "one"), Shop(root / "landing", root / "two")


def require_equal(together: Shop, alone: Shop) -> None:
    """Compare all tables, and the records of each date."""
    for table in [*_TABLES, validate.VALIDATED_DATES]:
        assert together.rows(table) == alone.rows(table), table
    assert together.records == alone.records


def run_both(together: Shop, alone: Shop, days: Sequence[date] = DAYS) -> None:
    together.run(days)
    for day in days:
        alone.run([day])
    require_equal(together, alone)


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(st.tuples(*map(deliveries, DAYS)))
def test_range_gives_what_its_dates_give(delivered: tuple[Delivery, ...]) -> None:
    with two_shops(delivered) as (together, alone):
        run_both(together, alone)


MIXED = [
    Delivery(DAYS[0], [{}, {}, {"status": "lost"}], [{}, {"quantity": "0"}, {"order_id": "DB-000002"}]),
    Delivery(DAYS[1], [{"order_id": "DB-000002"}], [{"order_id": "DB-000002"}, {"order_id": "DB-000001"}], absent=["returns"]),
    Delivery(DAYS[2], [{"order_id": "bad"}, {"order_id": "worse"}, {}], [{}]),
]


def test_dates_of_a_range_are_checked_each_by_itself() -> None:
    with two_shops(MIXED) as (together, alone):
        run_both(together, alone)
        assert [each["outcome"] for each in together.records.values()] == ["SUCCEEDED", "SUCCEEDED", "REJECTED"]
        assert together.rows("bronze.orders") != []


def test_listings_of_a_range_have_sums_over_its_dates(capsys: pytest.CaptureFixture[str]) -> None:
    with two_shops(MIXED) as (together, _):
        stage = together.open("ingest", DAYS)
        landing = ingest.read_landing(stage)
        ingest.replace_bronze(stage, landing)
        by_entity = {row[0]: dict(zip(landing.listing.columns, row)) for row in landing.listing.rows}
        assert by_entity["orders"]["rows of the dates"] == sum(len(each.orders) for each in MIXED)
        assert (by_entity["returns"]["files"], by_entity["orders"]["files"]) == (2, 3)
        files = landing.file_listing
        assert [row[0] for row in files.rows] == DAYS
        assert [dict(zip(files.columns, row))["files"] for row in files.rows] == [9, 8, 9]

        stage = together.open("validate", DAYS)
        checked = validate.check_landing(stage)
        counts = {row[0]: dict(zip(checked.listing.columns, row)) for row in checked.listing.rows}
        lines = counts["order_items"]
        assert [lines[name] for name in ("landed", "rejected", "on")] == [6, 1, DAYS[0]]
        assert (counts["returns"]["rejected"], counts["returns"]["on"]) == (0, None)
        rules = {row[:2]: dict(zip(checked.rule_listing.columns, row)) for row in checked.rule_listing.rows}
        assert len(rules) == len(checked.rule_listing.rows) == len(checked.dates[DAYS[0]].rules)
        broken = {row[:2]: dict(zip(checked.broken.columns, row)) for row in checked.broken.rows}
        assert set(broken) == {key for key, each in rules.items() if each["broken on dates"]}
        for key, each in broken.items():
            failing = {
                day: next(rule.failing for rule in found.rules if (rule.table, rule.rule) == key)
                for day, found in checked.dates.items()
            }
            assert each["failing"] == rules[key]["failing"] == sum(failing.values())
            assert (each["dates"], failing[each["worst date"]] > 0) == (sum(map(bool, failing.values())), True)

        outcomes = validate.quarantine(stage, checked)
        assert outcomes is not None
        assert [row[:2] for row in outcomes.rows] == [(DAYS[0], "SUCCEEDED"), (DAYS[1], "SUCCEEDED"), (DAYS[2], "REJECTED")]
        assert [bool(row[-1]) for row in outcomes.rows] == [False, False, True]


def test_listings_of_one_date_have_no_dates(capsys: pytest.CaptureFixture[str]) -> None:
    with two_shops(MIXED) as (_, alone):
        stage = alone.open("ingest", DAYS[:1])
        landing = ingest.read_landing(stage)
        ingest.replace_bronze(stage, landing)
        assert landing.file_listing.columns == ["entity", "file", "bytes", "rows"]
        stage = alone.open("validate", DAYS[:1])
        checked = validate.check_landing(stage)
        shown = [*checked.listing.columns, *checked.broken.columns, *checked.rule_listing.columns]
        assert not {"dates", "on", "worst date", "broken on dates"} & set(shown)
        assert validate.quarantine(stage, checked) is None


@pytest.mark.slow
def test_corrupt_file_fails_its_date_only() -> None:
    delivered = [MIXED[0], Delivery(DAYS[1], [{}], [], corrupt=True), MIXED[2]]
    with two_shops(delivered) as (together, alone):
        run_both(together, alone)
        assert together.records[DAYS[1]]["failure"]["exception"] == FormatError.__name__
        assert {row[-1] for row in together.rows(validate.VALIDATED_DATES)} == {DAYS[0]}
        assert together.waits == []


@pytest.mark.slow
def test_missing_file_fails_its_date_only() -> None:
    with two_shops([MIXED[0], Delivery(DAYS[1], absent=["orders"]), MIXED[2]]) as (together, alone):
        run_both(together, alone)
        assert together.records[DAYS[1]]["failure"]["exception"] == "MissingFileError"


def test_last_date_that_is_skipped_ends_a_range_with_a_failed_date() -> None:
    with two_shops([Delivery(DAYS[0]), Delivery(DAYS[1]), Delivery(DAYS[2], absent=["payments"])]) as (together, _):
        together.run(DAYS)
        assert [each["outcome"] for each in together.records.values()] == ["SKIPPED", "SKIPPED", "FAILED"]


@pytest.mark.slow
@pytest.mark.parametrize("faults", [3, 4])
def test_fault_of_a_date_is_tried_four_times(monkeypatch: pytest.MonkeyPatch, faults: int) -> None:
    read, left = ingest.read_blocks, [faults]

    def read_blocks(store: Any, source: Any, name: str, day: date, *arguments: Any) -> Any:
        yield from read(store, source, name, day, *arguments)
        if (name, day) == ("order_items", DAYS[1]) and left[0]:
            left[0] -= 1
            raise EngineError("The disk is busy.")

    with two_shops(MIXED) as (together, alone):
        for day in DAYS:
            if faults < 4 or day != DAYS[1]:
                alone.run([day])
        monkeypatch.setattr(ingest, "read_blocks", read_blocks)
        together.run(DAYS)
        assert len(together.waits) == 3
        if faults == 4:
            assert together.records.pop(DAYS[1])["failure"]["message"] == "The disk is busy."
        require_equal(together, alone)


@pytest.mark.slow
def test_rows_that_do_not_fit_into_memory_are_stored_by_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest, "_MAX_MEMORY_BYTES", 0)
    delivered = [MIXED[0], Delivery(DAYS[1], [{}], [{}], corrupt=True), MIXED[2]]
    with two_shops(delivered) as (together, alone):
        run_both(together, alone)


@pytest.mark.slow
def test_release_applies_to_its_date_only() -> None:
    with two_shops(MIXED) as (together, alone):
        for shop in (together, alone):
            shop.run(DAYS if shop is together else DAYS[:1])
            engine = DuckDBEngine(Lake(str(shop.place / "lake"), run_id="daily-2025-11-28-2"), "UTC")
            digest = digest_sql(list_landed_columns(engine, "bronze.order_items"))
            file = f"order_items/{DAYS[0]}/order_items.csv"
            ((text,),) = engine.rows(
                f"SELECT {digest} FROM bronze.order_items WHERE _source_file = '{file}' AND _row_number = 2"
            )
            release = Release("order_items", file, 2, text, {"quantity": "3"}, (), "a steward", "a typing error", "2025-12-01")
            write_releases(engine, engine.lake, DAYS[0], [release])
        run_both(together, alone)
        assert together.records[DAYS[0]]["details"]["accounting"]["order_items"]["quarantined"] == 0


def test_accepted_rows_have_their_date(capsys: pytest.CaptureFixture[str]) -> None:
    with two_shops(MIXED) as (together, _):
        together.run(DAYS)
        stage = together.open("transform", DAYS)
        assert stage.dates == DAYS[:2]
        listing = validate.define_accepted_rows(stage)
        assert listing.columns == ["entity", "accepted rows", "dates with rows"]
        assert ("orders", 2, 2) in listing.rows
        rows = stage.engine.rows("SELECT run_date, order_id FROM orders ORDER BY ALL")
        assert rows == [(DAYS[0], "DB-000001"), (DAYS[1], "DB-000002")]
        assert stage.engine.fetch_row("SELECT count(*) FROM orders WHERE customer_id = 'c1'") == (0,)
