"""Test ``daybook test``: it runs cases of SQL cells, and records cases."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.models import AttemptRecord
from daybook.settings import Settings, load_settings
from daybook.testing.case import Case, read_cases
from tests.cli.conftest import Call
from tests.lake.writing import replace_date
from tests.sample_records import attempt_record, run_record
from tests.sessions import Session, new_session
from tests.testing.small_shop import CASES, write_small_shop

FILE = "orders/2025-11-30/orders.csv"
RUN_ID = "daily-2025-11-30-1"


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """Return a file with a case that passes and one that fails."""
    path = tmp_path / "cases.yaml"
    path.write_text(CASES, encoding="utf-8")
    return path


@pytest.fixture
def quarantine(home: Path) -> Settings:
    """Return the settings of a lake with rows in quarantine: an unknown status, a late order, and an invalid email."""
    settings = load_settings("local")
    landed = {"customer_id": "C-0815", "ordered_at": "2025-11-30 10:00:00", "updated_at": "2025-11-30 11:00:00"}
    rows = [
        {"order_id": "DB-013258", "status": "SHIPD", **landed, "ship_city": "Graz", "_row_number": 7},
        {"order_id": "DB-013259", "status": "paid", **landed, "ordered_at": "gestern", "_row_number": 9},
        {"order_id": "DB-013260", "status": "99", **landed, "_row_number": 11},
    ]
    reasons = ["status is an accepted value", "ordered_at is a timestamp", "status is an accepted value"]
    table = pa.Table.from_pylist(
        [
            {"ship_city": None, **row, "_source_file": FILE, "_run_id": RUN_ID, "_reasons": each}
            for row, each in zip(rows, reasons)
        ]
    )
    replace_date(Lake(settings.lake, run_id=RUN_ID), "quarantine.orders", table, date(2025, 11, 30))
    return settings


def read_case(path: Path) -> Case:
    (case,) = read_cases(path)
    return case


def write_run(settings: Settings, stage: AttemptRecord) -> None:
    """Put a run on record that this stage rejected."""
    archive = Archive(settings.archive)
    assert archive.start_run(date(2025, 11, 30), {"env": settings.env}) == RUN_ID
    archive.write_run(run_record(RUN_ID, "REJECTED", stages=[stage]))


def test_cases_of_the_project_pass(call: Call) -> None:
    code, out, _ = call("test")
    assert code == 0
    assert out.startswith("✓ ")
    assert "passed" in out


def test_failing_case_is_shown_as_a_table(call: Call, cases: Path) -> None:
    code, out, _ = call("test", str(cases))
    assert code == 1
    assert "a wrong figure (gold.daily_sales)" in out
    assert "order_date=2025-11-30  orders  7         1" in out
    assert "1 case failed, 1 case passed." in out


def test_cases_are_chosen_by_name(call: Call, cases: Path) -> None:
    assert call("test", str(cases), "-k", "without orders")[:2] == (0, "✓ 1 case passed.\n")
    code, _, err = call("test", str(cases), "-k", "nothing")
    assert (code, err.strip()) == (2, "There is no case with 'nothing' in its name; write one.")


def test_results_are_printed_as_json(call: Call, cases: Path) -> None:
    code, out, _ = call("test", str(cases), "--json")
    found = json.loads(out)
    assert (code, found["schema_version"], found["passed"], found["failed"]) == (1, 1, 1, 1)
    failed = found["cases"][1]
    assert (failed["passed"], failed["name"], failed["reason"]) == (False, "a wrong figure", None)
    assert failed["differences"] == [{"row": "order_date=2025-11-30", "column": "orders", "expected": "7", "actual": "1"}]


def test_invalid_file_is_a_usage_error(call: Call, cases: Path) -> None:
    cases.write_text(CASES.replace("expect:", "expects:"), encoding="utf-8")
    code, _, err = call("test", str(cases))
    assert (code, "case 'a day without orders'" in err) == (2, True)
    assert call("test", str(cases.with_name("absent.yaml")))[0] == 2


def test_case_is_recorded_and_passes(call: Call, home: Path, tmp_path: Path) -> None:
    write_small_shop(load_settings("local"))
    path = tmp_path / "new" / "recorded.yaml"
    code, out, _ = call("test", "--record", "gold.daily_sales", "--date", "2025-11-30", "--rows", "5", "--to", str(path))
    assert code == 0
    assert "recorded.yaml: 1 case with 9 given rows. All cases pass." in out
    assert call("test", str(path))[0] == 0
    again = call("test", "--record", "gold.daily_sales", "--date", "2025-11-30", "--to", str(path))
    assert (again[0], "exists; name another file" in again[2]) == (2, True)


@pytest.mark.slow
def test_row_in_quarantine_becomes_a_case(call: Call, quarantine: Settings, tmp_path: Path) -> None:
    path = tmp_path / "row.yaml"
    assert call("test", "--from-quarantine", f"{FILE}:7", "--to", str(path))[0] == 0
    case = read_case(path)
    (row,) = case.given["landed.orders"]
    assert (case.table, case.expect) == ("rejected.orders", [{"_reasons": "status is an accepted value"}])
    assert (row["order_id"], row["status"], "ship_city" in row) == ("DB-000000", "SHIPD", False)
    assert "0815" not in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_rejected_run_becomes_a_case_for_each_reason(call: Call, quarantine: Settings, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    stage = attempt_record("validate", "REJECTED")
    write_run(quarantine, stage)
    assert call("test", "--from-run", RUN_ID, "--to", str(path))[0] == 0
    assert [each.name for each in read_cases(path)] == [
        "orders: ordered_at is a timestamp",
        "orders: status is an accepted value",
    ]


def test_run_rejected_for_gold_becomes_a_sample(call: Call, home: Path, tmp_path: Path) -> None:
    settings = load_settings("local")
    write_small_shop(settings)
    refused = {"about": "gold.daily_sales: net revenue is gross revenue less returns", "text": "1 row", "waivable": True}
    stage = attempt_record("quality", "REJECTED", details={"refused": [refused]})
    write_run(settings, stage)
    path = tmp_path / "run.yaml"
    assert call("test", "--from-run", RUN_ID, "--to", str(path))[0] == 0
    assert (read_case(path).table, read_case(path).name) == ("gold.daily_sales", "sample of 2025-11-30")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--record", "gold.daily_sales"], "--record needs the business date"),
        (["--record", "gold.daily_sales", "--from-run", RUN_ID], "Give one of --record, --from-quarantine and --from-run"),
        (["--date", "2025-11-30"], "--date, --to, --env and --set are for --record"),
        (["--env", "online_retail"], "a file of cases names its env"),
        (["--from-quarantine", f"{FILE}:8"], f"No row in quarantine is '{FILE}:8'"),
        (["--from-run", "daily-2025-11-30-2"], "daily-2025-11-30-2"),
    ],
)
def test_wrong_options_are_usage_errors(call: Call, quarantine: Settings, arguments: list[str], message: str) -> None:
    code, _, err = call("test", *arguments)
    assert (code, message in err) == (2, True)


@pytest.fixture
def session(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    with new_session() as opened:
        yield opened


@pytest.mark.slow
def test_day_of_online_retail_is_recorded(call: Call, session: Session, shared_data: Path, tmp_path: Path) -> None:
    landing = {"landing": str(shared_data / "online_retail")}
    assert session.run_day("2010-12-01", 1, landing, env="online_retail") == "SUCCEEDED"
    for table in ("gold.daily_sales", "gold.product_sales", "gold.customer_rfm", "gold.cohort_retention"):
        path = tmp_path / f"{table}.yaml"
        options = ["--env", "online_retail", "--date", "2010-12-01", "--to", str(path)]
        assert call("test", "--record", table, *options)[0] == 0
        case = read_case(path)
        assert (case.env, 0 < len(case.expect) <= 5) == ("online_retail", True)
        # Ids of the shop have five digits or more.
        assert not [text for row in case.given["silver.orders"] for text in [row.get("order_id", "")] if len(str(text)) > 3]
    statuses = {row["status"] for row in read_case(tmp_path / "gold.daily_sales.yaml").given["silver.orders"]}
    assert statuses == {"delivered", "cancelled", "adjustment"}
