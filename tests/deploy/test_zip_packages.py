"""Test which packages are put into one zip file, and that Python imports them from there with sources for tracebacks."""

from __future__ import annotations

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from daybook.deploy.bytecode import compile_all, find_python
from daybook.deploy.zip_packages import ARCHIVE_NAME, is_zip_safe, move_zip_safe_packages


def create_files(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return folder


@pytest.mark.parametrize(
    ("name", "files", "can"),
    [
        ("pure", ["__init__.py", "py.typed", "deep/__init__.py", "deep/module.py"], True),
        ("compiled", ["__init__.py", "_fast.cpython-39-x86_64-linux-gnu.so"], False),
        ("templated", ["__init__.py", "page.j2"], False),
        ("namespace", ["module.py"], False),
        ("halved", ["__init__.py", "deep/module.py"], False),
        ("pure-1.0.dist-info", ["METADATA", "__init__.py"], False),
        ("tzdata", ["__init__.py", "zoneinfo/__init__.py", "zoneinfo/UTC"], True),
        ("certifi", ["__init__.py", "cacert.pem"], False),
    ],
)
def test_zip_safe_packages(tmp_path: Path, name: str, files: list[str], can: bool) -> None:
    assert is_zip_safe(create_files(tmp_path / name, *files)) is can


def test_only_zip_safe_packages_are_moved(tmp_path: Path) -> None:
    packages = create_files(tmp_path / "packages", "six.py", "pure/__init__.py", "pure-1.dist-info/METADATA", "compiled/lib.so")
    assert move_zip_safe_packages(packages, tmp_path / "modules") == ["pure"]
    assert sorted(path.name for path in packages.iterdir()) == ["compiled", "pure-1.dist-info", "six.py"]
    assert (tmp_path / "modules" / "pure" / "__init__.py").is_file()


@pytest.mark.skipif(find_python() is None, reason="nothing is compiled ahead without a Python 3.9 on this machine")
def test_zipped_bytecode_is_used_with_sources_in_tracebacks(tmp_path: Path) -> None:
    modules = tmp_path / "modules"
    (modules / "pure").mkdir(parents=True)
    (modules / "pure" / "__init__.py").write_text("def fail():\n    raise ValueError('a word')  # why\n")
    assert compile_all(modules, str(find_python()), beside=True) == 1
    compiled = (modules / "pure" / "__init__.pyc").read_bytes()
    assert compiled[4:8] == b"\x01\0\0\0"
    with zipfile.ZipFile(tmp_path / ARCHIVE_NAME, "w") as archive:
        archive.writestr("pure/__init__.py", (modules / "pure" / "__init__.py").read_text())
        archive.writestr("pure/__init__.pyc", compiled)
    code = """if True:
        import sys, traceback
        sys.path.insert(0, sys.argv[1])
        import pure
        print(pure.__file__)
        try:
            pure.fail()
        except ValueError:
            traceback.print_exc(file=sys.stdout)
    """
    done = subprocess.run(
        [str(find_python()), "-I", "-c", code, str(tmp_path / ARCHIVE_NAME)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0] == str(tmp_path / ARCHIVE_NAME / "pure" / "__init__.pyc")
    assert re.search(r"in fail\s+raise ValueError\('a word'\)  # why", done.stdout)
