"""Stage 3: map accepted rows to the canonical model and merge them into silver by key; the newest version wins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial

import pyarrow as pa

from daybook.contracts import Table, load_tables
from daybook.contracts.canonical import business_date_instant, business_date_table
from daybook.contracts.model import LANDED_ON, VERSION_AT
from daybook.errors import SourceError, SqlError
from daybook.lake.merge import merge
from daybook.notebook.affected_dates import StaleDateTracker
from daybook.notebook.context import Stage
from daybook.notebook.conversions import find_raising_value, find_unconvertible_values
from daybook.notebook.derived_columns import add_derived_columns, update_derived_columns
from daybook.notebook.display import Listing
from daybook.notebook.gate import apply_approval, format_rules
from daybook.notebook.stale_dates import LANDED_DATES
from daybook.notebook.validate import define_accepted_rows
from daybook.quality.checks import MAX_SAMPLES, RuleResult, check_contract, sample_sql
from daybook.quality.gates import Finding, format_warnings, gate_broken_rules
from daybook.sources import mapped_sql
from daybook.sources.config import row_position
from daybook.sources.mapping import are_collisions_errors, find_invalid_expression, group_sql, merge_group, quote


def map_to_canonical(stage: Stage) -> Listing:
    """Make the source's rows of the date queryable as ``mapped.<table>``; return how many rows each entity gave.

    Ends the stage as REJECTED if an expression of the mapping raises on a value.
    """
    counts = define_accepted_rows(stage)
    for contract in load_tables("silver").values():
        wrong = find_invalid_expression(stage.source, contract.name)
        if wrong is not None:
            raise SourceError(f"params/sources/{stage.source.name}.yaml: {wrong}.")
        sql = mapped_sql(stage.source, contract.name, stage.run_date)
        try:
            stage.raw_engine.create_table(
                f"mapped.{contract.name}", f"SELECT *, DATE '{stage.day}' AS {LANDED_ON} FROM ({sql}) AS mapped"
            )
        except SqlError as error:
            raising = find_raising_value(stage.raw_engine, stage.source, contract, sql, error)
            if raising is None:
                raise
            stage.reject(apply_approval(stage, stage.run_date, gate_broken_rules([raising]), [raising]))
            break
    else:
        _warn_of_emptied_groups(stage)
        stage.results[stage.run_date].findings += _check_landed_dates(stage)
    return counts


def _check_landed_dates(stage: Stage) -> list[Finding]:
    """Refuse a landing whose rows with a business date all have another date than its own.

    Their figures would be another date's. Only the landing is checked, so that the outcome does not depend on the order of
    dates.
    """
    table, instant = business_date_table(), business_date_instant()
    days = f"SELECT CAST({instant} AS DATE) AS day FROM mapped.{table.name} WHERE {instant} IS NOT NULL"
    landed, own, first, last = stage.engine.fetch_row(
        f"SELECT count(*), count_if(day = DATE '{stage.day}'), min(day), max(day) FROM ({days}) AS days"
    )
    if own or not landed:
        return []
    dates = f"{first}" if first == last else f"{first} to {last}"
    text = (
        f"{landed:,} rows landed with {stage.day}, and {instant} of none of them is on that date (they are of {dates}); "
        f"check the time zone and the mapping of {instant}"
    )
    return [Finding(f"{table.full_name}: the landing has {table.name} of its own date", text)]


def _warn_of_emptied_groups(stage: Stage) -> None:
    """Warn of groups, such as orders, whose newest file has no row that the mapping keeps: rows of an earlier date stay."""
    for entity, select in stage.source.flat_entities.items():
        table = stage.source.flat_table
        group = row_position(table).within
        landed = f"SELECT DISTINCT {group_sql(stage.source, select)} AS id FROM {entity} {select.join}"
        stage.raw_engine.create_table(
            "_emptied", f"SELECT id FROM ({landed}) AS landed WHERE id NOT IN (SELECT {group} FROM mapped.{table})"
        )
        count, samples = stage.raw_engine.fetch_row(
            f"SELECT count(DISTINCT {group}), min(DISTINCT {group}, {MAX_SAMPLES}) FROM silver.{table} "
            f"WHERE {group} IN (SELECT id FROM _emptied) AND {LANDED_ON} <> DATE '{stage.day}'"
        )
        if count:
            stage.warnings.append(
                f"{entity}: {count:,} {group} {'has' if count == 1 else 'have'} no row in the newest file that the mapping of "
                f"{table!r} keeps ({', '.join(samples)}); rows of an earlier date stay, so let the mapping keep such rows "
                "with values that count for nothing"
            )


def merge_silver(stage: Stage) -> Listing:
    """Check every silver table that the notebook defines against its contract, merge them, and end the stage.

    A row that breaks a contract stops the merge of all tables.
    """
    contracts = list(load_tables("silver").values())
    rows = {contract.full_name: stage.materialize_table(contract, f"new.{contract.name}") for contract in contracts}
    found_by: list[RuleResult] = []
    for contract in contracts:
        found_by += find_unconvertible_values(stage.engine, f"mapped.{contract.name}", contract)
        found_by += find_unconvertible_values(stage.engine, f"marked.{contract.name}", contract, tuple(contract.key))
        found_by += check_contract(
            stage.engine, f"new.{contract.name}", contract, run_date=stage.run_date, known=_merged_table_sql
        )
    landed = {each.name: int(stage.engine.fetch_row(f"SELECT count(*) FROM mapped.{each.name}")[0]) for each in contracts}
    for contract in contracts:
        # Where every landed row is there, each has a key of its own.
        if landed[contract.name] != rows[contract.full_name]:
            found_by += _find_key_collisions(stage, contract, landed[contract.name])
    stage.warnings.extend(format_warnings(found_by))
    findings = gate_broken_rules(found_by) + stage.results[stage.run_date].findings
    reasons = apply_approval(stage, stage.run_date, findings, found_by)
    read = sum(landed.values())
    if reasons:
        stage.reject(reasons, rows_in=read)
        return format_rules(found_by)
    counts, stale = merge_new_rows(stage, contracts)
    dated = business_date_table()
    count = pa.table({dated.name: pa.array([rows[dated.full_name]], pa.int64())})
    stage.lake.replace_date(LANDED_DATES, count, stage.run_date)
    for contract in contracts:
        stage.lake.compact(contract.full_name)
    merged = [(name, rows[name], *each.values()) for name, each in counts.items()]
    stage.details["merged"] = {name: dict(zip(("rows", "inserted", "updated", "deleted"), rest)) for name, *rest in merged}
    stage.details["stale_dates"] = [day.isoformat() for day in stale]
    stage.succeed(rows_in=read, rows_out=sum(rows.values()))
    return Listing(["table", "rows", "inserted", "updated", "deleted"], merged)


def merge_new_rows(stage: Stage, contracts: Sequence[Table]) -> tuple[dict[str, dict[str, int]], list[date]]:
    """Merge ``new.<table>`` into each silver table as the rows of the business date, and bring derived columns up to date.

    Returns
    -------
    dict
        By table, the numbers of rows inserted, updated and deleted.
    list of date
        The business dates whose gold the next run of this date has to compute; they are noted.
    """
    # A stored table that cannot take the columns of its contract stops the merge of all tables, too.
    for contract in contracts:
        stage.lake.ensure_table(contract)
    dated = business_date_table()
    tracker = StaleDateTracker(stage)
    counts = {}
    # The dated table after the others: what these refer to is noted before the row exists. Then tables with derived columns,
    # whose cells read the others.
    for contract in sorted(contracts, key=lambda each: (bool(each.derived), each is dated)):
        counts[contract.full_name] = merge(
            stage.lake,
            contract,
            add_derived_columns(stage, contract),
            landed_on=stage.run_date,
            group=merge_group(stage.source, contract.name),
            before=partial(tracker.note, contract),
            database=stage.engine.connection,
        )
    for contract in contracts:
        update_derived_columns(stage, contract)
    return counts, tracker.mark_remaining()


def _merged_table_sql(table: str) -> str:
    """Return the relation in which a foreign key of silver is looked up: stored rows, and those of this merge."""
    return f"(SELECT * FROM {table} UNION ALL SELECT * FROM new.{table.split('.')[1]}) AS known"


def _find_key_collisions(stage: Stage, contract: Table, landed: int) -> list[RuleResult]:
    """Return the broken rule that landed rows of one key and version are equal; nothing if it holds.

    It is an error if the landing contract declares the key.
    """
    table = f"mapped.{contract.name}"
    key = ", ".join(quote(name) for name in contract.key)
    values = ", ".join(quote(name) for name in contract.mappable if name not in (*contract.key, VERSION_AT))
    repeated = f"SELECT {key}, {VERSION_AT} FROM {table} GROUP BY ALL HAVING count(*) > 1"
    found = (
        f"SELECT {key} FROM {table} SEMI JOIN ({repeated}) AS repeated USING ({key}, {VERSION_AT}) "
        f"GROUP BY {key}, {VERSION_AT} HAVING count(DISTINCT ROW({values})) > 1"
    )
    if contract.roles.identifying_columns:
        # These are different things under one key, not versions of one.
        differ = " AND ".join(f"min({quote(name)}) <> max({quote(name)})" for name in contract.roles.identifying_columns)
        found += f" UNION SELECT {key} FROM {table} GROUP BY {key} HAVING {differ}"
    keys = stage.engine.create_table("colliding", f"SELECT DISTINCT {key} FROM ({found}) AS found")
    if not keys:
        return []
    (samples,) = stage.engine.fetch_row(
        f"SELECT min(DISTINCT {sample_sql(contract.key, contract.pseudonyms)}, {MAX_SAMPLES}) FROM colliding"
    )
    has = "key has" if keys == 1 else "keys have"
    return [
        RuleResult(
            contract.full_name,
            "landed rows of one key and version say the same",
            checked=landed,
            failing=keys,
            severity="error" if are_collisions_errors(stage.source, contract.name) else "warning",
            holds=False,
            measured=(
                f"{keys:,} {has} rows that differ ({', '.join(samples)}), of which one counts; "
                "correct the keys of the export, or map a version_at that differs between them"
            ),
            samples=tuple(samples),
        )
    ]
