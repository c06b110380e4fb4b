"""Test stages that are killed in a cell: they are retried and recorded, and gold readers see no change."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import nbformat
import pytest

from daybook.records.models import RunRecord
from tests.runs.shop import (
    DaybookHome,
    add_tiny_shop,
    copy_project,
    insert_into_last_cell,
    read_gross_revenue,
    write_tiny_landing,
)

pytestmark = pytest.mark.slow
DAY = "2024-05-01"

KILL = """
import os, pathlib, signal
marks = pathlib.Path({marks!r})
if run_date == {day!r} and len(list(marks.iterdir())) < {times}:
    (marks / str(len(list(marks.iterdir())))).touch()
    {kill}
"""
KERNEL = "os.kill(os.getpid(), signal.SIGKILL)"
JOB_AND_KERNEL = "os.kill(os.getppid(), signal.SIGKILL); os.kill(os.getpid(), signal.SIGKILL)"
BETWEEN_MERGES = """
merge = transform.merge
def merge_or_die(lake, contract, rows, **options):
    if contract.name == "orders":
        {kill}
    return merge(lake, contract, rows, **options)
transform.merge = merge_or_die
"""


def kill_in(project: Path, notebook: str, tmp_path: Path, *, day: str, times: int, kill: str) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    indented = kill.replace("\n", "\n    ")
    code = KILL.format(marks=str(marks), day=day, times=times, kill=indented)
    insert_into_last_cell(project / "notebooks" / f"{notebook}.ipynb", code)


@pytest.fixture(scope="module")
def killed_once(module_home: DaybookHome, tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    """Return the record of a run whose transform was killed between two merges."""
    place = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        project = copy_project(place / "project")
        add_tiny_shop(project)
        patch.setenv("DAYBOOK_PROJECT", str(project))
        write_tiny_landing(module_home.path, DAY, ["10.00", "5.50"])
        kill_in(project, "3_transform", place, day=DAY, times=1, kill=BETWEEN_MERGES.format(kill=KERNEL))
        execution, record = module_home.run("tiny", DAY)
    assert execution.status == "SUCCEEDED", record.reasons
    return record


def test_kernel_killed_between_merges_is_retried(module_home: DaybookHome, project: Path, killed_once: RunRecord) -> None:
    assert read_gross_revenue(module_home, "tiny", DAY) == Decimal("15.5")
    tried = [(each.attempt, each.outcome) for each in killed_once.stages if each.stage == "transform"]
    assert tried == [(1, "FAILED"), (2, "SUCCEEDED")]
    (failed,) = [each for each in killed_once.stages if each.outcome == "FAILED"]
    assert "the kernel died in this cell" in failed.failure.message
    assert failed.failure.source.startswith("import os, pathlib, signal")
    archive = module_home.archive("tiny")
    stored = archive.store.read(f"{archive.folder(killed_once.run_id)}/3_transform.attempt-1.ipynb")
    notebook = nbformat.reads(stored.decode(), 4)
    statuses = [cell.metadata["papermill"]["status"] for cell in notebook.cells if cell.cell_type == "code"]
    assert statuses[-1] == "failed"
    assert set(statuses[:-1]) == {"completed"}


def test_stage_killed_four_times_fails_the_run(
    module_home: DaybookHome, project: Path, tmp_path: Path, killed_once: RunRecord
) -> None:
    before = module_home.content("tiny")
    write_tiny_landing(module_home.path, DAY, ["999.00"])
    # The job is killed with its kernel, so that no process can write a record.
    kill_in(project, "1_ingest", tmp_path, day=DAY, times=4, kill=JOB_AND_KERNEL)

    execution, record = module_home.run("tiny", DAY)

    assert execution.status == "FAILED"
    assert record.outcome == "FAILED"
    assert "ingest failed" in record.reasons[0]
    assert "killed" in record.reasons[0]
    assert module_home.content("tiny") == before
    archive = module_home.archive("tiny")
    names = {key.rsplit("/", 1)[1] for key in archive.store.keys(archive.folder(record.run_id))}
    for number in (1, 2, 3, 4):
        assert {f"1_ingest.attempt-{number}.{kind}" for kind in ("json", "ipynb", "html")} <= names
        notebook = nbformat.reads(
            archive.store.read(f"{archive.folder(record.run_id)}/1_ingest.attempt-{number}.ipynb").decode(), 4
        )
        assert notebook.metadata["daybook"]["outcome"] == "FAILED"
        assert notebook.metadata["daybook"]["failure"]["source"].startswith("import os, pathlib, signal")
    assert {"run.json", "history.jsonl", "6_notify.attempt-1.json"} <= names
    (notify,) = [each for each in record.stages if each.stage == "notify"]
    assert "ingest failed" in notify.details.message.body


def test_killed_publish_is_finished_by_the_next_attempt(module_home: DaybookHome, project: Path, tmp_path: Path) -> None:
    write_tiny_landing(module_home.path, "2024-07-01", ["7.00"])
    stop_after_three = """
from daybook.notebook import publishing
publish, done = publishing.publish, []
def publish_or_die(lake, contract, *rest):
    if len(done) == 3:
        {kill}
    done.append(contract.name)
    return publish(lake, contract, *rest)
publishing.publish = publish_or_die
"""
    kill_in(project, "5_quality", tmp_path, day="2024-07-01", times=1, kill=stop_after_three.format(kill=KERNEL))

    execution, _ = module_home.run("tiny", "2024-07-01")

    assert execution.status == "SUCCEEDED"
    engine = module_home.engine("tiny")
    assert read_gross_revenue(module_home, "tiny", "2024-07-01") == Decimal("7")
    assert engine.rows("SELECT count(*) FROM gold.product_sales WHERE order_date = DATE '2024-07-01'") == [(1,)]
