"""The newest row of each key by other means than a window over all rows: the same rows."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import sqlglot

from daybook.engines import DuckDBEngine
from daybook.engines import duckdb as engine_module
from daybook.engines.newest import newest_of_each
from daybook.lake.tables import Lake

NEWEST = "QUALIFY row_number() OVER (PARTITION BY key ORDER BY version DESC) = 1"


@pytest.mark.parametrize(
    "keys", [[1, 2, 3, 4], [1, 2, 2, None, None, 3, 2]], ids=["each once", "some again, one without a key"]
)
def test_many_rows_give_what_the_window_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keys: list) -> None:
    monkeypatch.setattr(engine_module, "_MANY", 1)
    engine = DuckDBEngine(Lake(str(tmp_path / "lake")), "UTC", spill=tmp_path)
    engine.register("given", pa.table({"key": pa.array(keys, pa.int64()), "version": list(range(len(keys)))}))
    engine.create_table("mapped.things", "SELECT * FROM given")
    sql = f"SELECT key, version, version * 2 AS twice FROM mapped.things WHERE version < 6 {NEWEST}"
    wanted = sorted(engine.rows(sql), key=str)
    engine.define("silver.things", sql)
    assert engine.materialize("silver.things") == len(wanted)
    assert sorted(engine.rows("SELECT * FROM silver.things"), key=str) == wanted
    # What it reads gets another meaning.
    engine.create_table("mapped.things", "SELECT * FROM given LIMIT 1")
    assert engine.rows("SELECT * FROM silver.things") == [(1, 0, 0)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT key FROM t",
        f"SELECT key FROM t JOIN u USING (key) {NEWEST}",
        f"SELECT DISTINCT key FROM t {NEWEST}",
        f"SELECT key, max(version) FROM t GROUP BY key {NEWEST}",
        f"SELECT upper(text) AS key FROM t {NEWEST}",
        f"SELECT key FROM t {NEWEST.replace('= 1', '<= 2')}",
        f"SELECT key FROM t {NEWEST.replace('row_number', 'rank')}",
        f"SELECT key FROM t {NEWEST.replace('BY key', 'BY key % 2')}",
        f"SELECT key FROM t {NEWEST} ORDER BY key LIMIT 1",
    ],
)
def test_other_queries_are_left_as_they_are(sql: str) -> None:
    assert newest_of_each(sqlglot.parse_one(sql, read="duckdb")) is None
