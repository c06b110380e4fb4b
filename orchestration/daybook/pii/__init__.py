"""Personal data: the keys that pseudonyms are made with, and keeping personal values out of what is kept and shown."""

from __future__ import annotations

from daybook.pii.keys import ERASED, Keys, add_key, carried, load_keys, pseudonym

__all__ = ["ERASED", "Keys", "add_key", "carried", "load_keys", "pseudonym"]
