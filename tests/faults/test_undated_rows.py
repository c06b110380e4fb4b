"""Test that rows of a snapshot without a business date go to quarantine with file and row."""

from __future__ import annotations

from typing import Any

import pytest

from daybook.errors import UsageError
from daybook.execution.decisions import list_quarantined_rows, release_rows
from daybook.privacy.run_values import build_redactor
from tests.faults.conftest import Shop

pytestmark = pytest.mark.slow

DAY, OTHER, CLOSED = "2025-10-26", "2025-10-27", "2025-10-30"
HEADER = "order_id,customer,ordered_at,status,shipped_at,updated_at"
USABLE = "ordered_at is a usable date"
SPLITS = "row splits into the header's columns"


@pytest.fixture
def snapshot(shop: Shop) -> Shop:
    """Return a shop whose files are snapshots: orders by date, lines that follow them."""
    file = "params/sources/odd.yaml"
    shop.project.replace(file, 'files: "o/{run_date}/orders*"', 'files: "orders.csv"\n    date: ordered_at')
    shop.project.replace(
        file, 'files: "o/{run_date}/lines*"', 'files: "lines.csv"\n    follows: {entity: orders, by: order_id}'
    )
    shop.land("lines.csv", "order_id,line,sku,qty,price\nA1,1,S1,1,10.00\nB1,1,S1,1,5.00\nN1,1,S1,1,99.00\nA1,2,S1\n")
    return shop


def order(order_id: str, ordered_at: str, customer: str = "C1") -> str:
    return f"{order_id},{customer},{ordered_at},paid,,{DAY} 10:00:00"


def land(snapshot: Shop, *rows: str) -> None:
    snapshot.land("orders.csv", "\n".join([HEADER, *rows]) + "\n")


def aside(snapshot: Shop, entity: str = "orders") -> list[tuple[Any, ...]]:
    """Return date, file, row and reasons of an entity's rows in quarantine."""
    return snapshot.rows(f"SELECT run_date, _source_file, _row_number, _reasons FROM quarantine.{entity} ORDER BY 1, 2, 3")


@pytest.mark.parametrize("text", ["", "soon", "30.02.2025", "9999-12-31", "0001-01-01 00:00:00", "2025-13-01"])
def test_rows_without_a_usable_date_go_to_quarantine(snapshot: Shop, text: str) -> None:
    land(snapshot, order("A1", f"{DAY} 10:00:00"), order("N1", text), order("B1", f"{OTHER} 10:00:00"))
    ran = snapshot.run(DAY)
    assert ran.outcome == "SUCCEEDED"
    assert [(str(day), *row) for day, *row in aside(snapshot)] == [(DAY, "orders.csv", 2, USABLE)]
    assert [(str(day), *row) for day, *row in aside(snapshot, "lines")] == [(DAY, "lines.csv", 4, SPLITS)]
    counts = ran.stages["validate"].details["accounting"]
    assert counts["orders"] == {"landed": 2, "accepted": 1, "quarantined": 1, "duplicates": 0}
    assert counts["lines"] == {"landed": 2, "accepted": 1, "quarantined": 1, "duplicates": 0}
    assert "orders: 1 rows of the snapshot cannot be split or have no usable date; they go to quarantine" in ran.warnings
    assert snapshot.rows(f"SELECT gross_revenue FROM gold.daily_sales WHERE order_date = DATE '{DAY}'")[0][0] == 10


@pytest.mark.smoke
def test_malformed_rows_go_to_quarantine(snapshot: Shop) -> None:
    land(snapshot, order("A1", f"{DAY} 10:00:00"), "N1,C9,cut off")
    assert snapshot.run(DAY).outcome == "SUCCEEDED"
    assert [row[1:] for row in aside(snapshot)] == [("orders.csv", 2, SPLITS)]


def test_undated_rows_do_not_reject_the_date(snapshot: Shop) -> None:
    """Exclude undated rows from the share of rejected rows."""
    land(snapshot, order("A1", f"{DAY} 10:00:00"), *(order(f"N{number}", "soon") for number in range(500)))
    ran = snapshot.run(DAY, overrides={"max_rejected_share": "0.05", "tolerated_rejected_rows": "0"})
    assert (ran.outcome, len(aside(snapshot))) == ("SUCCEEDED", 500)


def test_rerun_replaces_undated_rows(snapshot: Shop) -> None:
    land(snapshot, order("A1", f"{DAY} 10:00:00"), order("N1", "soon"))
    snapshot.run(DAY)
    land(snapshot, order("A1", f"{DAY} 10:00:00"), order("N1", f"{DAY} 09:00:00"))
    assert snapshot.run(DAY).outcome == "SUCCEEDED"
    assert aside(snapshot) == []
    assert snapshot.rows(f"SELECT gross_revenue FROM gold.daily_sales WHERE order_date = DATE '{DAY}'")[0][0] == 109


def test_date_without_rows_is_skipped(snapshot: Shop) -> None:
    """Skip a date without rows in the snapshot, although undated rows may belong to it."""
    land(snapshot, order("A1", f"{DAY} 10:00:00"), order("N1", "soon"))
    ran = snapshot.run(CLOSED)
    assert (ran.outcome, ran.reasons) == (
        "SKIPPED",
        [f"no orders of {CLOSED} in orders.csv (1 rows have no usable date)"],
    )


def test_snapshot_without_any_date_is_rejected(snapshot: Shop) -> None:
    """Reject a date whose snapshot has another date format, instead of skipping every date."""
    land(snapshot, *(order(f"N{number}", "26/10/2025 h 10") for number in range(30)))
    ran = snapshot.run(DAY, overrides={"max_rejected_share": "0.05", "tolerated_rejected_rows": "5"})
    assert ran.outcome == "REJECTED"
    assert ran.reasons == ["orders: 30 of 30 rows (100.0%) are rejected, more than 5.0%"]


def test_undated_rows_are_listed_and_not_released(snapshot: Shop) -> None:
    land(snapshot, order("A1", f"{DAY} 10:00:00"), order("N1", "soon"), "N2,C9,cut off")
    snapshot.run(DAY)
    settings = snapshot.settings()
    rows = list_quarantined_rows(settings, entity="orders")
    assert [(row.source_file, row.row_number, row.rules) for row in rows] == [
        ("orders.csv", 2, (USABLE,)),
        ("orders.csv", 3, (SPLITS,)),
    ]
    for row in rows:
        with pytest.raises(UsageError, match=f"row {row.row_number} belongs to no business date, so it cannot be released"):
            release_rows(settings, [row], repairs={"ordered_at": f"{DAY} 10:00:00"}, by="steward", why="typo")


def test_customers_of_undated_rows_are_redacted(snapshot: Shop) -> None:
    land(snapshot, order("A1", f"{DAY} 10:00:00"), order("N1", "soon", "CU-7771"), "N2,CU-7772,cut off")
    snapshot.run(DAY)
    text = build_redactor(snapshot.settings(), f"daily-{DAY}-1", stage="transform").redact_text("CU-7771 and CU-7772")
    assert "CU-777" not in text
