"""Test what stops a day: a table that breaks its contract, or an unreadable file. Readers see the previous data."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import nbformat
import pytest

from tests.runs.shop import DaybookHome, read_gross_revenue, run_command, write_tiny_landing

pytestmark = pytest.mark.slow


def change_cell(project: Path, notebook: str, begins: str, old: str, new: str) -> None:
    """Change the cell of a notebook that starts with a text."""
    path = project / "notebooks" / f"{notebook}.ipynb"
    content = nbformat.read(path, as_version=4)
    (cell,) = [each for each in content.cells if each.source.startswith(begins)]
    assert old in cell.source
    cell.source = cell.source.replace(old, new)
    nbformat.write(content, path)


def test_duplicate_key_in_gold_stops_the_publish(
    module_home: DaybookHome, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_landing(module_home.path, "2024-05-01", ["10.00"])
    execution, _ = module_home.run("tiny", "2024-05-01")
    assert execution.status == "SUCCEEDED"
    before = module_home.content("tiny")
    write_tiny_landing(module_home.path, "2024-05-01", ["30.00"])
    twice = "FROM counts AS n CROSS JOIN (SELECT 1 UNION ALL SELECT 2) AS twice"
    change_cell(project, "4_aggregate", "%%sql gold.daily_sales", "FROM counts AS n", twice)

    code, out, _ = run_command(monkeypatch, capsys, "run", "--env", "tiny", "--date", "2024-05-01")

    assert code == 3
    assert "REJECTED" in out
    assert "gold.daily_sales: 1 row breaks 'order_date is unique'" in out
    after = module_home.content("tiny")
    assert {name: rows for name, rows in after.items() if name.startswith("gold.")} == {
        name: rows for name, rows in before.items() if name.startswith("gold.")
    }
    stages = [each.stage for each in module_home.archive("tiny").attempts("daily-2024-05-01-2")]
    assert stages == ["ingest", "validate", "transform", "aggregate", "quality", "notify"]


def test_missing_key_stops_before_silver(module_home: DaybookHome, project: Path) -> None:
    write_tiny_landing(module_home.path, "2024-05-02", ["10.00"])
    change_cell(project, "3_transform", "%%sql silver.order_items", "line_number,", "CAST(NULL AS BIGINT) AS line_number,")

    execution, record = module_home.run("tiny", "2024-05-02")

    assert (execution.status, execution.error) == ("FAILED", "Daybook.Rejected")
    assert record.outcome == "REJECTED"
    assert record.reasons == ["silver.order_items: 1 row breaks 'line_number is present'"]
    assert module_home.engine("tiny").rows("SELECT * FROM silver.orders WHERE order_date = DATE '2024-05-02'") == []
    assert read_gross_revenue(module_home, "tiny", "2024-05-02") is None


def test_unreadable_file_fails_without_writes(
    module_home: DaybookHome, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_tiny_landing(module_home.path, "2024-05-03", ["10.00", "20.00"])
    file = module_home.path / "landing" / "2024-05-03.csv"
    file.write_bytes(file.read_bytes().replace(b"A2", b"\xc4pfel"))

    code, out, _ = run_command(monkeypatch, capsys, "run", "--env", "tiny", "--date", "2024-05-03")

    assert code == 1
    output = " ".join(out.split())
    failed = "ingest failed in cell 4 (attempt 1, not retried: the same input would fail again): FormatError"
    assert f"{failed}: {file}, line 3: byte 0xc4 is not utf-8;" in output
    assert module_home.engine("tiny").rows("SELECT count(*) FROM bronze.sales WHERE run_date = DATE '2024-05-03'") == [(0,)]
    assert read_gross_revenue(module_home, "tiny", "2024-05-01") == Decimal("10")
