"""Reading run and attempt records: what a run came to, in which order runs stand, what they read and wrote."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

from daybook.errors import ArchiveError
from daybook.records.names import STAGES, notebook_name
from daybook.report import formats

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """How an outcome reads and what it means; ``slug`` names its colour and its symbol in the style sheet."""

    name: str
    slug: str
    meaning: str


SUCCEEDED = Outcome("SUCCEEDED", "succeeded", "published")
SKIPPED = Outcome("SKIPPED", "skipped", "nothing to do")
REJECTED = Outcome("REJECTED", "rejected", "a quality gate refused the data")
FAILED = Outcome("FAILED", "failed", "a fault after all retries, or a permanent failure")
RUNNING = Outcome("RUNNING", "running", "in progress when this page was generated")
NEVER_RAN = Outcome("NEVER RAN", "never-ran", "no run for this date")
CLOSED = Outcome("CLOSED", "closed", "no run expected by the source's calendar")
OUTCOMES = (SUCCEEDED, SKIPPED, REJECTED, FAILED, RUNNING, NEVER_RAN, CLOSED)
_BY_NAME = {outcome.name: outcome for outcome in OUTCOMES if outcome not in (NEVER_RAN, CLOSED)}

_PAGE_NAME = re.compile(r"[0-9A-Za-z_-]{1,80}")


@dataclass(frozen=True)
class TableUsage:
    """One table in one run: the versions its stages read and wrote, ascending, and the stages that did."""

    table: str
    read_versions: Tuple[int, ...]
    written_versions: Tuple[int, ...]
    read_by: Tuple[str, ...]
    written_by: Tuple[str, ...]

    @property
    def before(self) -> Optional[int]:
        """The newest version that the run saw before it first wrote, if it saw one."""
        older = [v for v in self.read_versions if not self.written_versions or v < self.written_versions[0]]
        return older[-1] if older else None

    @property
    def after(self) -> Optional[int]:
        """The newest version the run wrote, if it wrote."""
        return self.written_versions[-1] if self.written_versions else None


@dataclass(frozen=True)
class RunRowCounts:
    """Rows on their way through a run: read by ingest, merged by transform, rejected anywhere."""

    landed: Optional[int]
    merged: Optional[int]
    rejected: Optional[int]


def require_run_id(run: Record) -> str:
    """The run's id, which becomes a file's name; ArchiveError if it could name a file elsewhere."""
    return require_page_name(str(run.get("run_id", "")), "run_id")


def require_page_name(name: str, key: str = "backfill_id") -> str:
    """Return an id that becomes a file's name; raise ``ArchiveError`` if it could name a file elsewhere."""
    if not _PAGE_NAME.fullmatch(name):
        raise ArchiveError(f"A record has the {key} {name!r}; allowed are 1 to 80 of 0-9 A-Z a-z _ and -.")
    return name


def outcome_of(record: Record) -> Outcome:
    """What a run or an attempt came to; RUNNING while it is under way."""
    name = record.get("outcome")
    if name is None:
        return RUNNING
    if name not in _BY_NAME:
        where = f"{record.get('run_id')}, {record.get('stage', 'run')}"
        raise ArchiveError(f"The record of {where} has the outcome {name!r}; allowed are {', '.join(_BY_NAME)}.")
    return _BY_NAME[name]


def list_attempts(run: Record) -> List[Record]:
    """Every attempt of a run, failed ones included, in the order they were made."""
    return list(run.get("stages") or [])


def started_at(run: Record) -> Optional[str]:
    """When a run started; for a run without a closing record, when its first attempt did."""
    starts = [run.get("started_at"), *(attempt.get("started_at") for attempt in list_attempts(run))]
    return next((start for start in starts if start), None)


def run_number(run: Record) -> int:
    """The number that a run's id ends in: of one date's runs the greater is the later, whatever a clock said."""
    tail = re.search(r"-(\d+)$", require_run_id(run))
    return int(tail.group(1)) if tail else 0


def chronological_key(run: Record) -> Tuple[float, int, str]:
    """Sorts runs of different dates from the oldest to the newest: by start, then by the number their id ends in."""
    start = started_at(run)
    return formats.parse_instant(start).timestamp() if start else 0.0, run_number(run), require_run_id(run)


def count_retries(run: Record) -> int:
    """How many attempts a run needed beyond the first of each stage."""
    return len(list_attempts(run)) - len(last_attempts(run))


def last_attempts(run: Record) -> Dict[str, Record]:
    """The attempt that counts for each stage: the last one made."""
    return {str(attempt.get("stage")): attempt for attempt in list_attempts(run)}


def count_run_rows(run: Record) -> RunRowCounts:
    """What a run's stages say about rows, from the attempts that count."""
    rows = {stage: attempt.get("rows") or {} for stage, attempt in last_attempts(run).items()}
    rejected = [of["rejected"] for of in rows.values() if of.get("rejected") is not None]
    return RunRowCounts(
        landed=rows.get("ingest", {}).get("in"),
        merged=rows.get("transform", {}).get("out"),
        rejected=sum(rejected) if rejected else None,
    )


def list_table_usage(run: Record) -> List[TableUsage]:
    """Every table a run touched, by name. Failed attempts count: they may have committed too."""
    reads = list(_iter_versions(run, "tables_read"))
    writes = list(_iter_versions(run, "tables_written"))
    tables = sorted({table for table, _, _ in reads + writes})
    return [
        TableUsage(
            table=table,
            read_versions=tuple(sorted({version for name, version, _ in reads if name == table})),
            written_versions=tuple(sorted({version for name, version, _ in writes if name == table})),
            read_by=_unique(stage for name, _, stage in reads if name == table),
            written_by=_unique(stage for name, _, stage in writes if name == table),
        )
        for table in tables
    ]


def _iter_versions(run: Record, field: str) -> Iterable[Tuple[str, int, str]]:
    for attempt in list_attempts(run):
        for table, version in (attempt.get(field) or {}).items():
            yield table, version, str(attempt.get("stage"))


def _unique(names: Iterable[str]) -> Tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def list_input_files(run: Record) -> List[Record]:
    """Every input file that a run's attempts read, once for each content it had."""
    found: Dict[Tuple[Any, Any], Record] = {}
    for attempt in list_attempts(run):
        for item in attempt.get("inputs") or []:
            found.setdefault((item.get("file"), item.get("sha256")), item)
    return list(found.values())


def list_attempt_files(attempt: Record) -> Dict[str, str]:
    """The archive's files for one attempt, by kind: ``page`` and ``notebook`` if they are there, and ``record``."""
    described = {
        kind: str(attempt[field]["file"]) for kind, field in (("page", "html"), ("notebook", "notebook")) if attempt.get(field)
    }
    files = {kind: file for kind, file in described.items() if file not in attempt.get("missing", ())}
    stage = attempt.get("stage")
    if files:
        files["record"] = re.sub(r"\.(html|ipynb)$", "", next(iter(files.values()))) + ".json"
    elif stage in STAGES:
        files["record"] = f"{notebook_name(stage)}.attempt-{attempt.get('attempt', 1)}.json"
    return files


def find_failed_attempt(run: Record) -> Optional[Record]:
    """The attempt a run's fault is to be read in: the last that failed, if the run itself failed or is under way."""
    if outcome_of(run) not in (FAILED, RUNNING):
        return None
    failed = [attempt for attempt in list_attempts(run) if attempt.get("failure")]
    return failed[-1] if failed else None


def first_line(text: Optional[str]) -> str:
    """The first line of a message that says something."""
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), "")
