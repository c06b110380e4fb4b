"""Values that a mapping or a notebook's SQL cannot convert or compute: which they are, by table, column and row.

Here: finding them for a gate. Not here: the SQL that marks them (``daybook.sources.mapping``), the gate (``transform``).
"""

from __future__ import annotations

from typing import Optional

from daybook.contracts import Table
from daybook.engines import DuckDBEngine
from daybook.errors import SqlError
from daybook.quality import SAMPLES, RuleResult, of_values
from daybook.sources.mapping import literal, quote

ADDRESS = ("_source_file", "_row_number")


def unfit_values(engine: DuckDBEngine, relation: str, contract: Table, key: tuple[str, ...] = ADDRESS) -> list[RuleResult]:
    """Return a broken rule for each column of ``relation`` that has values which cannot be converted to the contract's type.

    ``key`` are the columns that name a row; pseudonyms are cut.
    """
    (checked, broken) = engine.one(f"SELECT count(*), count_if(_unfit <> '') FROM {relation}")
    if not broken:
        return []
    shown = [
        f"left({quote(each)}, 8) || '…'" if each in contract.pseudonyms else f"CAST({quote(each)} AS VARCHAR)" for each in key
    ]
    rows = engine.rows(
        f"SELECT name, count(*), min(DISTINCT said, {SAMPLES}) FROM (SELECT unnest(string_split(_unfit, ', ')) AS name, "
        f"concat_ws(' / ', {', '.join(shown)}) AS said FROM {relation} WHERE _unfit <> '') AS marked "
        "GROUP BY name ORDER BY name"
    )
    return [
        _broken(contract, f"{name} can be converted to {contract.type_of(name)}", checked, failing, tuple(samples))
        for name, failing, samples in rows
    ]


def raising_value(engine: DuckDBEngine, sql: str, contract: Table) -> Optional[RuleResult]:
    """Return a broken rule that names the column, and where possible the row, at which a mapping's SQL raises; None where it
    raises for another reason than a value."""
    columns = [name for name in engine.query(f"SELECT * FROM ({sql}) AS mapped LIMIT 0").columns if not name.startswith("_")]
    for column in columns:
        error = _raises(engine, sql, column, "TRUE")
        if error is not None:
            break
    else:
        return None
    samples: tuple[str, ...] = ()
    if _raises(engine, sql, column, "_row_number < 0") is None:
        samples = (_first_row(engine, sql, column),)
    (checked,) = engine.one(f"SELECT count(_row_number) FROM ({sql}) AS mapped")
    return _broken(contract, f"{column} can be computed ({error})", checked, 1, samples)


def _first_row(engine: DuckDBEngine, sql: str, column: str) -> str:
    """Return the file and number of a row at which a column raises, found by halving."""
    files = [row[0] for row in engine.rows(f"SELECT DISTINCT _source_file FROM ({sql}) AS mapped ORDER BY 1")]
    for file in files:
        inside = f"_source_file = {literal(file)}"
        if _raises(engine, sql, column, inside) is None:
            continue
        low, high = engine.one(f"SELECT min(_row_number), max(_row_number) FROM ({sql}) AS mapped WHERE {inside}")
        while low < high:
            middle = (low + high) // 2
            first_half = f"{inside} AND _row_number BETWEEN {low} AND {middle}"
            low, high = (low, middle) if _raises(engine, sql, column, first_half) else (middle + 1, high)
        return f"{file} / {low}"
    return ""


def _raises(engine: DuckDBEngine, sql: str, column: str, where: str) -> Optional[str]:
    """Return what the engine says of a value of a column, without the value; None where it says nothing."""
    try:
        # Only what a query asks for is computed, and filtered rows are not.
        engine.one(f"SELECT count({quote(column)}) FROM ({sql}) AS mapped WHERE {where}")
    except SqlError as error:
        return of_values(error)
    return None


def _broken(contract: Table, rule: str, checked: int, failing: int, samples: tuple[str, ...]) -> RuleResult:
    rows = f"{failing:,} row{'' if failing == 1 else 's'}"
    measured = f"{rows}, for example {samples[0]}" if samples and samples[0] else rows
    return RuleResult(contract.full_name, rule, checked, failing, "error", False, measured, samples, waivable=False)
