"""Read Markdown pages of the project: links, headings, code blocks, inline code."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from daybook.settings import project_root

ROOT = project_root()
DOCS = ROOT / "docs"
GENERATED = DOCS / "cli.md"


@dataclass(frozen=True)
class Page:
    """A Markdown file of the project."""

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def text(self) -> str:
        """The file's text."""
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def _tokens(self) -> list[Token]:
        return MarkdownIt("commonmark").enable("table").parse(self.text)

    def _inline(self) -> Iterator[Token]:
        for token in self._tokens:
            yield from token.children or []

    @property
    def links(self) -> list[str]:
        """The targets of links and images."""
        found = [
            token.attrGet("href") or token.attrGet("src") for token in self._inline() if token.type in ("link_open", "image")
        ]
        return [str(target) for target in found]

    @property
    def inline_code(self) -> list[str]:
        """Inline code, on one line each."""
        return [" ".join(token.content.split()) for token in self._inline() if token.type == "code_inline"]

    def blocks(self, *languages: str) -> list[str]:
        """Return the code blocks in one of these languages."""
        return [token.content for token in self._tokens if token.type == "fence" and token.info.strip() in languages]

    @property
    def headings(self) -> list[str]:
        """The texts of the headings, without markup."""
        texts = [after.children or [] for token, after in zip(self._tokens, self._tokens[1:]) if token.type == "heading_open"]
        return ["".join(each.content for each in children) for children in texts]

    @property
    def anchors(self) -> set[str]:
        """The anchors that work both on a code host and on the site."""
        return {_host_anchor(text) for text in self.headings} & {_site_anchor(text) for text in self.headings}


def _host_anchor(heading: str) -> str:
    """Return a heading's anchor as code hosts build it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def _site_anchor(heading: str) -> str:
    """Return a heading's anchor as Python-Markdown builds it (``markdown.extensions.toc.slugify``)."""
    plain = unicodedata.normalize("NFKD", heading).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


SITE = [Page(path) for path in sorted(DOCS.rglob("*.md"))]
"""The pages of the site."""
PAGES = [
    *(Page(ROOT / name) for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "params/contracts/README.md")),
    *SITE,
]
"""All pages for users and developers."""
PROSE = [page for page in PAGES if page.path != GENERATED]
"""The pages that people write."""
