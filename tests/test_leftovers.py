"""Test that temporary files of editors and tools in the project change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daybook.cli.check import check_project
from daybook.contracts import load_tables
from daybook.deploy import bundle
from daybook.privacy.run_values import load_ordinary_words
from daybook.records.cost import list_price_tables
from daybook.records.fingerprint import compute_fingerprint
from daybook.settings import is_temporary_name, list_environments, list_files, load_settings
from daybook.sources import list_sources, load_source
from tests.conftest import Project

pytestmark = pytest.mark.slow

LEFTOVERS = [
    ".ipynb_checkpoints/{stem}-checkpoint{suffix}",
    ".virtual_documents/{name}",
    "__pycache__/{name}",
    ".#{name}",
    "#{name}#",
    "._{name}",
    ".{name}.swp",
    ".DS_Store",
    "{name}~",
    "{name}.orig",
    "{name}.bak",
]


def leave(project: Project) -> list[Path]:
    """Write temporary files of every kind beside each kind of project file, and a broken link."""
    left = []
    for pattern in ("notebooks/*.ipynb", "params/*.yaml", "params/*/*.yaml", "params/*/*/*.yaml", "orchestration/*.asl.json"):
        for path in list_files(project.root, pattern):
            for form in LEFTOVERS:
                target = path.parent / form.format(name=path.name, stem=path.stem, suffix=path.suffix)
                target.parent.mkdir(exist_ok=True)
                target.write_text("broken: [\n")
                left.append(target)
    lock = project.root / "params" / ".#local.yaml"
    lock.unlink()
    lock.symlink_to("someone@somewhere.1234")
    return left


def seen(project: Project, target: Path) -> dict[str, Any]:
    """Return the project files found by each function that lists its folders."""
    (target / "packages").mkdir(parents=True)
    bundle._copy_project(target)
    source = load_source("demo")
    return {
        "checked": {each.file: each.problems for each in check_project()},
        "fingerprint": compute_fingerprint(load_settings("local")),
        "bundled": {path.relative_to(target): path.read_bytes() for path in target.rglob("*") if path.is_file()},
        "words": load_ordinary_words(source),
        "names": [
            list_environments(),
            list_sources(),
            list_price_tables(),
            list(load_tables("silver")),
            list(load_tables("gold")),
        ],
    }


def test_temporary_files_change_nothing(project: Project, tmp_path: Path) -> None:
    before = seen(project, tmp_path / "before")
    assert len(leave(project)) > 100
    assert seen(project, tmp_path / "after") == before


@pytest.mark.parametrize("name", ["1_ingest.ipynb", "local.yaml", "daily.asl.json", "tilde~name.yaml", "orig.yaml"])
def test_project_files_are_not_temporary(name: str) -> None:
    assert not is_temporary_name(name)
