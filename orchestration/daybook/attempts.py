"""One attempt of a stage: papermill executes its notebook on scratch; a record and the notebook are archived.

Here: how an attempt ended whatever happened to its kernel or its process. All that is archived or printed has been searched for
personal data before. Not here: what comes before and after an attempt (``daybook.execution``), what the notebook does
(``daybook.notebook``), what is personal (``daybook.personal``), names and order of files in the archive (``daybook.archive``).
"""

from __future__ import annotations

import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Optional

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from daybook.archive import Archive, Record, moment, parse_moment
from daybook.elapsed import end_of
from daybook.errors import is_permanent
from daybook.kernel import kernel_options, printed_in, remove_scratch
from daybook.parameters import notebook_path
from daybook.params import Settings
from daybook.phases import Phases
from daybook.pii.redaction import Redactor, withheld
from daybook.report.notebook_page import render_notebook
from daybook.saving import ENGINE, running_cell
from daybook.stages import RESULT_MIME, STAGES, notebook_name, run_date_of
from daybook.storage import requests, trouble, unwritable

_LEFT_NO_RECORD = (
    "the process ended without leaving a record: it was killed, its machine was lost, or the archive could not be written"
)
_START_TIMEOUT = 120
"""Seconds a kernel may take to answer at first: generous, for a cold machine."""


def close_abandoned(archive: Archive, settings: Settings, run_id: str) -> list[Record]:
    """Write the records of attempts whose process ended without one: it was killed, or its machine was lost.

    A run has one attempt at a time, so whatever is claimed and has no record when the next begins is over.
    """
    closed = []
    for stage, number, claim in archive.abandoned_attempts(run_id):
        attempt = Attempt(settings, stage, run_id, number, claim)
        attempt.seen = parse_moment(claim["started_at"]).timestamp()
        scratch = Path(claim["scratch"])
        partial = scratch / "executed.ipynb"
        try:
            executed = read_notebook(partial)
            attempt.seen = partial.stat().st_mtime
            noted = running_cell(partial)
            attempt.running = _started_last(executed) if noted is None else noted
        except (OSError, ValueError):
            # The scratch was on a machine that is gone, or nothing was saved yet, or not to its end.
            executed = read_notebook(notebook_path(stage))
        attempt.failure = attempt.failure_in(executed, None, _LEFT_NO_RECORD)
        record = attempt.record(executed)
        closed.append(archive_attempt(archive, settings, record, executed, printed_in(scratch / "printed.txt")))
        remove_scratch(scratch)
    return closed


class Attempt:
    """One attempt while it is under way, and how it came out. ``see`` is shown each cell that ran."""

    def __init__(
        self,
        settings: Settings,
        stage: str,
        run_id: str,
        number: int,
        claim: dict[str, Any],
        phases: Optional[Phases] = None,
        see: Callable[[NotebookNode], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.stage = stage
        self.run_id = run_id
        self.number = number
        self.claim = claim
        self.phases = phases or Phases()
        self._see = see
        self.parameters: dict[str, Any] = claim["parameters"]
        self.started_at: str = claim["started_at"]
        self.seen: Optional[float] = None
        """When it was last seen at work, in seconds since 1970, where its end was not."""
        self.running: Optional[int] = None
        self.failure: Optional[dict[str, Any]] = None

    def execute(self, path: Path, scratch: Path, parameters: dict[str, Any]) -> NotebookNode:
        """Run the notebook on scratch, in the environment as it is; what went wrong is left in ``failure``."""
        output = scratch / "executed.ipynb"
        try:
            with kernel_options(scratch) as options:
                papermill.execute_notebook(
                    str(path),
                    str(output),
                    parameters=parameters,
                    engine_name=ENGINE,
                    kernel_name="python3",
                    progress_bar=False,
                    cwd=str(scratch),
                    start_timeout=_START_TIMEOUT,
                    on_cell_execute=self._note_cell,
                    on_cell_executed=self._note_end,
                    **options,
                )
        except PapermillExecutionError as error:
            executed = _read_saved(output, path)
            self.failure = self.failure_in(executed, error.ename, error.evalue)
            return executed
        except Exception as error:  # noqa: BLE001 (whatever papermill raises, the attempt gets its record)
            executed = _read_saved(output, path)
            name, said = None, repr(error)
            if isinstance(error, DeadKernelError):
                said = "the kernel died in this cell: it was killed, or the machine ran out of memory"
            elif isinstance(error, OSError) and trouble(error):
                full = unwritable(f"The scratch folder {scratch}", error)
                name, said = type(full).__name__, str(full)
            self.failure = self.failure_in(executed, name, said)
            return executed
        finally:
            self.phases.executed()
        return read_notebook(output)

    def _note_cell(self, cell: NotebookNode, cell_index: int, **_: Any) -> None:
        self.running = cell_index
        tags = cell.metadata.get("tags", [])
        self.phases.cell_begins(parameters="parameters" in tags or "injected-parameters" in tags)

    def _note_end(self, cell: NotebookNode, **_: Any) -> None:
        self.phases.cell_ended()
        self._see(cell)

    def failure_in(self, notebook: NotebookNode, exception: Optional[str], message: str) -> dict[str, Any]:
        """What failed, and in which cell, by the number that Jupyter shows for it."""
        index = _raised_in(notebook)
        if index is None and self.running is not None and self.running < len(notebook.cells):
            index = self.running
        told: dict[str, Any] = {"cell": None, "source": None, "exception": exception, "message": message}
        if index is not None and notebook.cells[index].cell_type == "code":
            told["cell"] = sum(1 for cell in notebook.cells[: index + 1] if cell.cell_type == "code")
            told["source"] = next(iter(notebook.cells[index].source.strip().splitlines()), "")
            _mark_from(notebook, index)
        return told

    def record(self, notebook: NotebookNode) -> Record:
        """The attempt's record, from what the notebook's last act left and from what was seen from outside."""
        result = _result_in(notebook)
        if self.failure is None and result is None:
            self.failure = self.failure_in(
                notebook,
                None,
                "the notebook ended without its closing cell; end it with one of the stage's closing calls",
            )
        ended = ended_at(self.started_at, self.claim.get("clock"), seen=self.seen)
        result = result or {}
        failed = self.failure is not None
        permanent = self.failure is not None and self._is_permanent(self.failure["exception"], result)
        peak = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024), 0)
        return {
            "record": "attempt",
            "run_id": self.run_id,
            "run_date": run_date_of(self.run_id).isoformat(),
            "env": self.settings.env,
            "stage": self.stage,
            "attempt": self.number,
            "outcome": "FAILED" if failed else result["outcome"],
            "permanent": permanent,
            "reasons": [] if failed else result["reasons"],
            "started_at": self.started_at,
            "ended_at": ended,
            "seconds": seconds_between(self.started_at, ended),
            "parameters": self.parameters,
            "rows": result.get("rows", {}),
            "peak_memory_bytes": max(result.get("peak_memory_bytes", 0), peak) or None,
            # Where the seconds went, and of those of the cells what tables cost (see daybook.phases).
            "phases": self.phases.noted(),
            "table_seconds": result.get("table_seconds", {}),
            "tables_read": result.get("tables_read", {}),
            "tables_written": result.get("tables_written", {}),
            "inputs": result.get("inputs", []),
            "details": result.get("details", {}),
            "failure": self.failure and {**self.failure, "permanent": permanent},
            "code": self.claim["code"],
            "engine": result.get("engine"),
            "python": self.claim["python"],
            # To buckets, of the notebook and of this process so far.
            "requests": dict(Counter(result.get("requests", {})) + requests),
        }

    def _is_permanent(self, exception: Optional[str], result: dict[str, Any]) -> bool:
        """Return whether the stage ends with this failure, by the name of the exception's class.

        Two failures are retried whatever their cause. Notify must send a message, and the state machine tells that it failed
        by its job's exit code only. Quality must finish a publication that it began, for readers see a part of it.
        """
        if self.stage == STAGES[-1] or (self.stage == "quality" and result.get("tables_written")):
            return False
        return is_permanent(exception)


def read_notebook(path: Path) -> NotebookNode:
    # nbformat would print what it finds invalid, and that may be a row.
    unsaid: dict[str, Any] = {}
    notebook: NotebookNode = nbformat.read(path, as_version=4, capture_validation_error=unsaid)
    return notebook


def _read_saved(saved: Path, path: Path) -> NotebookNode:
    """What papermill saved last; the stage's own notebook where it saved nothing, or not to its end (a full disk)."""
    try:
        return read_notebook(saved)
    except (OSError, ValueError):
        return read_notebook(path)


def redactor_of(settings: Settings, run_id: str, stage: Optional[str] = None) -> Redactor:
    from daybook.personal import redactor_for

    return redactor_for(settings, run_id, stage=stage)


def archive_attempt(
    archive: Archive,
    settings: Settings,
    record: Record,
    notebook: NotebookNode,
    printed: str = "",
    phases: Optional[Phases] = None,
    redactor_now: Optional[Callable[[], Redactor]] = None,
) -> Record:
    """Take personal data out of an attempt, stamp its notebook from its record, and write both.

    Where that fails only the record is written, without any text that might hold personal data. ``printed`` goes to the job's
    own output, which is a log that others read. ``redactor_now`` gives the run's redactor where one is being made already.
    """
    unsaid: dict[str, Any] = {}
    try:
        redactor = redactor_now() if redactor_now else redactor_of(settings, record["run_id"], record["stage"])
        record_clean = redactor.record(record)
        redactor.notebook(notebook)
        printed_clean = redactor.text(printed)
        record_clean["redactions"] = dict(sorted(redactor.counts.items()))
        if phases is not None:
            phases.end("search")
        title = f"{settings.title} · {notebook_name(record['stage'])} · {record['run_date']}"
        # Markup can hide a value from a search, or bring one together: the page is searched once more, as it is.
        html = redactor.text(render_notebook(notebook, title=title, record=record_clean), exactly=True)
        if phases is not None:
            phases.end("page")
            record_clean["phases"] = phases.noted()
        notebook.metadata["daybook"] = record_clean
        content = nbformat.writes(notebook, capture_validation_error=unsaid)
    except Exception as error:  # noqa: BLE001 (what cannot be searched is not archived, whatever the reason)
        sys.stderr.write(
            f"What was printed is withheld: it could not be searched ({type(error).__name__}).\n" if printed else ""
        )
        return archive.write_attempt(withheld(record, error), None, None)
    sys.stderr.write(printed_clean)
    return archive.write_attempt(record_clean, content.encode(), html.encode())


def _result_in(notebook: NotebookNode) -> Optional[dict[str, Any]]:
    """The last result that a cell left, if any."""
    found = None
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            found = output.get("data", {}).get(RESULT_MIME, found)
    return found


def _raised_in(notebook: NotebookNode) -> Optional[int]:
    """The cell that raised. Found by its output, since papermill inserts remarks of its own, which move the cells."""
    for index, cell in enumerate(notebook.cells):
        if any(output.get("output_type") == "error" for output in cell.get("outputs", [])):
            return index
    return None


def _mark_from(notebook: NotebookNode, index: int) -> None:
    """Correct what papermill says after a dead kernel: this cell failed, those after it never ran."""
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and number >= index:
            state = cell.metadata.setdefault("papermill", {})
            state["status"] = "failed" if number == index else "pending"
            state["exception"] = True if number == index else None


def _started_last(notebook: NotebookNode) -> Optional[int]:
    """The cell that a saved, unfinished notebook was executing: the last that started."""
    started = [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
    ]
    return started[-1] if started else None


def ended_at(started: str, clock: Optional[dict[str, Any]], *, seen: Optional[float] = None, least: float = 0.0) -> str:
    return moment(end_of(parse_moment(started).timestamp(), clock, seen=seen, least=least))


def seconds_between(started: str, ended: str) -> float:
    return round((parse_moment(ended) - parse_moment(started)).total_seconds(), 3)
