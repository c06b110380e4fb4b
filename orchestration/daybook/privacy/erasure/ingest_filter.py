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
from daybook.privacy.erasure.masking import blanks_for
from daybook.privacy.erasure.subjects import Finder, erased_people
from daybook.sources import Source


@dataclass(frozen=True)
class Withheld:
    """A landing without erased people: its rows, how many were blanked by entity, and how many of other dates should be."""

    rows: dict[str, pa.Table]
    counts: dict[str, int]
    elsewhere: int


def withhold(
    landing: Mapping[str, pa.Table], *, lake: Lake, source: Source, keys: Keys, timezone: str, day: date
) -> Optional[Withheld]:
    """Blank what a date's landing says of erased people; None where nobody was ever erased, which costs next to nothing.

    A row that lands before the one that says whose it is cannot be told yet: it is counted in ``elsewhere`` when that lands.
    """
    gone = erased_people(lake.root)
    if not gone:
        return None
    finder = Finder(lake, source, keys, timezone, landing, day)
    addresses = {*finder.rows_of(gone, day=day), *finder.rows_of_erased(day=day)}
    elsewhere = {*finder.rows_of(gone), *finder.rows_of_erased()} - addresses
    salt = secrets.token_hex(16)
    rows, counts = dict(landing), {}
    for name in sorted({each.entity for each in addresses}):
        mine = {(each.file, each.number) for each in addresses if each.entity == name}
        places = zip(rows[name].column("_source_file").to_pylist(), rows[name].column("_row_number").to_pylist())
        rows[name] = blanks_for(source, name, salt).applied(rows[name], [place in mine for place in places], day)
        counts[name] = len(mine)
    return Withheld(rows, counts, len(elsewhere))
