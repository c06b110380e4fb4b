"""Erase a person from all layers and old versions of tables, verify it by a search, and mask later rows of the person."""

from __future__ import annotations

from daybook.privacy.erasure.erase import erase, erase_again
from daybook.privacy.erasure.ingest_filter import FilteredLanding, mask_erased_rows
from daybook.privacy.erasure.result import ErasureResult
from daybook.privacy.erasure.subjects import load_erased_pseudonyms

__all__ = ["ErasureResult", "FilteredLanding", "erase", "erase_again", "load_erased_pseudonyms", "mask_erased_rows"]
