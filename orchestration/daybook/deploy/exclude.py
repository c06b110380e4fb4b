"""What the job never needs of the packages it runs on, and so is not carried to it at every start.

Code that runs is never cut: what goes is either not code, or a package that its only user asks for and does without.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

REQUIRED_SERVICES = frozenset(
    {
        *("athena", "cloudformation", "cloudwatch", "dynamodb", "events", "glue", "kms", "lakeformation", "logs", "s3"),
        *(
            "scheduler",
            "secretsmanager",
            "sns",
            "sqs",
            "ssm",
            "sso",
            "sso-oidc",
            "stepfunctions",
            "sts",
            "iam",
            "service-quotas",
        ),
    }
)
"""AWS services whose descriptions stay: those that Daybook or awswrangler call on its behalf, and those that find
credentials. boto3 names a missing one in its error (``UnknownServiceError``)."""

_REASONS = {
    "scripts": "commands, which hold the path of the Python that installed them; the job imports",
    "installer": "notes of the installer about this machine, and digests of files that are left out",
    "tests": "the packages' own tests",
    "sources": "type stubs and what C is compiled from",
    "services": "botocore's descriptions of AWS services that are not called",
    "debugger": "debugpy: nobody debugs in the job; ipykernel does without. Part of it wants a newer glibc",
    "completion": "jedi and parso: nobody presses Tab in the job; IPython does without",
    "servers": "Arrow Flight, by which a program talks to a server of its kind: no job has one; pyarrow does without",
    "twins": "fontTools' modules once more, compiled; it does with those in Python, and a job that embeds fonts is seldom one",
    "linking": "libraries once more, under the names that are asked for when a program is linked",
    "front-ends": "JupyterLab's extensions and manual pages",
}
_EXCLUDED_FOLDERS = {"debugpy": "debugger", "jedi": "completion", "parso": "completion", "bin": "scripts"}
_INSTALLER_FILES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
_SOURCE_SUFFIXES = {".pyi", ".h", ".hpp", ".c", ".cc", ".cpp", ".pyx", ".pxd", ".pxi", ".a", ".pdb", ".f", ".f90"}
_FLIGHT_FILES = re.compile(r"_flight\..*|flight\.py|libarrow(_python)?_flight\..*")
_LINKED_LIBRARY = re.compile(r"libarrow_python\w*\.so(\.\d+\.\d+\.\d+)?")
"""Loaded is ``.so.2000``, whatever else lies beside it."""


def exclusion_kind(path: str) -> str:
    """Which kind of needless file a path under the packages' folder is, as ``exclusion_reason`` knows it; empty where it stays."""
    place = PurePosixPath(path)
    top, folders = place.parts[0], set(place.parts[1:-1])
    if top in _EXCLUDED_FOLDERS and len(place.parts) > 1:
        return _EXCLUDED_FOLDERS[top]
    if top.endswith(".dist-info"):
        # The metadata stay: entry points and versions are asked for at run time. These of what has left would mislead.
        return _EXCLUDED_FOLDERS.get(top.split("-")[0], "installer" if place.name in _INSTALLER_FILES else "")
    if {"tests", "test"} & folders and not _is_public_test_package(place):
        return "tests"
    if place.suffix in _SOURCE_SUFFIXES:
        return "sources"
    if place.parts[:2] == ("botocore", "data") and len(place.parts) > 3 and place.parts[2] not in REQUIRED_SERVICES:
        return "services"
    if top == "pyarrow" and len(place.parts) == 2 and _FLIGHT_FILES.fullmatch(place.name):
        return "servers"
    if top == "fontTools" and place.suffix == ".so":
        return "twins"
    if top == "pyarrow" and _LINKED_LIBRARY.fullmatch(place.name):
        return "linking"
    if top == "share" and (folders & {"labextensions", "man"}):
        return "front-ends"
    return ""


def exclusion_reason(kind: str) -> str:
    """Why files of a kind are left out."""
    return _REASONS[kind]


def delete_excluded(target: Path) -> dict[str, int]:
    """Take away what is not needed under the packages' folder; bytes by kind. Files that are links elsewhere stay there."""
    taken: dict[str, int] = {}
    for path in sorted(target.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        kind = exclusion_kind(path.relative_to(target).as_posix())
        if kind:
            taken[kind] = taken.get(kind, 0) + path.lstat().st_size
            path.unlink()
    for folder in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return dict(sorted(taken.items()))


def _is_public_test_package(place: PurePosixPath) -> bool:
    """A folder called so that is part of what the package offers to others."""
    return place.parts[0] == "numpy" and "testing" in place.parts[:2] and "tests" not in place.parts
