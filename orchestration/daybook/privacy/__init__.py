"""Personal data: the keys that pseudonyms are made with, and keeping personal values out of what is kept and shown."""

from __future__ import annotations

from daybook.privacy.pseudonyms import ERASED, Keys, add_key, carried, load_keys, pseudonym, pseudonym_function

__all__ = ["ERASED", "Keys", "add_key", "carried", "load_keys", "pseudonym", "pseudonym_function"]
