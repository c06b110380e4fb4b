"""The wheels that AWS Glue Python shell can load: exactly those of ``requirements.lock``, for another machine than this one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

from daybook.errors import BundleError
from daybook.settings import project_root

PYTHON_VERSION = "3.9"
"""The one Python of Glue Python shell."""
PLATFORM = "manylinux2014_x86_64"
_GLIBC_MINOR = 17
"""manylinux2014 is glibc 2.17."""
_LEGACY_GLIBC_MINOR = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17}
"""The older names of platforms, as minor versions of glibc 2."""


@dataclass(frozen=True)
class Distribution:
    """One installed package: its name and version, and the tags of the wheel it came in, ``cp39-cp39-manylinux2014_x86_64``."""

    name: str
    version: str
    tags: tuple[str, ...]


def install_wheels(lock: Path, target: Path) -> None:
    """Put every package of a lock with digests into the folder ``target``, as wheels for the job's Python and platform.

    uv links them from its cache where that is on the same disk: nothing may write into the files there. Raises
    ``BundleError`` where there is no uv, or no such wheels, or they cannot be fetched.
    """
    command = [find_uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    # The lock is whole and its markers are for every Python: nothing is left to resolve, only to choose.
    command += ["--python", sys.executable, "--python-version", PYTHON_VERSION, "--python-platform", "x86_64-manylinux2014"]
    command += ["--no-compile-bytecode", "--no-config", "--target", str(target), "--requirement", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise BundleError(f"uv could not be started ({error}); see what UV or the PATH names.") from None
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"uv ended with exit code {done.returncode}"
        raise BundleError(
            f"{lock.name} cannot be had as wheels for Python {PYTHON_VERSION} on {PLATFORM} ({said}); see that the package index can "
            "be reached, and that the lock has such a wheel of every package."
        )


def find_uv() -> str:
    """The uv that the Makefile uses: named by ``UV``, on the PATH, or in ``.tools/``."""
    beside = project_root() / ".tools" / "bin" / "uv"
    found = os.environ.get("UV") or shutil.which("uv") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise BundleError("There is no uv, which brings another machine's wheels; run `make setup`, or put uv on the PATH.")
    return found


def list_distributions(target: Path) -> list[Distribution]:
    """The packages installed in a folder, by name."""
    found = []
    for folder in target.glob("*.dist-info"):
        about = HeaderParser().parsestr((folder / "METADATA").read_text(encoding="utf-8"))
        wheel = HeaderParser().parsestr((folder / "WHEEL").read_text(encoding="utf-8"))
        tags = tuple(sorted(each for tag in wheel.get_all("Tag", []) for each in _expand_tag(tag)))
        found.append(Distribution(re.sub(r"[-_.]+", "-", about["Name"]).lower(), about["Version"], tags))
    return sorted(found, key=lambda each: each.name)


def require_loadable(found: list[Distribution]) -> None:
    """``BundleError`` that names the first package whose wheel the job's machine could not load."""
    for each in found:
        if not any(is_loadable(tag) for tag in each.tags):
            raise BundleError(
                f"{each.name} {each.version} came in a wheel for {', '.join(each.tags) or 'nothing'}, which Python {PYTHON_VERSION} on "
                f"{PLATFORM} cannot load; pin a version in pyproject.toml that has a wheel for it, and run `make lock`."
            )


def is_loadable(tag: str) -> bool:
    """Whether a wheel's tag, ``python-abi-platform``, is one that CPython 3.9 on glibc 2.17 and x86-64 loads."""
    python, abi, platform = tag.split("-")
    return _fits_python(python, abi) and (platform == "any" or _fits_glibc(platform))


def _fits_python(python: str, abi: str) -> bool:
    if abi == "none":
        return python in ("py3", "py39", "cp39") or bool(re.fullmatch(r"py3[0-8]", python))
    numbered = re.fullmatch(r"cp3(\d+)", python)
    if abi == "abi3":
        return numbered is not None and int(numbered[1]) <= 9
    return python == "cp39" and abi == "cp39"


def _fits_glibc(platform: str) -> bool:
    matched = re.fullmatch(r"(manylinux\d+|manylinux_2_(\d+))_x86_64", platform)
    if matched is None:
        return False
    return int(matched[2] or _LEGACY_GLIBC_MINOR.get(matched[1], _GLIBC_MINOR + 1)) <= _GLIBC_MINOR


def _expand_tag(tag: str) -> list[str]:
    """The single tags of a compressed one, ``py2.py3-none-any``."""
    python, abi, platform = (part.split(".") for part in tag.split("-"))
    return [f"{one}-{two}-{three}" for one in python for two in abi for three in platform]
