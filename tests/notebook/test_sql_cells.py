"""Test which name and which SQL a cell defines."""

from __future__ import annotations

import pytest

from daybook.errors import UsageError
from daybook.notebook.sql_cells import read_definition


@pytest.mark.parametrize(
    ("source", "definition"),
    [
        ("%%sql gold.sales --rows 5\nSELECT 1\nFROM lines;\n", ("gold.sales", "SELECT 1\nFROM lines")),
        ("\n%%sql --quiet lines\nSELECT 1", ("lines", "SELECT 1")),
        ("%%sql --as top --quiet\nSELECT 1", ("", "")),
        ("%%sql\nSELECT 1", ("", "")),
        ("%%sqlite sales\nSELECT 1", ("", "")),
        ("x = 1", ("", "")),
        ("", ("", "")),
    ],
)
def test_definition_is_the_name_after_the_magic(source: str, definition: tuple[str, str]) -> None:
    assert read_definition(source) == definition


def test_wrong_option_is_an_error() -> None:
    with pytest.raises(UsageError, match="%%sql does not know '--qiet'; write %%sql"):
        read_definition("%%sql sales --qiet\nSELECT 1")
