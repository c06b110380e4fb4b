"""Build the bundle: one zip file with everything that a job needs, named by its digest.

bundle.json       manifest: versions, digests, commit, lock
packages/         the packages of requirements-glue39.lock for Python 3.9 on manylinux2014, compiled
modules.zip       the packages that Python can import from a zip file, compiled
orchestration/    the job script, the state machines, the packages daybook and asl_local
notebooks/  params/  requirements-glue39.lock
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from daybook import __version__
from daybook.deploy.bytecode import compile_all, find_python, python_version
from daybook.deploy.exclude import delete_excluded, exclusion_reason
from daybook.deploy.wheels import PLATFORM, PYTHON_VERSION, install_wheels, list_distributions, require_loadable
from daybook.deploy.zip_packages import ARCHIVE_NAME, move_zip_safe_packages
from daybook.errors import BundleError
from daybook.records.archive import sha256
from daybook.records.fingerprint import BUNDLE_MANIFEST, GLUE_LOCK, code_version
from daybook.settings import list_files, project_root
from daybook.storage import wrap_write_errors

DIGEST_LENGTH = 16
"""Number of hexadecimal digits of the SHA-256 in names."""
PACKAGE_DIR = Path(__file__).resolve().parents[1]
_PACKAGES = (PACKAGE_DIR, PACKAGE_DIR.with_name("asl_local"))
_PROJECT_PATTERNS = (
    GLUE_LOCK,
    "notebooks/*.ipynb",
    "params/**/*.yaml",
    "orchestration/*.asl.json",
    "orchestration/*.py",
)
"""The project files that a job reads."""
_PACKAGE_SUFFIXES = {".py", ".css", ".j2", ".svg", ".txt", ".typed"}
_ZIP_TIMESTAMP = (1980, 1, 1, 0, 0, 0)
"""The timestamp of every file in the archive, the earliest in the zip format, so that equal files give equal archives."""
_COMPRESSION_LEVEL = 6
_DIST_INFO_FILES = {
    "METADATA": f"Metadata-Version: 2.1\nName: daybook\nVersion: {__version__}\n",
    "entry_points.txt": (
        "[jupyter_client.kernel_provisioners]\ndaybook-fork = daybook.execution.fork_server.provisioner:ForkProvisioner\n"
    ),
}
"""Metadata of an installed package. Jupyter finds the kernel provisioner by its entry point."""


@dataclass(frozen=True)
class Bundle:
    """A built bundle.

    ``size``, ``unpacked`` and the values of ``left_out`` (the excluded files by kind) are in bytes. ``compiled_by`` is the
    version of the compiling Python, None if nothing was compiled.
    """

    path: Path
    sha256: str
    size: int
    unpacked: int
    files: int
    packages: int
    compiled_by: Optional[str]
    left_out: dict[str, int]


def build_bundle(out: Path) -> Bundle:
    """Build the bundle of the project as ``daybook-<digest>.zip`` in the folder ``out``.

    The same project and lock give the same bytes in any folder and at any time.

    Raises
    ------
    BundleError
        There is no lock, or its wheels cannot be installed or loaded.
    """
    with wrap_write_errors(f"The folder {out}"):
        out.mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix=".building-", dir=out))
        try:
            return _build_from(root / "bundle", out)
        finally:
            shutil.rmtree(root, ignore_errors=True)


def _build_from(root: Path, out: Path) -> Bundle:
    lock = project_root() / GLUE_LOCK
    if not lock.is_file():
        raise BundleError(f"{lock} does not exist; build the bundle from a checkout.")
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
    # Stored, since the bundle compresses it, and imports from an uncompressed file are faster.
    _write_zip(modules, root / ARCHIVE_NAME, zipfile.ZIP_STORED)
    compiled_by = python_version(python) if python else None
    digests = {path.relative_to(root).as_posix(): sha256(path.read_bytes()) for path in _list_files(root)}
    manifest = {
        "daybook": __version__,
        **code_version(),
        "lock_sha256": sha256(lock.read_bytes()),
        "python": PYTHON_VERSION,
        "platform": PLATFORM,
        "compiled_by": compiled_by,
        "packages": [{"name": each.name, "version": each.version, "tags": list(each.tags)} for each in found],
        "left_out": {kind: {"bytes": size, "reason": exclusion_reason(kind)} for kind, size in left_out.items()},
        "sha256": digests,
    }
    (root / BUNDLE_MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    archive = root.with_suffix(".zip")
    _write_zip(root, archive, zipfile.ZIP_DEFLATED)
    digest = sha256(archive.read_bytes())
    path = archive.replace(out / f"daybook-{digest[:DIGEST_LENGTH]}.zip")
    files = _list_files(root)
    unpacked = sum(each.stat().st_size for each in files)
    return Bundle(path, digest, path.stat().st_size, unpacked, len(files), len(found), compiled_by, left_out)


def _copy_project(root: Path) -> None:
    """Copy the project files that a job reads and the Python packages; other files of the checkout are left out."""
    project = project_root()
    copies = {path: root / path.relative_to(project) for path in list_files(project, *_PROJECT_PATTERNS)}
    for package in _PACKAGES:
        files = [path for path in list_files(package, "**/*") if path.suffix in _PACKAGE_SUFFIXES]
        copies |= {path: root / "orchestration" / path.relative_to(package.parent) for path in files}
    for source, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    about = root / "packages" / f"daybook-{__version__}.dist-info"
    about.mkdir()
    for name, text in _DIST_INFO_FILES.items():
        (about / name).write_text(text, encoding="utf-8")


def _write_zip(root: Path, archive: Path, method: int) -> None:
    """Write every file into a zip file, sorted and with fixed time and mode, so that equal files give equal bytes.

    Files of a zip archive can be unpacked in parallel, unlike those of a tar archive.
    """
    with zipfile.ZipFile(archive, "w") as target:
        for path in _list_files(root):
            entry = zipfile.ZipInfo(path.relative_to(root).as_posix(), _ZIP_TIMESTAMP)
            entry.compress_type = method
            entry.create_system = 3  # Unix, since the mode is a Unix mode
            entry.external_attr = 0o100644 << 16
            entry.file_size = path.stat().st_size
            entry._compresslevel = _COMPRESSION_LEVEL  # type: ignore[attr-defined]
            with path.open("rb") as source, target.open(entry, "w") as packed:
                shutil.copyfileobj(source, packed, 1 << 20)


def _list_files(root: Path) -> list[Path]:
    return sorted((path for path in root.rglob("*") if path.is_file()), key=Path.as_posix)
