"""Test that personal data and secrets in unusual outputs are redacted in the notebook and its page."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from daybook.execution.attempt import archive_attempt
from daybook.privacy.redactor import Redactor
from daybook.privacy.values import PersonalValues
from daybook.records.models import AttemptRecord
from tests.sample_records import attempt_record
from tests.sessions import Session, new_session

FAULTS = Path(__file__).parent
KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with new_session() as session:
        yield session


def executed(session: Session, fault: str) -> NotebookNode:
    """Return an executed notebook of one cell, whose stage has the values of one customer."""
    source = (FAULTS / fault).read_text(encoding="utf-8")
    stage = SimpleNamespace(engine=SimpleNamespace(rows=lambda query: [("900022",)]))
    session.shell.user_ns["stage"] = stage
    session.run("from IPython.display import HTML, display")
    result = session.run(source)
    result.raise_error()
    outputs = [new_output("display_data", data=data) for data in session.outputs]
    if result.result is not None:
        outputs.append(new_output("execute_result", data={"text/plain": repr(result.result)}))
    return new_notebook(cells=[new_code_cell(source, outputs=[new_output("stream", text=session.printed), *outputs])])


def archived(notebook: NotebookNode) -> tuple[str, str, dict[str, int]]:
    """Return the archived notebook and page, and the number of redactions by column."""
    values = PersonalValues()
    values.add("customer", "id", ["900022"])
    values.add("name", "name", ["Zébulon Quarkström"])
    contents: list[bytes] = []

    def write(record: AttemptRecord, content: bytes, html: bytes) -> AttemptRecord:
        contents.extend((content, html))
        return record

    record = attempt_record("aggregate", run_id="daily-2025-11-30-1", run_date="2025-11-30", env="local", attempt=1)
    search = Redactor(values)
    archive, settings = SimpleNamespace(write_attempt=write), SimpleNamespace(title="Shop")
    archive_attempt(archive, settings, record, notebook, redactor_now=lambda: search)  # type: ignore[arg-type]
    return contents[0].decode(), contents[1].decode(), dict(search.counts)


def test_rich_outputs_are_redacted(session: Session) -> None:
    notebook, page, counts = archived(executed(session, "pii_rich_outputs/cell.txt"))
    for text in (notebook, page):
        for part in ("900022", "hannah.probe", base64.b64encode(b"900022,hannah").decode()[:12], "OTAwMDIy"):
            assert part not in text
    outputs = [output.get("data", {}) for output in json.loads(notebook)["cells"][0]["outputs"]]
    assert outputs[2] == {"text/plain": ["float\n", "[output left out: application/vnd.vegalite.v5+json]"]}
    assert outputs[3] == {"application/json": {"id": "[redacted:customer]"}}
    assert not [mime for data in outputs for mime in data if mime == "application/octet-stream"]
    assert "[output left out: application/octet-stream]" in page
    # Source, printed text and JSON. Data URLs and other formats are omitted before the search.
    assert counts["customer"] == 3


def test_names_inside_markup_are_redacted(session: Session) -> None:
    notebook, page, _ = archived(executed(session, "page_hidden_name/cell.txt"))
    output = "".join(json.loads(notebook)["cells"][0]["outputs"][-1]["data"]["text/html"])
    assert "rkström" not in output
    assert "ulon" not in output
    assert "Quarkström" not in page.replace("&ouml;", "ö").replace("<!-- -->", "").partition("</code>")[2]


def test_name_that_markdown_joins_is_redacted() -> None:
    cell = new_code_cell("show()", outputs=[new_output("display_data", data={"text/markdown": "Qua**rk**ström, Qua<i></i>rk"})])
    _, page, _ = archived(new_notebook(cells=[cell]))
    assert "ström" not in page


def test_secrets_of_the_environment_are_redacted(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY)
    notebook, page, counts = archived(executed(session, "env_secret/cell.txt"))
    assert KEY not in notebook
    assert KEY not in page
    assert counts["secret"] >= 1
