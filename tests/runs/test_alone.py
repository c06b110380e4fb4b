"""Test stage notebooks with the plain papermill command, which write to a development copy."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import nbformat
import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.records.names import RESULT_MIME, STAGES, notebook_name
from daybook.settings import project_root
from tests.runs.shop import DaybookHome, add_tiny_shop, copy_project, read_gross_revenue, write_tiny_landing

pytestmark = pytest.mark.slow
DAY = "2024-05-01"


def papermill(project: Path, stage: str, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the papermill command in a folder outside of the project."""
    output.parent.mkdir(exist_ok=True)
    notebook = project / "notebooks" / f"{notebook_name(stage)}.ipynb"
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", str(notebook), str(output), *arguments]
    return subprocess.run(command, cwd=output.parent, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, module_home: DaybookHome) -> Path:
    project = copy_project(tmp_path_factory.mktemp("alone") / "project")
    add_tiny_shop(project)
    return project


@pytest.fixture(autouse=True)
def _in_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))


def test_papermill_runs_stages_into_a_development_copy(module_home: DaybookHome, project: Path, tmp_path: Path) -> None:
    write_tiny_landing(module_home.path, DAY, ["11.00", "2.00"])

    for stage in STAGES:
        output = tmp_path / "out" / f"{stage}.ipynb"
        done = papermill(project, stage, output, "-p", "env", "tiny", "-p", "run_date", DAY)
        assert done.returncode == 0, done.stderr[-2000:]
        executed = nbformat.read(output, as_version=4)
        outputs = [out for cell in executed.cells for out in cell.get("outputs", [])]
        assert [out for out in outputs if out.output_type == "stream" and out.name == "stderr"] == []
        results = [out.data[RESULT_MIME]["outcome"] for out in outputs if RESULT_MIME in out.get("data", {})]
        assert results == ["SUCCEEDED"]

    assert read_gross_revenue(module_home, "tiny", DAY) is None
    lake = module_home.path / "lake"
    assert [each.name for each in lake.iterdir()] == ["dev"]
    (copy,) = (lake / "dev").iterdir()
    engine = DuckDBEngine(Lake(str(lake), development=copy.name), "UTC")
    assert engine.rows("SELECT gross_revenue FROM gold.daily_sales") == [(Decimal("13"),)]


def test_papermill_skips_further_cells_of_a_closed_day(module_home: DaybookHome, project: Path, tmp_path: Path) -> None:
    write_tiny_landing(module_home.path, DAY, ["10.00"])
    output = tmp_path / "out" / "closed.ipynb"
    done = papermill(project, "ingest", output, "-p", "env", "tiny", "-p", "run_date", "2024-05-02")
    assert done.returncode == 0, done.stderr[-2000:]
    executed = nbformat.read(output, as_version=4)
    texts = [str(out.get("text", "")) for cell in executed.cells for out in cell.get("outputs", [])]
    assert "Not run: the stage has ended as SKIPPED.\n" in texts


def test_papermill_names_the_stage_to_run_first(module_home: DaybookHome, project: Path, tmp_path: Path) -> None:
    done = papermill(project, "validate", tmp_path / "out" / "v.ipynb", "-p", "env", "tiny", "-p", "run_date", "2031-01-01")
    assert done.returncode == 1
    assert "StageError: 2031-01-01 is not in bronze; run 1_ingest for that date first." in done.stderr


def test_copied_notebooks_equal_those_of_the_project(project: Path) -> None:
    for stage in STAGES:
        name = f"{notebook_name(stage)}.ipynb"
        assert (project / "notebooks" / name).read_bytes() == (project_root() / "notebooks" / name).read_bytes()
