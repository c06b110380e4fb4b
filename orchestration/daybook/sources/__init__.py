"""Sources of a shop's data: their YAML, and the readers of their landing files."""

from __future__ import annotations

from daybook.sources.calendar import Calendar
from daybook.sources.config import Column, Entity, Source, list_sources, load_source
from daybook.sources.files import LandedFile, LandingStore, open_landing
from daybook.sources.landing_changes import LandingListing
from daybook.sources.mapping import mapped_sql

__all__ = [
    "Calendar",
    "Column",
    "Entity",
    "LandedFile",
    "LandingListing",
    "LandingStore",
    "Source",
    "list_sources",
    "load_source",
    "mapped_sql",
    "open_landing",
]
