"""Which code ran: commit, whether it was changed since, the lock of its packages, and the state machine's file.

Here: facts about the project's own files. Not here: which data was read (``daybook.lake`` notes versions).
"""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional

from daybook.archive import sha256
from daybook.params import project_root


@functools.cache
def code_version() -> dict[str, Any]:
    """``commit`` and ``dirty`` (null outside a git checkout) and ``lock_sha256``, the digest of ``requirements.lock``."""
    root = project_root()
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--untracked-files=normal") if commit else None
    lock = root / "requirements.lock"
    return {
        "commit": commit,
        "dirty": None if status is None else bool(status),
        "lock_sha256": sha256(lock.read_bytes()) if lock.is_file() else None,
    }


def state_machine_path() -> Path:
    """The nightly run's state machine."""
    return project_root() / "orchestration" / "daily.asl.json"


def state_machine_version() -> dict[str, str]:
    """Name and digest of the nightly run's state machine file."""
    path = state_machine_path()
    return {"file": path.name, "sha256": sha256(path.read_bytes())}


def _git(root: Path, *arguments: str) -> Optional[str]:
    """What git prints, or None where there is no git or no checkout of the project's own."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    done = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
