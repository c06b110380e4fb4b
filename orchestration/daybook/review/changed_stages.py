"""Find the stages whose notebook, contracts or params differ from those that computed published dates."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from daybook.notebook.parameters import notebook_path
from daybook.records.archive import Archive
from daybook.records.fingerprint import compute_fingerprint, normalize_notebook
from daybook.records.models import AttemptRecord
from daybook.records.names import STAGES
from daybook.review.representative_days import RecordedDay
from daybook.settings import Settings

TABLE_STAGES = STAGES[: STAGES.index("quality") + 1]
"""The stages that write tables."""
_FIRST_READERS: Mapping[str, str] = {"logic": "ingest", "source": "ingest", "settings": "ingest", "contracts": "transform"}
"""By part of the fingerprint, the first stage that reads it. Notebooks are compared one by one."""


class Change(NamedTuple):
    """What changed, and the first stage that it can affect."""

    stage: str
    what: str


def find_changes(settings: Settings, archive: Archive, days: Sequence[RecordedDay]) -> list[Change]:
    """Return what differs from what computed these dates, in the order of the stages.

    The code that ran is that of the executed notebooks in the archive. A notebook that is not archived counts as changed.
    """
    found = {*_find_changed_parts(settings, days), *_find_changed_notebooks(archive, days)}
    return sorted(found, key=lambda change: (TABLE_STAGES.index(change.stage), change.what))


def _find_changed_parts(settings: Settings, days: Sequence[RecordedDay]) -> Iterator[Change]:
    today = compute_fingerprint(settings)
    past = [run.fingerprint for day in days for run in day.runs]
    for part, stage in _FIRST_READERS.items():
        if any(part in each and each[part] != today[part] for each in past):
            yield Change(stage, part)


def _find_changed_notebooks(archive: Archive, days: Sequence[RecordedDay]) -> Iterator[Change]:
    for stage in TABLE_STAGES:
        path = notebook_path(stage)
        today = normalize_notebook(path.read_bytes())
        attempts = [attempt for day in days for attempt in _list_effective_attempts(day, stage)]
        if any(_read_executed_code(archive, attempt) != today for attempt in attempts):
            yield Change(stage, path.stem)


def _list_effective_attempts(day: RecordedDay, stage: str) -> list[AttemptRecord]:
    """Return the newest attempt of a stage that did not fail, in a list; an empty list if there is none."""
    found = (each for run in day.runs for each in reversed(run.stages) if each.stage == stage and each.outcome != "FAILED")
    return [each for each in [next(found, None)] if each]


def _read_executed_code(archive: Archive, attempt: AttemptRecord) -> Any:
    """Return the normalised code of an executed notebook; None if it is not archived."""
    if attempt.notebook is None or attempt.notebook.file in attempt.missing:
        return None
    return normalize_notebook(archive.store.read(f"{archive.folder(attempt.run_id)}/{attempt.notebook.file}"))
