"""Test that ``ValueMatcher`` finds the same values as ``PersonalValues``."""

from __future__ import annotations

import re

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daybook.privacy.matcher import MAX_IN_MEMORY, ValueMatcher
from daybook.privacy.normalize import split_words
from daybook.privacy.pseudonyms import ERASED_PREFIX
from daybook.privacy.redactor import Redactor
from daybook.privacy.values import PersonalValues, build_search_forms

WORDS = [
    "Anna",
    "anna",
    "O'Neil",
    "Müßig",
    "Müller-Lüdenscheidt",
    "Straße",
    "12",
    "00042",
    "2000",
    "a",
    "b2",
    "山田",
    "太郎",
    "Ünal",
]
SEPARATORS = [" ", "  ", "-", "_", ".", "@", "/", "\t", " (", "…", "..."]
VALUES = st.one_of(
    st.lists(st.tuples(st.sampled_from(WORDS), st.sampled_from(SEPARATORS)), min_size=1, max_size=8).map(
        lambda parts: "".join(word + separator for word, separator in parts)
    ),
    st.from_regex(r"\+?[0-9]{2,4}[ /-][0-9]{3,9}", fullmatch=True),
    st.text(max_size=12).filter(lambda text: "\x00" not in text),
)
COLUMNS = [
    ("name", "name"),
    ("email", "email"),
    ("phone", "phone"),
    ("zip", "address"),
    ("id", "id"),
    ("said", "text"),
    ("id", "id"),
]


def connect() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def both(columns: list[list[str]], *, max_in_memory: int = 0) -> tuple[PersonalValues, ValueMatcher]:
    """Return the same values in memory and in a matcher."""
    values, sought = PersonalValues(), ValueMatcher(connect, max_in_memory=max_in_memory)
    for (column, kind), texts in zip(COLUMNS, columns):
        values.add(column, kind, texts)
        sought.add(column, kind, texts)
    return values, sought


@settings(max_examples=60)
@given(
    columns=st.lists(st.lists(VALUES, max_size=6), min_size=len(COLUMNS), max_size=len(COLUMNS)),
    kept=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5), st.integers(0, 40), st.integers(1, 40)), max_size=4),
    between=st.sampled_from(["", " ", " … ", "...", ", "]),
    exactly=st.booleans(),
)
@pytest.mark.slow
def test_matcher_finds_what_personal_values_finds(columns, kept, between, exactly) -> None:  # type: ignore[no-untyped-def]
    values, sought = both(columns)
    parts = [columns[at][index % len(columns[at])][start : start + size] for at, index, start, size in kept if columns[at]]
    for text in (between.join(parts), between.join([*parts, ""]), between.join(["", *parts])):
        assert list(sought.find(text, exactly=exactly)) == list(values.find(text, exactly=exactly))


@settings(max_examples=60)
@given(
    kind=st.sampled_from(["name", "email", "phone", "address", "id", "text"]),
    text=st.text(min_size=1, max_size=14).filter(lambda text: "\x00" not in text),
)
@example(kind="text", text="\x1c 123456789 a\t")
@example(kind="email", text="@b.c@d")
@example(kind="email", text="Zoë@b.c")
@example(kind="name", text=" N/a\n")
@example(kind="name", text="AEaeUEe oe Boes Noel")
@example(kind="phone", text="+49 30\u00a023125")
@pytest.mark.slow
def test_each_form_of_a_value_has_a_key(kind: str, text: str) -> None:
    sought = ValueMatcher(connect, max_in_memory=0)
    sought.add("c", kind, [text])
    sought.prefetch(["nothing of it"])
    found = build_search_forms(kind, text)
    expected = {" ".join(words) for words, _ in found.whole} | ({found.weak} if found.weak else set())
    keys = {words for (words,) in sought._database.execute("SELECT words FROM keys").fetchall()}
    assert keys >= expected
    assert " ".join(split_words(text)) in keys | {""}
    tails = {tail for (tail,) in sought._database.execute("SELECT tail FROM tails").fetchall()}
    assert tails >= ({found.tail} if found.tail else set())


@pytest.mark.parametrize("many", [0, 3, 1000])
def test_values_are_found_with_any_memory_limit(many: int) -> None:
    _, sought = both(
        [["Zoë Kanarie", "Bo Li"], ["zoe.kanarie@example.com"], ["+49 30 23125 123"], ["10115"]], max_in_memory=many
    )
    clean = Redactor(sought).redact_text("Kanarie, zoe.kanarie@example.com, 030/23125-123 in 10115")
    assert clean == "[redacted:name], [redacted:email], [redacted:phone] in [redacted:zip]"


def test_values_added_after_a_search_are_found() -> None:
    sought = ValueMatcher(connect, max_in_memory=0)
    sought.add("name", "name", ["Zoë Kanarie"])
    assert Redactor(sought).redact_text("Kanarie and Spatzig") == "[redacted:name] and Spatzig"
    sought.add("surname", "name", ["Spatzig", None, "Spatzig"])
    assert Redactor(sought).redact_text("Kanarie and Spatzig") == "[redacted:name] and [redacted:surname]"


def test_marks_of_erased_values_are_not_searched() -> None:
    sought = ValueMatcher(connect, max_in_memory=0)
    sought.add("name", "name", ["[erased:0123456789ab]", "Kanarie"])
    assert Redactor(sought).redact_text("[erased:0123456789ab] Kanarie") == "[erased:0123456789ab] [redacted:name]"


def test_few_of_many_equal_prefixes_are_loaded() -> None:
    sought = ValueMatcher(connect, max_in_memory=0)
    sought.add("id", "id", [f"C-{number:08d}" for number in range(30_000)])
    sought.add("name", "name", [f"First Last{number}" for number in range(1000)])
    assert Redactor(sought).redact_text("C-0000… C-00000017 last") == "[redacted:id]… [redacted:id] last"
    assert len(sought._values) < 50


def test_record_is_looked_up_in_one_query() -> None:
    class Counted:
        """A connection that counts queries."""

        def __init__(self) -> None:
            self.inner, self.asked = duckdb.connect(), 0

        def execute(self, sql: str) -> duckdb.DuckDBPyConnection:
            self.asked += bool(re.search("FROM leads", sql))
            return self.inner.execute(sql)

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

    counted = Counted()
    sought = ValueMatcher(lambda: counted, max_in_memory=0)
    sought.add("name", "name", ["Kanarie", "Spatzig"])
    record = {"a": ["Kanarie", {"Spatzig": "&#83;patzig"}], "b": 12345, "c": "of Kan…"}
    clean = Redactor(sought).redact_json(record)
    assert clean == {"a": ["[redacted:name]", {"[redacted:name]": "[redacted:name]"}], "b": 12345, "c": "of Kan…"}
    assert counted.asked == 1


@pytest.mark.parametrize("many", [0, MAX_IN_MEMORY])
def test_contains_all_is_per_column(many: int) -> None:
    values = ValueMatcher(duckdb.connect, max_in_memory=many)
    values.add("name", "name", ["Kanarie", "Spatz", None])
    values.add("street", "address", ["Am Käfig 7"])
    assert values.contains_all("name", "name", pa.array(["Spatz", None, f"{ERASED_PREFIX}0", "Kanarie", "Spatz"], pa.string()))
    assert not values.contains_all("name", "name", pa.array(["Spatz", "Meise"], pa.string()))
    assert not values.contains_all("name", "name", pa.array(["Am Käfig 7"], pa.string()))
    assert values.contains_all("phone", "phone", pa.array([None], pa.string()))
    assert not values.contains_all("phone", "phone", pa.array(["123"], pa.string()))


def test_texts_can_be_prefetched_again() -> None:
    sought = ValueMatcher(connect, max_in_memory=1)
    sought.add("surname", "name", ["Spatzig", "Quarkstrom"])
    for texts in (["Ms Spatzig"], ["Ms Spatzig"], []):
        sought.prefetch(texts)
    assert not sought.in_memory
