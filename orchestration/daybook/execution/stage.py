"""Run a stage once in this process: claim the attempt, execute the notebook, archive it; close the run after notify."""

from __future__ import annotations

import platform
import tempfile
from pathlib import Path
from typing import Any, Optional

from daybook.errors import DaybookError, UsageError
from daybook.execution.attempt import Attempt, archive_attempt, close_abandoned_attempts
from daybook.execution.halves import plan_halves, write_range_outcome
from daybook.execution.kernel import isolate_kernel_home, read_printed_output, redirect_output, remove_scratch
from daybook.execution.run_record import HistoryLoader, close_run
from daybook.notebook.parameters import check_parameters, load_notebook, notebook_path
from daybook.privacy.background import BackgroundRedactor
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, current_timestamp
from daybook.records.clock import read_clock
from daybook.records.fingerprint import code_version
from daybook.records.leases import lease_dates
from daybook.records.models import AttemptRecord, ClaimRecord, CodeVersion
from daybook.records.names import STAGES, list_range, range_of
from daybook.records.timings import PhaseTimer
from daybook.settings import load_settings, parse_run_date, require_name
from daybook.sources import load_source
from daybook.storage import wrap_write_errors


def run_stage(
    stage: str,
    *,
    env: str,
    run_date: str,
    until: Optional[str] = None,
    run_id: str,
    splits: int = 0,
    part_of: Optional[str] = None,
    overrides: Optional[dict[str, str]] = None,
    extra: Optional[dict[str, Any]] = None,
    history: Optional[HistoryLoader] = None,
    process_start: Optional[float] = None,
) -> AttemptRecord:
    """Execute a stage's notebook once and archive the attempt.

    Parameters
    ----------
    stage, env, run_date, run_id
        The stage, the deployment, the business date or the first one of a range, and the run.
    until
        The last business date of a range.
    splits
        How often a range was halved before to get this one.
    part_of
        Id of the backfill that the run belongs to, if the run's id was not taken in the archive.
    overrides
        Settings that differ from the params file.
    extra
        Further parameters of the notebook.
    history
        Returns the execution's events, from which the cost is measured when the run is closed; else it is estimated.
    process_start
        Start of this process, if it was started for this stage only (see ``daybook.records.timings``).

    Returns
    -------
    AttemptRecord
        The record as it is archived, whatever the outcome.

    Raises
    ------
    UsageError
        For parameters and sources that cannot be run at all. Nothing is archived then.
    DateLockedError
        Another run holds the lease of a date, in a bucket. No attempt is archived then.
    """
    phases = PhaseTimer(process_start)
    phases.end("start")
    settings = load_settings(env, overrides)
    load_source(settings.source)  # It names the personal columns, so nothing can be archived without it.
    first = parse_run_date(run_date)
    last = parse_run_date(until) if until else first
    if range_of(run_id) != (first, last):
        example = f"daily-{first}-1" if first == last else f"range-{first}-{last}-1"
        raise UsageError(
            f"The run {run_id} is not a run of {first}{f' to {last}' if until else ''}; give an id such as {example}."
        )
    if part_of:
        require_name(part_of, "a backfill")
    path = notebook_path(stage)
    source = load_notebook(path)
    dates = {"run_date": run_date, **({"until": until} if until else {})}
    parameters = {"env": env, **dates, "run_id": run_id, "overrides": settings.overrides, **(extra or {})}
    check_parameters(source, path.name, parameters)

    archive = Archive(settings.archive)
    archive.ensure_started(run_id, {"env": env, **({"part_of": part_of} if part_of else {})})
    if stage != STAGES[-1]:
        # Before the attempt is claimed: a run that waits for a date has no attempt. Notify must report such a run.
        lease_dates(settings.lake, run_id, list_range(run_id))
    close_abandoned_attempts(archive, settings, run_id)
    with wrap_write_errors(f"The scratch folder {tempfile.gettempdir()}"):
        scratch = Path(tempfile.mkdtemp(prefix=f"{run_id}-{stage}-"))
    try:
        # A claim is archived at once, before the run's personal values are known.
        facts = {
            "parameters": Redactor().redact_json(parameters),
            "scratch": str(scratch),
            "code": CodeVersion(**code_version()),
            "python": platform.python_version(),
        }
        # If not even the claim can be written, nothing is started: every change to a table has at least a claim on record.
        number = archive.claim_attempt(run_id, stage, facts)
        # The environment is changed before there are other threads: delta-rs reads it when it opens a table, and it must not
        # be read while another thread changes it.
        with isolate_kernel_home(scratch), BackgroundRedactor(settings, run_id, stage) as redactor_now:
            phases.end("claim")
            redactor_now.prefetch(source.cells)
            claim = ClaimRecord(started_at=current_timestamp(), clock=read_clock(), **facts)
            attempt = Attempt(settings, stage, run_id, number, claim, phases, redactor_now.submit_output)
            with redirect_output(scratch / "printed.txt"):
                executed = attempt.execute(path, scratch, parameters)
            record = archive_attempt(
                archive,
                settings,
                attempt.record(executed),
                executed,
                read_printed_output(scratch / "printed.txt"),
                phases,
                redactor_now,
            )
    finally:
        remove_scratch(scratch)
    if record.outcome != "FAILED" and stage == STAGES[-1] and record.details.run_outcome:
        halves = plan_halves(archive, run_id, failure=parameters.get("failure", "null"), splits=splits)
        closed = close_run(
            archive,
            settings,
            run_id,
            record.details.run_outcome,
            record.details.run_reasons,
            record.details.summary,
            execution=parameters.get("execution", ""),
            history=history,
            redactor_now=redactor_now,
            halves=halves,
        )
        if closed.is_range:
            write_range_outcome(archive, closed, halves)
    if record.outcome != "FAILED" or record.permanent:
        archive.write_outcome(record)
    return record


def record_unstarted_failure(
    stage: str, *, env: str, run_id: str, overrides: Optional[dict[str, str]], error: DaybookError, message: str
) -> bool:
    """Write the outcome FAILED of a stage that a permanent ``error`` kept from starting; ``message`` is the redacted error.

    Returns whether the job may end normally. It may not if the settings have no archive, or for notify, because the state
    machine learns of a failure of notify from the exit code only.
    """
    if not error.permanent or stage == STAGES[-1]:
        return False
    try:
        range_of(run_id)  # Part of the key.
        Archive(load_settings(env, overrides).archive).write_unstarted_outcome(run_id, stage, error, message)
    except (DaybookError, OSError):
        # ``message`` is reported anyway. It is nearly always the cause here, too: no settings, no archive.
        return False
    return True
