"""Test that queries of `daybook sql` and `%%sql` reach tables only: no files, URLs, extensions or settings."""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pytest

from daybook.cli import main
from daybook.engines.memory import connect
from tests.faults.conftest import Shop
from tests.sessions import Session

STATEMENTS = [
    "COPY (SELECT 1) TO '{file}'",
    "COPY x FROM '{file}'",
    "ATTACH '{file}' AS other",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET enable_external_access = true",
    "RESET enable_external_access",
    "EXPORT DATABASE '{file}'",
    "IMPORT DATABASE '{file}'",
    "SELECT 1; COPY (SELECT 1) TO '{file}'",
]
NO_QUERIES = ["PRAGMA database_list", "CREATE TABLE x AS SELECT 1", "CALL pragma_version()"]
"""Statements without outside access, which are refused because they are not a SELECT."""
QUERIES = [
    "SELECT * FROM '{file}'",
    'SELECT * FROM "{file}"',
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_csv_auto('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT getenv('DAYBOOK_HOME')",
    "SELECT * FROM sqlite_scan('{file}', 'x')",
    "SELECT * FROM delta_scan('{folder}')",
    "SELECT * FROM read_csv('https://127.0.0.1:1/x.csv')",
    "SELECT * FROM query('SELECT * FROM read_text(''{file}'')')",
    "SELECT * FROM query_table('{file}')",
    "WITH x AS (SELECT * FROM read_text('{file}')) SELECT * FROM x",
    "SELECT (SELECT content FROM read_text('{file}'))",
]


def filled(statement: str, folder: Path) -> str:
    (folder / "secret.csv").write_text("password\nhunter2\n")
    return statement.format(file=folder / "secret.csv", folder=folder)


@pytest.mark.parametrize("statement", STATEMENTS)
def test_connections_refuse_statements_with_outside_access(tmp_path: Path, statement: str) -> None:
    closed = connect(tmp_path / "spill")
    with pytest.raises(duckdb.Error):
        closed.execute(filled(statement, tmp_path))
    assert (tmp_path / "secret.csv").read_text() == "password\nhunter2\n"


@pytest.mark.parametrize("query", QUERIES)
def test_connections_refuse_functions_with_outside_access(tmp_path: Path, query: str) -> None:
    with pytest.raises(duckdb.Error):
        connect(tmp_path / "spill").execute(filled(query, tmp_path)).fetchall()


@pytest.mark.parametrize("query", [*STATEMENTS, *NO_QUERIES, *QUERIES])
def test_daybook_sql_refuses_outside_access(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], query: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["daybook", "sql", filled(query, tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    out, error = capsys.readouterr()
    assert ended.value.code in (1, 2)
    assert "hunter2" not in out + error
    assert "Traceback" not in error


def test_sql_cell_refuses_outside_access(shop: Shop, tmp_path: Path) -> None:
    session: Session = shop.session
    session.begin()
    for query in [*STATEMENTS, *NO_QUERIES, *QUERIES]:
        error = session.error(f"%%sql\n{filled(query, tmp_path)}")
        assert type(error).__name__ in ("SqlError", "EngineError"), query
        assert "hunter2" not in str(error)
    session.value("secret_frame = __import__('pandas').DataFrame({'password': ['hunter2']})")
    assert "There is no table secret_frame" in str(session.error("%%sql\nSELECT * FROM secret_frame"))
