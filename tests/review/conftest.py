"""Provide a git repository with a copy of the project's notebooks and params."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from daybook.cli import main
from tests.conftest import Project

RunCommand = Callable[..., tuple[int, str, str]]


@dataclass(frozen=True)
class Repository(Project):
    """A copy of the project that is a git repository with one commit on the branch main."""

    def git(self, *arguments: str) -> str:
        options = ["-c", "user.name=Test", "-c", "user.email=test@example.com", "-c", "commit.gpgsign=false"]
        done = subprocess.run(["git", "-C", str(self.root), *options, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, message: str = "Change") -> str:
        """Commit all files, and return the id of the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def replace_in_cell(self, notebook: str, old: str, new: str) -> None:
        """Replace the first ``old`` in a cell's source."""
        self.replace(f"notebooks/{notebook}.ipynb", *(json.dumps(text, ensure_ascii=False)[1:-1] for text in (old, new)))


@pytest.fixture
def repository(project: Project) -> Repository:
    """Return a copy of the project in git."""
    repository = Repository(project.root)
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.commit("Begin")
    return repository


@pytest.fixture
def review(repository: Repository, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> RunCommand:
    """Return a function that runs ``daybook review`` and returns exit code, output and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daybook", "review", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call
