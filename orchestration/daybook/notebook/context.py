"""A stage as its notebook sees it: settings, business dates, lake, SQL engine, and how it ends, for each date."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Optional

from IPython.core.getipython import get_ipython
from IPython.display import display

from daybook.contracts import Table
from daybook.engines import DuckDBEngine, Query, ViewEngine
from daybook.errors import DatesFailedError, UsageError, is_permanent
from daybook.lake.tables import Lake, development_user
from daybook.notebook.conversions import contract_rows_sql
from daybook.notebook.display import FactList, StageResult, short_path
from daybook.notebook.lineage import record_lineage
from daybook.notebook.parameters import check_injected_parameters
from daybook.privacy import load_keys, pseudonym_function
from daybook.privacy.raw_reads import RAW_READS, read_raw_values
from daybook.privacy.rekey import require_keys
from daybook.quality.gates import Finding
from daybook.records.archive import Archive
from daybook.records.leases import lease_dates
from daybook.records.models import RunOutcome, StartRecord
from daybook.records.names import RESULT_MIME, STAGES, list_dates, list_range, range_of
from daybook.records.ranges import worst_outcome
from daybook.settings import Settings, load_settings, parse_run_date
from daybook.sources import Source, load_source
from daybook.sources.mapping import list_dates_sql
from daybook.storage import request_counts

_ENDED_DATES = "ended_dates.json"
"""File of a range's run, beside its candidates: the dates that each stage has ended, which later stages leave out."""

RowCounts = Mapping[str, Optional[int]]
"""Numbers of rows that came ``in``, went ``out``, were ``rejected`` or were exact ``duplicates``, where that has a meaning."""


@dataclass
class DateResult:
    """What a stage found about one of its business dates, and how that date ended in it."""

    details: dict[str, Any] = field(default_factory=dict)
    inputs: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """What earlier cells found against the data of the date, for the gate of the stage."""
    outcome: Optional[RunOutcome] = None
    """None while the date continues."""
    reasons: list[str] = field(default_factory=list)
    rows: RowCounts = field(default_factory=dict)
    failure: Optional[dict[str, Any]] = None
    """The exception of a date that failed: its class, message and cell, and whether the failure is permanent."""

    @property
    def warnings(self) -> list[str]:
        """What was found and does not stop the date, for the record."""
        found: list[str] = self.details.setdefault("warnings", [])
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the result as the record of a range's attempt has it."""
        return {
            "outcome": self.outcome or "SUCCEEDED",
            "reasons": self.reasons,
            "rows": dict(self.rows),
            "details": self.details,
            "inputs": self.inputs,
            "failure": self.failure,
        }


@dataclass
class Stage:
    """One stage of a business date, or of a contiguous range of dates, open in this notebook."""

    name: str
    settings: Settings
    run_date: date
    """The first business date of the run."""
    until: date
    """The last business date of the run."""
    dates: list[date]
    """The business dates that continue, in order."""
    run_id: str
    source: Source
    lake: Lake
    engine: ViewEngine
    """What cells read: raw rows have pseudonyms in place of restricted values."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    results: dict[date, DateResult] = field(init=False)
    """By date that continues at the start of the stage, what the stage found. A single date shares the details of the stage."""

    def __post_init__(self) -> None:
        self.results = {day: DateResult() for day in self.dates}
        if not self.is_range:
            self.results[self.run_date] = DateResult(self.details, self.inputs)

    @property
    def is_range(self) -> bool:
        """Whether the run has several business dates."""
        return self.run_date != self.until

    @property
    def day(self) -> str:
        """The business date, or the first and the last one, as text."""
        return f"{self.run_date} to {self.until}" if self.is_range else self.run_date.isoformat()

    @property
    def dates_sql(self) -> str:
        """The dates that continue, as the SQL list of an ``IN (…)``; NULL if there are none."""
        return list_dates_sql(self.dates)

    @property
    def dates_condition(self) -> str:
        """The SQL condition of rows of the dates that continue. The engine skips files by the bounds, not by the list."""
        if not self.dates:
            return "FALSE"
        first, last = self.dates[0], self.dates[-1]
        if first == last:
            return f"run_date = DATE '{first}'"
        return f"run_date BETWEEN DATE '{first}' AND DATE '{last}' AND run_date IN ({self.dates_sql})"

    @property
    def warnings(self) -> list[str]:
        """What was found and does not stop any date, for the record; cells append to it."""
        found: list[str] = self.details.setdefault("warnings", [])
        return found

    @property
    def archive(self) -> Archive:
        """The records of this run's earlier stages."""
        return Archive(self.settings.archive)

    @property
    def started(self) -> Optional[StartRecord]:
        """What was put on record when the run's id was taken, such as its approval; None if nothing was."""
        if not self.run_id:
            return None
        try:
            return self.archive.started(self.run_id)
        except FileNotFoundError:
            # Stages that are executed by themselves, without the job script, have no such record.
            return None

    @property
    def part_of(self) -> Optional[str]:
        """The backfill that this run is a day of, or None."""
        return self.started.part_of if self.started else None

    @property
    def raw_engine(self) -> DuckDBEngine:
        """The tables as they are, for the package's own queries. A cell calls ``raw``, which is recorded."""
        return self.engine.tables

    def raw(self, query: str, *, reason: str) -> Query:
        """Return raw values: the result of a SELECT, or of a table's name, on tables as they are.

        The record of the run and the archive name the user, tables, columns, time, cell and reason.
        """
        shell = get_ipython()
        facts = {
            "env": self.settings.env,
            "run_id": self.run_id or None,
            "stage": self.name,
            "cell": shell.execution_count if shell else None,
        }
        found, record = read_raw_values(self.raw_engine, self.archive, query, reason, facts)
        self.details.setdefault(RAW_READS, []).append(record)
        return found

    def define(self, name: str, sql: str) -> None:
        """Define a name for a query, as a ``%%sql`` cell does."""
        self.engine.define(name, sql)
        self.definitions[name] = sql

    def materialize_table(self, contract: Table, name: str) -> int:
        """Keep what this notebook defined under a table's name, cast to its contract and in the order of its key, under another
        name; return how many rows it has.

        A value that cannot be converted is NULL, and ``_unfit`` of ``marked.<table>`` names its column (see
        ``daybook.notebook.conversions``).
        """
        rows = self.engine.create_table(f"marked.{contract.name}", contract_rows_sql(self.engine, contract))
        self.engine.create_view(name, f"SELECT * EXCLUDE (_unfit) FROM marked.{contract.name}")
        return rows

    def succeed(
        self,
        *,
        rows_in: Optional[int] = None,
        rows_out: Optional[int] = None,
        rejected: Optional[int] = None,
        duplicates: Optional[int] = None,
        by_date: Optional[Mapping[date, RowCounts]] = None,
    ) -> None:
        """End well the dates that continue, with their numbers of rows.

        Parameters
        ----------
        rows_in, rows_out, rejected, duplicates
            How many rows came in, went out, were rejected or were exact duplicates, where that has a meaning.
        by_date
            These numbers of each date, as ``in``, ``out``, ``rejected`` and ``duplicates``. The stage has their sums.
        """
        record_lineage(self)
        self.lake.compact_written_tables()
        rows: RowCounts = {"in": rows_in, "out": rows_out, "rejected": rejected, "duplicates": duplicates}
        if by_date is not None:
            for day in self.dates:
                self.results[day].rows = {**dict.fromkeys(rows), **by_date[day]}
            rows = self._total_rows()
        self._end("SUCCEEDED", [], rows)

    def skip(self, reason: str) -> None:
        """End with nothing to do. What the notebook's further cells say about this stage is not run."""
        for day in list(self.dates):
            self.skip_date(day, reason)

    def skip_date(self, day: date, reason: str) -> None:
        """End a date with nothing to do; end the stage if no other date continues."""
        self._end_date(day, "SKIPPED", [reason], {"in": 0, "out": 0})

    def reject(self, reasons: list[str], *, rows_in: Optional[int] = None, rejected: Optional[int] = None) -> None:
        """End with a gate's no: an answer, not a fault. Further cells are not run."""
        for day in list(self.dates):
            self.reject_date(day, reasons, rows_in=rows_in, rejected=rejected)

    def reject_date(
        self, day: date, reasons: list[str], *, rows_in: Optional[int] = None, rejected: Optional[int] = None
    ) -> None:
        """End a date with a gate's no; end the stage if no other date continues."""
        self._end_date(day, "REJECTED", reasons, {"in": rows_in, "out": 0, "rejected": rejected})

    def fail_date(self, day: date, error: BaseException) -> None:
        """End a date of a range with a fault that concerns it alone.

        Raises ``DatesFailedError`` if no other date continues.
        """
        name, shell = type(error).__name__, get_ipython()
        self.results[day].failure = {
            "exception": name,
            "message": str(error),
            "cell": shell.execution_count if shell else None,
            "permanent": is_permanent(name),
        }
        self._end_date(day, "FAILED", [], {})

    def result(self, outcome: str, reasons: list[str], rows: RowCounts) -> dict[str, Any]:
        """Return the result of this notebook for the record of the attempt."""
        by_date = {day.isoformat(): each.to_json() for day, each in self.results.items()}
        return {
            **({"dates": by_date} if self.is_range else {}),
            "stage": self.name,
            "outcome": outcome,
            "reasons": reasons,
            "rows": dict(rows),
            "tables_read": dict(self.lake.tables_read),
            "tables_written": dict(self.lake.tables_written),
            "inputs": self.inputs,
            "details": self.details,
            "engine": self.engine.version,
            "peak_memory_bytes": _peak_memory(),
            "requests": dict(request_counts),
            "table_seconds": self.lake.timings.seconds(),
        }

    def _end_date(self, day: date, outcome: RunOutcome, reasons: list[str], rows: RowCounts) -> None:
        result = self.results[day]
        result.outcome, result.reasons, result.rows = outcome, reasons, rows
        self.dates.remove(day)
        if self.dates:
            return
        if not self.is_range:
            self._end(outcome, reasons, rows)
            return
        worst = worst_outcome(each.outcome for each in self.results.values() if each.outcome)
        found = {each: result for each, result in self.results.items() if result.outcome == worst}
        reasons = [f"{each}: {reason}" for each, result in found.items() for reason in result.reasons]
        self._end(worst, reasons, self._total_rows())
        if worst == "FAILED":
            raise DatesFailedError(
                f"No date of {self.day} continues; "
                + "; ".join(f"{each}: {result.failure['message']}" for each, result in found.items() if result.failure)
            )

    def _total_rows(self) -> RowCounts:
        """Return the numbers of rows of all dates."""
        names = dict.fromkeys(name for each in self.results.values() for name in each.rows)
        counts = {name: [each.rows.get(name) for each in self.results.values()] for name in names}
        return {
            name: sum(count or 0 for count in each) if any(count is not None for count in each) else None
            for name, each in counts.items()
        }

    def _end(self, outcome: str, reasons: list[str], rows: RowCounts) -> None:
        self.ended = outcome
        if self.is_range:
            self._write_ended_dates()
        result = self.result(outcome, reasons, rows)
        shown = StageResult(self.name, outcome, reasons, dict(rows), self.lake.tables_written)
        display({RESULT_MIME: result, "text/html": shown._repr_html_(), "text/plain": repr(shown)}, raw=True)

    def _write_ended_dates(self) -> None:
        """Keep the dates that this stage has ended. A later stage that runs again finds those of the stages before it."""
        ended = _read_ended_by_stage(self.lake, self.name)
        ended[self.name] = [day.isoformat() for day in self.results if day not in self.dates]
        self.lake.write_run_file(_ENDED_DATES, json.dumps(ended).encode())

    def _repr_html_(self) -> str:
        return self._note()._repr_html_()

    def __repr__(self) -> str:
        return repr(self._note())

    def _note(self) -> FactList:
        where = f"development copy of {self.lake.development}" if self.lake.development else "published tables"
        return FactList(
            {
                "Shop": self.settings.title,
                **(
                    {"Business dates": f"{self.day}: {len(self.dates)} of {(self.until - self.run_date).days + 1} continue"}
                    if self.is_range
                    else {"Business date": f"{self.run_date:%A}, {self.day}"}
                ),
                "Run": self.run_id or "unnamed: nothing is published",
                "Writes to": where,
                "Lake": short_path(self.settings.lake),
                "Engine": self.engine.version,
            }
        )


current: Optional[Stage] = None
"""The stage that is open in this kernel, for the ``%%sql`` magic."""


def begin(
    name: str,
    *,
    env: str,
    run_date: str,
    until: str = "",
    run_id: str = "",
    overrides: Optional[dict[str, str]] = None,
) -> Stage:
    """Open a stage for the business dates from ``run_date`` to ``until``; without ``until``, for one date.

    Dates that an earlier stage of the run has ended are left out. Without a run's name the writes go to a development copy of
    the tables (``dev/<user>``).

    Raises ``NotebookError`` if papermill was given a parameter that the notebook does not declare.
    """
    global current
    shell = get_ipython()
    if shell is not None:
        check_injected_parameters(shell.user_ns.get("In", []))
    if name not in STAGES:
        raise UsageError(f"There is no stage {name!r}; the stages are: {', '.join(STAGES)}.")
    if not isinstance(run_id, str) or not isinstance(env, str):
        raise UsageError("The parameters env and run_id are texts; quote them.")
    first = parse_run_date(str(run_date))
    last = parse_run_date(str(until)) if until else first
    if run_id and range_of(run_id) != (first, last):
        raise UsageError(f"The run {run_id} is not one of {first} to {last}; give it no run_id, or the dates of its name.")
    settings = load_settings(env, overrides)
    # Notify writes no table. It also reports a run whose dates are held by another one.
    leases = lease_dates(settings.lake, run_id, list_range(run_id)) if run_id and name != STAGES[-1] else None
    lake = Lake(settings.lake, run_id=run_id, development="" if run_id else development_user(), leases=leases)
    tables = DuckDBEngine(lake, settings.timezone)
    keys = load_keys(settings.pii_key)
    # Only where pseudonyms are written for others to read is it noted what they were made with.
    require_keys(lake.root, keys, settings.env, note=bool(run_id) and name == "transform")
    tables.add_text_function("pseudonym", pseudonym_function(keys))
    source = load_source(settings.source)
    ended = set() if name == STAGES[-1] or first == last else _read_ended_dates(lake, name)
    dates = [day for day in list_dates(first, last) if day not in ended]
    current = Stage(name, settings, first, last, dates, run_id, source, lake, ViewEngine(tables, source))
    return current


def _read_ended_dates(lake: Lake, stage: str) -> set[date]:
    """Return the dates that the stages before ``stage`` have ended in this run."""
    found = _read_ended_by_stage(lake, stage)
    return {date.fromisoformat(day) for days in found.values() for day in days}


def _read_ended_by_stage(lake: Lake, before: str) -> dict[str, list[str]]:
    data = lake.read_run_file(_ENDED_DATES)
    found: dict[str, list[str]] = {} if data is None else json.loads(data)
    return {stage: days for stage, days in found.items() if STAGES.index(stage) < STAGES.index(before)}


def _peak_memory() -> int:
    """Return the peak memory of this kernel, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
