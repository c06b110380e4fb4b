"""`daybook cost`: the table, the JSON, a month, on an archive made by hand."""

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


def ran(archive: Archive, day: str, seconds: Optional[int] = 600, execution: str = ARN) -> str:
    """A closed run whose ingest took so many seconds; without a cost on record for None."""
    run_id = archive.start_run(date.fromisoformat(day), {"env": "local"})
    use = ExecutionUsage([JobUsage("ingest", 1, seconds or 0)], 40, execution)
    cost: Any = None if seconds is None else calculate_cost(use, [], load_prices("us-east-1"))
    archive.write_run(run_record(run_id, cost=cost))
    return run_id


def test_a_month_is_summed_by_date_and_part(archive: Archive, call: Call) -> None:
    for day in ("2025-10-31", "2025-11-01", "2025-11-01", "2025-11-02", "2025-12-01"):
        ran(archive, day)
    code, out, _ = call("cost", "--month", "2025-11")
    assert code == 0
    assert [line.split() for line in out.splitlines()[:4]] == [
        ["date", "ingest", "states", "total"],
        ["2025-11-01", "0.00917", "0.00200", "0.01117"],
        ["2025-11-02", "0.00458", "0.00100", "0.00558"],
        ["all", "0.01375", "0.00300", "0.01675"],
    ]
    assert "3 runs cost 0.01675 USD at the prices of us-east-1 as of 2026-06-30.\nNot counted: requests to S3.\n" in out


def test_json_has_decimals_as_texts_that_add_up(archive: Archive, call: Call) -> None:
    for day in ("2025-11-01", "2025-11-02"):
        ran(archive, day)
    without = ran(archive, "2025-11-02", None)
    told = json.loads(call("cost", "--month", "2025-11", "--json")[1])
    assert (told["month"], told["runs"]) == ("2025-11", 3)
    (found,) = told["sums"]
    assert (found["currency"], found["runs"], found["runs_without_cost"]) == ("USD", 2, [without])
    assert Decimal(found["total"]) == sum(map(Decimal, found["by_stage"].values())) == Decimal("0.01116666")
    assert found["by_date"]["2025-11-01"] == {"ingest": "0.00458333", "states": "0.00100000"}


def test_an_estimate_is_said_to_be_one(archive: Archive, call: Call) -> None:
    ran(archive, "2025-11-01", execution="")
    assert "It is an estimate: what they would cost on AWS, had they taken as long there." in call("cost")[1]
    ran(archive, "2025-11-02")
    assert "Some of it is an estimate." in call("cost")[1]


def test_runs_without_a_cost_are_named_and_not_taken_for_free(archive: Archive, call: Call) -> None:
    names = [ran(archive, f"2025-11-0{number}", None) for number in range(1, 8)]
    code, out, _ = call("cost")
    assert (code, out) == (0, f"Without a cost on record: {', '.join(names[:5])} and 2 more.\n")


def test_a_month_without_runs_says_so(archive: Archive, call: Call) -> None:
    ran(archive, "2025-11-01")
    assert call("cost", "--month", "2025-12")[:2] == (
        0,
        "There are no runs of 2025-12; `daybook runs` lists those there are.\n",
    )


@pytest.mark.parametrize("month", ["2025", "2025-13", "2025-1", "november"])
def test_what_is_no_month_is_refused(call: Call, home: Path, month: str) -> None:
    code, _, err = call("cost", "--month", month)
    assert (code, err) == (2, f"--month {month} is not a month; write it as YYYY-MM, for example 2026-11.\n")
