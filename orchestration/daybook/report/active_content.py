"""Remove from executed notebooks what runs or loads when they are opened in Jupyter, exported by nbconvert or put on a page."""

from __future__ import annotations

import re
from base64 import b64encode
from html import unescape
from typing import Any, Optional

from nbformat import NotebookNode

from daybook.records.mime import IMAGE_TYPES, JSON_TYPES, SVG_TYPE, TEXT_TYPES
from daybook.records.names import OMITTED_OUTPUT_KEY
from daybook.report.sanitize import HARMLESS_TAGS, has_visible_content, sanitize_html

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_IMAGE_ATTRIBUTES = ("width", "height", "alt")
# Browsers ignore these characters in the scheme of a URL, and Markdown ignores a backslash in front of a character.
_IGNORED_CHARACTERS = re.compile(r"[\x00-\x20\\]+")
_ACTIVE_URL = re.compile(r"(?:javascript|vbscript|livescript):|data:[a-z]+/", re.IGNORECASE)
_HARMLESS_MARKUP = re.compile(rf"</?(?:{'|'.join(sorted(HARMLESS_TAGS))})\s*/?>|<https?://[^\s<>\"'`]*>", re.IGNORECASE)
_CODE_BLOCK = re.compile(r"(```+)\n(.*)\n\1", re.DOTALL)
_TAG = re.compile(r"<[A-Za-z/!?]")


def remove_active_content(notebook: NotebookNode) -> None:
    """Remove scripts, event handlers, frames, widgets and other active content from a notebook, in place.

    A second call changes nothing. An output that has no harmless form is replaced by a note.
    """
    for key in ("widgets", "trusted", "signature"):
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        remove_active_cell_content(cell)


def remove_active_cell_content(cell: NotebookNode) -> None:
    """Remove active content from one cell, in place. Markdown and raw cells that hold it become blocks of code."""
    cell.metadata.pop("trusted", None)
    if cell.cell_type != "code" and _may_be_active(cell.source):
        cell.cell_type, cell.source = "markdown", _format_code_block(cell.source)
    for name, bundle in cell.get("attachments", {}).items():
        cell.attachments[name] = {mime: data for mime, data in bundle.items() if _is_image(mime, data)}
    for output in cell.get("outputs", []):
        if output.output_type in ("display_data", "execute_result"):
            _remove_active_output(output)


def join_lines(text: Any) -> Any:
    """Return a multi-line string of the notebook format, which may be a list of lines, as one string."""
    return "".join(text) if isinstance(text, list) and all(isinstance(line, str) for line in text) else text


def _remove_active_output(output: NotebookNode) -> None:
    given = {str(mime): join_lines(data) for mime, data in output.data.items()}
    kept = {mime: harmless for mime, data in given.items() if (harmless := _sanitize_data(mime, data)) is not None}
    if "text/html" in kept and not has_visible_content(kept["text/html"]) and len(kept) > 1:
        del kept["text/html"], given["text/html"]  # The HTML of a widget is a script and little else.
    drawing = given.get(SVG_TYPE)
    if isinstance(drawing, str) and "text/html" not in kept:
        # The scripts of a drawing do not run in an img element.
        encoded = b64encode(drawing.encode()).decode()
        kept["text/html"] = str(sanitize_html(f'<img src="data:{SVG_TYPE};base64,{encoded}" alt="Plot">'))
        del given[SVG_TYPE]
    left_out = ", ".join(sorted(given.keys() - kept.keys()))
    if left_out or not kept:
        note = f"[output left out: {left_out or 'no data'}]"
        kept["text/plain"] = "\n".join(filter(None, (kept.get("text/plain"), note)))
    output.data = NotebookNode(kept)
    metadata = output.get("metadata", {})
    output.metadata = NotebookNode(
        {
            mime: {key: about[key] for key in _IMAGE_ATTRIBUTES if key in about}
            for mime, about in metadata.items()
            if mime in kept and mime in IMAGE_TYPES and isinstance(about, dict)
        }
    )
    if OMITTED_OUTPUT_KEY in metadata:
        output.metadata[OMITTED_OUTPUT_KEY] = metadata[OMITTED_OUTPUT_KEY]


def _sanitize_data(mime: str, data: Any) -> Optional[Any]:
    """Return the harmless form of one representation of an output, or None if it has none."""
    if mime in JSON_TYPES or _is_image(mime, data):
        return data
    if mime not in TEXT_TYPES or not isinstance(data, str):
        return None
    if mime == "text/html":
        return str(sanitize_html(data))
    if mime == "text/plain" or not _may_be_active(data):
        return data
    return _format_code_block(data) if mime == "text/markdown" else None


def _is_image(mime: str, data: Any) -> bool:
    return mime in IMAGE_TYPES and isinstance(data, str) and _BASE64.fullmatch("".join(data.split())) is not None


def _may_be_active(text: str) -> bool:
    """Return whether any Markdown parser could find active HTML or an active link in a text."""
    block = _CODE_BLOCK.fullmatch(text)
    if block and block[1] not in block[2]:
        return False
    return bool(_TAG.search(_HARMLESS_MARKUP.sub("", text)) or _ACTIVE_URL.search(_IGNORED_CHARACTERS.sub("", unescape(text))))


def _format_code_block(text: str) -> str:
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{text}\n{fence}"
