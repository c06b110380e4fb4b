"""Test the table, the JSON and the month of ``daybook cost`` on an archive with made-up records."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from daybook.records.archive import Archive
from daybook.records.cost import ExecutionUsage, JobUsage, calculate_cost, load_prices
from daybook.settings import load_settings
from tests.sample_records import run_record

Call = Callable[..., tuple[int, str, str]]
ARN = "arn:aws:states:us-east-1:123456789012:execution:daybook-prod-daily:x"


@pytest.fixture
def archive(home: Path) -> Archive:
    return Archive(load_settings("local").archive)


def add_run(archive: Archive, day: str, seconds: Optional[int] = 600, execution: str = ARN) -> str:
    """Add a closed run whose ingest took ``seconds``; without a cost if None."""
    run_id = archive.start_run(date.fromisoformat(day), {"env": "local"})
    use = ExecutionUsage([JobUsage("ingest", 1, seconds or 0)], 40, execution)
    cost: Any = None if seconds is None else calculate_cost(use, [], load_prices("us-east-1"))
    archive.write_run(run_record(run_id, cost=cost))
    return run_id


def test_month_is_summed_by_date_and_part(archive: Archive, call: Call) -> None:
    for day in ("2025-10-31", "2025-11-01", "2025-11-01", "2025-11-02", "2025-12-01"):
        add_run(archive, day)
    code, out, _ = call("cost", "--month", "2025-11")
    assert code == 0
    assert [line.split() for line in out.splitlines()[:4]] == [
        ["date", "ingest", "states", "total"],
        ["2025-11-01", "0.00917", "0.00200", "0.01117"],
        ["2025-11-02", "0.00458", "0.00100", "0.00558"],
        ["all", "0.01375", "0.00300", "0.01675"],
    ]
    assert "3 runs cost 0.01675 USD at the prices of us-east-1 as of 2026-06-30.\nNot counted: requests to S3.\n" in out


def test_json_has_decimals_as_text_that_add_up(archive: Archive, call: Call) -> None:
    for day in ("2025-11-01", "2025-11-02"):
        add_run(archive, day)
    without = add_run(archive, "2025-11-02", None)
    printed = json.loads(call("cost", "--month", "2025-11", "--json")[1])
    assert (printed["month"], printed["runs"]) == ("2025-11", 3)
    (found,) = printed["sums"]
    assert (found["currency"], found["runs"], found["runs_without_cost"]) == ("USD", 2, [without])
    assert Decimal(found["total"]) == sum(map(Decimal, found["by_stage"].values())) == Decimal("0.01116666")
    assert found["by_date"]["2025-11-01"] == {"ingest": "0.00458333", "states": "0.00100000"}


def test_estimates_are_marked(archive: Archive, call: Call) -> None:
    add_run(archive, "2025-11-01", execution="")
    assert "It is an estimate of what they would cost on AWS if they took the same time there." in call("cost")[1]
    add_run(archive, "2025-11-02")
    assert "A part of it is an estimate." in call("cost")[1]


def test_runs_without_a_cost_are_listed(archive: Archive, call: Call) -> None:
    names = [add_run(archive, f"2025-11-0{number}", None) for number in range(1, 8)]
    code, out, _ = call("cost")
    assert (code, out) == (0, f"Without a cost on record: {', '.join(names[:5])} and 2 more.\n")


def test_month_without_runs_is_reported(archive: Archive, call: Call) -> None:
    add_run(archive, "2025-11-01")
    assert call("cost", "--month", "2025-12")[:2] == (
        0,
        "No run of 2025-12 exists; `daybook runs` lists all runs.\n",
    )


@pytest.mark.parametrize("month", ["2025", "2025-13", "2025-1", "november"])
def test_invalid_month_is_refused(call: Call, home: Path, month: str) -> None:
    code, _, err = call("cost", "--month", month)
    assert (code, err) == (2, f"--month {month} is not a month; write it as YYYY-MM, for example 2026-11.\n")
