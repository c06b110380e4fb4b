"""Test that a re-run keeps the rows of an optional file that is no longer in landing."""

from __future__ import annotations

from typing import Any

import pytest

from daybook.cli.app import load_command_settings
from tests.faults.conftest import Shop

pytestmark = pytest.mark.slow

DAY = "2025-10-26"
ORDERS = "order_id,customer,ordered_at,status,shipped_at,updated_at\n"
LINES = f"o/{DAY}/lines.csv"


@pytest.fixture
def optional(shop: Shop) -> Shop:
    """Return a shop with optional lines, after a run of a date with one order."""
    shop.project.replace("params/sources/odd.yaml", "duplicates: keep", "duplicates: keep\n    missing: empty")
    shop.land(f"o/{DAY}/orders.csv", ORDERS + f"A1,C1,{DAY} 10:00:00,paid,,{DAY} 10:00:00\n")
    shop.land(LINES, "order_id,line,sku,qty,price\nA1,1,S1,1,10.00\nA1,2,S1,1,2.00\n")
    assert shop.run(DAY).outcome == "SUCCEEDED"
    return shop


def sweep(shop: Shop) -> None:
    """Remove the file of the lines."""
    shop.land(LINES, "").unlink()


def bronze(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.rows("SELECT order_id, line, price, _source_file, _row_number, _run_id FROM bronze.lines ORDER BY line")


def gross(shop: Shop) -> Any:
    return shop.rows("SELECT gross_revenue FROM gold.daily_sales")[0][0]


def test_rows_are_kept_with_a_warning(optional: Shop) -> None:
    before = bronze(optional)
    sweep(optional)
    for number in (2, 3):
        ran = optional.run(DAY)
        assert (ran.outcome, gross(optional), bronze(optional)) == ("SUCCEEDED", 12, before), number
        assert ran.warnings[0] == (
            f"lines: {LINES} is no longer in landing; its 2 rows in bronze are kept (--allow-missing deletes them)"
        )


def test_record_lists_read_and_kept_files(optional: Shop) -> None:
    sweep(optional)
    ingest = optional.run(DAY).stages["ingest"]
    assert [each["file"] for each in ingest.inputs] == [f"o/{DAY}/orders.csv"]
    assert ingest.details["kept"] == {"lines": {"rows": 2, "files": [LINES], "runs": [f"daily-{DAY}-1"]}}
    assert "bronze.lines" not in ingest.lake.tables_written


def test_rows_are_dropped_with_allow_missing(optional: Shop) -> None:
    sweep(optional)
    ran = optional.run(DAY, overrides={"allow_missing": "true"})
    assert (ran.outcome, bronze(optional), "kept" in ran.stages["ingest"].details) == ("SUCCEEDED", [], False)
    assert not any("no longer in landing" in each for each in ran.warnings)
    assert gross(optional) == 0


def test_new_file_replaces_kept_rows(optional: Shop) -> None:
    sweep(optional)
    optional.run(DAY)
    optional.land(LINES, "order_id,line,sku,qty,price\nA1,1,S1,1,7.00\n")
    optional.run(DAY)
    assert [(row[2], row[5]) for row in bronze(optional)] == [("7.00", f"daily-{DAY}-3")]


def test_first_run_without_the_file_has_no_rows(shop: Shop) -> None:
    shop.project.replace("params/sources/odd.yaml", "duplicates: keep", "duplicates: keep\n    missing: empty")
    shop.land(f"o/{DAY}/orders.csv", ORDERS + f"A1,C1,{DAY} 10:00:00,paid,,{DAY} 10:00:00\n")
    ran = shop.run(DAY)
    assert (ran.outcome, "kept" in ran.stages["ingest"].details, bronze(shop)) == ("SUCCEEDED", False, [])


def test_allow_missing_override_reaches_the_stage(shop: Shop) -> None:
    """Check that the flag reaches jobs like --set."""
    settings = load_command_settings("odd", ["title=Odd"], allow_missing=True)
    assert (settings.allow_missing, settings.overrides) == (True, {"allow_missing": "true", "title": "Odd"})
    assert "allow_missing" not in load_command_settings("odd", None).overrides


def test_message_names_one_of_several_missing_files(shop: Shop) -> None:
    """Warn if a re-run replaces the rows of a missing file by those of another file."""
    shop.land(f"o/{DAY}/orders.csv", ORDERS + f"A1,C1,{DAY} 10:00:00,paid,,{DAY} 10:00:00\n")
    shop.land(LINES, "order_id,line,sku,qty,price\nA1,1,S1,1,10.00\n")
    more = shop.land(f"o/{DAY}/lines_2.csv", "order_id,line,sku,qty,price\nA1,2,S1,1,2.00\n")
    assert not any("no longer in landing" in each for each in shop.run(DAY).warnings)
    more.unlink()
    ran = shop.run(DAY)
    assert ran.warnings[0] == (
        f"lines: o/{DAY}/lines_2.csv is no longer in landing; its rows are replaced by those of the remaining files"
    )
    assert not any("no longer in landing" in each for each in shop.run(DAY).warnings)
