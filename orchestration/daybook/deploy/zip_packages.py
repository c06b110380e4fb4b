"""Packages that a job imports out of one file: a start writes thousands of files fewer, and each costs more than its bytes do.

Python imports pure Python from a zip file as it does from a folder, with sources for tracebacks. What asks the file system for
the files beside it must lie there: compiled libraries, templates, certificates.
"""

from __future__ import annotations

from pathlib import Path

ARCHIVE_NAME = "modules.zip"
"""The file's name in the bundle."""
_PLAIN_SUFFIXES = {".py", ".typed"}
_ZIP_SAFE_PACKAGES = {
    "bleach": "licences of what it brings",
    "fontTools": "a note on tables",
    "ipykernel": "pictures, for installing a kernel somewhere",
    "jsonschema": "a file of its benchmark",
    "markdown_it": "a note on what it was ported from",
    "pyparsing": "notes",
    "tqdm": "a manual page",
    "tzdata": "zones, which zoneinfo opens by importlib.resources",
}
"""Packages with other files than Python's, and what these are: nothing that is opened by its path. Not pytz, whose way to zones
in a zip file needs a newer Python; nor IPython, whose kernel warns of a note that it does not find."""


def is_zip_safe(package: Path) -> bool:
    """Whether Python can import this package's folder from a zip file, and the package does all that it does then."""
    if package.name.endswith(".dist-info") or not (package / "__init__.py").is_file():
        return False
    files = [path for path in package.rglob("*") if path.is_file()]
    code = [path for path in files if path.suffix == ".py"]
    if any(not (path.parent / "__init__.py").is_file() for path in code):
        # A folder without it is a package too, but not in a zip file that has no entries for folders.
        return False
    return package.name in _ZIP_SAFE_PACKAGES or all(path.suffix in _PLAIN_SUFFIXES for path in files)


def move_zip_safe_packages(packages: Path, modules: Path) -> list[str]:
    """Move what can be imported from a zip file out of the folder ``packages`` into the new folder ``modules``; the names."""
    modules.mkdir()
    moved = sorted(path.name for path in packages.iterdir() if path.is_dir() and is_zip_safe(path))
    for name in moved:
        (packages / name).rename(modules / name)
    return moved
