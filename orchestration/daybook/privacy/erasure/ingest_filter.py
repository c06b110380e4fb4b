"""Keeping erased people out: what lands of them again is blanked before bronze is written."""

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
    """A landing without erased people: its rows, how many were blanked by entity, and how many of other dates should be."""

    rows: dict[str, pa.Table]
    counts: dict[str, int]
    other_date_rows: int


def mask_erased_rows(
    landing: Mapping[str, pa.Table], *, lake: Lake, source: Source, keys: Keys, timezone: str, day: date
) -> Optional[FilteredLanding]:
    """Blank what a date's landing says of erased people; None where nobody was ever erased, which costs next to nothing.

    A row that lands before the one that says whose it is cannot be told yet: it is counted in ``other_date_rows`` when that lands.
    """
    gone = load_erased_pseudonyms(lake.root)
    if not gone:
        return None
    finder = SubjectFinder(lake, source, keys, timezone, landing, day)
    addresses = {*finder.find_rows(gone, day=day), *finder.find_rows_of_erased(day=day)}
    elsewhere = {*finder.find_rows(gone), *finder.find_rows_of_erased()} - addresses
    salt = secrets.token_hex(16)
    rows, counts = dict(landing), {}
    for name in sorted({each.entity for each in addresses}):
        mine = {(each.file, each.number) for each in addresses if each.entity == name}
        places = zip(rows[name].column("_source_file").to_pylist(), rows[name].column("_row_number").to_pylist())
        rows[name] = build_masker(source, name, salt).mask_rows(rows[name], [place in mine for place in places], day)
        counts[name] = len(mine)
    return FilteredLanding(rows, counts, len(elsewhere))
