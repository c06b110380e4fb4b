"""Test the workflow that comments on pull requests: its rights, and its scripts with programs that record their calls."""

from __future__ import annotations

import base64
import gzip
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from daybook.review.comment import MARK
from daybook.review.markdown import MAX_CHARACTERS
from daybook.settings import project_root
from tests.docs.command_lines import Example, parse
from tests.docs.pages import Page
from tests.review.conftest import Repository

FILE = project_root() / ".github" / "workflows" / "review.yml"
RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'


@pytest.fixture(scope="module")
def workflow() -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return loaded


def script(workflow: dict[Any, Any], job: str, name: str) -> str:
    """Return the script of a step by the start of its name."""
    (found,) = (step["run"] for step in workflow["jobs"][job]["steps"] if step.get("name", "").startswith(name))
    return str(found)


class Shell:
    """Runs scripts as the workflow does, with programs that record their calls."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder = folder
        self.temporary = temporary
        self.programs = temporary / "bin"
        self.programs.mkdir(parents=True)
        self.variables = {
            "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(temporary / "calls"),
            "RUNNER_TEMP": str(temporary),
            "GITHUB_OUTPUT": str(temporary / "output"),
            "GITHUB_STEP_SUMMARY": str(temporary / "summary"),
            "GITHUB_REPOSITORY": "shop/daybook",
        }

    def program(self, path: Path, text: str = "") -> None:
        """Write a program that records its calls and then runs a script."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(RECORD + text, encoding="utf-8")
        path.chmod(0o755)

    def run(self, script: str, **variables: str) -> list[str]:
        """Run a script, and return the calls of programs."""
        environment = {**os.environ, **self.variables, **variables}
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        calls = self.temporary / "calls"
        return calls.read_text(encoding="utf-8").splitlines() if calls.exists() else []


@pytest.fixture
def shell(repository: Repository, tmp_path: Path) -> Shell:
    """Return a shell in a repository whose branch is a pull request."""
    shell = Shell(repository.root, tmp_path / "runner")
    shell.variables["BASE"] = repository.git("rev-parse", "HEAD")
    repository.replace("params/local.yaml", "currency: EUR", "currency: USD")
    repository.commit()
    shell.program(shell.programs / "make")
    shell.program(repository.root / ".venv" / "bin" / "daybook", "exit 3\n")
    return shell


def test_code_of_a_pull_request_has_no_right_to_write(workflow: dict[Any, Any]) -> None:
    # YAML reads the key `on` as true.
    assert workflow[True] == {"pull_request": None}
    assert workflow["permissions"] == {}
    rights = {name: job["permissions"] for name, job in workflow["jobs"].items()}
    assert rights == {"review": {"contents": "read"}, "post": {"pull-requests": "write"}}
    steps = workflow["jobs"]["post"]["steps"]
    assert not [step for step in steps if "uses" in step or re.search(r"\bgit\b|make|\.venv", step["run"])]
    assert "secrets." not in FILE.read_text(encoding="utf-8")


def test_actions_are_pinned_and_scripts_hold_no_expressions(workflow: dict[Any, Any]) -> None:
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for step in steps if "uses" in step]
    assert [name for name in used if not re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", name)] == []
    # GitHub inserts the value of an expression into a script as text, which could hold commands.
    assert [step["run"] for step in steps if "${{" in step.get("run", "")] == []


def test_command_lines_of_the_workflow_parse(workflow: dict[Any, Any]) -> None:
    scripts = "\n".join(step.get("run", "") for job in workflow["jobs"].values() for step in job["steps"])
    lines = re.findall(r"\.venv/bin/(daybook [^>|\n]*)", scripts)
    assert len(lines) == 2
    for line in lines:
        parse(Example(Page(FILE), line, tuple(shlex.split(line))))


def test_preview_of_the_pull_request_is_used(workflow: dict[Any, Any], shell: Shell, repository: Repository) -> None:
    repository.write("preview.json", '{"own": 1}')
    repository.commit()
    assert shell.run(script(workflow, "review", "Preview")) == []
    assert (shell.temporary / "preview.json").read_text(encoding="utf-8") == '{"own": 1}'
    assert not (shell.temporary / "note.md").exists()


@pytest.mark.parametrize("stale", [False, True])
def test_demo_shop_is_previewed_otherwise(workflow: dict[Any, Any], shell: Shell, repository: Repository, stale: bool) -> None:
    if stale:
        repository.git("checkout", "--quiet", "-b", "other", shell.variables["BASE"])
        repository.write("preview.json", "{}")
        shell.variables["BASE"] = repository.commit()
        repository.git("checkout", "--quiet", "-b", "change")
        repository.write("notes.txt", "one")
        repository.commit()
    calls = shell.run(script(workflow, "review", "Preview"))
    assert calls == [f"make -C {shell.temporary}/base demo", "daybook preview --json"]
    base = Path(shell.temporary, "base", "params", "local.yaml").read_text(encoding="utf-8")
    assert "currency: EUR" in base
    assert "demo shop" in (shell.temporary / "note.md").read_text(encoding="utf-8")


def test_comment_is_handed_over_with_the_note(workflow: dict[Any, Any], shell: Shell) -> None:
    shell.program(shell.folder / ".venv" / "bin" / "daybook", f"echo '{MARK}' > \"$6\"\n")
    (shell.temporary / "note.md").write_text("Of the demo shop.\n", encoding="utf-8")
    calls = shell.run(script(workflow, "review", "Write"))
    arguments = f"{shell.variables['BASE']}...HEAD --preview {shell.temporary}/preview.json"
    assert calls == [f"daybook review {arguments} --output {shell.temporary}/comment.md"]
    name, _, value = (shell.temporary / "output").read_text(encoding="utf-8").strip().partition("=")
    comment = gzip.decompress(base64.b64decode(value)).decode()
    assert (name, comment) == ("comment", f"{MARK}\n\nOf the demo shop.\n")
    assert (shell.temporary / "summary").read_text(encoding="utf-8") == comment


@pytest.mark.parametrize("earlier", ["", "17\n18\n"])
def test_comment_is_posted_once(workflow: dict[Any, Any], tmp_path: Path, earlier: str) -> None:
    shell = Shell(tmp_path, tmp_path / "runner")
    shell.program(shell.programs / "gh", f'case "$*" in *--jq*) printf "{earlier}" ;; *) cp comment.md posted.md ;; esac\n')
    comment = f"{MARK}\n" + "ä" * (MAX_CHARACTERS - 100)
    coded = base64.b64encode(gzip.compress(comment.encode())).decode()
    calls = shell.run(script(workflow, "post", "Post"), COMMENT=coded, NUMBER="5")
    target = "PATCH repos/shop/daybook/issues/comments/17" if earlier else "POST repos/shop/daybook/issues/5/comments"
    assert calls[-1] == f"gh api --silent --method {target} --field body=@comment.md"
    assert f'startswith("{MARK}")' in calls[0]
    assert (tmp_path / "posted.md").read_text(encoding="utf-8") == comment
