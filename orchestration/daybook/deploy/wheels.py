"""Install the wheels of ``requirements-glue39.lock`` that AWS Glue Python shell can load, on any machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import distributions
from pathlib import Path

from packaging.tags import compatible_tags, cpython_tags, parse_tag
from packaging.utils import canonicalize_name

from daybook.errors import BundleError
from daybook.settings import project_root

PYTHON_VERSION = "3.9"
"""The Python version of Glue Python shell."""
PLATFORM = "manylinux2014_x86_64"
# manylinux2014 is glibc 2.17. It also loads wheels for older glibc versions, under their new and old names.
_PLATFORMS = [
    *(f"manylinux_2_{minor}_x86_64" for minor in range(17, 4, -1)),
    *(f"{name}_x86_64" for name in ("manylinux2014", "manylinux2010", "manylinux1")),
]
_LOADABLE_TAGS = frozenset(
    [*cpython_tags((3, 9), ["cp39"], _PLATFORMS), *compatible_tags((3, 9), "cp39", _PLATFORMS)],
)


@dataclass(frozen=True)
class Distribution:
    """An installed package with the tags of its wheel, such as ``cp39-cp39-manylinux2014_x86_64``."""

    name: str
    version: str
    tags: tuple[str, ...]


def install_wheels(lock: Path, target: Path) -> None:
    """Install the packages of a lock as wheels for the job's Python and platform.

    uv hard-links them from its cache if that is on the same disk, so the installed files must not be changed in place.

    Parameters
    ----------
    lock : Path
        A requirements file with hashes.
    target : Path
        The folder to install into.

    Raises
    ------
    BundleError
        uv is missing, a package has no such wheel, or a download failed.
    """
    command = [find_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    # The lock is complete and has markers for every Python, so uv only selects and does not resolve.
    command += ["--python", sys.executable, "--python-version", PYTHON_VERSION, "--python-platform", "x86_64-manylinux2014"]
    command += ["--no-compile-bytecode", "--no-config", "--target", str(target), "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise BundleError(f"uv could not be started ({error}); correct UV or PATH.") from None
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"uv ended with exit code {done.returncode}"
        raise BundleError(
            f"The wheels of {lock.name} for Python {PYTHON_VERSION} on {PLATFORM} could not be installed ({reason}); check "
            "that the package index is reachable and that every package in the lock has such a wheel."
        )


def find_uv() -> str:
    """Return the path of uv: the variable ``UV``, the PATH, or ``.tools/`` of the project."""
    local = project_root() / ".tools" / "bin" / "uv"
    found = os.environ.get("UV") or shutil.which("uv") or (str(local) if local.is_file() else None)
    if found is None:
        raise BundleError("uv is not installed; run `make setup`, or put uv on the PATH.")
    return found


def list_distributions(target: Path) -> list[Distribution]:
    """Return the packages installed in the folder ``target``, by name."""
    found = []
    for installed in distributions(path=[str(target)]):
        wheel = HeaderParser().parsestr(installed.read_text("WHEEL") or "")
        tags = tuple(sorted(str(tag) for line in wheel.get_all("Tag", []) for tag in parse_tag(line)))
        found.append(Distribution(canonicalize_name(installed.metadata["Name"]), installed.version, tags))
    return sorted(found, key=lambda each: each.name)


def require_loadable(found: Sequence[Distribution]) -> None:
    """Raise ``BundleError`` for the first package whose wheel the job cannot load."""
    for each in found:
        if not any(map(is_loadable, each.tags)):
            raise BundleError(
                f"The wheel of {each.name} {each.version} is for {', '.join(each.tags) or 'no platform'}, and Python "
                f"{PYTHON_VERSION} on {PLATFORM} cannot load it; pin a version in requirements-glue39.in with a suitable "
                "wheel, then run `make lock`."
            )


def is_loadable(tag: str) -> bool:
    """Return whether CPython 3.9 with glibc 2.17 on x86-64 loads a wheel with ``tag`` (``python-abi-platform``)."""
    return not parse_tag(tag).isdisjoint(_LOADABLE_TAGS)
