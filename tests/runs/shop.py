"""Provide temporary homes, runs without waiting, and a shop small enough to be fast."""

from __future__ import annotations

import csv
import random
import re
import shutil
import sys
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Optional
from unittest.mock import patch

import nbformat
import pytest

from asl_local import Execution
from daybook.engines import DuckDBEngine
from daybook.execution.local.runs import run_dates
from daybook.lake.tables import Lake
from daybook.records.archive import Archive
from daybook.records.models import RunRecord
from daybook.settings import Settings, is_temporary_name, load_settings, parse_run_date

PROJECT = Path(__file__).resolve().parents[2]
"""The checkout, even if a test sets another project."""


class NoJitter(random.Random):
    """A random source whose full jitter is always zero."""

    def random(self) -> float:
        return 0.0


@dataclass
class DaybookHome:
    """A DAYBOOK_HOME with its runs."""

    path: Path

    def run(self, env: str, day: str, **overrides: str) -> tuple[Execution, RunRecord]:
        """Run a business date to its end, with retries without waiting."""
        settings = load_settings(env, overrides)
        run_id = Archive(settings.archive).start_run(parse_run_date(day), {"env": env})
        with patch("daybook.execution.local.interpreter.Random", NoJitter):
            return run_dates(settings, run_id)

    def settings(self, env: str) -> Settings:
        return load_settings(env)

    def archive(self, env: str) -> Archive:
        return Archive(load_settings(env).archive)

    def engine(self, env: str) -> DuckDBEngine:
        """Return an engine that reads the newest versions of published tables."""
        settings = load_settings(env)
        return DuckDBEngine(Lake(settings.lake), settings.timezone)

    def content(self, env: str, *, without: tuple[str, ...] = ()) -> dict[str, list[tuple[Any, ...]]]:
        """Return every published row of silver and gold, sorted, by table."""
        engine = self.engine(env)
        tables = [name for name in engine.lake.tables() if name.startswith(("silver.", "gold.")) and name not in without]
        return {name: sorted(engine.rows(f"SELECT * FROM {name}"), key=repr) for name in tables}


def copy_project(place: Path) -> Path:
    """Copy the project with changeable notebooks and params. Code and state machines are those of the checkout."""
    root = PROJECT
    place.mkdir()
    shutil.copytree(root / "notebooks", place / "notebooks", ignore=lambda _, names: list(filter(is_temporary_name, names)))
    # Without the demo's deployment, whose folders the shops of the tests use: each source has its own lake.
    shutil.copytree(root / "params", place / "params", ignore=shutil.ignore_patterns("local.yaml"))
    for name in ("orchestration", "requirements-glue39.lock", "requirements.lock"):
        (place / name).symlink_to(root / name)
    return place


def insert_into_last_cell(notebook: Path, code: str) -> None:
    """Insert code at the start of the notebook's last cell."""
    content = nbformat.read(notebook, as_version=4)
    content.cells[-1].source = f"{code}\n{content.cells[-1].source}"
    nbformat.write(content, notebook)


TINY_SOURCE = """
title: Corner shop
entities:
  sales:
    files: "{run_date}.csv"
    missing: skip
mapping:
  orders:
    - from: sales
      group_by: [till_no]
      columns:
        order_id: till_no
        customer_key: max(card)
        ordered_at: min("at")
        status: "'delivered'"
  order_items:
    - from: sales
      columns:
        order_id: till_no
        line_number: line
        product_id: article
        quantity: pieces
        unit_price: price
"""
TINY_CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: tiny.landing
version: 1.0.0
status: active
schema:
  - name: sales
    physicalType: file
    properties:
      - {name: till_no, logicalType: string, physicalType: VARCHAR, required: true}
      - {name: line, logicalType: integer, physicalType: VARCHAR, required: true}
      - {name: at, logicalType: timestamp, physicalType: VARCHAR, required: true}
      - {name: article, logicalType: string, physicalType: VARCHAR, required: true}
      - {name: pieces, logicalType: integer, physicalType: VARCHAR, required: true}
      - {name: price, logicalType: number, physicalType: VARCHAR, required: true}
      - name: card
        logicalType: string
        physicalType: VARCHAR
        classification: restricted
        customProperties: [{property: pii, value: id}]
"""


def local_params(title: str, source: str, timezone: str) -> str:
    """Return a deployment on this machine, like a copy of ``params/local.yaml``."""
    text = (PROJECT / "params" / "local.yaml").read_text()
    text = re.sub(r"(?m)^default_run_date:.*\n", "", text)
    for key, value in {"title": title, "source": source, "timezone": timezone}.items():
        text = re.sub(rf"(?m)^{key}:.*$", f"{key}: {value}", text)
    return text


def add_tiny_shop(project: Path) -> None:
    """Add a deployment `tiny`, whose stages take little longer than the start of their kernel."""
    (project / "params" / "sources" / "tiny.yaml").write_text(TINY_SOURCE)
    (project / "params" / "contracts" / "landing" / "tiny.yaml").write_text(TINY_CONTRACT)
    (project / "params" / "tiny.yaml").write_text(local_params("Corner shop", "tiny", "Europe/Berlin"))


def write_tiny_landing(home: Path, day: str, amounts: list[str]) -> None:
    """Write a landing file with one order of one line for each amount."""
    folder = home / "landing"
    folder.mkdir(exist_ok=True)
    with (folder / f"{day}.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["till_no", "line", "at", "article", "pieces", "price", "card"])
        for number, amount in enumerate(amounts, start=1):
            writer.writerow([f"{day}-{number}", 1, f"{day} 10:0{number}:00", f"A{number}", 1, amount, f"card-{number}"])


def read_gross_revenue(home: DaybookHome, env: str, day: str) -> Optional[Decimal]:
    """Return the published gross revenue of a day; None without one."""
    rows = home.engine(env).rows(f"SELECT gross_revenue FROM gold.daily_sales WHERE order_date = DATE '{day}'")
    return rows[0][0] if rows else None


def run_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Call the ``daybook`` command in this process; return exit code, standard output and standard error."""
    from daybook.cli import main

    monkeypatch.setattr(sys, "argv", ["daybook", *arguments])
    monkeypatch.setattr("daybook.execution.local.interpreter.Random", NoJitter)
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err
