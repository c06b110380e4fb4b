"""Test the code version of a record (commit, lock, state machine) and the fingerprint of a date."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Callable, Optional

import duckdb
import pytest

from daybook.records import fingerprint as fingerprints
from daybook.records.fingerprint import (
    code_version,
    compute_fingerprint,
    normalize_cell,
    package_versions,
    state_machine_path,
    state_machine_version,
)
from daybook.settings import load_settings, project_root

LOCK = f"click==8.1.8\nduckdb=={duckdb.__version__} \\\n".encode()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project of two files in a git repository with one commit."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "project"
    (root / "orchestration").mkdir(parents=True)
    (root / "requirements-glue39.lock").write_bytes(b"duckdb==0.1\n")
    (root / "requirements.lock").write_bytes(LOCK)
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


def test_unchanged_checkout_has_its_commit(checkout: Path) -> None:
    found = code_version()
    assert found["commit"] == git(checkout, "rev-parse", "HEAD")
    assert len(found["commit"]) == 40
    assert found["dirty"] is False


def test_changed_file_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "orchestration" / "daily.asl.json").write_bytes(b'{"Comment": "mine"}\n')
    assert code_version()["dirty"] is True


def test_untracked_file_makes_the_checkout_dirty(checkout: Path) -> None:
    (checkout / "orchestration" / "new.py").write_bytes(b"")
    assert code_version()["dirty"] is True


def test_lock_is_identified_by_its_digest(checkout: Path) -> None:
    assert code_version()["lock_sha256"] == hashlib.sha256(LOCK).hexdigest()


def test_without_a_lock_of_the_installed_packages_its_digest_is_null(checkout: Path) -> None:
    (checkout / "requirements.lock").write_bytes(LOCK.replace(b" ", b".1 "))
    assert code_version()["lock_sha256"] is None


def test_outside_a_checkout_there_is_no_commit(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    found = code_version()
    assert (found["commit"], found["dirty"]) == (None, None)


def test_folder_in_another_checkout_has_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAYBOOK_PROJECT", str(checkout / "orchestration"))
    assert code_version()["commit"] is None


def test_repository_without_commits_has_no_commit(checkout: Path) -> None:
    shutil.rmtree(checkout / ".git")
    git(checkout, "init", "--quiet")
    found = code_version()
    assert (found["commit"], found["dirty"]) == (None, None)


def test_without_git_installed_there_is_no_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert code_version()["commit"] is None


def test_state_machine_is_identified_by_name_and_digest(checkout: Path) -> None:
    assert state_machine_version() == {"file": "daily.asl.json", "sha256": hashlib.sha256(b"{}\n").hexdigest()}


def test_state_machine_of_the_project_exists() -> None:
    assert state_machine_path() == project_root() / "orchestration" / "daily.asl.json"
    assert state_machine_path().is_file()


# Fingerprint


@pytest.fixture
def differs(project) -> Callable[..., list[str]]:
    """Return a function that returns the parts of the fingerprint that ``change()`` alters."""

    def call(change: Callable[[], object], overrides: Optional[dict[str, str]] = None) -> list[str]:
        before = compute_fingerprint(load_settings("local"))
        change()
        after = compute_fingerprint(load_settings("local", overrides))
        assert all(part == "logic" or len(after[part]) == 64 for part in after)
        return [part for part in before if before[part] != after[part]]

    return call


def edited(path: Path, change: Callable[[dict], object]) -> None:
    notebook = json.loads(path.read_text(encoding="utf-8"))
    change(notebook)
    path.write_text(json.dumps(notebook), encoding="utf-8")


def nothing() -> None:
    """Change nothing."""


def test_fingerprint_is_stable_and_needs_no_git(differs, project) -> None:
    assert not (project.root / ".git").exists()
    assert differs(nothing) == []


@pytest.mark.parametrize("number", range(1, 6))
def test_code_of_a_notebook_counts(differs, project, number: int) -> None:
    (path,) = (project.root / "notebooks").glob(f"{number}_*.ipynb")

    def change(notebook: dict) -> None:
        [cell for cell in notebook["cells"] if cell["cell_type"] == "code"][-1]["source"] = "stage.succeed()"

    assert differs(lambda: edited(path, change)) == ["notebooks"]


def test_outputs_markdown_and_parameters_do_not_count(differs, project) -> None:
    def change(notebook: dict) -> None:
        for cell in notebook["cells"]:
            cell["metadata"]["papermill"] = {"duration": 1}
            if cell["cell_type"] == "markdown":
                cell["source"] = "# Another title"
            else:
                cell.update(outputs=[{"output_type": "stream", "name": "stdout", "text": "done"}], execution_count=3)
                cell["source"] = "".join(cell["source"])
            if "parameters" in cell["metadata"].get("tags", []):
                cell["source"] = 'run_date = "2018-05-05"'

    assert differs(lambda: edited(project.root / "notebooks" / "3_transform.ipynb", change)) == []


def test_notify_notebook_does_not_count(differs, project) -> None:
    assert (
        differs(lambda: edited(project.root / "notebooks" / "6_notify.ipynb", lambda notebook: notebook["cells"].pop())) == []
    )


def test_fingerprint_reads_no_source_code(differs, project, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    read_bytes = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    assert differs(nothing) == []
    assert {path.suffix for path in read} == {".ipynb", ".yaml"}


def test_version_of_the_logic_counts(differs, monkeypatch: pytest.MonkeyPatch) -> None:
    assert differs(lambda: monkeypatch.setattr(fingerprints, "LOGIC_VERSION", fingerprints.LOGIC_VERSION + 1)) == ["logic"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("%%sql silver.orders\nSELECT a FROM b", "%%sql  silver.orders\nSELECT\n  a -- why\nFROM b /* and how */\n"),
        ("landing = read(stage)\nlanding.listing", "# Read.\nlanding = read(stage)  # all of it\n\n\nlanding.listing\n"),
        ("%load_ext daybook\nx = 1", "%load_ext daybook\n# one\nx = 1"),
    ],
)
def test_comments_and_layout_of_a_cell_do_not_count(one: str, other: str) -> None:
    assert normalize_cell(one) == normalize_cell(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("%%sql silver.orders\nSELECT a FROM b", "%%sql silver.orders\nSELECT 'a' FROM b"),
        ("%%sql silver.orders\nSELECT a FROM b", "%%sql silver.lines\nSELECT a FROM b"),
        ("%%sql\nSELECT '-- a' FROM b", "%%sql\nSELECT '-- b' FROM b"),
        ('x = "# one"', 'x = "# two"'),
        ("if a:\n    b()\nc()", "if a:\n    b()\n    c()"),
        ("no python (", "no python ["),
    ],
)
def test_changed_code_of_a_cell_counts(one: str, other: str) -> None:
    assert normalize_cell(one) != normalize_cell(other)


def test_packages_are_recorded_beside_the_fingerprint(checkout: Path) -> None:
    digest = hashlib.sha256(LOCK).hexdigest()
    assert package_versions() == {"engine": f"duckdb {duckdb.__version__}", "lock": digest}


@pytest.mark.parametrize(
    ("file", "old", "new", "parts"),
    [
        ("params/contracts/gold/daily_sales.yaml", "required: true", "required: false", ["contracts"]),
        ("params/contracts/silver/orders.yaml", "required: true", "required: false", ["contracts"]),
        ("params/contracts/silver/orders.yaml", "kind: DataContract", "kind: DataContract  # a remark", []),
        ("params/contracts/landing/demo.yaml", "required: true", "required: false", ["source"]),
        ("params/contracts/landing/olist.yaml", "required: true", "required: false", []),
        ("params/sources/demo.yaml", "quantity: quantity", "quantity: 2 * quantity", ["source"]),
        ("params/sources/demo.yaml", "last: 2025-11-30", "last: 2025-11-29", []),
        ("params/sources/demo.yaml", "title: Demo shop", "title: A shop", []),
        ("params/local.yaml", "timezone: Europe/Berlin", "timezone: UTC", ["settings"]),
        ("params/local.yaml", "currency: EUR", "currency: GBP", ["settings"]),
        ("params/local.yaml", "max_rejected_share: 0.05", "max_rejected_share: 0.06", ["settings"]),
        ("params/local.yaml", "returns_count_on: order_date", "returns_count_on: return_date", ["settings"]),
        ("params/local.yaml", "title: Demo shop", "title: A shop", []),
    ],
)
def test_content_of_a_file_counts_in_its_part(differs, project, file: str, old: str, new: str, parts: list[str]) -> None:
    assert differs(lambda: project.replace(file, old, new)) == parts


def test_override_of_a_setting_counts(differs) -> None:
    assert differs(nothing, {"tolerated_rejected_rows": "6"}) == ["settings"]
    assert differs(nothing, {"report": "elsewhere"}) == []


def test_descriptions_in_a_contract_do_not_count(differs, project) -> None:
    path = project.root / "params" / "contracts" / "gold" / "daily_sales.yaml"
    text = path.read_text(encoding="utf-8")
    assert "description: " in text
    assert differs(lambda: path.write_text(text.replace("description: ", "description: Also, "), encoding="utf-8")) == []


def test_broken_project_has_a_fingerprint(differs, project) -> None:
    def change() -> None:
        project.write("params/sources/demo.yaml", "title: [")
        project.write("notebooks/3_transform.ipynb", "{}")

    assert differs(change) == ["notebooks", "source"]
