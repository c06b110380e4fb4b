"""Personal data: the keys that pseudonyms are made with, and keeping personal values out of what is kept and shown."""

from __future__ import annotations

from daybook.privacy.pseudonyms import ERASED_PREFIX, Keys, add_key, apply_keys, load_keys, make_pseudonym, pseudonym_function

__all__ = ["ERASED_PREFIX", "Keys", "add_key", "apply_keys", "load_keys", "make_pseudonym", "pseudonym_function"]
