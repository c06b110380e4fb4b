"""Test incidents: three days on which whole files are damaged."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from daybook.errors import UsageError
from demo_shop import INCIDENTS, WHOLE_DAY_KINDS, FaultKind, generate
from tests.demo_shop.conftest import Shop

DROP, TRUNCATED, DOUBLED = date(2025, 11, 8), date(2025, 11, 13), date(2025, 11, 20)


@pytest.fixture(scope="module")
def incidents(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    landing = tmp_path_factory.mktemp("incidents") / "landing"
    return Shop(landing, generate(landing, days=51, orders_per_day=100, incidents=True))


@pytest.fixture(scope="module")
def ordinary(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    landing = tmp_path_factory.mktemp("ordinary") / "landing"
    return Shop(landing, generate(landing, days=51, orders_per_day=100))


def of_kind(shop: Shop, kind: FaultKind) -> list[tuple[date, str, int]]:
    return [(each.day, each.entity, each.row) for each in shop.summary.faults if each.kind is kind]


def test_summary_lists_incidents_as_whole_file_faults(incidents, ordinary):
    assert of_kind(incidents, FaultKind.REVENUE_DROP) == [(DROP, "orders", 0)]
    assert of_kind(incidents, FaultKind.TRUNCATED) == [(TRUNCATED, "order_items", 0)]
    assert of_kind(incidents, FaultKind.DOUBLED) == [(DOUBLED, entity, 0) for entity in ("orders", "order_items", "payments")]
    assert set(INCIDENTS.values()) == WHOLE_DAY_KINDS
    assert not [each for each in ordinary.summary.faults if each.kind in WHOLE_DAY_KINDS]


def test_revenue_drop_affects_one_day_only(incidents, ordinary):
    for day in ordinary.summary.days:
        before, after = ordinary.summary.expected[day].gross_revenue, incidents.summary.expected[day].gross_revenue
        if day == DROP:
            assert Decimal("0.5") < after / before < Decimal("0.65")
        else:
            # Random faults hit other rows in the two shops.
            assert abs(after / before - 1) < Decimal("0.05"), day


def test_lost_orders_are_missing_from_all_files(incidents, ordinary):
    def numbers(shop: Shop, entity: str) -> set[str]:
        column = 1 if entity in ("returns", "reviews") else 0
        return {row[column] for row in shop.read_valid(entity) if len(row) > 1}

    placed = {row[0] for row in ordinary.read_valid("orders") if row[3].startswith(DROP.isoformat())}
    lost = placed - numbers(incidents, "orders")
    assert len(lost) > 20
    for entity in ("order_items", "payments", "returns", "reviews"):
        assert not lost & numbers(incidents, entity)


def test_truncated_file_ends_within_a_line(incidents):
    content = incidents.path("order_items", TRUNCATED).read_text(encoding="utf-8")
    assert not content.endswith("\n")
    *_, last = content.split("\n")
    assert last.startswith("DB-")
    assert 0 < last.count(",") < 6
    number = content.count("\n")
    assert (TRUNCATED, "order_items", number) in of_kind(incidents, FaultKind.MISSING_FIELD)
    assert not [
        each for each in incidents.summary.faults if (each.day, each.entity) == (TRUNCATED, "order_items") and each.row > number
    ]


def test_expected_figures_include_truncated_rows(incidents, ordinary):
    cut, whole = incidents.summary.expected[TRUNCATED], ordinary.summary.expected[TRUNCATED]
    assert abs(cut.gross_revenue / whole.gross_revenue - 1) < Decimal("0.05")


def test_doubled_files_have_every_row_twice(incidents):
    for entity in ("orders", "order_items", "payments"):
        rows = incidents.read(entity, DOUBLED)
        half = len(rows) // 2
        assert half > 50
        assert rows[:half] == rows[half:]
    rows = incidents.read("customers", DOUBLED)
    assert rows[: len(rows) // 2] != rows[len(rows) // 2 :]


def test_incidents_need_51_days(tmp_path: Path):
    with pytest.raises(UsageError, match="at least 51 days"):
        generate(tmp_path / "landing", days=50, incidents=True)


def test_incidents_are_part_of_the_stamp(tmp_path: Path):
    settings = {"days": 51, "orders_per_day": 2}
    assert generate(tmp_path / "landing", **settings) != generate(tmp_path / "landing", incidents=True, **settings)
