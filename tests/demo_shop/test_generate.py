"""Test that ``generate`` is deterministic and replaces landing folders atomically."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from daybook.errors import UsageError
from demo_shop import COLUMNS, files, generate

SMALL = {"last_day": date(2025, 11, 25), "days": 3, "orders_per_day": 30}


def digest(landing: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(landing.rglob("*")):
        if path.is_file():
            digest.update(str(path.relative_to(landing)).encode() + path.read_bytes())
    return digest.hexdigest()


def test_same_seed_gives_same_bytes_in_another_process(tmp_path):
    generate(tmp_path / "here", **SMALL)
    script = (
        "import sys; from datetime import date; from pathlib import Path; from demo_shop import generate; "
        "generate(Path(sys.argv[1]), last_day=date(2025, 11, 25), days=3, orders_per_day=30)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "there")], check=True, env=environment)
    assert digest(tmp_path / "here") == digest(tmp_path / "there")


def test_another_seed_gives_another_shop(tmp_path):
    generate(tmp_path / "seven", **SMALL)
    generate(tmp_path / "eight", seed=8, **SMALL)
    assert digest(tmp_path / "seven") != digest(tmp_path / "eight")


def test_writes_one_file_per_entity_and_day(tmp_path):
    summary = generate(tmp_path / "landing", **SMALL)
    found = {str(path.relative_to(tmp_path / "landing")) for path in (tmp_path / "landing").rglob("*.csv")}
    assert summary.days == [date(2025, 11, 23), date(2025, 11, 24), date(2025, 11, 25)]
    assert found == {f"{entity}/{day}/{entity}.csv" for entity in COLUMNS for day in summary.days}
    assert [path.name for path in tmp_path.iterdir()] == ["landing"], "the temporary folder must be removed"


def test_existing_shop_is_kept_and_its_summary_read(tmp_path):
    first = generate(tmp_path / "landing", **SMALL)
    orders = tmp_path / "landing/orders/2025-11-25/orders.csv"
    orders.write_text("touched")
    assert generate(tmp_path / "landing", **SMALL) == first
    assert orders.read_text() == "touched"


def test_force_writes_the_shop_again(tmp_path):
    generate(tmp_path / "landing", **SMALL)
    before = digest(tmp_path / "landing")
    (tmp_path / "landing/orders/2025-11-25/orders.csv").write_text("touched")
    generate(tmp_path / "landing", force=True, **SMALL)
    assert digest(tmp_path / "landing") == before


def test_other_arguments_replace_the_whole_folder(tmp_path):
    generate(tmp_path / "landing", **SMALL)
    generate(tmp_path / "landing", **{**SMALL, "days": 1})
    assert [path.name for path in (tmp_path / "landing/orders").iterdir()] == ["2025-11-25"]


@pytest.mark.parametrize("force", [False, True])
def test_foreign_files_are_never_replaced(tmp_path, force):
    (tmp_path / "orders.csv").write_text("mine")
    with pytest.raises(UsageError, match=r"is not empty and has no readable \.demo\.json"):
        generate(tmp_path, force=force, **SMALL)
    assert (tmp_path / "orders.csv").read_text() == "mine"


def test_write_error_keeps_old_shop_and_no_leftovers(tmp_path, monkeypatch):
    generate(tmp_path / "landing", **SMALL)
    before = digest(tmp_path / "landing")

    def fail(*_arguments):
        raise OSError("disk full")

    monkeypatch.setattr(files, "write_stamp", fail)
    with pytest.raises(OSError, match="disk full"):
        generate(tmp_path / "landing", seed=8, **SMALL)
    assert digest(tmp_path / "landing") == before
    assert [path.name for path in tmp_path.iterdir()] == ["landing"]


def test_failed_swap_restores_the_old_shop(tmp_path, monkeypatch):
    generate(tmp_path / "landing", **SMALL)
    before = digest(tmp_path / "landing")
    rename = Path.rename

    def fail_for_fresh(self, target):
        if self.name == "fresh":
            raise OSError("no rename")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_fresh)
    with pytest.raises(OSError, match="no rename"):
        generate(tmp_path / "landing", seed=8, **SMALL)
    assert digest(tmp_path / "landing") == before


@pytest.mark.parametrize("wrong", [{"days": 0}, {"orders_per_day": 0}])
def test_zero_days_or_orders_are_refused(tmp_path, wrong):
    with pytest.raises(UsageError, match="set each to at least 1"):
        generate(tmp_path / "landing", **{**SMALL, **wrong})
    assert not (tmp_path / "landing").exists()
