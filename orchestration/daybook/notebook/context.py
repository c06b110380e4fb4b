"""A stage as its notebook sees it: settings, business date, lake, SQL engine, and how it ends."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Optional

from IPython.core.getipython import get_ipython
from IPython.display import display

from daybook.contracts import Table
from daybook.engines import DuckDBEngine, Query, ViewEngine
from daybook.errors import UsageError
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
from daybook.records.models import StartRecord
from daybook.records.names import RESULT_MIME, STAGES, dates_of, run_date_of
from daybook.settings import Settings, load_settings, parse_run_date
from daybook.sources import Source, load_source
from daybook.storage import request_counts


@dataclass
class Stage:
    """One stage of one business date, open in this notebook."""

    name: str
    settings: Settings
    run_date: date
    run_id: str
    source: Source
    lake: Lake
    engine: ViewEngine
    """What cells read: raw rows have pseudonyms in place of restricted values."""
    inputs: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    definitions: dict[str, str] = field(default_factory=dict)
    ended: str = ""
    findings: list[Finding] = field(default_factory=list)
    """What earlier cells found against the data, for the gate of the stage."""

    @property
    def day(self) -> str:
        """The business date as text."""
        return self.run_date.isoformat()

    @property
    def warnings(self) -> list[str]:
        """What was found and does not stop the date, for the record; cells append to it."""
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
    ) -> None:
        """End well, with how many rows came in, went out, were rejected or were exact duplicates, where that has a meaning."""
        record_lineage(self)
        self._end("SUCCEEDED", [], {"in": rows_in, "out": rows_out, "rejected": rejected, "duplicates": duplicates})

    def skip(self, reason: str) -> None:
        """End with nothing to do. What the notebook's further cells say about this stage is not run."""
        self._end("SKIPPED", [reason], {"in": 0, "out": 0})

    def reject(self, reasons: list[str], *, rows_in: Optional[int] = None, rejected: Optional[int] = None) -> None:
        """End with a gate's no: an answer, not a fault. Further cells are not run."""
        self._end("REJECTED", reasons, {"in": rows_in, "out": 0, "rejected": rejected})

    def result(self, outcome: str, reasons: list[str], rows: dict[str, Optional[int]]) -> dict[str, Any]:
        """Return the result of this notebook for the record of the attempt."""
        return {
            "stage": self.name,
            "outcome": outcome,
            "reasons": reasons,
            "rows": rows,
            "tables_read": dict(self.lake.tables_read),
            "tables_written": dict(self.lake.tables_written),
            "inputs": self.inputs,
            "details": self.details,
            "engine": self.engine.version,
            "peak_memory_bytes": _peak_memory(),
            "requests": dict(request_counts),
            "table_seconds": self.lake.timings.seconds(),
        }

    def _end(self, outcome: str, reasons: list[str], rows: dict[str, Optional[int]]) -> None:
        self.ended = outcome
        result = self.result(outcome, reasons, rows)
        shown = StageResult(self.name, outcome, reasons, rows, self.lake.tables_written)
        display({RESULT_MIME: result, "text/html": shown._repr_html_(), "text/plain": repr(shown)}, raw=True)

    def _repr_html_(self) -> str:
        return self._note()._repr_html_()

    def __repr__(self) -> str:
        return repr(self._note())

    def _note(self) -> FactList:
        where = f"development copy of {self.lake.development}" if self.lake.development else "published tables"
        return FactList(
            {
                "Shop": self.settings.title,
                "Business date": f"{self.run_date:%A}, {self.day}",
                "Run": self.run_id or "unnamed: nothing is published",
                "Writes to": where,
                "Lake": short_path(self.settings.lake),
                "Engine": self.engine.version,
            }
        )


current: Optional[Stage] = None
"""The stage that is open in this kernel, for the ``%%sql`` magic."""


def begin(name: str, *, env: str, run_date: str, run_id: str = "", overrides: Optional[dict[str, str]] = None) -> Stage:
    """Open a stage. Without a run's name its writes go to a development copy of the tables (``dev/<user>``).

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
    day = parse_run_date(str(run_date))
    if run_id and run_date_of(run_id) != day:
        raise UsageError(f"The run {run_id} is not one of {day}; give it no run_id or one that begins with daily-{day}.")
    settings = load_settings(env, overrides)
    # Notify writes no table. It also reports a run whose dates are held by another one.
    leases = lease_dates(settings.lake, run_id, dates_of(run_id)) if run_id and name != STAGES[-1] else None
    lake = Lake(settings.lake, run_id=run_id, development="" if run_id else development_user(), leases=leases)
    tables = DuckDBEngine(lake, settings.timezone)
    keys = load_keys(settings.pii_key)
    # Only where pseudonyms are written for others to read is it noted what they were made with.
    require_keys(lake.root, keys, settings.env, note=bool(run_id) and name == "transform")
    tables.add_text_function("pseudonym", pseudonym_function(keys))
    source = load_source(settings.source)
    current = Stage(name, settings, day, run_id, source, lake, ViewEngine(tables, source))
    return current


def _peak_memory() -> int:
    """Return the peak memory of this kernel, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
