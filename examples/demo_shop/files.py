"""Write the shop's files, and replace the landing folder atomically."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

from pydantic import TypeAdapter

from daybook.errors import UsageError
from demo_shop.export import COLUMNS, Row
from demo_shop.summary import Summary

STAMP_FILE = ".demo.json"
MONDAY = 0
_SUMMARY = TypeAdapter(Summary)


def has_byte_order_mark(entity: str, day: date) -> bool:
    """Return whether a file starts with a UTF-8 byte order mark, as customers on Mondays do."""
    return entity == "customers" and day.weekday() == MONDAY


def file_encoding(entity: str) -> str:
    """Return Python's name of the encoding of an entity's files: Windows-1252 for sellers, otherwise UTF-8."""
    return "cp1252" if entity == "sellers" else "utf-8"


def write_file(landing: Path, entity: str, day: date, rows: List[Row], *, truncated: bool = False) -> None:
    """Write ``<landing>/<entity>/<YYYY-MM-DD>/<entity>.csv``: a header and ``rows``.

    A ``truncated`` file has no newline at its end.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS[entity])
    writer.writerows(rows)
    content = text.getvalue()[: -1 if truncated else None].encode(
        "utf-8-sig" if has_byte_order_mark(entity, day) else file_encoding(entity)
    )
    folder = landing / entity / day.isoformat()
    folder.mkdir(parents=True)
    (folder / f"{entity}.csv").write_bytes(content)


def read_summary(landing: Path, settings: Dict[str, Any]) -> Optional[Summary]:
    """Return the summary of a landing folder that was generated with these settings; ``None`` if it was not, or is empty.

    Raises
    ------
    UsageError
        When ``landing`` holds other files; they are never replaced.
    """
    if not landing.exists() or (landing.is_dir() and not any(landing.iterdir())):
        return None
    try:
        stamp = json.loads((landing / STAMP_FILE).read_text(encoding="utf-8"))
        return _SUMMARY.validate_python(stamp["summary"]) if stamp["settings"] == settings else None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{landing} is not empty and has no readable {STAMP_FILE} of a generated shop; "
            "set another landing folder or remove this one"
        ) from error


def write_stamp(landing: Path, settings: Dict[str, Any], summary: Summary) -> None:
    """Write the settings and the summary into the landing folder; a folder with a stamp may be replaced."""
    stamp = {"settings": settings, "summary": _SUMMARY.dump_python(summary, mode="json")}
    (landing / STAMP_FILE).write_text(json.dumps(stamp, ensure_ascii=False), encoding="utf-8")


@contextmanager
def replace_folder(landing: Path) -> Iterator[Path]:
    """Yield an empty folder to write into, and replace ``landing`` with it at the end.

    On an error ``landing`` stays as it was and the new folder is removed.
    """
    landing.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{landing.name}.", dir=landing.parent) as temporary:
        # A subfolder has the usual permissions, not the 0700 of a temporary folder.
        fresh, old = Path(temporary, "fresh"), Path(temporary, "old")
        fresh.mkdir()
        yield fresh
        if landing.exists():
            landing.rename(old)
        try:
            fresh.rename(landing)
        except OSError:
            if old.exists():
                old.rename(landing)
            raise
