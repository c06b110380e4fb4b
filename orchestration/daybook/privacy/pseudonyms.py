"""The keys that pseudonyms are made with, and what a pseudonym is.

A pseudonym is the start of HMAC-SHA-256 under the first key; each further key is applied to what came out. So a key can be
added without a single raw value: what is stored is carried on, and a person who was erased stays recognisable as such.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

from daybook.errors import DaybookError
from daybook.storage import wrap_write_errors

Keys = tuple[bytes, ...]
"""All keys of a deployment, 32 bytes each, the first one first; their number is the generation of the pseudonyms."""

SECRETS_MANAGER_PREFIX = "secretsmanager://"
"""What the location of keys in AWS Secrets Manager begins with; the secret's name follows."""
ERASED_PREFIX = "[erased"
"""What stands in place of an erased person's values begins with this; it has no pseudonym."""

_CACHE_SIZE = 100_000
_KEY_BYTES = 32
_PSEUDONYM_DIGITS = 32
_KEY_FILE_PATTERN = re.compile(rb"([0-9a-f]{64}\s+)*[0-9a-f]{64}\s*")


def make_pseudonym(keys: Keys, text: Optional[str]) -> Optional[str]:
    """32 hex digits for a text; None for no text, and for what erasing has left in place of one."""
    if text is None or text.startswith(ERASED_PREFIX):
        return None
    return apply_keys(keys, text, 0)


def pseudonym_function(keys: Keys) -> Callable[[list[Optional[str]]], list[Optional[str]]]:
    """Return a function that maps texts to pseudonyms. It caches them, since most rows have a customer of the same day."""
    cached: dict[Optional[str], Optional[str]] = {}

    def pseudonyms(texts: list[Optional[str]]) -> list[Optional[str]]:
        if len(cached) > _CACHE_SIZE:
            cached.clear()
        for text in texts:
            if text not in cached:
                cached[text] = make_pseudonym(keys, text)
        return [cached[text] for text in texts]

    return pseudonyms


def apply_keys(keys: Keys, text: str, since: int) -> str:
    """A pseudonym of the generation ``since`` brought to the newest; a raw text is of generation 0."""
    for key in keys[since:]:
        text = hmac.digest(key, text.encode(), "sha256")[: _PSEUDONYM_DIGITS // 2].hex()
    return text


def load_keys(location: str) -> Keys:
    """The deployment's keys, from a file that only its owner may read or from Secrets Manager; a file is made on first use.

    A lost key cannot be made again: the pseudonyms of old and new data would no longer match.
    """
    if location.startswith(SECRETS_MANAGER_PREFIX):
        return _read_secret(location)
    path = Path(location)
    if not path.exists():
        with wrap_write_errors(path):
            _create_key_file(path)
    return _read_key_file(path)


def add_key(location: str) -> Keys:
    """Put a new key behind the others, which stay; returns all. Whoever is killed here leaves the old keys or the new ones."""
    if location.startswith(SECRETS_MANAGER_PREFIX):
        keys = (*_read_secret(location), secrets.token_bytes(_KEY_BYTES))
        name = location[len(SECRETS_MANAGER_PREFIX) :]
        _secrets_manager_client().put_secret_value(SecretId=name, SecretString=_format_keys(keys).decode())
        if _read_secret(location) != keys:
            raise DaybookError(f"The secret {name} was changed by others meanwhile; run the command again.")
        return keys
    path = Path(location)
    load_keys(location)
    with wrap_write_errors(path), _lock_folder(path.parent) as folder:
        _remove_drafts(path)
        keys = (*_read_key_file(path), secrets.token_bytes(_KEY_BYTES))
        draft = _write_draft(path, _format_keys(keys))
        draft.replace(path)
        os.fsync(folder)  # Until then a power cut could bring the old keys back, after tables were carried on to the new one.
    return keys


def _read_key_file(path: Path) -> Keys:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DaybookError(f"{path} may be read by others; run: chmod 600 {path}")
    return _parse_keys(path.read_bytes(), str(path))


def _create_key_file(path: Path) -> None:
    """Make the first key. Written whole under another name and linked, so that two first uses agree on one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock_folder(path.parent) as folder:
        _remove_drafts(path)
        draft = _write_draft(path, secrets.token_bytes(_KEY_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # Another process made the key first: that one counts.
        finally:
            draft.unlink()
        os.fsync(folder)


def _remove_drafts(path: Path) -> None:
    """Remove what a killed writer has left beside the file; a backup of it has another name than a draft."""
    for left in path.parent.iterdir():
        if left.name.startswith(_draft_prefix(path)):
            left.unlink()


def _draft_prefix(path: Path) -> str:
    return f".{path.name}.draft-"


def _write_draft(path: Path, content: bytes) -> Path:
    """The content in a file beside ``path`` that only its owner may read, and on disk for certain."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_draft_prefix(path), delete=False) as file:  # 0600
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(file.name)


@contextmanager
def _lock_folder(folder: Path) -> Iterator[int]:
    """Only one process at a time writes keys to this folder, whose handle this gives; the lock ends with its process."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _read_secret(location: str) -> Keys:
    from botocore.exceptions import BotoCoreError, ClientError

    name = location[len(SECRETS_MANAGER_PREFIX) :]
    try:
        answer = _secrets_manager_client().get_secret_value(SecretId=name)
    except (ClientError, BotoCoreError) as error:
        raise DaybookError(
            f"The secret {name} cannot be read ({str(error).splitlines()[0].rstrip('.')}); make it once, "
            "with 64 random hex digits as its text, and let the job read it."
        ) from None
    content = answer["SecretBinary"] if "SecretBinary" in answer else answer["SecretString"].encode()
    return _parse_keys(content, f"The secret {name}")


def _secrets_manager_client() -> Any:
    import boto3  # slow, and not needed where the key is a file

    return boto3.client("secretsmanager")


def _parse_keys(content: bytes, where: str) -> Keys:
    """One key as 32 bytes, or any number as 64 hex digits a line."""
    if len(content) == _KEY_BYTES:
        return (content,)
    if not _KEY_FILE_PATTERN.fullmatch(content):
        raise DaybookError(f"{where} holds {len(content)} bytes where a key has {_KEY_BYTES}; restore it from your backup.")
    return tuple(bytes.fromhex(line.decode()) for line in content.split())


def _format_keys(keys: Keys) -> bytes:
    return "".join(f"{key.hex()}\n" for key in keys).encode()
