"""The demo shop's incidents are caught by the rule meant for each: a drop of revenue, a file cut short, files delivered twice.

The real notebooks, cell by cell in this process, on the shop's three spoiled days.
"""

from __future__ import annotations

import shutil
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from daybook.contracts import load_table
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.notebook.notify import DateReport, RunReport, write_message
from daybook.records.models import AttemptRecord
from demo_shop import ExpectedFigures, Summary, generate
from tests.notebook.test_stale_dates import rows_of
from tests.sessions import Session

pytestmark = pytest.mark.slow

DROP, TRUNCATED, DOUBLED = "2025-11-08", "2025-11-13", "2025-11-20"
COPIES = "rows stand once"
DOUBLED_FILES = ("orders", "order_items", "payments")


class Shop(NamedTuple):
    """A shop with incidents, its account, and the folder of its lakes."""

    landing: Path
    summary: Summary

    def overrides(self, lake: Path) -> dict[str, str]:
        return {"landing": str(self.landing), "lake": str(lake), "pii_key": str(lake.parent / "pii.key")}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    landing = tmp_path_factory.mktemp("shop") / "landing"
    return Shop(landing, generate(landing, incidents=True))


def publish_history(lake: Path, shop: Shop, day: str) -> None:
    """Publish the four weeks before a day in gold, with the figures of the shop's account."""
    contract = load_table("gold.daily_sales")
    last = date.fromisoformat(day)
    rows = [daily_row(each, shop.summary.expected[each]) for each in shop.summary.days if 0 < (last - each).days <= 28]
    assert len(rows) == 28
    columns = {item.name: pa.array([row[item.name] for row in rows], item.arrow_type) for item in contract.properties}
    place = Lake(str(lake))
    place.ensure_table(contract)
    write_deltalake(place.uri("gold.daily_sales"), pa.table(columns), mode="append")


def daily_row(day: date, figures: ExpectedFigures) -> dict[str, Any]:
    counted = figures.orders - figures.cancelled_orders
    return {
        "order_date": day,
        "orders": counted,
        "cancelled_orders": figures.cancelled_orders,
        "units": figures.units,
        "gross_revenue": figures.gross_revenue,
        "returns_amount": figures.returns_amount,
        "net_revenue": figures.gross_revenue - figures.returns_amount,
        "average_order_value": round(figures.gross_revenue / counted, 4),
        "adjustments_amount": Decimal(0),
        "new_customers": counted,
        "returning_customers": 0,
    }


def live(session: Session, day: str, overrides: dict[str, str]) -> list[dict[str, Any]]:
    """Run a day; return the record of each stage up to the one that ended the day."""
    records: list[dict[str, Any]] = []
    result = stages.Stage.result

    def remembered(self: stages.Stage, *given: Any) -> dict[str, Any]:
        records.append(result(self, *given))
        return records[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.Stage, "result", remembered)
        session.run_day(day, 1, overrides)
    return records


def message_of(records: list[dict[str, Any]]) -> str:
    """Return the message of a day with these records."""
    assert stages.current is not None
    attempts = [AttemptRecord.model_validate(each) for each in records]
    last = attempts[-1]
    dates = {stages.current.run_date: DateReport(last.outcome, last.reasons, attempts)}
    return write_message(stages.current, RunReport(last.outcome, last.reasons, attempts, "EUR", dates))


def days_published(lake: Path) -> list[date]:
    """Return the published days."""
    return [row[0] for row in DuckDBEngine(Lake(str(lake)), "Europe/Berlin").rows("SELECT order_date FROM gold.daily_sales")]


def test_drop_of_revenue_is_published_with_a_warning(session: Session, shop: Shop, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    publish_history(lake, shop, DROP)
    *_, ended = records = live(session, DROP, shop.overrides(lake))

    assert (ended["stage"], ended["outcome"]) == ("quality", "SUCCEEDED")
    assert date.fromisoformat(DROP) in days_published(lake)
    for figure in ("orders", "gross_revenue", "net_revenue"):
        beginning = f"gold.daily_sales: '{figure} is usual for its weekday' does not hold: "
        (warning,) = [each for each in ended["details"]["warnings"] if each.startswith(beginning)]
        assert "is below the" in warning
        assert warning in message_of(records)
        (rule,) = [each for each in ended["details"]["rules"] if each["rule"] == f"{figure} is usual for its weekday"]
        assert rule["outcome"] == "warned"
        assert rule["measured"] in warning


def test_drop_of_revenue_of_severity_error_is_rejected(session: Session, shop: Shop, tmp_path: Path, project: Any) -> None:
    contract = "params/contracts/gold/daily_sales.yaml"
    before, rule, after = (project.root / contract).read_text(encoding="utf-8").partition("- name: net_revenue\n")
    project.write(contract, before + rule + after.replace("severity: warning", "severity: error", 1))
    lake = tmp_path / "lake"
    publish_history(lake, shop, DROP)
    history = rows_of(lake)["gold.daily_sales"]

    *_, ended = records = live(session, DROP, shop.overrides(lake))

    assert (ended["stage"], ended["outcome"]) == ("quality", "REJECTED")
    (reason,) = ended["reasons"]
    assert reason.startswith("gold.daily_sales: 'net_revenue is usual for its weekday' does not hold: ")
    assert reason in message_of(records)
    published = rows_of(lake)
    assert published["gold.daily_sales"] == history
    assert not [name for name, rows in published.items() if name.startswith("gold.") and rows and name != "gold.daily_sales"]


def test_truncated_file_rejects_the_date_before_silver(session: Session, shop: Shop, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    *_, ended = records = live(session, TRUNCATED, shop.overrides(lake))

    assert (ended["stage"], ended["outcome"]) == ("validate", "REJECTED")
    (reason,) = ended["reasons"]
    assert reason.startswith("orders: 'new orders have lines' does not hold: ")
    assert reason in message_of(records)
    assert [name for name, rows in rows_of(lake).items() if rows] == []


def test_files_delivered_twice_are_reported_and_harmless(session: Session, shop: Shop, tmp_path: Path) -> None:
    once = shutil.copytree(shop.landing, tmp_path / "once")
    for entity in DOUBLED_FILES:
        file = once / entity / DOUBLED / f"{entity}.csv"
        lines = file.read_bytes().splitlines(keepends=True)
        file.write_bytes(b"".join(lines[: 1 + (len(lines) - 1) // 2]))
    twice = live(session, DOUBLED, shop.overrides(tmp_path / "twice"))
    alone = live(session, DOUBLED, {**shop.overrides(tmp_path / "alone"), "landing": str(once)})

    warnings = [warning for record in twice for warning in record["details"].get("warnings", []) if COPIES in warning]
    assert [warning.split(":")[0] for warning in warnings] == list(DOUBLED_FILES)
    assert all(warning in message_of(twice) for warning in warnings)
    assert not [warning for record in alone for warning in record["details"].get("warnings", []) if COPIES in warning]
    assert [record["outcome"] for record in twice] == [record["outcome"] for record in alone] == ["SUCCEEDED"] * 5
    tables = rows_of(tmp_path / "twice")
    assert [row[0] for row in tables["gold.daily_sales"]] == [date.fromisoformat(DOUBLED)]
    assert tables == rows_of(tmp_path / "alone")
