"""Test which stages count as changed, against made-up records with executed notebooks."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.notebook.parameters import notebook_path
from daybook.records.archive import Archive
from daybook.records.fingerprint import compute_fingerprint
from daybook.review.changed_stages import TABLE_STAGES, Change, find_changes
from daybook.review.representative_days import RecordedDay
from daybook.settings import load_settings
from tests.conftest import Project
from tests.sample_records import attempt_record, run_record

RUN = "daily-2025-11-28-1"
DAY = date(2025, 11, 28)


def execute(stage: str) -> bytes:
    """Return a stage's notebook as papermill saves it: with injected parameters, outputs and counts."""
    notebook: dict[str, Any] = json.loads(notebook_path(stage).read_bytes())
    injected = {"cell_type": "code", "metadata": {"tags": ["injected-parameters"]}, "source": "run_date = '2025-11-28'"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(code, start=1):
        cell.update(execution_count=count, outputs=[{"output_type": "stream", "name": "stdout", "text": "1"}])
    notebook["cells"].insert(1, {**injected, "execution_count": None, "outputs": []})
    return json.dumps(notebook).encode()


@pytest.fixture
def day(home: Path, project: Project) -> RecordedDay:
    """Return a date that the project as it is has computed."""
    settings = load_settings("local")
    archive = Archive(settings.archive)
    attempts = [archive.write_attempt(attempt_record(stage, run_id=RUN), execute(stage), None) for stage in TABLE_STAGES]
    return RecordedDay(DAY, [run_record(RUN, stages=attempts, fingerprint=compute_fingerprint(settings))])


def changes(*days: RecordedDay) -> list[Change]:
    settings = load_settings("local")
    return find_changes(settings, Archive(settings.archive), days)


def test_executed_notebooks_equal_those_of_the_project(day: RecordedDay) -> None:
    assert changes(day) == []


def test_changed_cells_change_their_stages_in_order(day: RecordedDay, project: Project) -> None:
    project.replace("notebooks/5_quality.ipynb", "quality.publish(", "quality.publish( ")
    project.replace("notebooks/4_aggregate.ipynb", "f.first_order_date <", "f.first_order_date <=")
    assert changes(day) == [Change("aggregate", "4_aggregate"), Change("quality", "5_quality")]


def test_text_of_a_notebook_changes_no_stage(day: RecordedDay, project: Project) -> None:
    project.replace("notebooks/4_aggregate.ipynb", "## Daily sales", "## Sales by day")
    assert changes(day) == []


@pytest.mark.parametrize(
    ("file", "old", "new", "change"),
    [
        ("contracts/gold/daily_sales.yaml", "minimum: 0", "minimum: 1", Change("transform", "contracts")),
        ("sources/demo.yaml", "missing: empty", "missing: skip", Change("ingest", "source")),
        ("local.yaml", "returns_count_on: order_date", "returns_count_on: return_date", Change("ingest", "settings")),
    ],
)
def test_params_change_the_first_stage_that_reads_them(
    day: RecordedDay, project: Project, file: str, old: str, new: str, change: Change
) -> None:
    project.replace(f"params/{file}", old, new)
    assert changes(day) == [change]


def test_notebook_that_is_not_archived_counts_as_changed(day: RecordedDay) -> None:
    withheld = [each.changed(notebook=None) if each.stage == "validate" else each for each in day.runs[0].stages]
    assert changes(RecordedDay(DAY, [day.runs[0].changed(stages=withheld)])) == [Change("validate", "2_validate")]


def test_stages_that_a_run_left_out_are_those_of_the_run_before(day: RecordedDay) -> None:
    later = run_record("daily-2025-11-28-2", stages=[attempt_record("aggregate", "FAILED"), day.runs[0].stages[-1]])
    assert changes(RecordedDay(DAY, [later, *day.runs])) == []
