"""Record which code ran: commit, lock, state machine, packages, and a fingerprint of what decides a date's numbers."""

from __future__ import annotations

import functools
import io
import json
import re
import shutil
import subprocess
import tokenize
from importlib.metadata import version
from pathlib import Path
from typing import Any, Optional

from daybook.contracts.files import landing_contract_path
from daybook.errors import ParamsError
from daybook.records.archive import sha256
from daybook.records.names import STAGES, notebook_name
from daybook.settings import Settings, list_files, project_root, read_yaml

BUNDLE_MANIFEST = "bundle.json"
"""The file, at the root of an unpacked bundle, that says what the bundle was built from."""

GLUE_LOCK = "requirements-glue39.lock"
"""The lock of the packages on AWS Glue Python shell."""
_LOCKS = (GLUE_LOCK, "requirements.lock")

LOGIC_VERSION = 1
"""The version of the logic in package code. Raise it with every change that gives another row, verdict or figure for the same
input; ``tests/notebook/test_logic_version.py`` fails where that was forgotten."""
FINGERPRINT_SETTINGS = ("timezone", "currency", "max_rejected_share", "tolerated_rejected_rows", "returns_count_on")
"""Settings that change numbers, or which numbers are published."""
_PARAMETER_TAGS = frozenset({"parameters", "injected-parameters"})
"""Tags of the cell that declares parameters, and of the one in which papermill assigns them."""
_DESCRIPTIVE_SOURCE_KEYS = ("title", "licence", "calendar")
"""Keys of a source that change no row."""


@functools.cache
def code_version() -> dict[str, Any]:
    """Return the commit, whether the checkout has uncommitted changes, and the digest of the lock (``find_lock``).

    In a bundle they are those of the checkout that it was built from. Without git, commit and changes are None.
    """
    root = project_root()
    bundle = root / BUNDLE_MANIFEST
    if bundle.is_file():
        built: dict[str, Any] = json.loads(bundle.read_bytes())
        return {key: built[key] for key in ("commit", "dirty", "lock_sha256")}
    commit = _run_git(root, "rev-parse", "HEAD")
    status = _run_git(root, "status", "--porcelain", "--untracked-files=normal") if commit else None
    lock = find_lock(root)
    return {
        "commit": commit,
        "dirty": None if status is None else bool(status),
        "lock_sha256": sha256(lock.read_bytes()) if lock else None,
    }


def find_lock(root: Path) -> Optional[Path]:
    """Return the lock that has the installed version of DuckDB: it tells which set of packages computes."""
    pinned = re.compile(rf"^duckdb=={re.escape(version('duckdb'))}(?![\w.])", re.MULTILINE)
    return next((path for path in list_files(root, *_LOCKS) if pinned.search(path.read_text(encoding="utf-8"))), None)


def state_machine_path(name: str = "daily") -> Path:
    """Return the file of a state machine: daily (one business date), backfill, catch_up, nightly."""
    return project_root() / "orchestration" / f"{name}.asl.json"


def state_machine_version() -> dict[str, str]:
    """Return name and digest of the daily run's state machine file."""
    path = state_machine_path()
    return {"file": path.name, "sha256": sha256(path.read_bytes())}


def compute_fingerprint(settings: Settings) -> dict[str, Any]:
    """Return what decides the numbers of a date's tables: ``logic``, the ``LOGIC_VERSION``, and SHA-256 digests by part.

    The parts are the notebooks' code (without outputs, metadata, text, comments and parameters), the contracts of silver and
    gold (without descriptions), the source with its landing contract, and the settings that change numbers. Equal fingerprints
    and equal input give equal tables. Packages are no part of it: see ``package_versions``. No part depends on the
    wording or the layout of Daybook's source code.

    The project's files are read at each call, because they may change while a process lives.
    """
    params = project_root() / "params"
    source = _read_yaml_content(params / "sources" / f"{settings.source}.yaml")
    if isinstance(source, dict):
        source = {key: value for key, value in source.items() if key not in _DESCRIPTIVE_SOURCE_KEYS}
    contracts = [path for layer in ("silver", "gold") for path in list_files(params / "contracts" / layer, "*.yaml")]
    return {
        "logic": LOGIC_VERSION,
        "notebooks": _digest([[name, _notebook_code(name)] for name in map(notebook_name, STAGES[:-1])]),
        "contracts": _digest([[path.stem, _remove_descriptions(_read_yaml_content(path))] for path in contracts]),
        "source": _digest([source, _remove_descriptions(_read_yaml_content(landing_contract_path(settings.source)))]),
        "settings": _digest([[key, getattr(settings, key)] for key in FINGERPRINT_SETTINGS]),
    }


def package_versions() -> dict[str, Optional[str]]:
    """Return which packages compute: the ``engine`` with its version, and ``lock``, the SHA-256 digest of the lock file.

    They are recorded beside the fingerprint. Another release of a package should give the same numbers.
    """
    return {"engine": f"duckdb {version('duckdb')}", "lock": code_version()["lock_sha256"]}


def _digest(parts: list[Any]) -> str:
    return sha256(json.dumps(parts, default=str).encode())


# A run is closed also if the project has changed since it started. A file that cannot be parsed counts by its bytes, an absent
# file counts as None.


def _notebook_code(name: str) -> Any:
    """Return the normalised code cells of a notebook, without its parameters."""
    path = project_root() / "notebooks" / f"{name}.ipynb"
    return normalize_notebook(path.read_bytes()) if path.is_file() else None


def normalize_notebook(content: bytes) -> Any:
    """Return the normalised code cells of a notebook file, which are equal before and after it was executed.

    Cells of parameters are left out. A file that is no notebook counts by its digest.
    """
    try:
        cells = [cell for cell in json.loads(content)["cells"] if cell["cell_type"] == "code"]
        # The format allows a source to be a text or a list of lines.
        return [
            normalize_cell("".join(cell["source"]))
            for cell in cells
            if _PARAMETER_TAGS.isdisjoint(cell["metadata"].get("tags", []))
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return sha256(content)


def normalize_cell(cell: str) -> Any:
    """Return the code of a cell without comments, blank lines and, in SQL, white space.

    A cell that is neither SQL nor Python that can be split into tokens counts as it is written.
    """
    first, _, rest = cell.strip().partition("\n")
    if first.startswith("%%sql"):
        import sqlglot  # Only here: most processes that import this module read no notebook.

        try:
            return [first.split(), [[token.token_type.name, token.text] for token in sqlglot.tokenize(rest, read="duckdb")]]
        except sqlglot.errors.SqlglotError:
            return cell
    lines = cell.splitlines(keepends=True)
    try:
        for token in tokenize.generate_tokens(io.StringIO(cell).readline):
            if token.type == tokenize.COMMENT:
                row, column = token.start
                lines[row - 1] = lines[row - 1][:column] + "\n"
    except (tokenize.TokenError, SyntaxError):
        return cell
    return [line.rstrip() for line in lines if line.strip()]


def _read_yaml_content(path: Path) -> Any:
    """Return what a YAML file holds."""
    if not path.is_file():
        return None
    try:
        return read_yaml(path)
    except ParamsError:
        return sha256(path.read_bytes())


def _remove_descriptions(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _remove_descriptions(value) for key, value in node.items() if key != "description"}
    return [_remove_descriptions(each) for each in node] if isinstance(node, list) else node


def _run_git(root: Path, *arguments: str) -> Optional[str]:
    """Return what git prints; None without git, or if the project is no checkout."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    done = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
