"""Build the SQL of a source's mapping: typed entities, canonical rows, and rows that a newer file replaces."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import Optional, Union

import sqlglot
from sqlglot import exp

from daybook.contracts.canonical import silver_table
from daybook.contracts.columns import column_key, find_column, is_plain_name
from daybook.contracts.model import LANDED_ON, VERSION_AT
from daybook.sources.config import Column, Select, Source, row_position
from daybook.sources.timestamps import clock_change_sql, has_offset

SQL_TYPES = {
    "text": "VARCHAR",
    "integer": "BIGINT",
    "decimal": "DECIMAL(18,4)",
    "date": "DATE",
    "timestamp": "TIMESTAMPTZ",
    "boolean": "BOOLEAN",
}


def quote(name: str) -> str:
    """Return a name of a column or table, quoted for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """Return a text, quoted for SQL."""
    return "'" + value.replace("'", "''") + "'"


def list_dates_sql(dates: Iterable[date]) -> str:
    """Return dates as the list of an ``IN (…)``; NULL if there are none, so that the condition holds for no row."""
    return ", ".join(f"DATE '{day}'" for day in sorted(dates)) or "NULL"


def clean_sql(name: str, column: Column, null_values: list[str]) -> str:
    """Return SQL for the column's text: trimmed, null values as NULL, lost leading zeros restored."""
    text = f"trim({quote(name)})"
    cleaned = f"nullif({text}, '')"
    if null_values:
        listed = ", ".join(literal(value) for value in ["", *null_values])
        cleaned = f"CASE WHEN {text} IN ({listed}) THEN NULL ELSE {text} END"
    if column.pad:
        # lpad also cuts what is longer, so only short values are padded.
        cleaned = f"CASE WHEN length({text}) < {column.pad} THEN lpad({cleaned}, {column.pad}, '0') ELSE {cleaned} END"
    # Nearly every value begins and ends with a visible ASCII character and stays as it is: trimming costs most.
    name = quote(name)
    plain = (
        f"ascii({name}) BETWEEN 33 AND 126 AND ascii({name}[-1]) BETWEEN 33 AND 126"
        f"{_unchanged_condition_sql(name, column, null_values)}"
    )
    return f"CASE WHEN {plain} THEN {name} ELSE {cleaned} END"


def _unchanged_condition_sql(name: str, column: Column, null_values: list[str]) -> str:
    """Return SQL that continues a condition: a value is neither a null value nor padded."""
    kept = f" AND {name} NOT IN ({', '.join(map(literal, null_values))})" if null_values else ""
    return kept + (f" AND length({name}) >= {column.pad}" if column.pad else "")


def typed_sql(name: str, column: Column, null_values: list[str]) -> str:
    """Return SQL for the column in its declared type; NULL where the text does not fit it."""
    text = clean_sql(name, column, null_values)
    if column.type == "text":
        return text
    if column.decimal_comma:
        # A point may only separate thousands: without its point, 12.50 would become 1250.
        comma = rf"regexp_matches({text}, '^[+-]?([0-9]*|[0-9]{{1,3}}(\.[0-9]{{3}})+)(,[0-9]*)?$')"
        text = f"CASE WHEN {comma} THEN replace(replace({text}, '.', ''), ',', '.') END"
    if column.type == "integer":
        # A plain cast would round 2.7 to 3; 17850.0 is the whole number a spreadsheet made of 17850.
        whole = rf"regexp_replace({text}, '\.0+$', '')"
        typed = f"TRY_CAST(CASE WHEN regexp_matches({whole}, '^[+-]?[0-9]+$') THEN {whole} END AS BIGINT)"
        return _fast_number_sql(name, column, null_values, "BIGINT", typed)
    if column.type == "decimal":
        # The cast would accept 1e3 and round a fifth decimal; neither is a price.
        fits = rf"regexp_matches({text}, '^[+-]?([0-9]+\.?[0-9]{{0,4}}0*|\.[0-9]{{1,4}}0*)$')"
        typed = f"TRY_CAST(CASE WHEN {fits} THEN {text} END AS DECIMAL(18,4))"
        return _fast_number_sql(name, column, null_values, "DECIMAL(18,2)", typed)
    return _temporal_sql(text, column)


def _temporal_sql(text: str, column: Column) -> str:
    """Return SQL for a timestamp, date or boolean that is read from a clean text."""
    if column.type == "timestamp":
        zone = literal(column.timezone) if column.timezone else _SHOP_TIMEZONE_SQL
        if column.format and has_offset(column.format):
            return _strptime_sql(text, column)
        return f"timezone({zone}, {_strptime_sql(text, column)})" if column.format else f"landed_instant({text}, {zone})"
    if column.type == "date":
        return f"TRY_CAST({_strptime_sql(text, column)} AS DATE)" if column.format else f"landed_date({text})"
    return f"TRY_CAST({text} AS {SQL_TYPES[column.type]})"


def _strptime_sql(text: str, column: Column) -> str:
    # DuckDB reads infinity and epoch as times, whatever the format.
    return f"CASE WHEN regexp_matches({text}, '[0-9]') THEN try_strptime({text}, {literal(str(column.format))}) END"


def _local_time_sql(text: str, column: Column) -> str:
    """Return SQL for the local time that a text gives; NULL where it gives an offset or is a date alone."""
    if not column.format:
        return f"landed_clock({text})"
    return "CAST(NULL AS TIMESTAMP)" if has_offset(column.format) else _strptime_sql(text, column)


def _fast_number_sql(name: str, column: Column, null_values: list[str], kind: str, typed: str) -> str:
    """Return SQL for a number that applies patterns only to texts which ``kind`` would write differently.

    There are few such texts, and a pattern costs ten times a cast.
    """
    if column.decimal_comma:
        return typed
    name = quote(name)
    number = f"TRY_CAST({name} AS {kind})"
    same = f"CAST({number} AS VARCHAR) = {name}{_unchanged_condition_sql(name, column, null_values)}"
    return f"CASE WHEN {same} THEN TRY_CAST({name} AS {SQL_TYPES[column.type]}) ELSE {typed} END"


def text_column(name: str) -> str:
    """Return the column of ``typed_select`` with the text of a typed column where it does not fit, as SQL."""
    return quote(f"_text_{name}")


def clock_column(name: str) -> str:
    """Return the column of ``typed_select`` with the kind of ambiguous local times of a timestamp column, as SQL."""
    return quote(f"_clock_{name}")


def typed_select(
    source: Source, entity: str, relation: str, timezone: Optional[str] = None, *, others: Iterable[str] = ()
) -> str:
    """Return a SELECT of an entity's landed rows, cleaned and typed.

    Columns: the entity's in their declared types (NULL where the text does not fit), ``_text_<column>`` with the text of each
    that is no text, where it does not fit (else NULL), ``_clock_<column>`` of each timestamp, and technical columns of
    ``relation``: the address of the row, why it could not be split, ``_copy`` (2 and up for further copies of a row) and
    ``_waived`` (rules that a person has waived for it).

    ``_clock_<column>`` is 'repeated' where a local time is one of two instants and 'skipped' where the local clock never shows
    it, else NULL. ``timezone`` is the zone of columns that name none; without it these are not looked at.
    ``others`` are further columns of ``relation`` that come last as they are.
    """
    shown, within, cleaned = [], [], []
    for name, column in source.entities[entity].columns.items():
        shown.append(quote(name))
        landed = quote(f"_landed_{name}")
        if column.type in ("timestamp", "date"):
            # Their SQL refers to the text many times, so it is cleaned once.
            cleaned.append(f"{clean_sql(name, column, source.null_values)} AS {landed}")
            within += [f"{_temporal_sql(landed, column)} AS {quote(name)}", landed]
            text = landed
        else:
            cleaned.append(quote(name))
            within.append(f"{typed_sql(name, column, source.null_values)} AS {quote(name)}")
            if column.type == "text":
                continue
            # The bare column, so that the value is not typed again for this.
            within.append(f"{quote(name)} AS {landed}")
            text = clean_sql(f"_landed_{name}", column, source.null_values)
        shown.append(f"CASE WHEN {quote(name)} IS NULL THEN {text} END AS {text_column(name)}")
        if column.type == "timestamp":
            zone = column.timezone or timezone
            change = clock_change_sql(quote(name), _local_time_sql(landed, column), zone) if zone else "CAST(NULL AS VARCHAR)"
            shown.append(f"{change} AS {clock_column(name)}")
    technical = ", ".join(["_source_file", "_row_number", "_problem", "_copy", "_waived", *map(quote, others)])
    texts = f"SELECT {', '.join(cleaned)}, {technical} FROM {relation}"
    typed = f"SELECT {', '.join(within)}, {technical} FROM ({texts}) AS texts"
    return f"SELECT {', '.join(shown)}, {technical} FROM ({typed}) AS typed"


_SHOP_TIMEZONE_SQL = "current_setting('TimeZone')"


def cast_sql(value: str, sql_type: str, zone: str = _SHOP_TIMEZONE_SQL) -> str:
    """Return SQL for a value in another type; NULL where it cannot be converted.

    ``value`` names a column, and ``zone`` (SQL) is that of times without an offset.
    """
    return f"as_instant({value}, {zone})" if sql_type == "TIMESTAMPTZ" else f"TRY_CAST({value} AS {sql_type})"


def failed_casts_sql(types: dict[str, str], zone: str = _SHOP_TIMEZONE_SQL) -> str:
    """Return SQL that lists the columns whose value cannot be converted to these types, separated by ``, ``; '' for none."""
    fallible = [(name, quote(name), sql_type) for name, sql_type in types.items() if sql_type != "VARCHAR"]
    cases = [
        f"CASE WHEN {column} IS NOT NULL AND {cast_sql(column, sql_type, zone)} IS NULL THEN {literal(name)} END"
        for name, column, sql_type in fallible
    ]
    return f"concat_ws(', ', {', '.join(cases)})" if cases else "''"


RUN_DATE = "run_date"
"""Column of entities with rows of several business dates."""


def is_mapped_by_date(source: Source, table: str) -> bool:
    """Return whether rows of several dates can be mapped in one statement (``mapped_sql`` without a date).

    A window, a subquery, or an outer join of all rows of another entity would mix the dates.
    """
    for select in source.mapping.get(table, []):
        given = " ".join(["SELECT 1", *(f", {each}" for each in select.columns.values()), f"FROM {select.from_} {select.join}"])
        given += f" WHERE {select.where}" if select.where else ""
        given += f" GROUP BY {', '.join(select.group_by)}" if select.group_by else ""
        try:
            statement = sqlglot.parse_one(given, read="duckdb")
        except sqlglot.errors.SqlglotError:
            return False
        mixing = (exp.Window, exp.Subquery, exp.Exists, exp.Lateral, exp.Unnest)
        grouped = statement.args.get("group")
        if any(statement.find_all(*mixing)) or (grouped and (grouped.args.get("all") or not grouped.expressions)):
            return False
        if any(each.side in ("RIGHT", "FULL") or each.method == "NATURAL" for each in statement.args.get("joins") or []):
            return False
    return True


def join_by_date(source: Source, select: Select) -> str:
    """Return the JOIN clauses of a SELECT, which join only rows of the same date of its entities."""
    if not select.join:
        return ""
    statement = sqlglot.parse_one(f"SELECT 1 FROM {select.from_} {select.join}", read="duckdb")
    clauses = []
    for join in statement.args["joins"]:
        entity = find_column(source.entities, join.this.name)
        if entity is not None and join.args.get("using"):
            join.append("using", exp.to_identifier(RUN_DATE))
        elif entity is not None:
            join.on(f"{quote(join.this.alias_or_name)}.{RUN_DATE} = {select.from_}.{RUN_DATE}", dialect="duckdb", copy=False)
        clauses.append(join.sql("duckdb"))
    return "\n".join(clauses)


def mapped_sql(source: Source, table: str, run_date: Optional[date] = None) -> str:
    """Return SQL for the rows that the source has for a canonical table, before the newest version of each is chosen.

    Without ``run_date``, the entities have rows of several dates in the column ``run_date``, and the rows of each date are
    mapped by themselves (``is_mapped_by_date``). Their date is the last column, ``landed_on``.

    Columns: those of ``silver.<table>`` that a mapping may give, typed, personal keys as pseudonyms, plus ``_unfit`` (the
    columns whose value cannot be converted and is NULL), ``_source_file`` and ``_row_number`` of the row they come from. Rows
    that carry no version have that of the business date. A table that the source lacks gives no rows.
    """
    contract = silver_table(table)
    columns = contract.mappable
    selects = source.mapping.get(table, [])
    if not selects:
        typed = [(name, contract.type_of(name)) for name in columns]
        typed += [("_unfit", "VARCHAR"), ("_source_file", "VARCHAR"), ("_row_number", "BIGINT")]
        typed += [] if run_date else [(LANDED_ON, "DATE")]
        nulls = ",\n  ".join(f"CAST(NULL AS {sql_type}) AS {quote(name)}" for name, sql_type in typed)
        return f"SELECT\n  {nulls}\nWHERE 1 = 0"
    number = row_position(table).column if source.selects_without_key(table) else ""
    defaults = {name: _value_sql(value) for name, value in contract.mapping_defaults.items()}
    parts = []
    for place, select in enumerate(selects):
        lines, outer, zone = [], [], _timezone_sql(source, select)
        for name in columns:
            expression = select.expression(name) or defaults.get(name, "NULL")
            if name == number:
                expression = "NULL"  # The position is added below.
            if not is_plain_name(expression) and any(expression in each.columns for each in source.entities.values()):
                expression = quote(expression)  # A keyword in some releases of DuckDB, for example at.
            lines.append(f"{expression} AS {quote(name)}")
            value = cast_sql(quote(name), contract.type_of(name), zone)
            if name in contract.pseudonyms:
                value = f"pseudonym({value})"
            elif name == VERSION_AT:
                value = _version_sql(value, literal(run_date.isoformat()) if run_date else f"CAST({LANDED_ON} AS VARCHAR)")
            outer.append(f"{value} AS {quote(name)}")
        outer.append(
            f"{failed_casts_sql({name: contract.type_of(name) for name in columns}, zone)} AS _unfit, _source_file, _row_number"
        )
        if run_date is None:
            outer.append(LANDED_ON)
            lines.append(f"{select.from_}.{RUN_DATE} AS {LANDED_ON}")
        if number:
            outer.append(f"{place} AS _select")
        for name in ("_source_file", "_row_number"):
            tie = f"{select.from_}.{name}"
            lines.append(f"{f'min({tie})' if select.group_by else tie} AS {name}")
        sql = "SELECT\n  " + ",\n  ".join(lines) + f"\nFROM {select.from_}"
        if select.join:
            sql += f"\n{select.join if run_date else join_by_date(source, select)}"
        if select.where:
            sql += f"\nWHERE {select.where}"
        if select.group_by:
            by_date = [] if run_date else [f"{select.from_}.{RUN_DATE}"]
            sql += f"\nGROUP BY {', '.join([*by_date, *select.group_by])}"
        # Converted outside, so that each expression is computed once.
        parts.append(f"SELECT {', '.join(outer)} FROM (\n{sql}\n) AS given")
    sql = "\nUNION ALL\n".join(parts)
    if not number:
        return sql
    names = [*columns, "_unfit", "_source_file", "_row_number", *([] if run_date else [LANDED_ON])]
    return _with_positions(sql, names, table, by_date=run_date is None)


def _value_sql(value: Union[bool, int, float, str]) -> str:
    """Return a value of a contract as SQL writes it."""
    return literal(value) if isinstance(value, str) else str(value).upper()


def find_invalid_expression(source: Source, table: str) -> Optional[str]:
    """Return which expression of a table's mapping does not parse, and how to write it; None where all do."""
    for select in source.mapping.get(table, []):
        given = [(f"column {name!r}", expression, f"SELECT {expression}\nAS x") for name, expression in select.columns.items()]
        given += [("where", select.where, f"SELECT 1 WHERE {select.where}")] if select.where else []
        given += [("group_by", each, f"SELECT 1 GROUP BY {each}") for each in select.group_by]
        for place, expression, sql in given:
            try:
                parsed = sqlglot.parse_one(sql, read="duckdb")
            except sqlglot.errors.SqlglotError:
                parsed = None
            if not isinstance(parsed, exp.Select) or len(parsed.expressions) != 1:
                return f"mapping of {table!r} from {select.from_!r}, {place}: {_quoting_hint(source, expression)}"
    return None


def _quoting_hint(source: Source, expression: str) -> str:
    """Say how to write an expression that does not parse, by a landing column that it may mean."""
    names = [name for entity in source.entities.values() for name in entity.columns if not name.isidentifier()]
    meant = [name for name in names if column_key(name) in column_key(expression)]
    shown = quote(max(meant, key=len)) if meant else '"Order No"'
    return (
        f"{expression!r} is no SQL expression; write a name that has a space or another special character in double quotes, "
        f"and these in single ones: {literal(shown)}"
    )


def _timezone_sql(source: Source, select: Select) -> str:
    """Return SQL for the zone of times that the mapping of an entity makes without an offset."""
    entity = source.entities.get(select.from_)
    zone = (entity and entity.timezone) or source.timezone
    return literal(zone) if zone else _SHOP_TIMEZONE_SQL


def _version_sql(value: str, run_date: str) -> str:
    return f"COALESCE({value}, CAST({run_date} AS TIMESTAMPTZ))"


def are_collisions_errors(source: Source, table: str) -> bool:
    """Return whether rows of one key and version that differ are an error: a landing contract says that there are none.

    It does where the mapping takes the table's key from the columns of an entity's primary key (a version column may be part
    of that), unless its own rule on the uniqueness of these columns is a warning.
    """
    for select in source.mapping.get(table, []):
        landing = source.contracts.get(select.from_)
        if landing is None or not landing.key or (landing.key_rule and landing.key_rule.severity == "warning"):
            continue
        if {column_key(name) for name in landing.key} <= _columns_read(select, [*silver_table(table).key, VERSION_AT]):
            return True
    return False


def _columns_read(select: Select, names: list[str]) -> set[str]:
    """Return the keys (``column_key``) of the columns that a SELECT's expressions of these names read."""
    expressions = [sqlglot.parse_one(given, read="duckdb") for given in map(select.expression, names) if given]
    return {column_key(each.name) for expression in expressions for each in expression.find_all(exp.Column)}


# Flat files: rows without a key of their own


def _with_positions(sql: str, columns: list[str], table: str, *, by_date: bool) -> str:
    """Number the rows of a table by their position within their group, and give the rows of a group one version.

    They are replaced together.
    """
    position = row_position(table)
    group = f"PARTITION BY {quote(position.within)}" + (f", {LANDED_ON}" if by_date else "")
    # A row of a file gives one line for each SELECT, however many rows a join finds for it.
    given = {
        position.column: f"dense_rank() OVER ({group} ORDER BY _source_file, _row_number, _select) AS {quote(position.column)}",
        VERSION_AT: f"max({VERSION_AT}) OVER ({group}) AS {VERSION_AT}",
    }
    return f"SELECT {', '.join(given.get(name, quote(name)) for name in columns)}\nFROM (\n{sql}\n) AS unnumbered"


def merge_group(source: Source, table: str) -> tuple[str, ...]:
    """Return the columns whose equal values make rows of a table that replace each other together.

    There are none where each row is merged by the key of the table.
    """
    return (row_position(table).within,) if source.selects_without_key(table) else ()


def group_sql(source: Source, select: Select) -> str:
    """Return SQL for the group, such as the order, that a row of a flat entity belongs to."""
    return f"CAST({select.expression(row_position(source.flat_table).within)} AS VARCHAR)"


def newest_files_sql(source: Source, entity: str, files: Iterable[str], run_date: date) -> str:
    """Return SQL for the groups of a flat entity that are in several files: ``_order`` and ``_file``, the newest of them.

    The newest file of a group is the one with the newest ``version_at``, among equal ones the last in natural order of
    names. ``_file`` is its place in ``sort_file_names``.
    """
    select = source.flat_entities[entity]
    version = select.expression(VERSION_AT) or "NULL"
    if sqlglot.parse_one(version, read="duckdb").find(exp.AggFunc) is None:
        version = f"max({version})"
    group, place = _group_and_file_sql(source, select, files)
    given = cast_sql(version, "TIMESTAMPTZ", _timezone_sql(source, select))
    version = _version_sql(given, literal(run_date.isoformat()))
    return (
        f"SELECT _order, arg_max(_file, ROW(_version, _file)) AS _file FROM (SELECT {group} AS _order, {place} AS _file, "
        f"{version} AS _version FROM {entity} {select.join} "
        f"WHERE {group} IS NOT NULL GROUP BY ALL) AS files GROUP BY _order HAVING count(*) > 1"
    )


def superseded_rows_sql(source: Source, entity: str, files: Iterable[str], newest: str) -> str:
    """Return SQL for the addresses of an entity's rows whose group has a newer file, by ``newest_files_sql``."""
    select = source.flat_entities[entity]
    group, place = _group_and_file_sql(source, select, files)
    return (
        f"SELECT DISTINCT {entity}._source_file, {entity}._row_number FROM {entity} {select.join} "
        f"JOIN {newest} AS newest ON newest._order = {group} WHERE newest._file <> {place}"
    )


def _group_and_file_sql(source: Source, select: Select, files: Iterable[str]) -> tuple[str, str]:
    """Return SQL for the group of a row, and for the place of its file."""
    listed = ", ".join(map(literal, sort_file_names(files)))
    return group_sql(source, select), f"list_position([{listed}], {select.from_}._source_file)"


def sort_file_names(files: Iterable[str]) -> list[str]:
    """Return file names in natural order: ``export_2.csv`` is before ``export_10.csv``, ``export.csv`` before both."""

    def parts(name: str) -> list[object]:
        stem = re.sub(r"(\.[a-z]+)+$", "", name, flags=re.IGNORECASE)
        return [int(each) if number % 2 else each for number, each in enumerate(re.split(r"([0-9]+)", stem))]

    return sorted(files, key=lambda name: (parts(name), name))
