"""Python files compiled ahead, for the job's Python, so that a job's start compiles nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

from daybook.deploy.wheels import PYTHON_VERSION
from daybook.errors import BundleError

# Run by the job's Python, alone with its standard library. A module's name in tracebacks is set again as it is imported, so
# that the path compiled in may be a relative one, and says nothing of this machine. What cannot be compiled is left as source:
# packages carry templates, and code for other Pythons. Written in marshal's second format, since later ones tell which objects
# something else in the compiling process shares: by chance, other bytes each time.
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
    # Out of a zip file Python takes only what lies beside the source.
    compiled = root / (name + "c" if sys.argv[2] == "beside" else cache_from_source(name))
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(MAGIC_NUMBER + b"\\1\\0\\0\\0" + source_hash(source) + marshal.dumps(code, 2))
"""


def find_python() -> Optional[str]:
    """A Python of the job's version on this machine: this one, one on the PATH, or one of pyenv's; None where there is none."""
    if "{}.{}".format(*sys.version_info) == PYTHON_VERSION:
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python{PYTHON_VERSION}"), *sorted(pyenv.glob(f"{PYTHON_VERSION}.*/bin/python"))]
    # A shim of pyenv's is on the PATH also where the version is not chosen, and ends with an error.
    return next((str(each) for each in candidates if each and python_version(str(each)).startswith(f"{PYTHON_VERSION}.")), None)


def python_version(python: str) -> str:
    """The full version of a Python, ``3.9.18``; empty where it does not run."""
    command = [python, "-I", "-S", "-c", "import platform; print(platform.python_version())"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def compile_all(root: Path, python: str, *, beside: bool = False) -> int:
    """Compile every ``.py`` file under ``root``, to be taken unchecked; how many were compiled.

    Into ``__pycache__``, or ``beside`` the source, where Python looks for it in a zip file.

    With one seed for hashes, since the order of a set of constants shows in the bytes.
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
        raise BundleError(
            f"{python} could not compile the bundle ({done.stderr.strip().splitlines()[-1:]}); try another Python."
        )
    return sum(1 for _ in root.rglob("*.pyc"))
