"""Define the records of the archive as pydantic models: runs, attempts, stage outcomes, backfills and what they contain.

Keys that a model does not know are kept, so that records of newer releases can be read and passed on unchanged. Keys that an
older release did not write have defaults. A key that was neither read nor set is not written.
"""

from collections.abc import Mapping
from datetime import date
from typing import Any, Literal, Optional

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import Self

from daybook.records.names import list_dates

SCHEMA_VERSION = 1
"""Version of the format that this release writes. Raise it when a key is removed or changes its meaning."""

_MOMENT = "UTC, ISO 8601 with milliseconds and Z"
_AMOUNT = "a decimal as text, in the currency of the cost; null if the price is not known"

_RANGE_ID = "Id of the range, if the run is the part of one date in a run over a range of dates."

RunOutcome = Literal["SUCCEEDED", "SKIPPED", "REJECTED", "FAILED", "RUNNING"]
"""The outcome of a run or an attempt: done; nothing to do; rejected by a gate, never retried; failed, by a fault that was
retried or by a permanent failure that was not. ``RUNNING`` is never archived."""
DateOutcomeName = Literal["SUCCEEDED", "SKIPPED", "REJECTED", "FAILED", "NOT STARTED", "RUNNING"]


class RecordModel(BaseModel):
    """Base of all records: unknown keys are kept, missing keys have defaults."""

    # Models are built when they are first used: a job that only writes an attempt does not pay for backfills.
    model_config = ConfigDict(extra="allow", populate_by_name=True, defer_build=True)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, with the keys that were read or set."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)

    def changed(self, **values: Any) -> Self:
        """Return a copy with other values."""
        return self.model_copy(update=values)


class ClockReading(RecordModel):
    """A reading of the clock that counts from the start of a machine."""

    boot: str = Field(description="The start of the machine: its boot id, or a token of the process.")
    seconds: float = Field(description="Seconds since that start.")


class CodeVersion(RecordModel):
    """The version of the code that ran."""

    commit: Optional[str] = Field(default=None, description="Git commit of the checkout or of the bundle's checkout.")
    dirty: Optional[bool] = Field(default=None, description="Whether the checkout had changes that were not committed.")
    lock_sha256: Optional[str] = Field(default=None, description="SHA-256 of the lock of the packages, in hexadecimal.")


class ArchivedFile(RecordModel):
    """A file beside a record, with its digest."""

    file: str = Field(description="File name within the folder of the run; of a date run, within that of its range.")
    sha256: Optional[str] = Field(default=None, description="SHA-256 of the file's bytes, in hexadecimal.")


class PackageVersions(RecordModel):
    """The packages that computed."""

    engine: Optional[str] = Field(default=None, description="Engine and version, such as duckdb 1.2.2.")
    lock: Optional[str] = Field(default=None, description="SHA-256 of the lock of the packages, in hexadecimal.")


class Approval(RecordModel):
    """The approval of a run that a gate rejected."""

    of: str = Field(description="Id of the rejected run.")
    by: str = Field(description="Who approved it.")
    why: Optional[str] = Field(default=None, description="The reason that was given.")
    waived: tuple[str, ...] = Field(default=(), description="The findings that the approval waives.")


class Release(RecordModel):
    """The release of rows from quarantine that a run validates again."""

    by: str = Field(description="Who released the rows.")
    why: Optional[str] = Field(default=None, description="The reason that was given.")
    rows: int = Field(default=0, description="Number of released rows.")


class StartRecord(RecordModel):
    """``started.json``: what is known of a run when its name is taken."""

    run_id: str = Field(default="", description="Id of the run.")
    started_at: str = Field(default="", description=f"When the name was taken ({_MOMENT}).")
    clock: Optional[ClockReading] = Field(default=None, description="The machine's clock at that moment.")
    env: Optional[str] = Field(default=None, description="Deployment: a file in params/.")
    title: Optional[str] = Field(default=None, description="The shop's title.")
    part_of: Optional[str] = Field(default=None, description="Id of the backfill that the run belongs to.")
    range_id: Optional[str] = Field(default=None, description=_RANGE_ID)
    dates: dict[str, str] = Field(default={}, description="Of a range: by date, YYYY-MM-DD, the id of its date run.")
    approval: Optional[Approval] = Field(default=None, description="The approval that the run publishes.")
    released: Optional[Release] = Field(default=None, description="The rows that the run validates again.")


class ClaimRecord(RecordModel):
    """``<notebook>.attempt-<n>.claim``: what is known of an attempt before its kernel starts."""

    started_at: str = Field(default="", description=f"When the attempt was claimed ({_MOMENT}).")
    clock: Optional[ClockReading] = Field(default=None, description="The machine's clock at that moment.")
    parameters: dict[str, Any] = Field(default={}, description="Parameters of the notebook.")
    scratch: str = Field(default="", description="Folder in which the notebook is executed.")
    code: CodeVersion = Field(default_factory=CodeVersion, description="The code that runs.")
    python: Optional[str] = Field(default=None, description="Version of Python.")


class RowCounts(RecordModel):
    """The rows of a stage; null where a count has no meaning."""

    rows_in: Optional[int] = Field(default=None, alias="in", description="Rows read.")
    rows_out: Optional[int] = Field(default=None, alias="out", description="Rows written.")
    rejected: Optional[int] = Field(default=None, description="Rows put into quarantine.")
    duplicates: Optional[int] = Field(default=None, description="Exact duplicates that were dropped.")


class InputFile(RecordModel):
    """A landing file that an attempt read."""

    file: str = Field(description="Path under landing.")
    size: Optional[int] = Field(default=None, alias="bytes", description="Size in bytes.")
    sha256: str = Field(default="", description="SHA-256 of the file's bytes, in hexadecimal.")
    rows: Optional[int] = Field(default=None, description="Rows of the business date that the file gave.")


class Failure(RecordModel):
    """What stopped a notebook, and in which cell. A failure outside of cells has neither ``index``, ``cell`` nor ``source``."""

    exception: Optional[str] = Field(default=None, description="Class of the exception, or KernelDied or JobDied.")
    message: Optional[str] = Field(default=None, description="The exception's message.")
    index: Optional[int] = Field(default=None, description="Place among all cells of the executed notebook, from 0.")
    cell: Optional[int] = Field(default=None, description="Execution count that Jupyter shows for the cell.")
    source: Optional[str] = Field(default=None, description="First line of the cell.")
    permanent: bool = Field(default=False, description="Whether the same input fails again: no retry.")


class RuleResult(RecordModel):
    """The result of one contract rule that some rows break."""

    table: str = Field(default="", description="Entity or table that was checked.")
    rule: str = Field(default="", description="The rule's name.")
    severity: str = Field(default="error", description="error or warning.")
    outcome: Optional[str] = Field(default=None, description="quarantined, rejected, warned or within limits.")
    failing: int = Field(default=0, description="Rows that break the rule.")
    checked: Optional[int] = Field(default=None, description="Rows that were checked.")
    share: Optional[float] = Field(default=None, description="failing / checked, from 0 to 1.")
    measured: Optional[str] = Field(default=None, description="What a rule on a whole table measured, with its unit.")
    samples: list[str] = Field(default=[], description="File and row, or key, of some rows that break the rule.")


class RefusedFinding(RecordModel):
    """A finding for which a gate rejected a date."""

    about: str = Field(description="Id of the finding.")
    waivable: bool = Field(default=False, description="Whether an approval can waive it.")


class EntityRows(RecordModel):
    """Where the landed rows of an entity went: landed = accepted + quarantined + duplicates."""

    landed: int = Field(default=0, description="Rows in bronze.")
    accepted: int = Field(default=0, description="Rows that pass.")
    quarantined: int = Field(default=0, description="Rows in quarantine.")
    duplicates: int = Field(default=0, description="Exact duplicates.")


class MergeCounts(RecordModel):
    """The rows of a merge into a silver table."""

    rows: Optional[int] = Field(default=None, description="Rows that were merged.")
    inserted: Optional[int] = Field(default=None, description="Rows with a new key.")
    updated: Optional[int] = Field(default=None, description="Rows that replaced an older version.")
    deleted: Optional[int] = Field(default=None, description="Rows that were removed.")


class Restatement(RecordModel):
    """A date whose published figures a run changed."""

    # Archived records have this key, whatever column a table is partitioned by.
    business_date: str = Field(
        validation_alias="order_date", serialization_alias="order_date", description="The date, YYYY-MM-DD."
    )
    before: Optional[dict[str, Any]] = Field(
        default=None, description="Figures before the run; money as decimal text; null: not published."
    )
    after: Optional[dict[str, Any]] = Field(default=None, description="Like before, for the figures after the run.")


class RawRead(RecordModel):
    """A read of raw values, with its reason."""

    at: Optional[str] = Field(default=None, description=f"When ({_MOMENT}).")
    by: Optional[str] = Field(default=None, description="User.")
    reason: Optional[str] = Field(default=None, description="The reason that was given.")
    tables: list[str] = Field(default=[], description="Tables that were read.")
    columns: list[str] = Field(default=[], description="Columns of the result.")
    stage: Optional[str] = Field(default=None, description="Stage that read.")
    cell: Optional[int] = Field(default=None, description="Execution count of the cell.")


class Notification(RecordModel):
    """A message to people."""

    subject: str = Field(default="", description="One line of ASCII, at most 99 characters.")
    body: str = Field(default="", description="Plain text, at most 200,000 bytes.")


class StageDetails(RecordModel):
    """What a stage adds to its record; each stage has keys of its own."""

    warnings: list[str] = Field(default=[], description="Findings that did not stop the date.")
    rules: list[RuleResult] = Field(default=[], description="Rules that some rows break.")
    rules_checked: Optional[int] = Field(default=None, description="Number of rules that were checked.")
    refused: list[RefusedFinding] = Field(default=[], description="Findings for which the gate rejected the date.")
    waived: list[str] = Field(default=[], description="Findings that an approval waived.")
    accounting: dict[str, EntityRows] = Field(default={}, description="By entity, where the landed rows went.")
    rejected_by_reason: dict[str, int] = Field(default={}, description="Rows in quarantine by rule.")
    merged: dict[str, MergeCounts] = Field(default={}, description="By silver table, the rows that were merged.")
    candidates: dict[str, int] = Field(default={}, description="By gold table, the candidate rows.")
    snapshot: dict[str, int] = Field(default={}, description="By table, the version that gold was computed from.")
    touched_dates: list[str] = Field(default=[], description="Order dates that were computed, YYYY-MM-DD.")
    stale_dates: list[str] = Field(default=[], description="Order dates that changed rows belong to, YYYY-MM-DD.")
    held_dates: list[str] = Field(default=[], description="Dates that a hold keeps as they are, YYYY-MM-DD.")
    dates_not_landed: Optional[int] = Field(default=None, description="Touched dates that no run has landed.")
    past: dict[str, str] = Field(
        default={}, description="By gold table, the query that gives the earlier days of its figures, for a date of a backfill."
    )
    published_dates: list[str] = Field(default=[], description="Order dates that were published, YYYY-MM-DD.")
    left_to_newer: list[str] = Field(default=[], description="Order dates that a newer run has published, YYYY-MM-DD.")
    restated: list[Restatement] = Field(default=[], description="Other dates whose figures changed.")
    publications: Optional[dict[str, str]] = Field(default=None, description="By gold table: published, newer or waiting.")
    lineage: dict[str, Any] = Field(default={}, description="Columns that the tables of this stage come from, by table.")
    lineage_gaps: list[str] = Field(default=[], description="Why the lineage of a table is not known.")
    raw_reads: list[RawRead] = Field(default=[], description="Reads of raw values.")
    freshness_hours: Optional[float] = Field(default=None, description="Hours from the end of the date to the message.")
    silent: Optional[str] = Field(default=None, description="Why nobody is notified.")
    message: Optional[Notification] = Field(default=None, description="The message to people.")
    run_outcome: Optional[RunOutcome] = Field(default=None, description="Outcome of the run, from the notify stage.")
    run_reasons: list[str] = Field(default=[], description="Why the run ended with that outcome.")
    summary: Optional[dict[str, Any]] = Field(default=None, description="Figures of the date; money as decimal text.")
    figures: list[str] = Field(default=[], description="Names of the figures, in the order of the notebook.")


class Execution(RecordModel):
    """What the records of a run and of an attempt have in common."""

    record: str = Field(default="", description="Kind of record.")
    schema_version: int = Field(default=0, description="Version of the format; 0 for a record from before it had versions.")
    run_id: str = Field(default="", description="Id of the run, such as daily-2025-11-30-1 or range-2025-11-01-2025-11-30-1.")
    run_date: Optional[date] = Field(default=None, description="Business date, the first one of a range, YYYY-MM-DD.")
    until: Optional[date] = Field(default=None, description="Last business date of a range, YYYY-MM-DD.")
    env: Optional[str] = Field(default=None, description="Deployment: a file in params/.")
    outcome: RunOutcome = Field(description="Outcome of the run or the attempt.")
    reasons: list[str] = Field(default=[], description="Why it ended with that outcome.")
    started_at: str = Field(default="", description=f"When its name was taken ({_MOMENT}).")
    ended_at: Optional[str] = Field(default=None, description=f"When it ended ({_MOMENT}).")
    seconds: Optional[float] = Field(
        default=None,
        description="Seconds from started_at to ended_at; null while it runs. Of a date run, the date's share of the range's.",
    )
    code: CodeVersion = Field(default_factory=CodeVersion, description="The code that wrote the record.")
    engine: Optional[str] = Field(default=None, description="Engine and version, such as duckdb 1.2.2.")
    python: Optional[str] = Field(default=None, description="Version of Python.")
    redactions: dict[str, int] = Field(default={}, description="Values that were replaced before archiving, by column.")
    withheld: Optional[str] = Field(
        default=None, description="Class of the error for which free text, and an attempt's notebook, are withheld."
    )
    missing: list[str] = Field(default=[], description="Not archived: described files that are not in the archive.")


class DateResult(RecordModel):
    """What a stage of a range did for one of its dates."""

    outcome: RunOutcome = Field(description="Outcome of the stage for the date.")
    reasons: list[str] = Field(default=[], description="Why the date was skipped or rejected.")
    rows: RowCounts = Field(default_factory=RowCounts, description="Rows of the date.")
    inputs: list[InputFile] = Field(default=[], description="Landing files that were read for the date.")
    details: StageDetails = Field(default_factory=StageDetails, description="What the stage adds for the date.")
    failure: Optional[Failure] = Field(default=None, description="What failed the date.")


class StageResult(RecordModel):
    """What a stage notebook's closing cell leaves for the record."""

    stage: str = Field(default="", description="Stage.")
    outcome: RunOutcome = Field(description="Outcome of the stage.")
    reasons: list[str] = Field(description="Why the stage was skipped or rejected.")
    rows: RowCounts = Field(default_factory=RowCounts, description="Rows of the stage.")
    tables_read: dict[str, int] = Field(default={}, description="By table, the version that was read.")
    tables_written: dict[str, int] = Field(default={}, description="By table, the version that was written.")
    inputs: list[InputFile] = Field(default=[], description="Landing files that were read.")
    details: StageDetails = Field(default_factory=StageDetails, description="What the stage adds.")
    engine: Optional[str] = Field(default=None, description="Engine and version, such as duckdb 1.2.2.")
    peak_memory_bytes: Optional[int] = Field(default=None, description="Peak resident memory in bytes.")
    requests: dict[str, int] = Field(default={}, description="Requests to buckets: reads and writes.")
    table_seconds: dict[str, float] = Field(default={}, description="Seconds of the cells that went into tables.")
    dates: dict[str, DateResult] = Field(
        default={},
        description="Of a range: by date, YYYY-MM-DD, what the stage did. A date that had ended before is not in it.",
    )


class AttemptRecord(StageResult, Execution):
    """``<notebook>.attempt-<n>.json``: one try of a stage."""

    record: Literal["attempt"] = Field(default="attempt", description="Kind of record.")
    stage: str = Field(description="Stage.")
    reasons: list[str] = Field(default=[], description="Why the stage was skipped or rejected.")
    attempt: int = Field(default=1, description="Number of the attempt, from 1.")
    permanent: bool = Field(default=False, description="Whether the failure is permanent: the stage is not retried.")
    parameters: dict[str, Any] = Field(default={}, description="Parameters of the notebook, redacted.")
    phases: dict[str, float] = Field(default={}, description="Seconds by phase of the job.")
    failure: Optional[Failure] = Field(default=None, description="What stopped the notebook.")
    notebook: Optional[ArchivedFile] = Field(default=None, description="The executed notebook; null if it is withheld.")
    html: Optional[ArchivedFile] = Field(default=None, description="The notebook's page; null if it is withheld.")


class StageRecord(RecordModel):
    """``outcomes/<run_id>/<stage>.json``: the last outcome of a stage, which the state machine reads."""

    schema_version: int = Field(default=0, description="Version of the format; 0 for a record from before it had versions.")
    stage: str = Field(description="Stage.")
    attempt: Optional[int] = Field(default=None, description="Number of the attempt; null if the stage did not start.")
    outcome: RunOutcome = Field(description="Outcome of the stage.")
    reasons: list[str] = Field(default=[], description="Why it was skipped, rejected or failed.")
    rows: RowCounts = Field(default_factory=RowCounts, description="Rows of the stage.")
    permanent: bool = Field(default=False, description="Whether the stage is not retried.")


class PriceTable(RecordModel):
    """The price table that a cost was calculated with."""

    region: str = Field(default="", description="AWS region.")
    as_of: str = Field(default="", description="Date of the prices, YYYY-MM-DD.")


class JobCost(RecordModel):
    """The cost of one job on AWS Glue."""

    stage: str = Field(description="Stage.")
    attempt: int = Field(default=1, description="Number of the job of this stage, from 1.")
    seconds: int = Field(default=0, description="Billed seconds.")
    dpu: str = Field(default="", description="Data processing units, a decimal as text.")
    amount: Optional[str] = Field(default=None, description=f"Cost: {_AMOUNT}.")
    under_way: bool = Field(default=False, description="Whether the job had not ended when the cost was calculated.")
    execution: str = Field(default="", description="ARN of the execution; empty for an estimate.")


class ExecutionTransitions(RecordModel):
    """The state transitions of one execution."""

    execution: str = Field(default="", description="ARN of the execution; empty for an estimate.")
    transitions: int = Field(default=0, description="Number of state transitions.")


class CostLine(RecordModel):
    """A number of things that are paid by the thousand."""

    count: Optional[int] = Field(default=None, description="Number; null if it is not counted.")
    amount: Optional[str] = Field(default=None, description=f"Cost: {_AMOUNT}.")


class RunCost(RecordModel):
    """The cost of a run on AWS."""

    basis: Literal["measured", "estimated"] = Field(description="measured: from the execution's history; else estimated.")
    share_of: Optional[str] = Field(default=None, description="Of a date run: id of the range whose cost this is a share of.")
    currency: str = Field(description="ISO 4217 code.")
    prices: PriceTable = Field(default_factory=PriceTable, description="The price table.")
    jobs: list[JobCost] = Field(default=[], description="Jobs on AWS Glue.")
    executions: list[ExecutionTransitions] = Field(default=[], description="Executions of the state machine.")
    transitions: CostLine = Field(default_factory=CostLine, description="State transitions of all executions.")
    writes: CostLine = Field(default_factory=CostLine, description="Writing requests to S3.")
    reads: CostLine = Field(default_factory=CostLine, description="Reading requests to S3.")
    total: str = Field(default="0", description="Sum of all amounts: a decimal as text, in currency.")
    not_counted: list[str] = Field(default=[], description="Costs that the sum lacks.")


class RestoredTable(RecordModel):
    """A table that a rollback changed."""

    before: int = Field(description="Version before the rollback.")
    after: int = Field(description="Version after the rollback.")
    restored_from: list[int] = Field(
        default=[], description="Versions whose rows were restored. Rows of silver come from the versions.* tables."
    )


class RollbackRecord(RecordModel):
    """``rollback.started.json`` and ``rollback.json`` beside a run's record: the publication of the run was taken back."""

    record: Literal["rollback"] = Field(default="rollback", description="Kind of record.")
    schema_version: int = Field(default=0, description="Version of the format.")
    run_id: str = Field(description="Id of the run whose publication is taken back.")
    run_date: date = Field(description="Business date of the run, YYYY-MM-DD.")
    env: Optional[str] = Field(default=None, description="Deployment: a file in params/.")
    by: str = Field(description="Who took it back.")
    why: str = Field(description="The reason that was given.")
    started_at: str = Field(default="", description=f"When it was started, before any table changed ({_MOMENT}).")
    ended_at: Optional[str] = Field(default=None, description=f"When all tables were restored ({_MOMENT}); null until then.")
    code: CodeVersion = Field(default_factory=CodeVersion, description="The code that wrote the record.")
    tables: dict[str, RestoredTable] = Field(
        default={}, description="By table, the versions before and after; only changed tables."
    )
    shows: Optional[str] = Field(
        default=None, description="Id of the earlier run whose publication shows again; null without one."
    )
    restored_dates: list[date] = Field(default=[], description="Dates whose gold is as before the run, YYYY-MM-DD.")
    removed_dates: list[date] = Field(default=[], description="Dates that gold no longer has, YYYY-MM-DD.")
    stale_dates: list[date] = Field(default=[], description="Dates that the next run of any date computes again, YYYY-MM-DD.")
    stale_tables: list[str] = Field(
        default=[], description="Tables without dates that the next run of any date computes again."
    )


class RangeDate(RecordModel):
    """A date of a range: its date run and its outcome."""

    run_id: str = Field(description="Id of the date run.")
    outcome: RunOutcome = Field(description="Outcome of the date.")


class RunRecord(Execution):
    """``run.json``: one execution of the state machine for a business date or a range. A resumed run has further ones.

    The record of a date run has the part of its date in the range: its ``stages`` are the attempts of the range, with the rows
    and findings of the date.
    """

    record: Literal["run"] = Field(default="run", description="Kind of record.")
    run_id: str = Field(description="Id of the run, such as daily-2025-11-30-1.")
    run_date: date = Field(description="Business date, the first one of a range, YYYY-MM-DD.")
    range_id: Optional[str] = Field(default=None, description=_RANGE_ID)
    dates: dict[str, RangeDate] = Field(
        default={}, description="Of a range: by date, YYYY-MM-DD, the id of its date run and its outcome."
    )
    halves: list[str] = Field(default=[], description="Ids of the runs over the halves of a range that failed as a whole.")
    source: Optional[str] = Field(default=None, description="Source: a file in params/sources/.")
    title: Optional[str] = Field(default=None, description="The shop's title.")
    currency: Optional[str] = Field(default=None, description="ISO 4217 code of the figures.")
    usual_seconds: Optional[float] = Field(default=None, description="Median seconds of good runs of the four weeks before.")
    state_machine: Optional[ArchivedFile] = Field(default=None, description="File and digest of the state machine.")
    fingerprint: dict[str, Any] = Field(default={}, description="What decides the numbers: logic version, digests by part.")
    packages: Optional[PackageVersions] = Field(default=None, description="The packages that computed.")
    stages: list[AttemptRecord] = Field(default=[], description="All attempts, by stage and number.")
    summary: Optional[dict[str, Any]] = Field(default=None, description="Published figures of the date; money as decimal text.")
    cost: Optional[RunCost] = Field(default=None, description="Cost on AWS; null without a price table.")
    approval: Optional[Approval] = Field(default=None, description="The approval that the run publishes.")
    part_of: Optional[str] = Field(default=None, description="Id of the backfill that the run belongs to.")
    lineage: Optional[dict[str, Any]] = Field(default=None, description="Columns that the tables come from, by table.")
    rolled_back: Optional[RollbackRecord] = Field(
        default=None, description="Not archived here: the rollback that took the publication of the run back."
    )
    state: Optional[Literal["closed", "running", "lost"]] = Field(
        default=None, description="Not archived: closed with a record, running, or lost without a closing record."
    )

    @property
    def is_range(self) -> bool:
        """Whether the run covers a range of dates."""
        return self.until is not None

    @property
    def in_backfill(self) -> bool:
        """Whether the run belongs to a backfill, also where the backfill's id is withheld."""
        return "part_of" in self.model_fields_set


class PlannedDate(RecordModel):
    """A date of a backfill and the id of the run that it gets."""

    run_date: date = Field(description="Business date, YYYY-MM-DD.")
    run_id: str = Field(description="Id of the planned run.")


class PlannedRange(RecordModel):
    """Consecutive dates of a backfill that one run processes; one date is an ordinary run of that date."""

    run_date: date = Field(description="First date, YYYY-MM-DD.")
    until: Optional[date] = Field(default=None, description="Last date, YYYY-MM-DD; null for one date.")
    run_id: str = Field(description="Id of the planned run: of the range, or of its only date.")
    size: Optional[int] = Field(default=None, alias="bytes", description="Bytes of the landing files of its dates.")

    @property
    def dates(self) -> list[date]:
        """The dates of the range, oldest first."""
        return list_dates(self.run_date, self.until or self.run_date)


class CatchUpPlan(RecordModel):
    """``outcomes/<execution>/gaps.json``: the gaps that a catch-up found, and the backfill that it planned."""

    gaps: int = Field(description="Number of gaps.")
    dates: list[PlannedDate] = Field(default=[], description="The dates to run.")
    ranges: list[PlannedRange] = Field(default=[], description="The runs that process the dates.")
    backfill_id: Optional[str] = Field(default=None, description="Id of the backfill; null if there is no date to run.")


class RangeOutcome(RecordModel):
    """``outcomes/<run_id>/range.json``: how a range ended, which the state machine reads."""

    outcome: RunOutcome = Field(description="Outcome of the worst date.")
    reasons: list[str] = Field(default=[], description="Why it ended with that outcome.")
    first_stage: str = Field(default="ingest", description="Stage at which the halves begin.")
    halves: list[PlannedRange] = Field(default=[], description="The runs of its halves, after a fault of a whole stage.")


class DateOutcome(RecordModel):
    """What became of a date of a backfill."""

    run_date: date = Field(description="Business date, YYYY-MM-DD.")
    run_id: str = Field(description="Id of the run that it got, or was planned to get.")
    outcome: DateOutcomeName = Field(description="Outcome of the date.")
    reason: str = Field(default="", description="First line of the reason.")
    seconds: Optional[float] = Field(default=None, description="Seconds that the run took.")


class UnusualDay(RecordModel):
    """A date of a backfill whose figures differ from the weeks before it."""

    run_date: date = Field(description="Business date, YYYY-MM-DD.")
    severity: str = Field(default="warning", description="error or warning.")
    warning: str = Field(default="", description="What is unusual.")


class Refusal(RecordModel):
    """``<date>.refused.json``: why a date of a backfill could not be started."""

    run_date: date = Field(description="Business date, YYYY-MM-DD.")
    reason: str = Field(default="", description="The reason.")


class BackfillRecord(RecordModel):
    """``backfills/<id>/started.json`` and ``backfill.json``: the plan of a backfill and what became of its dates."""

    record: Literal["backfill"] = Field(default="backfill", description="Kind of record.")
    schema_version: int = Field(default=0, description="Version of the format; 0 for a record from before it had versions.")
    backfill_id: str = Field(description="Id of the backfill.")
    started_at: str = Field(default="", description=f"When it was started ({_MOMENT}).")
    env: Optional[str] = Field(default=None, description="Deployment: a file in params/.")
    title: Optional[str] = Field(default=None, description="The shop's title.")
    asked_by: Optional[str] = Field(default=None, description="Execution of the catch-up that planned it.")
    parallel: Optional[int] = Field(default=None, description="Number of dates that run at a time.")
    fail_fast: Optional[bool] = Field(default=None, description="Whether the first failed date stops the others.")
    kind: str = Field(default="backfill", description="backfill or catch-up.")
    first: Optional[date] = Field(default=None, description="First date that was asked for, YYYY-MM-DD.")
    last: Optional[date] = Field(default=None, description="Last date that was asked for, YYYY-MM-DD.")
    force: bool = Field(default=False, description="Whether dates with a good run run again.")
    first_stage: str = Field(default="ingest", description="Stage at which each date begins.")
    fingerprint: Optional[dict[str, Any]] = Field(default=None, description="What decides the numbers when it was planned.")
    chunk: Optional[str] = Field(default=None, description="How dates are cut into ranges: day, week, month or a number.")
    days: list[PlannedDate] = Field(default=[], description="The dates to run.")
    ranges: list[PlannedRange] = Field(default=[], description="The runs that process the dates.")
    left_alone: list[date] = Field(default=[], description="Dates that had a good run, YYYY-MM-DD.")
    continues: Optional[str] = Field(default=None, description="Id of the stopped backfill that it continues.")
    ended_at: Optional[str] = Field(default=None, description=f"When it was closed ({_MOMENT}).")
    seconds: Optional[float] = Field(default=None, description="Seconds from started_at to ended_at.")
    outcome: Optional[RunOutcome] = Field(default=None, description="Outcome of the worst date; null until it is closed.")
    reasons: list[str] = Field(default=[], description="Why the backfill as a whole failed.")
    stopped: bool = Field(default=False, description="Whether it was stopped before its end.")
    counts: dict[str, int] = Field(default={}, description="Number of dates by outcome.")
    results: Optional[list[DateOutcome]] = Field(default=None, description="Outcome of each date; null until it is closed.")
    unusual_days: list[UnusualDay] = Field(default=[], description="Dates whose figures differ from the weeks before.")
    message: Optional[Notification] = Field(default=None, description="The message to people.")
    state: Optional[Literal["closed", "open"]] = Field(default=None, description="Not archived: closed, or open.")


PUBLISHED_MODELS: Mapping[str, type[RecordModel]] = {
    "run": RunRecord,
    "attempt": AttemptRecord,
    "stage": StageRecord,
    "backfill": BackfillRecord,
    "rollback": RollbackRecord,
    "start": StartRecord,
    "claim": ClaimRecord,
}
"""The records whose JSON schema is published, by the name of the schema."""
