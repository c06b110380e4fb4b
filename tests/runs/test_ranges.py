"""Test runs over ranges of dates by the command line, with real kernels: one set of stages for all dates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.records.names import STAGES
from demo_shop import generate
from tests.runs.content import hash_tables
from tests.runs.shop import (
    DaybookHome,
    add_tiny_shop,
    insert_into_last_cell,
    read_gross_revenue,
    run_command,
    write_tiny_landing,
)
from tests.sessions import new_session

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


def test_any_cut_of_demo_dates_gives_the_same_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generate(tmp_path / "landing", days=6, orders_per_day=40)
    days = [f"2025-11-{number}" for number in range(25, 31)]
    found = []
    for number, cut in enumerate(([days], [days[2:], days[:2]], [[day] for day in days])):
        overrides = {"landing": str(tmp_path / "landing"), "pii_key": str(tmp_path / "pii.key")}
        overrides.update({name: str(tmp_path / f"{number}" / name) for name in ("lake", "archive")})
        monkeypatch.setattr(stages, "current", None)
        with new_session() as session:
            for part in cut:
                if len(part) == 1:
                    assert session.run_day(part[0], 1, overrides) == "SUCCEEDED"
                else:
                    assert session.run_range(part[0], part[-1], 1, overrides) == "SUCCEEDED"
        found.append(hash_tables(DuckDBEngine(Lake(overrides["lake"]), "Europe/Berlin")))
    assert len(found[0]) == 13
    assert found[0] == found[1] == found[2]
