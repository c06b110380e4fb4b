"""Download and unpack the bundle, then run its job script with the other arguments. AWS Glue Python shell starts this script.

    python glue_bootstrap.py --bundle s3://BUCKET/daybook-0123456789abcdef.zip --stage ingest --env prod ...

The job runs in a new process, so that it does not use the packages that Glue has imported. Its home, temporary and working
folders are private, because Glue's may be read-only; they are deleted at its end.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, List, Tuple

_NAME = re.compile(r"daybook-([0-9a-f]{16,64})\.zip")
_BLOCK = 1 << 18
_LARGE = 100_000
"""Files with more compressed bytes are unpacked in parallel."""


def main() -> None:
    """Run the job. Where it fails, so does this, with its last words, which Glue shows as the job's error."""
    # The machine's own folder for temporary files, which is the largest there is on Glue: /tmp.
    folder = Path(tempfile.mkdtemp(prefix="daybook-"))
    try:
        bundle, arguments = _split(sys.argv[1:])
        root = unpack(fetch(bundle, folder), folder / "bundle")
        command = [sys.executable, "-u", str(root / "orchestration" / "glue_job.py"), *arguments]
        code, message = run(command, environment(root, folder), folder / "work")
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        code, message = 1, f"The job could not start ({type(error).__name__}): {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if code:
        sys.exit(message or f"The job ended with exit code {code}")


def _split(arguments: List[str]) -> Tuple[str, List[str]]:
    """Return the bundle's URI or path and the arguments for the job script, which ignores those that Glue adds."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False, usage=argparse.SUPPRESS)
    parser.add_argument("--bundle", nargs="?")
    known, others = parser.parse_known_args(arguments)
    if not known.bundle:
        raise ValueError("the argument --bundle is missing; give the s3:// URI or the path of a daybook-DIGEST.zip.")
    return known.bundle, others


def fetch(bundle: str, folder: Path) -> Path:
    """Return the bundle as a local file; raise ``ValueError`` if its name does not match its digest."""
    name = bundle.rsplit("/", 1)[-1]
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise ValueError(f"{bundle} is not a bundle; give a daybook-DIGEST.zip that `daybook bundle` built.")
    archive = Path(bundle)
    if bundle.startswith("s3://"):
        archive = folder / name
        _download(bundle, archive)
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if not digest.hexdigest().startswith(matched[1]):
        raise ValueError(f"{bundle} does not match its name: its SHA-256 is {digest.hexdigest()}; build and upload it again.")
    return archive


def _download(uri: str, archive: Path) -> None:
    # botocore instead of boto3, because every library set of Glue has it.
    try:
        from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError
        from botocore.session import get_session
    except ImportError:
        raise ValueError(
            f"{uri} cannot be downloaded without botocore; install botocore, or give the bundle as a file."
        ) from None

    bucket, _, key = uri[len("s3://") :].partition("/")
    try:
        body = get_session().create_client("s3").get_object(Bucket=bucket, Key=key)["Body"]
        with archive.open("wb") as file:
            for block in body.iter_chunks(_BLOCK):
                file.write(block)
    except (BotoCoreError, ClientError, IncompleteReadError) as error:
        raise ValueError(
            f"{uri} could not be downloaded ({error}); check that it exists and that the job's role can read it."
        ) from None


def unpack(archive: Path, root: Path) -> Path:
    """Unpack a bundle into the new folder ``root``; raise ``ValueError`` if it was built for another Python version.

    Large files are unpacked in parallel, since zlib releases the GIL. Checksums of files are not verified, because ``fetch``
    has verified the digest of the archive.
    """
    with zipfile.ZipFile(archive) as packed:
        wanted = json.loads(packed.read("bundle.json"))["python"]
        found = "{}.{}".format(*sys.version_info)
        if wanted != found:
            raise ValueError(f"the bundle is for Python {wanted} and this is {found}; run it with Python {wanted}.")
        entries = packed.infolist()
    for entry in entries:
        if entry.filename.startswith("/") or ".." in entry.filename.split("/"):
            raise ValueError(f"{archive.name} contains a path outside its folder, {entry.filename}; build it again.")
    for folder in {os.path.dirname(entry.filename) for entry in entries}:  # noqa: PTH120
        (root / folder).mkdir(parents=True, exist_ok=True)
    large = sorted((entry for entry in entries if entry.compress_size > _LARGE), key=lambda entry: -entry.compress_size)
    source = os.open(archive, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(_processors()) as threads:
            futures = [threads.submit(_unpack_all, source, [entry], root) for entry in large]
            # One thread for the many small files, where Python code dominates.
            small = [entry for entry in entries if entry.compress_size <= _LARGE]
            futures.append(threads.submit(_unpack_all, source, small, root))
            for each in futures:
                each.result()
    finally:
        os.close(source)
    return root


def _processors() -> int:
    # Only Linux reports the processors that this process can use.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _unpack_all(source: int, entries: List[zipfile.ZipInfo], root: Path) -> None:
    for entry in entries:
        _unpack_one(source, entry, root)


def _unpack_one(source: int, entry: zipfile.ZipInfo, root: Path) -> None:
    """Write one file of the archive with the descriptor ``source``. ``pread`` allows concurrent reads."""
    # The local header has 30 bytes; the last four are the lengths of name and extra field, which precede the content.
    name, extra = struct.unpack("<26xHH", os.pread(source, 30, entry.header_offset))
    offset = entry.header_offset + 30 + name + extra
    end = offset + entry.compress_size
    inflated = zlib.decompressobj(-zlib.MAX_WBITS) if entry.compress_type == zipfile.ZIP_DEFLATED else None
    with open(f"{root}/{entry.filename}", "xb", buffering=0) as target:  # noqa: PTH123 (thousands of files; Path is slower)
        while offset < end:
            block = os.pread(source, min(_BLOCK, end - offset), offset)
            if not block:
                raise ValueError(f"{entry.filename} is incomplete in the bundle; upload it again.")
            offset += len(block)
            target.write(inflated.decompress(block) if inflated else block)
        if target.tell() != entry.file_size:
            raise ValueError(f"{entry.filename} has the wrong size in the bundle; build it again.")


def environment(root: Path, folder: Path) -> Dict[str, str]:
    """Return the job's environment: the bundle's packages before those of the machine, and private folders."""
    own = {
        "HOME": folder / "home",
        "TMPDIR": folder / "tmp",
        "XDG_CACHE_HOME": folder / "home" / "cache",
        "IPYTHONDIR": folder / "home" / "ipython",
        "JUPYTER_CONFIG_DIR": folder / "home" / "jupyter" / "config",
        "JUPYTER_DATA_DIR": folder / "home" / "jupyter" / "data",
        "JUPYTER_RUNTIME_DIR": folder / "home" / "jupyter" / "runtime",
        "MPLCONFIGDIR": folder / "home" / "matplotlib",
    }
    for folder in own.values():
        folder.mkdir(parents=True, exist_ok=True)
    paths = [str(root / "packages"), str(root / "modules.zip"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        **_credentials(),
        **{name: str(folder) for name, folder in own.items()},
        "JUPYTER_PATH": str(root / "packages" / "share" / "jupyter"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "DAYBOOK_PROJECT": str(root),
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONNOUSERSITE": "1",
        # Modules without bytecode in the bundle are imported once only.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # The folder of deployments on a laptop, unless the variable is set.
    environment.setdefault("DAYBOOK_HOME", str(folder / "home" / "daybook"))
    return environment


def _credentials() -> Dict[str, str]:
    """Return variables for AWS credential files of the original HOME, which a container can have (Glue has none)."""
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    folder = Path(os.path.expanduser("~")) / ".aws"  # noqa: PTH111 (Path.home() raises where there is none)
    found = {name: folder / file for name, file in files.items() if name not in os.environ}
    with contextlib.suppress(OSError):
        return {name: str(path) for name, path in found.items() if path.is_file()}
    return {}


def run(command: List[str], env: Dict[str, str], work: Path) -> Tuple[int, str]:
    """Run the job in the new folder ``work``; print its output and return its exit code and last line on stderr."""
    work.mkdir()
    last = ""
    with subprocess.Popen(command, cwd=work, env=env, stderr=subprocess.PIPE) as job:  # noqa: S603
        # A stop of this process stops the job.
        signal.signal(signal.SIGTERM, lambda *_: job.terminate())
        assert job.stderr is not None  # noqa: S101
        for line in job.stderr:
            text = line.decode("utf-8", "replace")
            sys.stderr.write(text)
            last = text.strip() or last
    return job.returncode, last


if __name__ == "__main__":
    main()
