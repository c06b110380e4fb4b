"""Test each way in which a notebook can end, in record, log, page and message."""

from __future__ import annotations

import functools
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from papermill.exceptions import PapermillExecutionError

from daybook.execution.outcome import ObservedExecution, find_failure, remove_results
from daybook.notebook import begin, notify
from daybook.notebook import context as stages
from daybook.notebook.parameters import notebook_path
from daybook.records.archive import Archive
from daybook.records.failures import describe_failure
from daybook.records.models import Failure
from daybook.records.names import RESULT_MIME
from daybook.settings import load_settings
from tests.conftest import Project
from tests.execution.test_stage import RUN, job, outcome_of
from tests.small_notebooks import build_notebook

DAY, PATH = "2025-11-30", "notebooks/4_aggregate.ipynb"
RESULT = {"outcome": "SUCCEEDED", "reasons": [], "rows": {"in": 1, "out": 1}}
CLOSING = f"from IPython.display import display\ndisplay({{{RESULT_MIME!r}: {RESULT!r}}}, raw=True)"
DIED = "the kernel died in this cell"
NO_CLOSING = "the notebook ended without its closing cell; let its last cell make the call that ends the stage"


@dataclass(frozen=True)
class Ending:
    """A cell that ends a notebook, and the expected failure; none if the stage succeeds."""

    source: str
    exception: Optional[str] = None
    message: str = ""
    tags: tuple[str, ...] = ()


ENDINGS = {
    "exception": Ending("raise ValueError('The till is empty.')", "ValueError", "The till is empty."),
    "broken-exception": Ending(
        "class Odd(Exception):\n    def __str__(self):\n        raise RuntimeError('no')\nraise Odd",
        "RuntimeError",
        "no",
    ),
    "no-message": Ending("raise ValueError", "ValueError", "the exception has no message"),
    "sys.exit(0)": Ending("import sys\nsys.exit(0)", "SystemExit", "the cell exited with code 0 before the stage had ended; "),
    "sys.exit(3)": Ending("import sys\nsys.exit(3)", "SystemExit", "the cell exited with code 3 before the stage had ended; "),
    "exit": Ending("exit()", "SystemExit", "the cell exited with code 0 before the stage had ended; "),
    "do_shutdown": Ending(
        "get_ipython().kernel.do_shutdown(False)", "SystemExit", "the cell exited with code 0 before the stage had ended; "
    ),
    "exit-after-closing": Ending(f"{CLOSING}\nimport sys\nsys.exit(0)"),
    "os._exit(0)": Ending("import os\nos._exit(0)", "KernelDied", f"{DIED}: its process ended with exit code 0"),
    "os._exit(1)": Ending("import os\nos._exit(1)", "KernelDied", f"{DIED}: its process ended with exit code 1"),
    "SIGKILL": Ending(
        "import os\nos.kill(os.getpid(), 9)",
        "KernelDied",
        f"{DIED}: it was killed (SIGKILL), or the machine ran out of memory",
    ),
    "SIGTERM": Ending("import os\nos.kill(os.getpid(), 15)", "KernelDied", f"{DIED}: signal SIGTERM ended it"),
    "out-of-memory": Ending("bytearray(1 << 60)", "MemoryError", "the cell needs more memory than there is; "),
    "syntax-error": Ending("x = = 1", "SyntaxError", "invalid syntax ("),
    "line-magic": Ending("%nosuchmagic", "UsageError", "Line magic function `%nosuchmagic` not found."),
    "cell-magic": Ending("%%bashh\nls", "UsageError", "Cell magic `%%bashh` not found."),
    # Jupyter continues after a cell with this tag.
    "raises-exception": Ending("raise ValueError('Meant.')", "ValueError", "Meant.", ("raises-exception",)),
    "interrupt": Ending(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)",
        "KeyboardInterrupt",
        "the cell was interrupted",
    ),
    "timeout": Ending(
        "import time\ntime.sleep(600)",
        "CellTimeoutError",
        "A cell timed out while it was being executed, after 3 seconds.",
    ),
    "removed-folder": Ending("import os, shutil\nshutil.rmtree(os.getcwd())"),
}


def write_notebook(project: Project, *cells: NotebookNode) -> None:
    """Write a stage notebook with parameters, Daybook's extension and these cells."""
    content = build_notebook('env = "local"\nrun_date = "2025-11-30"\nrun_id = ""\noverrides = {}')
    content.metadata["kernelspec"] = {"name": "python3", "display_name": "Python", "language": "python"}
    content.cells[2:] = [new_code_cell("%load_ext daybook"), new_markdown_cell("## The end"), *cells]
    nbformat.write(content, project.root / PATH)


@pytest.fixture
def archive(home: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    monkeypatch.setattr(stages, "current", None)
    return Archive(load_settings("local").archive)


def page_link(archive: Archive) -> Optional[str]:
    """Return the cell to which the failure box of the attempt's page links; the page must have it."""
    page = archive.store.read(f"{archive.folder(RUN)}/4_aggregate.attempt-1.html").decode()
    box = re.search(r'<section class="failure".*?</section>', page, re.DOTALL)
    linked = re.search(r'href="#([^"]*)"', box[0]) if box else None
    assert linked is None or f'id="{linked[1]}" class="cell code failed"' in page
    return linked[1] if linked else None


def notified(caught: dict[str, Any]) -> dict[str, Any]:
    """Return the message of the run that notify writes."""
    stage = begin("notify", env="local", run_date=DAY, run_id=RUN)
    notify.write_message(stage, notify.look_back(stage, json.dumps(caught)))
    assert stage.ended == "SUCCEEDED"
    message: dict[str, Any] = stage.details["message"]
    assert message["subject"] == f"Daybook local: {DAY} FAILED in aggregate"
    return message


def executed_notebook(archive: Archive) -> NotebookNode:
    return nbformat.reads(archive.store.read(f"{archive.folder(RUN)}/4_aggregate.attempt-1.ipynb").decode(), 4)


PLAIN = """
import sys
import papermill
papermill.execute_notebook(*sys.argv[1:], parameters={"run_dat": "2025-11-29"}, kernel_name="python3", progress_bar=False)
"""


@pytest.mark.slow
def test_plain_papermill_with_unknown_parameter_fails(home: Path, tmp_path: Path) -> None:
    paths = [str(notebook_path("aggregate")), str(tmp_path / "executed.ipynb")]
    done = subprocess.run([sys.executable, "-c", PLAIN, *paths], capture_output=True, text=True, check=False)
    message = "NotebookError: This notebook has no parameter 'run_dat' (did you mean 'run_date'?); its parameters are: env, "
    assert message in done.stderr
    assert not home.exists()


@pytest.mark.slow
@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)
def test_ending_is_reported(
    project: Project,
    archive: Archive,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ending: Ending,
) -> None:
    write_notebook(project, new_code_cell(ending.source, metadata={"tags": list(ending.tags)}), new_code_cell(CLOSING))
    if ending.exception == "CellTimeoutError":
        # For this cell only: loading the extension may take long on a busy machine.
        limited = functools.partial(
            papermill.execute_notebook, timeout_func=lambda cell: 3 if cell.source == ending.source else None
        )
        monkeypatch.setattr("papermill.execute_notebook", limited)

    log = job(monkeypatch, "aggregate") or capsys.readouterr().err.strip()

    (record,) = archive.attempts(RUN)
    executed = executed_notebook(archive)
    if ending.exception is None:
        assert (record.outcome, record.failure, log) == ("SUCCEEDED", None, "")
        assert record.rows.to_json() == RESULT["rows"]
        return
    failure = record.failure
    assert (record.outcome, record.stage) == ("FAILED", "aggregate")
    assert (failure.exception, failure.cell, failure.source) == (ending.exception, 4, ending.source.splitlines()[0])
    first_line = failure.message.splitlines()[0]
    assert first_line.startswith(ending.message)
    failed = executed.cells[failure.index]
    assert (failed.source, failed.execution_count, failed.metadata.papermill.status) == (ending.source, 4, "failed")
    assert page_link(archive) == f"cell-{failure.index}"
    assert not executed.cells[-1].outputs, "the closing cell ran"
    assert log.splitlines()[-1] == f"{ending.exception}: {first_line}"
    outcome = outcome_of("aggregate")
    assert (outcome is not None) is record.permanent is (ending.exception == "UsageError")
    if outcome:
        caught = {"State": "Aggregate", "Error": "Daybook.PermanentFailure", "Cause": outcome["reasons"][0]}
    else:
        caught = {"State": "Aggregate", "Error": "States.TaskFailed", "Cause": "{}"}
    body = notified(caught)["body"].splitlines()
    assert body[:3] == [
        f"Demo shop, {DAY}: FAILED in aggregate",
        describe_failure(record),
        f"Cell 4 begins: {failure.source}",
    ]
    assert describe_failure(record).endswith(f": {ending.exception}: {first_line}")
    assert any(line.endswith("4_aggregate.attempt-1.html") for line in body)


def executed() -> NotebookNode:
    """Return a notebook that failed in its last cell, with the two cells that papermill adds."""
    content = build_notebook()
    for index in (2, 0):
        content.cells.insert(index, new_markdown_cell("An exception!", metadata={"tags": ["papermill-error-cell-tag"]}))
    return content


def test_removed_results_leave_what_a_cell_shows() -> None:
    notebook = build_notebook()
    both = new_output("display_data", data={RESULT_MIME: RESULT, "text/plain": "SUCCEEDED"})
    alone = new_output("display_data", data={RESULT_MIME: RESULT})
    notebook.cells[2].outputs = [both, alone, new_output("stream", text="printed")]
    remove_results(notebook)
    assert [each.get("data") for each in notebook.cells[2].outputs] == [
        {"text/plain": "SUCCEEDED"},
        {RESULT_MIME: RESULT},
        None,
    ]


def result(**fields: Any) -> NotebookNode:
    """Return a notebook whose last cell left a result."""
    return displayed({**RESULT, "details": {}, **fields})


def displayed(content: object) -> NotebookNode:
    """Return a notebook whose last cell displayed ``content`` as if it were a result."""
    shown: NotebookNode = build_notebook()
    shown.cells[2].outputs = [new_output("display_data", data={RESULT_MIME: content})]
    return shown


@pytest.mark.parametrize(
    ("content", "seen", "expected"),
    [
        (
            executed(),
            ObservedExecution(2, {"ename": "ValueError", "evalue": "No."}),
            Failure(exception="ValueError", message="No.", index=4, cell=2, source="print(env)"),
        ),
        # A cell displayed an exception that it caught.
        (
            executed(),
            ObservedExecution(2, error=PapermillExecutionError(1, 1, "", "KeyError", "'a'", [])),
            Failure(exception="KeyError", message="'a'", index=2, cell=1, source='env = "local"'),
        ),
        (
            build_notebook(),
            ObservedExecution(None, error=DeadKernelError("Kernel died"), exit_status=-11),
            Failure(exception="KernelDied", message="the kernel died before its first cell: signal SIGSEGV ended it"),
        ),
        (
            build_notebook(),
            ObservedExecution(2, error=DeadKernelError("Kernel died")),
            Failure(exception="KernelDied", message=DIED, index=2, cell=2, source="print(env)"),
        ),
        (
            build_notebook(),
            ObservedExecution(error=RuntimeError("not ready")),
            Failure(exception="RuntimeError", message="not ready"),
        ),
        (result(), ObservedExecution(2), None),
        (result(stage="notify", details={"run_outcome": "SKIPPED"}), ObservedExecution(2), None),
        (result(stage="notify"), ObservedExecution(2), Failure(exception="NotebookError", message=NO_CLOSING)),
        (result(outcome="GREAT"), ObservedExecution(2), Failure(exception="NotebookError", message=NO_CLOSING)),
        (displayed("nonsense"), ObservedExecution(2), Failure(exception="NotebookError", message=NO_CLOSING)),
        (displayed({"outcome": "SUCCEEDED"}), ObservedExecution(2), Failure(exception="NotebookError", message=NO_CLOSING)),
        (
            build_notebook(),
            ObservedExecution(2, {"ename": "Odd\nname", "evalue": "No."}),
            Failure(exception="Odd name", message="No.", index=2, cell=2, source="print(env)"),
        ),
        (result(outcome="FAILED"), ObservedExecution(2), Failure(exception="NotebookError", message=NO_CLOSING)),
        (build_notebook(), ObservedExecution(2), Failure(exception="NotebookError", message=NO_CLOSING)),
        (result(), ObservedExecution(2, {"ename": "SystemExit", "evalue": "0"}), None),
    ],
)
def test_failure_is_found(content: NotebookNode, seen: ObservedExecution, expected: Optional[Failure]) -> None:
    assert find_failure(content, seen) == expected


@pytest.mark.slow
def test_missing_closing_cell_is_reported(project: Project, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    write_notebook(project, new_code_cell("1 + 1"))
    assert job(monkeypatch, "aggregate") is None
    (record,) = archive.attempts(RUN)
    failure = record.failure
    assert (failure.exception, failure.cell, failure.index, record.permanent) == ("NotebookError", None, None, True)
    message = f"NotebookError: {NO_CLOSING}"
    why = "not retried: the same input would fail again"
    assert outcome_of("aggregate")["reasons"] == [f"aggregate failed (attempt 1, {why}): {message}"]  # type: ignore[index]
    assert page_link(archive) is None
    assert message in notified({"State": "Aggregate", "Error": "Daybook.PermanentFailure", "Cause": message})["body"]


def test_notebook_with_conflict_marks_is_reported(
    project: Project, archive: Archive, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, rest = (project.root / PATH).read_text().split("\n", 1)
    project.write(PATH, f"{first}\n<<<<<<< HEAD\n{rest}")
    assert job(monkeypatch, "aggregate") is None
    message = "NotebookError: 4_aggregate.ipynb has a conflict marker of git in line 2; resolve the conflict."
    assert capsys.readouterr().err.strip() == message
    (reason,) = outcome_of("aggregate")["reasons"]  # type: ignore[index]
    assert reason == f"aggregate did not start (not retried: the same input would fail again): {message}"
    Archive(load_settings("local").archive).ensure_started(RUN)
    caught: dict[str, Any] = {"State": "Aggregate", "Error": "Daybook.PermanentFailure", "Cause": reason}
    assert reason in notified(caught)["body"]
