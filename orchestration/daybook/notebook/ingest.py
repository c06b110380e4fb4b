"""Stage 1: copy the rows of the business date from landing to bronze, as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional, Union

import pyarrow as pa

from daybook.errors import MissingFileError
from daybook.lake.tables import BatchSource
from daybook.notebook.context import Stage
from daybook.notebook.display import Listing
from daybook.privacy import load_keys
from daybook.privacy.erasure import mask_erased_rows
from daybook.privacy.erasure.subjects import load_erased_pseudonyms
from daybook.quality.rules import snapshot_day_sql
from daybook.sources import Entity, LandedFile, open_landing
from daybook.sources.compression import unpack_limits
from daybook.sources.csv import TECHNICAL_COLUMNS
from daybook.sources.files import mark_files, read_blocks, require_unchanged
from daybook.sources.mapping import literal, quote

_MAX_MEMORY_BYTES = 48 << 20
"""Bytes of an entity's rows that stay in memory; more are kept in the engine, which can use the disk."""


@dataclass
class LandingResult:
    """What was read for a date, by entity: rows, files, and rows of a snapshot without a usable date (``undated``).

    ``withheld`` counts the masked rows of erased people; ``erasable_rows`` are rows of other dates that now prove to be theirs.
    """

    rows: dict[str, int] = field(default_factory=dict)
    files: dict[str, list[LandedFile]] = field(default_factory=dict)
    undated: dict[str, int] = field(default_factory=dict)
    memory_rows: dict[str, pa.Table] = field(default_factory=dict, repr=False)
    """The rows themselves, if they are few enough for memory."""
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Entities without a file whose rows in bronze stay: how many, from which files, of which runs."""
    gone: dict[str, list[str]] = field(default_factory=dict)
    """Files of the date that are no longer in landing although others of the entity are. Their rows are replaced."""
    withheld: dict[str, int] = field(default_factory=dict)
    erasable_rows: int = 0

    @property
    def listing(self) -> Listing:
        """A row per entity: files, bytes, rows in the files, rows of the date."""
        return Listing(
            ["entity", "files", "bytes", "rows in files", "rows of the date", "without a date"],
            [
                (
                    name,
                    len(self.files[name]),
                    sum(each.bytes for each in self.files[name]),
                    sum(each.rows for each in self.files[name]),
                    rows,
                    self.undated.get(name, 0),
                )
                for name, rows in self.rows.items()
            ],
        )

    @property
    def file_listing(self) -> Listing:
        """A row per file that was read."""
        return Listing(
            ["entity", "file", "bytes", "rows"],
            [(name, each.file, each.bytes, each.rows) for name, files in self.files.items() for each in files],
        )


def read_landing(stage: Stage) -> LandingResult:
    """Read the files of every entity and keep the rows of the business date.

    Cells can query them as ``landed.<entity>``, those of the first entity also as ``landed.primary``, with pseudonyms in place
    of restricted values. Ends the stage as SKIPPED if a file is missing that the source declares as ``missing: skip``, or if a
    snapshot has no row of the date. Raises ``LandingError`` if a file changes while the landing is read, since rows of two
    deliveries must not mix.
    """
    landing = LandingResult()
    store = open_landing(stage.settings.landing)
    store.require_no_outside_links()
    marks = {name: mark_files(store, entity, stage.run_date) for name, entity in stage.source.entities.items()}
    for name, entity in stage.source.entities.items():
        # Report an absent file before reading a large one.
        if not marks[name] and entity.missing != "empty":
            place = store.href(entity.pattern(stage.run_date))
            if entity.missing == "skip":
                _skip_stage(stage, f"no file {place}: the shop was closed")
                return landing
            raise MissingFileError(
                f"{place} does not exist; deliver it, then run {stage.day} again, or, if a date may come without it, set "
                f"`missing: empty` (`missing: skip` if the shop is closed then) for {name} in params/sources/"
                f"{stage.source.name}.yaml."
            )
    for name, entity in stage.source.entities.items():
        files: list[LandedFile] = []
        landing.files[name] = files
        if not marks[name] and not stage.settings.allow_missing and _reuse_bronze(stage, landing, name):
            continue
        if entity.is_dated and marks[name]:
            landing.gone[name] = [file for file in _list_bronze_files(stage, name) if file not in marks[name]]
        blocks = read_blocks(store, stage.source, name, stage.run_date, files, marks[name], unpack_limits(stage.settings))
        _filter_rows_by_date(stage, landing, name, entity, blocks)
        stage.inputs += [vars(each) for each in files]
        undated = landing.undated.get(name, 0)
        # If no row of the whole snapshot has a usable date, its format has changed: the shop was not closed.
        if name == stage.source.primary and not landing.rows[name] and (not undated or undated < sum(f.rows for f in files)):
            also = f" ({undated:,} rows have no usable date)" if undated else ""
            _skip_stage(stage, f"no {name} of {stage.day} in {', '.join(each.file for each in files)}{also}")
            return landing
    for name, entity in stage.source.entities.items():
        require_unchanged(store, entity, stage.run_date, marks[name])
    _mask_erased_people(stage, landing)
    stage.raw_engine.create_view("landed.primary", f"SELECT * FROM landed.{stage.source.primary}")
    return landing


def replace_bronze(stage: Stage, landing: LandingResult) -> None:
    """Replace the rows of the date in bronze, one atomic commit per entity, and end the stage."""
    run = stage.run_id or "development"
    for name in landing.rows:
        if name in landing.kept:
            continue
        if name in landing.memory_rows:
            few = landing.memory_rows[name]
            rows: Union[pa.Table, BatchSource] = few.append_column("_run_id", pa.repeat(run, few.num_rows))
        else:
            rows = stage.raw_engine.batches(f"SELECT *, {literal(run)} AS _run_id FROM landed.{name}")
        stage.lake.replace_partition(f"bronze.{name}", rows, stage.run_date)
    read = sum(each.rows for files in landing.files.values() for each in files)
    stage.details["warnings"] = [
        f"{name}: {count:,} rows of the snapshot cannot be split or have no usable date; they go to quarantine"
        for name, count in landing.undated.items()
        if count
    ]
    for name, kept in landing.kept.items():
        stage.details["warnings"].append(
            f"{name}: {', '.join(kept['files'])} is no longer in landing; its {kept['rows']:,} rows in bronze are kept "
            "(--allow-missing deletes them)"
        )
    for name, files in landing.gone.items():
        if files:
            stage.details["warnings"].append(
                f"{name}: {', '.join(files)} is no longer in landing; its rows are replaced by those of the remaining files"
            )
    if landing.kept:
        stage.details["kept"] = landing.kept
    if landing.erasable_rows:
        stage.details["warnings"].append(
            f"{landing.erasable_rows:,} rows of other dates belong to erased people, as this landing shows; "
            "run `daybook erase --again`"
        )
    if landing.withheld:
        stage.details["withheld_of_erased_people"] = landing.withheld
    stage.succeed(rows_in=read, rows_out=sum(landing.rows.values()) + sum(landing.undated.values()))


def _reuse_bronze(stage: Stage, landing: LandingResult, name: str) -> bool:
    """Use the rows that bronze has of an entity without a file; return whether there are any."""
    if not _list_bronze_files(stage, name):
        return False
    of_date = f"FROM bronze.{name} WHERE run_date = DATE '{stage.day}'"
    landing.rows[name] = stage.raw_engine.create_table(f"landed.{name}", f"SELECT * EXCLUDE (run_date, _run_id) {of_date}")
    landing.kept[name] = {
        "rows": landing.rows[name],
        "files": _list_bronze_files(stage, name),
        "runs": [run for (run,) in stage.raw_engine.rows(f"SELECT DISTINCT _run_id {of_date} ORDER BY 1")],
    }
    return True


def _list_bronze_files(stage: Stage, name: str) -> list[str]:
    """Return the landing files whose rows bronze has for the date."""
    if not stage.lake.list_partition_files(f"bronze.{name}", stage.run_date):
        return []
    rows = stage.raw_engine.rows(
        f"SELECT DISTINCT _source_file FROM bronze.{name} WHERE run_date = DATE '{stage.day}' ORDER BY 1"
    )
    return [file for (file,) in rows]


def _filter_rows_by_date(stage: Stage, landing: LandingResult, name: str, entity: Entity, blocks: Iterator[pa.Table]) -> None:
    chosen = ""
    if entity.date:
        problem = f"CASE WHEN _problem IS NULL AND _day IS NULL THEN {literal(entity.undated)} ELSE _problem END"
        chosen = (
            f"SELECT * EXCLUDE (_day) REPLACE ({problem} AS _problem) "
            f"FROM (SELECT *, {snapshot_day_sql(stage.source, name)} AS _day FROM _snapshot) AS dated "
            f"WHERE coalesce(_day = DATE '{stage.day}', TRUE)"
        )
    elif entity.follows:
        by, other = quote(entity.follows.by), quote(stage.source.followed_column(entity.follows))
        keys = f"SELECT {other} FROM landed.{entity.follows.entity} WHERE _problem IS NULL"
        chosen = f"SELECT * FROM _snapshot WHERE {by} IN ({keys}) OR _problem IS NOT NULL"
    few: Optional[list[pa.Table]] = []
    for block in blocks:
        if chosen:
            stage.raw_engine.register("_snapshot", block)
            block = stage.raw_engine.arrow(chosen)
        if few is not None:
            few.append(block)
            if sum(each.nbytes for each in few) <= _MAX_MEMORY_BYTES:
                continue
            block, few = pa.concat_tables(few, promote_options="default"), None
        stage.raw_engine.append(f"landed.{name}", block)
    if few is not None:
        landing.memory_rows[name] = pa.concat_tables(few, promote_options="default") if few else _empty_table(entity)
        stage.raw_engine.register(f"landed.{name}", landing.memory_rows[name])
    (landing.rows[name],) = stage.raw_engine.fetch_row(f"SELECT count(*) FROM landed.{name}")
    if chosen:
        (landing.undated[name],) = stage.raw_engine.fetch_row(f"SELECT count(*) FROM landed.{name} WHERE _problem IS NOT NULL")
        landing.rows[name] -= landing.undated[name]


def _mask_erased_people(stage: Stage, landing: LandingResult) -> None:
    """Mask values of erased people that landed again, before anything is shown or stored."""
    if not load_erased_pseudonyms(stage.lake.root):
        return
    rows = {
        name: stage.raw_engine.arrow(f"SELECT * FROM landed.{name} ORDER BY _source_file, _row_number") for name in landing.rows
    }
    found = mask_erased_rows(
        rows,
        lake=stage.lake,
        source=stage.source,
        keys=load_keys(stage.settings.pii_key),
        timezone=stage.settings.timezone,
        day=stage.run_date,
    )
    if found is None:
        return
    landing.withheld, landing.erasable_rows = found.counts, found.other_date_rows
    for name, blanked in found.rows.items():
        landing.memory_rows[name] = blanked
        stage.raw_engine.register(f"landed.{name}", blanked)


def _skip_stage(stage: Stage, reason: str) -> None:
    if stage.run_date in stage.lake.partitions(f"bronze.{stage.source.primary}"):
        raise MissingFileError(f"{stage.day} was ingested before, but now there is {reason}; deliver its files again.")
    stage.skip(reason)


def _empty_table(entity: Entity) -> pa.Table:
    fields = [pa.field(column, pa.string()) for column in entity.columns]
    fields += [pa.field(name, pa.int64() if name == "_row_number" else pa.string()) for name in TECHNICAL_COLUMNS]
    return pa.schema(fields).empty_table()
