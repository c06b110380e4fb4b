"""Protect personal data: pseudonyms, redaction of records and notebooks, and erasure."""

from __future__ import annotations

from daybook.privacy.pseudonyms import ERASED_PREFIX, Keys, add_key, apply_keys, load_keys, make_pseudonym, pseudonym_function

__all__ = ["ERASED_PREFIX", "Keys", "add_key", "apply_keys", "load_keys", "make_pseudonym", "pseudonym_function"]
