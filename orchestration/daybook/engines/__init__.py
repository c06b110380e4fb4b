"""What runs the SQL of notebooks and rules: one short interface, an engine a module."""

from __future__ import annotations

from daybook.engines.duckdb import DuckDBEngine

__all__ = ["DuckDBEngine"]
