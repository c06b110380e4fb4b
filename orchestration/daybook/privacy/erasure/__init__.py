"""Erasing a person: out of every layer and every old version of the tables, proved by a search, and kept out from then on."""

from __future__ import annotations

from daybook.privacy.erasure.erase import ErasureResult, erase, erase_again
from daybook.privacy.erasure.ingest_filter import FilteredLanding, mask_erased_rows
from daybook.privacy.erasure.subjects import load_erased_pseudonyms

__all__ = ["ErasureResult", "FilteredLanding", "erase", "erase_again", "load_erased_pseudonyms", "mask_erased_rows"]
