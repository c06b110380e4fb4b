"""Test that HTML and Markdown of notebooks come out harmless, balanced and aligned, with notes on what was removed."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daybook.report import sanitize
from daybook.report.sanitize import render_markdown, sanitize_html


@pytest.mark.parametrize(
    "markup",
    [
        "<script>alert(1)</script>",
        "<ScRiPt src=https://evil.example/x.js></ScRiPt>",
        "<script>alert(1)",
        "<img src=x onerror=alert(1)>",
        '<img src="https://evil.example/track.png">',
        '<img src="//evil.example/track.png">',
        '<img src="data:text/html;base64,PHNjcmlwdD4=">',
        "<a href='javascript:alert(1)' onclick='alert(1)'>press</a>",
        "<svg><script>alert(1)</script></svg>",
        "<math><mi xlink:href='javascript:alert(1)'>x</mi></math>",
        "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
        "<link rel=stylesheet href=https://evil.example/x.css>",
        "<meta http-equiv=refresh content='0;url=https://evil.example'>",
        "<form action=https://evil.example><input name=a></form>",
        "<td style='background:url(https://evil.example/x)'>1</td>",
        "<div style='position:fixed;inset:0'>cover</div>",
        "<p title='\"><script>alert(1)</script>'>x</p>",
        "<span title='\"><script>alert(1)</script>'>x</span>",
        "<!--><script>alert(1)</script>-->",
        "<![CDATA[<script>alert(1)</script>]]>",
        "<noscript><p title='</noscript><img src=x onerror=alert(1)>'></noscript>",
        "<textarea></textarea><script>alert(1)</script>",
    ],
)
def test_hostile_html_runs_and_fetches_nothing(markup, read_page):
    page = read_page(sanitize_html(markup))
    page.assert_inert()
    assert not {"svg", "math", "link", "meta", "input", "style"} & set(page.tags)
    assert all(value.startswith("text-align") for value in page.values("style"))


PIECES = (
    *("<div>", "</div>", "<table>", "</table>", "<tr>", "<td>", "</td>", "<p>", "<li>", "<a href='x'>", "</a>", "<b>"),
    *(
        "</li>",
        "<h1>",
        "<h2>",
        "<marquee>",
        "</marquee>",
        "</b>",
        "<script>",
        "</script>",
        "<svg>",
        "</svg>",
        "<img src=x onerror=y>",
        "<b onclick=z ",
        "<br/>",
    ),
    *("<", ">", "</", "<!--", "-->", '"', "&lt;script&gt;", "text"),
)


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_html_comes_out_balanced_and_safe(read_page, markup):
    cleaned = str(sanitize_html(markup))
    read_page(cleaned).assert_inert()
    for tag in ("div", "table", "tr", "td", "p", "li", "b"):
        assert cleaned.count(f"<{tag}>") + cleaned.count(f"<{tag} ") == cleaned.count(f"</{tag}>")


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@example("<li><div><div><marquee><li>x</marquee></div></div></li>")
def test_sanitized_html_closes_no_element_around_it(markup):
    cleaned = str(sanitize_html(markup)).replace("\xa0", "&nbsp;")
    page = f"<div><div>{cleaned}</div>end</div>"
    assert sanitize._CLEANER.clean(page) == page


@given(st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
@example("<li><table><li>")
@example("<h1><a href='x'><h2>")
def test_sanitizing_twice_changes_nothing(markup):
    once = str(sanitize_html(markup))
    sanitize._cache.clear()
    assert str(sanitize_html(once)) == once


def test_content_of_drawings_and_scripts_does_not_leak():
    assert str(sanitize_html("<svg><script>a()</script><text>label</text></svg>b")) == (
        '<span class="left-out">[svg left out]</span>b'
    )
    assert sanitize_html("<script>'<svg>'</script><svg></svg>").count("left-out") == 2


def test_deep_nesting_is_balanced():
    cleaned = str(sanitize_html("<div>" * 20_000 + "deep"))
    assert cleaned.count("</div>") == 20_000


def test_removed_elements_leave_a_note_in_place():
    assert "[script left out]" in sanitize_html("a<script>alert(1)</script>b")
    assert "[picture left out: https://evil.example/x.png]" in sanitize_html('<img src="https://evil.example/x.png">')


def test_pandas_style_sheet_is_removed_without_a_note():
    cleaned = sanitize_html("<style scoped>.dataframe {}</style><table><tr><td>1</td></tr></table>")
    assert "left out" not in cleaned
    assert "dataframe" not in cleaned


def test_link_becomes_its_label_and_address():
    assert "(https://example.com/a?b=1&amp;c=2)" in sanitize_html('<a href="https://example.com/a?b=1&c=2">the contract</a>')
    assert str(sanitize_html('<a href="https://example.com">https://example.com</a>')) == "https://example.com"
    assert str(sanitize_html('<a href="#top">up</a>')) == "up"


def test_only_columns_of_numbers_are_marked():
    cleaned = sanitize_html(
        "<table><thead><tr><th></th><th>city</th><th>orders</th><th>share</th></tr></thead><tbody>"
        "<tr><th>0</th><td>Köln</td><td>1,204</td><td>98.7%</td></tr>"
        "<tr><th>1</th><td>12</td><td>NaN</td><td>-1e-05</td></tr></tbody></table>"
    )
    assert '<th class="num">orders</th>' in cleaned
    assert '<td class="num">NaN</td>' in cleaned
    assert '<td class="num">-1e-05</td>' in cleaned
    assert "<th>city</th>" in cleaned
    assert "<td>12</td>" in cleaned
    assert "<th>0</th>" in cleaned
    assert sanitize_html("<table><tr><td>1</td></tr></table>") == (
        '<table><tbody><tr><td class="num">1</td></tr></tbody></table>'
    )


def test_columns_are_matched_when_index_cells_span_rows():
    cleaned = sanitize_html(
        '<table><tbody><tr><th rowspan="2">delivered</th><th>Köln</th><td>x</td><td>4</td></tr>'
        "<tr><th>Wien</th><td>y</td><td>5</td></tr></tbody></table>"
    )
    assert '<td class="num">4</td>' in cleaned
    assert '<td class="num">5</td>' in cleaned
    assert "<td>y</td>" in cleaned


def test_details_are_open_for_print():
    assert '<details open="">' in sanitize_html("<details><summary>more</summary>rows</details>")


def test_ids_and_classes_of_the_page_are_removed():
    cleaned = sanitize_html('<div id="cell-1" class="failure"><span class="badge o-succeeded">SUCCEEDED</span></div>')
    assert str(cleaned) == "<div><span>SUCCEEDED</span></div>"


def test_markdown_tables_lists_and_code_are_rendered():
    html = render_markdown("| a | n |\n|:--|--:|\n| x | 1 |\n\n- one\n\n```python\nprint(1)\n```")
    assert '<th style="text-align: left">a</th>' in html
    assert '<td class="num" style="text-align: right">1</td>' in html
    assert "<li>one" in html
    assert '<div class="highlight"><pre>' in html
    assert '<span class="nb">print</span>' in html


def test_markdown_with_missing_attachment_shows_source():
    assert "![plot](attachment:gone.png)" in render_markdown("![plot](attachment:gone.png)")


def test_markdown_shows_an_attached_picture():
    attachments = {"p.png": {"image/png": "iVBORw0KGgo="}}
    assert '<img src="data:image/png;base64,iVBORw0KGgo="' in render_markdown("![plot](attachment:p.png)", attachments)
