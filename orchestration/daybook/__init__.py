"""Daybook: a shop's day, from landing files to dashboards, as executed notebooks."""

from __future__ import annotations

__version__ = "0.1.0"
