"""What runs the SQL of notebooks and rules: one short interface, an engine a module."""

from __future__ import annotations

from daybook.engines.duckdb import DuckDBEngine, query_error

__all__ = ["DuckDBEngine", "query_error"]
