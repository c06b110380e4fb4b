"""Run examples of the pages: the tutorial, commands that only read, and the files of the page on sources."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from daybook.cli.check import check_project
from daybook.contracts import load_landing
from daybook.sources import load_source
from tests.conftest import Project
from tests.docs.command_lines import Example, command_of, examples
from tests.docs.pages import DOCS, PROSE, ROOT, Page

TUTORIAL = Page(DOCS / "tutorial.md")
READING = (
    "runs",
    "show",
    "report",
    "sql",
    "lineage",
    "gaps",
    "status",
    "cost",
    "backfills",
    "quarantine list",
    "vacuum",
    "check",
)
"""Commands whose examples run on the tables of the tutorial; `vacuum` only with --dry-run."""
FINDING = ("gaps", "status")
"""Commands that exit with 1 if they find something."""


class Shop:
    """A shell in which the tutorial is followed, with a home of its own."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        (place / "notebooks").symlink_to(ROOT / "notebooks")
        self.place = place
        self.environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DAYBOOK_HOME": str(place / "home"),
            # `report --open` opens no window.
            "BROWSER": "true",
        }

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line of an example."""
        return subprocess.run(
            ["bash", "-c", line], cwd=self.place, env=self.environment, capture_output=True, text=True, timeout=500
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """Follow the tutorial; every line must succeed."""
    shop = Shop(tmp_path_factory.mktemp("tutorial") / "shop")
    for each in examples(TUTORIAL):
        if each.words[0] in ("make", "."):
            continue  # The environment is there.
        done = shop.run(each.line)
        assert done.returncode == 0, f"{each.line}\n{done.stdout}\n{done.stderr}"
    return shop


def reading() -> list[Example]:
    """Return the examples of all pages that only read tables and records of the demo shop."""
    found = {}
    for each in examples(*PROSE):
        if each.words[0] != "daybook" or "--env" in each.words or "--raw" in each.words:
            continue
        name = command_of(each.words[1:])[0].partition(" ")[2]
        if name in READING and (name != "vacuum" or "--dry-run" in each.words):
            found[each.words] = each
    return list(found.values())


@pytest.mark.slow
def test_tutorial_and_reading_examples_run(shop: Shop) -> None:
    failed = []
    for each in reading():
        done = shop.run(each.line)
        expected = (0, 1) if each.words[1] in FINDING else (0,)
        if done.returncode not in expected:
            failed.append(f"{each}\n{done.stdout}\n{done.stderr}")
    assert failed == []


def test_source_of_the_tutorial_is_valid(project: Project) -> None:
    page = Page(DOCS / "sources.md")
    for block in page.blocks("yaml"):
        named = re.match(r"# (params/\S+)\n", block)
        assert named, block
        project.write(named[1], block)
    deployment = (ROOT / "params" / "olist.yaml").read_text(encoding="utf-8")
    project.write("params/bakery.yaml", deployment.replace("olist", "bakery"))
    assert [problem for checked in check_project() for problem in checked.problems] == []
    assert load_source("bakery").primary == "bons"
    assert set(load_landing("bakery")) == {"bons", "zeilen"}
