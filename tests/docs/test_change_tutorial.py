"""Run every command of the tutorial that changes a definition, in a repository of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from daybook.records.archive import Archive
from daybook.review.comparison import compare_runs, compare_versions
from daybook.settings import load_settings
from tests.docs.command_lines import examples
from tests.docs.pages import DOCS, ROOT, Page

pytestmark = pytest.mark.slow

TUTORIAL = Page(DOCS / "change-a-definition.md")


class Repository:
    """A shell in a git repository of the project."""

    def __init__(self, root: Path, home: Path) -> None:
        self._root = root
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DAYBOOK_HOME": str(home),
            "DAYBOOK_PROJECT": str(root),
            "GIT_AUTHOR_NAME": "Daybook",
            "GIT_AUTHOR_EMAIL": "daybook@example.com",
            "GIT_COMMITTER_NAME": "Daybook",
            "GIT_COMMITTER_EMAIL": "daybook@example.com",
        }
        for line in ("git init --quiet --initial-branch main", "git add --all", "git commit --quiet --message Start"):
            self.run(line)

    def run(self, line: str) -> str:
        """Run a line, which must succeed, and return what it prints."""
        done = subprocess.run(
            ["bash", "-c", line], cwd=self._root, env=self._environment, capture_output=True, text=True, timeout=500
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def test_tutorial_changes_publishes_and_rolls_back(tmp_path: Path, home: Path) -> None:
    root = tmp_path / "shop"
    for folder in ("notebooks", "params", "orchestration", "tests/sql"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".*"))
    repository = Repository(root, home)
    (case,) = TUTORIAL.blocks("yaml")
    path = case.splitlines()[0].removeprefix("# ")
    printed = {}
    for example in examples(TUTORIAL):
        if example.line.startswith("git add"):
            # The file of the case is made between its block and this line.
            (root / path).write_text(case, encoding="utf-8")
        printed[example.line] = repository.run(example.line)
    assert "2 cases failed" in printed["daybook test || true"]
    assert "returning_customers" in printed["daybook preview"]
    review = (root / "review.md").read_text(encoding="utf-8")
    assert "| `gold.daily_sales` | `new_customers`, `returning_customers` |" in review
    settings = load_settings("local")
    changed = compare_runs(settings, "daily-2025-11-30-2", "daily-2025-11-30-3", tables=["gold.daily_sales"])
    assert [column.column for table in changed.tables for column in table.columns if column.changed] == [
        "new_customers",
        "returning_customers",
    ]
    before = Archive(settings.archive).run("daily-2025-11-30-2")
    (version,) = (each.tables_written["gold.daily_sales"] for each in before.stages if each.stage == "quality")
    (restored,) = compare_versions(settings, str(version), tables=["gold.daily_sales"]).tables
    assert restored.rows_after == 3
    assert not restored.has_changes
