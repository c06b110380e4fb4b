"""Test that the archived notebook of an attempt has no active content, and that its record has its digest."""

from __future__ import annotations

import hashlib
import json
from datetime import date
from pathlib import Path

from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from daybook.execution.attempt import archive_attempt
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive
from daybook.records.models import AttemptRecord
from daybook.settings import load_settings

RUN = "daily-2025-11-30-1"


def test_attempt_is_archived_without_active_html(home: Path) -> None:
    settings = load_settings("local")
    archive = Archive(settings.archive)
    archive.start_run(date(2025, 11, 30), {})
    archive.claim_attempt(RUN, "ingest", {})
    html = "<table><tr><td>kept</td></tr></table><script>evil()</script><img src=x onerror=evil()>"
    output = new_output("display_data", {"text/html": html, "application/javascript": "evil()"})
    notebook = new_notebook(cells=[new_markdown_cell("<script>evil()</script>"), new_code_cell("x", outputs=[output])])
    notebook.metadata["widgets"] = {"application/vnd.jupyter.widget-state+json": {}}
    record = {
        "record": "attempt",
        "run_id": RUN,
        "run_date": "2025-11-30",
        "env": "local",
        "stage": "ingest",
        "attempt": 1,
        "outcome": "SUCCEEDED",
        "reasons": [],
        "rows": {},
        "details": {},
        "failure": None,
        "parameters": {},
        "inputs": [],
        "started_at": "2025-11-30T02:00:00Z",
        "ended_at": "2025-11-30T02:00:01Z",
        "seconds": 1.0,
        "tables_read": {},
        "tables_written": {},
        "code": {"commit": "c0ffee", "dirty": False, "lock_sha256": "10c4"},
        "python": "3.11",
    }
    written = archive_attempt(archive, settings, AttemptRecord.model_validate(record), notebook, redactor_now=Redactor)
    stored = archive.store.read(f"{archive.folder(RUN)}/{written.notebook.file}")
    page = archive.store.read(f"{archive.folder(RUN)}/{written.html.file}")
    assert hashlib.sha256(stored).hexdigest() == written.notebook.sha256
    assert b"<td>kept</td>" in stored
    assert b"kept" in page
    assert not any(word in stored for word in (b"onerror", b"widgets", b"evil()</script><img"))
    (outputs,) = (cell["outputs"] for cell in json.loads(stored)["cells"] if cell["cell_type"] == "code")
    assert set(outputs[0]["data"]) == {"text/html", "text/plain"}
    assert outputs[0]["data"]["text/plain"] == ["[output left out: application/javascript]"]
    assert notebook.cells[0].source == "```\n<script>evil()</script>\n```"
