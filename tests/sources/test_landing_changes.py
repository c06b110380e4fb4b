"""Test that a listing finds a run's files and opens a file only if necessary."""

from __future__ import annotations

import hashlib
import os
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from daybook.sources import Column, Entity, LandingListing
from daybook.sources.files import find_files, is_entity_file
from daybook.sources.landing_changes import CLOCK_TOLERANCE
from daybook.storage import Store

DAY = date(2025, 11, 30)
FILES = ["2025-11-30.csv", "kasse/bon_2025-11-30.csv", "kasse/zeile_2025-11-30_1.csv", "kasse/zeile_2025-11-30_2.csv.gz"]
FILES += ["kasse/2025-11-30/a.csv", "kasse/2025-11-30/b/c.csv", "kasse0/a.csv", "kasse-alt/a.csv", "all.csv"]


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / "landing" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "landing" / name).write_text(name, encoding="utf-8")
    return tmp_path / "landing"


@pytest.mark.parametrize(
    "pattern",
    [
        *("{run_date}.csv", "kasse/bon_{run_date}.csv", "kasse/zeile_{run_date}_*", "kasse/{run_date}/*.csv", "*/a.csv"),
        *("all.csv", "*.csv", "nothing_{run_date}.csv", "kasse/?on_{run_date}.csv"),
        *("{run_date:%Y-%m-%d}.csv", "kasse/*_{run_date:%Y-%m}*.csv", "{run_date:%Y}*.csv"),
    ],
)
def test_listing_finds_the_files_of_a_run(landing: Path, pattern: str) -> None:
    store = Store(str(landing))
    entity = Entity(files=pattern, columns={"a": Column()})
    found = find_files(store, entity, DAY)
    look = LandingListing(store)
    assert look.files(entity, DAY) == found
    assert look.files(entity, DAY) == found
    assert [name for name in sorted(FILES) if is_entity_file(entity, DAY, name)] == found


@pytest.mark.parametrize("prefix", ["", "kasse", "kasse/2025-11-30", "kass", "none"])
def test_listing_equals_the_stores(landing: Path, prefix: str) -> None:
    store = Store(str(landing))
    assert LandingListing(store).keys(prefix) == store.keys(prefix)


def as_read(landing: Path, file: str, content: str, read_at: datetime) -> bool:
    data = content.encode()
    return LandingListing(Store(str(landing))).is_unchanged(
        file, size=len(data), sha256=hashlib.sha256(data).hexdigest(), read_at=read_at
    )


def test_file_is_compared_by_size_then_time_then_content(landing: Path) -> None:
    now = datetime.now(timezone.utc)
    assert as_read(landing, "all.csv", "all.csv", now)
    assert not as_read(landing, "all.csv", "ALL.csv", now)
    assert not as_read(landing, "all.csv", "longer than all.csv", now + timedelta(days=1))
    # The file arrived long before it was read, so it has not changed and is not opened.
    assert as_read(landing, "all.csv", "ALL.csv", now + CLOCK_TOLERANCE + timedelta(minutes=1))
    assert not as_read(landing, "all.csv", "ALL.csv", now + CLOCK_TOLERANCE - timedelta(minutes=1))


def test_old_modification_time_does_not_hide_a_change(landing: Path) -> None:
    os.utime(landing / "all.csv", (10**9, 10**9))
    assert not as_read(landing, "all.csv", "ALL.csv", datetime.now(timezone.utc))


def test_file_removed_since_the_listing_has_changed(landing: Path) -> None:
    look = LandingListing(Store(str(landing)))
    (landing / "all.csv").unlink()
    digest = hashlib.sha256(b"all.csv").hexdigest()
    assert not look.is_unchanged("all.csv", size=7, sha256=digest, read_at=datetime.now(timezone.utc))
