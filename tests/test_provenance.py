"""Which code ran: the commit, whether files differ from it, the lock and the state machine."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from daybook.params import project_root
from daybook.provenance import code_version, state_machine_path, state_machine_version


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of two files, in a git repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "project"
    (root / "orchestration").mkdir(parents=True)
    (root / "requirements.lock").write_bytes(b"duckdb==1.2.2\n")
    (root / "orchestration" / "daily.asl.json").write_bytes(b"{}\n")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)  # a git hook that runs the tests speaks of another repository
    monkeypatch.setenv("DAYBOOK_PROJECT", str(root))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=Ann", "-c", "user.email=ann@example.com", "commit", "--quiet", "--message", "Begin")
    code_version.cache_clear()
    yield root
    code_version.cache_clear()


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def test_an_unchanged_checkout_is_its_commit(checkout: Path) -> None:
    found = code_version()
    assert found["commit"] == git(checkout, "rev-parse", "HEAD")
    assert len(found["commit"]) == 40
    assert found["dirty"] is False


def test_a_changed_file_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "orchestration" / "daily.asl.json").write_bytes(b'{"Comment": "mine"}\n')
    assert code_version()["dirty"] is True


def test_a_file_that_git_does_not_know_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "orchestration" / "new.py").write_bytes(b"")
    assert code_version()["dirty"] is True


def test_the_lock_is_told_by_its_digest(checkout: Path) -> None:
    assert code_version()["lock_sha256"] == hashlib.sha256(b"duckdb==1.2.2\n").hexdigest()


def test_without_a_lock_its_digest_is_null(checkout: Path) -> None:
    (checkout / "requirements.lock").unlink()
    assert code_version()["lock_sha256"] is None


def test_outside_a_checkout_there_is_no_commit(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    found = code_version()
    assert (found["commit"], found["dirty"]) == (None, None)


def test_a_folder_inside_another_projects_checkout_does_not_take_its_commit(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAYBOOK_PROJECT", str(checkout / "orchestration"))
    assert code_version()["commit"] is None


def test_a_repository_without_commits_has_no_commit(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    git(checkout, "init", "--quiet")
    found = code_version()
    assert (found["commit"], found["dirty"]) == (None, None)


def test_without_git_installed_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert code_version()["commit"] is None


def test_the_state_machine_is_told_by_name_and_digest(checkout: Path) -> None:
    assert state_machine_version() == {"file": "daily.asl.json", "sha256": hashlib.sha256(b"{}\n").hexdigest()}


def test_the_projects_state_machine_is_there() -> None:
    assert state_machine_path() == project_root() / "orchestration" / "daily.asl.json"
    assert state_machine_path().is_file()
