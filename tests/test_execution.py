"""Attempts of a stage: parameters checked before a kernel starts, and records of attempts whose process is gone."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from daybook.archive import Archive
from daybook.errors import NotebookError, ParamsError, UsageError
from daybook.execution import check_parameters, close_abandoned, close_run, declared_parameters, run_stage
from daybook.params import load_settings
from daybook.provenance import fingerprint
from daybook.report import build_site

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
    assert record["fingerprint"] == fingerprint(load_settings("local"))


@pytest.mark.parametrize("name", ["db_password", "apiKey", "token"])
def test_a_parameter_that_looks_like_a_secret_is_refused_and_its_value_is_not_said(name: str) -> None:
    with pytest.raises(NotebookError, match=rf"n\.ipynb: parameter '{name}' looks like a secret, and only names") as declared:
        declared_parameters(notebook(f'{name} = "hunter2"'), "n.ipynb")
    with pytest.raises(NotebookError, match="looks like a secret") as given:
        check_parameters(notebook(), "n.ipynb", {name: "hunter2"})
    assert "hunter2" not in f"{declared.value} {given.value}"


def test_a_name_of_a_secret_is_a_parameter_like_any_other() -> None:
    assert declared_parameters(notebook('db_secret_name = "shop/db"'), "n.ipynb") == {"db_secret_name": "shop/db"}


def test_a_secret_stops_a_stage_before_anything_is_written(home: Path) -> None:
    with pytest.raises(ParamsError, match="looks like a secret"):
        run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN, overrides={"db_password": "hunter2"})
    with pytest.raises(NotebookError, match="looks like a secret"):
        run_stage("ingest", env="local", run_date="2025-11-30", run_id=RUN, extra={"db_password": "hunter2"})
    assert not home.exists()


def leave_a_row_behind(home: Path, scratch: Path) -> Archive:
    """An attempt that died after it had printed a customer who has landed."""
    landing = home / "landing" / "customers" / "2025-11-30"
    landing.mkdir(parents=True)
    columns = ("customer_id", "first_name", "last_name", "email", "phone", "street", "postal_code", "city", "state", "country")
    row = ("C-0009", "Zoë", "Kanarie", "zoe@example.com", "", "", "10115", "Berlin", "Berlin", "DE", "2025-11-30", "2025-11-30")
    (landing / "customers.csv").write_text(f"{','.join(columns)},registered_at,updated_at\n{','.join(row)}\n")
    scratch.mkdir()
    partial = notebook()
    partial.cells[2].metadata["papermill"] = {"start_time": "2025-12-01T02:00:01", "status": "running"}
    partial.cells[2].outputs = [new_output("stream", name="stdout", text=f"so far {row}")]
    nbformat.write(partial, scratch / "executed.ipynb")
    (scratch / "printed.txt").write_text(f"aborted at {row}\n")
    archive = Archive(load_settings("local").archive)
    claimed(archive, scratch)
    return archive


def everything_under(place: Path) -> str:
    return "".join(path.read_text() for path in sorted(place.rglob("*")) if path.is_file())


def test_what_an_attempt_leaves_is_searched_and_what_was_taken_out_is_counted(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = leave_a_row_behind(home, tmp_path / "scratch")

    (record,) = close_abandoned(archive, load_settings("local"), RUN)

    archived = everything_under(home / "archive")
    assert "so far (" in archived
    assert "Kanarie" not in archived
    assert "zoe@" not in archived
    assert record["redactions"] == {"customer_id": 2, "email": 2, "first_name": 2, "last_name": 2, "postal_code": 2}
    assert "'[redacted:first_name]', '[redacted:last_name]', '[redacted:email]'" in capsys.readouterr().err


def test_where_the_search_fails_only_the_record_is_archived_and_without_text(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = leave_a_row_behind(home, tmp_path / "scratch")

    def fails(*_: Any, **__: Any) -> None:
        raise OSError("the lake is away, with Kanarie")

    monkeypatch.setattr("daybook.personal.redactor_for", fails)
    (record,) = close_abandoned(archive, load_settings("local"), RUN)
    close_run(archive, load_settings("local"), RUN, "FAILED", ["Kanarie did it"])

    names = {key.rsplit("/", 1)[1] for key in archive.store.keys(archive.folder(RUN))}
    assert {"1_ingest.attempt-1.json", "run.json"} <= names
    assert not [name for name in names if name.endswith((".ipynb", ".html"))]
    assert (record["outcome"], record["notebook"], record["html"]) == ("FAILED", None, None)
    assert (record["failure"]["cell"], record["withheld"]) == (2, "OSError")
    assert record["code"] == {"commit": "abc"}
    printed = capsys.readouterr()
    assert "Kanarie" not in everything_under(home / "archive") + printed.out + printed.err
    run = archive.run(RUN)
    assert (run["outcome"], run["reasons"]) == ("FAILED", ["withheld: the search for personal data failed (OSError)."])
    assert [each["stage"] for each in run["stages"]] == ["ingest"]
    moment = datetime(2025, 12, 1, tzinfo=timezone.utc)
    build_site([run], out=home / "report", title="Shop", archive_href=lambda run_id, file: f"{run_id}/{file}", now=moment)
    assert "withheld" in everything_under(home / "report")
