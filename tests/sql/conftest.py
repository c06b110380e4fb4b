"""Collect the SQL cases of this folder."""

from daybook.testing.pytest_plugin import pytest_collect_file

__all__ = ["pytest_collect_file"]
