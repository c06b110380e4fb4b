"""Which code ran: commit, whether it was changed since, the lock of its packages, the state machine's file, and a fingerprint
of all that decides what a date's tables hold.

Here: facts about the project's own files. Not here: which data was read (``daybook.lake`` notes versions).
"""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Optional

from daybook.archive import sha256
from daybook.contracts.files import landing_contract_path
from daybook.errors import ParamsError
from daybook.params import Settings, project_root, read_yaml
from daybook.stages import STAGES, notebook_name

PACKAGE = Path(__file__).resolve().parent
BUNDLE_MANIFEST = "bundle.json"
"""The file, at the root of an unpacked bundle, that says what the bundle was built from."""

DECIDING = (
    *("contracts", "engines", "delta", "evolution", "properties", "lake", "versions", "publication"),
    *("sources.spec", "sources.files", "sources.blocks", "sources.mapping"),
    *("quality.rules", "quality.checks", "quality.verdicts", "quality.history"),
    *("erasure.withholding", "erasure.people", "erasure.blanks"),
    "pii.keys",
    *("notebook.stage", "notebook.magic", "notebook.dates", "notebook.approval", "notebook.releases"),
    *("notebook.ingest", "notebook.validate", "notebook.transform", "notebook.aggregate", "notebook.quality"),
    "notebook.publishing",
)
"""The rooms, or of mixed rooms the modules, that decide what a date's tables hold: a change in one of them can make another
row, another verdict or another published figure of the same input. What starts, watches, records, shows or tells of a run is
not among them, nor is what stewards start (their acts are runs, or rewrite the tables themselves), nor what only carries values
that have a part of their own in the fingerprint (``params``), or hands bytes on as they are (``storage``)."""
DECIDING_SETTINGS = ("timezone", "currency", "engine", "max_rejected_share", "tolerated_rejected_rows")
_SAID_OF_SOURCE = ("title", "licence", "calendar")
"""Keys of a source that change no row."""


@functools.cache
def code_version() -> dict[str, Any]:
    """``commit`` and ``dirty`` (of the checkout, or of that which the bundle was built from; null elsewhere) and
    ``lock_sha256``, the digest of ``requirements.lock``."""
    root = project_root()
    bundle = root / BUNDLE_MANIFEST
    if bundle.is_file():
        built: dict[str, Any] = json.loads(bundle.read_bytes())
        return {key: built[key] for key in ("commit", "dirty", "lock_sha256")}
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "status", "--porcelain", "--untracked-files=normal") if commit else None
    lock = root / "requirements.lock"
    return {
        "commit": commit,
        "dirty": None if status is None else bool(status),
        "lock_sha256": sha256(lock.read_bytes()) if lock.is_file() else None,
    }


def state_machine_path(name: str = "daily") -> Path:
    """The file of a state machine: daily (one business date), backfill, catch_up, nightly."""
    return project_root() / "orchestration" / f"{name}.asl.json"


def state_machine_version() -> dict[str, str]:
    """Name and digest of the nightly run's state machine file."""
    path = state_machine_path()
    return {"file": path.name, "sha256": sha256(path.read_bytes())}


def fingerprint(settings: Settings) -> dict[str, Optional[str]]:
    """Digests (SHA-256) of what computes a date's tables, by part; null where there is nothing to digest.

    Notebooks count by their code (no outputs, no metadata, no text, and no parameters, which each run is given), contracts and
    the source by what they say (no comments, no descriptions), the package by its files' bytes. Equal digests, equal input:
    equal tables. It needs no git, and reads some fifty small files anew each time, since they may change while a process lives.
    """
    params = project_root() / "params"
    lock = project_root() / "requirements.lock"
    source = _said(params / "sources" / f"{settings.source}.yaml")
    if isinstance(source, dict):
        source = {key: value for key, value in source.items() if key not in _SAID_OF_SOURCE}
    contracts = [path for layer in ("silver", "gold") for path in sorted((params / "contracts" / layer).glob("*.yaml"))]
    return {
        "notebooks": _digest([[name, _code_of(name)] for name in map(notebook_name, STAGES[:-1])]),
        "package": _digest([[name, sha256(path.read_bytes())] for name, path in _deciding_modules()]),
        "contracts": _digest([[path.stem, _undescribed(_said(path))] for path in contracts]),
        "source": _digest([source, _undescribed(_said(landing_contract_path(settings.source)))]),
        "settings": _digest([[key, getattr(settings, key)] for key in DECIDING_SETTINGS]),
        "lock": sha256(lock.read_bytes()) if lock.is_file() else None,
    }


def _digest(parts: list[Any]) -> str:
    return sha256(json.dumps(parts, default=str).encode())


# A run is closed whatever has been done to the project since it began: a file that cannot be read as what it should be counts
# by its bytes, and one that is gone is noted as such.


def _code_of(name: str) -> Any:
    """The code cells of a notebook, without its parameters."""
    path = project_root() / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        return None
    try:
        cells = [cell for cell in json.loads(path.read_bytes())["cells"] if cell["cell_type"] == "code"]
        # A source is a text, or its lines.
        return ["".join(cell["source"]) for cell in cells if "parameters" not in cell["metadata"].get("tags", [])]
    except (ValueError, KeyError, TypeError, AttributeError):
        return sha256(path.read_bytes())


def _deciding_modules() -> list[tuple[str, Path]]:
    found = []
    for name in DECIDING:
        place = PACKAGE.joinpath(*name.split("."))
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        found += [(str(path.relative_to(PACKAGE)), path) for path in files]
    return found


def _said(path: Path) -> Any:
    """What a YAML file says."""
    if not path.is_file():
        return None
    try:
        return read_yaml(path)
    except ParamsError:
        return sha256(path.read_bytes())


def _undescribed(node: Any) -> Any:
    """A contract without its prose."""
    if isinstance(node, dict):
        return {key: _undescribed(value) for key, value in node.items() if key != "description"}
    return [_undescribed(each) for each in node] if isinstance(node, list) else node


def _git(root: Path, *arguments: str) -> Optional[str]:
    """What git prints, or None where there is no git or no checkout of the project's own."""
    git = shutil.which("git")
    if git is None or not (root / ".git").exists():
        return None
    done = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
