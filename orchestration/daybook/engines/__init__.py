"""Engines that run the SQL of notebooks and rules, one module each, with the same interface."""

from __future__ import annotations

from daybook.engines.duckdb import DuckDBEngine, Query, query_error
from daybook.engines.views import ViewEngine

__all__ = ["DuckDBEngine", "Query", "ViewEngine", "query_error"]
