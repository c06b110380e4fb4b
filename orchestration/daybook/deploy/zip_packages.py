"""Select the packages that a job imports from one zip file, which avoids unpacking thousands of small files.

Python imports pure Python from a zip file and shows its sources in tracebacks. Packages that open files by path (compiled
libraries, templates, certificates) must be unpacked.
"""

from __future__ import annotations

from pathlib import Path

ARCHIVE_NAME = "modules.zip"
"""Name of the zip file in the bundle."""
_PLAIN_SUFFIXES = {".py", ".typed"}
_ZIP_SAFE_PACKAGES = {
    "bleach": "licences of vendored packages",
    "fontTools": "a text about tables",
    "ipykernel": "logos for the installation of a kernel",
    "jsonschema": "a file of a benchmark",
    "markdown_it": "a text about its port",
    "pyparsing": "notes",
    "tqdm": "a manual page",
    "tzdata": "time zones, which zoneinfo opens with importlib.resources",
}
"""Packages with other than Python files, and what these are. None of them is opened by path.

pytz is missing because it needs a newer Python to read time zones from a zip file, and IPython because its kernel warns about
a missing file.
"""


def is_zip_safe(package: Path) -> bool:
    """Return whether the package in the folder ``package`` works when imported from a zip file."""
    if package.name.endswith(".dist-info") or not (package / "__init__.py").is_file():
        return False
    files = [path for path in package.rglob("*") if path.is_file()]
    code = [path for path in files if path.suffix == ".py"]
    if any(not (path.parent / "__init__.py").is_file() for path in code):
        # A namespace package is not found in a zip file without entries for folders.
        return False
    return package.name in _ZIP_SAFE_PACKAGES or all(path.suffix in _PLAIN_SUFFIXES for path in files)


def move_zip_safe_packages(packages: Path, modules: Path) -> list[str]:
    """Move the zip-safe packages from ``packages`` to the new folder ``modules``; return their names."""
    modules.mkdir()
    moved = sorted(path.name for path in packages.iterdir() if path.is_dir() and is_zip_safe(path))
    for name in moved:
        (packages / name).rename(modules / name)
    return moved
