"""Find secrets: values of environment variables with secret names, and keys and passwords by their form."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Optional

from daybook.privacy.patterns import Hit
from daybook.settings import looks_secret

_KEY_NAME = re.compile(r"(?:\A|_)KEYS?\Z", re.IGNORECASE)
_MIN_LENGTH = 8
_LOCATION = re.compile(r"(?:[~.]{0,2}/|[A-Za-z]:\\|arn:|secretsmanager://|https?://[^@]*$)", re.DOTALL)
"""A path or URL of a secret, which is not secret itself and which many variables named KEY or TOKEN hold."""

_ACCESS_KEY = re.compile(r"(?<![0-9A-Za-z])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])")
_SECRET_KEY_DISTANCE = 300
_SECRET_KEY = re.compile(r"(?<![0-9A-Za-z/+])(?![0-9a-f]{40}(?![0-9A-Za-z/+]))[0-9A-Za-z/+]{40}(?![0-9A-Za-z/+=])")
_ASSIGNED = re.compile(r"aws_?(?:secret_?access_?key|session_?token)\W{1,5}([0-9A-Za-z/+=]{16,})", re.IGNORECASE)
_TOKEN = re.compile(
    r"(?<![\w-])(?:eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]*|gh[pousr]_\w{30,}|github_pat_\w{30,}|xox[abprs]-[\w-]{10,}|glpat-[\w-]{20,})"
)
_URL_PASSWORD = re.compile(r"(?<=://)[^\s/@:'\"<>]{0,100}:([^\s/@'\"<>]{1,200})@")
_PRIVATE_KEY = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,30}PRIVATE KEY-----")


class SecretFinder:
    """Find the secrets of an environment in texts."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        values = {
            value
            for name, text in environment.items()
            if looks_secret(name) or _KEY_NAME.search(name)
            for value in (text.strip(),)
            if len(value) >= _MIN_LENGTH and not _LOCATION.match(value)
        }
        listed = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
        self._values: Optional[re.Pattern[str]] = re.compile(listed) if listed else None

    def find(self, text: str) -> Iterator[Hit]:
        """Yield every secret in a text, in no order; hits may overlap."""
        if self._values:
            for found in self._values.finditer(text):
                yield (*found.span(), "secret")
        for found in _ACCESS_KEY.finditer(text):
            yield (*found.span(), "secret")
            for near in _SECRET_KEY.finditer(text, found.end(), found.end() + _SECRET_KEY_DISTANCE):
                yield (*near.span(), "secret")
        for pattern, group in ((_ASSIGNED, 1), (_TOKEN, 0), (_URL_PASSWORD, 1)):
            for found in pattern.finditer(text):
                yield (*found.span(group), "secret")
        key_start: Optional[int] = None
        for found in _PRIVATE_KEY.finditer(text):
            if found[1] == "BEGIN":
                key_start = found.start() if key_start is None else key_start
            elif key_start is not None:
                yield (key_start, found.end(), "secret")
                key_start = None
        if key_start is not None:  # The end is truncated.
            yield (key_start, len(text), "secret")
