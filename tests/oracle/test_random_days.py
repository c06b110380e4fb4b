"""Compare dates with random texts with the oracle: outcome, quarantine, silver and gold."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.settings import project_root
from demo_shop import COLUMNS, generate
from tests.oracle import edits
from tests.oracle.contracts import Table, Values
from tests.oracle.landing import RowAddress
from tests.oracle.model import key_of
from tests.oracle.shop import Run, Shop
from tests.sessions import Session, new_session, read_outcome

pytestmark = pytest.mark.slow

DAY_BEFORE, DAY = date(2025, 11, 29), date(2025, 11, 30)
KEY = bytes(range(32))
APPROXIMATE = {"average_order_value", "share", "on_time_share", "average_days"}
"""Quotients, which the engine computes as binary fractions."""


class PreparedShop:
    """The demo shop after the run of DAY_BEFORE; DAY runs on copies of it."""

    def __init__(self, session: Session, root: Path) -> None:
        self.session, self.root = session, root
        generate(root / "files", orders_per_day=12, days=8)
        _add_events(root / "files")
        (root / "before").mkdir()
        (root / "before" / "pii.key").write_bytes(KEY)
        (root / "before" / "pii.key").chmod(0o600)
        assert self.run(DAY_BEFORE, root / "files", root / "before", 1)[0] == "SUCCEEDED"

    def run(self, day: date, landing: Path, home: Path, number: int, **settings: str) -> tuple[str, str]:
        """Run a date; return its outcome and last stage."""
        overrides = {"landing": str(landing), "lake": str(home / "lake"), "pii_key": str(home / "pii.key"), **settings}
        self.session.run_day(day.isoformat(), number, overrides)
        assert stages.current is not None
        return read_outcome(), stages.current.name

    def oracle(self, landing: Path, **settings: Any) -> Shop:
        """Return the oracle after its run of DAY_BEFORE."""
        shop = Shop(project_root() / "params", landing, KEY, **settings)
        assert shop.run(DAY_BEFORE).outcome == "SUCCEEDED"
        return shop


def _add_events(landing: Path) -> None:
    """Add deliveries, cancellations, returns and reviews on DAY of orders of DAY_BEFORE."""
    before, day = DAY_BEFORE.isoformat(), DAY.isoformat()

    def read(entity: str, of: str) -> list[dict[str, str]]:
        header, *rows = edits.read_records(landing / entity / of / f"{entity}.csv", "utf-8-sig")
        return [dict(zip(header, row)) for row in rows if len(row) == len(header)]

    def add(entity: str, rows: list[dict[str, str]]) -> None:
        path = landing / entity / day / f"{entity}.csv"
        header, *existing = edits.read_records(path, "utf-8-sig")
        edits.write_records(path, "utf-8", [header, *existing, *([row[name] for name in header] for row in rows)])

    orders = {each["order_id"]: each for each in read("orders", before) if each["ordered_at"].startswith(before)}
    changed = []
    for number, order in enumerate(orders.values()):
        at = f"{day} {10 + number}:00:00"
        status = "cancelled" if number % 4 == 3 else "delivered"
        changed.append({**order, "status": status, "delivered_at": at if status == "delivered" else "", "updated_at": at})
    add("orders", changed)
    lines = [each for each in read("order_items", before) if each["order_id"] in orders][::3]
    add(
        "returns",
        [
            {**line, "return_id": f"R-9{number:04d}", "quantity": "1", "returned_at": f"{day} 12:00:00", "reason": "size"}
            for number, line in enumerate(lines)
        ],
    )
    add(
        "reviews",
        [
            {"review_id": f"V-9{number:04d}", "order_id": order, "score": "5", "title": "", "comment": "", "created_at": at}
            for number, (order, at) in enumerate((order, f"{day} 08:00:00") for order in orders)
        ],
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PreparedShop]:
    """Provide the prepared shop."""
    root = tmp_path_factory.mktemp("oracle")
    with pytest.MonkeyPatch.context() as patch, new_session() as session:
        patch.setenv("DAYBOOK_HOME", str(root / "home"))
        patch.setenv("IPYTHONDIR", str(root / "ipython"))
        patch.chdir(root)
        patch.setattr(stages, "current", None)
        yield PreparedShop(session, root)


@pytest.fixture
def random_days(request: pytest.FixtureRequest) -> int:
    """Return the number of random days."""
    return int(request.config.getoption("--random-days"))


def test_unedited_day_equals_the_oracle(prepared: PreparedShop) -> None:
    _compare_with_oracle(prepared, [], "0.05", again=True)


EXAMPLES: dict[str, list[edits.Edit]] = {
    "values that one day can hold": [
        # A zone name before local times once shifted these by an hour.
        ("cell", "returns", 0, "returned_at", "2025-11-30 01:59:59 UTC"),
        ("cell", "orders", 25, "delivered_at", "2025-11-30 10:00:00 CEST."),
        ("cell", "orders", 26, "delivered_at", "9999-01-01"),
        ("cell", "customers", 0, "updated_at", "2025-10-26 02:30:00+02:00"),
        ("cell", "customers", 1, "updated_at", "2025-10-26 02:30:00"),
        ("cell", "customers", 3, "updated_at", "infinity"),
        ("cell", "orders", 3, "ship_city", 'a"b\n"c,"\r\n"'),
        ("cell", "orders", 4, "ship_city", '"'),
        *(("fields", "orders", 5, 1), ("fields", "payments", 5, 15), ("copy", "payments", 5)),
    ],
    "sums out of range": [
        (kind, "payments", row, column, text)
        for row in (0, 1)
        for kind, column, text in (("cell", "amount", "99999999999999"), ("cell", "method", "paypal"))
    ],
    "a line number out of range": [("cell", "returns", 0, "line_number", "9223372036854775807")],
    "an amount out of range": [
        ("cell", "returns", 0, "unit_price", "99999999999999.9999"),
        ("cell", "returns", 0, "quantity", "1000"),
    ],
    "a category with two names": [
        ("copy", "categories", 0),
        ("take", "categories", 29, "category_name", 56, "category_name"),
        ("copy", "categories", 28),
    ],
}
"""Edits that failed once."""


@pytest.mark.parametrize("changes", EXAMPLES.values(), ids=EXAMPLES)
def test_known_examples_equal_the_oracle(prepared: PreparedShop, changes: list[edits.Edit]) -> None:
    _compare_with_oracle(prepared, changes, "1", again=False)


def test_every_form_of_a_value_equals_the_oracle(prepared: PreparedShop) -> None:
    _compare_with_oracle(prepared, edits.list_all_edits(), "1", again=False)


def test_random_days_equal_the_oracle(prepared: PreparedShop, random_days: int) -> None:
    # Hypothesis prints a failing example; add its changes to EXAMPLES.
    @settings(max_examples=random_days)
    @given(
        changes=edits.edits({name: list(columns) for name, columns in COLUMNS.items()}),
        share=st.sampled_from(["1", "0.05"]),
        again=st.booleans(),
    )
    def check(changes: list[edits.Edit], share: str, again: bool) -> None:
        _compare_with_oracle(prepared, changes, share, again=again)

    check()


def _compare_with_oracle(prepared: PreparedShop, changes: list[edits.Edit], share: str, *, again: bool) -> None:
    """Run DAY with these changes, twice if ``again``, and compare all results with the oracle."""
    landing, home = prepared.root / "edited", prepared.root / "after"
    for source, copy in ((prepared.root / "files", landing), (prepared.root / "before", home)):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(source, copy)
    edits.apply_edits(landing, DAY.isoformat(), changes)
    shop = prepared.oracle(landing, max_rejected_share=float(share))
    expected = shop.run(DAY)
    for number in (1, 2) if again else (1,):
        ended_as = prepared.run(DAY, landing, home, number, max_rejected_share=share)
        assert ended_as == (expected.outcome, expected.stage), expected.against
        engine = DuckDBEngine(Lake(str(home / "lake")), shop.zone)
        _compare_rows(engine, expected)
        for name, rows in shop.silver().items():
            _compare(engine, f"silver.{name}", rows, shop.silver_contracts[name])
        for name, rows in shop.gold.items():
            _compare(engine, f"gold.{name}", rows, shop.gold_contracts[name])


def _compare_rows(engine: DuckDBEngine, expected: Run) -> None:
    """Compare quarantined rows and their reasons, and check that no row is lost."""
    for name, accepted in expected.accepted.items():
        of_day = f"WHERE run_date = DATE '{DAY}'"
        quarantined = engine.rows(f"SELECT _source_file, _row_number, _reasons FROM quarantine.{name} {of_day}")
        found = {
            RowAddress(*address): {_normalize_reason(each) for each in reasons.split("; ")} for *address, reasons in quarantined
        }
        expected_reasons = {
            address: {_normalize_reason(each) for each in reasons} for address, reasons in expected.reasons[name].items()
        }
        texts = {row.address: row.texts for row in expected.rows[name]}
        differing = [
            (texts[address], found.get(address), expected_reasons.get(address))
            for address in texts
            if found.get(address) != expected_reasons.get(address)
        ]
        assert not differing, f"{name}: (row, reasons found, reasons expected): {differing}"
        (landed,) = engine.fetch_row(f"SELECT count(*) FROM bronze.{name} {of_day}")
        assert landed == len(accepted) + len(expected.reasons[name]) + expected.copies[name], name


def _normalize_reason(reason: str) -> str:
    """Return a reason in a form that is equal for all reasons why a text does not fit its type."""
    column, _, rule = reason.partition(" ")
    unfit = ("is an integer", "is a decimal", "is a timestamp", "has a known time zone")
    return f"{column} fits its type" if rule in unfit or re.fullmatch("has at most [0-9]+ digits.*", rule) else reason


def _compare(engine: DuckDBEngine, table: str, expected: list[Values], contract: Table) -> None:
    columns = [each["name"] for each in contract["properties"]]
    found = [dict(zip(columns, row)) for row in engine.rows(f"SELECT {', '.join(columns)} FROM {table}")]
    by_key = {key_of(row, contract): row for row in expected}
    assert sorted(map(str, by_key)) == sorted(str(key_of(row, contract)) for row in found), table
    for row in found:
        other = by_key[key_of(row, contract)]
        differing = {name: (row[name], other[name]) for name in columns if not _same(row[name], other[name], name)}
        assert not differing, f"{table} {key_of(row, contract)}: (found, expected) by column: {differing}"


def _same(one: Any, other: Any, column: str) -> bool:
    if column in APPROXIMATE and one is not None and other is not None:
        return abs(one - other) <= Decimal("0.0001")
    return bool(one == other)
