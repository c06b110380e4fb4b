"""Test temporary development copies: their names, their removal, and what a killed process leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daybook.execution.development import temporary_copy


@pytest.fixture
def lake(home: Path) -> Path:
    """Return a lake with a published table and a user's development copy."""
    for folder in ("gold/sales", "dev/ada/gold/sales"):
        write(home / "lake" / folder)
    return home / "lake"


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "rows.parquet").write_bytes(b"rows")


def list_files(lake: Path) -> list[str]:
    return sorted(str(path.relative_to(lake)) for path in lake.rglob("*") if path.is_file())


PUBLISHED = ["dev/ada/gold/sales/rows.parquet", "gold/sales/rows.parquet"]


def leave_copy_of_killed_process(lake: Path) -> str:
    """Write a copy in a process that ends at once; return the copy's name."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        copy = temporary_copy(str(lake))
        name = copy.__enter__()
        write(lake / "dev" / name / "gold" / "sales")
        os.write(writing, name.encode())
        os._exit(9)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return pipe.read()


def test_copy_is_removed_at_the_end(lake: Path, home: Path) -> None:
    with temporary_copy(str(lake)) as name:
        write(lake / "dev" / name / "gold" / "sales")
        assert len(list_files(lake)) == 3
    assert list_files(lake) == PUBLISHED
    assert list((home / "previews").iterdir()) == []


def test_copy_is_removed_after_an_error(lake: Path) -> None:
    with pytest.raises(KeyboardInterrupt), temporary_copy(str(lake)) as name:
        write(lake / "dev" / name / "gold" / "sales")
        raise KeyboardInterrupt
    assert list_files(lake) == PUBLISHED


def test_kept_copy_stays(lake: Path) -> None:
    with temporary_copy(str(lake), keep=True) as name:
        write(lake / "dev" / name / "gold" / "sales")
    with temporary_copy(str(lake)):
        pass
    assert list_files(lake) == sorted([*PUBLISHED, f"dev/{name}/gold/sales/rows.parquet"])


def test_concurrent_copies_are_separate(lake: Path) -> None:
    with temporary_copy(str(lake)) as one:
        write(lake / "dev" / one)
        with temporary_copy(str(lake)) as other:
            assert one != other
            assert list_files(lake / "dev" / one) == ["rows.parquet"]
        assert list_files(lake / "dev" / one) == ["rows.parquet"]


def test_copy_of_a_killed_process_is_removed(lake: Path, home: Path) -> None:
    name = leave_copy_of_killed_process(lake)
    assert f"dev/{name}/gold/sales/rows.parquet" in list_files(lake)
    with temporary_copy(str(home / "another lake")):
        assert f"dev/{name}/gold/sales/rows.parquet" in list_files(lake)
    with temporary_copy(str(lake)):
        assert list_files(lake) == PUBLISHED
    assert list((home / "previews").iterdir()) == []


def test_file_of_a_starting_process_is_left_alone(lake: Path, home: Path) -> None:
    starting = home / "previews" / "preview-000000000000.json"
    starting.parent.mkdir()
    starting.touch()
    with temporary_copy(str(lake)):
        assert starting.exists()
