"""One attempt of a stage: papermill executes its notebook on scratch, then the record and the notebook are archived.

Here: parameters checked before a kernel starts, how an attempt ended whatever happened to its kernel, and closing a run. All
that is archived or printed has been searched for personal data before. Not here: what the notebook does (``daybook.notebook``),
what is personal (``daybook.personal``), names and order of files in the archive (``daybook.archive``).
"""

from __future__ import annotations

import ast
import logging
import platform
import resource
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from statistics import median
from threading import Thread
from typing import Any, Callable, Optional

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from papermill.exceptions import PapermillExecutionError

from daybook.archive import Archive, Record, moment, now, parse_moment
from daybook.contracts import LAYERS, load_tables
from daybook.cost import cost_of, estimated_use, load_prices, used_in
from daybook.elapsed import end_of, reading
from daybook.errors import DaybookError, NotebookError, UsageError
from daybook.kernel import home_of_its_own, kernel_options, printed_in, printing_to, remove_scratch
from daybook.lineage.graph import collect, without_lineage
from daybook.openlineage import as_lines, post_events, run_events
from daybook.params import Settings, load_settings, looks_secret, parse_run_date, project_root
from daybook.phases import Phases
from daybook.pii.redaction import Redactor, withheld
from daybook.provenance import code_version, fingerprint, state_machine_version
from daybook.report import render_notebook
from daybook.sources import load_source
from daybook.stages import RESULT_MIME, STAGES, notebook_name, run_date_of
from daybook.storage import requests, trouble, unwritable, writing

_log = logging.getLogger(__name__)

_LEFT_NO_RECORD = (
    "the process ended without leaving a record: it was killed, its machine was lost, or the archive could not be written"
)
History = Callable[[], Iterable[Mapping[str, Any]]]
"""Asks for the events of the execution that a run is in, oldest first."""
_USUAL_DAYS, _USUAL_LEAST = 28, 7
"""How many business dates say how long a run usually takes, and of how many of them there must be a good run."""
_START_TIMEOUT = 120
"""Seconds a kernel may take to answer at first: generous, for a cold machine."""


def notebook_path(stage: str) -> Path:
    """The stage's notebook in the project."""
    if stage not in STAGES:
        raise UsageError(f"There is no stage {stage!r}; the stages are: {', '.join(STAGES)}.")
    return project_root() / "notebooks" / f"{notebook_name(stage)}.ipynb"


def declared_parameters(notebook: NotebookNode, name: str) -> dict[str, Any]:
    """The parameters and defaults of a notebook's one ``parameters`` cell, which is its first code cell."""
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    tagged = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1 or tagged[0] is not code[0]:
        raise NotebookError(f"{name} has {len(tagged)} cells tagged 'parameters'; it needs one, the first code cell.")
    try:
        assigned = [each for each in ast.parse(tagged[0].source).body if isinstance(each, ast.Assign)]
        declared = {str(each.targets[0].id): ast.literal_eval(each.value) for each in assigned}  # type: ignore[attr-defined]
    except (SyntaxError, ValueError, AttributeError):
        raise NotebookError(f"{name}: the parameters cell may only hold lines such as name = 'text'; mend it.") from None
    _refuse_secrets(declared, name)
    return declared


def check_parameters(notebook: NotebookNode, name: str, given: Mapping[str, Any]) -> None:
    """Refuse an unknown or mistyped parameter before a kernel starts (papermill itself only warns)."""
    declared = declared_parameters(notebook, name)
    _refuse_secrets(given, name)
    for key, value in given.items():
        if key not in declared:
            raise NotebookError(f"{name} has no parameter {key!r}; its parameters are: {', '.join(declared)}.")
        if type(value) is not type(declared[key]):
            wanted, found = type(declared[key]).__name__, type(value).__name__
            raise NotebookError(f"{name}: parameter {key} is {value!r}, a {found}, where a {wanted} is wanted.")


def _refuse_secrets(parameters: Mapping[str, Any], name: str) -> None:
    """Parameters end up in records and notebooks, so a secret must not be one. Nor is its value said here."""
    for key in parameters:
        if looks_secret(key):
            raise NotebookError(
                f"{name}: parameter {key!r} looks like a secret, and only names of secrets pass; keep it in a secret store and "
                "give its name, as a parameter that ends in _secret_name."
            )


def run_stage(
    stage: str,
    *,
    env: str,
    run_date: str,
    run_id: str,
    part_of: Optional[str] = None,
    overrides: Optional[dict[str, str]] = None,
    extra: Optional[dict[str, Any]] = None,
    history: Optional[History] = None,
    began: Optional[float] = None,
) -> Record:
    """Execute a stage's notebook once and archive the attempt; returns its record, whatever the outcome.

    ``part_of`` names the backfill that the run is a day of, for a run whose name was taken elsewhere than in the archive.
    ``history`` asks for the execution's events, by which the run's cost is measured as it is closed; without it, estimated.
    ``began`` is when this process did, where it has come for this stage only (``daybook.phases``).
    Raises ``UsageError`` for parameters and sources that cannot be run at all; nothing is archived then.
    """
    phases = Phases(began)
    phases.end("start")
    settings = load_settings(env, overrides)
    load_source(settings.source)  # It says what is personal, so nothing could be archived without it.
    day = parse_run_date(run_date)
    if run_date_of(run_id) != day:
        raise UsageError(f"The run {run_id} is not one of {day}; a run of that date is called daily-{day}-1 or so.")
    path = notebook_path(stage)
    source = _read(path)
    parameters = {"env": env, "run_date": run_date, "run_id": run_id, "overrides": settings.overrides, **(extra or {})}
    check_parameters(source, path.name, parameters)

    archive = Archive(settings.archive)
    archive.ensure_started(run_id, {"env": env, **({"part_of": part_of} if part_of else {})})
    close_abandoned(archive, settings, run_id)
    with writing(f"The scratch folder {tempfile.gettempdir()}"):
        scratch = Path(tempfile.mkdtemp(prefix=f"{run_id}-{stage}-"))
    try:
        # What is claimed is archived at once, before anything can be known of the run's values.
        shown = Redactor().tree(parameters)
        facts = {"parameters": shown, "scratch": str(scratch), "code": code_version(), "python": platform.python_version()}
        # Where not even that can be written nothing is started: every change to a table has at least a claim on record.
        number = archive.claim_attempt(run_id, stage, facts)
        # What reads tables takes half a second to import: that passes while the kernel starts.
        Thread(target=import_module, args=["daybook.personal"]).start()
        phases.end("claim")
        attempt = _Attempt(settings, stage, run_id, number, {**facts, "started_at": now(), "clock": reading()}, phases)
        with printing_to(scratch / "printed.txt"):
            executed = attempt.execute(path, scratch, parameters)
        record = _archive(archive, settings, attempt.record(executed), executed, printed_in(scratch / "printed.txt"), phases)
    finally:
        remove_scratch(scratch)
    if record["outcome"] != "FAILED":
        if stage == STAGES[-1]:
            details = record["details"]
            close_run(
                archive,
                settings,
                run_id,
                details["run_outcome"],
                details["run_reasons"],
                details.get("summary"),
                execution=parameters.get("execution", ""),
                history=history,
            )
        archive.write_outcome(record)
    return record


def close_abandoned(archive: Archive, settings: Settings, run_id: str) -> list[Record]:
    """Write the records of attempts whose process ended without one: it was killed, or its machine was lost.

    A run has one attempt at a time, so whatever is claimed and has no record when the next begins is over.
    """
    closed = []
    for stage, number, claim in archive.abandoned_attempts(run_id):
        attempt = _Attempt(settings, stage, run_id, number, claim)
        attempt.seen = parse_moment(claim["started_at"]).timestamp()
        scratch = Path(claim["scratch"])
        partial = scratch / "executed.ipynb"
        try:
            executed = _read(partial)
            attempt.seen = partial.stat().st_mtime
        except (OSError, ValueError):
            # The scratch was on a machine that is gone, or nothing was saved yet, or not to its end.
            executed = _read(notebook_path(stage))
        attempt.running = _started_last(executed)
        attempt.failure = attempt.failure_in(executed, None, _LEFT_NO_RECORD)
        record = attempt.record(executed)
        closed.append(_archive(archive, settings, record, executed, printed_in(scratch / "printed.txt")))
        remove_scratch(scratch)
    return closed


def close_run(
    archive: Archive,
    settings: Settings,
    run_id: str,
    outcome: str,
    reasons: list[str],
    summary: Optional[dict[str, Any]] = None,
    *,
    execution: str = "",
    history: Optional[History] = None,
) -> Record:
    """Write a run's record from those of its attempts; its cost from the execution's history, where that can be asked for."""
    close_abandoned(archive, settings, run_id)
    attempts = archive.attempts(run_id)
    order = {name: table.columns for layer in LAYERS for name, table in load_tables(layer).items()}
    begun = archive.started(run_id)
    started = begun["started_at"]
    ended = _ended(started, begun.get("clock"), least=sum(each["seconds"] for each in attempts))
    record = {
        "record": "run",
        "run_id": run_id,
        "run_date": run_date_of(run_id).isoformat(),
        "env": settings.env,
        "source": settings.source,
        "title": settings.title,
        "currency": settings.currency,
        "outcome": outcome,
        "reasons": reasons,
        "started_at": started,
        "ended_at": ended,
        "seconds": _seconds_between(started, ended),
        "usual_seconds": None if "part_of" in begun else _usual_seconds(archive, run_date_of(run_id)),
        "state_machine": state_machine_version(),
        "code": code_version(),
        # What computed the tables: a date whose own differs from today's is stale.
        "fingerprint": fingerprint(settings),
        "engine": next((each["engine"] for each in attempts if each["engine"]), None),
        "python": platform.python_version(),
        "stages": [without_lineage(each) for each in attempts],
        "summary": summary,
        "cost": _cost(archive, settings, run_id, attempts, execution, history),
        # Whoever let pass what a gate had refused, and why.
        **({"approval": begun["approval"]} if "approval" in begun else {}),
        # The backfill that it was a day of.
        **({"part_of": begun["part_of"]} if "part_of" in begun else {}),
        "lineage": collect(attempts, order),
    }
    try:
        record = _redactor(settings, run_id).record(record)
    except Exception as error:  # noqa: BLE001 (what cannot be searched is not archived, whatever the reason)
        record = withheld(record, error)
    archive.write_run(record)
    _tell_lineage(archive, settings, record)
    return record


def _usual_seconds(archive: Archive, run_date: date) -> Optional[float]:
    """The median length of the good runs of the four weeks before a date, in seconds; None where there are too few to say.

    Days of a backfill do not count: they run beside each other, and so take longer.
    """
    days = (run_date - timedelta(days=back) for back in range(1, _USUAL_DAYS + 1))
    runs = [archive.run(ids[-1]) for ids in map(archive.run_ids, days) if ids]
    found = [run["seconds"] for run in runs if run["outcome"] == "SUCCEEDED" and "part_of" not in run]
    return median(found) if len(found) >= _USUAL_LEAST else None


def _cost(
    archive: Archive, settings: Settings, run_id: str, attempts: list[Record], execution: str, history: Optional[History]
) -> Optional[Record]:
    """What the run costs, by the deployment's price table; None without one. No fault in it keeps a run from being closed."""
    if settings.prices is None:
        return None
    try:
        prices = load_prices(settings.prices)
    except DaybookError as error:
        _log.warning("%s: no cost is noted: %s", run_id, error)
        return None
    use = estimated_use(attempts)
    if history is not None:
        try:
            use = used_in(history(), datetime.now(timezone.utc), execution)
        except Exception as error:  # noqa: BLE001 (a service may fail in any way; the record says that it is an estimate)
            _log.warning("%s: its cost is an estimate: its history was not told (%s).", run_id, type(error).__name__)
    before = archive.closing_records(run_id)
    return cost_of(use, attempts, prices, before[-1].get("cost") if before else None)


def _tell_lineage(archive: Archive, settings: Settings, record: Record) -> None:
    """Leave the closed run as OpenLineage events. Whatever is wrong with them, the run is what its record says."""
    try:
        events = run_events(record, settings)
        archive.write_lineage_events(record["run_id"], as_lines(events))
        if settings.openlineage_url:
            post_events(events, settings.openlineage_url)
    except Exception as error:  # noqa: BLE001 (a warning in the log, never a failed run)
        said = str(error) if isinstance(error, DaybookError) else f"no lineage events were made ({type(error).__name__})."
        _log.warning("%s: %s", record["run_id"], said)


class _Attempt:
    """One attempt while it is under way, and how it came out."""

    def __init__(
        self,
        settings: Settings,
        stage: str,
        run_id: str,
        number: int,
        claim: dict[str, Any],
        phases: Optional[Phases] = None,
    ) -> None:
        self.settings = settings
        self.stage = stage
        self.run_id = run_id
        self.number = number
        self.claim = claim
        self.phases = phases or Phases()
        self.parameters: dict[str, Any] = claim["parameters"]
        self.started_at: str = claim["started_at"]
        self.seen: Optional[float] = None
        """When it was last seen at work, in seconds since 1970, where its end was not."""
        self.running: Optional[int] = None
        self.failure: Optional[dict[str, Any]] = None

    def execute(self, path: Path, scratch: Path, parameters: dict[str, Any]) -> NotebookNode:
        """Run the notebook on scratch; what went wrong is left in ``failure``."""
        output = scratch / "executed.ipynb"
        try:
            with home_of_its_own(scratch), kernel_options(scratch) as options:
                papermill.execute_notebook(
                    str(path),
                    str(output),
                    parameters=parameters,
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
        return _read(output)

    def _note_cell(self, cell: NotebookNode, cell_index: int, **_: Any) -> None:
        self.running = cell_index
        tags = cell.metadata.get("tags", [])
        self.phases.cell_begins(parameters="parameters" in tags or "injected-parameters" in tags)

    def _note_end(self, **_: Any) -> None:
        self.phases.cell_ended()

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
        ended = _ended(self.started_at, self.claim.get("clock"), seen=self.seen)
        result = result or {}
        failed = self.failure is not None
        peak = max(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024), 0)
        return {
            "record": "attempt",
            "run_id": self.run_id,
            "run_date": run_date_of(self.run_id).isoformat(),
            "env": self.settings.env,
            "stage": self.stage,
            "attempt": self.number,
            "outcome": "FAILED" if failed else result["outcome"],
            "reasons": [] if failed else result["reasons"],
            "started_at": self.started_at,
            "ended_at": ended,
            "seconds": _seconds_between(self.started_at, ended),
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
            "failure": self.failure,
            "code": self.claim["code"],
            "engine": result.get("engine"),
            "python": self.claim["python"],
            # To buckets, of the notebook and of this process so far.
            "requests": dict(Counter(result.get("requests", {})) + requests),
        }


def _read(path: Path) -> NotebookNode:
    # nbformat would print what it finds invalid, and that may be a row.
    unsaid: dict[str, Any] = {}
    notebook: NotebookNode = nbformat.read(path, as_version=4, capture_validation_error=unsaid)
    return notebook


def _read_saved(saved: Path, path: Path) -> NotebookNode:
    """What papermill saved last; the stage's own notebook where it saved nothing, or not to its end (a full disk)."""
    try:
        return _read(saved)
    except (OSError, ValueError):
        return _read(path)


def _redactor(settings: Settings, run_id: str, stage: Optional[str] = None) -> Redactor:
    from daybook.personal import redactor_for

    return redactor_for(settings, run_id, stage=stage)


def _archive(
    archive: Archive,
    settings: Settings,
    record: Record,
    notebook: NotebookNode,
    printed: str = "",
    phases: Optional[Phases] = None,
) -> Record:
    """Take personal data out of an attempt, stamp its notebook from its record, and write both.

    Where that fails only the record is written, without any text that might hold personal data. ``printed`` goes to the job's
    own output, which is a log that others read.
    """
    unsaid: dict[str, Any] = {}
    try:
        redactor = _redactor(settings, record["run_id"], record["stage"])
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


def _ended(started: str, clock: Optional[dict[str, Any]], *, seen: Optional[float] = None, least: float = 0.0) -> str:
    return moment(end_of(parse_moment(started).timestamp(), clock, seen=seen, least=least))


def _seconds_between(started: str, ended: str) -> float:
    return round((parse_moment(ended) - parse_moment(started)).total_seconds(), 3)
