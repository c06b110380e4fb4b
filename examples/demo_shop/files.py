"""How the shop's export becomes files: paths, encodings, and a folder that is there whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import shutil
import tempfile
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from daybook.errors import UsageError
from demo_shop.export import COLUMNS, Row

STAMP_FILE = ".demo.json"
MONDAY = 0


def has_byte_order_mark(entity: str, day: date) -> bool:
    """Tell whether a file begins with a UTF-8 byte order mark: every Monday's customers do."""
    return entity == "customers" and day.weekday() == MONDAY


def file_encoding(entity: str) -> str:
    """Return the encoding of an entity's files, as Python names it: Windows-1252 for sellers, else UTF-8."""
    return "cp1252" if entity == "sellers" else "utf-8"


def write_file(landing: Path, entity: str, day: date, rows: List[Row], *, torn: bool = False) -> None:
    """Write ``<landing>/<entity>/<YYYY-MM-DD>/<entity>.csv``: a header, then ``rows`` as they are.

    A ``torn`` file lacks its last line's end.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS[entity])
    writer.writerows(rows)
    written = text.getvalue()[:-1] if torn else text.getvalue()
    content = written.encode("utf-8-sig" if has_byte_order_mark(entity, day) else file_encoding(entity))
    folder = landing / entity / day.isoformat()
    folder.mkdir(parents=True)
    (folder / f"{entity}.csv").write_bytes(content)


def read_stamp(landing: Path) -> Optional[Dict[str, Any]]:
    """Return the stamp (``settings``, ``summary``) of a landing folder written here; ``None`` if nothing is there.

    Raises
    ------
    UsageError
        When ``landing`` holds something else: files nobody asked to replace.
    """
    if not landing.exists() or (landing.is_dir() and not any(landing.iterdir())):
        return None
    try:
        stamp = json.loads((landing / STAMP_FILE).read_text(encoding="utf-8"))
        return {"settings": stamp["settings"], "summary": stamp["summary"]}
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{landing} is not empty and has no readable {STAMP_FILE} of a generated shop; "
            "name another landing folder or remove this one yourself"
        ) from error


def write_stamp(landing: Path, stamp: Dict[str, Any]) -> None:
    """Write ``stamp`` into the landing folder; it marks the folder as ours to replace."""
    (landing / STAMP_FILE).write_text(json.dumps(stamp, ensure_ascii=False), encoding="utf-8")


@contextmanager
def replace_folder(landing: Path) -> Iterator[Path]:
    """Give a fresh folder beside ``landing`` to write into; at the end it takes the place of ``landing``.

    On an error ``landing`` stays as it was and the fresh folder is removed.
    """
    landing.parent.mkdir(parents=True, exist_ok=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{landing.name}.", dir=landing.parent))
    try:
        fresh = workshop / "fresh"  # made inside, so that it has the usual access rights and not mkdtemp's 0700
        fresh.mkdir()
        yield fresh
        _swap_folders(fresh, landing, retired=workshop / "old")
    finally:
        shutil.rmtree(workshop)


def _swap_folders(fresh: Path, landing: Path, retired: Path) -> None:
    if not landing.exists():
        fresh.rename(landing)
        return
    landing.rename(retired)
    try:
        fresh.rename(landing)
    except OSError:
        retired.rename(landing)
        raise
