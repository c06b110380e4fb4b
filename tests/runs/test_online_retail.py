"""Test days of Online Retail: one flat invoice file per day, cancellations, service codes and closed days."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from tests.runs.shop import DaybookHome, run_command

pytestmark = pytest.mark.slow
DAYS = ("2010-12-01", "2010-12-02", "2010-12-09")
SATURDAY = "2010-12-04"


@pytest.fixture(scope="module")
def landing(shared_data: Path) -> Path:
    return shared_data / "online_retail"


@pytest.fixture(scope="module")
def home(module_home: DaybookHome, landing: Path) -> DaybookHome:
    for day in DAYS:
        execution, record = module_home.run("online_retail", day, landing=str(landing))
        assert execution.status == "SUCCEEDED", record.reasons
    return module_home


@pytest.mark.parametrize("day", DAYS)
def test_revenue_equals_one_query_over_the_raw_file(home: DaybookHome, landing: Path, day: str) -> None:
    with duckdb.connect() as connection:
        # Repeated lines of the export count once: SELECT DISTINCT.
        expected = connection.sql(
            f"""
            WITH lines AS (SELECT DISTINCT * FROM read_csv('{landing}/{day}.csv', all_varchar=true, header=true)),
            amounts AS (
                SELECT InvoiceNo, Quantity::BIGINT AS quantity, UnitPrice::DECIMAL(18,4) AS price,
                       Quantity::BIGINT * UnitPrice::DECIMAL(18,4) AS amount
                FROM lines
            )
            SELECT coalesce(sum(amount) FILTER (WHERE quantity > 0 AND price > 0 AND InvoiceNo ~ '[0-9]+'), 0) AS gross,
                   coalesce(sum(abs(amount)) FILTER (WHERE quantity < 0 AND InvoiceNo LIKE 'C%'), 0) AS returns,
                   gross - returns,
                   count(DISTINCT InvoiceNo) FILTER (WHERE quantity > 0 AND price > 0 AND InvoiceNo ~ '[0-9]+')
            FROM amounts
            """
        ).fetchone()
    (found,) = home.engine("online_retail").rows(
        f"SELECT gross_revenue, returns_amount, net_revenue, orders FROM gold.daily_sales WHERE order_date = DATE '{day}'"
    )
    assert found == expected


def test_one_of_the_days_has_cancellations(home: DaybookHome) -> None:
    rows = home.engine("online_retail").rows("SELECT returns_amount FROM gold.daily_sales")
    assert max(row[0] for row in rows) > 0


def test_every_landed_line_is_accepted_rejected_or_a_duplicate(home: DaybookHome) -> None:
    for run_id in home.archive("online_retail").run_ids():
        (validate,) = [each for each in home.archive("online_retail").attempts(run_id) if each.stage == "validate"]
        rows = validate.rows
        assert rows.rows_in == rows.rows_out + rows.rejected + rows.duplicates
        assert rows.duplicates > 0


def test_sales_without_an_account_have_no_customer(home: DaybookHome) -> None:
    ((without,),) = home.engine("online_retail").rows("SELECT count(*) FROM silver.orders WHERE customer_key IS NULL")
    ((known,),) = home.engine("online_retail").rows("SELECT count(*) FROM silver.customers WHERE customer_key IS NULL")
    assert without > 0
    assert known == 0


def test_source_without_payments_has_an_empty_payment_mix(home: DaybookHome) -> None:
    assert home.engine("online_retail").rows("SELECT * FROM gold.payment_mix") == []


def test_saturday_without_a_file_is_skipped(
    home: DaybookHome, landing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = run_command(
        monkeypatch, capsys, "run", "--env", "online_retail", "--date", SATURDAY, "--set", f"landing={landing}"
    )
    assert code == 0
    assert "SKIPPED" in out
    assert f"{SATURDAY}.csv: the shop was closed" in out.replace("\n", "")
    record = home.archive("online_retail").run(f"daily-{SATURDAY}-1")
    assert record.outcome == "SKIPPED"
    assert [each.stage for each in record.stages] == ["ingest", "notify"]
