"""Test that commands show runs over ranges and their dates, on archives that the tests write."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from daybook.execution.runner import AllocateRun, RunDisplay
from daybook.records.archive import Archive
from daybook.records.models import RunRecord
from daybook.settings import DateRange, load_settings
from tests.cli.conftest import Call
from tests.range_records import close_range
from tests.sample_records import run_record

FIRST, LAST = date(2025, 11, 1), date(2025, 11, 3)
RANGE = "range-2025-11-01-2025-11-03-1"
COST = {
    "basis": "estimated",
    "currency": "USD",
    "prices": {"region": "us-east-1", "as_of": "2026-06-30"},
    "jobs": [{"stage": "ingest", "seconds": 60, "dpu": "0.0625", "amount": "0.00100000"}],
    "total": "0.00100000",
}


@pytest.fixture
def archive(home: Path) -> Archive:
    found = Archive(load_settings("local").archive)
    found.start_range(FIRST, LAST, {"env": "local"})
    close_range(found, RANGE, {"2025-11-02": ("validate", "REJECTED")}, cost=COST, env="local", title="Demo shop")
    return found


def test_range_is_one_line_of_the_list_of_runs(archive: Archive, call: Call) -> None:
    run_id = archive.start_run(LAST + timedelta(days=1), {})
    archive.write_run(run_record(run_id, started_at="2025-12-01T03:00:00.000Z", seconds=1.0))
    code, out, _ = call("runs")
    lines = [line.split() for line in out.splitlines()]
    assert (code, [line[0] for line in lines]) == (0, ["run", run_id, RANGE])
    assert lines[2][1:6] == ["1", "rejected,", "2", "succeeded", "REJECTED"]


def test_json_of_runs_has_ranges_and_date_runs(archive: Archive, call: Call) -> None:
    found = {each["run_id"]: each for each in json.loads(call("runs", "--json")[1])}
    assert list(found) == [RANGE, *(f"daily-2025-11-0{number}-2" for number in (3, 2, 1))]
    assert found[RANGE]["until"] == "2025-11-03"
    assert found[RANGE]["dates"]["2025-11-02"] == {"run_id": "daily-2025-11-02-2", "outcome": "REJECTED"}
    assert found["daily-2025-11-02-2"]["range_id"] == RANGE
    assert found["daily-2025-11-01-2"]["summary"] == {"orders": 3}


def test_range_is_shown_with_its_dates(archive: Archive, call: Call) -> None:
    code, out, _ = call("show", RANGE)
    assert code == 0
    assert f"REJECTED {RANGE}, business dates 2025-11-01 to 2025-11-03" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["2025-11-01", "daily-2025-11-01-2", "SUCCEEDED", "3"] in lines
    (rejected,) = [line for line in out.splitlines() if "daily-2025-11-02-2" in line]
    assert rejected.rstrip().split(maxsplit=3) == [
        "2025-11-02",
        "daily-2025-11-02-2",
        "REJECTED",
        "validate came to REJECTED for 2025-11-02",
    ]
    assert f"Files: {archive.store.href(f'ranges/{RANGE}')}" in out
    assert json.loads(call("show", RANGE, "--json")[1])["until"] == "2025-11-03"


def test_date_run_is_shown_with_its_range(archive: Archive, call: Call) -> None:
    _, out, _ = call("show", "daily-2025-11-02-2")
    assert f"REJECTED daily-2025-11-02-2, business date 2025-11-02, the date run of {RANGE}" in out
    assert "This run published nothing; no earlier run of its date did." in out
    assert f"Files: {archive.store.href(f'ranges/{RANGE}')}" in out


def test_running_or_lost_range_is_listed(archive: Archive, call: Call) -> None:
    archive.start_range(date(2025, 11, 5), date(2025, 11, 6), {})
    _, out, _ = call("runs")
    assert out.splitlines()[1].split()[:4] == ["range-2025-11-05-2025-11-06-1", "2", "failed", "FAILED"]


def test_cost_of_a_range_is_that_of_its_dates(archive: Archive, call: Call) -> None:
    (found,) = json.loads(call("cost", "--json")[1])["sums"]
    assert (found["total"], found["runs"], list(found["by_date"])) == (
        "0.00100000",
        3,
        ["2025-11-01", "2025-11-02", "2025-11-03"],
    )


def test_cost_of_ranges_is_compared_with_a_run_for_each_date(archive: Archive, call: Call) -> None:
    found = json.loads(call("cost", "--json")[1])["ranges"]
    assert (found["dates"], found["total"], found["currency"]) == (3, "0.00100000", "USD")
    assert 0.007 < float(found["as_single_runs"]) < 0.01
    _, out, _ = call("cost")
    assert "3 dates of ranges cost 0.00100 USD; a run for each would have cost at least 0.0" in out


def test_report_has_pages_of_a_range_and_its_dates(archive: Archive, call: Call) -> None:
    code, out, _ = call("report")
    runs = Path(out.strip()).parent / "runs"
    assert code == 0
    page = (runs / f"{RANGE}.html").read_text()
    assert '<a href="daily-2025-11-02-2.html">daily-2025-11-02-2</a>' in page
    assert "validate came to REJECTED for 2025-11-02" in page
    date_page = (runs / "daily-2025-11-01-2.html").read_text()
    assert f'<a href="{RANGE}.html">{RANGE}</a>' in date_page
    for text in (page, date_page):
        links = [each.split('"')[0] for each in text.split('href="')[1:]]
        archived = [each for each in links if each.endswith((".ipynb", ".json", ".html")) and "archive" in each]
        assert archived
        assert all((runs / each).resolve().is_file() for each in archived), archived


# Running a range


class FakeRunner:
    """A runner whose run of a range ends as ``ends`` tells, without a state machine."""

    ends_with_command = True

    def __init__(self, archive: Archive, ends: dict[str, tuple[str, str]], **more: Any) -> None:
        self.archive, self.ends, self.more = archive, ends, more
        self.asked: list[DateRange] = []

    def require_ready(self) -> None:
        pass

    def run(self, dates: DateRange, allocate: AllocateRun, display: RunDisplay, *, follow: bool = True) -> RunRecord:
        self.asked.append(dates)
        start = allocate()
        with display(start.run_id):
            close_range(self.archive, start.run_id, self.ends, **self.more)
        return self.archive.run(start.run_id)


@pytest.fixture
def runner(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    found = FakeRunner(archive, {})
    monkeypatch.setattr("daybook.cli.runs.load_runner", lambda *_, **__: (load_settings("local"), found))
    monkeypatch.setattr("daybook.cli.runs.write_report", lambda settings: Path("report/index.html"))
    return found


@pytest.mark.parametrize("outcome, code", [("SUCCEEDED", 0), ("SKIPPED", 0), ("REJECTED", 3), ("FAILED", 1)])
def test_exit_code_is_that_of_the_worst_date(runner: FakeRunner, call: Call, outcome: str, code: int) -> None:
    runner.ends = {"2025-11-02": ("validate", outcome)}
    assert call("run", "--date", "2025-11-01..2025-11-03")[0] == code
    assert runner.asked == [DateRange(FIRST, LAST)]


def test_each_date_of_a_range_has_a_line(runner: FakeRunner, call: Call) -> None:
    runner.ends = {"2025-11-02": ("validate", "REJECTED")}
    _, out, _ = call("run", "--date", "2025-11-01..2025-11-03")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "Demo shop range-2025-11-01-2025-11-03-2" in lines
    assert "date run outcome orders reason" in lines
    assert "2025-11-01 daily-2025-11-01-3 SUCCEEDED 3" in lines
    assert "2025-11-02 daily-2025-11-02-3 REJECTED validate came to REJECTED for 2025-11-02" in lines


def test_json_of_a_range_has_its_dates(runner: FakeRunner, call: Call) -> None:
    _, out, _ = call("run", "--date", "2025-11-01..2025-11-03", "--json")
    record = json.loads(out)
    assert (record["run_id"], record["until"]) == ("range-2025-11-01-2025-11-03-2", "2025-11-03")
    assert record["dates"]["2025-11-02"] == {"run_id": "daily-2025-11-02-3", "outcome": "SUCCEEDED"}


def test_halves_decide_the_exit_code_of_a_failed_range(runner: FakeRunner, call: Call, archive: Archive) -> None:
    halves = [archive.start_range(FIRST, FIRST + timedelta(days=1), {}), archive.start_run(LAST, {})]
    close_range(archive, halves[0])
    archive.write_run(run_record(halves[1], started_at="2025-12-01T03:00:00.000Z", seconds=1.0))
    runner.more = {"outcome": "FAILED", "halves": halves}
    code, out, _ = call("run", "--date", "2025-11-01..2025-11-03")
    assert f"Its halves: {', '.join(halves)}" in out
    assert halves[1] in out.split("outcome")[-1]
    assert code == 0


@pytest.mark.parametrize(
    "text, message",
    [
        ("2025-11-03..2025-11-01", "The last date 2025-11-01 is before the first, 2025-11-03; give the earlier date first."),
        ("2025-11-03..", "'' is not a business date; write it as YYYY-MM-DD, for example 2025-11-30."),
        ("2024-01-01..2025-11-01", "`daybook backfill 2024-01-01 2025-11-01` runs them in several runs."),
    ],
)
def test_invalid_range_is_refused(runner: FakeRunner, call: Call, text: str, message: str) -> None:
    code, _, err = call("run", "--date", text)
    assert (code, message in " ".join(err.split())) == (2, True), err
    assert runner.asked == []
