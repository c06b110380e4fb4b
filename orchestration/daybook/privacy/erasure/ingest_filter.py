"""Mask rows of erased people in a landing before bronze is written."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Optional

import pyarrow as pa

from daybook.lake.tables import Lake
from daybook.privacy import Keys
from daybook.privacy.erasure.masking import build_masker
from daybook.privacy.erasure.subjects import SubjectFinder, load_erased_pseudonyms
from daybook.sources import Source


@dataclass(frozen=True)
class FilteredLanding:
    """Masked landing rows, the number of masked rows by entity, and the number of rows of other dates to mask."""

    rows: dict[str, pa.Table]
    counts: dict[str, int]
    other_date_rows: int


def mask_erased_rows(
    landing: Mapping[str, pa.Table], *, lake: Lake, source: Source, keys: Keys, timezone: str, day: date
) -> Optional[FilteredLanding]:
    """Mask the rows of erased people in a date's landing; return None if nobody was ever erased.

    A row may land before the row that links it to an erased person. It is counted in ``other_date_rows`` when the second lands.
    """
    erased = load_erased_pseudonyms(lake.root)
    if not erased:
        return None
    finder = SubjectFinder(lake, source, keys, timezone, landing, day)
    addresses = {*finder.find_rows(erased, day=day), *finder.find_rows_of_erased(day=day)}
    elsewhere = {*finder.find_rows(erased), *finder.find_rows_of_erased()} - addresses
    salt = secrets.token_hex(16)
    rows, counts = dict(landing), {}
    for name in sorted({each.entity for each in addresses}):
        masked = {(each.file, each.number) for each in addresses if each.entity == name}
        places = zip(rows[name].column("_source_file").to_pylist(), rows[name].column("_row_number").to_pylist())
        rows[name] = build_masker(source, name, salt).mask_rows(rows[name], [place in masked for place in places], day)
        counts[name] = len(masked)
    return FilteredLanding(rows, counts, len(elsewhere))
