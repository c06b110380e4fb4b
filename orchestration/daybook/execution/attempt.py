"""One attempt of a stage: papermill executes its notebook on scratch; a record and the notebook are archived."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Optional

import nbformat
import papermill
from nbformat import NotebookNode

from daybook.errors import NotebookError, is_permanent
from daybook.execution.kernel import kernel_options, read_printed_output, remove_scratch
from daybook.execution.outcome import JOB_DIED, Failure, ObservedExecution, build_failure, find_failure, find_result
from daybook.execution.outputs import OutputLimits, shorten, trim_cuts, trim_failure, trim_text
from daybook.execution.papermill_engine import ENGINE_NAME, read_running_cell
from daybook.notebook.parameters import load_notebook, notebook_path
from daybook.privacy.redactor import Redactor, withhold_free_text
from daybook.records.archive import Archive, Record, format_timestamp, parse_timestamp
from daybook.records.clock import calculate_end_time
from daybook.records.names import STAGES, notebook_name, run_date_of
from daybook.records.timings import PhaseTimer
from daybook.report.active_content import remove_active_cell_content, remove_active_content
from daybook.report.notebook_page import render_notebook
from daybook.settings import Settings
from daybook.storage import describe_os_error, request_counts, storage_write_error

_NO_RECORD_REASON = (
    "the process ended without leaving a record: it was killed, its machine was lost, or the archive could not be written"
)
_START_TIMEOUT_SECONDS = 120
"""Seconds a kernel may take to answer at first: generous, for a cold machine."""


def close_abandoned_attempts(archive: Archive, settings: Settings, run_id: str) -> list[Record]:
    """Write the records of attempts whose process ended without one: it was killed, or its machine was lost.

    A run has one attempt at a time, so whatever is claimed and has no record when the next begins is over.
    """
    closed = []
    for stage, number, claim in archive.read_abandoned_attempts(run_id):
        attempt = Attempt(settings, stage, run_id, number, claim)
        attempt.seen = parse_timestamp(claim["started_at"]).timestamp()
        scratch = Path(claim["scratch"])
        partial = scratch / "executed.ipynb"
        running = None
        try:
            executed = read_notebook(partial)
            attempt.seen = partial.stat().st_mtime
            noted = read_running_cell(partial)
            running = _find_last_started_cell(executed) if noted is None else noted
        except (OSError, ValueError):
            # The scratch was on a machine that is gone, or nothing was saved yet, or not to its end.
            executed = _load_unexecuted(stage)
        attempt.failure = build_failure(executed, running, JOB_DIED, _NO_RECORD_REASON)
        record = attempt.record(executed)
        closed.append(archive_attempt(archive, settings, record, executed, read_printed_output(scratch / "printed.txt")))
        remove_scratch(scratch)
    return closed


class Attempt:
    """One attempt while it is under way, and how it came out. ``submit_output`` is shown each cell that ran."""

    def __init__(
        self,
        settings: Settings,
        stage: str,
        run_id: str,
        number: int,
        claim: dict[str, Any],
        phases: Optional[PhaseTimer] = None,
        see: Callable[[NotebookNode], None] = lambda _: None,
    ) -> None:
        self.settings = settings
        self.stage = stage
        self.run_id = run_id
        self.number = number
        self.claim = claim
        self.phases = phases or PhaseTimer()
        self._on_cell = see
        self.parameters: dict[str, Any] = claim["parameters"]
        self.started_at: str = claim["started_at"]
        self.seen: Optional[float] = None
        """When it was last seen at work, in seconds since 1970, where its end was not."""
        self.failure: Optional[Failure] = None
        self._observed = ObservedExecution()
        self._live: Optional[NotebookNode] = None

    def execute(self, path: Path, scratch: Path, parameters: dict[str, Any]) -> NotebookNode:
        """Run the notebook on scratch, in the environment as it is; what went wrong is left in ``failure``."""
        output, work = scratch / "executed.ipynb", scratch / "work"
        try:
            # Cells may remove their working folder. It holds nothing that the job needs, and the job never works in it.
            work.mkdir()
            with kernel_options(scratch) as options:
                try:
                    papermill.execute_notebook(
                        str(path),
                        str(output),
                        parameters=parameters,
                        engine_name=ENGINE_NAME,
                        kernel_name="python3",
                        progress_bar=False,
                        resources={"metadata": {"path": str(work)}},
                        start_timeout=_START_TIMEOUT_SECONDS,
                        limits=OutputLimits(self.settings.cell_output_bytes, self.settings.notebook_output_bytes),
                        # Else a cell with the tag raises-exception would fail the notebook after its closing cell has run.
                        force_raise_errors=True,
                        on_notebook_start=self._on_notebook_start,
                        on_cell_execute=self._on_cell_execute,
                        on_cell_executed=self._on_cell_executed,
                        on_cell_error=self._on_cell_error,
                        **options,
                    )
                finally:
                    self._observed.exit_status = options["kernel_manager_class"].exit_status
        except Exception as error:  # noqa: BLE001 (whatever papermill raises, the attempt gets its record)
            full = isinstance(error, OSError) and describe_os_error(error)
            self._observed.error = storage_write_error(f"The scratch folder {scratch}", error) if full else error
        finally:
            self.phases.end_notebook()
        executed = self._read_executed(output)
        self.failure = find_failure(executed, self._observed)
        return executed

    def _read_executed(self, output: Path) -> NotebookNode:
        """Return what papermill saved last; where it saved nothing, or not to its end (a full disk), what it last had."""
        try:
            return read_notebook(output)
        except (OSError, ValueError):
            return _load_unexecuted(self.stage) if self._live is None else self._live

    def _on_notebook_start(self, notebook: NotebookNode) -> None:
        self._live = notebook

    def _on_cell_execute(self, cell: NotebookNode, cell_index: int, **_: Any) -> None:
        self._observed.running = cell_index
        tags = cell.metadata.get("tags", [])
        self.phases.start_cell(parameters="parameters" in tags or "injected-parameters" in tags)

    def _on_cell_executed(self, cell: NotebookNode, **_: Any) -> None:
        self.phases.end_cell()
        remove_active_cell_content(cell)  # Before it is searched, so that what is searched now is what is archived.
        self._on_cell(cell)

    def _on_cell_error(self, execute_reply: dict[str, Any], **_: Any) -> None:
        content = execute_reply["content"]
        said = shorten(str(content["evalue"]), self.settings.cell_output_bytes // 4)
        self._observed.error_reply = {"ename": str(content["ename"]), "evalue": said}

    def record(self, notebook: NotebookNode) -> Record:
        """The attempt's record, from what the notebook's last act left and from what was seen from outside."""
        result = find_result(notebook) or {}
        ended = compute_ended_at(self.started_at, self.claim.get("clock"), seen=self.seen)
        failed = self.failure is not None
        permanent = self.failure is not None and self._is_permanent(self.failure.exception, result)
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
            # Where the seconds went, and of those of the cells what tables cost (see daybook.records.timings).
            "phases": self.phases.noted(),
            "table_seconds": result.get("table_seconds", {}),
            "tables_read": result.get("tables_read", {}),
            "tables_written": result.get("tables_written", {}),
            "inputs": result.get("inputs", []),
            "details": result.get("details", {}),
            "failure": self.failure and {**asdict(self.failure), "permanent": permanent},
            "code": self.claim["code"],
            "engine": result.get("engine"),
            "python": self.claim["python"],
            # To buckets, of the notebook and of this process so far.
            "requests": dict(Counter(result.get("requests", {})) + request_counts),
        }

    def _is_permanent(self, exception: str, result: dict[str, Any]) -> bool:
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


def _load_unexecuted(stage: str) -> NotebookNode:
    """Return the stage's own notebook; an empty one where that cannot be read either."""
    try:
        return load_notebook(notebook_path(stage))
    except NotebookError:
        empty: NotebookNode = nbformat.v4.new_notebook()
        return empty


def load_redactor(settings: Settings, run_id: str, stage: Optional[str] = None) -> Redactor:
    from daybook.privacy.run_values import build_redactor

    return build_redactor(settings, run_id, stage=stage)


def archive_attempt(
    archive: Archive,
    settings: Settings,
    record: Record,
    notebook: NotebookNode,
    printed: str = "",
    phases: Optional[PhaseTimer] = None,
    redactor_now: Optional[Callable[[], Redactor]] = None,
) -> Record:
    """Take personal data out of an attempt, stamp its notebook from its record, and write both.

    Where that fails only the record is written, without any text that might hold personal data. ``printed`` goes to the job's
    own output, which is a log that others read. ``redactor_now`` gives the run's redactor where one is being made already.
    """
    unsaid: dict[str, Any] = {}
    try:
        redactor = redactor_now() if redactor_now else load_redactor(settings, record["run_id"], record["stage"])
        record_clean = redactor.redact_record(record)
        remove_active_content(notebook)
        redactor.redact_notebook(notebook)
        if record_clean["failure"]:
            record_clean["failure"] = trim_failure(record_clean["failure"])
        trim_cuts(notebook)
        printed_clean = trim_text(redactor.redact_text(printed))
        record_clean["redactions"] = dict(sorted(redactor.counts.items()))
        if phases is not None:
            phases.end("search")
        title = f"{settings.title} · {notebook_name(record['stage'])} · {record['run_date']}"
        # Markup can hide a value from a search, or bring one together: the page is searched once more, as it is.
        page = render_notebook(notebook, title=title, record=record_clean, search=redactor.redact_texts)
        html = redactor.redact_text(page, exactly=True)
        if phases is not None:
            phases.end("page")
            record_clean["phases"] = phases.noted()
        notebook.metadata["daybook"] = record_clean
        content = nbformat.writes(notebook, capture_validation_error=unsaid)
    except Exception as error:  # noqa: BLE001 (what cannot be searched is not archived, whatever the reason)
        sys.stderr.write(
            f"What was printed is withheld: it could not be searched ({type(error).__name__}).\n" if printed else ""
        )
        return archive.write_attempt(withhold_free_text(record, error), None, None)
    sys.stderr.write(printed_clean)
    return archive.write_attempt(record_clean, content.encode(), html.encode())


def _find_last_started_cell(notebook: NotebookNode) -> Optional[int]:
    """The cell that a saved, unfinished notebook was executing: the last that started."""
    started = [
        index
        for index, cell in enumerate(notebook.cells)
        if cell.cell_type == "code" and cell.metadata.get("papermill", {}).get("start_time")
    ]
    return started[-1] if started else None


def compute_ended_at(started: str, clock: Optional[dict[str, Any]], *, seen: Optional[float] = None, least: float = 0.0) -> str:
    return format_timestamp(calculate_end_time(parse_timestamp(started).timestamp(), clock, seen=seen, least=least))


def seconds_between(started: str, ended: str) -> float:
    return round((parse_timestamp(ended) - parse_timestamp(started)).total_seconds(), 3)
