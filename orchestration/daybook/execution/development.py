"""Run stages into a development copy of their own, which is removed at the end, also if the process was killed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Optional

from daybook.errors import StageError
from daybook.execution.attempt import Attempt
from daybook.execution.kernel import isolate_kernel_home, redirect_output, remove_scratch
from daybook.execution.outcome import find_result
from daybook.lake.tables import DEVELOPMENT_VARIABLE, remove_development_copy
from daybook.notebook.parameters import check_parameters, load_notebook, notebook_path
from daybook.privacy.redactor import Redactor
from daybook.records.archive import current_timestamp
from daybook.records.failures import first_line
from daybook.records.locks import try_lock
from daybook.records.models import ClaimRecord, Failure, StageResult
from daybook.settings import Settings, daybook_home


@contextmanager
def temporary_copy(lake: str, *, keep: bool = False) -> Iterator[str]:
    """Give the name of a development copy of a lake that no other process has, and remove the copy at the end.

    A locked file on this machine names the lake and the copy. The lock ends with the process, so the next call for the lake
    finds the copies of killed processes and removes them. With ``keep`` the copy stays.
    """
    folder = _copies_folder()
    folder.mkdir(parents=True, exist_ok=True)
    _remove_abandoned_copies(folder, lake)
    name = f"preview-{uuid.uuid4().hex[:12]}"
    file = folder / f"{name}.json"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # Another process may just look whether the file is locked.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps({"lake": lake, "copy": name}).encode())
        try:
            yield name
        finally:
            _remove_copy(file, lake, name, keep=keep)
    finally:
        os.close(descriptor)


def run_into_copy(settings: Settings, copy: str, stage: str, run_date: date) -> StageResult:
    """Execute a stage's notebook without a run id; return what its closing cell left.

    Nothing is archived, and the executed notebook is removed.

    Parameters
    ----------
    settings
        The deployment.
    copy
        Name of a ``temporary_copy`` of its lake.
    stage, run_date
        The stage and the business date.

    Raises
    ------
    StageError
        If a cell fails.
    """
    path = notebook_path(stage)
    parameters = {"env": settings.env, "run_date": run_date.isoformat(), "run_id": "", "overrides": settings.overrides}
    check_parameters(load_notebook(path), path.name, parameters)
    scratch = Path(tempfile.mkdtemp(prefix=f"{stage}-", dir=_scratch_folder(copy)))
    try:
        attempt = Attempt(settings, stage, "", 1, ClaimRecord(started_at=current_timestamp()))
        with isolate_kernel_home(scratch, {DEVELOPMENT_VARIABLE: copy}), redirect_output(scratch / "printed.txt"):
            executed = attempt.execute(path, scratch, parameters)
    finally:
        remove_scratch(scratch)
    result = find_result(executed)
    if attempt.failure is not None or result is None:
        raise StageError(
            f"{path.stem} of {run_date} failed{_describe(attempt.failure)}; run the notebook in JupyterLab and correct it."
        )
    return result


def _describe(failure: Optional[Failure]) -> str:
    """Return cell and exception. The message of an exception can hold any value, so patterns of personal values are removed."""
    if failure is None:
        return ": it left no result"
    cell = f" in cell {failure.cell}" if failure.cell else ""
    message = Redactor().redact_text(first_line(failure.message or "")).rstrip(".")
    return f"{cell}: {failure.exception}: {message}"


def _copies_folder() -> Path:
    return daybook_home() / "previews"


def _scratch_folder(name: str) -> Path:
    """Return the folder of a copy's executed notebooks, readable to this user only."""
    folder = _copies_folder() / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def _remove_abandoned_copies(folder: Path, lake: str) -> None:
    """Remove the copies of a lake whose processes, on this machine, have ended without doing so."""
    for file in folder.glob("*.json"):
        try:
            descriptor = os.open(file, os.O_RDWR)
        except FileNotFoundError:  # Its process has just removed it.
            continue
        try:
            # A file without content belongs to a process that has not locked it yet.
            if try_lock(descriptor) and (content := file.read_bytes()) and json.loads(content)["lake"] == lake:
                _remove_copy(file, lake, json.loads(content)["copy"])
        except FileNotFoundError:
            pass
        finally:
            os.close(descriptor)


def _remove_copy(file: Path, lake: str, name: str, *, keep: bool = False) -> None:
    """Remove a copy, its executed notebooks and, last, the file that names it."""
    if not keep:
        remove_development_copy(lake, name)
    shutil.rmtree(_copies_folder() / name, ignore_errors=True)
    file.unlink(missing_ok=True)
