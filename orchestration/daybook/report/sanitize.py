"""Make HTML and Markdown of notebooks safe to embed: nothing runs, nothing is fetched, and the page stays whole.

nh3 removes what is not allowed and balances the rest. The class below adds what no sanitizer does: columns of numbers are
aligned, and links and remote pictures become text.
"""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from typing import Any, Dict, FrozenSet, List, Optional, Set, Tuple

import nh3
from markupsafe import Markup
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath
from pygments.token import STANDARD_TYPES

from daybook.records.mime import IMAGE_TYPES, SVG_TYPE

HARMLESS_TAGS = frozenset(
    {
        *("h1", "h2", "h3", "h4", "h5", "h6", "p", "div", "blockquote", "pre", "figure", "figcaption", "details", "summary"),
        *("ul", "ol", "li", "dl", "dt", "dd", "br", "hr", "wbr"),
        *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
        *("span", "b", "strong", "i", "em", "u", "s", "del", "ins", "mark", "small", "sub", "sup", "abbr"),
        *("code", "kbd", "samp", "tt", "var"),
    }
)
"""Tags that run nothing and load nothing where they have no attributes."""
# These tags are removed with their content and replaced by a note.
_DROPPED_TAGS = frozenset(
    {
        *("script", "template", "noscript", "applet", "iframe", "object", "canvas", "svg", "math"),
        *("audio", "video", "form", "button", "select", "textarea"),
    }
)
# pandas puts a style sheet before every table, and drawings have titles: they are removed without a note.
_SILENTLY_DROPPED_TAGS = frozenset({"style", "title"})
_DROPPED_TAG = re.compile(rf"<(/?)({'|'.join(sorted(_DROPPED_TAGS))})\b", re.IGNORECASE)
_NOTE = re.compile(r'<span class="left-out">[^<]*</span>')
_ANY_TAG = re.compile(r"<[^>]*>")
# No ids and no other classes of the page: content cannot pose as a part of it.
_CLASSES = {
    "div": frozenset({"highlight"}),
    "span": frozenset({"address", "left-out", *STANDARD_TYPES.values()} - {""}),
    "td": frozenset({"num"}),
    "th": frozenset({"num"}),
}
_CELL_ATTRIBUTES = {"class", "colspan", "rowspan", "style", "title"}
_TEXT_ALIGN = re.compile(r"text-align\s*:\s*(left|right|center)\b", re.IGNORECASE)
_IMAGE_URL = re.compile(rf"data:(?:{'|'.join(map(re.escape, [*IMAGE_TYPES, SVG_TYPE]))});base64,[A-Za-z0-9+/=\s]+")
_SHOWN_ADDRESS = re.compile(r"(?:https?|mailto):", re.IGNORECASE)

_NUMBER = re.compile(r"(?=[-+−]?[\d.])[-+−]?(?:\d{1,3}(?:[,\u00a0\u202f ]\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s?%)?")
_MISSING_VALUES = frozenset({"", "NaN", "nan", "NaT", "None", "<NA>", "NULL", "–", "-", "...", "…"})

_MAX_CACHED_TEXTS = 200
_MAX_READINGS = 10
_cache: Dict[str, Markup] = {}
"""Sanitized HTML by the HTML it was made of, and by itself: an output that did not change is not sanitized again."""


def sanitize_html(markup: str) -> Markup:
    """Return what is harmless in an HTML fragment, balanced, with columns of numbers aligned.

    Scripts, styles, forms and frames are removed. Links and pictures from elsewhere are replaced by their addresses.
    """
    clean = _cache.get(markup)
    if clean is None:
        clean = _sanitize(markup)
        if len(_cache) >= _MAX_CACHED_TEXTS:
            _cache.clear()
        _cache[markup] = _cache[str(clean)] = clean
    return clean


def _sanitize(markup: str) -> Markup:
    # What a browser reads can nest differently from what nh3 wrote: in "<li><table><li>" the second item moves in front of the
    # table, inside the first, which it closes when it is read again. Unbalanced parts would close elements of the page.
    clean = _format(_CLEANER.clean(_note_dropped_tags(markup)))
    for _ in range(_MAX_READINGS):
        read_again = _format(_CLEANER.clean(clean))
        if read_again == clean:
            return clean
        clean = read_again
    return Markup("<pre>{}</pre>").format(markup)


def _format(html: str) -> Markup:
    formatter = _Formatter()
    formatter.feed(html)
    return formatter.finish()


def has_visible_content(clean: str) -> bool:
    """Return whether sanitized HTML shows anything besides notes on what was removed."""
    return "<img" in clean or bool(_ANY_TAG.sub("", _NOTE.sub("", clean)).strip())


def render_markdown(source: str, attachments: Optional[Dict[str, Any]] = None) -> Markup:
    """Return Markdown as sanitized HTML, or its source if it names an attachment that is missing."""
    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True, attachments=attachments or {})
    try:
        html = MarkdownWithMath(renderer=renderer).render(source)
    except InvalidNotebook:
        html = f"<pre>{escape(source)}</pre>"
    return sanitize_html(html)


def _note_dropped_tags(markup: str) -> str:
    """Return HTML with a note in front of each element that will be removed, except inside another one."""
    dropped = ""

    def add_note(found: re.Match[str]) -> str:
        nonlocal dropped
        closing, tag = found[1], found[2].lower()
        if dropped or closing:
            if closing and tag == dropped:
                dropped = ""
            return found[0]
        dropped = tag
        # Without quotation marks, because the text may be inside the value of an attribute.
        return f"<span class=left-out>[{tag} left out]</span>{found[0]}"

    return _DROPPED_TAG.sub(add_note, markup)


def _filter_attribute(tag: str, name: str, value: str) -> Optional[str]:
    if name == "class":
        return value if value in _CLASSES[tag] else None
    if name == "style":
        align = _TEXT_ALIGN.search(value)
        return f"text-align: {align[1].lower()}" if align else None
    return value


_CLEANER = nh3.Cleaner(
    tags={*HARMLESS_TAGS, "a", "img"},
    clean_content_tags={*_DROPPED_TAGS, *_SILENTLY_DROPPED_TAGS},
    attributes={
        "a": {"href"},
        "abbr": {"title"},
        "div": {"class"},
        "img": {"src", "alt"},
        "ol": {"start"},
        "span": {"class", "title"},
        "td": _CELL_ATTRIBUTES,
        "th": _CELL_ATTRIBUTES,
    },
    attribute_filter=_filter_attribute,
    set_tag_attribute_values={"details": {"open": ""}},  # A printed page cannot be unfolded.
    url_schemes={"http", "https", "mailto", "data"},
    link_rel=None,
)


class _Cell:
    def __init__(self, tag: str, start: int, in_head: bool) -> None:
        self.tag = tag
        self.start = start  # index of the opening tag in the output
        self.in_head = in_head
        self.text: List[str] = []


class _Table:
    """An open table: its rows of cells."""

    def __init__(self) -> None:
        self.rows: List[List[_Cell]] = []
        self.in_head = False

    def numeric_columns(self) -> FrozenSet[int]:
        """Return the columns, counted from the right, whose body cells hold numbers or missing values and at least one number.

        They are counted from the right, because the cells that span rows (a pandas index) are on the left.
        """
        numbers: Set[int] = set()
        others: Set[int] = set()
        for row in self.rows:
            for position, cell in enumerate(reversed(row)):
                text = "".join(cell.text).strip()
                if cell.tag == "td" and text not in _MISSING_VALUES:
                    (numbers if _NUMBER.fullmatch(text) else others).add(position)
        return frozenset(numbers - others)


class _Formatter(HTMLParser):
    """Copy the HTML that nh3 returns, with columns of numbers marked, and links and remote pictures as text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: List[str] = []
        self._tables: List[_Table] = []
        self._links: List[Tuple[str, int]] = []  # address, and the index in the output at which its label begins

    def finish(self) -> Markup:
        self.close()
        return Markup("".join(self._out))  # noqa: S704 - made of sanitized HTML and escaped text only

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        if tag == "a":
            self._links.append((dict(attrs).get("href") or "", len(self._out)))
        elif tag == "img":
            self._add_image(dict(attrs))
        else:
            self._track_table_part(tag)
            self._out.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "a":
            address, start = self._links.pop()
            if _SHOWN_ADDRESS.match(address) and escape(address) not in "".join(self._out[start:]):
                self._out.append(f' <span class="address">({escape(address)})</span>')
            return
        self._out.append(f"</{tag}>")
        if tag == "table":
            self._mark_numbers(self._tables.pop())

    def handle_data(self, data: str) -> None:
        self._out.append(escape(data, quote=False))
        if self._tables and self._tables[-1].rows and self._tables[-1].rows[-1]:
            self._tables[-1].rows[-1][-1].text.append(data)

    def _add_image(self, values: Dict[str, Optional[str]]) -> None:
        source, alt = values.get("src") or "", values.get("alt") or ""
        if _IMAGE_URL.fullmatch(source):
            self._out.append(f'<img src="{escape(source)}" alt="{escape(alt)}">')
        else:
            self._out.append(f'<span class="left-out">[picture left out: {escape(alt or source[:200])}]</span>')

    def _track_table_part(self, tag: str) -> None:
        if tag == "table":
            self._tables.append(_Table())
        elif self._tables:
            table = self._tables[-1]
            if tag in ("thead", "tbody", "tfoot"):
                table.in_head = tag == "thead"
            elif tag == "tr":
                table.rows.append([])
            elif tag in ("td", "th"):
                table.rows[-1].append(_Cell(tag, len(self._out), table.in_head))

    def _mark_numbers(self, table: _Table) -> None:
        numeric = table.numeric_columns()
        for row in table.rows:
            for position, cell in enumerate(reversed(row)):
                opening = self._out[cell.start]
                if position in numeric and (cell.tag == "td" or cell.in_head) and 'class="num"' not in opening:
                    self._out[cell.start] = opening.replace(f"<{cell.tag}", f'<{cell.tag} class="num"', 1)
