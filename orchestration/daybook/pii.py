"""Personal data: the key that pseudonyms are made with.

Here: reading the key, making it on first use. Not here: which columns are personal (contracts and sources say so), the
SQL function that applies the key (``daybook.engines``).
"""

from __future__ import annotations

import os
import secrets
import stat
import tempfile
from pathlib import Path

from daybook.errors import DaybookError

_KEY_BYTES = 32


def load_key(location: str) -> bytes:
    """The deployment's key, 32 bytes, from a file that only its owner may read; made on first use.

    A lost key cannot be made again: the pseudonyms of old and new data would no longer match.
    """
    path = Path(location)
    path.parent.mkdir(parents=True, exist_ok=True)
    new = secrets.token_bytes(_KEY_BYTES)
    # Written whole under another name and linked, so that two first runs agree and none reads half a key.
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.name}.", delete=False) as file:  # 0600
            file.write(new)
        draft = Path(file.name)
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # Another process made the key first: that one counts.
        finally:
            draft.unlink()
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DaybookError(f"{path} may be read by others; run: chmod 600 {path}")
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        raise DaybookError(f"{path} holds {len(key)} bytes where a key has {_KEY_BYTES}; restore it from your backup.")
    return key
