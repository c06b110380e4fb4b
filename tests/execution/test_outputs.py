"""Test that outputs of cells and notebooks are bounded, and that no value is cut in two."""

from __future__ import annotations

import json
from typing import Any, Optional

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook
from papermill.engines import NotebookExecutionManager

from daybook.execution.outputs import (
    MARGIN_CHARACTERS,
    NotebookOutputs,
    OutputLimits,
    shorten,
    trim_cuts,
    trim_failure,
    trim_text,
)
from daybook.execution.papermill_engine import LimitedOutputClient
from daybook.privacy.redactor import Redactor
from daybook.privacy.values import PersonalValues
from daybook.records.names import OMITTED_OUTPUT_KEY, RESULT_MIME
from daybook.report.active_content import remove_active_content

LIMIT = 50_000


class Session:
    """A notebook for which the test sends the messages of a kernel."""

    def __init__(self, cell: int = LIMIT, notebook: int = 10 * LIMIT, cells: int = 1) -> None:
        self.notebook = new_notebook(cells=[new_code_cell("", outputs=[]) for _ in range(cells)])
        self._client = LimitedOutputClient(
            NotebookExecutionManager(self.notebook, progress_bar=False), NotebookOutputs(OutputLimits(cell, notebook))
        )
        self._client.reset_execution_trackers()
        self._client.clear_before_next_output = False
        self.at = 0

    def send(self, kind: str, display_id: Optional[str] = None, **content: Any) -> None:
        if display_id:
            content["transient"] = {"display_id": display_id}
        message = {"msg_type": kind, "header": {"msg_type": kind}, "parent_header": {"msg_id": "1"}, "content": content}
        self._client.process_message(message, self.notebook.cells[self.at], self.at)

    def show(self, display_id: Optional[str] = None, *, update: bool = False, **data: Any) -> None:
        kind = "update_display_data" if update else "display_data"
        self.send(kind, display_id, data={mime.replace("_", "/"): each for mime, each in data.items()}, metadata={})

    def print(self, text: str, name: str = "stdout") -> None:
        self.send("stream", name=name, text=text)

    def fail(self, evalue: str, ename: str = "ValueError") -> None:
        self.send("error", ename=ename, evalue=evalue, traceback=["Traceback", *evalue.split("\n"), f"{ename}: {evalue}"])

    def search(self, redactor: Redactor) -> None:
        """Do what is done between execution and the archive."""
        remove_active_content(self.notebook)
        redactor.redact_notebook(self.notebook)
        trim_cuts(self.notebook)

    def outputs(self, index: int = 0) -> list[NotebookNode]:
        """Return a cell's outputs as they are archived."""
        self._client._limited_outputs.finish_cell(index)
        self.search(Redactor())
        nbformat.validate(self.notebook)
        return list(self.notebook.cells[index].outputs)


def size(outputs: list[NotebookNode]) -> int:
    return len(json.dumps(outputs, ensure_ascii=False).encode())


def note_in(outputs: list[NotebookNode]) -> str:
    (note,) = [each.data["text/plain"] for each in outputs if each.get("metadata")]
    return str(note)


def test_printed_lines_keep_head_and_tail() -> None:
    session = Session()
    lines = [f"line {number:06d}\n" for number in range(100_000)]
    for start in range(0, len(lines), 1_000):
        session.print("".join(lines[start : start + 1_000]))
    head, note, tail = session.outputs()
    assert 0.7 * LIMIT < size([head, note, tail]) < 1.1 * LIMIT
    assert "".join(lines).startswith(head.text)
    assert "".join(lines).endswith(tail.text)
    assert (head.text[-1], tail.text[:5]) == ("\n", "line ")
    lost = len(lines) - head.text.count("\n") - tail.text.count("\n")
    assert note_in([note]) == f"[left out: {lost:,} lines, {lost * 12:,} bytes; cell_output_bytes in params/ is the limit]"


@pytest.mark.parametrize("piece", [1, 7, 10_000, 2_000_000])
def test_stream_text_does_not_depend_on_piece_size(piece: int) -> None:
    session, text = Session(), "äöü " * min(5_000, 250 * piece)
    for start in range(0, len(text), piece):
        session.print(text[start : start + piece])
    (whole,) = session.outputs()
    assert whole.text == text


def test_one_endless_line_is_cut_inside() -> None:
    session = Session()
    session.print("0123456789" * 500_000)
    head, _, tail = session.outputs()
    assert 0.7 * LIMIT < len(head.text) + len(tail.text) <= LIMIT


@pytest.mark.slow
def test_many_outputs_keep_the_first_and_the_last() -> None:
    session = Session()
    for number in range(5_000):
        session.show(text_plain=str(number))
    outputs = session.outputs()
    shown = [each.data["text/plain"] for each in outputs]
    assert (shown[0], shown[-1]) == ("0", "4999")
    assert size(outputs) < LIMIT
    assert f"[left out: {5_001 - len(shown):,} outputs, " in note_in(outputs)


def test_cell_cannot_write_the_note_of_a_cut() -> None:
    session = Session()
    session.send("display_data", data={"text/plain": "x"}, metadata={OMITTED_OUTPUT_KEY: "forged"})
    session.send("display_data", "a", data={"text/plain": "y"}, metadata={})
    session.send("update_display_data", "a", data={"text/plain": "z"}, metadata={OMITTED_OUTPUT_KEY: {"lines": 1}})
    assert [(each.data["text/plain"], each.metadata) for each in session.outputs()] == [("x", {}), ("z", {})]


def test_small_outputs_stay_as_they_are() -> None:
    session = Session()
    session.print("one\n")
    session.print("two\n")
    session.print("warned\n", "stderr")
    session.show(text_plain="3", text_html="<b>3</b>")
    session.send("execute_result", data={"text/plain": "4"}, metadata={}, execution_count=1)
    texts, warned, shown, result = session.outputs()
    assert (texts.text, warned.text, warned.name) == ("one\ntwo\n", "warned\n", "stderr")
    assert (shown.data["text/html"], result.data["text/plain"], result.execution_count) == ("<b>3</b>", "4", 1)


def test_large_display_is_replaced_by_text() -> None:
    session = Session()
    session.show(image_png="iVBORw0KGgo" * 10_000, text_plain="<Figure>")
    session.show(text_html="<p>" * 50_000)
    session.show(application_json={"rows": list(range(50_000))})
    figure, page, tree = (each.data for each in session.outputs())
    limit = "cell_output_bytes in params/ is the limit]"
    assert figure == {"text/plain": f"<Figure>\n[left out: image/png, 110,009 bytes; {limit}"}
    assert page == {"text/plain": f"[left out: text/html, 150,009 bytes; {limit}"}
    assert list(tree) == ["text/plain"]


def test_large_text_of_a_display_is_shortened() -> None:
    session = Session()
    session.show(text_plain="a line\n" * 20_000)
    (shown,) = session.outputs()
    assert 0.7 * LIMIT < len(shown.data["text/plain"]) < LIMIT
    assert shown.data["text/plain"].startswith("a line\n")
    assert shown.data["text/plain"].endswith("a line\n")
    assert "[left out: " in shown.data["text/plain"]


@pytest.mark.slow
def test_exception_is_kept_however_much_was_printed() -> None:
    session = Session()
    session.print("printed\n" * 100_000)
    session.show(text_html="<p>" * 15_000)
    session.fail("bad row\n" * 600_000)
    outputs = session.outputs()
    assert size(outputs) < 1.3 * LIMIT  # Line ends count twice in JSON.
    error = outputs[-1]
    assert (error.output_type, error.ename, error.traceback[0]) == ("error", "ValueError", "Traceback")
    assert error.evalue.startswith("bad row\nbad row\n")
    assert "[left out: " in error.evalue
    assert "[left out: " in "\n".join(error.traceback)


def test_name_of_an_exception_is_bounded() -> None:
    session = Session()
    session.fail("", ename="E" * 1_000_000)
    (error,) = session.outputs()
    assert len(error.ename) < 300


def test_update_of_a_display_is_bounded() -> None:
    session = Session(cells=2)
    session.show("d", text_plain="first")
    session.print("after\n" * 100)
    session.at = 1
    session.show("d", update=True, text_plain="second")
    assert session.notebook.cells[0].outputs[0].data == {"text/plain": "second"}
    session.show("d", update=True, text_html="<p>" * 50_000)
    shown, _ = session.outputs()
    assert shown.data["text/plain"].startswith("[left out: text/html, 150,009 bytes")


def test_updates_reach_displays_after_others_were_dropped() -> None:
    session = Session()
    for number in range(1_000):
        session.show(str(number), text_plain=str(number))
    session.show("500", update=True, text_plain="dropped before")
    session.show("999", update=True, text_plain="the last")
    shown = [each.data["text/plain"] for each in session.outputs()]
    assert shown[-2:] == ["998", "the last"]
    assert "dropped before" not in shown


@pytest.mark.parametrize("wait", [False, True])
def test_cleared_outputs_leave_room(wait: bool) -> None:
    session = Session()
    for number in range(10):
        session.send("clear_output", wait=wait)
        session.print(f"{number}\n" * 10_000)
    (last,) = session.outputs()
    assert last.text == "9\n" * 10_000


def test_notebook_has_a_limit_of_its_own() -> None:
    session = Session(notebook=3 * LIMIT, cells=20)
    for session.at in range(19):
        session.print(f"in {session.at}\n" * 40_000)
    session.at = 19
    session.fail("it went wrong")
    outputs = [session.outputs(index) for index in range(20)]
    assert size(outputs[0]) > 0.7 * LIMIT
    assert size(outputs[18]) < 0.6 * LIMIT
    assert "notebook_output_bytes in params/ is the limit" in note_in(outputs[18])
    assert outputs[19][0].evalue == "it went wrong"


def test_result_of_the_stage_is_never_dropped() -> None:
    session = Session()
    session.print("before\n" * 10_000)
    session.send("display_data", data={RESULT_MIME: {"outcome": "SUCCEEDED"}, "text/plain": "ended"}, metadata={})
    session.print("after\n" * 100_000)
    outputs = session.outputs()
    assert [each.data[RESULT_MIME] for each in outputs if RESULT_MIME in each.get("data", {})] == [{"outcome": "SUCCEEDED"}]


@pytest.mark.parametrize("value", ["Annegret Kanarie", "Li Wu", "Kastanienallee Nord\nBerlin Mitte", "X-Canary"])
@pytest.mark.parametrize("from_end", [False, True])
def test_no_part_of_a_value_is_left_at_a_cut(value: str, from_end: bool) -> None:
    values = PersonalValues()
    values.add("secret", "address", [value])
    redactor = Redactor(values)
    parts = {part for part in value.split() if len(part) > 1}

    def around(before: int) -> str:
        filled = "." * before
        rest = "." * (70_000 - before)
        return f"{rest} {value} {filled}" if from_end else f"{filled} {value} {rest}"

    for before in range(9_955, 9_985, 3):
        kept = trim_text(redactor.redact_text(shorten(around(before), 20_000)))
        assert not any(part in kept for part in parts), before
    for before in range(24_976, 25_003, 4):
        session = Session()
        session.print(around(before))
        session._client._limited_outputs.finish_cell(0)
        session.search(redactor)
        kept = "".join(each.get("text", "") for each in session.notebook.cells[0].outputs)
        assert not any(part in kept for part in parts), before


def test_short_text_is_left_alone() -> None:
    text = "a line\n" * 100
    assert shorten(text, len(text)) == text
    assert trim_text(text) == text


def test_texts_of_a_failure_are_bounded() -> None:
    failure = {"cell": 3, "source": "x" * 9_999, "exception": "E", "message": "no such row\n" * 9_999, "permanent": False}
    trimmed = trim_failure(failure)
    assert (trimmed["cell"], trimmed["exception"], trimmed["permanent"]) == (3, "E", False)
    assert len(trimmed["source"]) < 2_100
    assert trimmed["message"].startswith("no such row\nno such row\n")
    assert 1_500 < len(trimmed["message"]) <= 2_100
    assert "[left out: " in trimmed["message"]
    assert MARGIN_CHARACTERS >= 1_000
