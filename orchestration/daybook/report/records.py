"""Read run and attempt records for pages: outcomes, the order of runs, rows, tables and files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

from daybook.errors import ArchiveError
from daybook.records.archive import attempt_name
from daybook.records.models import AttemptRecord, BackfillRecord, DateOutcome, InputFile, RangeDate, RunRecord
from daybook.records.names import STAGES, run_number
from daybook.records.ranges import order_runs
from daybook.report import formats


class Outcome(NamedTuple):
    """An outcome with its meaning."""

    name: str
    meaning: str

    @property
    def slug(self) -> str:
        """The name of its colour and its symbol in the style sheet."""
        return self.name.lower().replace(" ", "-")


OUTCOMES = {
    name: Outcome(name, meaning)
    for name, meaning in (
        ("SUCCEEDED", "published"),
        ("SKIPPED", "nothing to do"),
        ("REJECTED", "a quality gate refused the data"),
        ("FAILED", "a fault after all retries, or a permanent failure"),
        ("ROLLED BACK", "published, then taken back"),
        ("RUNNING", "in progress when this page was generated"),
        ("NEVER RAN", "no run for this date"),
        ("CLOSED", "no run expected by the source's calendar"),
    )
}

_PAGE_NAME = re.compile(r"[0-9A-Za-z_-]{1,80}")


@dataclass(frozen=True)
class TableUsage:
    """A table in a run: the versions that its stages read and wrote, ascending, and those stages."""

    table: str
    read_versions: Tuple[int, ...]
    written_versions: Tuple[int, ...]
    read_by: Tuple[str, ...]
    written_by: Tuple[str, ...]

    @property
    def before(self) -> Optional[int]:
        """The newest version that the run read before its first write, or None."""
        older = [v for v in self.read_versions if not self.written_versions or v < self.written_versions[0]]
        return older[-1] if older else None

    @property
    def after(self) -> Optional[int]:
        """The newest version that the run wrote, or None."""
        return self.written_versions[-1] if self.written_versions else None


class RunRowCounts(NamedTuple):
    """The rows of a run: read by ingest, merged by transform, rejected by any stage."""

    landed: Optional[int]
    merged: Optional[int]
    rejected: Optional[int]


def require_page_name(name: str, key: str) -> None:
    """Raise ``ArchiveError`` if an id cannot become a file name, because it could name a file elsewhere."""
    if not _PAGE_NAME.fullmatch(name):
        raise ArchiveError(f"A record has the {key} {name!r}; allowed are 1 to 80 of 0-9 A-Z a-z _ and -.")


def outcome_of(record: Union[RunRecord, AttemptRecord, BackfillRecord, DateOutcome, RangeDate]) -> Outcome:
    """Return the outcome of a run, an attempt, a backfill or a date."""
    if isinstance(record, RunRecord) and record.rolled_back:
        return OUTCOMES["ROLLED BACK"]
    return OUTCOMES[str(record.outcome)]


def started_at(run: RunRecord) -> Optional[str]:
    """Return when a run started; for a record without a start, when its first attempt did."""
    starts = [run.started_at, *(attempt.started_at for attempt in run.stages)]
    return next((start for start in starts if start), None)


def order_runs_of_date(runs: Iterable[RunRecord]) -> List[RunRecord]:
    """Return runs of one date from the oldest to the newest."""
    by_id = {run.run_id: run for run in runs}
    return [by_id[run_id] for run_id in order_runs(by_id, by_id.__getitem__, by_id.__getitem__)]


def chronological_key(run: RunRecord) -> Tuple[float, int, str]:
    """Return a key that sorts runs of different dates from the oldest to the newest: by start, then by number."""
    start = started_at(run)
    return formats.parse_instant(start).timestamp() if start else 0.0, run_number(run.run_id), run.run_id


def count_retries(run: RunRecord) -> int:
    """Return the number of attempts beyond the first of each stage."""
    return len(run.stages) - len(last_attempts(run))


def last_attempts(run: RunRecord) -> Dict[str, AttemptRecord]:
    """Return the last attempt of each stage, which is the one that counts."""
    return {attempt.stage: attempt for attempt in run.stages}


def count_run_rows(run: RunRecord) -> RunRowCounts:
    """Return the rows of a run, from the last attempt of each stage."""
    rows = {stage: attempt.rows for stage, attempt in last_attempts(run).items()}
    rejected = [of.rejected for of in rows.values() if of.rejected is not None]
    return RunRowCounts(
        landed=rows["ingest"].rows_in if "ingest" in rows else None,
        merged=rows["transform"].rows_out if "transform" in rows else None,
        rejected=sum(rejected) if rejected else None,
    )


def list_table_usage(run: RunRecord) -> List[TableUsage]:
    """Return every table that a run used, by name. Failed attempts count, because they may have committed."""
    reads = [(table, version, each.stage) for each in run.stages for table, version in each.tables_read.items()]
    writes = [(table, version, each.stage) for each in run.stages for table, version in each.tables_written.items()]
    return [
        TableUsage(
            table=table,
            read_versions=tuple(sorted({version for name, version, _ in reads if name == table})),
            written_versions=tuple(sorted({version for name, version, _ in writes if name == table})),
            read_by=tuple(dict.fromkeys(stage for name, _, stage in reads if name == table)),
            written_by=tuple(dict.fromkeys(stage for name, _, stage in writes if name == table)),
        )
        for table in sorted({table for table, _, _ in reads + writes})
    ]


def list_input_files(run: RunRecord) -> List[InputFile]:
    """Return every input file that a run's attempts read, once for each content."""
    found: Dict[Tuple[str, str], InputFile] = {}
    for attempt in run.stages:
        for item in attempt.inputs:
            found.setdefault((item.file, item.sha256), item)
    return list(found.values())


def list_attempt_files(attempt: AttemptRecord) -> Dict[str, str]:
    """Return the archive's files of an attempt by kind: ``page`` and ``notebook`` if they are archived, and ``record``."""
    described = {"page": attempt.html, "notebook": attempt.notebook}
    files = {kind: found.file for kind, found in described.items() if found and found.file not in attempt.missing}
    if attempt.stage in STAGES:
        files["record"] = f"{attempt_name(attempt.stage, attempt.attempt)}.json"
    return files


def find_failed_attempt(run: RunRecord) -> Optional[AttemptRecord]:
    """Return the last failed attempt of a run that failed or is running, else None."""
    if run.outcome not in ("FAILED", "RUNNING"):
        return None
    return next((attempt for attempt in reversed(run.stages) if attempt.failure), None)
