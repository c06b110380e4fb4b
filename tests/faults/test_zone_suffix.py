"""Test text after a time of day: a zone or AM/PM is read, another text quarantines the row."""

from __future__ import annotations

from tests.faults.instants_support import shop, write_order_files

DAY = "2025-10-07"


def test_twelve_hour_clock_is_read(project, tmp_path, monkeypatch):
    with shop(project, tmp_path, monkeypatch) as odd:
        write_order_files(odd, DAY, "zone_suffix")
        # Z2 is changed before it is placed, so a rule of the shop quarantines it, and nothing is raised.
        assert odd.run(DAY) == "SUCCEEDED"
        assert odd.rows("SELECT order_id, _reasons FROM quarantine.orders") == [
            ("Z2", "an order is not changed before it is placed")
        ]


def test_unknown_zone_quarantines_the_row(project, tmp_path, monkeypatch):
    suffixes = {"Uhr": False, "GMT+2": False, "N/A": False, "BST": False, "CEST": True, "+0200": True, "Europe/Berlin": True}
    with shop(project, tmp_path, monkeypatch) as odd:
        header = "order_id,customer,ordered_at,status,shipped_at,updated_at\n"
        orders = [f"{n},1,2025-10-07 10:00:00 {text},paid,,2025-10-07 12:00:00\n" for n, text in enumerate(suffixes)]
        odd.land(f"o/{DAY}/orders.csv", header + "".join(orders))
        lines = [f"{n},1,A,1,1.00\n" for n in range(len(suffixes))]
        odd.land(f"o/{DAY}/lines.csv", "order_id,line,sku,qty,price\n" + "".join(lines))
        assert odd.run(DAY) == "SUCCEEDED"
        aside = odd.rows("SELECT order_id, _source_file, _row_number, _reasons FROM quarantine.orders ORDER BY order_id")
        assert [row[0] for row in aside] == [str(n) for n, known in enumerate(suffixes.values()) if not known]
        assert {row[3] for row in aside} == {"ordered_at has a known time zone"}
        assert {row[2] for row in aside} == {1, 2, 3, 4}
        assert odd.rows("SELECT DISTINCT CAST(ordered_at AS VARCHAR) FROM silver.orders") == [("2025-10-07 10:00:00+02",)]
