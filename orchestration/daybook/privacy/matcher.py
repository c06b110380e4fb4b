"""Personal values of however large a day: a query chooses those that a text can hold at all, and only they are searched for.

A text is small and a day is large. So it is not the values that are looked up in the text: what the text holds, and what it
may have cut short, is looked up among the values. What is chosen can be more than what is found and is never less: the search
itself is ``PersonalValues``' over the chosen ones, which finds what it would find over all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import islice
from typing import Any, Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.privacy.normalize import PLAIN, raw_words, raw_words_sql, without_digraphs_sql
from daybook.privacy.patterns import Hit
from daybook.privacy.pseudonyms import ERASED
from daybook.privacy.values import LEADING, PART_LENGTH, SHORTEST_CUT, TAIL, PersonalValues, Traces, traces_of

MANY = 20_000
"""So many values Python takes in within a tenth of a second; more are kept in a database."""
_BATCH = 50_000
_ARRANGED = 250_000
"""So many values as they landed are made ready at a time."""
_STEM = 8
"""Beginnings and ends are joined by so many characters, those that are shorter by all they have."""
_LOOKED_AT = 20
"""So many values that begin alike ``PersonalValues`` looks at."""

_GIVEN = pa.schema(
    [
        ("rank", pa.int32()),
        ("value", pa.string()),
        ("kind", pa.string()),
        ("plain", pa.bool_()),
        ("words", pa.string()),
        ("local", pa.string()),
    ]
)
_KEYS = f"""
WITH found AS (
    SELECT rank, value, words FROM given
    UNION ALL SELECT rank, value, local FROM given WHERE kind = 'email'
    UNION ALL SELECT rank, any_value(value), word FROM (
        SELECT rank, value, unnest(string_split(words, ' ')) AS word FROM given WHERE kind = 'name' AND contains(words, ' ')
    ) WHERE length(word) >= {PART_LENGTH} GROUP BY rank, word
), normal AS (SELECT rank, value, {without_digraphs_sql("words")} AS words FROM found WHERE words <> '')
SELECT rank, value, words,
    CASE WHEN contains(words, ' ') THEN array_to_string(string_split(words, ' ')[1:{LEADING}], ' ') ELSE words END AS lead,
    reverse(words) AS reversed
FROM normal
"""
"""SQL for the keys of values: all words, those of the local part of an e-mail address, each long word of a name.

It has a key for each of ``forms_of``, and more: whether a form is worth a search is judged there alone."""
_TAILS = f"""
SELECT rank, value, right(digits, {TAIL}) AS tail
FROM (SELECT rank, value, replace(words, ' ', '') AS digits FROM given WHERE kind = 'phone')
WHERE length(digits) >= {TAIL}
"""


def _worded(rows: list[tuple[int, str, str]]) -> pa.Table:
    """Return rows of ``given`` with their words."""
    columns: list[list[Any]] = [[], [], [], [], [], []]
    for rank, value, kind in rows:
        local = " ".join(raw_words(value.partition("@")[0])) if kind == "email" else None
        for column, each in zip(columns, (rank, value, kind, True, " ".join(raw_words(value)), local)):
            column.append(each)
    return pa.table([pa.array(each, field.type) for each, field in zip(columns, _GIVEN)], schema=_GIVEN)


def _sought(array: pa.Array) -> pa.Array:
    """A column's values once each, without those that stand in for an erased one."""
    distinct = array.unique().drop_null()
    return distinct.filter(pc.invert(pc.starts_with(distinct, ERASED)))


def _cut_sql(table: str, column: str) -> str:
    """Return SQL for the values with a key that begins like one of a table's texts: the first of each column, with ties."""
    sizes = [*range(SHORTEST_CUT, _STEM), _STEM]
    joined = " UNION ALL ".join(
        f"SELECT f.rank, f.value, t.text, f.{column} AS key FROM {table} AS t JOIN keys AS f "
        f"ON left(f.{column}, {size}) = left(t.text, {size}) AND starts_with(f.{column}, t.text) "
        f"WHERE length(t.text) {'>=' if size == _STEM else '='} {size}"
        for size in sizes
    )
    chosen = f"rank() OVER (PARTITION BY text, rank ORDER BY key) <= {_LOOKED_AT}"
    return f"SELECT rank, value FROM ({joined}) QUALIFY {chosen}"


_QUESTIONS = {
    "leads": "SELECT rank, value FROM keys WHERE lead IN (SELECT text FROM leads)",
    "dialled": "SELECT rank, value FROM tails WHERE tail IN (SELECT text FROM dialled)",
    "beginnings": _cut_sql("beginnings", "words"),
    "endings": _cut_sql("endings", "reversed"),
}
"""SQL for the values that agree with a text's traces, by the table that has them: as ``Traces`` has its fields."""


class SoughtValues:
    """Values by column, added and found as with ``PersonalValues``; of many, Python has those only that some text asked for.

    ``connect`` opens an empty DuckDB database, which it is asked for once values are ``many``.
    """

    def __init__(self, connect: Callable[[], Any], *, many: int = MANY) -> None:
        self._connect = connect
        self._many = many
        self._columns: list[tuple[str, str]] = []
        self._few: dict[tuple[str, str], int] = {}
        self._values = PersonalValues()
        self._database: Any = None
        self._arranged = False
        self._chosen: set[tuple[int, str]] = set()
        self._asked = Traces(set(), set(), set(), set())
        self._expected: set[str] = set()

    def add(self, column: str, kind: str, values: Iterable[Optional[str]]) -> None:
        """Take in a column's values."""
        rest = iter(values)
        self.add_arrays(
            column, kind, iter(lambda: pa.array(list(islice(rest, _BATCH)), pa.string()), pa.array([], pa.string()))
        )

    def add_arrays(self, column: str, kind: str, arrays: Iterable[pa.Array]) -> None:
        """Take in a column's values as Arrow has them, one array after the other."""
        rank = self.begin(column, kind)
        for array in arrays:
            self.add_array(rank, array)

    def begin(self, column: str, kind: str) -> int:
        """A column whose values come an array at a time, between those of others: what ``add_array`` is to know it by."""
        self._columns.append((column, kind))
        return len(self._columns) - 1

    def add_array(self, rank: int, array: pa.Array) -> None:
        """Take in more values of a column that was begun."""
        distinct = _sought(array)
        if self._database is None:
            if self._take(rank, distinct):
                return
            self._begin_database()
        self._store(pa.table({"rank": pa.array([rank] * len(distinct), pa.int32()), "value": distinct}))

    def holds(self, column: str, kind: str, array: pa.Array) -> bool:
        """Whether a column's values have all been taken in before."""
        distinct = _sought(array)
        if self._database is None:
            return all((column, text) in self._few for text in distinct.to_pylist())
        ranks = [-1, *(rank for rank, each in enumerate(self._columns) if each == (column, kind))]
        mine = f"SELECT value FROM landed WHERE rank IN ({', '.join(map(str, ranks))})"
        self._database.register("_rows", pa.table({"value": distinct}))
        asked = f"SELECT count(*) FROM _rows WHERE value NOT IN ({mine})"
        (others,) = self._database.execute(asked).fetchall()[0]
        self._database.unregister("_rows")
        return not others

    def _take(self, rank: int, distinct: pa.Array) -> bool:
        """Have a column's values in Python, where all are still few with them; whether they are."""
        if len(distinct) > self._many:
            return False
        column, kind = self._columns[rank]
        new = [text for text in distinct.to_pylist() if (column, text) not in self._few]
        if len(self._few) + len(new) > self._many:
            return False
        self._few.update(((column, text), rank) for text in new)
        self._values.add(column, kind, new)
        return True

    def _begin_database(self) -> None:
        """Move what was taken in so far to a database."""
        self._database = self._connect()
        self._database.execute("CREATE TABLE landed (rank INTEGER, value VARCHAR)")
        ranks, values = list(self._few.values()), [text for _, text in self._few]
        self._store(pa.table({"rank": pa.array(ranks, pa.int32()), "value": pa.array(values, pa.string())}))
        self._few, self._values = {}, PersonalValues()

    def _store(self, rows: pa.Table) -> None:
        self._arranged = False
        # Whatever was asked before was asked of other values.
        self._asked = Traces(set(), set(), set(), set())
        self._expected.clear()
        self._insert("landed", rows)

    def _insert(self, table: str, rows: pa.Table) -> None:
        self._database.register("_rows", rows)
        self._database.execute(f"INSERT INTO {table} SELECT * FROM _rows")
        self._database.unregister("_rows")

    @property
    def at_hand(self) -> bool:
        """Whether there are few enough for a text to be searched for all of them at little cost."""
        return self._database is None

    def expect(self, texts: Iterable[str]) -> None:
        """Choose at once what these texts will be searched for: each question goes through all values once."""
        if self._database is None:
            return
        self.arrange()
        new = set(texts) - self._expected
        self._expected |= new
        wanted = Traces(set(), set(), set(), set())
        for text in new:
            for mine, others in zip(wanted, traces_of(text)):
                mine |= others
        for mine, asked in zip(wanted, self._asked):
            mine -= asked
            asked |= mine
        if any(wanted):
            self._choose(wanted)

    def _choose(self, wanted: Traces) -> None:
        # Few texts have anything to ask of each kind, and every question goes through all values.
        asked = {table: texts for table, texts in zip(_QUESTIONS, wanted) if texts}
        for table, texts in asked.items():
            given = [text[::-1] for text in texts] if table == "endings" else list(texts)
            self._database.execute(f"CREATE OR REPLACE TEMP TABLE {table} (text VARCHAR)")
            self._insert(table, pa.table({"text": pa.array(given, pa.string())}))
        found = set(self._database.execute(" UNION ".join(_QUESTIONS[table] for table in asked)).fetchall())
        if found <= self._chosen:
            return
        self._chosen |= found
        # In the order in which they were added: of equal values in two columns one gives its name to the hit.
        self._values = PersonalValues()
        for rank, value in sorted(self._chosen):
            self._values.add(*self._columns[rank], [value])

    def arrange(self) -> None:
        """Have every value of many once, with what it is searched for as: what a search else begins with."""
        if self._database is None or self._arranged:
            return
        names = list(dict.fromkeys(column for column, _ in self._columns))
        places = {
            "rank": pa.array(range(len(self._columns)), pa.int32()),
            "name": pa.array([names.index(column) for column, _ in self._columns], pa.int32()),
            "kind": pa.array([kind for _, kind in self._columns], pa.string()),
        }
        database = self._database
        database.register("_places", pa.table(places))
        text = ", ".join(f"{name} VARCHAR" for name in ("value", "words", "lead", "reversed"))
        database.execute(f"CREATE OR REPLACE TABLE keys (rank INTEGER, {text})")
        database.execute("CREATE OR REPLACE TABLE tails (rank INTEGER, value VARCHAR, tail VARCHAR)")
        # Equal values go together; of all at once the forms would not fit where memory is short.
        parts = int(database.execute("SELECT count(*) FROM landed").fetchall()[0][0]) // _ARRANGED + 1
        for part in range(parts):
            self._arrange_part(part, parts)
        database.unregister("_places")
        self._arranged = True

    def _arrange_part(self, part: int, parts: int) -> None:
        database = self._database
        plain = f"regexp_full_match(value, '{PLAIN}')"
        local = raw_words_sql("split_part(value, '@', 1)")
        database.execute(
            f"CREATE OR REPLACE TABLE given AS SELECT rank, value, kind, {plain} AS plain, "
            f"CASE WHEN plain THEN {raw_words_sql('value')} END AS words, "
            f"CASE WHEN plain AND kind = 'email' THEN {local} END AS local FROM "
            "(SELECT min(rank) AS rank, value FROM "
            f"(SELECT * FROM landed WHERE hash(value) % {parts} = {part}) JOIN _places USING (rank) "
            "GROUP BY name, value) AS once JOIN _places USING (rank)"
        )
        # Letters beyond ASCII are folded in Python.
        others = database.cursor().execute("SELECT rank, value, kind FROM given WHERE NOT plain")
        while rows := others.fetchmany(_BATCH):
            self._insert("given", _worded(rows))
        database.execute(f"INSERT INTO keys {_KEYS}")
        database.execute(f"INSERT INTO tails {_TAILS}")
        database.execute("DROP TABLE given")

    def find(self, text: str, *, ordinary: Collection[str] = (), exactly: bool = False) -> Iterator[Hit]:
        """Every value in a text, as ``PersonalValues.find`` has it."""
        if text not in self._expected:
            self.expect([text])
        return self._values.find(text, ordinary=ordinary, exactly=exactly)
