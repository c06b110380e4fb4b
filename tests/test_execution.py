"""Attempts of a stage: parameters checked before a kernel starts, and records of attempts whose process is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from daybook.archive import Archive
from daybook.errors import NotebookError, UsageError
from daybook.execution import check_parameters, close_abandoned, close_run, declared_parameters, run_stage
from daybook.params import load_settings

RUN = "daily-2025-11-30-1"


def notebook(parameters: str = 'env = "local"\nrows = 1', **metadata: Any) -> nbformat.NotebookNode:
    cell = new_code_cell(parameters, metadata={"tags": ["parameters"], **metadata})
    return new_notebook(cells=[new_markdown_cell("# Title"), cell, new_code_cell("print(env)")])


def test_parameters_are_read_with_their_defaults() -> None:
    assert declared_parameters(notebook(), "n.ipynb") == {"env": "local", "rows": 1}


def test_a_notebook_without_a_parameters_cell_is_refused() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb has 0 cells tagged 'parameters'; it needs one, the first code cell\."):
        declared_parameters(new_notebook(cells=[new_code_cell("x = 1")]), "n.ipynb")


def test_a_parameters_cell_that_is_not_the_first_code_cell_is_refused() -> None:
    late = notebook()
    late.cells.insert(0, new_code_cell("import os"))
    with pytest.raises(NotebookError, match="the first code cell"):
        declared_parameters(late, "n.ipynb")


def test_a_parameters_cell_that_computes_is_refused() -> None:
    with pytest.raises(NotebookError, match="may only hold lines such as name = 'text'"):
        declared_parameters(notebook("env = open('x').read()"), "n.ipynb")


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb has no parameter 'evn'; its parameters are: env, rows\."):
        check_parameters(notebook(), "n.ipynb", {"evn": "local"})


def test_a_mistyped_parameter_is_refused() -> None:
    with pytest.raises(NotebookError, match=r"n\.ipynb: parameter rows is '1', a str, where a int is wanted\."):
        check_parameters(notebook(), "n.ipynb", {"rows": "1"})


def test_an_unknown_parameter_stops_a_stage_before_anything_is_written(home: Path) -> None:
    with pytest.raises(NotebookError, match=r"1_ingest\.ipynb has no parameter 'speed'"):
        run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN, extra={"speed": "fast"})
    assert not home.exists()


def test_an_unknown_stage_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match="There is no stage 'digest'; the stages are: ingest, validate"):
        run_stage("digest", env="local", run_date="2025-11-30", run_id=RUN)


def test_a_run_of_another_date_is_refused(home: Path) -> None:
    with pytest.raises(UsageError, match="is not one of 2025-11-29"):
        run_stage("ingest", env="local", run_date="2025-11-29", run_id=RUN)


def claimed(archive: Archive, scratch: Path) -> None:
    archive.ensure_started(RUN)
    facts = {"parameters": {"env": "local"}, "scratch": str(scratch), "code": {"commit": "abc"}, "python": "3.9.0"}
    archive.claim_attempt(RUN, "ingest", facts)


def test_an_attempt_whose_process_is_gone_gets_a_record_and_its_partial_notebook(home: Path, tmp_path: Path) -> None:
    archive, settings = Archive(load_settings("local").archive), load_settings("local")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    partial = notebook()
    partial.cells[1].metadata["papermill"] = {"start_time": "2025-12-01T02:00:00", "status": "completed"}
    partial.cells[2].metadata["papermill"] = {"start_time": "2025-12-01T02:00:01", "status": "running"}
    partial.cells[2].outputs = [new_output("stream", name="stdout", text="so far")]
    nbformat.write(partial, scratch / "executed.ipynb")
    claimed(archive, scratch)

    (record,) = close_abandoned(archive, settings, RUN)

    assert record["outcome"] == "FAILED"
    assert record["failure"]["cell"] == 2
    assert record["failure"]["source"] == "print(env)"
    assert "killed" in record["failure"]["message"]
    assert (record["code"], record["python"]) == ({"commit": "abc"}, "3.9.0")
    stored = nbformat.reads(archive.store.read(f"{archive.folder(RUN)}/1_ingest.attempt-1.ipynb").decode(), 4)
    assert stored.cells[2].outputs[0].text == "so far"
    assert stored.cells[2].metadata.papermill.status == "failed"
    assert not scratch.exists()


def test_an_attempt_whose_machine_is_gone_gets_a_record_and_the_notebook_it_should_have_run(home: Path, tmp_path: Path) -> None:
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "was-on-another-machine")

    (record,) = close_abandoned(archive, load_settings("local"), RUN)

    assert record["outcome"] == "FAILED"
    assert record["failure"]["cell"] is None
    stored = nbformat.reads(archive.store.read(f"{archive.folder(RUN)}/1_ingest.attempt-1.ipynb").decode(), 4)
    assert stored.cells[0].source.startswith("# 1 · Ingest")


def test_abandoned_attempts_are_closed_once(home: Path, tmp_path: Path) -> None:
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "gone")
    assert len(close_abandoned(archive, load_settings("local"), RUN)) == 1
    assert close_abandoned(archive, load_settings("local"), RUN) == []


def test_a_runs_record_holds_its_attempts_code_and_state_machine(home: Path, tmp_path: Path) -> None:
    archive = Archive(load_settings("local").archive)
    claimed(archive, tmp_path / "gone")

    close_run(archive, load_settings("local"), RUN, "FAILED", ["because"])

    record = json.loads(archive.store.read(f"{archive.folder(RUN)}/run.json"))
    assert (record["outcome"], record["reasons"]) == ("FAILED", ["because"])
    assert [each["stage"] for each in record["stages"]] == ["ingest"]
    assert record["state_machine"]["file"] == "daily.asl.json"
    assert len(record["code"]["lock_sha256"]) == 64
