"""Execute one attempt of a stage with papermill, and archive its record and notebook."""

from __future__ import annotations

import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Callable, Optional

import nbformat
import papermill
from nbformat import NotebookNode

from daybook.errors import DatesFailedError, NotebookError, is_permanent
from daybook.execution.kernel import kernel_options, read_printed_output, remove_scratch
from daybook.execution.outcome import JOB_DIED, ObservedExecution, build_failure, find_failure, find_result, remove_results
from daybook.execution.outputs import OutputLimits, shorten, trim_cuts, trim_failure, trim_text
from daybook.execution.papermill_engine import ENGINE_NAME, read_running_cell
from daybook.notebook.parameters import load_notebook, notebook_path
from daybook.privacy.redactor import Redactor, withhold_free_text
from daybook.records.archive import Archive, format_timestamp, parse_timestamp
from daybook.records.clock import calculate_end_time
from daybook.records.models import SCHEMA_VERSION, AttemptRecord, ClaimRecord, ClockReading, Failure, StageResult
from daybook.records.names import STAGES, notebook_name, range_of
from daybook.records.timings import PhaseTimer
from daybook.report.active_content import remove_active_cell_content, remove_active_content
from daybook.report.notebook_page import render_notebook
from daybook.settings import Settings
from daybook.storage import describe_os_error, request_counts, storage_write_error

_NO_RECORD_REASON = (
    "the process ended without leaving a record: it was killed, its machine was lost, or the archive could not be written"
)
_START_TIMEOUT_SECONDS = 120
"""Seconds that a kernel may take to answer at first, on a cold machine too."""


def close_abandoned_attempts(archive: Archive, settings: Settings, run_id: str) -> list[AttemptRecord]:
    """Write the records of attempts whose process ended without one: it was killed, or its machine was lost.

    A run has one attempt at a time, so a claim without a record is over when the next attempt starts.
    """
    closed = []
    for stage, number, claim in archive.read_abandoned_attempts(run_id):
        attempt = Attempt(settings, stage, run_id, number, claim)
        attempt.seen = parse_timestamp(claim.started_at).timestamp()
        scratch = Path(claim.scratch)
        partial = scratch / "executed.ipynb"
        running = None
        try:
            executed = read_notebook(partial)
            attempt.seen = partial.stat().st_mtime
            running = read_running_cell(partial)
        except (OSError, ValueError):
            # The scratch folder was on a lost machine, or no whole notebook has been saved yet.
            executed = _load_unexecuted(stage)
        attempt.failure = build_failure(executed, running, JOB_DIED, _NO_RECORD_REASON)
        record = attempt.record(executed)
        closed.append(archive_attempt(archive, settings, record, executed, read_printed_output(scratch / "printed.txt")))
        remove_scratch(scratch)
    return closed


class Attempt:
    """One attempt of a stage. ``see`` is called with each cell that has run."""

    def __init__(
        self,
        settings: Settings,
        stage: str,
        run_id: str,
        number: int,
        claim: ClaimRecord,
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
        self.started_at = claim.started_at
        self.seen: Optional[float] = None
        """When it was last seen in progress, in seconds since 1970, if its end was not seen."""
        self.failure: Optional[Failure] = None
        self._observed = ObservedExecution()
        self._live: Optional[NotebookNode] = None

    def execute(self, path: Path, scratch: Path, parameters: dict[str, Any]) -> NotebookNode:
        """Execute the notebook in the scratch folder and return it; set ``failure`` if it failed."""
        output, work = scratch / "executed.ipynb", scratch / "work"
        try:
            # Cells may remove their working folder, so the job keeps nothing in it.
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
                        # Without this, a cell with the tag raises-exception fails the notebook after its closing cell has run.
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
        """Return the notebook that papermill saved last; the one in memory if it saved none, or not all (a full disk)."""
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
        remove_active_cell_content(cell)  # First, so that the searched text is the archived text.
        self._on_cell(cell)

    def _on_cell_error(self, execute_reply: dict[str, Any], **_: Any) -> None:
        content = execute_reply["content"]
        said = shorten(str(content["evalue"]), self.settings.cell_output_bytes // 4)
        self._observed.error_reply = {"ename": str(content["ename"]), "evalue": said}

    def record(self, notebook: NotebookNode) -> AttemptRecord:
        """Return the attempt's record, from the result in the notebook and from what the job observed."""
        result = find_result(notebook) or StageResult(outcome="FAILED", reasons=[])
        ended = compute_ended_at(self.started_at, self.claim.clock, seen=self.seen)
        failed = self.failure is not None
        permanent = self.failure is not None and self._is_permanent(self.failure.exception or "", result)
        first, last = range_of(self.run_id)
        peak = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024), 0)
        record = AttemptRecord(
            record="attempt",
            schema_version=SCHEMA_VERSION,
            run_id=self.run_id,
            run_date=first,
            env=self.settings.env,
            stage=self.stage,
            attempt=self.number,
            outcome="FAILED" if failed else result.outcome,
            permanent=permanent,
            reasons=[] if failed else result.reasons,
            started_at=self.started_at,
            ended_at=ended,
            seconds=seconds_between(self.started_at, ended),
            parameters=self.claim.parameters,
            rows=result.rows,
            peak_memory_bytes=max(result.peak_memory_bytes or 0, peak) or None,
            # Of the seconds of the cells, ``table_seconds`` went into tables (see daybook.records.timings).
            phases=self.phases.noted(),
            table_seconds=result.table_seconds,
            tables_read=result.tables_read,
            tables_written=result.tables_written,
            inputs=result.inputs,
            details=result.details,
            failure=self.failure and self.failure.changed(permanent=permanent),
            code=self.claim.code,
            engine=result.engine,
            python=self.claim.python,
            # Requests to buckets, of the notebook and of this process so far.
            requests=dict(Counter(result.requests) + request_counts),
        )
        if last != first:
            record.until, record.dates = last, result.dates if self._dates_have_ended() else {}
        return record

    def _dates_have_ended(self) -> bool:
        """Return whether the results of the dates are final: the stage ended, or no date of it could continue."""
        return self.failure is None or self.failure.exception == DatesFailedError.__name__

    def _is_permanent(self, exception: str, result: StageResult) -> bool:
        """Return whether the stage ends with this failure, by the name of the exception's class.

        Two failures are always retried. Notify must send a message, and the state machine learns of its failure from the exit
        code only. Quality must finish a publication that it has begun, because readers see a part of it.
        """
        if self.stage == STAGES[-1] or (self.stage == "quality" and result.tables_written):
            return False
        return is_permanent(exception)


def read_notebook(path: Path) -> NotebookNode:
    # Without capture nbformat prints what it finds invalid, which may be a row.
    unsaid: dict[str, Any] = {}
    notebook: NotebookNode = nbformat.read(path, as_version=4, capture_validation_error=unsaid)
    return notebook


def _load_unexecuted(stage: str) -> NotebookNode:
    """Return the stage's own notebook; an empty one if it cannot be read either."""
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
    record: AttemptRecord,
    notebook: NotebookNode,
    printed: str = "",
    phases: Optional[PhaseTimer] = None,
    redactor_now: Optional[Callable[[], Redactor]] = None,
) -> AttemptRecord:
    """Redact an attempt, put its record without the dates of a range into its notebook, and write both.

    If that fails, only the record is written, without any text that might hold personal data.

    Parameters
    ----------
    archive, settings
        Where it is written, and the deployment.
    record, notebook
        The attempt's record and its executed notebook, which is changed.
    printed
        What the notebook's process printed. It goes to the output of the job, which is a log that others read.
    phases
        Timer of the job's phases, if they are measured.
    redactor_now
        Returns the run's redactor, if another thread is building it already.

    Returns
    -------
    AttemptRecord
        The record as it is archived.
    """
    unsaid: dict[str, Any] = {}
    try:
        redactor = redactor_now() if redactor_now else load_redactor(settings, record.run_id, record.stage)
        clean = AttemptRecord.model_validate(redactor.redact_record(record.to_json()))
        remove_results(notebook)  # The record has them. Those of a range are most of its notebook.
        remove_active_content(notebook)
        redactor.redact_notebook(notebook)
        if clean.failure:
            clean.failure = Failure.model_validate(trim_failure(clean.failure.to_json()))
        trim_cuts(notebook)
        printed_clean = trim_text(redactor.redact_text(printed))
        clean.redactions = dict(sorted(redactor.counts.items()))
        if phases is not None:
            phases.end("search")
        title = f"{settings.title} · {notebook_name(record.stage)} · {_format_dates(record)}"
        # Markup can hide a value from a search, or join one: the page is searched again, as it is.
        page = render_notebook(notebook, title=title, record=clean, search=redactor.redact_texts)
        html = redactor.redact_text(page, exactly=True)
        if phases is not None:
            phases.end("page")
            clean.phases = phases.noted()
        notebook.metadata["daybook"] = {key: value for key, value in clean.to_json().items() if key != "dates"}
        content = nbformat.writes(notebook, capture_validation_error=unsaid)
    except Exception as error:  # noqa: BLE001 (what cannot be searched is not archived, whatever the reason)
        sys.stderr.write(
            f"What was printed is withheld: it could not be searched ({type(error).__name__}).\n" if printed else ""
        )
        withheld = AttemptRecord.model_validate(withhold_free_text(record.to_json(), error))
        return archive.write_attempt(withheld, None, None)
    sys.stderr.write(printed_clean)
    return archive.write_attempt(clean, content.encode(), html.encode())


def _format_dates(record: AttemptRecord) -> str:
    return f"{record.run_date} to {record.until}" if record.until else str(record.run_date)


def compute_ended_at(started: str, clock: Optional[ClockReading], *, seen: Optional[float] = None, least: float = 0.0) -> str:
    return format_timestamp(calculate_end_time(parse_timestamp(started).timestamp(), clock, seen=seen, least=least))


def seconds_between(started: str, ended: str) -> float:
    return round((parse_timestamp(ended) - parse_timestamp(started)).total_seconds(), 3)
