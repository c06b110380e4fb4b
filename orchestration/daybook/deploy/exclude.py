"""Delete files from the bundled packages that no job uses, so that jobs start faster.

No code that runs is deleted: the files are not code, or belong to optional packages.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

REQUIRED_SERVICES = frozenset(
    {
        *("athena", "cloudformation", "cloudwatch", "dynamodb", "events", "glue", "iam", "kms", "lakeformation", "logs", "s3"),
        *("scheduler", "secretsmanager", "service-quotas", "sns", "sqs", "ssm", "sso", "sso-oidc", "stepfunctions", "sts"),
    }
)
"""AWS services whose descriptions are kept: those that Daybook and awswrangler call, and those for credentials.

boto3 raises ``UnknownServiceError`` with the name of a missing one.
"""

_RULES = {
    "scripts": ("command-line scripts, which contain a path of the building machine; jobs only import packages", r"bin/.+"),
    "debugger": (
        "debugpy, which is optional for ipykernel; parts of it need a newer glibc",
        r"debugpy(-[^/]+\.dist-info)?/.+",
    ),
    "completion": (
        "jedi and parso for tab completion, which are optional for IPython",
        r"(jedi|parso)(-[^/]+\.dist-info)?/.+",
    ),
    "installer": (
        "the installer's records about the building machine and digests of deleted files",
        r"[^/]+\.dist-info/(RECORD|INSTALLER|REQUESTED|(direct_url|uv_cache|uv_build)\.json)",
    ),
    # Other metadata is kept, since entry points and versions are read at run time.
    "": ("", r"[^/]+\.dist-info/.+"),
    "tests": ("tests of the packages", r"[^/]+/(.+/)?tests?/.+"),
    "sources": ("type stubs and C sources", r".+\.(pyi|h|hpp|c|cc|cpp|pyx|pxd|pxi|a|pdb|f|f90)"),
    "services": (
        "botocore's descriptions of AWS services that Daybook does not call",
        rf"botocore/data/(?!({'|'.join(sorted(REQUIRED_SERVICES))})/)[^/]+/.+",
    ),
    "servers": (
        "Arrow Flight, an RPC server and client, which is optional for pyarrow",
        r"pyarrow/(_flight\.[^/]*|flight\.py|libarrow(_python)?_flight\.[^/]*)",
    ),
    "twins": ("compiled copies of fontTools modules; the Python versions do the same, only slower", r"fontTools/.+\.so"),
    # pyarrow loads .so.2000 only.
    "linking": (
        "copies of libraries under the names that linkers use",
        r"pyarrow/libarrow_python\w*\.so(\.\d+\.\d+\.\d+)?",
    ),
    "front-ends": ("JupyterLab extensions and manual pages", r"share/(.+/)?(labextensions|man)/.+"),
}
"""Reason and pattern of the paths of each kind of excluded files. The first pattern that matches counts."""
_PATTERNS = {kind: re.compile(pattern) for kind, (_, pattern) in _RULES.items()}


def exclusion_kind(path: str) -> str:
    """Return the kind of an excluded file by its path in the packages' folder; empty if the file is kept."""
    return next((kind for kind, pattern in _PATTERNS.items() if pattern.fullmatch(path)), "")


def exclusion_reason(kind: str) -> str:
    """Return why files of a kind are excluded."""
    return _RULES[kind][0]


def delete_excluded(target: Path) -> dict[str, int]:
    """Delete excluded files under ``target``; return the deleted bytes by kind. Link targets are not deleted."""
    deleted: Counter[str] = Counter()
    for path in target.rglob("*"):
        kind = exclusion_kind(path.relative_to(target).as_posix())
        if kind and (path.is_symlink() or not path.is_dir()):
            deleted[kind] += path.lstat().st_size
            path.unlink()
    for folder in sorted((path for path in target.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
    return dict(sorted(deleted.items()))
