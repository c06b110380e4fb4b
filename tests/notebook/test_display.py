"""Test the display of values, listings and results, in a notebook and as text."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook.notebook.display import FactList, Listing, StageResult, short_path


def lines(shown: object) -> list[list[str]]:
    """Return the words of each line of a text."""
    return [line.split() for line in repr(shown).splitlines()]


def test_text_listing_aligns_numbers_right_and_text_left() -> None:
    shown = Listing(["name", "orders"], [("ant", 1), ("elephant", 1000)])
    assert repr(shown).splitlines() == [
        "name      orders",
        "--------  ------",
        "ant            1",
        "elephant   1,000",
    ]


def test_html_listing_has_a_cell_per_value() -> None:
    shown = Listing(["name", "orders"], [("ant", 1), ("bee", 1000)])._repr_html_()
    assert shown.count("<th ") == 2
    assert shown.count("<td ") == 4
    assert ">1,000</td>" in shown


def test_values_are_escaped_in_html() -> None:
    shown = Listing(["<b>"], [("<script>alert(1)</script>",)])._repr_html_() + FactList({"<i>": "<u>"})._repr_html_()
    assert not [tag for tag in ("<b>", "<script>", "<i>", "<u>") if tag in shown]
    assert "&lt;script&gt;" in shown


def test_listing_without_rows_keeps_its_columns() -> None:
    shown = Listing(["name", "orders"], [], total=0)
    assert "no rows" in shown._repr_html_()
    assert ">orders</th>" in shown._repr_html_()
    assert lines(shown) == [["name", "orders"], ["----", "------"], ["0", "rows"]]


def test_percent_column_is_shown_in_percent() -> None:
    assert lines(Listing(["share", "other"], [(0.5, 0.5)], percent=["share"]))[2] == ["50.0%", "0.50"]


@pytest.mark.parametrize(
    ("rows", "total", "caption"),
    [
        (1, 1, "1 row"),
        (3, 3, "3 rows"),
        (2, 1234, "1,234 rows, the first 2"),
    ],
)
def test_caption_has_the_number_of_rows(rows: int, total: int, caption: str) -> None:
    shown = Listing(["n"], [(n,) for n in range(rows)], total=total)
    assert repr(shown).splitlines()[-1] == caption
    assert caption in shown._repr_html_()


def test_without_a_total_there_is_no_caption() -> None:
    assert "row" not in repr(Listing(["n"], [(1,)])) + Listing(["n"], [(1,)])._repr_html_()


@pytest.mark.parametrize(("cut", "shown"), [(True, ["01234567…", "·", "a"]), (False, ["01234567" * 4, "·", "a"])])
def test_pseudonyms_are_cut_on_request(cut: bool, shown: list[str]) -> None:
    listing = Listing(["key", "none", "text"], [("01234567" * 4, None, "a")], shorten_pseudonyms=cut)
    assert lines(listing)[2:] == [shown]
    assert ("01234567" * 2 in listing._repr_html_()) != cut


@pytest.mark.parametrize("name", ["id", "order_id", "CustomerID", "row number", "InvoiceNo", "_row_number", "sequence"])
def test_identifying_number_is_not_grouped(name: str) -> None:
    assert lines(Listing([name], [(536365,)]))[2] == ["536365"]


@pytest.mark.parametrize("name", ["paid", "orders", "piano", "units"])
def test_count_is_grouped(name: str) -> None:
    assert lines(Listing([name], [(536365,)]))[2] == ["536,365"]


def test_note_has_a_line_per_fact() -> None:
    note = FactList({"Shop": "Demo shop", "Business date": "2025-11-30"})
    assert repr(note) == "Shop           Demo shop\nBusiness date  2025-11-30"
    assert note._repr_html_().count("<tr>") == 2


def test_long_fact_is_wrapped_between_words() -> None:
    words = [f"word{number}" for number in range(40)]
    note = FactList({"Why": " ".join(words), "Rows": "1"})
    assert max(len(line) for line in repr(note).splitlines()) <= 110
    assert repr(note).split() == ["Why", *words, "Rows", "1"]
    assert note._repr_html_().count("<br>") == len(repr(note).splitlines()) - 2


def test_result_has_outcome_rows_and_tables() -> None:
    shown = StageResult("transform", "SUCCEEDED", [], {"in": 1200, "out": 3, "rejected": None}, {"silver.orders": 7})
    text = repr(shown)
    assert "✓ SUCCEEDED" in text
    assert "1,200 in, 3 out" in text
    assert "rejected" not in text
    assert "Why" not in text
    assert "orders (version 7)" in text


@pytest.mark.parametrize(("outcome", "mark"), [("SKIPPED", "–"), ("REJECTED", "✗"), ("FAILED", "!")])
def test_result_has_its_reasons(outcome: str, mark: str) -> None:
    shown = StageResult("quality", outcome, ["no trade", "no <data>"], {"in": 0}, {})
    assert lines(shown)[0] == ["Outcome", mark, outcome]
    assert lines(shown)[1] == ["Why", "no", "trade;", "no", "<data>"]
    assert "no &lt;data&gt;" in shown._repr_html_()


def test_path_in_the_home_folder_is_shortened() -> None:
    assert short_path(f"{Path.home()}/shop/lake") == "~/shop/lake"


@pytest.mark.parametrize("location", ["s3://bucket/lake", f"{Path.home()}ette/lake"])
def test_other_path_is_unchanged(location: str) -> None:
    assert short_path(location) == location
