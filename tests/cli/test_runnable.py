"""Test that an invalid deployment is refused before a run id is taken."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from daybook.cli import main
from tests.conftest import Project

BROKEN = {
    "contract": ("params/contracts/silver/orders.yaml", "kind: DataContract", "kind: ["),
    "landing contract": ("params/contracts/landing/demo.yaml", "logicalType: timestamp", "logicalType: moment"),
    "source": ("params/sources/demo.yaml", "quantity: quantity", "pieces: quantity"),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("command", [("run", "--date", "2025-11-30"), ("backfill", "2025-11-29", "2025-11-30", "--yes")])
def test_broken_deployment_starts_nothing(
    project: Project,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    broken: str,
    command: tuple[str, ...],
) -> None:
    file, old, new = BROKEN[broken]
    project.replace(file, old, new)
    monkeypatch.setattr(sys, "argv", ["daybook", *command])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert Path(file).name in capsys.readouterr().err
    assert not (home / "archive").exists()


def test_unknown_source_starts_nothing(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["daybook", "run", "--date", "2025-11-30", "--set", "source=nosuch"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "There is no params/sources/nosuch.yaml" in capsys.readouterr().err
    assert not (home / "archive").exists()
