"""Find why a notebook failed, as one ``Failure`` for the record, the log, the message and the page."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Optional

from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError
from pydantic import ValidationError

from daybook.errors import NotebookError
from daybook.records.models import Failure, StageResult
from daybook.records.names import RESULT_MIME, STAGES

KERNEL_DIED, JOB_DIED = "KernelDied", "JobDied"
"""The names of failures that have no exception: the process of the kernel, or of the whole job, ended."""
_PAPERMILL_ERROR_TAG = "papermill-error-cell-tag"
"""The tag of the cells that papermill adds to a notebook after an exception."""
_DEFAULT_MESSAGES = {
    "KeyboardInterrupt": "the cell was interrupted",
    "MemoryError": "the cell needs more memory than there is; give the job more, or let the cell read less",
}
"""The message of an exception that has none."""


@dataclass
class ObservedExecution:
    """What the job observed while its notebook was executed."""

    running: Optional[int] = None
    """The cell that started last: its place in the notebook that was given to the kernel, from 0."""
    error_reply: Optional[Mapping[str, Any]] = None
    """The kernel's reply to the cell that raised: ``ename`` and ``evalue``."""
    error: Optional[Exception] = None
    """The exception that papermill raised."""
    exit_status: Optional[int] = None
    """The kernel's exit code, or the negative number of the signal that ended it."""


def find_failure(notebook: NotebookNode, seen: ObservedExecution) -> Optional[Failure]:
    """Return the failure of an executed notebook; None if its closing cell left a result."""
    ended = _has_closing_result(find_result(notebook))
    error = seen.error
    if seen.error_reply is not None:
        # The reply has more than the outputs: IPython only prints an unknown magic.
        name, message = str(seen.error_reply["ename"]), str(seen.error_reply["evalue"]).strip()
        if name != "SystemExit":
            return build_failure(notebook, seen.running, name, message)
        if ended and message in ("", "0", "None"):
            return None
        return build_failure(
            notebook,
            seen.running,
            name,
            f"the cell exited with code {message or 0} before the stage had ended; remove exit() or sys.exit(), and use "
            "stage.skip(reason) to end a stage early",
        )
    if isinstance(error, PapermillExecutionError):
        return build_failure(notebook, error.cell_index, error.ename, error.evalue)
    if isinstance(error, DeadKernelError):
        where = "before its first cell" if seen.running is None else "in this cell"
        return build_failure(
            notebook, seen.running, KERNEL_DIED, f"the kernel died {where}{_describe_exit_status(seen.exit_status)}"
        )
    if error is not None:
        return build_failure(notebook, seen.running, type(error).__name__, str(error))
    if not ended:
        return _make_failure(
            NotebookError.__name__,
            "the notebook ended without its closing cell; let its last cell make the call that ends the stage",
        )
    return None


def build_failure(notebook: NotebookNode, place: Optional[int], exception: str, message: str) -> Failure:
    """Return a failure in the cell at a ``place`` of the notebook that was given to the kernel, and mark that cell.

    papermill adds cells with remarks, which move the cells behind them.
    """
    exception = " ".join(exception.split())  # A class made at run time can have line ends in its name.
    message = message or _DEFAULT_MESSAGES.get(exception, "the exception has no message")
    cells = [index for index, cell in enumerate(notebook.cells) if _PAPERMILL_ERROR_TAG not in cell.metadata.get("tags", [])]
    if place is None or place >= len(cells) or notebook.cells[cells[place]].cell_type != "code":
        return _make_failure(exception, message)
    index = cells[place]
    cell = notebook.cells[index]
    executed = [each for each in notebook.cells[: index + 1] if each.cell_type == "code" and each.source.strip()]
    # A kernel that died may not have sent the execution count of its last cell.
    cell.execution_count = cell.get("execution_count") or len(executed)
    for each in notebook.cells[index:]:
        if each.cell_type == "code":
            # If the kernel died, papermill has marked the cell as completed.
            state = each.metadata.setdefault("papermill", {})
            state["status"] = "failed" if each is cell else "pending"
            state["exception"] = True if each is cell else None
    first_line = next(iter(cell.source.strip().splitlines()), "")
    return _make_failure(exception, message, index, cell.execution_count, first_line)


def _make_failure(
    exception: str,
    message: str,
    index: Optional[int] = None,
    cell: Optional[int] = None,
    source: Optional[str] = None,
) -> Failure:
    # All keys are given, so that all are written.
    return Failure(exception=exception, message=message, index=index, cell=cell, source=source)


def find_result(notebook: NotebookNode) -> Optional[StageResult]:
    """Return the last result that a cell left, or None. Any cell can display this MIME type; other content is no result."""
    found = None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            content = output.get("data", {}).get(RESULT_MIME)
            if content is not None:
                with suppress(ValidationError):
                    found = StageResult.model_validate(content)
    return found


def remove_results(notebook: NotebookNode) -> None:
    """Remove from a notebook, in place, the results that cells left, except from outputs that have nothing else."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if len(data) > 1:
                data.pop(RESULT_MIME, None)


def _has_closing_result(result: Optional[StageResult]) -> bool:
    """Return whether the closing cell left a result; that of notify has the outcome of the run."""
    if result is None or result.outcome == "FAILED":
        return False
    return result.stage != STAGES[-1] or result.details.run_outcome is not None


def _describe_exit_status(exit_status: Optional[int]) -> str:
    if exit_status is None:
        return ""
    if exit_status >= 0:
        return f": its process ended with exit code {exit_status}"
    if exit_status == -signal.SIGKILL:
        return ": it was killed (SIGKILL), or the machine ran out of memory"
    name = str(-exit_status)
    with suppress(ValueError):
        name = signal.Signals(-exit_status).name
    return f": signal {name} ended it"
