"""Test that a customer whose values land every day of a week is found in bronze and quarantine only.

The week has valid days, and days that fail in every way that prints rows. Then every byte of all files is searched.
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Optional

import pyarrow.parquet as pq
import pytest

from daybook.execution.run_record import close_run
from daybook.execution.stage import run_stage
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive
from daybook.records.models import RunRecord
from daybook.records.names import STAGES
from daybook.settings import load_settings
from demo_shop import generate
from tests.runs.shop import DaybookHome, copy_project, insert_into_last_cell, local_params, run_command

# The first test runs the whole week.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

NAME = "Zoë O'Kanarie-Müßig"
EMAIL = "zoe.k4narie@example.com"
PHONE = "+44 20 7946 0321"
ID = "C-K4N4"
TRACES = re.compile(rb"k[a4]nar|m\xc3\xbc\xc3\x9fig|7946\D{0,3}0321|(?<![\d:.])9?46\D{0,3}0321(?!\d)|c\W?k4n4", re.IGNORECASE)
"""Pieces of the canary that every spelling, truncation and escape keeps. The digits of a time (13:04:46.032122) or a duration
(0.460321) are not a piece of its telephone number."""

FIRST = date(2025, 11, 24)
DAYS = [(FIRST + timedelta(days=number)).isoformat() for number in range(7)]
EARLY, FAILED, UNREADABLE, REJECTED, HEADLESS, LATE, SHOWN = DAYS
STAGES_OF = {EARLY: 2, UNREADABLE: 1, REJECTED: 2, HEADLESS: 1, LATE: 1, SHOWN: 6}
"""Number of stages that run one by one, by day. The failing day runs in the state machine."""
RESTRICTED = ("landing", "lake/bronze", "lake/quarantine")

SHOW = """
import json, sys
if run_date == {day!r}:
    import pandas as pd
    from IPython.display import HTML, JSON, SVG, display
    rows = stage.raw("SELECT first_name AS a, email AS b, phone AS c, customer_id AS d, street AS e "
                     "FROM bronze.customers WHERE run_date = DATE '{day}' AND customer_id = '{id}'", reason="a look").df()
    display(rows, HTML(rows.to_html()), JSON(json.loads(rows.to_json(orient="records"))))
    display(SVG(f"<svg xmlns='http://www.w3.org/2000/svg'><text>{{rows.a[0]}}</text></svg>"))
    print(rows.to_string(), rows.to_json(), rows.to_dict("records"), [each.encode() for each in rows.iloc[0]])
    with pd.option_context("display.max_colwidth", 12):
        print(rows)
    for letter in rows.b[0]:
        print(letter, end="", flush=True)
    print(rows.iloc[0].tolist(), file=sys.stderr)
    stage.details["warnings"] = stage.details.get("warnings", []) + [f"{{rows.a[0]}} of {{rows.b[0]}} has called"]
    stage.details[rows.b[0]] = rows.iloc[0].tolist()
"""
FAIL = """
import logging, os, pathlib, signal
marks = pathlib.Path({marks!r})
if run_date == {day!r}:
    tried = len(list(marks.iterdir()))
    (marks / str(tried)).touch()
    row = stage.raw("SELECT * FROM bronze.customers WHERE run_date = DATE '{day}' AND customer_id = '{id}'",
                    reason="a look").fetchone()
    logging.getLogger("shop").error("cannot use %s", row)
    os.write(1, f"to standard output: {{row}}\\n".encode())
    os.write(2, f"to standard error: {{row}}\\n".encode())
    if tried == 0:
        raise ValueError(f"\\x1b[31m{{row}}\\x1b[0m cannot be used")
    if tried == 1:
        stage.raw("SELECT CAST(first_name || ' ' || email || ' ' || phone AS INTEGER) FROM bronze.customers "
                  "WHERE customer_id = '{id}'", reason="a look").fetchall()
    if tried == 2:
        print(row, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    print(row, flush=True)
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
"""
PRINT_FILES = """
import pathlib
if run_date in {days!r}:
    found = pathlib.Path(stage.settings.landing, "customers", run_date, "customers.csv").read_bytes()
    print(found)
    raise RuntimeError(found.decode(errors="backslashreplace")[-400:])
"""


@dataclass
class Week:
    """The files of the week."""

    home: Path
    message_texts: str
    records: dict[str, RunRecord]
    settings: Any


def plant(landing: Path, day: str) -> None:
    """Add the canary to a day's files: a customer, an order, a review with all values, and a malformed row."""
    customers = landing / "customers" / day / "customers.csv"
    at = f"{day}T08:00:00"
    known = f'{ID},{NAME},"{NAME.split()[1]}",{EMAIL},{PHONE},"{NAME}-Straße 7",10115,Berlin,Berlin,DE,{at},{at}'
    broken = f"{ID}X,{NAME},{EMAIL}x,{PHONE}"
    customers.write_text(f"{customers.read_text().rstrip()}\n{known}\n{broken}\n")
    reviews = landing / "reviews" / day / "reviews.csv"
    if reviews.exists():
        order = next(iter((landing / "orders" / day / "orders.csv").read_text().splitlines()[1:])).split(",")[0]
        comment = f'"Ask {NAME} for it, at {EMAIL} or {PHONE}, since I know nothing of this at all"'
        reviews.write_text(f"{reviews.read_text().rstrip()}\nR-K-{day},{order},9,Hm,{comment},{day}T09:00:00\n")


def trouble(landing: Path) -> None:
    """Make three of the days fail."""
    unreadable = landing / "customers" / UNREADABLE / "customers.csv"
    unreadable.write_bytes(unreadable.read_bytes() + b'C-9,"never closed,\xff\n')
    headless = landing / "customers" / HEADLESS / "customers.csv"
    headless.write_text("\n".join(reversed(headless.read_text().splitlines()[1:])) + "\n")
    orders = landing / "orders" / REJECTED / "orders.csv"
    orders.write_text(re.sub(r"(?m)^([^,\n]+),C-[^,\n]+,[a-z]+,", rf"\1,{ID},lost by {NAME},", orders.read_text()))


@pytest.fixture(scope="module")
def week(module_home: DaybookHome, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Week]:
    """Run seven days: one that fails in four ways, two unreadable, one rejected, and one that shows the canary."""
    place = tmp_path_factory.mktemp("canary")
    with pytest.MonkeyPatch.context() as patch:
        project = copy_project(place / "project")
        (project / "params" / "canary.yaml").write_text(local_params("Demo shop", "demo", "Europe/Berlin"))
        patch.setenv("DAYBOOK_PROJECT", str(project))
        landing = module_home.path / "landing"
        generate(landing, days=7, last_day=FIRST + timedelta(days=6), orders_per_day=12)
        for day in DAYS:
            plant(landing, day)
        trouble(landing)
        (place / "marks").mkdir()
        notebooks = project / "notebooks"
        for stage in ("3_transform", "5_quality"):
            insert_into_last_cell(notebooks / f"{stage}.ipynb", SHOW.format(day=SHOWN, id=ID))
        insert_into_last_cell(notebooks / "3_transform.ipynb", FAIL.format(day=FAILED, id=ID, marks=str(place / "marks")))
        add_first(notebooks / "1_ingest.ipynb", PRINT_FILES.format(days=[UNREADABLE, HEADLESS]))

        records, settings = {}, load_settings("canary")
        for day in DAYS:
            records[day] = module_home.run("canary", day)[1] if day == FAILED else alone(day, settings)
        yield Week(module_home.path, message_texts(records), records, settings)


def add_first(notebook: Path, code: str) -> None:
    """Insert code into the cell after the one that opens the stage."""
    content = json.loads(notebook.read_text())
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    cells[2]["source"] = code + "".join(cells[2]["source"])
    notebook.write_text(json.dumps(content))


def alone(day: str, settings: Any) -> RunRecord:
    """Run a day's stages without the state machine, each once, up to the first that fails."""
    archive = Archive(settings.archive)
    run_id = archive.start_run(date.fromisoformat(day), {"env": settings.env})
    for stage in STAGES[: STAGES_OF[day]]:
        record = run_stage(stage, env="canary", run_date=day, run_id=run_id)
        if record.outcome != "SUCCEEDED":
            comment = record.reasons or [str(record.failure.message)]
            return close_run(archive, settings, run_id, record.outcome, comment)
    run = archive.run(run_id)
    return run if run.state == "closed" else close_run(archive, settings, run_id, "FAILED", ["not continued"])


def message_texts(records: dict[str, RunRecord]) -> str:
    """Return the messages of the last stage."""
    messages = [each.details.message for record in records.values() for each in record.stages]
    return json.dumps([message.to_json() for message in messages if message], ensure_ascii=False)


def contents(path: Path) -> Iterator[bytes]:
    """Return a file's bytes, and its decompressed content."""
    data = path.read_bytes()
    yield data
    # UTF-16 text has a zero byte after each letter.
    yield data.replace(b"\x00", b"")
    if path.suffix == ".parquet":
        # The footer with minimum and maximum is not compressed.
        yield json.dumps(pq.ParquetFile(path).read().to_pydict(), default=str, ensure_ascii=False).encode()
    if data[:2] == b"\x1f\x8b":
        yield gzip.decompress(data)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                yield packed.read(name)


def traces(root: Path, *, within: Optional[str] = None) -> dict[str, list[bytes]]:
    """Return found pieces of the canary by file. ``within`` is a folder of raw data; without it, all other files."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        raw = name.startswith(tuple(f"{folder}/" for folder in RESTRICTED))
        if not path.is_file() or (not name.startswith(f"{within}/") if within else raw):
            continue
        pieces = [data[max(0, hit.start() - 40) : hit.end() + 20] for data in contents(path) for hit in TRACES.finditer(data)]
        if pieces or TRACES.search(name.encode()):
            found[name] = pieces
    return found


def test_week_has_the_expected_outcomes(week: Week) -> None:
    outcomes = {day: record.outcome for day, record in week.records.items()}
    assert outcomes == {
        EARLY: "FAILED", FAILED: "FAILED", UNREADABLE: "FAILED", REJECTED: "REJECTED", HEADLESS: "FAILED", LATE: "FAILED",
        SHOWN: "SUCCEEDED",
    }  # fmt: skip
    assert [len(week.records[day].stages) for day in DAYS] == [2, 7, 1, 2, 1, 1, 6]
    tried = [each for each in week.records[FAILED].stages if each.stage == "transform"]
    assert [each.attempt for each in tried] == [1, 2, 3, 4]
    comment = [each.failure.message for each in tried]
    assert "cannot be used" in comment[0]
    assert "Could not convert string" in comment[1]
    assert "the kernel died" in comment[2]
    assert "the process ended without leaving a record" in comment[3]


def test_canary_is_in_bronze_and_quarantine(week: Week) -> None:
    for folder in ("lake/bronze", "lake/quarantine"):
        pieces = b" ".join(piece for found in traces(week.home, within=folder).values() for piece in found)
        for part in (NAME.encode(), EMAIL.encode(), PHONE.encode()):
            assert part in pieces, (folder, part)


def test_canary_is_in_no_other_file(week: Week, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_command(monkeypatch, capsys, "report", "--env", "canary")
    shown = [run_command(monkeypatch, capsys, "show", record.run_id, "--env", "canary")[1] for record in week.records.values()]
    assert len(list((week.home / "report" / "runs").iterdir())) == 7
    # The searched files exist.
    for folder in ("archive", "lake/silver", "lake/gold", "logs", "executions", "report"):
        assert [path for path in (week.home / folder).rglob("*") if path.is_file()], folder
    assert "Daybook canary" in week.message_texts

    assert traces(week.home) == {}
    assert not TRACES.search("\n".join([*shown, week.message_texts]).encode())


def test_redactions_are_counted_by_column(week: Week) -> None:
    def counted(day: str, stage: str, attempt: int) -> set[str]:
        (record,) = [each for each in week.records[day].stages if (each.stage, each.attempt) == (stage, attempt)]
        return {name for name, count in record.redactions.items() if count > 0}

    columns = {"first_name", "email", "phone"}
    assert columns | {"customer_id", "street"} <= counted(SHOWN, "transform", 1)
    assert columns <= counted(SHOWN, "quality", 1)
    for attempt in (1, 2, 3, 4):
        assert columns <= counted(FAILED, "transform", attempt)
    assert columns <= counted(UNREADABLE, "ingest", 1)
    assert {"email", "phone", "_raw"} <= counted(HEADLESS, "ingest", 1)
    assert "first_name" in counted(REJECTED, "ingest", 1)
    for day, stage in ((EARLY, "validate"), (LATE, "ingest"), (SHOWN, "notify")):
        assert counted(day, stage, 1) == set()


def test_search_finds_the_canary_without_redaction(week: Week, monkeypatch: pytest.MonkeyPatch) -> None:
    class Blind(Redactor):
        def redact_text(self, text: str, *, exactly: bool = False) -> str:
            return text

        def is_current(self) -> bool:
            return True

    monkeypatch.setattr("daybook.privacy.run_values.build_redactor", lambda *_, **__: Blind())
    place = week.home.parent / "unsearched"
    monkeypatch.setenv("DAYBOOK_HOME", str(place))
    landing = str(week.home / "landing")

    record = run_stage(
        "ingest", env="canary", run_date=UNREADABLE, run_id=f"daily-{UNREADABLE}-1", overrides={"landing": landing}
    )

    assert record.outcome == "FAILED"
    found = traces(place)
    assert {name.rsplit(".", 1)[1] for name in found} == {"json", "ipynb", "html"}
    pieces = b" ".join(piece for each in found.values() for piece in each)
    assert EMAIL.encode() in pieces
