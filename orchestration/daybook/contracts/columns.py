"""Names of columns, compared as SQL compares them: case, Unicode form and surrounding blanks make no difference."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Optional

UNNAMED_COLUMN = "unnamed"
"""The name of a column whose header is blank: SQL has no empty names."""
_TOKEN = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)"|[^'"]+""")
"""A text literal, a quoted name, or the SQL between them."""


_KEYWORDS = """
all analyse analyze and anti any array as asc asof asymmetric at authorization binary both by case cast check collate collation
column columns concurrently constraint create cross default deferrable desc describe distinct do else end except false fetch
for foreign freeze from full generated glob grant group having ilike in initially inner intersect into is isnull join lambda
lateral leading left like limit map natural not notnull null offset on only or order outer overlaps pivot pivot_longer
pivot_wider placing positional primary qualify references returning right select semi show similar some struct summarize
symmetric table tablesample then to trailing true try_cast tuple union unique unpack unpivot using variadic verbose when where
window with
"""
"""DuckDB's keywords that cannot be the name of a table or column without quotes."""


_RESERVED = frozenset(_KEYWORDS.split())


def is_plain_name(name: str) -> bool:
    """Return whether SQL can hold a name without quotes. The names of tables, and of columns of silver and gold, are plain."""
    return name.isidentifier() and name.lower() not in _RESERVED


def normalize_column_name(name: str) -> str:
    """Return the name as it is stored: in Unicode's composed form (NFC), without surrounding blanks."""
    return unicodedata.normalize("NFC", name).strip() or UNNAMED_COLUMN


def column_key(name: str) -> str:
    """Return what two equal names have in common: the stored form in lower case.

    Lower case, not case folding: SQL tells ``Maße`` from ``Masse``, and a file may have both.
    """
    return normalize_column_name(name).lower()


def find_column(names: Iterable[str], wanted: str) -> Optional[str]:
    """Return the last of the names that equals the wanted one, or None."""
    key = column_key(wanted)
    return next((name for name in reversed(list(names)) if column_key(name) == key), None)


def matching_columns(names: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Return those of the names that equal one of the wanted names, in their order."""
    keys = {column_key(name) for name in wanted}
    return [name for name in names if column_key(name) in keys]


def find_duplicate_column(names: Collection[str]) -> Optional[str]:
    """Return the first name that another of the names equals, or None."""
    count = Counter(map(column_key, names))
    return next((name for name in names if count[column_key(name)] > 1), None)


def normalize_sql_names(sql: str) -> str:
    """Return the SQL with its names as columns are stored (``normalize_column_name``); text literals stay as they are."""

    def stored(token: re.Match[str]) -> str:
        if token[1] is not None:
            return f'"{normalize_column_name(token[1])}"'
        return token[0] if token[0].startswith("'") else unicodedata.normalize("NFC", token[0])

    return _TOKEN.sub(stored, sql)
