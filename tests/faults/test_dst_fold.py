"""Test times in the repeated hour: their order is kept, and the newest version wins."""

from __future__ import annotations

from decimal import Decimal

from daybook.notebook import validate
from daybook.quality import format_warnings
from tests.faults.instants_support import shop, write_order_files

DAY = "2025-10-26"


def test_versions_in_the_repeated_hour_keep_their_order(project, tmp_path, monkeypatch):
    with shop(project, tmp_path, monkeypatch) as odd:
        write_order_files(odd, DAY, "dst_fold")
        assert odd.run(DAY) == "SUCCEEDED"
        assert odd.rows("SELECT order_id, status FROM silver.orders ORDER BY order_id") == [
            ("F1", "cancelled"), ("F2", "paid"), ("F3", "paid"), ("F4", "paid"),
        ]  # fmt: skip
        assert odd.rows("SELECT count(*) FROM quarantine.orders") == [(0,)]
        assert odd.rows("SELECT gross_revenue FROM gold.daily_sales") == [(Decimal("27.0000"),)]


def test_ambiguous_local_times_are_counted_as_a_warning(project, tmp_path, monkeypatch):
    with shop(project, tmp_path, monkeypatch) as odd:
        odd.land(
            f"o/{DAY}/orders.csv",
            "order_id,customer,ordered_at,status,shipped_at,updated_at\n"
            "A1,1,2025-10-26 02:30:00,paid,,2025-10-26 12:00:00\n"
            "A2,2,2025-10-26T02:30:00+02:00,paid,,2025-10-26 12:00:00\n",
        )
        odd.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\nA1,1,A,1,1.00\nA2,1,A,1,1.00\n")
        warnings = []
        monkeypatch.setattr(
            validate, "format_warnings", lambda found: warnings.extend(format_warnings(found)) or format_warnings(found)
        )
        assert odd.run(DAY) == "SUCCEEDED"
        assert warnings == ["orders: 1 row breaks 'ordered_at is not in the hour that the clock repeats'"]
        assert odd.rows("SELECT count(DISTINCT ordered_at) FROM silver.orders") == [(2,)]
