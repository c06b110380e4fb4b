"""Read two states of the project from git: commits, or a commit and the working tree."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Optional

from daybook.errors import UsageError

_FOLDERS = ("notebooks", "params")
"""The folders of the project whose files are compared by content."""


@dataclass(frozen=True)
class FileChange:
    """A changed file, and how many of its lines are new and gone; None for a file that is not text."""

    path: str
    added: Optional[int]
    removed: Optional[int]


@dataclass(frozen=True)
class Revisions:
    """Two states of the project in ``root``.

    ``before`` and ``after`` are ids of commits; without ``after`` it is the working tree. The names are as the user wrote them.
    """

    root: Path
    before: str
    before_name: str
    after: Optional[str]
    after_name: str

    @contextmanager
    def folders(self) -> Iterator[tuple[Path, Path]]:
        """Give two folders with the notebooks and params of both states."""
        with TemporaryDirectory(prefix="daybook-review-") as temporary:
            before, after = Path(temporary, "before"), Path(temporary, "after")
            _extract(self.root, self.before, before)
            if self.after:
                _extract(self.root, self.after, after)
            yield before, after if self.after else self.root

    def changed_files(self) -> list[FileChange]:
        """Return the project's changed files, sorted by path; a renamed file counts as one removed and one added."""
        commits = [self.before, *([self.after] if self.after else [])]
        options = ["--numstat", "-z", "--no-renames", "--no-ext-diff", "--no-textconv", "--relative"]
        listed = _run_git(self.root, "diff", *options, *commits, "--", ".").decode("utf-8", "replace")
        found = []
        for line in filter(None, listed.split("\0")):
            added, removed, path = line.split("\t", 2)
            found.append(FileChange(path, _parse_count(added), _parse_count(removed)))
        if not self.after:
            untracked = _run_git(self.root, "ls-files", "-z", "--others", "--exclude-standard").decode("utf-8", "replace")
            found += [FileChange(path, _count_lines(self.root / path), 0) for path in filter(None, untracked.split("\0"))]
        return sorted(found, key=lambda change: change.path)


def parse_revisions(text: str, root: Path) -> Revisions:
    """Return the two states that a range names, as ``git diff`` reads it.

    Parameters
    ----------
    text
        ``BASE..HEAD``; ``BASE...HEAD``, which compares HEAD with the commit where it left BASE, as a pull request does; or
        ``BASE``, which is compared with the working tree.
    root
        The project, which is a git repository or a folder of one.

    Raises
    ------
    UsageError
        If a revision is unknown, or there is no repository.
    """
    _run_git(root, "rev-parse", "--git-dir")
    for separator in ("...", ".."):
        if separator in text:
            base, head = (name or "HEAD" for name in text.split(separator, 1))
            before, after = _find_commit(root, base), _find_commit(root, head)
            if separator == "...":
                before = _find_merge_base(root, base, head)
            return Revisions(root, before, base, after, head)
    return Revisions(root, _find_commit(root, text), text, None, "working tree")


def _find_commit(root: Path, revision: str) -> str:
    found = _call_git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if found.returncode:
        raise UsageError(
            f"{revision!r} is no revision of this repository; name a commit, branch or tag, and fetch it if it is not here yet."
        )
    return found.stdout.decode().strip()


def _find_merge_base(root: Path, base: str, head: str) -> str:
    found = _call_git(root, "merge-base", _find_commit(root, base), _find_commit(root, head))
    if found.returncode:
        raise UsageError(f"{base} and {head} have no common commit; fetch the whole history, or write {base}..{head}.")
    return found.stdout.decode().strip()


def _extract(root: Path, commit: str, target: Path) -> None:
    """Write the notebooks and params of a commit into a folder. Symbolic links are left out."""
    target.mkdir()
    with tarfile.open(fileobj=BytesIO(_run_git(root, "archive", "--format=tar", commit))) as archive:
        for member in archive:
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None and member.name.split("/")[0] in _FOLDERS:
                path = target / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())


def _run_git(root: Path, *arguments: str) -> bytes:
    done = _call_git(root, *arguments)
    if done.returncode:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines() or [f"exit code {done.returncode}"]
        raise UsageError(f"`git {arguments[0]}` failed in {root} ({reason[-1]}); run this command in a clone of the project.")
    return done.stdout


def _call_git(root: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)  # noqa: S603, S607
    except FileNotFoundError:
        raise UsageError("git is not installed, and this command reads the project's history with it; install git.") from None


def _parse_count(text: str) -> Optional[int]:
    return None if text == "-" else int(text)


def _count_lines(path: Path) -> Optional[int]:
    content = path.read_bytes() if path.is_file() else b""
    return None if b"\0" in content else content.count(b"\n") + (not content.endswith(b"\n") and bool(content))
