"""Manage the keys of pseudonyms, and make pseudonyms.

A pseudonym is the first half of HMAC-SHA-256 under the first key. Each further key is applied to the result of the one before.
So a new key can be applied to stored pseudonyms without raw values, and erased persons are still recognized.
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
"""All keys of a deployment in order of creation, 32 bytes each. Their number is the generation of the pseudonyms."""

SECRETS_MANAGER_PREFIX = "secretsmanager://"
"""Prefix of the location of keys in AWS Secrets Manager, before the secret's name."""
ERASED_PREFIX = "[erased"
"""Prefix of the marks that replace values of erased persons. Marks have no pseudonym."""

_CACHE_SIZE = 100_000
_KEY_BYTES = 32
_PSEUDONYM_DIGITS = 32
_KEY_FILE_PATTERN = re.compile(rb"([0-9a-f]{64}\s+)*[0-9a-f]{64}\s*")


def make_pseudonym(keys: Keys, text: Optional[str]) -> Optional[str]:
    """Return the pseudonym of a text, 32 hex digits; None for None and for a mark of an erased value."""
    if text is None or text.startswith(ERASED_PREFIX):
        return None
    return apply_keys(keys, text, 0)


def pseudonym_function(keys: Keys) -> Callable[[list[Optional[str]]], list[Optional[str]]]:
    """Return a function that maps texts to pseudonyms, with a cache, since customers recur within a day."""
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
    """Return the newest pseudonym for a pseudonym of generation ``since``. A raw text has generation 0."""
    for key in keys[since:]:
        text = hmac.digest(key, text.encode(), "sha256")[: _PSEUDONYM_DIGITS // 2].hex()
    return text


def load_keys(location: str) -> Keys:
    """Return a deployment's keys from a file or from Secrets Manager. A file is created on first use.

    A lost key cannot be recreated, and pseudonyms of old and new data would no longer match. Raises ``DaybookError`` if other
    users can read the file, or if it is damaged.
    """
    if location.startswith(SECRETS_MANAGER_PREFIX):
        return _read_secret(location)
    path = Path(location)
    if not path.exists():
        with wrap_write_errors(path):
            _create_key_file(path)
    return _read_key_file(path)


def add_key(location: str) -> Keys:
    """Append a new key and return all. The change is atomic: a killed process leaves the old keys or the new ones."""
    if location.startswith(SECRETS_MANAGER_PREFIX):
        keys = (*_read_secret(location), secrets.token_bytes(_KEY_BYTES))
        name = location[len(SECRETS_MANAGER_PREFIX) :]
        _secrets_manager_client().put_secret_value(SecretId=name, SecretString=_format_keys(keys).decode())
        if _read_secret(location) != keys:
            raise DaybookError(f"The secret {name} was changed by another process at the same time; run the command again.")
        return keys
    path = Path(location)
    load_keys(location)
    with wrap_write_errors(path), _lock_key_file(path):
        keys = (*_read_key_file(path), secrets.token_bytes(_KEY_BYTES))
        _write_draft(path, _format_keys(keys)).replace(path)
    return keys


def _read_key_file(path: Path) -> Keys:
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise DaybookError(f"{path} can be read by other users; run: chmod 600 {path}")
    return _parse_keys(path.read_bytes(), str(path))


def _create_key_file(path: Path) -> None:
    """Create the first key. It is written under another name and linked, so that concurrent first uses get the same key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _lock_key_file(path):
        draft = _write_draft(path, secrets.token_bytes(_KEY_BYTES))
        try:
            os.link(draft, path)
        except FileExistsError:
            pass  # Another process created the key first, and that key is used.
        finally:
            draft.unlink()


def _draft_prefix(path: Path) -> str:
    return f".{path.name}.draft-"


def _write_draft(path: Path, content: bytes) -> Path:
    """Write and sync content to a file beside ``path`` that only its owner can read."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_draft_prefix(path), delete=False) as file:  # 0600
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Path(file.name)


@contextmanager
def _lock_key_file(path: Path) -> Iterator[None]:
    """Lock the folder of a key file for a change, and sync it afterwards. The lock ends with the process."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        for left in path.parent.iterdir():  # Drafts of killed writers. A backup has another name than a draft.
            if left.name.startswith(_draft_prefix(path)):
                left.unlink()
        yield
        os.fsync(folder)  # Otherwise a power failure could restore the old keys after tables got the new one.
    finally:
        os.close(folder)


def _read_secret(location: str) -> Keys:
    from botocore.exceptions import BotoCoreError, ClientError

    name = location[len(SECRETS_MANAGER_PREFIX) :]
    try:
        response = _secrets_manager_client().get_secret_value(SecretId=name)
    except (ClientError, BotoCoreError) as error:
        raise DaybookError(
            f"The secret {name} cannot be read ({str(error).splitlines()[0].rstrip('.')}); create it "
            "once with 64 random hex digits as its text, and allow the job to read it."
        ) from None
    content = response["SecretBinary"] if "SecretBinary" in response else response["SecretString"].encode()
    return _parse_keys(content, f"The secret {name}")


def _secrets_manager_client() -> Any:
    import boto3  # A slow import, which a key file does not need.

    return boto3.client("secretsmanager")


def _parse_keys(content: bytes, where: str) -> Keys:
    """Return keys from 32 bytes (one key) or from lines of 64 hex digits."""
    if len(content) == _KEY_BYTES:
        return (content,)
    if not _KEY_FILE_PATTERN.fullmatch(content):
        raise DaybookError(f"{where} has {len(content)} bytes, but a key has {_KEY_BYTES}; restore it from your backup.")
    return tuple(bytes.fromhex(line.decode()) for line in content.split())


def _format_keys(keys: Keys) -> bytes:
    return "".join(f"{key.hex()}\n" for key in keys).encode()
