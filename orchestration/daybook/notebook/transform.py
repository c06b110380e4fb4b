"""Stage 3: map accepted rows to the canonical model and merge them into silver by key; the newest version wins."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from functools import partial

import pyarrow as pa
import pyarrow.dataset as ds

from daybook.contracts import Table, load_tables
from daybook.contracts.canonical import business_date_instant, business_date_table
from daybook.contracts.model import LANDED_ON, VERSION_AT
from daybook.errors import SourceError, SqlError
from daybook.lake.merge import merge
from daybook.notebook.affected_dates import DatePair, StaleDateTracker
from daybook.notebook.context import Stage
from daybook.notebook.conversions import ADDRESS_COLUMNS, find_raising_value, find_unconvertible_values
from daybook.notebook.derived_columns import add_derived_columns, update_derived_columns
from daybook.notebook.display import Listing
from daybook.notebook.faults import for_each_date
from daybook.notebook.gate import apply_approval, format_rules
from daybook.notebook.stale_dates import LANDED_DATES
from daybook.notebook.validate import define_accepted_rows
from daybook.quality.checks import (
    MAX_SAMPLES,
    RuleResult,
    check_rules_by_date,
    describe_value_error,
    sample_sql,
)
from daybook.quality.gates import Finding, format_warnings, gate_broken_rules
from daybook.quality.rules import table_rules
from daybook.sources import mapped_sql
from daybook.sources.config import row_position
from daybook.sources.mapping import (
    RUN_DATE,
    are_collisions_errors,
    find_invalid_expression,
    group_sql,
    is_mapped_by_date,
    join_by_date,
    list_dates_sql,
    merge_group,
    quote,
)


def map_to_canonical(stage: Stage) -> Listing:
    """Make the source's rows of the dates queryable as ``mapped.<table>``; return how many rows each entity gave.

    ``landed_on`` of a row is its date. Ends a date as REJECTED if an expression of the mapping raises on one of its values.
    """
    counts = define_accepted_rows(stage)
    contracts = load_tables("silver").values()
    for contract in contracts:
        wrong = find_invalid_expression(stage.source, contract.name)
        if wrong is not None:
            raise SourceError(f"params/sources/{stage.source.name}.yaml: {wrong}.")
        if not _map_all_dates(stage, contract):
            _map_each_date(stage, contract)
        if stage.ended:
            return counts
    _drop_ended_dates(stage)
    _warn_of_emptied_groups(stage)
    for day, findings in _check_landed_dates(stage).items():
        stage.results[day].findings += findings
    return counts


def _map_all_dates(stage: Stage, contract: Table) -> bool:
    """Map the rows of all dates of a range in one statement; return whether that is possible."""
    if not stage.is_range or not is_mapped_by_date(stage.source, contract.name):
        return False
    try:
        stage.raw_engine.create_table(f"mapped.{contract.name}", mapped_sql(stage.source, contract.name))
    except SqlError as error:
        if describe_value_error(error) is None:
            raise
        # The date of the value is found where each date is mapped by itself.
        return False
    return True


def _map_each_date(stage: Stage, contract: Table) -> None:
    """Map the rows of each date by themselves. A date on whose values the mapping raises is rejected."""
    engine, rows = stage.raw_engine, f"mapped.{contract.name}"
    entities = list(stage.source.entities)
    mapped: list[str] = []

    def map_date(day: date) -> None:
        if stage.is_range:
            for name in entities:
                engine.define(name, f"SELECT * EXCLUDE ({RUN_DATE}) FROM dated.{name} WHERE {RUN_DATE} = DATE '{day}'")
        sql = mapped_sql(stage.source, contract.name, day)
        part = f"{rows}_{day:%Y_%m_%d}" if stage.is_range else rows
        try:
            engine.create_table(part, f"SELECT *, DATE '{day}' AS {LANDED_ON} FROM ({sql}) AS mapped")
        except SqlError as error:
            raising = find_raising_value(engine, stage.source, contract, sql, error)
            if raising is None:
                raise
            stage.reject_date(day, apply_approval(stage, day, gate_broken_rules([raising]), [raising]))
        else:
            mapped.append(part)

    if stage.is_range:
        for name in entities:
            engine.create_table(f"dated.{name}", f"SELECT * FROM {name}")
    for_each_date(stage, map_date)
    if stage.is_range:
        for name in entities:
            engine.define(name, f"SELECT * FROM dated.{name}")
        if mapped:
            engine.create_table(rows, " UNION ALL ".join(f"SELECT * FROM {part}" for part in mapped))


def _drop_ended_dates(stage: Stage) -> None:
    """Keep only the mapped rows of dates that continue."""
    if len(stage.dates) == len(stage.results):
        return
    for contract in load_tables("silver").values():
        rows = f"mapped.{contract.name}"
        stage.raw_engine.create_table("_continuing", f"SELECT * FROM {rows} WHERE {LANDED_ON} IN ({stage.dates_sql})")
        stage.raw_engine.create_table(rows, "SELECT * FROM _continuing")


def _check_landed_dates(stage: Stage) -> dict[date, list[Finding]]:
    """Refuse a landing whose rows with a business date all have another date than its own.

    Their figures would be another date's. Only the landing is checked, so that the outcome does not depend on the order of
    dates.
    """
    table, instant = business_date_table(), business_date_instant()
    days = f"SELECT CAST({instant} AS DATE) AS day, {LANDED_ON} FROM mapped.{table.name} WHERE {instant} IS NOT NULL"
    found = {}
    for day, landed, first, last in stage.engine.rows(
        f"SELECT {LANDED_ON}, count(*), min(day), max(day) FROM ({days}) AS days GROUP BY {LANDED_ON} "
        f"HAVING count_if(day = {LANDED_ON}) = 0 ORDER BY {LANDED_ON}"
    ):
        dates = f"{first}" if first == last else f"{first} to {last}"
        text = (
            f"{landed:,} rows landed with {day}, and {instant} of none of them is on that date (they are of {dates}); "
            f"check the time zone and the mapping of {instant}"
        )
        found[day] = [Finding(f"{table.full_name}: the landing has {table.name} of its own date", text)]
    return found


def _warn_of_emptied_groups(stage: Stage) -> None:
    """Warn of groups, such as orders, whose newest file has no row that the mapping keeps: rows of an earlier date stay."""
    for entity, select in stage.source.flat_entities.items():
        table = stage.source.flat_table
        group = row_position(table).within
        day, join = f"DATE '{stage.run_date}'", select.join
        if stage.is_range:
            day, join = f"{entity}.{RUN_DATE}", join_by_date(stage.source, select)
        landed = f"SELECT DISTINCT {group_sql(stage.source, select)} AS id, {day} AS day FROM {entity} {join}"
        stage.raw_engine.create_table(
            "_emptied",
            f"SELECT id, day FROM ({landed}) AS landed ANTI JOIN mapped.{table} AS kept "
            f"ON kept.{group} = id AND kept.{LANDED_ON} = day WHERE day IN ({stage.dates_sql})",
        )
        # Rows of earlier dates of the range will be in silver, too.
        stored = (
            f"SELECT {group}, {LANDED_ON} FROM silver.{table} UNION ALL SELECT {group}, {LANDED_ON} FROM mapped.{table}"
            if stage.is_range
            else f"SELECT {group}, {LANDED_ON} FROM silver.{table}"
        )
        for day, count, samples in stage.raw_engine.rows(
            f"SELECT day, count(DISTINCT id), min(DISTINCT id, {MAX_SAMPLES}) FROM _emptied JOIN ({stored}) AS stored "
            f"ON stored.{group} = id AND ({LANDED_ON} < day OR {LANDED_ON} > day AND {LANDED_ON} NOT IN ({stage.dates_sql})) "
            "GROUP BY day"
        ):
            stage.results[day].warnings.append(
                f"{entity}: {count:,} {group} {'has' if count == 1 else 'have'} no row in the newest file that the mapping of "
                f"{table!r} keeps ({', '.join(samples)}); rows of an earlier date stay, so let the mapping keep such rows "
                "with values that count for nothing"
            )


def merge_silver(stage: Stage) -> Listing:
    """Check every silver table that the notebook defines against its contract, merge them, and end the stage.

    Rows of a date that break a contract stop the merge of all tables for that date.
    """
    contracts = list(load_tables("silver").values())
    _materialize(stage, contracts)
    landed = {each.name: _count_by_date(stage, f"mapped.{each.name}") for each in contracts}
    rows = {each.name: _count_by_date(stage, f"new.{each.name}") for each in contracts}
    read = {day: sum(counts.get(day, 0) for counts in landed.values()) for day in stage.dates}
    found_by: list[RuleResult] = []
    results = _check_dates(stage, contracts, stage.dates)
    for day in list(stage.dates):
        found = results[day]
        for contract in contracts:
            # Where every landed row is there, each has a key of its own.
            count = landed[contract.name].get(day, 0)
            if count != rows[contract.name].get(day, 0):
                found += _find_key_collisions(stage, contract, day, count)
        found_by += found
        result = stage.results[day]
        result.warnings.extend(format_warnings(found))
        reasons = apply_approval(stage, day, gate_broken_rules(found) + result.findings, found)
        if reasons:
            stage.reject_date(day, reasons, rows_in=read[day])
            # The rows of a rejected date are not there to refer to.
            later = [each for each in stage.dates if each > day]
            results = _check_dates(stage, contracts, later) if later else {}
    if stage.ended:
        return format_rules(found_by)
    if len(stage.dates) < len(read):
        # A cell may have chosen the newest row of several dates.
        _drop_ended_dates(stage)
        _materialize(stage, contracts)
    counts, stale = merge_new_rows(stage, contracts)
    _note_landed_dates(stage, rows[business_date_table().name])
    merged = [
        (f"silver.{name}", sum(by_day.get(day, 0) for day in stage.dates), *counts[f"silver.{name}"].values())
        for name, by_day in rows.items()
    ]
    stage.details["merged"] = {name: dict(zip(("rows", "inserted", "updated", "deleted"), rest)) for name, *rest in merged}
    for day in stage.dates:
        stage.results[day].details["stale_dates"] = sorted({each.isoformat() for run_date, each in stale if run_date == day})
    by_date = {
        day: {"in": read[day], "out": sum(by_day.get(day, 0) for by_day in rows.values()), "rejected": None, "duplicates": None}
        for day in stage.dates
    }
    stage.succeed(by_date=by_date)
    return Listing(["table", "rows", "inserted", "updated", "deleted"], merged)


def _materialize(stage: Stage, contracts: Sequence[Table]) -> None:
    """Keep what the notebook defines under the names of silver tables as ``new.<table>``."""
    for contract in contracts:
        stage.materialize_table(contract, f"new.{contract.name}")


def _count_by_date(stage: Stage, relation: str) -> dict[date, int]:
    return dict(stage.engine.rows(f"SELECT {LANDED_ON}, count(*) FROM {relation} GROUP BY {LANDED_ON}"))


def _check_dates(stage: Stage, contracts: Sequence[Table], dates: Sequence[date]) -> dict[date, list[RuleResult]]:
    """Check the new rows of dates against the contracts; return the results by date.

    Foreign keys may refer to rows in silver, and to new rows of the same and earlier dates.
    """
    found: dict[date, list[RuleResult]] = {day: [] for day in dates}
    _define_referenced_rows(stage, contracts)
    for contract in contracts:
        for kind, key in (("mapped", ADDRESS_COLUMNS), ("marked", tuple(contract.key))):
            if find_unconvertible_values(stage.engine, f"{kind}.{contract.name}", contract, key):
                for day in dates:
                    of_day = _rows_of_date(stage, f"{kind}.{contract.name}", day)
                    found[day] += find_unconvertible_values(stage.engine, of_day, contract, key)
        checked = f"dated.{contract.name}"
        stage.engine.create_view(
            checked,
            f"SELECT {LANDED_ON} AS {RUN_DATE}, * FROM new.{contract.name} WHERE {LANDED_ON} IN ({list_dates_sql(dates)})",
        )
        results, _, _ = check_rules_by_date(
            stage.engine,
            checked,
            table_rules(contract, _referenced),
            contract.full_name,
            key=contract.key,
            dates=dates,
            restrict=partial(_restrict_referenced_rows, stage),
            pseudonyms=tuple(contract.pseudonyms),
        )
        for day in dates:
            found[day] += results[day]
    return found


def _referenced(table: str) -> str:
    """Return the name of the rows of a table that foreign keys of the new rows refer to."""
    return f"referenced.{table.split('.')[1]}"


def _define_referenced_rows(stage: Stage, contracts: Sequence[Table]) -> None:
    """Define, by table, the values that new rows refer to and that are known on their date, with that date as ``run_date``.

    A value is known if it is in silver, or among the new rows of the same or an earlier date that continues.
    """
    engine = stage.engine
    selects: dict[str, list[str]] = {}
    for contract in contracts:
        for item in contract.properties:
            for relationship in item.relationships:
                parent, _, column = relationship.to.partition(".")
                engine.create_table(
                    "_references",
                    f"SELECT child.{LANDED_ON} AS {RUN_DATE}, child.{quote(item.name)} AS {quote(column)}, "
                    f"min(parent.{LANDED_ON}) AS since FROM new.{contract.name} AS child LEFT JOIN new.{parent} AS parent "
                    f"ON parent.{quote(column)} = child.{quote(item.name)} AND parent.{LANDED_ON} IN ({stage.dates_sql}) "
                    f"WHERE child.{quote(item.name)} IS NOT NULL GROUP BY ALL",
                )
                _select_stored_references(stage, parent, column)
                known = f"referred.{contract.name}_{item.name}_{parent}"
                engine.create_table(
                    known,
                    f"SELECT {RUN_DATE}, {quote(column)} FROM _references "
                    f"WHERE since <= {RUN_DATE} OR {quote(column)} IN (SELECT {quote(column)} FROM _stored_references)",
                )
                selects.setdefault(parent, []).append(f"SELECT * FROM {known}")
    for parent, parts in selects.items():
        engine.create_view(f"all_referenced.{parent}", " UNION ALL BY NAME ".join(parts))
    _restrict_referenced_rows(stage, [f"referenced.{parent}" for parent in selects], stage.dates)


def _select_stored_references(stage: Stage, parent: str, column: str) -> None:
    """Register the values of ``_references`` that no new row of their date has and that are in silver.

    The name of a silver table stands for the rows of its cell here, so the lake is read. Only these values are, since silver
    has the rows of all dates.
    """
    wanted = stage.engine.arrow(
        f"SELECT DISTINCT {quote(column)} FROM _references WHERE since IS NULL OR since > {RUN_DATE}"
    ).column(0)
    stored = stage.lake.dataset(f"silver.{parent}") if len(wanted) else None
    found = wanted.slice(0, 0)
    if stored is not None:
        found = stored.to_table(columns=[column], filter=ds.field(column).isin(wanted.combine_chunks())).column(0)
    stage.engine.register("_stored_references", pa.table({column: found}))


def _restrict_referenced_rows(stage: Stage, tables: Collection[str], dates: Sequence[date]) -> None:
    """Restrict those of ``tables`` that are referenced rows to some dates."""
    for name in tables:
        schema, _, parent = name.partition(".")
        if schema == "referenced":
            stage.engine.create_view(
                name, f"SELECT * FROM all_referenced.{parent} WHERE {RUN_DATE} IN ({list_dates_sql(dates)})"
            )


def _rows_of_date(stage: Stage, relation: str, day: date) -> str:
    """Return a relation with the rows of a date."""
    if not stage.is_range:
        return relation
    view = f"of_date.{relation.replace('.', '_')}"
    stage.engine.create_view(view, f"SELECT * FROM {relation} WHERE {LANDED_ON} = DATE '{day}'")
    return view


def _note_landed_dates(stage: Stage, rows: Mapping[date, int]) -> None:
    """Note that the dates are in silver, each with the number of its rows that have a business date."""
    table = pa.table(
        {
            RUN_DATE: pa.array(stage.dates, pa.date32()),
            business_date_table().name: pa.array([rows.get(day, 0) for day in stage.dates], pa.int64()),
        }
    )
    stage.lake.replace_dates(LANDED_DATES, table, stage.dates)


def merge_new_rows(stage: Stage, contracts: Sequence[Table]) -> tuple[dict[str, dict[str, int]], set[DatePair]]:
    """Merge ``new.<table>`` into each silver table as the rows of its dates, and bring derived columns up to date.

    Returns
    -------
    dict
        By table, the numbers of rows inserted, updated and deleted.
    set of DatePair
        The business dates whose gold the next runs of the dates have to compute; they are noted.
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
            dates=stage.dates,
            group=merge_group(stage.source, contract.name),
            before=partial(tracker.note, contract),
            database=stage.engine.connection,
        )
    for contract in contracts:
        update_derived_columns(stage, contract)
    return counts, tracker.mark_remaining()


def _find_key_collisions(stage: Stage, contract: Table, day: date, landed: int) -> list[RuleResult]:
    """Return the broken rule that a date's rows of one key and version are equal; nothing if it holds.

    It is an error if the landing contract declares the key.
    """
    table = _rows_of_date(stage, f"mapped.{contract.name}", day)
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
