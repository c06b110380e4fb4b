"""Test the script that Glue starts: it downloads, verifies and unpacks the bundle and runs the job script."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import MappingProxyType

import pytest

import glue_bootstrap

BOOTSTRAP = Path(__file__).resolve().parents[2] / "orchestration" / "glue_bootstrap.py"
VERSION = "{}.{}".format(*sys.version_info)
JOB = """
import json, os, sys
names = ("HOME", "TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "DAYBOOK_PROJECT")
import carried, zipped
writable = [name for name in names[:4] if os.access(os.environ[name], os.W_OK)]
print(json.dumps({"arguments": sys.argv[1:], "cwd": os.listdir("."), "project": os.listdir(os.environ["DAYBOOK_PROJECT"]),
                  "writable": writable, "carried": carried.__file__, "zipped": zipped.__file__, "home": os.environ["HOME"]}))
print("a warning", file=sys.stderr)
if "--fail" in sys.argv:
    print("LandingError: there is no orders.csv", file=sys.stderr)
    sys.exit(3)
"""


def noise(seed: int) -> bytes:
    """Return half a megabyte of incompressible bytes for ``seed``."""
    return b"".join(hashlib.sha256(f"{seed} {number}".encode()).digest() for number in range(16_000))


def make_bundle(folder: Path, python: str = VERSION, files: Mapping[str, bytes] = MappingProxyType({})) -> Path:
    """Build a minimal bundle with ``files``, whose job prints its environment."""
    made = folder / "made.zip"
    modules = io.BytesIO()
    with zipfile.ZipFile(modules, "w") as archive:
        archive.writestr("zipped.py", "")
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content, zipfile.ZIP_DEFLATED)
        archive.writestr("modules.zip", modules.getvalue(), zipfile.ZIP_DEFLATED)
        archive.writestr("bundle.json", json.dumps({"python": python}))
        archive.writestr("orchestration/glue_job.py", JOB)
        archive.writestr("packages/carried.py", "")
    named = folder / f"daybook-{hashlib.sha256(made.read_bytes()).hexdigest()[:16]}.zip"
    return made.rename(named)


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    return scratch


def start(scratch: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BOOTSTRAP), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=scratch,
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", "TMPDIR": str(scratch), **environment},
    )


def test_job_gets_arguments_packages_and_private_folders(tmp_path: Path, scratch: Path) -> None:
    bundle = make_bundle(tmp_path)
    given = ["--JOB_NAME", "daybook-ingest", "--stage", "ingest", "--overrides", "{}"]
    done = start(scratch, *given, "--bundle", str(bundle), "--TempDir", "s3://temp")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["arguments"] == [*given, "--TempDir", "s3://temp"]
    assert told["cwd"] == []
    assert sorted(told["project"]) == ["bundle.json", "modules.zip", "orchestration", "packages"]
    assert told["writable"] == ["HOME", "TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"]
    assert told["carried"].startswith(str(scratch)) and told["home"].startswith(str(scratch))
    assert told["zipped"] == str(Path(told["carried"]).parents[1] / "modules.zip" / "zipped.py")
    assert done.stderr == "a warning\n"


def test_large_and_small_files_are_unpacked(tmp_path: Path) -> None:
    files = {f"packages/large{number}.so": noise(number) + bytes(900_000) for number in range(5)}
    files |= {f"packages/deep/{number}/small.py": b"x" * number for number in range(50)}
    root = glue_bootstrap.unpack(make_bundle(tmp_path, files=files), tmp_path / "root")
    assert {name: (root / name).read_bytes() for name in files} == files
    assert (root / "orchestration" / "glue_job.py").read_text() == JOB


@pytest.mark.parametrize("name", ["../outside.py", "packages/../../outside.py", "/outside.py"])
def test_path_outside_bundle_is_rejected(tmp_path: Path, scratch: Path, name: str) -> None:
    done = start(scratch, "--bundle", str(make_bundle(tmp_path, files={name: b"x"})))
    assert done.returncode == 1
    assert "contains a path outside its folder" in done.stderr
    assert not list(tmp_path.rglob("outside.py"))


@pytest.mark.parametrize("place", [0.2, 0.7])
def test_damaged_bundle_starts_no_job(tmp_path: Path, scratch: Path, place: float) -> None:
    """The name matches the damaged content."""
    packed = make_bundle(tmp_path, files={"packages/large.so": noise(1) + bytes(500_000)})
    content = bytearray(packed.read_bytes())
    del content[int(200_000 * place) : int(200_000 * place) + 64]
    damaged = tmp_path / f"daybook-{hashlib.sha256(content).hexdigest()[:16]}.zip"
    damaged.write_bytes(content)
    done = start(scratch, "--bundle", str(damaged))
    assert (done.returncode, done.stdout) == (1, "")
    assert "The job could not start (" in done.stderr
    assert list(scratch.iterdir()) == []


def test_unpacked_files_are_deleted_after_job(tmp_path: Path, scratch: Path) -> None:
    start(scratch, f"--bundle={make_bundle(tmp_path)}")
    assert list(scratch.iterdir()) == []


def test_failed_job_prints_last_line_and_cleans_up(tmp_path: Path, scratch: Path) -> None:
    done = start(scratch, "--bundle", str(make_bundle(tmp_path)), "--fail")
    assert done.returncode == 1
    # First printed by the job, then as the exit message that Glue shows as the job's error.
    assert done.stderr.splitlines()[1:] == ["LandingError: there is no orders.csv"] * 2
    assert list(scratch.iterdir()) == []


def test_bundle_with_wrong_digest_is_rejected(tmp_path: Path, scratch: Path) -> None:
    bundle = make_bundle(tmp_path)
    bundle.write_bytes(bundle.read_bytes() + b"\0")
    done = start(scratch, "--bundle", str(bundle))
    assert done.returncode == 1
    assert f"{bundle} does not match its name: its SHA-256 is " in done.stderr
    assert done.stdout == ""


def test_bundle_for_other_python_is_rejected(tmp_path: Path, scratch: Path) -> None:
    done = start(scratch, "--bundle", str(make_bundle(tmp_path, "3.8")))
    assert done.returncode == 1
    assert f"the bundle is for Python 3.8 and this is {VERSION}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the argument --bundle is missing"),
        (["--bundle"], "the argument --bundle is missing"),
        (["--bundle", "s3://b/other.zip"], "s3://b/other.zip is not a bundle"),
        (["--bundle", "/nowhere/daybook-0123456789abcdef.zip"], "No such file"),
    ],
)
def test_missing_bundle_is_one_sentence(scratch: Path, arguments: list[str], message: str) -> None:
    done = start(scratch, *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """Serve the files of the test's folder as the S3 bucket `jobs` and return the endpoint."""

    class Objects(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = tmp_path / self.path.split("?")[0].rsplit("/", 1)[1]
            found = self.path.startswith("/jobs/") and path.is_file()
            body = path.read_bytes() if found else b"<Error><Code>NoSuchKey</Code><Message>It does not exist.</Message></Error>"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Objects)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_bundle_is_downloaded_from_s3(tmp_path: Path, scratch: Path, bucket: str) -> None:
    bundle = make_bundle(tmp_path)
    environment = {
        "AWS_ENDPOINT_URL": bucket,
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "eu-central-1",
    }
    done = start(scratch, "--bundle", f"s3://jobs/{bundle.name}", "--stage", "ingest", **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["arguments"] == ["--stage", "ingest"]
    gone = start(scratch, "--bundle", "s3://jobs/daybook-0123456789abcdef.zip", **environment)
    assert gone.returncode == 1
    assert "s3://jobs/daybook-0123456789abcdef.zip could not be downloaded" in gone.stderr
    assert "NoSuchKey" in gone.stderr
    assert list(scratch.iterdir()) == []


def test_bootstrap_imports_standard_library_only() -> None:
    code = f"import sys; sys.path.insert(0, {str(BOOTSTRAP.parent)!r}); import glue_bootstrap"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
