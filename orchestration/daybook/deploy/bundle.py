"""The bundle: one file with all that a job runs from, named by its content, so that a job needs no index and no installer.

bundle.json       what is in it: versions, digests, commit, lock
packages/         the packages of requirements.lock, for Python 3.9 on manylinux2014, compiled
modules.zip       those of them that Python can import from there, compiled
orchestration/    the job script, the state machines, the package daybook
notebooks/  params/  requirements.lock
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from daybook import __version__
from daybook.deploy.bytecode import compile_all, find_python, python_version
from daybook.deploy.exclude import delete_excluded, exclusion_reason
from daybook.deploy.wheels import PLATFORM, PYTHON_VERSION, install_wheels, list_distributions, require_loadable
from daybook.deploy.zip_packages import ARCHIVE_NAME, move_zip_safe_packages
from daybook.errors import BundleError
from daybook.records.fingerprint import BUNDLE_MANIFEST, code_version
from daybook.settings import list_files, project_root
from daybook.storage import wrap_write_errors

DIGEST_LENGTH = 16
"""So many hexadecimal digits of the archive's SHA-256 are in its name."""
PACKAGE_DIR = Path(__file__).resolve().parents[1]
_PACKAGES = (PACKAGE_DIR, PACKAGE_DIR.with_name("asl_local"))
_PROJECT_PATTERNS = (
    "requirements.lock",
    "notebooks/*.ipynb",
    "params/**/*.yaml",
    "orchestration/*.asl.json",
    "orchestration/*.py",
)
"""What of the project a job reads."""
_PACKAGE_SUFFIXES = {".py", ".css", ".j2", ".svg", ".txt", ".typed"}
_ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The time of every file in the archive, the first that a zip file can say: when a file came here is no part of it."""
_COMPRESSION_LEVEL = 6
_DIST_INFO_FILES = {
    "METADATA": f"Metadata-Version: 2.1\nName: daybook\nVersion: {__version__}\n",
    "entry_points.txt": (
        "[jupyter_client.kernel_provisioners]\ndaybook-fork = daybook.execution.fork_server.provisioner:ForkProvisioner\n"
    ),
}
"""Metadata of the package, as if it were installed: Jupyter finds the kernel provisioner by its entry point."""


@dataclass(frozen=True)
class Bundle:
    """An archive as built. ``size`` and ``unpacked`` in bytes; ``compiled_by`` is a Python's version, or None."""

    path: Path
    sha256: str
    size: int
    unpacked: int
    files: int
    packages: int
    compiled_by: Optional[str]
    left_out: dict[str, int]


def build_bundle(out: Path) -> Bundle:
    """Build the bundle of the project into the folder ``out``, as ``daybook-<digits>.zip``.

    The same project and lock give the same bytes, whatever folder and day. Raises ``BundleError``.
    """
    with wrap_write_errors(f"The folder {out}"):
        out.mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix=".building-", dir=out))
        try:
            return _build_from(root / "bundle", out)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _build_from(root: Path, out: Path) -> Bundle:
    lock = project_root() / "requirements.lock"
    if not lock.is_file():
        raise BundleError(f"{lock} is not there, which says what a bundle holds; build from a checkout.")
    packages = root / "packages"
    install_wheels(lock, packages)
    require_loadable(list_distributions(packages))
    left_out = delete_excluded(packages)
    found = list_distributions(packages)
    _copy_project(root)
    modules = root.with_name("modules")
    move_zip_safe_packages(packages, modules)
    python = find_python()
    if python:
        compile_all(root, python)
        compile_all(modules, python, beside=True)
    # Not compressed by itself: the bundle is, and a job imports faster so.
    _write_zip(modules, root / ARCHIVE_NAME, zipfile.ZIP_STORED)
    compiled_by = python_version(python) if python else None
    digests = {path.relative_to(root).as_posix(): _file_sha256(path) for path in _list_files(root)}
    manifest = {
        "daybook": __version__,
        **code_version(),
        "python": PYTHON_VERSION,
        "platform": PLATFORM,
        "compiled_by": compiled_by,
        "packages": [{"name": each.name, "version": each.version, "tags": list(each.tags)} for each in found],
        "left_out": {kind: {"bytes": size, "reason": exclusion_reason(kind)} for kind, size in left_out.items()},
        "sha256": digests,
    }
    (root / BUNDLE_MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    made = root.with_suffix(".zip")
    _write_zip(root, made, zipfile.ZIP_DEFLATED)
    digest = _file_sha256(made)
    path = out / f"daybook-{digest[:DIGEST_LENGTH]}.zip"
    made.replace(path)
    files = _list_files(root)
    unpacked = sum(each.stat().st_size for each in files)
    return Bundle(path, digest, path.stat().st_size, unpacked, len(files), len(found), compiled_by, left_out)


def _copy_project(root: Path) -> None:
    """What a job reads of the project, and the package; nothing else that may lie in the checkout."""
    project = project_root()
    wanted = {path.relative_to(project): path for path in list_files(project, *_PROJECT_PATTERNS)}
    for package in _PACKAGES:
        inside = Path("orchestration") / package.name
        wanted.update(
            {
                inside / path.relative_to(package): path
                for path in list_files(package, "**/*")
                if path.suffix in _PACKAGE_SUFFIXES
            }
        )
    for place, path in wanted.items():
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, root / place)
    about = root / "packages" / f"daybook-{__version__}.dist-info"
    about.mkdir()
    for name, text in _DIST_INFO_FILES.items():
        (about / name).write_text(text, encoding="utf-8")


def _write_zip(root: Path, archive: Path, method: int) -> None:
    """Write every file into a zip file: sorted, with one time and one mode, so that equal files make equal bytes.

    A zip file rather than a tar file, since its files can be unpacked side by side.
    """
    with zipfile.ZipFile(archive, "w") as target:
        for path in _list_files(root):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _ZIP_TIMESTAMP)
            entry.compress_type = method
            entry.create_system = 3  # Unix, on whatever system it is written: the mode is Unix's.
            entry.external_attr = 0o100644 << 16
            entry.file_size = path.stat().st_size
            entry._compresslevel = _COMPRESSION_LEVEL  # type: ignore[attr-defined]
            with path.open("rb") as source, target.open(entry, "w") as packed:
                shutil.copyfileobj(source, packed, 1 << 20)


def _list_files(root: Path) -> list[Path]:
    return sorted((path for path in root.rglob("*") if path.is_file()), key=Path.as_posix)


def _file_sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(archive: Path) -> dict[str, Any]:
    """What a bundle says of itself."""
    with zipfile.ZipFile(archive) as packed:
        manifest: dict[str, Any] = json.loads(packed.read(BUNDLE_MANIFEST))
    return manifest
