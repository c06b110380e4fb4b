"""Find the personal values of a day of any size in texts.

A text is small and a day is large. So a query selects the values that agree with the words, digits and truncated words of a
text, and ``PersonalValues`` searches the text for the selected values. The selection is a superset of the values in the text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any, Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.privacy.normalize import ASCII_PATTERN, collapse_digraphs_sql, split_folded_words, split_folded_words_sql
from daybook.privacy.patterns import Hit
from daybook.privacy.pseudonyms import ERASED_PREFIX
from daybook.privacy.values import (
    MAX_LEADING_WORDS,
    MAX_PREFIX_MATCHES,
    MIN_NAME_PART_LENGTH,
    MIN_TRUNCATED_LENGTH,
    PHONE_TAIL_DIGITS,
    PersonalValues,
    SearchKeys,
    extract_search_keys,
)

MAX_IN_MEMORY = 20_000
"""Maximum number of values in memory, which take a tenth of a second to index. More are stored in a database."""
_BATCH_SIZE = 50_000
_INDEX_BATCH_SIZE = 250_000
"""Number of values that are indexed at once."""
_PREFIX_LENGTH = 8
"""Maximum number of characters by which beginnings and ends are joined."""

_KEYS_SQL = f"""
WITH found AS (
    SELECT rank, value, words FROM given
    UNION ALL SELECT rank, value, local FROM given WHERE kind = 'email'
    UNION ALL SELECT rank, any_value(value), word FROM (
        SELECT rank, value, unnest(string_split(words, ' ')) AS word FROM given WHERE kind = 'name' AND contains(words, ' ')
    ) WHERE length(word) >= {MIN_NAME_PART_LENGTH} GROUP BY rank, word
), normal AS (SELECT rank, value, {collapse_digraphs_sql("words")} AS words FROM found WHERE words <> '')
SELECT rank, value, words,
    CASE WHEN contains(words, ' ') THEN array_to_string(string_split(words, ' ')[1:{MAX_LEADING_WORDS}], ' ')
        ELSE words END AS lead,
    reverse(words) AS reversed
FROM normal
"""
"""SQL for the keys of values: all words, those of the local part of an e-mail address, and each long word of a name.

The keys are a superset of ``build_search_forms``."""
_TAILS_SQL = f"""
SELECT rank, value, right(digits, {PHONE_TAIL_DIGITS}) AS tail
FROM (SELECT rank, value, replace(words, ' ', '') AS digits FROM given WHERE kind = 'phone')
WHERE length(digits) >= {PHONE_TAIL_DIGITS}
"""


def _build_word_rows(rows: list[tuple[int, str, str]]) -> pa.Table:
    """Return rows of the table ``given`` with their words."""
    ranks, values, kinds = map(list, zip(*rows))
    emails = [value.partition("@")[0] if kind == "email" else None for value, kind in zip(values, kinds)]
    local = [None if text is None else " ".join(split_folded_words(text)) for text in emails]
    words = [" ".join(split_folded_words(value)) for value in values]
    columns = {"rank": ranks, "value": values, "kind": kinds, "plain": [True] * len(rows), "words": words}
    return pa.table({**columns, "local": pa.array(local, pa.string())})


def _distinct_searchable(array: pa.Array) -> pa.Array:
    """Return the distinct values of a column, without marks of erased values."""
    distinct = array.unique().drop_null()
    return distinct.filter(pc.invert(pc.starts_with(distinct, ERASED_PREFIX)))


def _prefix_match_sql(table: str, column: str) -> str:
    """Return SQL for the values with a key that begins with a text of a table: the first of each column, with ties."""
    sizes = [*range(MIN_TRUNCATED_LENGTH, _PREFIX_LENGTH), _PREFIX_LENGTH]
    joined = " UNION ALL ".join(
        f"SELECT f.rank, f.value, t.text, f.{column} AS key FROM {table} AS t JOIN keys AS f "
        f"ON left(f.{column}, {size}) = left(t.text, {size}) AND starts_with(f.{column}, t.text) "
        f"WHERE length(t.text) {'>=' if size == _PREFIX_LENGTH else '='} {size}"
        for size in sizes
    )
    chosen = f"rank() OVER (PARTITION BY text, rank ORDER BY key) <= {MAX_PREFIX_MATCHES}"
    return f"SELECT rank, value FROM ({joined}) QUALIFY {chosen}"


_LOOKUP_SQL = {
    "leads": "SELECT rank, value FROM keys WHERE lead IN (SELECT text FROM leads)",
    "dialled": "SELECT rank, value FROM tails WHERE tail IN (SELECT text FROM dialled)",
    "beginnings": _prefix_match_sql("beginnings", "words"),
    "endings": _prefix_match_sql("endings", "reversed"),
}
"""SQL for the values that match search keys, by table of keys, in the order of the fields of ``SearchKeys``."""


class ValueMatcher:
    """Find personal values like ``PersonalValues``, with a database for more values than fit into memory.

    Parameters
    ----------
    connect
        Function that opens an empty DuckDB database.
    max_in_memory
        Maximum number of values in memory.
    """

    def __init__(self, connect: Callable[[], Any], *, max_in_memory: int = MAX_IN_MEMORY) -> None:
        self._connect = connect
        self._max_in_memory = max_in_memory
        self._columns: list[tuple[str, str]] = []
        self._values = PersonalValues()
        self._held: dict[tuple[str, str], int] = {}
        """Values in memory: the number of the column in which each text of a column's name was first."""
        self._database: Any = None
        self._indexed = False
        self._selected: set[tuple[int, str]] = set()
        self._queried = SearchKeys(set(), set(), set(), set())
        self._prefetched: set[str] = set()

    def add(self, column: str, kind: str, values: Iterable[Optional[str]]) -> None:
        """Add a column with its values."""
        self.add_array(self.add_column(column, kind), pa.array(list(values), pa.string()))

    def add_column(self, column: str, kind: str) -> int:
        """Add a column without values, and return its number for ``add_array``."""
        self._columns.append((column, kind))
        return len(self._columns) - 1

    def add_array(self, rank: int, array: pa.Array) -> None:
        """Add values to a column of ``add_column``."""
        distinct = _distinct_searchable(array)
        if self._database is None:
            if self._add_in_memory(rank, distinct):
                return
            self._spill_to_database()
        self._store(pa.table({"rank": pa.array([rank] * len(distinct), pa.int32()), "value": distinct}))

    def contains_all(self, column: str, kind: str, array: pa.Array) -> bool:
        """Return whether all values of an array have been added to the column."""
        distinct = _distinct_searchable(array)
        if self._database is None:
            return all((column, text) in self._held for text in distinct.to_pylist())
        ranks = [-1, *(rank for rank, each in enumerate(self._columns) if each == (column, kind))]
        known = f"SELECT value FROM landed WHERE rank IN ({', '.join(map(str, ranks))})"
        self._database.register("_rows", pa.table({"value": distinct}))
        (missing,) = self._database.execute(f"SELECT count(*) FROM _rows WHERE value NOT IN ({known})").fetchall()[0]
        self._database.unregister("_rows")
        return not missing

    def _add_in_memory(self, rank: int, distinct: pa.Array) -> bool:
        """Add a column's values in memory if there is room; return whether they were added."""
        if len(distinct) > self._max_in_memory:
            return False
        column, _ = self._columns[rank]
        new = [text for text in distinct.to_pylist() if (column, text) not in self._held]
        if len(self._held) + len(new) > self._max_in_memory:
            return False
        self._held.update(((column, text), rank) for text in new)
        self._indexed = False
        return True

    def _spill_to_database(self) -> None:
        """Move all values to a database."""
        self._database = self._connect()
        self._database.execute("CREATE TABLE landed (rank INTEGER, value VARCHAR)")
        values = pa.array([text for _, text in self._held], pa.string())
        self._store(pa.table({"rank": pa.array(self._held.values(), pa.int32()), "value": values}))
        self._values, self._held = PersonalValues(), {}

    def _store(self, rows: pa.Table) -> None:
        self._indexed = False
        # Earlier look-ups did not see these values.
        self._queried = SearchKeys(set(), set(), set(), set())
        self._prefetched.clear()
        self._insert("landed", rows)

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._database.register("_rows", rows)
        self._database.execute(f"INSERT INTO {table} SELECT * FROM _rows")
        self._database.unregister("_rows")

    @property
    def in_memory(self) -> bool:
        """Whether all values are in memory, so that a search is cheap."""
        return self._database is None

    def prefetch(self, texts: Iterable[str]) -> None:
        """Select the values for the search of these texts in one query, since each query scans all values."""
        self.build_index()
        if self._database is None:
            return
        new = set(texts) - self._prefetched
        if not new:
            return
        self._prefetched |= new
        wanted = SearchKeys(*(set().union(*keys) for keys in zip(*map(extract_search_keys, new))))
        for keys, queried in zip(wanted, self._queried):
            keys -= queried
            queried |= keys
        if any(wanted):
            self._select_values(wanted)

    def _select_values(self, wanted: SearchKeys) -> None:
        # Most texts lack some kinds of keys, and every query scans all values.
        tables = {table: texts for table, texts in zip(_LOOKUP_SQL, wanted) if texts}
        for table, texts in tables.items():
            keys = [text[::-1] for text in texts] if table == "endings" else list(texts)
            self._database.execute(f"CREATE OR REPLACE TEMP TABLE {table} (text VARCHAR)")
            self._insert(table, pa.table({"text": pa.array(keys, pa.string())}))
        found = set(self._database.execute(" UNION ".join(_LOOKUP_SQL[table] for table in tables)).fetchall())
        if found <= self._selected:
            return
        self._selected |= found
        # In the order of addition, which decides the column of a value that two columns have.
        self._values = PersonalValues()
        for rank, value in sorted(self._selected):
            self._values.add(*self._columns[rank], [value])

    def build_index(self) -> None:
        """Build the search keys of all values. The first search builds them otherwise."""
        if self._indexed:
            return
        if self._database is None:
            for (_, text), rank in self._held.items():
                self._values.add(*self._columns[rank], [text])
        else:
            self._index_database()
        self._indexed = True

    def _index_database(self) -> None:
        names = list(dict.fromkeys(column for column, _ in self._columns))
        columns = {
            "rank": pa.array(range(len(self._columns)), pa.int32()),
            "name": pa.array([names.index(column) for column, _ in self._columns], pa.int32()),
            "kind": pa.array([kind for _, kind in self._columns], pa.string()),
        }
        database = self._database
        database.register("_places", pa.table(columns))
        text = ", ".join(f"{name} VARCHAR" for name in ("value", "words", "lead", "reversed"))
        database.execute(f"CREATE OR REPLACE TABLE keys (rank INTEGER, {text})")
        database.execute("CREATE OR REPLACE TABLE tails (rank INTEGER, value VARCHAR, tail VARCHAR)")
        # Index in parts, since the keys of all values may not fit into memory. Equal values are in the same part.
        parts = int(database.execute("SELECT count(*) FROM landed").fetchall()[0][0]) // _INDEX_BATCH_SIZE + 1
        for part in range(parts):
            self._index_part(part, parts)
        database.unregister("_places")

    def _index_part(self, part: int, parts: int) -> None:
        database = self._database
        plain = f"regexp_full_match(value, '{ASCII_PATTERN}')"
        local = split_folded_words_sql("split_part(value, '@', 1)")
        database.execute(
            f"CREATE OR REPLACE TABLE given AS SELECT rank, value, kind, {plain} AS plain, "
            f"CASE WHEN plain THEN {split_folded_words_sql('value')} END AS words, "
            f"CASE WHEN plain AND kind = 'email' THEN {local} END AS local FROM "
            "(SELECT min(rank) AS rank, value FROM "
            f"(SELECT * FROM landed WHERE hash(value) % {parts} = {part}) JOIN _places USING (rank) "
            "GROUP BY name, value) AS once JOIN _places USING (rank)"
        )
        # Python folds values with non-ASCII letters.
        others = database.cursor().execute("SELECT rank, value, kind FROM given WHERE NOT plain")
        while rows := others.fetchmany(_BATCH_SIZE):
            self._insert("given", _build_word_rows(rows))
        database.execute(f"INSERT INTO keys {_KEYS_SQL}")
        database.execute(f"INSERT INTO tails {_TAILS_SQL}")
        database.execute("DROP TABLE given")

    def find(self, text: str, *, ordinary: Collection[str] = (), exactly: bool = False) -> Iterator[Hit]:
        """Yield every value in a text, like ``PersonalValues.find``."""
        if text not in self._prefetched:
            self.prefetch([text])
        return self._values.find(text, ordinary=ordinary, exactly=exactly)
