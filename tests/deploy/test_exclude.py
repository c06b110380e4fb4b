"""Test which files of packages are excluded from the bundle."""

from __future__ import annotations

import ast
import os
from pathlib import Path

import pytest

import daybook
from daybook.deploy.exclude import REQUIRED_SERVICES, delete_excluded, exclusion_kind, exclusion_reason


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("bin/papermill", "scripts"),
        ("pandas/tests/frame/test_api.py", "tests"),
        ("tornado/test/web_test.py", "tests"),
        ("numpy/testing/tests/test_utils.py", "tests"),
        ("numpy/__init__.pyi", "sources"),
        ("pyarrow/include/arrow/api.h", "sources"),
        ("debugpy/__init__.py", "debugger"),
        ("debugpy-1.8.16.dist-info/METADATA", "debugger"),
        ("jedi/api/__init__.py", "completion"),
        ("botocore/data/ec2/2016-11-15/service-2.json.gz", "services"),
        ("duckdb-1.2.2.dist-info/RECORD", "installer"),
        ("pyarrow/_flight.cpython-39-x86_64-linux-gnu.so", "servers"),
        ("pyarrow/libarrow_flight.so.2000", "servers"),
        ("pyarrow/libarrow_python_flight.so.2000", "servers"),
        ("pyarrow/libarrow_python.so", "linking"),
        ("pyarrow/libarrow_python.so.2000.0.0", "linking"),
        ("fontTools/misc/bezierTools.cpython-39-x86_64-linux-gnu.so", "twins"),
        ("share/jupyter/labextensions/x/package.json", "front-ends"),
    ],
)
def test_unneeded_files_are_excluded_with_reason(path: str, kind: str) -> None:
    assert exclusion_kind(path) == kind
    assert exclusion_reason(kind)


@pytest.mark.parametrize(
    "path",
    [
        *("duckdb-1.2.2.dist-info/METADATA", "papermill-2.6.0.dist-info/entry_points.txt", "numpy/testing/__init__.py"),
        *("botocore/data/s3/2006-03-01/service-2.json.gz", "botocore/data/endpoints.json", "botocore/data/partitions.json"),
        *("share/jupyter/kernels/python3/kernel.json", "pandas/_testing/__init__.py", "deltalake/_internal.abi3.so", "six.py"),
        *("pyarrow/libarrow_python.so.2000", "pyarrow/libarrow_substrait.so.2000", "pyarrow/dataset.py", "fontTools/ttx.py"),
        *("test.py", "numpy/_core/_multiarray_tests.cpython-39-x86_64-linux-gnu.so"),
    ],
)
def test_needed_files_are_kept(path: str) -> None:
    assert exclusion_kind(path) == ""


def test_exclusion_keeps_hard_linked_cache_files(tmp_path: Path) -> None:
    cached = tmp_path / "cached.pyi"
    cached.write_text("x: int\n")
    target = tmp_path / "packages"
    (target / "some").mkdir(parents=True)
    os.link(cached, target / "some" / "stub.pyi")
    (target / "some" / "code.py").write_text("x = 1\n")
    assert delete_excluded(target) == {"sources": 7}
    assert [path.name for path in target.rglob("*") if path.is_file()] == ["code.py"]
    assert cached.read_text() == "x: int\n"


def test_all_used_aws_services_are_kept() -> None:
    called = set()
    for path in Path(daybook.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("client", "resource", "create_client"):
                called.update(each.value for each in node.args[:1] if isinstance(each, ast.Constant))
    assert "secretsmanager" in called
    assert called <= REQUIRED_SERVICES
