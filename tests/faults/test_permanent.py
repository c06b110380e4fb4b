"""Test that a permanent failure has one attempt and a fault four, and that both runs can be resumed."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.runs.shop import (
    DaybookHome,
    add_tiny_shop,
    copy_project,
    insert_into_last_cell,
    read_gross_revenue,
    run_command,
    write_tiny_landing,
)

pytestmark = pytest.mark.slow
DAY, RUN = "2024-05-02", "daily-2024-05-02-1"
NOT_RETRIED = "not retried: the same input would fail again"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with the corner shop as deployment ``tiny``, which requires its file every day."""
    project = copy_project(tmp_path / "project")
    add_tiny_shop(project)
    source = project / "params" / "sources" / "tiny.yaml"
    source.write_text(source.read_text().replace("missing: skip", "missing: fail"))
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))
    return project


@pytest.fixture
def shop(home: Path) -> DaybookHome:
    """Return the home of the shop with the file of another day."""
    home.mkdir()
    write_tiny_landing(home, "2024-05-01", ["1.00"])
    return DaybookHome(home)


def tried(shop: DaybookHome) -> list[tuple[str, int, str, bool]]:
    attempts = shop.archive("tiny").attempts(RUN)
    return [(each.stage, each.attempt, each.outcome, each.permanent) for each in attempts]


def test_missing_file_is_not_retried_and_run_resumes(
    shop: DaybookHome, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = shop.path / "landing" / f"{DAY}.csv"
    code, out, err = run_command(monkeypatch, capsys, "run", "--env", "tiny", "--date", DAY)

    assert (code, err) == (1, "")
    reason = (
        f"MissingFileError: {file} does not exist; deliver it, then run {DAY} again, or, if a date may come without it, set "
        "`missing: empty` (`missing: skip` if the shop is closed then) for sales in params/sources/tiny.yaml."
    )
    assert f"ingest failed in cell 4 (attempt 1, {NOT_RETRIED}): {reason}" in out
    assert "   not retried\n" in out
    assert f"`daybook resume --env tiny {RUN}`" in out
    assert tried(shop) == [("ingest", 1, "FAILED", True), ("notify", 1, "SUCCEEDED", False)]
    archive = shop.archive("tiny")
    record = archive.run(RUN)
    assert (record.outcome, record.state) == ("FAILED", "closed")
    message = record.stages[-1].details.message
    assert message.subject == f"Daybook tiny: {DAY} FAILED in ingest"
    assert reason in message.body and f"daybook resume {RUN} --env tiny" in message.body
    history = archive.history(RUN)
    assert [each["type"] for each in history if each["type"] in ("TaskFailed", "ExecutionFailed")] == ["ExecutionFailed"]
    assert json.loads(archive.store.read(f"outcomes/{RUN}/ingest.json"))["permanent"] is True

    code, out, _ = run_command(monkeypatch, capsys, "show", RUN, "--env", "tiny")
    assert (code, NOT_RETRIED in out) == (0, True)
    assert run_command(monkeypatch, capsys, "report", "--env", "tiny")[0] == 0
    assert "Not retried: the same input would fail again." in (shop.path / "report" / "runs" / f"{RUN}.html").read_text()
    (gap,) = json.loads(run_command(monkeypatch, capsys, "gaps", "--env", "tiny", "--since", DAY, "--until", DAY, "--json")[1])[
        "gaps"
    ]
    assert (gap["reason"], gap["newest_run"]) == ("failed", RUN)

    write_tiny_landing(shop.path, DAY, ["2.00", "3.50"])
    code, out, _ = run_command(monkeypatch, capsys, "resume", RUN, "--env", "tiny")

    assert code == 0, out
    assert read_gross_revenue(shop, "tiny", DAY) == Decimal("5.5")
    assert tried(shop)[:3] == [
        ("ingest", 1, "FAILED", True),
        ("ingest", 2, "SUCCEEDED", False),
        ("validate", 1, "SUCCEEDED", False),
    ]
    assert archive.run(RUN).outcome == "SUCCEEDED"


FAULT = "raise RuntimeError('a fault')"
KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


@pytest.mark.parametrize(("code", "said"), [(FAULT, "RuntimeError: a fault"), (KILLED, "the kernel died in this cell")])
def test_fault_is_tried_four_times(shop: DaybookHome, project: Path, code: str, said: str) -> None:
    write_tiny_landing(shop.path, DAY, ["2.00"])
    insert_into_last_cell(project / "notebooks" / "1_ingest.ipynb", code)
    _, record = shop.run("tiny", DAY)
    assert tried(shop) == [*(("ingest", number, "FAILED", False) for number in (1, 2, 3, 4)), ("notify", 1, "SUCCEEDED", False)]
    assert record.outcome == "FAILED"
    assert said in record.reasons[0]
    assert "not retried" not in record.reasons[0]


def test_broken_contract_is_not_retried(shop: DaybookHome, project: Path) -> None:
    write_tiny_landing(shop.path, DAY, ["2.00"])
    broken = "from daybook.errors import ContractError\nraise ContractError('orders.yaml: a rule cannot be run; correct it.')"
    insert_into_last_cell(project / "notebooks" / "2_validate.ipynb", broken)
    _, record = shop.run("tiny", DAY)
    assert tried(shop)[1:] == [("validate", 1, "FAILED", True), ("notify", 1, "SUCCEEDED", False)]
    assert "orders.yaml: a rule cannot be run" in record.stages[-1].details.message.body
