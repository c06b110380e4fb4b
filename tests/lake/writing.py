"""Write the rows of one date, which have no column of their date."""

from __future__ import annotations

from datetime import date
from typing import Union

import pyarrow as pa

from daybook.lake.tables import BatchSource, Lake, add_run_date


def replace_date(lake: Lake, table: str, rows: Union[pa.Table, BatchSource], day: date) -> None:
    """Replace the rows of a date."""
    lake.replace_dates(table, add_run_date(rows, day), [day])
