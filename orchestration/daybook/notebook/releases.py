"""Store and apply releases: rows that a person let out of quarantine, repaired or as they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Optional

import pyarrow as pa

from daybook.contracts.columns import column_key, find_column
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.records.archive import format_timestamp, parse_timestamp
from daybook.sources.csv import TECHNICAL_COLUMNS
from daybook.sources.mapping import literal, quote

RELEASES = "quarantine.releases"
"""Who released which row and how. Restricted like all of quarantine, since a repair can contain personal data."""
_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string()) for name in ("entity", "_source_file")),
        pa.field("_row_number", pa.int64()),
        *(pa.field(name, pa.string()) for name in ("digest", "repairs", "waived", "released_by", "why", "released_at")),
    ]
)
_SEPARATOR = "\x1f"


@dataclass(frozen=True)
class Release:
    """One released row of an entity: new values for columns, and the rules it may break."""

    entity: str
    source_file: str
    row_number: int
    digest: str
    """Of the row's landed text, so that another row in the same place of a new delivery is not released."""
    repairs: dict[str, str]
    waived: tuple[str, ...]
    released_by: str
    why: str
    released_at: str

    def repair(self, column: str) -> Optional[str]:
        """Return the new value of a column, or None if it keeps its own."""
        name = find_column(self.repairs, column)
        return None if name is None else self.repairs[name]


def read_releases(engine: DuckDBEngine, lake: Lake, run_date: date) -> list[Release]:
    """Return the newest release of each released row of a date."""
    return read_releases_by_date(engine, lake, f"run_date = DATE '{run_date}'").get(run_date, [])


def read_releases_by_date(engine: DuckDBEngine, lake: Lake, condition: str) -> dict[date, list[Release]]:
    """Return the newest release of each released row, by date. ``condition`` is SQL for the dates."""
    if not lake.exists(RELEASES):
        return {}
    columns = ", ".join(quote(name) for name in _SCHEMA.names)
    rows = engine.rows(
        f"SELECT run_date, {columns} FROM {RELEASES} WHERE {condition} QUALIFY row_number() OVER "
        "(PARTITION BY run_date, entity, _source_file, _row_number ORDER BY released_at DESC) = 1"
    )
    found: dict[date, list[Release]] = {}
    for day, entity, file, number, digest, repairs, waived, by, why, at in rows:
        release = Release(entity, file, number, digest, json.loads(repairs), tuple(json.loads(waived)), by, why, at)
        found.setdefault(day, []).append(release)
    return found


def write_releases(engine: DuckDBEngine, lake: Lake, run_date: date, new: Sequence[Release]) -> None:
    """Add releases of a date. A later release of a row replaces an earlier one, which stays on record.

    If the clock was set back, a release is dated one millisecond after the last, so that the last one written is the newest.
    """
    last = max((each.released_at for each in read_releases(engine, lake, run_date)), default="")
    after_last = last and format_timestamp((parse_timestamp(last) + timedelta(milliseconds=1)).timestamp())
    rows = [
        {
            **vars(each),
            "_source_file": each.source_file,
            "_row_number": each.row_number,
            "repairs": json.dumps(each.repairs, ensure_ascii=False, sort_keys=True),
            "waived": json.dumps(list(each.waived), ensure_ascii=False),
            "released_at": max(each.released_at, after_last),
        }
        for each in new
    ]
    lake.append(RELEASES, pa.Table.from_pylist(rows, _SCHEMA), run_date)
    engine.refresh(RELEASES)


def digest_sql(columns: Sequence[str]) -> str:
    """Return SQL for the digest of a landed row: of its text by column, so that an empty new column does not change it."""
    return _digest_sql({column_key(name): name for name in columns})


def _digest_sql(columns: Mapping[str, str]) -> str:
    named = (f"{literal(f'{key}=')} || {quote(columns[key])}" for key in sorted(columns))  # concat_ws leaves nulls out
    return f"md5(concat_ws('{_SEPARATOR}', {', '.join(named)}))"


def list_landed_columns(engine: DuckDBEngine, table: str) -> list[str]:
    """Return the columns in bronze or quarantine that landed, with the text of a row that could not be split."""
    technical = {*TECHNICAL_COLUMNS, "_run_id", "run_date", "_reasons"} - {"_problem", "_raw"}
    return [name for name in engine.query(f"SELECT * FROM {table} LIMIT 0").columns if name not in technical]


def released_sql(engine: DuckDBEngine, entity: str, condition: str, releases: Mapping[date, Sequence[Release]]) -> str:
    """Return SQL for the landed rows of an entity with releases applied. ``condition`` is SQL for the dates.

    ``_waived`` has the rules that a released row may break, each between separators. It is NULL for all other rows.
    """
    mine = [(day, each) for day, found in releases.items() for each in found if each.entity == entity]
    if not mine:
        return f"SELECT *, CAST(NULL AS VARCHAR) AS _waived FROM bronze.{entity} WHERE {condition}"
    columns = list_landed_columns(engine, f"bronze.{entity}")
    # Older releases used the columns' names as stored in their digest.
    digests = f"{digest_sql(columns)} AS _digest, {_digest_sql({name: name for name in columns})} AS _earlier"
    values = [name for name in columns if name not in TECHNICAL_COLUMNS]
    table: dict[str, Any] = {
        "_at_date": pa.array([day for day, _ in mine], pa.date32()),
        "_at_file": pa.array([each.source_file for _, each in mine], pa.string()),
        "_at_row": pa.array([each.row_number for _, each in mine], pa.int64()),
        "_digest": pa.array([each.digest for _, each in mine], pa.string()),
        "_repaired": pa.array([bool(each.repairs) for _, each in mine], pa.bool_()),
        "_allowed": pa.array([_join_rule_names(each.waived) for _, each in mine], pa.string()),
    }
    for name in values:
        table[f"_fixed_{name}"] = pa.array([each.repair(name) for _, each in mine], pa.string())
    engine.register(f"_released_{entity}", pa.table(table))
    fixed = ", ".join(f"COALESCE(r.{quote(f'_fixed_{name}')}, b.{quote(name)}) AS {quote(name)}" for name in values)
    return (
        f"SELECT b.run_date, {fixed}, b._source_file, b._row_number, b._run_id, b._raw, "
        "CASE WHEN r._repaired THEN NULL ELSE b._problem END AS _problem, r._allowed AS _waived "
        f"FROM (SELECT *, {digests} FROM bronze.{entity} WHERE {condition}) AS b "
        f"LEFT JOIN _released_{entity} AS r ON r._digest IN (b._digest, b._earlier) AND r._at_date = b.run_date "
        "AND r._at_file = b._source_file AND r._at_row = b._row_number"
    )


def exclude_waived_sql(rule: str, failing: str) -> str:
    """Return a rule's SQL for rows for which the rule is not waived."""
    return f"({failing}) AND strpos(COALESCE(_waived, ''), {literal(_join_rule_names([rule]))}) = 0"


def _join_rule_names(rules: Sequence[str]) -> str:
    return "".join(f"{_SEPARATOR}{rule}{_SEPARATOR}" for rule in rules)
