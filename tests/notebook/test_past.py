"""Test that a date of a backfill records the query for its earlier days."""

from __future__ import annotations

from datetime import date

import nbformat
import pytest

from daybook.contracts import load_tables
from daybook.errors import NotebookError
from daybook.lake.publish import LakeSnapshot
from daybook.notebook import context as stages
from daybook.notebook.basis import CandidateBasis
from daybook.notebook.context import Stage
from daybook.notebook.parameters import notebook_path
from daybook.notebook.quality import Audit, check_past
from daybook.records.archive import Archive
from daybook.records.models import StageDetails
from daybook.settings import load_settings
from tests.sessions import Session

DAY = date(2025, 11, 30)
BASIS = CandidateBasis(
    snapshot=LakeSnapshot("", {}), run_dates=[DAY], notes={}, touched_by={DAY: [DAY]}, held=[], definitions={}
)
AUDIT = Audit(BASIS)


@pytest.fixture
def stage(session: Session) -> Stage:
    """Return the open quality stage of a date of a backfill, with an empty table of daily sales."""
    run_id = Archive(load_settings("local").archive).start_run(DAY, {"part_of": "backfill-2025-11-01-2025-11-30-1"})
    session.value("from daybook.notebook import begin, quality")
    session.value(f"run_date = '{DAY}'\nstage = begin('quality', env='local', run_date=run_date, run_id='{run_id}')")
    assert stages.current is not None
    stages.current.lake.ensure_table(load_tables("gold")["gold.daily_sales"])
    return stages.current


def test_backfill_date_records_the_query_of_its_past(session: Session, stage: Stage) -> None:
    session.shell.user_ns["audit"] = AUDIT
    cells = [each.source for each in nbformat.read(notebook_path("quality"), as_version=4).cells if each.cell_type == "code"]
    for cell in cells:
        if cell.startswith("%%sql past ") or "quality.check_past" in cell:
            session.value(cell)
    past = StageDetails.model_validate(stage.details).past
    assert list(past) == ["gold.daily_sales"]
    assert "FROM gold.daily_sales\nWHERE order_date >= DATE '2025-11-30' - 28 " in past["gold.daily_sales"]
    assert AUDIT.results(DAY) == []


def test_query_of_the_past_reads_only_silver_and_gold(stage: Stage) -> None:
    stage.define("other", "SELECT 1 AS orders")
    stage.define("mine", "SELECT orders FROM other")
    with pytest.raises(NotebookError, match=r"^mine gives the past of gold\.daily_sales, so it may read only tables "):
        check_past(stage, AUDIT, {"gold.daily_sales": "mine"})


def test_past_without_a_cell_is_one_sentence(stage: Stage) -> None:
    with pytest.raises(NotebookError, match=r"^No %%sql cell defines mine; add one that gives the earlier days\.$"):
        check_past(stage, AUDIT, {"gold.daily_sales": "mine"})
