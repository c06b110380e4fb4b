"""HTML and Markdown out of notebooks, made safe and still: nothing runs, nothing is fetched, nothing breaks the page."""

from __future__ import annotations

import re
from html import escape
from html.parser import HTMLParser
from typing import Any, Dict, FrozenSet, List, Optional, Set, Tuple

from markupsafe import Markup
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath

_VOID_TAGS = frozenset({"br", "hr", "img", "wbr"})
_ALLOWED_TAGS = _VOID_TAGS | {
    *(
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "p",
        "div",
        "blockquote",
        "pre",
        "figure",
        "figcaption",
        "details",
        "summary",
    ),
    *("ul", "ol", "li", "dl", "dt", "dd"),
    *("table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td"),
    *("span", "b", "strong", "i", "em", "u", "s", "del", "ins", "mark", "small", "sub", "sup", "abbr"),
    *("code", "kbd", "samp", "tt", "var"),
}
# Left out together with what they hold. <style> goes silently: pandas puts one before every table.
_DROPPED_TAGS = frozenset(
    {
        *("script", "style", "template", "noscript", "title", "applet", "iframe", "object", "canvas", "svg", "math"),
        *("audio", "video", "form", "button", "select", "textarea"),
    }
)
# An opening tag closes these open ones, as browsers do.
_IMPLICITLY_CLOSED_TAGS = {
    "thead": ("td", "th", "tr", "thead", "tbody"),
    "tbody": ("td", "th", "tr", "thead", "tbody"),
    "tfoot": ("td", "th", "tr", "thead", "tbody"),
    "tr": ("td", "th", "tr"),
    "td": ("td", "th"),
    "th": ("td", "th"),
    "li": ("li",),
    "p": ("p",),
    "dt": ("dt", "dd"),
    "dd": ("dt", "dd"),
}
HARMLESS_TAGS = _ALLOWED_TAGS - {"img"}
"""Tags that do nothing and load nothing where they have no attributes."""
_NOT_CONTENT = re.compile(r'<span class="left-out">[^<]*</span>|<[^>]*>')
_OWN_SPAN_CLASSES = ("address", "left-out")
_OWN_BLOCK_CLASSES = ("highlight", "table-wrap", "table-wrap wide")
"""Classes of what this module makes, which stay when it is cleaned again."""
_TABLE_FRAME, _WIDE_TABLE_FRAME = '<div class="table-wrap">', '<div class="table-wrap wide">'
_IMAGE_URL = re.compile(r"data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=\s]+\Z")
_TEXT_ALIGN = re.compile(r"text-align\s*:\s*(left|right|center)\b", re.IGNORECASE)
_TOKEN_CLASS = re.compile(r"[a-z][a-z0-9]{0,2}\Z")  # what Pygments gives a token
_WIDE_TABLE_COLUMNS = 10
_SPAN_VALUE = re.compile(r"[1-9][0-9]{0,2}\Z")

_NUMBER = re.compile(r"(?=[-+−]?[\d.])[-+−]?(?:\d{1,3}(?:[,\u00a0\u202f ]\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?(?:\s?%)?\Z")
_MISSING_VALUES = frozenset({"", "NaN", "nan", "NaT", "None", "<NA>", "NULL", "–", "-", "...", "…"})


def sanitize_html(markup: str) -> Markup:
    """What is harmless of an HTML fragment, balanced, with tables aligned and scrollable.

    Scripts, styles, forms, frames, links and anything from elsewhere are left out; a link's address stays as text.
    """
    return _Sanitizer().clean(markup)


def has_visible_content(clean: str) -> bool:
    """Return whether cleaned HTML has anything to see besides what was left out of it."""
    return "<img" in clean or bool(_NOT_CONTENT.sub("", clean).strip())


def render_markdown(source: str, attachments: Optional[Dict[str, Any]] = None) -> Markup:
    """A Markdown cell or output as clean HTML; its source as it stands if it names an attachment that is not there."""
    renderer = IPythonRenderer(escape=False, exclude_anchor_links=True, attachments=attachments or {})
    try:
        html = MarkdownWithMath(renderer=renderer).render(source)
    except InvalidNotebook:
        html = f"<pre>{escape(source)}</pre>"
    return sanitize_html(html)


class _Table:
    """One open table: where its cells begin in the output, and what they say."""

    def __init__(self, start: int, frame: bool) -> None:
        self.rows: List[List[_Cell]] = []
        self.start = start  # index of the opening tag in the output; its frame stands before it
        self.frame = frame
        self.in_head = False

    def is_wide(self) -> bool:
        """Whether paper needs smaller print for it."""
        return max(map(len, self.rows), default=0) > _WIDE_TABLE_COLUMNS

    def numeric_columns(self) -> FrozenSet[int]:
        """Columns, counted from the right, that hold numbers or nothing in every body cell, and a number in one.

        From the right, because the cells that span rows (a pandas index) stand on the left.
        """
        numbers: Set[int] = set()
        others: Set[int] = set()
        for row in self.rows:
            for position, cell in enumerate(reversed(row)):
                text = "".join(cell.text).strip()
                if cell.tag == "td" and text not in _MISSING_VALUES:
                    (numbers if _NUMBER.match(text) else others).add(position)
        return frozenset(numbers - others)


class _Cell:
    def __init__(self, tag: str, start: int, in_head: bool) -> None:
        self.tag = tag
        self.start = start  # index of the opening tag in the output
        self.in_head = in_head
        self.text: List[str] = []


class _Sanitizer(HTMLParser):
    """Writes while it reads, so that no depth of nesting exhausts the stack."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: List[str] = []
        self._open: List[str] = []
        self._tables: List[_Table] = []
        self._links: List[Tuple[str, int]] = []  # address, and where its label begins
        self._dropped: Optional[str] = None
        self._dropped_depth = 0

    def clean(self, markup: str) -> Markup:
        self.feed(markup)
        self.close()
        while self._links:
            self._close_link()
        while self._open:
            self._close_last()
        return Markup("".join(self._out))  # noqa: S704 - built from the allow-list and escaped text only

    # What the parser calls

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        if self._dropped:
            self._dropped_depth += tag == self._dropped
            return
        values = {name: value or "" for name, value in attrs}
        if tag in _DROPPED_TAGS:
            self._dropped, self._dropped_depth = tag, 1
            if tag != "style":
                self._note(f"{tag} left out")
        elif tag == "a":
            self._links.append((values.get("href", ""), len(self._out)))
        elif tag == "img":
            self._picture(values)
        elif tag in _ALLOWED_TAGS:
            self._close_implied(tag)
            self._open_tag(tag, values)

    def handle_endtag(self, tag: str) -> None:
        if self._dropped:
            if tag == self._dropped:
                self._dropped_depth -= 1
                if not self._dropped_depth:
                    self._dropped = None
        elif tag == "a" and self._links:
            self._close_link()
        elif tag in self._open:
            while self._close_last() != tag:
                pass

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """Read ``<![`` as browsers do. The parser raises an AssertionError for words it does not know."""
        return self.parse_bogus_comment(i, report)

    def handle_data(self, data: str) -> None:
        if self._dropped:
            return
        self._out.append(escape(data))
        if self._tables and self._tables[-1].rows and self._tables[-1].rows[-1]:
            self._tables[-1].rows[-1][-1].text.append(data)

    # What is written

    def _open_tag(self, tag: str, values: Dict[str, str]) -> None:
        if tag == "table":
            frame = not self._tables and self._out[-1:] not in ([_TABLE_FRAME], [_WIDE_TABLE_FRAME])  # It was cleaned before.
            if frame:
                self._out.append(_TABLE_FRAME)
            self._tables.append(_Table(len(self._out), frame))
        elif self._tables:
            self._note_table_part(tag)
        self._out.append(f"<{tag}{_format_attributes(tag, values)}>")
        if tag not in _VOID_TAGS:
            self._open.append(tag)

    def _note_table_part(self, tag: str) -> None:
        table = self._tables[-1]
        if tag in ("thead", "tbody", "tfoot"):
            table.in_head = tag == "thead"
        elif tag == "tr":
            table.rows.append([])
        elif tag in ("td", "th") and table.rows:
            table.rows[-1].append(_Cell(tag, len(self._out), table.in_head))

    def _close_last(self) -> str:
        tag = self._open.pop()
        self._out.append(f"</{tag}>")
        if tag == "table":
            table = self._tables.pop()
            self._align(table)
            if table.frame:
                self._out.append("</div>")
            if table.frame and table.is_wide():
                self._out[table.start - 1] = _WIDE_TABLE_FRAME
        return tag

    def _close_implied(self, tag: str) -> None:
        while self._open and self._open[-1] in _IMPLICITLY_CLOSED_TAGS.get(tag, ()):
            self._close_last()

    def _align(self, table: _Table) -> None:
        numeric = table.numeric_columns()
        for row in table.rows:
            for position, cell in enumerate(reversed(row)):
                if position in numeric and (cell.tag == "td" or cell.in_head):
                    self._out[cell.start] = self._out[cell.start].replace(f"<{cell.tag}", f'<{cell.tag} class="num"', 1)

    def _close_link(self) -> None:
        address, start = self._links.pop()
        label = "".join(self._out[start:])
        if re.match(r"(?:https?|mailto):", address, re.IGNORECASE) and escape(address) not in label:
            self._out.append(f' <span class="address">({escape(address)})</span>')

    def _picture(self, values: Dict[str, str]) -> None:
        source, alt = values.get("src", ""), values.get("alt", "")
        if _IMAGE_URL.match(source):
            self._out.append(f'<img src="{escape(source)}" alt="{escape(alt)}">')
        else:
            self._note(f"picture left out: {alt or source[:200]}")

    def _note(self, text: str) -> None:
        self._out.append(f'<span class="left-out">[{escape(text)}]</span>')


def _format_attributes(tag: str, values: Dict[str, str]) -> str:
    """The attributes that may stay. No ids and no classes of the page: content cannot pose as the frame around it."""
    kept = []
    if tag == "details":
        kept.append(" open")  # on paper nobody unfolds it
    if tag in ("td", "th"):
        kept += [f' {name}="{values[name]}"' for name in ("colspan", "rowspan") if _SPAN_VALUE.match(values.get(name, ""))]
        align = _TEXT_ALIGN.search(values.get("style", ""))
        if align:
            kept.append(f' style="text-align: {align.group(1).lower()}"')
    if tag == "ol" and _SPAN_VALUE.match(values.get("start", "")):
        kept.append(f' start="{values["start"]}"')
    if tag == "span" and (_TOKEN_CLASS.match(values.get("class", "")) or values.get("class") in _OWN_SPAN_CLASSES):
        kept.append(f' class="{values["class"]}"')
    if tag == "div" and values.get("class") in _OWN_BLOCK_CLASSES:
        kept.append(f' class="{values["class"]}"')
    if "title" in values and tag in ("abbr", "span", "td", "th"):
        kept.append(f' title="{escape(values["title"])}"')
    return "".join(kept)
