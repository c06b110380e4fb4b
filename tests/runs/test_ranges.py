"""Test runs over ranges of dates by the command line, with real kernels: one set of stages for all dates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daybook.records.names import STAGES
from tests.runs.shop import (
    DaybookHome,
    add_tiny_shop,
    insert_into_last_cell,
    read_gross_revenue,
    run_command,
    write_tiny_landing,
)

pytestmark = pytest.mark.slow
DAYS = ["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"]
RANGE = "range-2026-01-01-2026-01-04-1"
FAULT = """
from daybook.records.names import list_dates
if until and len(list_dates(stage.run_date, stage.until)) > 2:
    raise MemoryError("too many dates")
"""


class Desk:
    """A command line with the corner shop."""

    def __init__(self, home: DaybookHome, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.home, self._monkeypatch, self._capsys = home, monkeypatch, capsys

    def __call__(self, command: str, *arguments: str) -> tuple[int, str, str]:
        return run_command(self._monkeypatch, self._capsys, command, *arguments, "--env", "tiny")

    def run_range(self) -> tuple[int, dict[str, Any]]:
        code, out, err = self("run", "--date", f"{DAYS[0]}..{DAYS[-1]}", "--json")
        assert out, err
        return code, json.loads(out)


@pytest.fixture
def desk(home: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    home.mkdir(exist_ok=True)
    add_tiny_shop(project)
    for number, day in enumerate(DAYS, 1):
        write_tiny_landing(home, day, [f"{number}.00"])
    return Desk(DaybookHome(home), monkeypatch, capsys)


def test_range_publishes_what_single_dates_publish(desk: Desk) -> None:
    code, record = desk.run_range()
    assert (code, record["run_id"], record["outcome"]) == (0, RANGE, "SUCCEEDED")
    assert [each["stage"] for each in record["stages"]] == list(STAGES)
    together = desk.home.content("tiny")
    for day in DAYS:
        assert desk("run", "--date", day)[0] == 0
    assert desk.home.content("tiny") == together


def test_corrupt_file_fails_its_date_only(desk: Desk) -> None:
    (file,) = (desk.home.path).rglob(f"*{DAYS[1]}*.csv")
    file.write_bytes(b"\x00broken")
    code, record = desk.run_range()
    assert code == 1
    outcomes = {day: each["outcome"] for day, each in record["dates"].items()}
    assert outcomes == {day: "FAILED" if day == DAYS[1] else "SUCCEEDED" for day in DAYS}
    assert [read_gross_revenue(desk.home, "tiny", day) is None for day in DAYS] == [False, True, False, False]


def test_failed_stage_is_repeated_by_halves(desk: Desk, project: Path) -> None:
    insert_into_last_cell(project / "notebooks" / "3_transform.ipynb", FAULT)
    code, record = desk.run_range()
    assert (code, record["outcome"]) == (0, "FAILED")
    assert record["halves"] == ["range-2026-01-01-2026-01-02-1", "range-2026-01-03-2026-01-04-1"]
    assert all(read_gross_revenue(desk.home, "tiny", day) is not None for day in DAYS)
