"""Limit the outputs of cells and notebooks: keep head and tail and note what was omitted.

The search for personal data cannot find a value that spans a cut. So ``MARGIN_CHARACTERS`` more characters are searched at both
edges of a cut, and ``trim_cuts`` removes them afterwards.
"""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any, NamedTuple, Optional

from nbformat import NotebookNode

from daybook.records.names import OMITTED_OUTPUT_KEY, RESULT_MIME

MARGIN_CHARACTERS = 2_000
"""Characters at each edge of a cut that are searched and then removed."""
FAILURE_CHARACTERS = 2_000
"""Maximum length of each text of a failure in a record."""
_MAX_PIECE_CHARACTERS = 4_096
"""Maximum characters of a piece of stream text. Small pieces are cheap to add and to drop."""
_OVERHEAD_BYTES = 200
"""Bytes that the JSON of an output takes besides its content."""
_MIN_CELL_BYTES = 20_000
"""Minimum bytes of each cell, even beyond the notebook's limit, so that the exception of a failed cell is kept."""

_OMISSION_NOTE = re.compile(r"\n?\[left out: [^\n]* bytes\]\n?")


class OutputLimits(NamedTuple):
    """Maximum bytes of output of each cell and of the whole notebook."""

    cell: int
    notebook: int


class _KeptOutput:
    """A kept output with its size in bytes. ``cell`` is None after it was dropped."""

    __slots__ = ("cell", "display_id", "in_head", "output", "size")

    def __init__(self, cell: _CellOutputs, output: NotebookNode, size: int, display_id: Optional[str] = None) -> None:
        self.cell: Optional[_CellOutputs] = cell
        self.output, self.size, self.display_id = output, size, display_id
        self.in_head = False


class NotebookOutputs:
    """The outputs of a notebook while it is executed."""

    def __init__(self, limits: OutputLimits) -> None:
        self._limits = limits
        self._cells: dict[int, _CellOutputs] = {}
        self._by_display_id: dict[str, list[_KeptOutput]] = {}

    @property
    def remaining_bytes(self) -> int:
        """Bytes that the notebook's limit leaves."""
        return self._limits.notebook - sum(each.size for each in self._cells.values())

    def has_room_for(self, content: Any) -> bool:
        """Return whether the notebook's limit leaves room for ``content``."""
        return _count_bytes(content) <= self.remaining_bytes

    def add_output(self, index: int, outputs: list[NotebookNode], display_id: Optional[str] = None) -> None:
        """Process the last of a cell's outputs: keep, cut or replace it, and drop earlier ones beyond the limit."""
        if len(outputs) == 1:  # the first output of the cell, or the first after it was cleared
            self.clear(index)
        cell = self._cells.get(index)
        if cell is None:
            room = self.remaining_bytes
            limit, key = self._limits.cell, "cell_output_bytes"
            if room < limit:
                limit, key = max(room, _MIN_CELL_BYTES), "notebook_output_bytes"
            cell = self._cells[index] = _CellOutputs(self._by_display_id, outputs, limit, key)
        output = outputs.pop()
        output.get("metadata", {}).pop(OMITTED_OUTPUT_KEY, None)  # reserved for the notes of this module
        cell.add(output, display_id)

    def clear(self, index: int) -> None:
        """Remove a cell's outputs, which were cleared."""
        cell = self._cells.pop(index, None)
        if cell is not None:
            cell.detach_all()

    def update_display(self, display_id: str, data: dict[str, Any], metadata: dict[str, Any]) -> None:
        """Replace what is displayed under an identifier."""
        for kept in self._by_display_id.get(display_id, ()):
            if kept.cell is not None:
                kept.cell.update(kept, data, metadata, self.remaining_bytes)

    def finish_cell(self, index: int) -> None:
        """Join the pieces of stream text of an ended cell."""
        if index in self._cells:
            outputs = self._cells[index].outputs
            outputs[:] = _join_streams(outputs)


class _CellOutputs:
    """The outputs of one cell: a head of up to half the limit, and as many of the last outputs as fit."""

    def __init__(self, displayed: dict[str, list[_KeptOutput]], outputs: list[NotebookNode], limit: int, key: str) -> None:
        self.outputs = outputs
        """The cell's list of outputs: head, a note if any were dropped, tail."""
        self._by_display_id, self._limit, self._key = displayed, limit, key
        self._head: list[_KeptOutput] = []
        self._tail: list[_KeptOutput] = []
        self._head_size = self._tail_size = 0
        self._note: Optional[NotebookNode] = None

    @property
    def size(self) -> int:
        return self._head_size + self._tail_size

    def add(self, output: NotebookNode, display_id: Optional[str]) -> None:
        if output.output_type == "stream":
            text = output.text
            for start in range(0, len(text), _MAX_PIECE_CHARACTERS):
                self._add_text(output.name, text[start : start + _MAX_PIECE_CHARACTERS])
        elif RESULT_MIME in output.get("data", {}):
            # The stage's result, which the record needs.
            self.outputs.insert(len(self._head), output)
            self._head.append(_KeptOutput(self, output, 0))
        else:
            self._append_output(_KeptOutput(self, output, self._truncate(output, self._limit - self._head_size), display_id))

    def _add_text(self, name: str, text: str) -> None:
        kept = [*self._head[-1:], *self._tail[-1:]]
        last = kept[-1] if kept and kept[-1].output.get("name") == name else None
        size = _count_bytes(text)
        if last is None:
            size += _OVERHEAD_BYTES
        elif len(last.output.text) + len(text) <= _MAX_PIECE_CHARACTERS and (not last.in_head or self._fits_head(size)):
            last.output.text += text
            self._resize(last, last.size + size)
            self._drop_oldest()
            return
        self._append_output(_KeptOutput(self, NotebookNode(output_type="stream", name=name, text=text), size))

    def _fits_head(self, size: int) -> bool:
        return not self._tail and self._head_size + size <= self._limit // 2

    def _append_output(self, kept: _KeptOutput) -> None:
        size, kept.size = kept.size, 0
        kept.in_head = self._fits_head(size)
        (self._head if kept.in_head else self._tail).append(kept)
        self.outputs.append(kept.output)
        if kept.display_id:
            self._by_display_id.setdefault(kept.display_id, []).append(kept)
        self._resize(kept, size)
        self._drop_oldest()

    def _resize(self, kept: _KeptOutput, size: int) -> None:
        if kept.in_head:
            self._head_size += size - kept.size
        else:
            self._tail_size += size - kept.size
        kept.size = size

    def _drop_oldest(self) -> None:
        """Drop the oldest outputs of the tail until the others fit, and count them."""
        while self.size > self._limit and len(self._tail) > 1:
            dropped = self._tail.pop(0)
            if self._note is None:
                self._note = _build_note(self._key)
                self.outputs.insert(len(self._head), self._note)
            del self.outputs[len(self._head) + 1]
            self._tail_size -= dropped.size
            self._detach(dropped)
            text = dropped.output.get("text", "")  # only streams have text
            _add_to_note(self._note, dropped.size, lines=text.count("\n"), outputs=0 if text else 1)

    def _detach(self, kept: _KeptOutput) -> None:
        kept.cell = None
        if kept.display_id:
            others = [each for each in self._by_display_id[kept.display_id] if each is not kept]
            self._by_display_id[kept.display_id] = others

    def detach_all(self) -> None:
        for kept in (*self._head, *self._tail):
            self._detach(kept)

    def update(self, kept: _KeptOutput, data: dict[str, Any], metadata: dict[str, Any], room: int) -> None:
        kept.output.data = NotebookNode(data)
        kept.output.metadata = NotebookNode({key: about for key, about in metadata.items() if key != OMITTED_OUTPUT_KEY})
        self._resize(kept, self._truncate(kept.output, kept.size + max(min(self._limit - self.size, room), 0)))

    def _truncate(self, output: NotebookNode, room: int) -> int:
        """Cut an output other than a stream to ``room`` bytes; return its size."""
        if output.output_type == "error":
            output.ename = shorten(output.ename, 200)
            output.evalue = shorten(output.evalue, room // 4)
            text = "\n".join(output.traceback)
            if _count_bytes(text) > room // 2:
                output.traceback = shorten(text, room // 2).split("\n")
                text = "\n".join(output.traceback)
            return _OVERHEAD_BYTES + _count_bytes(output.evalue) + _count_bytes(text)
        sizes = {mime: len(mime) + _count_bytes(content) for mime, content in output.data.items()}
        about = _count_bytes(output.metadata)
        if sum(sizes.values()) + about <= room - _OVERHEAD_BYTES:
            return _OVERHEAD_BYTES + sum(sizes.values()) + about
        return self._replace(output, sizes, room)

    def _replace(self, output: NotebookNode, sizes: dict[str, int], room: int) -> int:
        """Replace a display that is too large by its text, cut to ``room`` bytes, and a note about the original."""
        what = [f"{shorten(mime, 100)}, {size:,} bytes" for mime, size in sizes.items() if mime != "text/plain"]
        more = f" and {len(what) - 5:,} more" if len(what) > 5 else ""
        note = f"[left out: {'; '.join(what[:5])}{more}; {self._key} in params/ is the limit]" if what else ""
        text = output.data.get("text/plain", "")
        text = shorten(text if isinstance(text, str) else "", max(room - _OVERHEAD_BYTES - len(note), 0))
        output.data = NotebookNode({"text/plain": "\n".join(each for each in (text, note) if each)})
        output.metadata = NotebookNode()
        return _OVERHEAD_BYTES + _count_bytes(output.data["text/plain"])


def shorten(text: str, limit: int) -> str:
    """Shorten a text to about ``limit`` bytes: head, a note of the omitted bytes, tail, cut at line ends if possible."""
    if len(text) * 4 <= limit or _count_bytes(text) <= limit:
        return text
    data = text.encode(errors="surrogatepass")
    half = max(limit - 40, 0) // 2
    head = data[:half].decode(errors="ignore")
    tail = data[len(data) - half :].decode(errors="ignore")
    head, tail = _cut_after_last_line(head), _cut_before_first_line(tail)
    return f"{head}\n[left out: {len(data) - _count_bytes(head) - _count_bytes(tail):,} bytes]\n{tail}"


def trim_cuts(notebook: NotebookNode) -> None:
    """Remove the margins of all cuts from a redacted notebook and complete their notes."""
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        for index, output in enumerate(outputs):
            if output.output_type == "error":
                output.evalue = trim_text(output.evalue)
                output.traceback = trim_text("\n".join(output.traceback)).split("\n")
            elif OMITTED_OUTPUT_KEY in output.get("metadata", {}):
                _trim_around(outputs, index)
            elif isinstance(output.get("data", {}).get("text/plain"), str):
                output.data["text/plain"] = trim_text(output.data["text/plain"])
        if outputs:
            cell.outputs = [each for each in outputs if each.output_type != "stream" or each.text]


def trim_text(text: str) -> str:
    """Remove the margins of a cut that ``shorten`` made in a text."""
    found = _OMISSION_NOTE.search(text)
    if found is None:
        return text
    head, tail = text[: found.start()], text[found.end() :]
    return f"{_trim_end(head)}{found[0]}{_trim_start(tail)}"


def trim_failure(failure: dict[str, Any]) -> dict[str, Any]:
    """Shorten the texts of a redacted failure to ``FAILURE_CHARACTERS``."""
    return {
        key: shorten(trim_text(value), FAILURE_CHARACTERS) if isinstance(value, str) else value
        for key, value in failure.items()
    }


def _trim_around(outputs: list[NotebookNode], index: int) -> None:
    """Trim the stream texts next to the note at ``index``, and complete the note."""
    note = outputs[index]
    for beside, trimmed in ((index - 1, _trim_end), (index + 1, _trim_start)):
        if 0 <= beside < len(outputs) and outputs[beside].output_type == "stream":
            text = outputs[beside].text
            outputs[beside].text = trimmed(text)
            lines = text.count("\n") - outputs[beside].text.count("\n")
            _add_to_note(note, _count_bytes(text) - _count_bytes(outputs[beside].text), lines=lines, outputs=0)
    counts = note.metadata[OMITTED_OUTPUT_KEY]
    parts = [
        f"{counts['lines']:,} lines" if counts["lines"] else "",
        f"{counts['outputs']:,} outputs" if counts["outputs"] else "",
    ]
    omitted = ", ".join([*(each for each in parts if each), f"{counts['bytes']:,} bytes"])
    note.data = NotebookNode({"text/plain": f"[left out: {omitted}; {counts['limit']} in params/ is the limit]"})


def _build_note(key: str) -> NotebookNode:
    cut = NotebookNode({"limit": key, "bytes": 0, "lines": 0, "outputs": 0})
    data = NotebookNode({"text/plain": f"[left out; {key} in params/ is the limit]"})
    return NotebookNode(output_type="display_data", data=data, metadata=NotebookNode({OMITTED_OUTPUT_KEY: cut}))


def _add_to_note(note: NotebookNode, size: int, *, lines: int, outputs: int) -> None:
    counts = note.metadata[OMITTED_OUTPUT_KEY]
    counts.bytes += size
    counts.lines += lines
    counts.outputs += outputs


def _trim_end(text: str) -> str:
    return _cut_after_last_line(text[: max(len(text) - MARGIN_CHARACTERS, 0)])


def _trim_start(text: str) -> str:
    return _cut_before_first_line(text[MARGIN_CHARACTERS:])


def _cut_after_last_line(text: str) -> str:
    """Cut a text after its last line end, unless that is in its first half."""
    end = text.rfind("\n") + 1
    return text[:end] if end > len(text) // 2 else text


def _cut_before_first_line(text: str) -> str:
    """Cut a text after its first line end, unless that is in its second half."""
    start = text.find("\n") + 1
    return text[start:] if start <= len(text) // 2 else text


def _join_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Return outputs in which adjacent pieces of one stream are one text."""
    joined: list[NotebookNode] = []
    for name, group in groupby(outputs, key=lambda output: output.get("name")):  # only streams have a name
        pieces = list(group)
        if name is not None and len(pieces) > 1:
            pieces = [NotebookNode(output_type="stream", name=name, text="".join(each.text for each in pieces))]
        joined += pieces
    return joined


def _count_bytes(content: Any) -> int:
    """Return the bytes of a text in UTF-8, or of other content as JSON."""
    text = content if isinstance(content, str) else json.dumps(content, default=str)
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
