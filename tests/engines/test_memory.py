"""Test the memory limit of a process and the engine's share of it."""

from __future__ import annotations

import gc
import os
import resource
import subprocess
import sys
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest

from daybook.engines import DuckDBEngine, memory
from daybook.engines.memory import memory_limit, open_database
from daybook.lake.tables import Lake
from tests.lake.writing import replace_date

MIB = 1 << 20


@pytest.fixture(autouse=True)
def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def write(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_least_limit_of_nested_groups_applies(tmp_path: Path) -> None:
    groups = write(tmp_path / "cgroup", "0::/jobs/one\n")
    write(tmp_path / "root" / "jobs" / "memory.max", f"{512 * MIB}\n")
    write(tmp_path / "root" / "jobs" / "one" / "memory.max", "max\n")
    assert memory_limit(groups, tmp_path / "root") == 512 * MIB


def test_top_group_applies_if_the_path_is_hidden(tmp_path: Path) -> None:
    groups = write(tmp_path / "cgroup", "0::/docker/0123\n")
    write(tmp_path / "root" / "memory.max", f"{1024 * MIB}\n")
    assert memory_limit(groups, tmp_path / "root") == 1024 * MIB


def test_groups_of_version_1_are_read(tmp_path: Path) -> None:
    groups = write(tmp_path / "cgroup", "5:cpu:/x\n4:memory:/x\n0::/\n")
    file = write(tmp_path / "root" / "memory" / "x" / "memory.limit_in_bytes", "9223372036854771712\n")
    assert memory_limit(groups, tmp_path / "root") is None
    file.write_text(f"{700 * MIB}\n")
    assert memory_limit(groups, tmp_path / "root") == 700 * MIB


def test_no_limit_without_groups_and_ulimits(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "no", tmp_path / "nowhere") is None


def test_ulimit_applies(tmp_path: Path) -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_DATA, (3 << 30, 3 << 30))\n"
        "from daybook.engines.memory import memory_limit; print(memory_limit())"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert int(done.stdout) <= 3 << 30


@pytest.mark.parametrize(
    ("limit", "wanted"), [(1400 * MIB, "400.0 MiB"), (100 * MIB, "128.0 MiB")], ids=["its share", "never less than it needs"]
)
def test_engine_takes_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int, wanted: str) -> None:
    monkeypatch.setattr(memory, "memory_limit", lambda: limit)
    engine = DuckDBEngine(Lake(str(tmp_path / "lake")), "UTC", spill=tmp_path)
    assert engine.fetch_row("SELECT current_setting('memory_limit')") == (wanted,)
    assert engine.fetch_row("SELECT current_setting('threads')")[0] == (
        1 if wanted == "128.0 MiB" else min(3, os.cpu_count() or 1)
    )


def test_limited_process_reads_tables_sequentially(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake(str(tmp_path / "lake"), run_id="daily-2025-11-30-1")
    rows = pa.table({"key": pa.array(range(100_000), pa.int64()), "text": pa.array(["a", None] * 50_000, pa.string())})
    for day in (29, 30):
        replace_date(lake, "bronze.things", rows, date(2025, 11, day))
    asked = (
        "SELECT run_date, count(*), count(text), sum(key) FROM bronze.things "
        "WHERE key >= 10 AND run_date > $$2025-11-29$$ GROUP BY 1"
    )
    free = DuckDBEngine(lake, "UTC", spill=tmp_path).rows(asked)
    monkeypatch.setattr(memory, "memory_limit", lambda: 1400 * MIB)
    monkeypatch.setattr("daybook.engines.duckdb.memory_limit", lambda: 1400 * MIB)
    limited = DuckDBEngine(lake, "UTC", spill=tmp_path)
    assert limited.rows(asked) == free == [(date(2025, 11, 30), 99_990, 49_995, sum(range(10, 100_000)))]
    assert limited.fetch_row("SELECT count(*) FROM bronze.things") == (200_000,)


def test_database_removes_its_folder() -> None:
    database = open_database()
    ((folder,),) = database.execute("SELECT current_setting('temp_directory')").fetchall()
    assert Path(folder).stat().st_mode & 0o077 == 0
    del database
    gc.collect()
    assert not Path(folder).exists()
