"""Test that runs after an approval or a release finish also if they are killed."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from tests.runs.shop import DaybookHome, read_gross_revenue, run_command, write_tiny_landing
from tests.runs.test_crashes import BETWEEN_MERGES, KERNEL, kill_in

pytestmark = pytest.mark.slow

DAY = "2024-08-01"
SIX_OF_NINE = ["1.00", "2.00", "3.00", *["n/a"] * 6]


@pytest.fixture(scope="module")
def refused(module_home: DaybookHome, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a run that was rejected, since two thirds of its rows have no price."""
    write_tiny_landing(module_home.path, DAY, SIX_OF_NINE)
    return f"daily-{DAY}-1"


def test_killed_approved_run_is_finished_by_the_next_attempt(
    module_home: DaybookHome,
    project: Path,
    refused: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, _ = run_command(monkeypatch, capsys, "run", "--env", "tiny", "--date", DAY)
    assert code == 3
    assert "sales: 6 of 9 rows (66.7%) are rejected, more than 5.0%" in out
    assert read_gross_revenue(module_home, "tiny", DAY) is None

    kill_in(project, "3_transform", tmp_path, day=DAY, times=1, kill=BETWEEN_MERGES.format(kill=KERNEL))
    options = ["--why", "prices follow tomorrow", "--by", "a steward", "--env", "tiny"]
    code, out, _ = run_command(monkeypatch, capsys, "approve", refused, *options)

    assert code == 0, out
    assert read_gross_revenue(module_home, "tiny", DAY) == Decimal(6)
    record = module_home.archive("tiny").run(f"daily-{DAY}-2")
    tried = [(each.stage, each.attempt, each.outcome) for each in record.stages]
    assert tried == [
        ("validate", 1, "SUCCEEDED"),
        ("transform", 1, "FAILED"),
        ("transform", 2, "SUCCEEDED"),
        ("aggregate", 1, "SUCCEEDED"),
        ("quality", 1, "SUCCEEDED"),
        ("notify", 1, "SUCCEEDED"),
    ]
    assert record.approval.to_json() == {
        "of": refused,
        "by": "a steward",
        "why": "prices follow tomorrow",
        "waived": ["sales: rejected share"],
    }
    message = record.stages[-1].details.message.body
    assert "approved by a steward (prices follow tomorrow): sales: 6 of 9 rows (66.7%) are rejected" in message

    code, _, err = run_command(monkeypatch, capsys, "approve", refused, *options)
    assert code == 2
    assert f"has been run again as daily-{DAY}-2, which ended as SUCCEEDED" in err


def test_killed_release_run_is_finished_by_the_next_attempt(
    module_home: DaybookHome, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kill_in(project, "3_transform", tmp_path, day=DAY, times=1, kill=BETWEEN_MERGES.format(kill=KERNEL))
    arguments = ["--date", DAY, "--rule", "price is a decimal", "--fix", "price=2.50", "--why", "the shop sent prices"]

    code, out, _ = run_command(monkeypatch, capsys, "quarantine", "release", "sales", *arguments, "--env", "tiny")

    assert code == 0, out
    assert "6 rows are released." in out
    assert read_gross_revenue(module_home, "tiny", DAY) == Decimal(6) + 6 * Decimal("2.50")
    record = module_home.archive("tiny").run(f"daily-{DAY}-3")
    assert record.outcome == "SUCCEEDED"
    assert record.stages[0].details.accounting["sales"].to_json() == {
        "landed": 9,
        "accepted": 9,
        "quarantined": 0,
        "duplicates": 0,
    }
    _, out, _ = run_command(monkeypatch, capsys, "quarantine", "list", "--env", "tiny")
    assert "No row is in quarantine." in out
