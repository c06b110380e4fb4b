"""Erasing a person: out of every layer and every old version of the tables, proved by a search, and kept out from then on."""

from __future__ import annotations

from daybook.privacy.erasure.erase import Erased, erase, erase_again
from daybook.privacy.erasure.ingest_filter import Withheld, withhold
from daybook.privacy.erasure.subjects import erased_people

__all__ = ["Erased", "Withheld", "erase", "erase_again", "erased_people", "withhold"]
