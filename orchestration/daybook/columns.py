"""Names of columns, compared as SQL compares them: case, Unicode form and surrounding blanks make no difference.

Here: the rule, and searches among names by it. Not here: what a table does with columns of equal names (``daybook.delta``).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Optional

UNNAMED = "unnamed"
"""The name of a column whose header is blank: SQL has no empty names."""
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)"|[^'"]+""")
"""A text literal, a quoted name, or the SQL between them."""


def column_name(name: str) -> str:
    """Return the name as it is stored: in Unicode's composed form (NFC), without surrounding blanks."""
    return unicodedata.normalize("NFC", name).strip() or UNNAMED


def column_key(name: str) -> str:
    """Return what two equal names have in common: the stored form in lower case.

    Lower case, not case folding: SQL tells ``Maße`` from ``Masse``, and a file may have both.
    """
    return column_name(name).lower()


def find_column(names: Iterable[str], wanted: str) -> Optional[str]:
    """Return the last of the names that equals the wanted one, or None."""
    key = column_key(wanted)
    return next((name for name in reversed(list(names)) if column_key(name) == key), None)


def columns_among(names: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return those of the names that equal one of the wanted names, in their order."""
    keys = {column_key(name) for name in wanted}
    return [name for name in names if column_key(name) in keys]


def repeated_column(names: Collection[str]) -> Optional[str]:
    """Return the first name that another of the names equals, or None."""
    count = Counter(map(column_key, names))
    return next((name for name in names if count[column_key(name)] > 1), None)


def with_column_names(sql: str) -> str:
    """Return the SQL with its names as columns are stored (``column_name``); text literals stay as they are."""

    def stored(token: re.Match[str]) -> str:
        if token[1] is not None:
            return f'"{column_name(token[1])}"'
        return token[0] if token[0].startswith("'") else unicodedata.normalize("NFC", token[0])

    return _TOKEN.sub(stored, sql)
