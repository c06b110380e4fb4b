"""Test that the order of dates in a backfill changes neither tables nor anomalies."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from daybook.execution.tasks import find_unusual_days
from daybook.records.models import DateOutcome
from daybook.scheduling.backfills import read_backfills
from daybook.settings import load_settings
from tests.runs.content import hash_tables
from tests.runs.published import publish_days
from tests.runs.shop import DaybookHome, run_command

pytestmark = pytest.mark.slow

DAYS = [date(2024, 5, 28) + timedelta(days=number) for number in range(4)]
PRICES = {DAYS[0]: "100.00", DAYS[1]: "102.00", DAYS[2]: "20.00", DAYS[3]: "101.00"}
"""Amount of the one order of each day. The third is a fifth of the usual amount."""


def land(folder: Path) -> None:
    """Write the days' files. The last one repeats the first day's order with a higher price."""
    folder.mkdir(parents=True)
    for day in DAYS:
        rows = [(day, PRICES[day])] + ([(DAYS[0], "103.00")] if day == DAYS[-1] else [])
        with (folder / f"{day}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["till_no", "line", "at", "article", "pieces", "price", "card"])
            writer.writerows([of, 1, f"{of} 10:00:00", "A1", 1, price, f"card-{of.day % 2}"] for of, price in rows)


@pytest.fixture
def outcome_of(tmp_path: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Return a function that runs commands in a home with four weeks of history, and returns table digests and anomalies."""
    key = tmp_path / "pii.key"

    def make(name: str, *commands: Iterable[str]) -> tuple[dict[str, str], list[dict[str, Any]]]:
        home = DaybookHome(tmp_path / name)
        monkeypatch.setenv("DAYBOOK_HOME", str(home.path))
        land(home.path / "landing")
        settings = load_settings("tiny")
        publish_days(settings, {DAYS[0] - timedelta(days=back): 100 + back % 3 for back in range(1, 29)}, orders=1)
        for command in commands:
            code, out, err = run_command(monkeypatch, capsys, *command, "--env", "tiny", "--set", f"pii_key={key}")
            assert code == 0, out + err
        archive = home.archive("tiny")
        anomalies = [each.unusual_days for each in read_backfills(archive)]
        published = [DateOutcome(run_date=each, run_id=archive.run_ids(each)[-1], outcome="SUCCEEDED") for each in DAYS]
        found = find_unusual_days(settings, published)
        assert all(each == found for each in anomalies)
        return hash_tables(home.engine("tiny")), found

    return make


@pytest.mark.timeout(1200)
def test_order_of_dates_does_not_change_the_result(outcome_of: Any) -> None:
    backfill = ["backfill", str(DAYS[0]), str(DAYS[-1]), "--yes", "--parallel"]
    tables, unusual = outcome_of("parallel", [*backfill, "4", "--chunk", "day"])
    assert len(tables) > 10
    # Only the third day, in each of its figures.
    assert {each.run_date for each in unusual} == {DAYS[2]}

    last_first = [["run", "--date", str(DAYS[-1])], [*backfill, "1"]]
    assert outcome_of("last first", *last_first) == (tables, unusual)
