"""Build records and notebooks as the archive and papermill write them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from datetime import date, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any, Callable, Dict, List, Optional, Tuple

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from daybook.records.archive import parse_record
from daybook.records.models import AttemptRecord, RecordModel, RunRecord

Record = Dict[str, Any]

CODE = {"commit": "1a2b3c4d5e6f7a8b9c0d", "dirty": False, "lock_sha256": "ab" * 32}
STAGES = ("ingest", "validate", "transform", "aggregate", "quality", "notify")
ROWS = {
    "ingest": {"in": 2468, "out": 2468},
    "validate": {"in": 2468, "out": 2436, "rejected": 32},
    "transform": {"in": 2436, "out": 2428, "rejected": 0, "duplicates": 8},
    "aggregate": {"in": 2428, "out": 118},
    "quality": {"in": 118, "out": 118, "rejected": 0},
    "notify": {},
}
# One transparent pixel.
PNG = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c6360000000020001e221bc330000000049454e44ae426082"
    )
).decode("ascii")


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def make_attempt(
    stage: str = "transform", *, day: str = "2018-05-05", number: int = 1, attempt: int = 1, **changes: Any
) -> AttemptRecord:
    """Return the record of an attempt that succeeded, with ``changes``."""
    start = datetime(2026, 11, 23, 14, STAGES.index(stage), attempt, tzinfo=timezone.utc)
    name = f"{STAGES.index(stage) + 1}_{stage}.attempt-{attempt}"
    record: Record = {
        "record": "attempt",
        "run_id": f"daily-{day}-{number}",
        "run_date": day,
        "env": "olist",
        "stage": stage,
        "attempt": attempt,
        "outcome": "SUCCEEDED",
        "reasons": [],
        "started_at": iso(start),
        "ended_at": iso(start + timedelta(seconds=3.21)),
        "seconds": 3.21,
        "parameters": {"run_date": day},
        "rows": ROWS[stage],
        "peak_memory_bytes": 312_000_000,
        "tables_read": {},
        "tables_written": {},
        "inputs": [],
        "failure": None,
        "code": CODE,
        "engine": "duckdb 1.2.2",
        "python": "3.11.7",
        "notebook": {"file": f"{name}.ipynb", "sha256": sha256(name)},
        "html": {"file": f"{name}.html", "sha256": sha256(name + "h")},
    }
    record.update(changes)
    return parse_record(AttemptRecord, json.dumps(record, default=_to_json).encode(), "the record")


def _to_json(value: Any) -> Any:
    return value.to_json() if isinstance(value, RecordModel) else str(value)


def make_failure(**changes: Any) -> Record:
    failure = {
        "cell": 3,
        "source": "orders = landing.read('orders')",
        "exception": "LandingError",
        "message": "orders.csv ends in the middle of line 312.\nAsk the shop for the file again.",
    }
    return {**failure, **changes}


def make_history(start: datetime, *, stages: int = len(STAGES), failing: bool = False) -> List[Record]:
    """Return the events of a run through the first ``stages``, one minute each. If ``failing``, the last one fails once."""
    events: List[Record] = []

    def add(kind: str, seconds: float, **details: Any) -> None:
        moment = iso(start + timedelta(seconds=seconds))
        events.append({"id": len(events) + 1, "timestamp": moment, "type": kind, **details})

    add("ExecutionStarted", 0)
    for place, stage in enumerate(STAGES[:stages]):
        name = stage.capitalize()
        add("TaskStateEntered", 60 * place, stateEnteredEventDetails={"name": name})
        if failing and place == stages - 1:
            add("TaskFailed", 60 * place + 20, taskFailedEventDetails={"error": "States.TaskFailed"})
        add("TaskStateExited", 60 * place + 55, stateExitedEventDetails={"name": name})
    add("ExecutionSucceeded", 60 * stages)
    return events


def make_run(day: str = "2018-05-05", *, number: int = 1, outcome: str = "SUCCEEDED", **changes: Any) -> RunRecord:
    """Return a run's record with an attempt of every stage. Only a succeeded run has a summary."""
    start = datetime(2026, 11, 23, 14, tzinfo=timezone.utc) + timedelta(hours=number)
    orders = 260 + 45 * (date.fromisoformat(day).weekday() in (5, 6)) + int(sha256(day)[:2], 16) // 4
    run_id = f"daily-{day}-{number}"
    inputs = [{"file": "orders.csv", "bytes": 84_213, "sha256": sha256(day), "rows": orders}]
    stages = [make_attempt(stage, day=day, number=number) for stage in STAGES]
    stages[0] = make_attempt("ingest", day=day, number=number, inputs=inputs, tables_written={"bronze.orders": 3})
    tables = {"tables_read": {"bronze.orders": 3, "silver.orders": 3}, "tables_written": {"silver.orders": 4}}
    stages[2] = make_attempt("transform", day=day, number=number, **tables)
    record: Record = {
        "record": "run",
        "run_id": run_id,
        "run_date": day,
        "env": "olist",
        "source": "olist",
        "title": "A shop",
        "currency": "EUR",
        "outcome": outcome,
        "reasons": [],
        "started_at": iso(start),
        "ended_at": iso(start + timedelta(seconds=65)),
        "seconds": 65.2,
        "state_machine": {"file": "daily.asl.json", "sha256": sha256("machine")},
        "code": CODE,
        "engine": "duckdb 1.2.2",
        "python": "3.11.7",
        "stages": stages,
        "summary": None,
        "history": make_history(start),
        "state": "closed",
    }
    if outcome == "SUCCEEDED":
        record["summary"] = {
            "orders": orders,
            "cancelled_orders": 9,
            "units": 2 * orders + 26,
            "gross_revenue": f"{orders * 39.57:.4f}",
            "returns_amount": "412.0000",
            "net_revenue": f"{orders * 39.57 - 412:.4f}",
            "average_order_value": "39.5700",
            "adjustments_amount": "-25.0000",
            "new_customers": orders * 2 // 3,
            "returning_customers": orders // 3,
        }
    record.update(changes)
    return RunRecord.model_validate(record)


def make_notebook(*extra: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Return an executed notebook with Markdown, parameters, SQL, a table, a plot and a stream, then ``extra`` cells."""
    table = (
        "<div><style scoped>.dataframe {}</style><table border='1' class='dataframe'><thead><tr><th></th><th>city</th>"
        "<th>orders</th></tr></thead><tbody><tr><th>0</th><td>Köln</td><td>1,204</td></tr>"
        "<tr><th>1</th><td>Wien</td><td>NaN</td></tr></tbody></table></div>"
    )
    cells = [
        new_markdown_cell("# Transform\n\nType, deduplicate, **merge** by key."),
        new_code_cell('run_date = "2018-05-05"', execution_count=1, metadata={"tags": ["parameters"]}),
        new_code_cell('run_date = "2018-05-06"', execution_count=2, metadata={"tags": ["injected-parameters"]}),
        new_code_cell(
            "%%sql silver.orders\nSELECT city, count(*) AS orders FROM bronze.orders GROUP BY city",
            execution_count=3,
            outputs=[
                new_output("execute_result", {"text/html": table, "text/plain": "city orders"}, execution_count=3),
                new_output("display_data", {"image/png": PNG, "text/plain": "<Figure>"}),
                new_output("stream", name="stdout", text="10 %\r55 %\r100 %\ndone\n"),
            ],
            metadata={"papermill": {"duration": 1.234}},
        ),
    ]
    return new_notebook(cells=[*cells, *extra])


def make_failed_cell(message: str = "orders.csv ends in the middle of line 312.") -> nbformat.NotebookNode:
    traceback = [
        "\x1b[0;31m---------------------------------------------------------------------------\x1b[0m",
        "\x1b[0;31mLandingError\x1b[0m                              Traceback (most recent call last)",
        "Cell \x1b[0;32mIn[4], line 1\x1b[0m\n\x1b[0;32m----> 1\x1b[0m orders = landing.read(<orders>)",
        f"\x1b[0;31mLandingError\x1b[0m: {message}",
    ]
    error = new_output("error", ename="LandingError", evalue=message, traceback=traceback)
    return new_code_cell("orders = landing.read('orders')", execution_count=4, outputs=[error])


@pytest.fixture()
def attempt() -> Callable[..., AttemptRecord]:
    return make_attempt


@pytest.fixture()
def run() -> Callable[..., RunRecord]:
    return make_run


@pytest.fixture()
def failure() -> Callable[..., Record]:
    return make_failure


@pytest.fixture()
def notebook() -> Callable[..., nbformat.NotebookNode]:
    return make_notebook


@pytest.fixture()
def failed_cell() -> Callable[..., nbformat.NotebookNode]:
    return make_failed_cell


@pytest.fixture()
def history() -> Callable[..., List[Record]]:
    return make_history


@pytest.fixture()
def hrefs() -> Callable[..., str]:
    """Return a function that returns links into the archive."""

    def href(run_id: str, file: str, *, base: Optional[str] = "../../archive") -> str:
        return f"{base}/{run_id}/{file}"

    return href


class Page(HTMLParser):
    """The tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: List[str] = []
        self.attributes: List[Tuple[str, str, str]] = []
        self._text: List[str] = []
        self._in_style = False
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: List[Tuple[str, Optional[str]]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self._in_style = tag == "style"
        self._part(tag)

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False
        self._part(tag)

    def _part(self, tag: str) -> None:
        if tag not in ("a", "b", "code", "em", "span", "strong"):
            self._text.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._in_style:
            self._text.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self._text).replace("\u00a0", " ").split())

    def values(self, name: str, tag: Optional[str] = None) -> List[str]:
        return [value for of, attribute, value in self.attributes if attribute == name and tag in (None, of)]

    def assert_inert(self) -> None:
        """Assert that the page runs nothing and fetches nothing."""
        assert not {"script", "iframe", "object", "embed", "form", "base"} & set(self.tags)
        assert not [name for _, name, _ in self.attributes if name.startswith("on")]
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href"):
            for value in self.values(name):
                assert not re.match(r"\s*(https?:|javascript:|//)", value, re.IGNORECASE), value


@pytest.fixture(scope="session")
def read_page() -> Callable[[str], Page]:
    return Page
