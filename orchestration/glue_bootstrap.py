"""What AWS Glue Python shell starts: fetches the bundle, unpacks it, and runs the job script in it with the other arguments.

    python glue_bootstrap.py --bundle s3://BUCKET/daybook-0123456789abcdef.zip --stage ingest --env prod ...

The job runs in a process of its own: what Glue has imported into this one, and in which versions, is no part of it. It has a
home, a scratch folder and a working folder of its own, for Glue's may be read-only; all go as it ends.
"""

from __future__ import annotations

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
"""Bytes in the archive from which on a file is unpacked beside others."""


def main() -> None:
    """Run the job. Where it fails, so does this, with its last words, which Glue shows as the job's error."""
    # The machine's own place for temporary files, which is the largest there is on Glue: /tmp.
    place = Path(tempfile.mkdtemp(prefix="daybook-"))
    try:
        bundle, arguments = _split(sys.argv[1:])
        root = unpack(fetch(bundle, place), place / "bundle")
        command = [sys.executable, "-u", str(root / "orchestration" / "glue_job.py"), *arguments]
        code, said = run(command, environment(root, place), place / "work")
    except (OSError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        code, said = 1, f"The job could not begin ({type(error).__name__}): {error}"
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if code:
        sys.exit(said or f"The job ended with exit code {code}")


def _split(given: List[str]) -> Tuple[str, List[str]]:
    """Where the bundle is, and the arguments for the job script, which knows what to do with those that Glue adds."""
    arguments = list(given)
    for place, text in enumerate(arguments):
        if text == "--bundle" and place + 1 < len(arguments):
            bundle = arguments[place + 1]
            del arguments[place : place + 2]
            return bundle, arguments
        if text.startswith("--bundle="):
            del arguments[place]
            return text[len("--bundle=") :], arguments
    raise ValueError("the argument --bundle is missing; give the s3:// URI or the path of a daybook-DIGEST.zip.")


def fetch(bundle: str, place: Path) -> Path:
    """The bundle as a file on this machine, with the content that its name promises; ``ValueError`` for another."""
    name = bundle.rsplit("/", 1)[-1]
    matched = _NAME.fullmatch(name)
    if matched is None:
        raise ValueError(f"{bundle} is no bundle; give a daybook-DIGEST.zip as `daybook bundle` has named it.")
    archive = Path(bundle)
    if bundle.startswith("s3://"):
        archive = place / name
        _download(bundle, archive)
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    if not digest.hexdigest().startswith(matched[1]):
        raise ValueError(f"{bundle} is not what it is called: its SHA-256 is {digest.hexdigest()}; build and upload it again.")
    return archive


def _download(uri: str, archive: Path) -> None:
    # botocore rather than boto3: Glue has it with every set of libraries.
    try:
        from botocore.exceptions import BotoCoreError, ClientError, IncompleteReadError
        from botocore.session import get_session
    except ImportError:
        raise ValueError(
            f"{uri} needs botocore, which is not installed here; install it, or give the bundle as a file."
        ) from None

    bucket, _, key = uri[len("s3://") :].partition("/")
    try:
        body = get_session().create_client("s3").get_object(Bucket=bucket, Key=key)["Body"]
        with archive.open("wb") as file:
            for block in body.iter_chunks(_BLOCK):
                file.write(block)
    except (BotoCoreError, ClientError, IncompleteReadError) as error:
        raise ValueError(
            f"{uri} cannot be fetched ({error}); see that it is there and that the job's role may read it."
        ) from None


def unpack(archive: Path, root: Path) -> Path:
    """Unpack a bundle into the new folder ``root``; ``ValueError`` where it was built for another Python than this.

    Large files side by side, as many as there are processors: zlib lets go of Python's lock. Each file's checksum is not worked
    out again, since ``fetch`` has held the whole to its digest.
    """
    with zipfile.ZipFile(archive) as packed:
        wanted = json.loads(packed.read("bundle.json"))["python"]
        found = "{}.{}".format(*sys.version_info)
        if wanted != found:
            raise ValueError(f"the bundle is for Python {wanted} and this is {found}; run it with the former.")
        entries = packed.infolist()
    for entry in entries:
        if entry.filename.startswith("/") or ".." in entry.filename.split("/"):
            raise ValueError(f"{archive.name} has a file outside of itself, {entry.filename}; build it again.")
    for folder in {os.path.dirname(entry.filename) for entry in entries}:  # noqa: PTH120
        (root / folder).mkdir(parents=True, exist_ok=True)
    large = sorted((entry for entry in entries if entry.compress_size > _LARGE), key=lambda entry: -entry.compress_size)
    source = os.open(archive, os.O_RDONLY)
    try:
        with ThreadPoolExecutor(_processors()) as threads:
            under_way = [threads.submit(_unpack_one, source, entry, root) for entry in large]
            # The many small ones are Python's work, which one thread does as fast as several.
            small = [entry for entry in entries if entry.compress_size <= _LARGE]
            under_way.append(threads.submit(_unpack_all, source, small, root))
            for each in under_way:
                each.result()
    finally:
        os.close(source)
    return root


def _processors() -> int:
    # Those that this process may use, where the system tells: Linux.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _unpack_all(source: int, entries: List[zipfile.ZipInfo], root: Path) -> None:
    for entry in entries:
        _unpack_one(source, entry, root)


def _unpack_one(source: int, entry: zipfile.ZipInfo, root: Path) -> None:
    """Write one file of the archive that is open as ``source``, reading at places of its own, as others do meanwhile."""
    # What lies before the content: 30 bytes, of which the last four say how long name and extra field are that follow.
    name, extra = struct.unpack("<26xHH", os.pread(source, 30, entry.header_offset))
    place = entry.header_offset + 30 + name + extra
    end = place + entry.compress_size
    inflated = zlib.decompressobj(-zlib.MAX_WBITS) if entry.compress_type == zipfile.ZIP_DEFLATED else None
    with open(f"{root}/{entry.filename}", "xb", buffering=0) as target:  # noqa: PTH123 (thousands: a Path each would be a cost)
        while place < end:
            block = os.pread(source, min(_BLOCK, end - place), place)
            if not block:
                raise ValueError(f"{entry.filename} is cut short in the bundle; upload it again.")
            place += len(block)
            target.write(inflated.decompress(block) if inflated else block)
        if target.tell() != entry.file_size:
            raise ValueError(f"{entry.filename} is not as long as the bundle says; build it again.")


def environment(root: Path, place: Path) -> Dict[str, str]:
    """The job's environment: packages of the bundle before those of the machine, and folders of its own to write to."""
    own = {
        "HOME": place / "home",
        "TMPDIR": place / "tmp",
        "XDG_CACHE_HOME": place / "home" / "cache",
        "IPYTHONDIR": place / "home" / "ipython",
        "JUPYTER_CONFIG_DIR": place / "home" / "jupyter" / "config",
        "JUPYTER_DATA_DIR": place / "home" / "jupyter" / "data",
        "JUPYTER_RUNTIME_DIR": place / "home" / "jupyter" / "runtime",
        "MPLCONFIGDIR": place / "home" / "matplotlib",
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
        # What is not compiled in the bundle is not imported twice.
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    # Where a laptop's deployments keep what they write: beside the job's other files, unless it is said.
    environment.setdefault("DAYBOOK_HOME", str(place / "home" / "daybook"))
    return environment


def _credentials() -> Dict[str, str]:
    """Where AWS's tools find a person's files, now that HOME is another: for a container that was given them. Glue has none."""
    files = {"AWS_SHARED_CREDENTIALS_FILE": "credentials", "AWS_CONFIG_FILE": "config"}
    folder = Path(os.path.expanduser("~")) / ".aws"  # noqa: PTH111 (Path.home() raises where there is none)
    found = {name: folder / file for name, file in files.items() if name not in os.environ}
    with contextlib.suppress(OSError):
        return {name: str(path) for name, path in found.items() if path.is_file()}
    return {}


def run(command: List[str], env: Dict[str, str], work: Path) -> Tuple[int, str]:
    """Run the job in the new folder ``work``, hand on what it prints, and return its exit code and its last line on stderr."""
    work.mkdir()
    last = ""
    with subprocess.Popen(command, cwd=work, env=env, stderr=subprocess.PIPE) as job:  # noqa: S603
        # Whoever stops this process means the job.
        signal.signal(signal.SIGTERM, lambda *_: job.terminate())
        assert job.stderr is not None  # noqa: S101
        for line in job.stderr:
            text = line.decode("utf-8", "replace")
            sys.stderr.write(text)
            last = text.strip() or last
    return job.returncode, last


if __name__ == "__main__":
    main()
