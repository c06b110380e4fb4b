"""Build lakes and run records with commits and files of any age, for tests of the vacuum."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
from deltalake import DeltaTable

from daybook.lake.delta import open_dataset
from daybook.lake.tables import Lake
from daybook.records.archive import Archive, serialize_record
from tests.lake.writing import replace_date

FIRST, SECOND = date(2025, 11, 1), date(2025, 11, 2)
NOW = datetime(2026, 3, 1, tzinfo=timezone.utc)
"""The present in these tests; ages are counted back from it."""


def build_rows(*values: str) -> pa.Table:
    return pa.table({"value": pa.array(values, pa.string())})


def age_commit(uri: str, version: int, days: float, now: datetime = NOW) -> None:
    """Set the age in days of a commit and the files that it added."""
    moment = now - timedelta(days=days)
    path = Path(uri) / "_delta_log" / f"{version:020d}.json"
    text = re.sub(r'"timestamp":\d+', f'"timestamp":{int(moment.timestamp() * 1000)}', path.read_text())
    path.write_text(text)
    added = [json.loads(line)["add"]["path"] for line in text.splitlines() if line.startswith('{"add"')]
    for file in (path, *(Path(uri) / name for name in added)):
        if file.exists():
            os.utime(file, (moment.timestamp(),) * 2)


def age_file(path: Path, days: float, now: datetime = NOW) -> Path:
    """Set the age in days of a file; create it if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    moment = (now - timedelta(days=days)).timestamp()
    os.utime(path, (moment, moment))
    return path


def write_rows(lake: Lake, table: str, *values: str, days: float, run_date: date = FIRST, now: datetime = NOW) -> int:
    """Replace the rows of a date a number of days ago; returns the version."""
    replace_date(lake, table, build_rows(*values), run_date)
    uri = lake.uri(table)
    version = int(DeltaTable(uri).version())
    age_commit(uri, version, days, now)
    if version == 1:
        age_commit(uri, 0, days, now)  # the commit that made the table
    return version


def write_run_record(
    archive: Archive,
    *,
    days: float,
    outcome: str = "SUCCEEDED",
    run_date: date = FIRST,
    read: Optional[Mapping[str, int]] = None,
    snapshot: Optional[Mapping[str, int]] = None,
    now: datetime = NOW,
) -> str:
    """Record a run that started a number of days ago; returns its name."""
    began = (now - timedelta(days=days)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    number = len(archive.run_ids(run_date)) + 1
    run_id = f"daily-{run_date.isoformat()}-{number}"
    stage = {
        "stage": "aggregate",
        "outcome": "SUCCEEDED",
        "started_at": began,
        "ended_at": began,
        "tables_read": dict(read or {}),
        "tables_written": {},
        "details": {"snapshot": dict(snapshot or {})},
    }
    record = {"run_id": run_id, "run_date": run_date.isoformat(), "started_at": began, "outcome": outcome, "stages": [stage]}
    archive.store.create(f"{archive.folder(run_id)}/started.json", serialize_record({"run_id": run_id, "started_at": began}))
    archive.store.create(f"{archive.folder(run_id)}/run.json", serialize_record(record))
    return run_id


def read_version(uri: str, version: Optional[int] = None) -> Optional[list[Any]]:
    """Return the sorted rows of a version; None if it cannot be read."""
    try:
        found = open_dataset(DeltaTable(uri, version=version)).to_table().to_pylist()
    except Exception:  # noqa: BLE001 (a missing log and a missing file are told in many ways)
        return None
    return sorted(found, key=repr)


def list_files(root: str) -> set[str]:
    """Return every file under a folder, relative to it."""
    return {str(path.relative_to(root)) for path in Path(root).rglob("*") if path.is_file()}


def list_data_files(uri: str) -> set[str]:
    return {name for name in list_files(uri) if not name.startswith("_delta_log")}
