"""Test the bundle, and run a day from it as AWS Glue Python shell does, on a bare Python 3.9."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daybook.cli import main
from daybook.deploy.bundle import Bundle, build_bundle
from daybook.deploy.bytecode import find_python
from daybook.deploy.wheels import install_wheels, is_loadable
from daybook.errors import BundleError
from daybook.records.archive import Archive, sha256
from daybook.records.fingerprint import code_version
from daybook.records.names import STAGES
from daybook.settings import is_temporary_name
from demo_shop import generate

PROJECT = Path(__file__).resolve().parents[2]
UNREACHABLE = re.compile(r"failed to fetch|error sending request|dns error|connect error|timed out", re.IGNORECASE)
SMALL = ("markupsafe", "six", "pyyaml")
"""Packages with small wheels: compiled ones, and one that is a single module."""


def requirements() -> str:
    """Return the lock's entries for the small packages."""
    lock = (PROJECT / "requirements-glue39.lock").read_text()
    entries = [re.search(rf"(?ms)^{name}==.*?(?=^\w)", lock) for name in SMALL]
    return "".join(entry[0] for entry in entries if entry)


@pytest.fixture
def small_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Copy this project with a lock of three packages, so that a bundle takes seconds."""
    project = tmp_path / "project"
    project.mkdir()
    for name in ("notebooks", "params"):
        shutil.copytree(PROJECT / name, project / name, ignore=lambda _, names: list(filter(is_temporary_name, names)))
    (project / "orchestration").symlink_to(PROJECT / "orchestration")
    (project / "requirements-glue39.lock").write_text(requirements())
    monkeypatch.setenv("DAYBOOK_PROJECT", str(project))
    monkeypatch.setenv("UV", uv())
    code_version.cache_clear()
    yield project
    code_version.cache_clear()


def uv() -> str:
    """Return the path of uv, also if DAYBOOK_PROJECT is another folder; skip the test if there is none."""
    local = PROJECT / ".tools" / "bin" / "uv"
    found = os.environ.get("UV") or shutil.which("uv") or (str(local) if local.is_file() else None)
    return found or pytest.skip("uv is not installed; run `make setup`")


def built(out: Path) -> Bundle:
    """Build a bundle; skip the test if the package index cannot be reached."""
    try:
        return build_bundle(out)
    except BundleError as error:
        if UNREACHABLE.search(str(error)):
            pytest.skip(f"no bundle without a package index: {error}")
        raise


def read_manifest(bundle: Path) -> dict[str, Any]:
    with zipfile.ZipFile(bundle) as archive:
        return json.loads(archive.read("bundle.json"))


def test_builds_are_reproducible(small_project: Path, tmp_path: Path) -> None:
    first, second = built(tmp_path / "one"), built(tmp_path / "a folder with another name")
    assert first.path.name == second.path.name == f"daybook-{first.sha256[:16]}.zip"
    assert first.path.read_bytes() == second.path.read_bytes()
    assert sha256(first.path.read_bytes()) == first.sha256
    assert [path.name for path in first.path.parent.iterdir()] == [first.path.name]


def test_name_depends_on_content(small_project: Path, tmp_path: Path) -> None:
    before = built(tmp_path)
    (small_project / "params" / "local.yaml").open("a").write("# another\n")
    assert built(tmp_path).path != before.path


def test_bundle_contains_job_files_only(small_project: Path, tmp_path: Path) -> None:
    (small_project / "notebooks" / ".ipynb_checkpoints").mkdir()
    (small_project / "notebooks" / ".ipynb_checkpoints" / "1_ingest-checkpoint.ipynb").write_text("{}")
    (small_project / "params" / "secret.key").write_text("key")
    bundle = built(tmp_path / "out")
    with zipfile.ZipFile(bundle.path) as archive:
        names = archive.namelist()
        here = [name for name in names for mark in (str(tmp_path), str(PROJECT)) if mark.encode() in archive.read(name)]
        moments = {entry.date_time for entry in archive.infolist()}
        modes = {entry.external_attr >> 16 for entry in archive.infolist()}
    assert names == sorted(names)
    assert here == []
    assert (moments, modes) == ({(1980, 1, 1, 0, 0, 0)}, {0o100644})
    for wanted in (
        *("bundle.json", "requirements-glue39.lock", "notebooks/1_ingest.ipynb", "params/local.yaml"),
        "params/sources/demo.yaml",
        *("orchestration/daily.asl.json", "orchestration/glue_job.py", "orchestration/daybook/errors.py", "packages/six.py"),
        "packages/yaml/_yaml.cpython-39-x86_64-linux-gnu.so",
    ):
        assert wanted in names
    assert [name for name in names if "checkpoint" in name or name.endswith((".key", "/RECORD"))] == []


def test_manifest_has_versions_digests_commit_and_lock(small_project: Path, tmp_path: Path) -> None:
    bundle = built(tmp_path)
    told = read_manifest(bundle.path)
    assert {each["name"] for each in told["packages"]} == set(SMALL)
    assert all(f"{each['name']}=={each['version']}" in requirements() for each in told["packages"])
    assert told["lock_sha256"] == sha256(requirements().encode())
    assert (told["python"], told["platform"]) == ("3.9", "manylinux2014_x86_64")
    with zipfile.ZipFile(bundle.path) as archive:
        found = {name: sha256(archive.read(name)) for name in archive.namelist() if name != "bundle.json"}
    assert told["sha256"] == found
    assert bundle.files == len(found) + 1


def test_job_reads_commit_from_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bundle.json").write_text('{"commit": "c0ffee", "dirty": false, "lock_sha256": "10c4", "python": "3.9"}')
    monkeypatch.setenv("DAYBOOK_PROJECT", str(tmp_path))
    assert code_version.__wrapped__() == {"commit": "c0ffee", "dirty": False, "lock_sha256": "10c4"}


@pytest.mark.skipif(find_python() is None, reason="nothing is compiled ahead without a Python 3.9 on this machine")
def test_modules_have_unchecked_bytecode(small_project: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(built(tmp_path).path) as archive:
        names = set(archive.namelist())
        compiled = archive.read("orchestration/daybook/__pycache__/errors.cpython-39.pyc")
        lone = [
            name
            for name in names
            if name.endswith(".py") and re.sub(r"([^/]+)\.py$", r"__pycache__/\1.cpython-39.pyc", name) not in names
        ]
    # PEP 552: flags 1 (hash-based) without 2 (check source).
    assert compiled[4:8] == b"\x01\0\0\0"
    assert lone == []


def test_missing_wheel_is_an_error_with_lock_name(small_project: Path, tmp_path: Path) -> None:
    lock = tmp_path / "requirements-glue39.lock"  # with wrong digests
    lock.write_text(re.sub(r"sha256:\w{4}", "sha256:0000", requirements()))
    with pytest.raises(BundleError, match=r"wheels of requirements-glue39.lock for Python 3\.9 .*(?i:hash)") as refused:
        install_wheels(lock, tmp_path / "target")
    if UNREACHABLE.search(str(refused.value)):
        pytest.skip("no wheels without a package index")


def test_bundle_command_prints_result(
    small_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built(tmp_path / "first")
    monkeypatch.setattr("sys.argv", ["daybook", "bundle", "--out", str(tmp_path / "out"), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert Path(told["path"]).is_file()
    assert (told["packages"], told["size"]) == (3, Path(told["path"]).stat().st_size)
    monkeypatch.setenv("UV", str(tmp_path / "no-uv"))
    monkeypatch.setattr("sys.argv", ["daybook", "bundle", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Build the bundle of this project once."""
    if find_python() is None:
        pytest.skip("Python 3.9, which Glue Python shell uses, is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV", uv())
        return built(tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
def test_wheels_and_libraries_load_on_manylinux2014(whole: Bundle) -> None:
    told = read_manifest(whole.path)
    assert len(told["packages"]) > 80
    assert [each["name"] for each in told["packages"] if not any(map(is_loadable, each["tags"]))] == []
    newer = {}
    libraries = 0
    with zipfile.ZipFile(whole.path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if content[:4] != b"\x7fELF":
                continue
            libraries += 1
            wanted = {int(found) for found in re.findall(rb"GLIBC_2\.(\d+)", content)}
            if wanted and max(wanted) > 17:
                newer[name] = max(wanted)
    assert libraries > 100
    assert newer == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)  # Six starts of a job take minutes on a busy machine.
def test_all_stages_run_from_bundle_on_bare_python(whole: Bundle, tmp_path: Path) -> None:
    """As on Glue, the interpreter has no packages, the home is not writable and the working folder is another one."""
    subprocess.run([str(find_python()), "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    generate(tmp_path / "landing", seed=7, days=3, orders_per_day=20)
    script = tmp_path / "script" / "glue_bootstrap.py"
    script.parent.mkdir()
    shutil.copyfile(PROJECT / "orchestration" / "glue_bootstrap.py", script)
    (tmp_path / "tmp").mkdir()
    places: dict[str, Any] = {key: str(tmp_path / key) for key in ("landing", "lake", "archive", "report", "pii_key")}
    run_id = "daily-2025-11-30-1"
    for stage in STAGES:
        command = [str(python), str(script), "--bundle", str(whole.path), "--JOB_NAME", f"daybook-local-{stage}"]
        command += ["--stage", stage, "--env", "local", "--run_date", "2025-11-30", "--run_id", run_id]
        command += ["--overrides", json.dumps(places), "--scriptLocation", "s3://jobs/script.py", "--library-set", "none"]
        # Nobody can write to /proc, not even root.
        env = {"PATH": "/usr/bin:/bin", "HOME": "/proc", "TMPDIR": str(tmp_path / "tmp")}
        done = subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{stage}: {done.stderr}"
    attempts = Archive(str(tmp_path / "archive")).attempts(run_id)
    assert [(each.stage, each.outcome) for each in attempts] == [(stage, "SUCCEEDED") for stage in STAGES]
    record = Archive(str(tmp_path / "archive")).run(run_id)
    assert record.outcome == "SUCCEEDED"
    assert record.python.startswith("3.9.")
    assert record.code.to_json() == {key: read_manifest(whole.path)[key] for key in ("commit", "dirty", "lock_sha256")}
    assert list((tmp_path / "tmp").iterdir()) == []
