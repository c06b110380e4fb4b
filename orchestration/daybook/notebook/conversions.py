"""Cast rows of a cell to a contract; find values that a mapping or a cell cannot convert or compute, by column and row."""

from __future__ import annotations

from typing import Optional

from daybook.contracts import Table
from daybook.contracts.columns import find_column
from daybook.engines import DuckDBEngine
from daybook.errors import NotebookError, SqlError
from daybook.quality.checks import MAX_SAMPLES, RuleResult, describe_value_error
from daybook.sources import Source
from daybook.sources.mapping import cast_sql, failed_casts_sql, quote

ADDRESS_COLUMNS = ("_source_file", "_row_number")


def contract_rows_sql(engine: DuckDBEngine, contract: Table) -> str:
    """Return SQL for the rows that a cell defines under a table's name, cast to its contract and in the order of its key.

    A value that cannot be converted is NULL, and ``_unfit`` lists its column (``failed_casts_sql``).

    Raises
    ------
    NotebookError
        No cell defines the table, or its columns are not those of the contract.
    """
    name = contract.full_name
    if not engine.is_defined(name):
        raise NotebookError(f"No cell defines {name}; add a cell that begins with %%sql {name}.")
    found = engine.query(f"SELECT * FROM {name} LIMIT 0").columns
    absent = [each for each in contract.columns if each not in contract.derived and find_column(found, each) is None]
    extra = [each for each in found if find_column(contract.columns, each) is None]
    if absent or extra:
        lacks = f"lacks {', '.join(absent)}" if absent else ""
        has = f"has {', '.join(extra)} that its contract does not" if extra else ""
        raise NotebookError(
            f"The cell that defines {name} {' and '.join(filter(None, [lacks, has]))}; change the cell or the contract."
        )
    names = {each: find_column(found, each) for each in contract.columns}
    columns = [
        f"{cast_sql(quote(name) if name else 'NULL', contract.type_of(each))} AS {quote(each)}" for each, name in names.items()
    ]
    columns.append(f"{failed_casts_sql({each: contract.type_of(each) for each, name in names.items() if name})} AS _unfit")
    key = ", ".join(quote(each) for each in contract.key)
    return f"SELECT {', '.join(columns)} FROM {name} ORDER BY {key}"


def find_unconvertible_values(
    engine: DuckDBEngine, relation: str, contract: Table, key: tuple[str, ...] = ADDRESS_COLUMNS
) -> list[RuleResult]:
    """Return a broken rule for each column of ``relation`` that has values which cannot be converted to the contract's type.

    ``key`` are the columns that identify a row in samples; pseudonyms are shortened.
    """
    (checked, broken) = engine.fetch_row(f"SELECT count(*), count_if(_unfit <> '') FROM {relation}")
    if not broken:
        return []
    shown = [
        f"left({quote(each)}, 8) || '…'" if each in contract.pseudonyms else f"CAST({quote(each)} AS VARCHAR)" for each in key
    ]
    rows = engine.rows(
        f"SELECT unfit, count(*), min(DISTINCT sample, {MAX_SAMPLES}) FROM (SELECT unnest(string_split(_unfit, ', ')) "
        f"AS unfit, concat_ws(' / ', {', '.join(shown)}) AS sample FROM {relation} WHERE _unfit <> '') AS marked "
        "GROUP BY unfit ORDER BY unfit"
    )
    return [
        _build_broken_rule(contract, f"{name} can be converted to {contract.type_of(name)}", checked, failing, tuple(samples))
        for name, failing, samples in rows
    ]


def find_raising_value(
    engine: DuckDBEngine, source: Source, contract: Table, sql: str, error: SqlError
) -> Optional[RuleResult]:
    """Return a broken rule for a mapping whose SQL raises on a value, with the row and the column if these can be found.

    ``sql`` is the mapping of the table, and ``error`` what it raised. None if the error is not about a value.
    """
    reason = describe_value_error(error)
    if reason is None:
        return None
    for entity in dict.fromkeys(select.from_ for select in source.mapping[contract.name]):
        address = _find_raising_row(engine, entity, sql)
        if address:
            columns = [
                name for name in engine.query(f"SELECT * FROM ({sql}) AS mapped LIMIT 0").columns if name in contract.columns
            ]
            column = next((name for name in columns if _raises(engine, sql, f"mapped.{quote(name)}")), "a row")
            return _build_broken_rule(contract, f"{column} can be computed ({reason})", 1, 1, (address,))
    return _build_broken_rule(contract, f"the rows of the mapping can be computed ({reason})", 1, 1, ())


def _find_raising_row(engine: DuckDBEngine, entity: str, sql: str) -> str:
    """Return file and number of a row of an entity on which a mapping raises, found by bisection; '' if no single row does.

    The entity is left with that row only, since the stage ends here.
    """
    whole = f"whole.{entity}"
    high = engine.create_table(whole, f"SELECT *, row_number() OVER () AS _number FROM {entity}")

    def raises(low: int, high: int) -> bool:
        engine.define(entity, f"SELECT * EXCLUDE (_number) FROM {whole} WHERE _number BETWEEN {low} AND {high}")
        return _raises(engine, sql, "mapped")

    low = 1
    if raises(0, 0) or not raises(low, high):
        engine.define(entity, f"SELECT * EXCLUDE (_number) FROM {whole}")
        return ""
    while low < high:
        middle = (low + high) // 2
        if raises(low, middle):
            high = middle
        elif raises(middle + 1, high):
            low = middle + 1
        else:
            return ""
    (address,) = engine.fetch_row(f"SELECT _source_file || ' / ' || _row_number FROM {whole} WHERE _number = {low}")
    raises(low, low)
    return str(address)


def _raises(engine: DuckDBEngine, sql: str, read: str) -> bool:
    """Return whether a mapping raises on a value when ``read`` (of ``mapped``) is computed for all of its rows."""
    try:
        engine.fetch_row(f"SELECT max(hash({read})) FROM ({sql}) AS mapped")
    except SqlError as error:
        return describe_value_error(error) is not None
    return False


def _build_broken_rule(contract: Table, rule: str, checked: int, failing: int, samples: tuple[str, ...]) -> RuleResult:
    rows = f"{failing:,} row{'' if failing == 1 else 's'}"
    measured = f"{rows}, for example {samples[0]}" if samples and samples[0] else rows
    return RuleResult(contract.full_name, rule, checked, failing, "error", False, measured, samples, waivable=False)
