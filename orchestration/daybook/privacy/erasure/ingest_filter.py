"""Mask rows of erased people in a landing before bronze is written."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Optional

import pyarrow as pa
import pyarrow.compute as pc

from daybook.lake.tables import RUN_DATE_COLUMN, Lake
from daybook.privacy import Keys
from daybook.privacy.erasure.masking import build_masker
from daybook.privacy.erasure.subjects import SubjectFinder, load_erased_pseudonyms, match_addresses
from daybook.sources import Source


@dataclass(frozen=True)
class FilteredLanding:
    """Masked landing rows, the number of masked rows by date and entity, and the number of rows of other dates to mask."""

    rows: dict[str, pa.Table]
    counts: dict[date, dict[str, int]]
    other_date_rows: int


def mask_erased_rows(
    landing: Mapping[str, pa.Table], *, lake: Lake, source: Source, keys: Keys, timezone: str, days: Collection[date]
) -> Optional[FilteredLanding]:
    """Mask the rows of erased people in the landing of some dates; return None if nobody was ever erased.

    The rows have their date as ``run_date``. A row may land before the row that links it to an erased person. It is counted in
    ``other_date_rows`` when the second lands.
    """
    erased = load_erased_pseudonyms(lake.root)
    if not erased:
        return None
    finder = SubjectFinder(lake, source, keys, timezone, landing, days)
    addresses = {*finder.find_rows(erased, days=days), *finder.find_rows_of_erased(days=days)}
    elsewhere = {*finder.find_rows(erased), *finder.find_rows_of_erased()} - addresses
    salt = secrets.token_hex(16)
    rows, counts = dict(landing), Counter((each.run_date, each.entity) for each in addresses)
    for name in sorted({each.entity for each in addresses}):
        masker, chosen = build_masker(source, name, salt), [each for each in addresses if each.entity == name]
        parts = []
        for day in sorted(set(rows[name].column(RUN_DATE_COLUMN).to_pylist())):
            part = rows[name].filter(pc.field(RUN_DATE_COLUMN) == pa.scalar(day, pa.date32()))
            hits = match_addresses(part, (each for each in chosen if each.run_date == day))
            parts.append(masker.mask_rows(part, hits, day) if any(hits) else part)
        rows[name] = pa.concat_tables(parts)
    by_date = {day: {name: counts[day, name] for name in source.entities if counts[day, name]} for day in sorted(days)}
    return FilteredLanding(rows, {day: each for day, each in by_date.items() if each}, len(elsewhere))
