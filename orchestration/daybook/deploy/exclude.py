"""Delete files from the bundled packages that no job uses, so that jobs start faster.

No code that runs is deleted: the files are not code, or belong to optional packages.
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
"""AWS services whose descriptions are kept: those that Daybook and awswrangler call, and those for credentials.

boto3 raises ``UnknownServiceError`` with the name of a missing one.
"""

_REASONS = {
    "scripts": "command-line scripts, which contain a path of the building machine; jobs only import packages",
    "installer": "the installer's records about the building machine and digests of deleted files",
    "tests": "tests of the packages",
    "sources": "type stubs and C sources",
    "services": "botocore's descriptions of AWS services that Daybook does not call",
    "debugger": "debugpy, which is optional for ipykernel; parts of it need a newer glibc",
    "completion": "jedi and parso for tab completion, which are optional for IPython",
    "servers": "Arrow Flight, an RPC server and client, which is optional for pyarrow",
    "twins": "compiled copies of fontTools modules; the Python versions do the same, only slower",
    "linking": "copies of libraries under the names that linkers use",
    "front-ends": "JupyterLab extensions and manual pages",
}
_EXCLUDED_FOLDERS = {"debugpy": "debugger", "jedi": "completion", "parso": "completion", "bin": "scripts"}
_INSTALLER_FILES = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
_SOURCE_SUFFIXES = {".pyi", ".h", ".hpp", ".c", ".cc", ".cpp", ".pyx", ".pxd", ".pxi", ".a", ".pdb", ".f", ".f90"}
_FLIGHT_FILES = re.compile(r"_flight\..*|flight\.py|libarrow(_python)?_flight\..*")
_LINKED_LIBRARY = re.compile(r"libarrow_python\w*\.so(\.\d+\.\d+\.\d+)?")
"""pyarrow loads ``.so.2000`` only."""


def exclusion_kind(path: str) -> str:
    """Return the kind of an excluded file by its path in the packages' folder; empty if the file is kept."""
    place = PurePosixPath(path)
    top, folders = place.parts[0], set(place.parts[1:-1])
    if top in _EXCLUDED_FOLDERS and len(place.parts) > 1:
        return _EXCLUDED_FOLDERS[top]
    if top.endswith(".dist-info"):
        # Metadata with entry points and versions are read at run time. Those of excluded packages are deleted.
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
    """Return why files of a kind are excluded."""
    return _REASONS[kind]


def delete_excluded(target: Path) -> dict[str, int]:
    """Delete excluded files under ``target``; return the deleted bytes by kind. Link targets are not deleted."""
    deleted: dict[str, int] = {}
    for path in sorted(target.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        kind = exclusion_kind(path.relative_to(target).as_posix())
        if kind:
            deleted[kind] = deleted.get(kind, 0) + path.lstat().st_size
            path.unlink()
    for folder in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return dict(sorted(deleted.items()))


def _is_public_test_package(place: PurePosixPath) -> bool:
    """Return whether a test folder belongs to the package's public API."""
    return place.parts[0] == "numpy" and "testing" in place.parts[:2] and "tests" not in place.parts
