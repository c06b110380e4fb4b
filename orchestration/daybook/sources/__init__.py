"""Where a shop's data comes from: what a source's YAML may say, and reading its landing files as text."""

from __future__ import annotations

from daybook.sources.calendar import Calendar
from daybook.sources.config import Column, Entity, Source, load_source, source_names
from daybook.sources.files import LandedFile, LandingStore, open_landing
from daybook.sources.landing_changes import Arrivals
from daybook.sources.mapping import mapped_sql

__all__ = [
    "Arrivals",
    "Calendar",
    "Column",
    "Entity",
    "LandedFile",
    "LandingStore",
    "Source",
    "load_source",
    "mapped_sql",
    "open_landing",
    "source_names",
]
