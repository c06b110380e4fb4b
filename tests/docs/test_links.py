"""Links and anchors of all pages, and the navigation of the site."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import DOCS, PAGES, ROOT, SITE, Page


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_to_a_file_and_a_heading(page: Page) -> None:
    broken = [link for link in page.links if not re.match(r"https?://", link) and not _exists(page, link)]
    assert broken == []


def _exists(page: Page, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.path.parent / name).resolve() if name else page.path
    return target.exists() and (not anchor or anchor in Page(target).anchors)


FOLDERS = re.compile(r"(docs|examples|infra|notebooks|orchestration|params|tests)/[\w./-]*")


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_paths_in_code_exist(page: Page) -> None:
    named = [code for code in page.inline_code if FOLDERS.fullmatch(code) and "bakery" not in code]
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", SITE, ids=str)
def test_site_pages_link_to_the_site_only(page: Page) -> None:
    inside = [(page.path.parent / link.partition("#")[0]).resolve() for link in page.links if "://" not in link]
    assert [target for target in inside if not target.is_relative_to(DOCS)] == []


def test_navigation_lists_every_page() -> None:
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(_files(config["nav"])) == sorted(page.path.relative_to(DOCS).as_posix() for page in SITE)


def _files(item: Any) -> list[str]:
    if isinstance(item, str):
        return [item]
    each = item.values() if isinstance(item, dict) else item
    return [file for entry in each for file in _files(entry)]


def test_readme_links_to_every_site_page() -> None:
    readme = Page(ROOT / "README.md")
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in readme.links}
    assert [str(page) for page in SITE if page.path != DOCS / "index.md" and page.path not in linked] == []


def test_readme_has_at_most_150_lines() -> None:
    assert len(Page(ROOT / "README.md").text.splitlines()) <= 150


def test_anchor_must_work_on_host_and_site(tmp_path: Path) -> None:
    page = Page(tmp_path / "page.md")
    page.path.write_text("# One  two\n\n## `a` – b\n\n## Plain words: yes\n", encoding="utf-8")
    assert page.anchors == {"plain-words-yes"}
