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
"""Bytes of an entity's rows that stay in memory, which is faster; more are kept in the engine, which can use the disk."""


@dataclass
class LandedEntity:
    """What was read of an entity for a date."""

    files: list[LandedFile] = field(default_factory=list)
    rows: int = 0
    in_memory: Optional[pa.Table] = field(default=None, repr=False)
    """The rows themselves, if they are few enough for memory."""
    undated: int = 0
    """Rows of a snapshot without a usable date."""
    kept: Optional[dict[str, Any]] = None
    """Of an entity without a file whose rows in bronze stay: how many, from which files, of which runs."""
    gone: list[str] = field(default_factory=list)
    """Files of the date that are no longer in landing although others of the entity are. Their rows are replaced."""

    @property
    def rows_in_files(self) -> int:
        return sum(each.rows for each in self.files)


@dataclass
class LandingResult:
    """What was read for a date, by entity."""

    entities: dict[str, LandedEntity] = field(default_factory=dict)
    withheld: dict[str, int] = field(default_factory=dict)
    """Number of masked rows of erased people."""
    erasable_rows: int = 0
    """Number of rows of other dates that now prove to be theirs."""

    @property
    def listing(self) -> Listing:
        """A row per entity: files, bytes, rows in the files, rows of the date."""
        return Listing(
            ["entity", "files", "bytes", "rows in files", "rows of the date", "without a date"],
            [
                (name, len(each.files), sum(file.bytes for file in each.files), each.rows_in_files, each.rows, each.undated)
                for name, each in self.entities.items()
            ],
        )

    @property
    def file_listing(self) -> Listing:
        """A row per file that was read."""
        return Listing(
            ["entity", "file", "bytes", "rows"],
            [(name, file.file, file.bytes, file.rows) for name, each in self.entities.items() for file in each.files],
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
        landed = landing.entities[name] = LandedEntity()
        # A snapshot that is there replaces what is stored.
        stored = _list_bronze_files(stage, name) if entity.is_dated or not marks[name] else []
        if stored and not marks[name] and not stage.settings.allow_missing:
            _reuse_bronze(stage, name, landed, stored)
            continue
        if entity.is_dated and marks[name]:
            landed.gone = [file for file in stored if file not in marks[name]]
        blocks = read_blocks(
            store, stage.source, name, stage.run_date, landed.files, marks[name], unpack_limits(stage.settings)
        )
        landed.in_memory = _store_rows_of_date(stage, name, entity, blocks)
        (landed.rows,) = stage.raw_engine.fetch_row(f"SELECT count(*) FROM landed.{name}")
        if entity.date or entity.follows:
            (landed.undated,) = stage.raw_engine.fetch_row(f"SELECT count(_problem) FROM landed.{name}")
            landed.rows -= landed.undated
        stage.inputs += [vars(each) for each in landed.files]
        # If no row of the whole snapshot has a usable date, its format has changed: the shop was not closed.
        all_undated = landed.undated and landed.undated == landed.rows_in_files
        if name == stage.source.primary and not landed.rows and not all_undated:
            also = f" ({landed.undated:,} rows have no usable date)" if landed.undated else ""
            _skip_stage(stage, f"no {name} of {stage.day} in {', '.join(each.file for each in landed.files)}{also}")
            return landing
    for name, entity in stage.source.entities.items():
        require_unchanged(store, entity, stage.run_date, marks[name])
    _mask_erased_people(stage, landing)
    stage.raw_engine.create_view("landed.primary", f"SELECT * FROM landed.{stage.source.primary}")
    return landing


def replace_bronze(stage: Stage, landing: LandingResult) -> None:
    """Replace the rows of the date in bronze, one atomic commit per entity, and end the stage."""
    run = stage.run_id or "development"
    for name, each in landing.entities.items():
        if each.undated:
            stage.warnings.append(
                f"{name}: {each.undated:,} rows of the snapshot cannot be split or have no usable date; they go to quarantine"
            )
        if each.gone:
            stage.warnings.append(
                f"{name}: {', '.join(each.gone)} is no longer in landing; its rows are replaced by those of the remaining files"
            )
        if each.kept:
            stage.warnings.append(
                f"{name}: {', '.join(each.kept['files'])} is no longer in landing; its {each.rows:,} rows in bronze are kept "
                "(--allow-missing deletes them)"
            )
            continue
        rows: Union[pa.Table, BatchSource]
        if each.in_memory is not None:
            rows = each.in_memory.append_column("_run_id", pa.repeat(run, each.in_memory.num_rows))
        else:
            rows = stage.raw_engine.batches(f"SELECT *, {literal(run)} AS _run_id FROM landed.{name}")
        stage.lake.replace_date(f"bronze.{name}", rows, stage.run_date)
    kept = {name: each.kept for name, each in landing.entities.items() if each.kept}
    if kept:
        stage.details["kept"] = kept
    if landing.erasable_rows:
        stage.warnings.append(
            f"{landing.erasable_rows:,} rows of other dates belong to erased people, as this landing shows; "
            "run `daybook erase --again`"
        )
    if landing.withheld:
        stage.details["withheld_of_erased_people"] = landing.withheld
    entities = landing.entities.values()
    stage.succeed(
        rows_in=sum(each.rows_in_files for each in entities), rows_out=sum(each.rows + each.undated for each in entities)
    )


def _reuse_bronze(stage: Stage, name: str, landed: LandedEntity, files: list[str]) -> None:
    """Use the rows that bronze has of an entity without a file."""
    of_date = f"FROM bronze.{name} WHERE run_date = DATE '{stage.day}'"
    landed.rows = stage.raw_engine.create_table(f"landed.{name}", f"SELECT * EXCLUDE (run_date, _run_id) {of_date}")
    runs = [run for (run,) in stage.raw_engine.rows(f"SELECT DISTINCT _run_id {of_date} ORDER BY 1")]
    landed.kept = {"rows": landed.rows, "files": files, "runs": runs}


def _list_bronze_files(stage: Stage, name: str) -> list[str]:
    """Return the landing files whose rows bronze has for the date."""
    if stage.run_date not in stage.lake.run_dates(f"bronze.{name}"):
        return []
    rows = stage.raw_engine.rows(
        f"SELECT DISTINCT _source_file FROM bronze.{name} WHERE run_date = DATE '{stage.day}' ORDER BY 1"
    )
    return [file for (file,) in rows]


def _store_rows_of_date(stage: Stage, name: str, entity: Entity, blocks: Iterator[pa.Table]) -> Optional[pa.Table]:
    """Store the rows of an entity as ``landed.<entity>``; return them if they stay in memory.

    Of a snapshot these are the rows of the date, and those without a usable date.
    """
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

    def choose(block: pa.Table) -> pa.Table:
        if not chosen:
            return block
        stage.raw_engine.register("_snapshot", block)
        return stage.raw_engine.arrow(chosen)

    blocks = map(choose, blocks)
    few: list[pa.Table] = []
    for block in blocks:
        few.append(block)
        if sum(each.nbytes for each in few) > _MAX_MEMORY_BYTES:
            stage.raw_engine.append(f"landed.{name}", pa.concat_tables(few, promote_options="default"))
            few.clear()
            for more in blocks:
                stage.raw_engine.append(f"landed.{name}", more)
            return None
    texts = dict.fromkeys([*entity.columns, *TECHNICAL_COLUMNS], pa.string())
    empty = pa.schema({**texts, "_row_number": pa.int64()}).empty_table()
    rows = pa.concat_tables(few, promote_options="default") if few else empty
    stage.raw_engine.register(f"landed.{name}", rows)
    return rows


def _mask_erased_people(stage: Stage, landing: LandingResult) -> None:
    """Mask values of erased people that landed again, before anything is shown or stored."""
    if not load_erased_pseudonyms(stage.lake.root):
        return
    rows = {
        name: stage.raw_engine.arrow(f"SELECT * FROM landed.{name} ORDER BY _source_file, _row_number")
        for name in landing.entities
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
    for name in found.counts:
        landing.entities[name].in_memory = found.rows[name]
        stage.raw_engine.register(f"landed.{name}", found.rows[name])


def _skip_stage(stage: Stage, reason: str) -> None:
    if stage.run_date in stage.lake.run_dates(f"bronze.{stage.source.primary}"):
        raise MissingFileError(f"{stage.day} was ingested before, but now there is {reason}; deliver its files again.")
    stage.skip(reason)
