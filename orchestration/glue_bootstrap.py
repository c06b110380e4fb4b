"""What AWS Glue Python shell starts: fetches the bundle, unpacks it, and runs the job script in it with the other arguments.

    python glue_bootstrap.py --bundle s3://BUCKET/daybook-0123456789abcdef.zip --stage ingest --env prod ...

Here: that, with nothing but the standard library, and of the machine's own packages botocore for s3://. It is no part of the
package, since it runs before the package is there. Not here: what is in a bundle (``daybook.aws.bundle``), what a job does
(``glue_job.py``).

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
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict, List, Tuple

_NAME = re.compile(r"daybook-([0-9a-f]{16,64})\.zip")
_BLOCK = 1 << 20


def main() -> None:
    """Run the job. Where it fails, so does this, with its last words, which Glue shows as the job's error."""
    # The machine's own place for temporary files, which is the largest there is on Glue: /tmp.
    place = Path(tempfile.mkdtemp(prefix="daybook-"))
    try:
        bundle, arguments = _split(sys.argv[1:])
        root = unpack(fetch(bundle, place), place / "bundle")
        command = [sys.executable, "-u", str(root / "orchestration" / "glue_job.py"), *arguments]
        code, said = run(command, environment(root, place), place / "work")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
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

    One file after another: on one or two processors threads are no faster, since most of the work is Python's and the disk's.
    """
    with zipfile.ZipFile(archive) as packed:
        wanted = json.loads(packed.read("bundle.json"))["python"]
        found = "{}.{}".format(*sys.version_info)
        if wanted != found:
            raise ValueError(f"the bundle is for Python {wanted} and this is {found}; run it with the former.")
        packed.extractall(root)
    return root


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
    paths = [str(root / "packages"), os.environ.get("PYTHONPATH", "")]
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
