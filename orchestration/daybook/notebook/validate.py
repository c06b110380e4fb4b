"""Stage 2: check every landed row against its contract, and put rows that break a rule into quarantine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from typing import Optional

import pyarrow as pa

from daybook.contracts.columns import find_column
from daybook.engines import DuckDBEngine
from daybook.errors import StageError
from daybook.notebook.context import RowCounts, Stage
from daybook.notebook.display import Listing
from daybook.notebook.gate import apply_approval, format_range_rules, format_rules, summarize_rules
from daybook.notebook.releases import (
    Release,
    exclude_waived_sql,
    list_landed_columns,
    read_releases_by_date,
    released_sql,
)
from daybook.quality.checks import MAX_SAMPLES, RuleResult, check_rules_by_date, reasons_sql
from daybook.quality.gates import Finding, format_warnings, gate_broken_rules, gate_rejected_share
from daybook.quality.rules import WHOLE_ROW_CONDITION, Rule, landing_rules
from daybook.sources.mapping import list_dates_sql, newest_files_sql, quote, superseded_rows_sql, typed_select

VALIDATED_DATES = "control.validated_dates"
"""The business dates whose rows in bronze have passed the gate."""
_HASH_MIN_ROWS = 50_000
"""Number of rows from which it is faster to look for copies among digests before sorting whole rows."""
_ADDRESS_COLUMNS = ["_source_file", "_row_number"]
_COUNT_COLUMNS = ["landed", "accepted", "rejected", "exact duplicates", "rejected share"]
_DATED_ADDRESS = ", ".join(["run_date", *_ADDRESS_COLUMNS])


@dataclass
class DateValidation:
    """Number of rows of a date by entity, and the results of the rules."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By entity, the ``landed`` rows: ``accepted``, ``quarantined`` or exact ``duplicates``."""
    rules: list[RuleResult] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    """What stops the date."""

    @property
    def listing(self) -> Listing:
        """A row per entity."""
        return Listing(
            ["entity", *_COUNT_COLUMNS],
            [(name, *counts.values(), _rejected_share(counts)) for name, counts in self.counts.items()],
            percent=["rejected share"],
        )

    @property
    def rule_listing(self) -> Listing:
        """A row per rule, with its SQL."""
        return Listing(
            ["entity", "rule", "severity", "checked", "failing", "SQL"],
            [
                (each.table, each.rule, each.severity, each.checked, each.failing, _format_condition(each))
                for each in self.rules
            ],
        )

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """Numbers of rows by the rule that rejects them."""
        broken = (each for each in self.rules if not each.holds and each.severity == "error")
        return {f"{each.table}: {each.rule}": each.failing for each in broken}


@dataclass
class ValidationResult:
    """The validation of each date. The listings of a range have sums over its dates."""

    dates: dict[date, DateValidation]
    is_range: bool

    @property
    def listing(self) -> Listing:
        """A row per entity; for a range, with the date that has the highest rejected share."""
        if not self.is_range:
            return self._only.listing
        rows = []
        for name in dict.fromkeys(name for each in self.dates.values() for name in each.counts):
            by_date = {day: each.counts[name] for day, each in self.dates.items() if name in each.counts}
            shares = {day: _rejected_share(counts) for day, counts in by_date.items()}
            worst = max(shares, key=lambda day: shares[day])
            total = _sum_counts(by_date.values())
            of_worst = (shares[worst], worst) if shares[worst] else (None, None)
            rows.append((name, *total.values(), _rejected_share(total), *of_worst))
        return Listing(
            ["entity", *_COUNT_COLUMNS, "highest share of a date", "on"],
            rows,
            percent=["rejected share", "highest share of a date"],
        )

    @property
    def broken(self) -> Listing:
        """A row per rule that does not hold, or that some row breaks, on any date."""
        if not self.is_range:
            return format_rules(self._only.rules)
        return format_range_rules({day: each.rules for day, each in self.dates.items()})

    @property
    def rule_listing(self) -> Listing:
        """A row per rule, with its SQL; for a range, with the number of dates on which something breaks it."""
        if not self.is_range:
            return self._only.rule_listing
        rows = [
            (
                *(each.first.table, each.first.rule, each.first.severity, len(each.broken)),
                *(each.checked, each.failing, _format_condition(each.first)),
            )
            for each in summarize_rules({day: each.rules for day, each in self.dates.items()})
        ]
        return Listing(["entity", "rule", "severity", "broken on dates", "checked", "failing", "SQL"], rows)

    @property
    def rejected_by_reason(self) -> dict[str, int]:
        """Numbers of rows of all dates by the rule that rejects them."""
        return _sum_counts(each.rejected_by_reason for each in self.dates.values())

    @property
    def _only(self) -> DateValidation:
        (only,) = self.dates.values()
        return only


def _format_condition(result: RuleResult) -> str:
    """Return the SQL of a rule without the condition that a row is whole, which every rule on rows has."""
    return result.sql.replace(f"{WHOLE_ROW_CONDITION} AND ", "", 1)


def _sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def _rejected_share(counts: Mapping[str, int]) -> float:
    return counts["quarantined"] / max(counts["landed"], 1)


def check_landing(stage: Stage) -> ValidationResult:
    """Check the rows of the dates of every entity against the rules of its contract.

    Cells can query ``typed.<entity>``: columns of the contract's types, ``_text_<column>`` as landed, ``_copy``, which is 2 and
    more for exact duplicates, and ``run_date``. ``<entity>`` has every complete row once.
    """
    require_landed(stage)
    engine = stage.raw_engine
    result = ValidationResult({day: DateValidation() for day in stage.dates}, stage.is_range)
    releases = read_releases_by_date(engine, stage.lake, stage.dates_condition)
    landed_rows = {}
    for name in stage.source.entities:
        landed_rows[name] = _count_by_date(engine, f"bronze.{name}", "count(*)", stage.dates_condition)
        landed = sum(count for (count,) in landed_rows[name].values())
        engine.create_table(f"typed.{name}", _typed_sql(stage, name, releases, landed))
        _define_whole_rows(stage, {name}, stage.dates)
        if releases:
            _warn_of_lost_releases(stage, name, releases)
    for name in stage.source.entities:
        rules = landing_rules(stage.source, name)
        if any(each.entity == name and each.waived for found in releases.values() for each in found):
            rules = [rule.map_failing(partial(exclude_waived_sql, rule.name)) if rule.is_per_row else rule for rule in rules]
        results, rows, of_rows = check_rules_by_date(
            engine,
            f"typed.{name}",
            rules,
            name,
            key=_ADDRESS_COLUMNS,
            dates=stage.dates,
            restrict=partial(_define_whole_rows, stage),
            counted="_copy = 1",
            objects=name,
        )
        register_rejected(engine, name, rows, of_rows, run_date="DATE")
        _count_rows(stage, name, landed_rows[name], result)
        by_rows = {rule.name for rule in rules if rule.is_per_row}
        for day, found in results.items():
            of_day = result.dates[day]
            of_day.rules += found
            of_day.findings += gate_broken_rules([each for each in found if each.rule not in by_rows or not each.computed])
    return result


def quarantine(stage: Stage, result: ValidationResult) -> Optional[Listing]:
    """Replace the rows of the dates in quarantine with those that break a rule, and end each date by its gate.

    Returns a row per date of a range, with its outcome.
    """
    for name in stage.source.entities:
        rejected = stage.raw_engine.arrow(
            f"SELECT b.run_date, b.* EXCLUDE (run_date), r._reasons FROM bronze.{name} AS b JOIN rejected.{name} AS r "
            f"USING ({_DATED_ADDRESS}) WHERE {stage.dates_condition} ORDER BY {_DATED_ADDRESS}"
        )
        stage.lake.replace_dates(f"quarantine.{name}", rejected, stage.dates)
    refused: dict[date, list[str]] = {}
    rows: dict[date, RowCounts] = {}
    for day, found in result.dates.items():
        details = stage.results[day].details
        details["accounting"] = found.counts
        details["rejected_by_reason"] = found.rejected_by_reason
        stage.results[day].warnings.extend(format_warnings(found.rules))
        refused[day] = apply_approval(stage, day, found.findings, found.rules, broken="quarantined")
        landed, accepted, rejected_rows, copies = _sum_counts(found.counts.values()).values()
        rows[day] = {"in": landed, "out": accepted, "rejected": rejected_rows, "duplicates": copies}
    passed = [day for day in stage.dates if not refused[day]]
    numbers = pa.array([rows[day]["out"] for day in passed], pa.int64())
    stage.lake.replace_dates(
        VALIDATED_DATES, pa.table({"run_date": pa.array(passed, pa.date32()), "accepted": numbers}), stage.dates
    )
    for day, reasons in refused.items():
        if reasons:
            stage.reject_date(day, reasons, rows_in=rows[day]["in"], rejected=rows[day]["rejected"])
    if stage.dates:
        stage.succeed(by_date=rows)
    if not stage.is_range:
        return None
    listed = []
    for day, found in result.dates.items():
        counts = _sum_counts(found.counts.values())
        outcome = "REJECTED" if refused[day] else "SUCCEEDED"
        listed.append((day, outcome, *counts.values(), _rejected_share(counts), "; ".join(refused[day])))
    return Listing(["date", "outcome", *_COUNT_COLUMNS, "why"], listed, percent=["rejected share"])


def define_accepted_rows(stage: Stage) -> Listing:
    """Define the accepted rows of the dates under the names of their entities, cleaned and typed, with ``run_date``.

    Returns their numbers, a row per entity.
    """
    require_landed(stage)
    engine = stage.raw_engine
    passed = set(stage.lake.run_dates(VALIDATED_DATES))
    absent = [day.isoformat() for day in stage.dates if day not in passed]
    if absent:
        raise StageError(f"{absent[0]} has not passed validation; run 2_validate for that date first.")
    releases = read_releases_by_date(engine, stage.lake, stage.dates_condition)
    accepted = {}
    for name, entity in stage.source.entities.items():
        columns = ", ".join(quote(column) for column in [*entity.columns, *_ADDRESS_COLUMNS, "run_date"])
        landed = sum(count for (count,) in _count_by_date(engine, f"bronze.{name}", "count(*)", stage.dates_condition).values())
        accepted[name] = (
            f"SELECT {columns} FROM (SELECT * FROM ({_typed_sql(stage, name, releases, landed)}) AS typed WHERE _copy = 1) "
            f"AS once ANTI JOIN (SELECT {_DATED_ADDRESS} FROM quarantine.{name} WHERE {stage.dates_condition}) AS rejected "
            f"USING ({_DATED_ADDRESS})"
        )
        engine.define(name, accepted[name])
    # Only once all are defined: the SELECT that gives a row's order may join other entities.
    for name in stage.source.flat_entities:
        _exclude_superseded(stage, name, accepted)
    counts = {name: [count for (count,) in _count_by_date(engine, name, "count(*)").values()] for name in stage.source.entities}
    if stage.is_range:
        return Listing(
            ["entity", "accepted rows", "dates with rows"], [(name, sum(each), len(each)) for name, each in counts.items()]
        )
    return Listing(["entity", "accepted rows"], [(name, sum(each)) for name, each in counts.items()])


def _exclude_superseded(stage: Stage, entity: str, accepted: Mapping[str, str]) -> None:
    """Drop accepted rows of a flat entity whose order is also in a newer file of its date, with a warning.

    ``accepted`` has the SQL of the accepted rows of all entities.
    """
    engine = stage.raw_engine
    files: dict[date, list[str]] = {}
    for day, file in engine.rows(f"SELECT DISTINCT run_date, _source_file FROM {entity} ORDER BY ALL"):
        files.setdefault(day, []).append(file)
    newest, dropped = f"newest.{entity}", []
    for day, found in files.items():
        if len(found) < 2:
            continue
        if stage.is_range:
            # The SELECT may join other entities, whose rows of other dates it must not find.
            for name, sql in accepted.items():
                engine.define(name, f"SELECT * FROM ({sql}) AS accepted WHERE run_date = DATE '{day}'")
        if not engine.create_table(newest, newest_files_sql(stage.source, entity, found, day)):
            continue
        older = engine.arrow(superseded_rows_sql(stage.source, entity, found, newest))
        dropped.append(_add_date(older, day))
        orders, first = engine.fetch_row(f"SELECT count(*), min(_order, {MAX_SAMPLES}) FROM {newest}")
        stage.results[day].warnings.append(
            f"{entity}: {orders:,} {'order is' if orders == 1 else 'orders are'} in more than one file of the date "
            f"({', '.join(first)}); the newest file of an order counts, and {older.num_rows:,} rows of older files do not"
        )
    if stage.is_range:
        for name, sql in accepted.items():
            engine.define(name, sql)
    if dropped:
        superseded = f"superseded.{entity}"
        engine.register(superseded, pa.concat_tables(dropped))
        engine.define(
            entity, f"SELECT * FROM ({accepted[entity]}) AS accepted ANTI JOIN {superseded} AS older USING ({_DATED_ADDRESS})"
        )


def _add_date(rows: pa.Table, day: date) -> pa.Table:
    return rows.add_column(0, "run_date", pa.repeat(pa.scalar(day, pa.date32()), rows.num_rows))


def _define_whole_rows(stage: Stage, names: Collection[str], dates: Sequence[date]) -> None:
    """Define ``<entity>``, for the entities among some names, as every complete row of some dates once."""
    of_dates = "" if dates == stage.dates else f" AND run_date IN ({list_dates_sql(dates)})"
    for name in stage.source.entities.keys() & names:
        stage.raw_engine.define(name, f"SELECT * FROM typed.{name} WHERE {WHOLE_ROW_CONDITION}{of_dates}")


def _count_by_date(engine: DuckDBEngine, relation: str, numbers: str, condition: str = "TRUE") -> dict[date, tuple[int, ...]]:
    """Return numbers of rows by date; a date without rows is absent."""
    rows = engine.rows(f"SELECT run_date, {numbers} FROM {relation} WHERE {condition} GROUP BY run_date")
    return {day: tuple(found) for day, *found in rows}


def _count_rows(stage: Stage, name: str, landed_rows: Mapping[date, tuple[int, ...]], result: ValidationResult) -> None:
    """Account for every landed row of an entity, and gate the share of rejected ones."""
    engine, typed = stage.raw_engine, f"typed.{name}"
    not_rejected = f"{typed} ANTI JOIN rejected.{name} USING ({_DATED_ADDRESS})"
    accepted_rows = _count_by_date(engine, not_rejected, "count(*)", "_copy = 1")
    rejected_rows = _count_by_date(engine, f"rejected.{name}", "count(*)")
    numbers = "count_if(_copy > 1), count_if(_problem IS NOT NULL), count_if(_problem IS NOT NULL AND _copy = 1)"
    of_typed = _count_by_date(engine, typed, numbers)
    for day, of_day in result.dates.items():
        (landed,), (accepted,), (rejected,) = (each.get(day, (0,)) for each in (landed_rows, accepted_rows, rejected_rows))
        copies, problems, first_problems = of_typed.get(day, (0, 0, 0))
        if landed != accepted + rejected + copies:
            raise StageError(
                f"{name}: {landed} rows landed but {accepted} + {rejected} + {copies} are accounted for; correct the rules."
            )
        of_day.counts[name] = {"landed": landed, "accepted": accepted, "quarantined": rejected, "duplicates": copies}
        # Rows of a snapshot that belong to no date say nothing about this one, unless the snapshot as a whole is at fault.
        entity = stage.source.entities[name]
        undated = first_problems if (entity.date or entity.follows) and problems != landed else 0
        of_day.findings += gate_rejected_share(
            name,
            landed - undated,
            rejected - undated,
            most=stage.settings.max_rejected_share,
            tolerated=stage.settings.tolerated_rejected_rows,
        )


def _warn_of_lost_releases(stage: Stage, name: str, releases: Mapping[date, Sequence[Release]]) -> None:
    applied = _count_by_date(stage.raw_engine, f"typed.{name}", "count(_waived)")
    for day, found in releases.items():
        lost = sum(each.entity == name for each in found) - applied.get(day, (0,))[0]
        if lost:
            stage.results[day].warnings.append(f"{name}: {lost:,} released rows are no longer in the landing, or have changed")


def _typed_sql(stage: Stage, entity: str, releases: Mapping[date, Sequence[Release]], landed: int) -> str:
    """Return SQL for the landed rows of the dates of an entity, typed, with released rows applied.

    ``landed`` is the number of these rows.
    """
    released = released_sql(stage.raw_engine, entity, stage.dates_condition, releases)
    rows = _declared_names_sql(stage, entity, _number_copies_sql(stage, entity, released, landed))
    return typed_select(stage.source, entity, f"({rows}) AS landed", stage.settings.timezone, others=["run_date"])


def _declared_names_sql(stage: Stage, entity: str, landed: str) -> str:
    """Return SQL that renames the columns of bronze as in the contract: SQL matches only ASCII letters in another case."""
    stored = list_landed_columns(stage.raw_engine, f"bronze.{entity}")
    declared = {find_column(stored, column): column for column in stage.source.entities[entity].columns}
    renamed = [f"{quote(name)} AS {quote(column)}" for name, column in declared.items() if name and name != column]
    return f"SELECT * RENAME ({', '.join(renamed)}) FROM ({landed}) AS named" if renamed else landed


def _number_copies_sql(stage: Stage, entity: str, released: str, landed: int) -> str:
    """Return SQL that adds ``_copy``, which numbers rows of a date that are equal in every landed column, by file and row."""
    relation = f"({released}) AS released"
    if not stage.source.drops_duplicates(entity):
        return f"SELECT *, 1 AS _copy FROM {relation}"
    # A copy in another flat file is the same order again, and the newest file of an order counts as a whole.
    within = ["_source_file"] if entity in stage.source.flat_entities else []
    columns = list_landed_columns(stage.raw_engine, f"bronze.{entity}")
    listed = ", ".join(quote(name) for name in ["run_date", *columns, *within])
    numbered = f"row_number() OVER (PARTITION BY {listed} ORDER BY _source_file, _row_number)"
    if landed < _HASH_MIN_ROWS:
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


def register_rejected(engine: DuckDBEngine, entity: str, rows: pa.Table, rules: list[Rule], **others: str) -> None:
    """Register the rows that break a rule of their own as ``rejected.<entity>``: their address and ``_reasons``.

    ``rows`` and ``rules`` are those of ``check_rules``; ``others`` are further columns of the address with their SQL types.
    """
    stopping = [rule if rule.is_per_row and rule.severity == "error" else None for rule in rules]
    engine.register("_flagged", rows)
    reasons = reasons_sql(stopping) if any(stopping) else "''"
    # The table of no failing rows has columns without a type.
    types = {**others, "_source_file": "VARCHAR", "_row_number": "BIGINT"}
    address = ", ".join(f"CAST({name} AS {sql_type}) AS {name}" for name, sql_type in types.items())
    engine.create_table(
        f"rejected.{entity}",
        f"SELECT * FROM (SELECT {address}, {reasons} AS _reasons FROM _flagged) AS reasoned WHERE _reasons <> ''",
    )


def require_landed(stage: Stage) -> None:
    """Raise ``StageError`` if a date has not been ingested: no rows would look like a day without trade."""
    landed = set(stage.lake.run_dates(f"bronze.{stage.source.primary}"))
    for day in stage.dates:
        if day not in landed:
            raise StageError(f"{day} is not in bronze; run 1_ingest for that date first.")
