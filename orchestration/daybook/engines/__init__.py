"""What runs the SQL of notebooks and rules: one short interface, an engine a module."""

from __future__ import annotations

from daybook.engines.duckdb import DuckDBEngine, Query, query_error
from daybook.engines.views import ViewEngine

__all__ = ["DuckDBEngine", "Query", "ViewEngine", "query_error"]
