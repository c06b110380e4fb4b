"""Load the calendar of a deployment. Its last date may come from the data of a snapshot."""

from __future__ import annotations

import logging
from datetime import date
from typing import Optional

from daybook.errors import DaybookError
from daybook.settings import Settings
from daybook.sources import Calendar, LandingStore, Source, load_source
from daybook.sources.compression import unpack_limits
from daybook.sources.files import read_blocks

_log = logging.getLogger(__name__)

_ANY_DAY = date(2000, 1, 1)
"""Files of a snapshot are the same for every date."""


def load_calendar(settings: Settings) -> Calendar:
    """Return the calendar of a deployment's source. The calendar of a snapshot without a last date ends at its newest row."""
    source = load_source(settings.source)
    snapshot = source.entities[source.primary]
    if source.calendar.last or snapshot.is_dated or not snapshot.date:
        return source.calendar
    try:
        last = _read_last_date(settings, source)
    except DaybookError as error:
        # The runs fail for the same cause. Until it is removed, the calendar has no last date.
        _log.warning("The last date of the source %s is unknown: %s", source.name, error)
        last = None
    return source.calendar.model_copy(update={"last": last})


def _read_last_date(settings: Settings, source: Source) -> Optional[date]:
    """Return the newest usable date in the snapshot in landing; None without files."""
    # Imported here: only a snapshot is read.
    from daybook.engines import DuckDBEngine
    from daybook.lake.tables import Lake
    from daybook.quality.rules import snapshot_day_sql

    engine = DuckDBEngine(Lake(settings.lake), settings.timezone)
    newest = None
    store, limits = LandingStore(settings.landing), unpack_limits(settings)
    for block in read_blocks(store, source, source.primary, _ANY_DAY, [], limits=limits):
        engine.register("snapshot", block)
        (last,) = engine.fetch_row(
            f"SELECT max({snapshot_day_sql(source, source.primary)}) FROM snapshot WHERE _problem IS NULL"
        )
        newest = max(filter(None, [newest, last]), default=None)
    return newest
