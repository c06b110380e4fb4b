"""Carry out a data steward's decisions: approve a rejected run, release rows from quarantine. Each is a run, on record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Optional

from daybook.contracts.columns import find_column
from daybook.engines import DuckDBEngine
from daybook.errors import UsageError
from daybook.execution.close import require_not_rolled_back_since
from daybook.lake.tables import Lake
from daybook.notebook.releases import Release, digest_sql, list_landed_columns, write_releases
from daybook.privacy.redactor import Redactor
from daybook.privacy.run_values import build_redactor
from daybook.quality.rules import SPLIT_RULE_NAME, landing_rules, usable_date_rule_name
from daybook.records.archive import Archive, current_timestamp
from daybook.records.models import Approval
from daybook.records.models import Release as ReleaseRecord
from daybook.records.names import STAGES, RunStart, format_run_id
from daybook.settings import Settings, daybook_home
from daybook.sources import Source, load_source
from daybook.sources.mapping import literal, quote

_RESTART_STAGES = {"validate": "validate", "transform": "transform", "quality": "aggregate"}
"""Stages that can reject a date, and the stage at which the approved run begins, so that gold is computed again."""


@dataclass(frozen=True)
class QuarantinedRow:
    """A row in quarantine.

    ``values`` are its columns as landed, without personal columns. They are redacted, since a broken row may have personal
    data in the wrong column.
    """

    run_date: date
    entity: str
    source_file: str
    row_number: int
    rules: tuple[str, ...]
    run_id: str
    digest: str
    values: dict[str, Optional[str]]


def approve(settings: Settings, run_id: str, *, by: str, why: str) -> RunStart:
    """Record an approval and take the id of the run that publishes a rejected date.

    Only the findings of that run's gate are approved. The new run is rejected again if its gate finds anything else.

    Parameters
    ----------
    settings
        The deployment.
    run_id
        The rejected run.
    by, why
        Who approves it, and the reason.

    Returns
    -------
    RunStart
        The new run and the stage at which it begins.

    Raises
    ------
    UsageError
        If the run was not rejected, a successful run of its date followed, or one of its findings cannot be waived.
    """
    if not why.strip():
        raise UsageError("An approval needs a reason: --why TEXT.")
    archive = Archive(settings.archive)
    record = archive.run(run_id)
    if record.outcome != "REJECTED":
        raise UsageError(f"The run {run_id} ended as {record.outcome}; only a REJECTED run can be approved.")
    require_not_rolled_back_since(archive, run_id)
    run_date = record.run_date
    later = archive.run_ids(run_date)[archive.run_ids(run_date).index(run_id) + 1 :]
    for other in later:
        outcome = archive.run(other).outcome
        # An approval whose run was killed or failed may be given again.
        if outcome in ("SUCCEEDED", "SKIPPED") or archive.started(other).approval is None:
            raise UsageError(f"The date of {run_id} has been run again as {other}, which ended as {outcome}; use that run.")
    refused = [each for each in record.stages if each.outcome == "REJECTED"][-1]
    findings = refused.details.refused
    final = [each.about for each in findings if not each.waivable]
    if final or not findings:
        raise UsageError(
            f"{run_id} cannot be approved: {'; '.join(final) or 'no findings'}. Correct the data, then run the date again."
        )
    # The reason goes into the archive, so it is redacted like everything there.
    redacted = build_redactor(settings, run_id).redact_text(why.strip())
    approval = Approval(of=run_id, by=by, why=redacted, waived=tuple(each.about for each in findings))
    facts = {"env": settings.env, "title": settings.title, "approval": approval}
    return RunStart(archive.start_run(run_date, facts), _RESTART_STAGES[refused.stage])


def list_quarantined_rows(
    settings: Settings, *, run_date: Optional[date] = None, entity: Optional[str] = None, rule: Optional[str] = None
) -> list[QuarantinedRow]:
    """Return the rows in quarantine, by date, entity, file and row; ``rule`` is a part of a rule's name."""
    source = load_source(settings.source)
    _require_entity(source, entity)
    lake = Lake(settings.lake)
    engine = DuckDBEngine(lake, settings.timezone, spill=daybook_home() / "scratch")
    found = []
    redactors: dict[date, Redactor] = {}
    for name in [entity] if entity else list(source.entities):
        if not lake.exists(f"quarantine.{name}"):
            continue
        columns = list_landed_columns(engine, f"quarantine.{name}")
        personal = source.personal_columns()[name]
        shown = {
            each: stored
            for each in source.entities[name].columns
            if each not in personal and (stored := find_column(columns, each)) is not None
        }
        where = [f"run_date = DATE '{run_date}'"] if run_date else []
        where += [f"contains(lower(_reasons), {literal(rule.lower())})"] if rule else []
        rows = engine.rows(
            f"SELECT run_date, _source_file, _row_number, _reasons, _run_id, {digest_sql(columns)}, "
            f"{', '.join(map(quote, shown.values())) or 'NULL'} FROM quarantine.{name} "
            f"{'WHERE ' + ' AND '.join(where) if where else ''} ORDER BY run_date, _source_file, _row_number"
        )
        for day, file, number, reasons, run_id, digest, *values in rows:
            if day not in redactors:
                redactors[day] = build_redactor(settings, format_run_id(day, 1))
            searched = [value and redactors[day].redact_text(value) for value in values]
            broken = tuple(reasons.split("; "))
            found.append(QuarantinedRow(day, name, file, number, broken, run_id, digest, dict(zip(shown, searched))))
    return sorted(found, key=lambda each: (each.run_date, list(source.entities).index(each.entity)))


def release_rows(
    settings: Settings, rows: Sequence[QuarantinedRow], *, repairs: dict[str, str], by: str, why: str
) -> list[date]:
    """Record the release of rows, and return their dates, which must be validated again.

    Parameters
    ----------
    settings
        The deployment.
    rows
        Rows in quarantine.
    repairs
        New values by column; if empty, the rows are accepted as they are.
    by, why
        Who releases them, and the reason.

    Raises
    ------
    UsageError
        If there is no row, a column is unknown, or a row cannot be released.
    """
    if not why.strip():
        raise UsageError("A release needs a reason: --why TEXT.")
    if not rows:
        raise UsageError("No row in quarantine matches; `daybook quarantine list` shows all.")
    source = load_source(settings.source)
    for each in rows:
        unknown = [name for name in repairs if find_column(source.entities[each.entity].columns, name) is None]
        if unknown:
            known = ", ".join(source.entities[each.entity].columns)
            raise UsageError(f"{each.entity} has no column {unknown[0]!r}; its columns are: {known}.")
        _require_business_date(source, each)
        if not repairs:
            _require_waivable(source, each)
    lake = Lake(settings.lake)
    engine = DuckDBEngine(lake, settings.timezone, spill=daybook_home() / "scratch")
    dates = sorted({each.run_date for each in rows})
    for day in dates:
        write_releases(
            engine,
            lake,
            day,
            [
                Release(
                    *(each.entity, each.source_file, each.row_number, each.digest, repairs),
                    () if repairs else each.rules,
                    *(by, why.strip(), current_timestamp()),
                )
                for each in rows
                if each.run_date == day
            ],
        )
    return dates


def start_revalidation(settings: Settings, run_date: date, *, rows: int, by: str, why: str) -> RunStart:
    """Take the id of a run that validates a date's landed rows again; ``rows`` is the number of released ones."""
    # The name of the steward stays readable, also if a customer has the same name.
    redacted = build_redactor(settings, format_run_id(run_date, 1)).redact_text(why.strip())
    facts = {"env": settings.env, "title": settings.title, "released": ReleaseRecord(by=by, why=redacted, rows=rows)}
    run_id = Archive(settings.archive).start_run(run_date, facts)
    return RunStart(run_id, STAGES[1])


def _require_waivable(source: Source, row: QuarantinedRow) -> None:
    waivable = {rule.name for rule in landing_rules(source, row.entity) if rule.waivable}
    final = [rule for rule in row.rules if rule not in waivable]
    if final:
        raise UsageError(
            f"{row.source_file} row {row.row_number} cannot be accepted as it is, because it breaks rules that cannot be "
            f"waived ({'; '.join(final)}); repair it with --fix COLUMN=VALUE."
        )


def _require_business_date(source: Source, row: QuarantinedRow) -> None:
    """Refuse a row of a snapshot without a date: it may belong to another date, and rows that follow it have not landed."""
    entity = source.entities[row.entity]
    if (entity.date or entity.follows) and {SPLIT_RULE_NAME, usable_date_rule_name(str(entity.date))} & set(row.rules):
        raise UsageError(
            f"{row.source_file} row {row.row_number} belongs to no business date, so it cannot be released; "
            f"correct the file and run {row.run_date} again."
        )


def _require_entity(source: Source, entity: Optional[str]) -> None:
    if entity is not None and entity not in source.entities:
        raise UsageError(f"There is no entity {entity!r}; the source {source.name} has: {_join_names(source.entities)}.")


def _join_names(names: Iterable[str]) -> str:
    return ", ".join(names)
