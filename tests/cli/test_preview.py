"""Test what ``daybook preview`` refuses before it runs a notebook."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from daybook.records.archive import Archive
from daybook.settings import load_settings
from tests.cli.conftest import Call
from tests.sample_records import attempt_record, run_record


@pytest.fixture
def archive(home: Path) -> Archive:
    """Return an archive with one run, which a gate rejected."""
    archive = Archive(load_settings("local").archive)
    run_id = archive.start_run(date(2025, 11, 28), {"env": "local"})
    archive.write_run(run_record(run_id, "REJECTED", stages=[attempt_record(rows={"out": 5})], schema_version=1))
    return archive


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "No date is published, so there is nothing to compare; run a date first, or give --date."),
        (["--date", "2025-11-29"], "2025-11-29 has no run, so there is nothing to compare; run the date first."),
        (["--stage", "notify"], "'notify' is no stage of a preview; choose one of: ingest, validate, transform, aggregate"),
        (["--date", "28.11.2025"], "'28.11.2025' is not a business date; write it as YYYY-MM-DD"),
    ],
)
def test_unusable_options_exit_with_2(archive: Archive, call: Call, options: list[str], message: str) -> None:
    code, out, err = call("preview", *options)
    assert (code, out) == (2, "")
    assert message in err
