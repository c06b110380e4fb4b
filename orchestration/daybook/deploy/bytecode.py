"""Compile Python files ahead of time for the job's Python version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

from daybook.deploy.wheels import PYTHON_VERSION
from daybook.errors import BundleError

# The job's Python runs this script with the standard library only. Python sets the file name for tracebacks at import, so the
# compiled path is relative and does not contain paths of this machine. Files that do not compile stay as source: packages
# contain templates and code for other Python versions. marshal version 2 is used because later versions encode which objects
# the compiling process shares, which differs between runs.
_COMPILE_SCRIPT = """
import marshal, sys, warnings
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import Path
warnings.simplefilter("ignore")
root = Path(sys.argv[1])
for name in sys.stdin.read().splitlines():
    source = (root / name).read_bytes()
    try:
        code = compile(source, name, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError):
        continue
    # From a zip file, Python loads only a .pyc beside the source.
    compiled = root / (name + "c" if sys.argv[2] == "beside" else cache_from_source(name))
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(MAGIC_NUMBER + b"\\1\\0\\0\\0" + source_hash(source) + marshal.dumps(code, 2))
"""


def find_python() -> Optional[str]:
    """Return a Python of the job's version: this one, one on the PATH or one of pyenv; None if there is none."""
    if "{}.{}".format(*sys.version_info) == PYTHON_VERSION:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{PYTHON_VERSION}"), *sorted(pyenv.glob(f"{PYTHON_VERSION}.*/bin/python"))]
    # A shim of pyenv is on the PATH even if its version is not selected; then it exits with an error.
    return next((str(each) for each in candidates if each and python_version(str(each)).startswith(f"{PYTHON_VERSION}.")), None)


def python_version(python: str) -> str:
    """Return the full version of a Python, such as ``3.9.18``; empty if it does not run."""
    command = [python, "-I", "-S", "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def compile_all(root: Path, python: str, *, beside: bool = False) -> int:
    """Compile every ``.py`` file under ``root`` to unchecked hash-based ``.pyc`` files (PEP 552); return their number.

    The files are written to ``__pycache__``, or with ``beside`` next to the sources, as zip files need. The hash seed is
    fixed, because the order of a set of constants is part of the bytes.
    """
    names = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*.py"))]
    done = subprocess.run(  # noqa: S603
        [python, "-S", "-s", "-B", "-c", _COMPILE_SCRIPT, str(root), "beside" if beside else "cache"],
        input="\n".join(names),
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONHASHSEED": "0", "PYTHONUTF8": "1"},
    )
    if done.returncode:
        reason = done.stderr.strip().rpartition("\n")[2]
        raise BundleError(f"{python} could not compile the bundle ({reason}); use another Python {PYTHON_VERSION}.")
    return len(list(root.rglob("*.pyc")))
