"""Test that a cell that reads people of other dates shows pseudonyms, whatever the names of columns."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

from daybook.engines import DuckDBEngine
from daybook.execution.attempt import archive_attempt
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.records.archive import Archive
from daybook.records.models import AttemptRecord
from daybook.settings import Settings, load_settings
from demo_shop import generate
from tests.sessions import Session, new_session

pytestmark = pytest.mark.slow

CELL = """
o = stage.engine.query("SELECT first_name AS a, last_name AS b, street AS d, postal_code AS z, customer_id AS i "
                       "FROM bronze.customers WHERE run_date < DATE '2025-11-30' LIMIT 12").df()
print(o.to_string())
"""
EARLIER, DAY = "2025-11-28", "2025-11-30"


@pytest.fixture
def session(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Return a session after two dates of the demo shop."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, "current", None)
    generate(Path(load_settings("local").landing), orders_per_day=20)
    with new_session() as opened:
        for day in (EARLIER, DAY):
            assert opened.run_day(day, 1, {}) == "SUCCEEDED"
        yield opened


def people(settings: Settings) -> set[str]:
    """Return the restricted values of customers who landed on the earlier date."""
    columns = "first_name, last_name, street, postal_code, customer_id"
    engine = DuckDBEngine(Lake(settings.lake), settings.timezone)
    rows = engine.rows(f"SELECT {columns} FROM bronze.customers WHERE run_date = DATE '{EARLIER}'")
    assert len(rows) >= 12
    return {value for row in rows for value in row if value}


def archived(settings: Settings, source: str, printed: str) -> str:
    """Return all files of an attempt whose notebook has this cell and its printed output."""
    notebook = nbformat.v4.new_notebook()
    cell = nbformat.v4.new_code_cell(source, execution_count=1)
    cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=printed)]
    notebook.cells.append(cell)
    archive = Archive(settings.archive)
    record: dict[str, Any] = {"record": "attempt", "run_id": f"daily-{DAY}-1", "run_date": DAY, "env": "local"}
    record.update(stage="validate", attempt=1, outcome="SUCCEEDED", started_at="2025-12-01T02:00:00.000Z", seconds=1.0)
    record.update(ended_at="2025-12-01T02:00:01.000Z", code={}, details={}, rows={}, reasons=[], failure=None, permanent=False)
    archive_attempt(archive, settings, AttemptRecord.model_validate(record), notebook)
    files = [path for path in Path(settings.archive).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".json", ".ipynb", ".html"}
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def test_people_of_other_dates_are_archived_as_pseudonyms(session: Session) -> None:
    settings = load_settings("local")
    begin = (
        f"from daybook.notebook import begin\nstage = begin('validate', env='local', run_date='{DAY}', run_id='daily-{DAY}-1')"
    )
    session.value(begin)
    session.value(CELL)
    lines = session.printed.splitlines()
    assert len(lines) == 13
    assert all(len(value) == 32 for line in lines[1:] for value in line.split()[1:] if value != "None")
    archived_text = archived(settings, CELL, session.printed)
    # Within a word, the digits of a postal code can be those of a pseudonym or a digest.
    assert not {value for value in people(settings) if re.search(rf"(?<!\w){re.escape(value)}(?!\w)", archived_text)}
