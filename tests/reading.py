"""Read landing files as one table."""

from __future__ import annotations

import io
from datetime import date
from typing import Optional

import pyarrow as pa

from daybook.sources import LandedFile, Source
from daybook.sources.csv import read_csv_blocks
from daybook.sources.files import FileMarks, read_blocks
from daybook.storage import Store


def read_entity(
    store: Store, source: Source, name: str, run_date: date, marks: Optional[FileMarks] = None
) -> tuple[Optional[pa.Table], list[LandedFile]]:
    """Return all rows of an entity's files for a date (see ``read_blocks``); None without a file."""
    landed: list[LandedFile] = []
    blocks = list(read_blocks(store, source, name, run_date, landed, marks))
    return (pa.concat_tables(blocks, promote_options="default") if blocks else None), landed


def read_csv(data: bytes, shown: str, key: str, source: Source, name: str) -> pa.Table:
    """Return one CSV file as text (see ``read_csv_blocks``)."""
    return pa.concat_tables(read_csv_blocks(io.BytesIO(data), shown, key, source, name))
