"""Stage 2: check every landed row against its contract, and put rows that break a rule into quarantine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pyarrow as pa

from daybook.contracts.columns import find_column
from daybook.engines import DuckDBEngine
from daybook.errors import StageError
from daybook.notebook.context import Stage
from daybook.notebook.display import Listing
from daybook.notebook.gate import apply_approval, format_rules
from daybook.notebook.releases import (
    exclude_waived_sql,
    list_landed_columns,
    read_releases,
    released_sql,
)
from daybook.quality.checks import MAX_SAMPLES, RuleResult, check_rules, reasons_sql
from daybook.quality.gates import Finding, format_warnings, gate_broken_rules, gate_rejected_share
from daybook.quality.rules import WHOLE_ROW_CONDITION, Rule, landing_rules
from daybook.sources.mapping import newest_files_sql, quote, superseded_rows_sql, typed_select

VALIDATED_DATES = "control.validated_dates"
"""The business dates whose rows in bronze have passed the gate, one partition each."""
_HASH_MIN_ROWS = 50_000
"""Number of rows from which it is faster to look for copies among digests before sorting whole rows."""
_ADDRESS_COLUMNS = ["_source_file", "_row_number"]


@dataclass
class ValidationResult:
    """Number of rows by entity, and the results of the rules."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By entity, the ``landed`` rows: ``accepted``, ``quarantined`` or exact ``duplicates``."""
    rules: list[RuleResult] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """What stops the date."""

    @property
    def listing(self) -> Listing:
        """A row per entity."""
        return Listing(
            ["entity", "landed", "accepted", "rejected", "exact duplicates", "rejected share"],
            [
                (name, *counts.values(), counts["quarantined"] / max(counts["landed"], 1))
                for name, counts in self.counts.items()
            ],
            percent=["rejected share"],
        )

    @property
    def broken(self) -> Listing:
        """A row per rule that does not hold, or that some row breaks."""
        return format_rules(self.rules)

    @property
    def rule_listing(self) -> Listing:
        """A row per rule, with its SQL but without the condition that a row is whole."""
        prefix = f"{WHOLE_ROW_CONDITION} AND "
        return Listing(
            ["entity", "rule", "severity", "checked", "failing", "SQL"],
            [
                (each.table, each.rule, each.severity, each.checked, each.failing, each.sql.replace(prefix, "", 1))
                for each in self.rules
            ],
        )


def check_landing(stage: Stage) -> ValidationResult:
    """Check the date's rows of every entity against the rules of its contract.

    Cells can query ``typed.<entity>``: columns of the contract's types, ``_text_<column>`` as landed, and ``_copy``, which is 2
    and more for exact duplicates. ``<entity>`` has every complete row once.
    """
    require_landed(stage)
    result = ValidationResult()
    releases = read_releases(stage.raw_engine, stage.lake, stage.run_date)
    for name in stage.source.entities:
        stage.raw_engine.create_table(f"typed.{name}", _typed_sql(stage, name))
        stage.raw_engine.define(name, f"SELECT * FROM typed.{name} WHERE {WHOLE_ROW_CONDITION}")
        (applied,) = stage.raw_engine.fetch_row(f"SELECT count(_waived) FROM typed.{name}")
        lost = sum(each.entity == name for each in releases) - applied
        if lost:
            stage.warnings.append(f"{name}: {lost:,} released rows are no longer in the landing, or have changed")
    for name in stage.source.entities:
        rules = landing_rules(stage.source, name)
        if any(each.entity == name and each.waived for each in releases):
            rules = [
                replace(rule, failing=exclude_waived_sql(rule.name, rule.failing)) if rule.is_per_row else rule
                for rule in rules
            ]
        results, rows, of_rows = check_rules(
            stage.raw_engine,
            f"typed.{name}",
            rules,
            name,
            key=_ADDRESS_COLUMNS,
            counted="_copy = 1",
            run_date=stage.run_date,
            objects=name,
        )
        register_rejected(stage.raw_engine, name, rows, of_rows)
        typed = f"SELECT count(*) FROM typed.{name}"
        landed, accepted, rejected, copies = stage.raw_engine.fetch_row(
            f"SELECT (SELECT count(*) FROM bronze.{name} WHERE run_date = DATE '{stage.day}'), "
            f"({typed} ANTI JOIN rejected.{name} USING ({', '.join(_ADDRESS_COLUMNS)}) WHERE _copy = 1), "
            f"(SELECT count(*) FROM rejected.{name}), ({typed} WHERE _copy > 1)"
        )
        if landed != accepted + rejected + copies:
            raise StageError(
                f"{name}: {landed} rows landed but {accepted} + {rejected} + {copies} are accounted for; correct the rules."
            )
        result.rules += results
        result.counts[name] = {"landed": landed, "accepted": accepted, "quarantined": rejected, "duplicates": copies}
        undated = _count_undated_rows(stage, name, landed)
        result.findings += gate_rejected_share(
            name,
            landed - undated,
            rejected - undated,
            most=stage.settings.max_rejected_share,
            tolerated=stage.settings.tolerated_rejected_rows,
        )
        by_rows = {rule.name for rule in rules if rule.is_per_row}
        result.findings += gate_broken_rules([each for each in results if each.rule not in by_rows or not each.computed])
    return result


def quarantine(stage: Stage, result: ValidationResult) -> None:
    """Move the rejected rows to quarantine, one atomic commit per entity, and end the stage as the gate decides."""
    for name in result.counts:
        rejected = stage.raw_engine.arrow(
            f"SELECT b.* EXCLUDE (run_date), r._reasons FROM bronze.{name} AS b JOIN rejected.{name} AS r "
            "ON r._source_file = b._source_file AND r._row_number = b._row_number "
            f"WHERE b.run_date = DATE '{stage.day}' ORDER BY b._source_file, b._row_number"
        )
        stage.lake.replace_date(f"quarantine.{name}", rejected, stage.run_date)
    stage.details["accounting"] = result.counts
    stage.details["rejected_by_reason"] = {
        f"{each.table}: {each.rule}": each.failing for each in result.rules if not each.holds and each.severity == "error"
    }
    stage.warnings.extend(format_warnings(result.rules))
    reasons = apply_approval(stage, stage.run_date, result.findings, result.rules, broken="quarantined")
    landed, accepted, rejected_rows, copies = map(sum, zip(*(counts.values() for counts in result.counts.values())))
    passed = pa.table({"accepted": pa.array([] if reasons else [accepted], pa.int64())})
    stage.lake.replace_date(VALIDATED_DATES, passed, stage.run_date)
    if reasons:
        stage.reject(reasons, rows_in=landed, rejected=rejected_rows)
    else:
        stage.succeed(rows_in=landed, rows_out=accepted, rejected=rejected_rows, duplicates=copies)


def define_accepted_rows(stage: Stage) -> Listing:
    """Define the accepted rows of the date under the names of their entities, cleaned and typed; return their numbers."""
    require_landed(stage)
    if stage.run_date not in stage.lake.run_dates(VALIDATED_DATES):
        raise StageError(f"{stage.day} has not passed validation; run 2_validate for that date first.")
    accepted = {}
    address = ", ".join(_ADDRESS_COLUMNS)
    for name, entity in stage.source.entities.items():
        columns = ", ".join(quote(column) for column in [*entity.columns, *_ADDRESS_COLUMNS])
        accepted[name] = (
            f"SELECT {columns} FROM (SELECT * FROM ({_typed_sql(stage, name)}) AS typed WHERE _copy = 1) AS once "
            f"ANTI JOIN (SELECT {address} FROM quarantine.{name} WHERE run_date = DATE '{stage.day}') AS rejected "
            f"USING ({address})"
        )
        stage.raw_engine.define(name, accepted[name])
    # Only once all are defined: the SELECT that gives a row's order may join other entities.
    for name in stage.source.flat_entities:
        _exclude_superseded(stage, name, accepted[name])
    counts = [(name, *stage.raw_engine.fetch_row(f"SELECT count(*) FROM {name}")) for name in stage.source.entities]
    return Listing(["entity", "accepted rows"], counts)


def _exclude_superseded(stage: Stage, entity: str, accepted: str) -> None:
    """Drop accepted rows of a flat entity whose order is also in a newer file of the landing, with a warning."""
    engine = stage.raw_engine
    files = [file for (file,) in engine.rows(f"SELECT DISTINCT _source_file FROM {entity}")]
    newest = f"newest.{entity}"
    if len(files) < 2 or not engine.create_table(newest, newest_files_sql(stage.source, entity, files, stage.run_date)):
        return
    address, superseded = ", ".join(_ADDRESS_COLUMNS), f"superseded.{entity}"
    count = engine.create_table(superseded, superseded_rows_sql(stage.source, entity, files, newest))
    engine.define(entity, f"SELECT * FROM ({accepted}) AS accepted ANTI JOIN {superseded} AS older USING ({address})")
    orders, first = engine.fetch_row(f"SELECT count(*), min(_order, {MAX_SAMPLES}) FROM {newest}")
    stage.warnings.append(
        f"{entity}: {orders:,} {'order is' if orders == 1 else 'orders are'} in more than one file of the date "
        f"({', '.join(first)}); the newest file of an order counts, and {count:,} rows of older files do not"
    )


def _typed_sql(stage: Stage, entity: str) -> str:
    """Return SQL for the date's landed rows of an entity, typed, with released rows applied."""
    releases = read_releases(stage.raw_engine, stage.lake, stage.run_date)
    released = released_sql(stage.raw_engine, entity, stage.run_date, releases)
    landed = _declared_names_sql(stage, entity, _number_copies_sql(stage, entity, released))
    return typed_select(stage.source, entity, f"({landed}) AS landed", stage.settings.timezone)


def _declared_names_sql(stage: Stage, entity: str, landed: str) -> str:
    """Return SQL that renames the columns of bronze as in the contract: SQL matches only ASCII letters in another case."""
    stored = list_landed_columns(stage.raw_engine, f"bronze.{entity}")
    declared = {find_column(stored, column): column for column in stage.source.entities[entity].columns}
    renamed = [f"{quote(name)} AS {quote(column)}" for name, column in declared.items() if name and name != column]
    return f"SELECT * RENAME ({', '.join(renamed)}) FROM ({landed}) AS named" if renamed else landed


def _number_copies_sql(stage: Stage, entity: str, released: str) -> str:
    """Return SQL that adds ``_copy``, which numbers rows that are equal in every landed column, in the order of the files."""
    relation = f"({released}) AS released"
    if not stage.source.drops_duplicates(entity):
        return f"SELECT *, 1 AS _copy FROM {relation}"
    # A copy in another flat file is the same order again, and the newest file of an order counts as a whole.
    within = ["_source_file"] if entity in stage.source.flat_entities else []
    listed = ", ".join(quote(name) for name in [*list_landed_columns(stage.raw_engine, f"bronze.{entity}"), *within])
    numbered = f"row_number() OVER (PARTITION BY {listed} ORDER BY _source_file, _row_number)"
    if _count_landed_rows(stage, entity) < _HASH_MIN_ROWS:
        return f"SELECT *, {numbered} AS _copy FROM {relation}"
    # Most rows occur once, and their digest shows it: only rows whose digest occurs twice are sorted.
    twice = f"twice.{entity}"
    found = stage.raw_engine.create_table(
        twice, f"SELECT hash({listed}) AS digest FROM {relation} GROUP BY 1 HAVING count(*) > 1"
    )
    if not found:
        return f"SELECT *, 1 AS _copy FROM {relation}"
    among = f"IN (SELECT digest FROM {twice})"
    return (
        f"SELECT *, 1 AS _copy FROM {relation} WHERE hash({listed}) NOT {among} "
        f"UNION ALL SELECT *, {numbered} AS _copy FROM {relation} WHERE hash({listed}) {among}"
    )


def _count_landed_rows(stage: Stage, entity: str) -> int:
    """Return how many rows bronze has for the date, from the footers of its files."""
    landed = stage.lake.dataset(f"bronze.{entity}", stage.run_date)
    return 0 if landed is None else landed.count_rows()


def register_rejected(engine: DuckDBEngine, entity: str, rows: pa.Table, rules: list[Rule]) -> None:
    """Register the rows that break a rule of their own as ``rejected.<entity>``: their address and ``_reasons``.

    ``rows`` and ``rules`` are those of ``check_rules``.
    """
    stopping = [rule if rule.is_per_row and rule.severity == "error" else None for rule in rules]
    engine.register("_flagged", rows)
    reasons = reasons_sql(stopping) if any(stopping) else "''"
    # The table of no failing rows has columns without a type.
    engine.create_table(
        f"rejected.{entity}",
        "SELECT * FROM (SELECT CAST(_source_file AS VARCHAR) AS _source_file, CAST(_row_number AS BIGINT) AS _row_number, "
        f"{reasons} AS _reasons FROM _flagged) AS reasoned WHERE _reasons <> ''",
    )


def _count_undated_rows(stage: Stage, entity: str, landed: int) -> int:
    """Return how many rows of a snapshot belong to no date, whose share says nothing about this date.

    If no row belongs to the date, the snapshot as a whole is at fault and all its rows count.
    """
    if not (stage.source.entities[entity].date or stage.source.entities[entity].follows):
        return 0
    undated, first = stage.raw_engine.fetch_row(
        f"SELECT count(*), count(*) FILTER (_copy = 1) FROM typed.{entity} WHERE _problem IS NOT NULL"
    )
    return 0 if undated == landed else int(first)


def require_landed(stage: Stage) -> None:
    """Raise ``StageError`` if a date has not been ingested: no rows would look like a day without trade."""
    if stage.run_date not in stage.lake.run_dates(f"bronze.{stage.source.primary}"):
        raise StageError(f"{stage.day} is not in bronze; run 1_ingest for that date first.")
