"""Stage 1: copy the rows of the business dates from landing to bronze, as text."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property
from typing import Any, Callable, Optional, Union

import pyarrow as pa
import pyarrow.compute as pc

from daybook.contracts.columns import column_key
from daybook.engines import DuckDBEngine
from daybook.errors import MissingFileError
from daybook.lake.tables import RUN_DATE_COLUMN, BatchSource
from daybook.notebook.context import Stage
from daybook.notebook.display import Listing
from daybook.notebook.faults import for_each_date, for_each_group
from daybook.privacy import load_keys
from daybook.privacy.erasure import mask_erased_rows
from daybook.privacy.erasure.subjects import load_erased_pseudonyms
from daybook.quality.rules import snapshot_day_sql
from daybook.sources import Entity, LandedFile, open_landing
from daybook.sources.compression import unpack_limits
from daybook.sources.csv import TECHNICAL_COLUMNS
from daybook.sources.files import FileMarks, mark_files, read_blocks, require_unchanged
from daybook.sources.mapping import list_dates_sql, literal, quote

_MAX_MEMORY_BYTES = 48 << 20
"""Bytes of an entity's rows that stay in memory, which is faster; more are kept in the engine, which can use the disk."""


@dataclass
class LandedEntity:
    """What was read of an entity for a date."""

    files: list[LandedFile] = field(default_factory=list)
    rows: int = 0
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
class LandedDate:
    """What was read for a date, by entity."""

    entities: dict[str, LandedEntity] = field(default_factory=dict)
    withheld: dict[str, int] = field(default_factory=dict)
    """Number of masked rows of erased people."""

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


@dataclass
class LandingResult:
    """What was read, by date."""

    dates: dict[date, LandedDate]
    is_range: bool
    """Whether the listings have sums over dates."""
    rows: dict[str, Optional[pa.Table]] = field(default_factory=dict, repr=False)
    """By entity, its rows with their date if they are few enough for memory, else None."""
    erasable_rows: int = 0
    """Number of rows of other dates that now prove to be those of erased people."""

    @property
    def listing(self) -> Listing:
        """A row per entity: files, bytes, rows in the files, rows of the dates.

        A file with rows of several dates of a range counts once.
        """
        if not self.is_range:
            return self._only.listing
        rows = []
        for name in dict.fromkeys(name for each in self.dates.values() for name in each.entities):
            found = [each.entities[name] for each in self.dates.values() if name in each.entities]
            files = {file.file: file for each in found for file in each.files}.values()
            sizes = sum(file.bytes for file in files), sum(file.rows for file in files)
            # The undated rows of a snapshot are the same for every date that it is read for.
            undated = {tuple(file.file for file in each.files): each.undated for each in found}
            with_files = sum(bool(each.files) for each in found)
            rows.append((name, with_files, len(files), *sizes, sum(each.rows for each in found), sum(undated.values())))
        return Listing(
            ["entity", "dates with files", "files", "bytes", "rows in files", "rows of the dates", "without a date"], rows
        )

    @property
    def file_listing(self) -> Listing:
        """A row per file that was read; for a range, a row per date with the sums of its files."""
        if not self.is_range:
            return self._only.file_listing
        rows = []
        for day, landed in self.dates.items():
            files = [file for each in landed.entities.values() for file in each.files]
            of_date = sum(each.rows for each in landed.entities.values())
            rows.append((day, len(files), sum(file.bytes for file in files), sum(file.rows for file in files), of_date))
        return Listing(["date", "files", "bytes", "rows in files", "rows of the date"], rows)

    @property
    def _only(self) -> LandedDate:
        (only,) = self.dates.values()
        return only


def read_landing(stage: Stage, *, wait: Callable[[float], None] = time.sleep) -> LandingResult:
    """Read the files of every entity and keep the rows of the business dates.

    Cells can query them as ``landed.<entity>``, those of the first entity also as ``landed.primary``, with pseudonyms in place
    of restricted values. A date ends as SKIPPED if a file is missing that the source declares as ``missing: skip``, or if a
    snapshot has no row of the date. A file that changes while its date is read is a fault, since rows of two deliveries must
    not mix. ``wait`` is called between two tries of a date of a range (``for_each_date``).
    """
    landing = LandingResult({day: LandedDate() for day in stage.dates}, stage.is_range)
    reader = _LandingReader(stage, landing)
    for_each_date(stage, reader.mark, wait=wait)
    if stage.source.primary in reader.shared:
        reader.read_shared(stage.source.primary, wait)
        for_each_date(stage, reader.skip_without_rows, wait=wait)
    for_each_date(stage, reader.read_own, wait=wait)
    for name in reader.shared:
        if name != stage.source.primary:
            reader.read_shared(name, wait)
    for_each_date(stage, reader.require_shared_unchanged, wait=wait)
    if stage.dates:
        reader.publish()
        _mask_erased_people(stage, landing)
        stage.raw_engine.create_view("landed.primary", f"SELECT * FROM landed.{stage.source.primary}")
    return landing


def replace_bronze(stage: Stage, landing: LandingResult) -> None:
    """Replace the rows of the dates in bronze, one atomic commit per entity, and end the stage."""
    run = stage.run_id or "development"
    for name in stage.source.entities:
        kept = [day for day in stage.dates if landing.dates[day].entities[name].kept]
        rows: Union[pa.Table, BatchSource]
        few = landing.rows[name]
        if few is not None:
            few = _without_dates(few, kept)
            rows = few.append_column("_run_id", pa.repeat(run, few.num_rows))
        else:
            others = f" WHERE run_date NOT IN ({list_dates_sql(kept)})" if kept else ""
            rows = stage.raw_engine.batches(f"SELECT *, {literal(run)} AS _run_id FROM landed.{name}{others}")
        stage.lake.replace_dates(f"bronze.{name}", rows, [day for day in stage.dates if day not in kept])
    if landing.erasable_rows:
        stage.warnings.append(
            f"{landing.erasable_rows:,} rows of other dates belong to erased people, as this landing shows; "
            "run `daybook erase --again`"
        )
    for day in stage.dates:
        _record_date(stage, day, landing.dates[day])
    stage.succeed(
        by_date={
            day: {
                "in": sum(each.rows_in_files for each in landing.dates[day].entities.values()),
                "out": sum(each.rows + each.undated for each in landing.dates[day].entities.values()),
                "rejected": None,
                "duplicates": None,
            }
            for day in stage.dates
        }
    )


def _record_date(stage: Stage, day: date, landed: LandedDate) -> None:
    """Record what a reader of the date's record has to know."""
    result = stage.results[day]
    for name, each in landed.entities.items():
        if each.undated:
            result.warnings.append(
                f"{name}: {each.undated:,} rows of the snapshot cannot be split or have no usable date; they go to quarantine"
            )
        if each.gone:
            result.warnings.append(
                f"{name}: {', '.join(each.gone)} is no longer in landing; its rows are replaced by those of the remaining files"
            )
        if each.kept:
            result.warnings.append(
                f"{name}: {', '.join(each.kept['files'])} is no longer in landing; its {each.rows:,} rows in bronze are kept "
                "(--allow-missing deletes them)"
            )
    kept = {name: each.kept for name, each in landed.entities.items() if each.kept}
    if kept:
        result.details["kept"] = kept
    if landed.withheld:
        result.details["withheld_of_erased_people"] = landed.withheld


class _LandingReader:
    """Reads the landing of the dates of a stage.

    Most files belong to one date (``read_own``). A snapshot, or another file that several of the dates have in common, is read
    once (``read_shared``).
    """

    def __init__(self, stage: Stage, landing: LandingResult) -> None:
        self._stage = stage
        self._landing = landing
        self._store = open_landing(stage.settings.landing)
        self._store.require_no_outside_links()
        self._rows = {name: _RowStore(stage.raw_engine, name, each) for name, each in stage.source.entities.items()}
        self._marks: dict[date, dict[str, FileMarks]] = {}
        """By date, the marks of the files that are its own."""
        self._shared_marks: dict[tuple[str, str], FileMarks] = {}
        """By entity and pattern, the marks of the files that several dates have in common."""
        self._stored_files: dict[str, dict[date, list[str]]] = {}
        self.shared: list[str] = []
        """Entities with files that several dates have in common, and those that follow them."""
        for name, entity in stage.source.entities.items():
            follows_shared = entity.follows is not None and entity.follows.entity in self.shared
            if follows_shared or len({entity.pattern(day) for day in stage.dates}) < len(stage.dates):
                self.shared.append(name)

    def mark(self, day: date) -> None:
        """Remember the versions of the date's files, and end the date if one that it must have is absent."""
        self._marks[day] = {}
        for name, entity in self._stage.source.entities.items():
            pattern = entity.pattern(day)
            if name not in self.shared:
                found = self._marks[day][name] = mark_files(self._store, entity, day)
            elif (name, pattern) in self._shared_marks:
                found = self._shared_marks[name, pattern]
            else:
                found = self._shared_marks[name, pattern] = mark_files(self._store, entity, day)
            # Report an absent file before reading a large one.
            if found or entity.missing == "empty":
                continue
            place = self._store.href(pattern)
            if entity.missing == "skip":
                self._skip(day, f"no file {place}: the shop was closed")
                return
            raise MissingFileError(
                f"{place} does not exist; deliver it, then run {day} again, or, if a date may come without it, set "
                f"`missing: empty` (`missing: skip` if the shop is closed then) for {name} in params/sources/"
                f"{self._stage.source.name}.yaml."
            )

    def read_own(self, day: date) -> None:
        """Read the files that belong to the date alone."""
        if day not in self._marks:  # An earlier try failed: the files may be others now.
            self.mark(day)
        if day not in self._stage.dates:
            return
        marks = self._marks.pop(day)
        try:
            for name, found in marks.items():
                self._read(name, [day], found)
                if name == self._stage.source.primary:
                    self.skip_without_rows(day)
                    if day not in self._stage.dates:
                        return
            for name, found in marks.items():
                require_unchanged(self._store, self._stage.source.entities[name], day, found)
        except BaseException:
            self._drop(marks, [day])
            raise

    def read_shared(self, name: str, wait: Callable[[float], None]) -> None:
        """Read the files of an entity in ``shared``, each once for all of its dates."""
        entity = self._stage.source.entities[name]
        groups: dict[str, list[date]] = {}
        for day in self._stage.dates:
            groups.setdefault(entity.pattern(day), []).append(day)

        def read(days: Sequence[date]) -> None:
            place = name, entity.pattern(days[0])
            marks = self._shared_marks.get(place)
            if marks is None:
                marks = self._shared_marks[place] = mark_files(self._store, entity, days[0])
            try:
                self._read(name, days, marks)
            except BaseException:
                self._drop([name], days)
                del self._shared_marks[place]
                raise

        for_each_group(self._stage, groups.values(), read, wait=wait)

    def require_shared_unchanged(self, day: date) -> None:
        """Raise ``LandingError`` if files that the date has in common with others have changed meanwhile."""
        for name in self.shared:
            entity = self._stage.source.entities[name]
            require_unchanged(self._store, entity, day, self._shared_marks[name, entity.pattern(day)])

    def skip_without_rows(self, day: date) -> None:
        """End the date as SKIPPED if the first entity has no row of it."""
        name = self._stage.source.primary
        landed = self._landing.dates[day].entities[name]
        # If no row of the whole snapshot has a usable date, its format has changed: the shop was not closed.
        all_undated = landed.undated and landed.undated == landed.rows_in_files
        if not landed.rows and not all_undated:
            also = f" ({landed.undated:,} rows have no usable date)" if landed.undated else ""
            self._skip(day, f"no {name} of {day} in {', '.join(each.file for each in landed.files)}{also}")

    def publish(self) -> None:
        """Define ``landed.<entity>`` with the rows of the dates that continue."""
        ended = self._landing.dates.keys() - self._stage.dates
        self._drop(self._rows, ended)
        for name, rows in self._rows.items():
            self._landing.rows[name] = rows.publish()
        for day in self._stage.dates:
            for each in self._landing.dates[day].entities.values():
                self._stage.results[day].inputs += [vars(file) for file in each.files]

    def _skip(self, day: date, reason: str) -> None:
        if day in self._ingested_dates:
            raise MissingFileError(f"{day} was ingested before, but now there is {reason}; deliver its files again.")
        self._stage.skip_date(day, reason)

    @cached_property
    def _ingested_dates(self) -> set[date]:
        return set(self._stage.lake.run_dates(f"bronze.{self._stage.source.primary}"))

    def _drop(self, names: Iterable[str], days: Collection[date]) -> None:
        for name in names:
            self._rows[name].drop(days)

    def _read(self, name: str, days: Sequence[date], marks: FileMarks) -> None:
        """Read an entity's files of some dates."""
        stage, entity = self._stage, self._stage.source.entities[name]
        landed = {day: LandedEntity() for day in days}
        for day in days:
            self._landing.dates[day].entities[name] = landed[day]
        # A snapshot that is there replaces what is stored.
        stored = self._list_bronze_files(name) if entity.is_dated or not marks else {}
        if not marks and not stage.settings.allow_missing:
            for day in stored.keys() & set(days):
                self._reuse_bronze(name, day, landed[day], stored[day])
            days = [day for day in days if day not in stored]
        files: list[LandedFile] = []
        if not days:
            return
        blocks = read_blocks(self._store, stage.source, name, days[0], files, marks, unpack_limits(stage.settings))
        for block in self._attribute(name, days, blocks):
            self._rows[name].add(block)
            for day, rows, problems in _count_by_date(block):
                undated = problems if entity.date or entity.follows else 0
                landed[day].undated += undated
                landed[day].rows += rows - undated
        for day in days:
            landed[day].files = files
            if entity.is_dated and marks:
                landed[day].gone = [file for file in stored.get(day, []) if file not in marks]

    def _attribute(self, name: str, days: Sequence[date], blocks: Iterator[pa.Table]) -> Iterator[pa.Table]:
        """Yield the rows that belong to the dates, with ``run_date``.

        Of a snapshot these are the rows of each date, and for each date all those without a usable one.
        """
        engine, entity = self._stage.raw_engine, self._stage.source.entities[name]
        if len(days) == 1 and not entity.date and not entity.follows:
            for block in blocks:
                yield block.add_column(0, RUN_DATE_COLUMN, pa.repeat(pa.scalar(days[0], pa.date32()), block.num_rows))
            return
        every = f"[{list_dates_sql(days)}]"
        chosen = f"SELECT unnest({every}) AS {RUN_DATE_COLUMN}, * FROM _snapshot"
        if entity.date:
            problem = f"CASE WHEN _problem IS NULL AND _day IS NULL THEN {literal(entity.undated)} ELSE _problem END"
            own = f"CASE WHEN _day IS NULL THEN {every} WHEN _day IN ({list_dates_sql(days)}) THEN [_day] ELSE [] END"
            chosen = (
                f"SELECT unnest({own}) AS {RUN_DATE_COLUMN}, * EXCLUDE (_day) REPLACE ({problem} AS _problem) "
                f"FROM (SELECT *, {snapshot_day_sql(self._stage.source, name)} AS _day FROM _snapshot) AS dated"
            )
        elif entity.follows:
            by, other = quote(entity.follows.by), quote(self._stage.source.followed_column(entity.follows))
            self._rows[entity.follows.entity].publish()
            engine.create_table(
                "_followed",
                f"SELECT {other} AS _key, list(DISTINCT {RUN_DATE_COLUMN}) AS _days FROM landed.{entity.follows.entity} "
                f"WHERE _problem IS NULL AND {RUN_DATE_COLUMN} IN ({list_dates_sql(days)}) GROUP BY ALL",
            )
            own = f"CASE WHEN _problem IS NOT NULL THEN {every} ELSE coalesce(_days, []) END"
            chosen = (
                f"SELECT unnest({own}) AS {RUN_DATE_COLUMN}, * EXCLUDE (_key, _days) "
                f"FROM _snapshot LEFT JOIN _followed ON _key = {by}"
            )
        for block in blocks:
            engine.register("_snapshot", block)
            yield engine.arrow(chosen)

    def _list_bronze_files(self, name: str) -> dict[date, list[str]]:
        """Return the landing files whose rows bronze has, by date."""
        if name not in self._stored_files:
            stage, found = self._stage, self._stored_files.setdefault(name, {})
            if not set(stage.dates).isdisjoint(stage.lake.run_dates(f"bronze.{name}")):
                for day, file in stage.raw_engine.rows(
                    f"SELECT DISTINCT run_date, _source_file FROM bronze.{name} WHERE {stage.dates_condition} ORDER BY ALL"
                ):
                    found.setdefault(day, []).append(file)
        return self._stored_files[name]

    def _reuse_bronze(self, name: str, day: date, landed: LandedEntity, files: list[str]) -> None:
        """Use the rows that bronze has of an entity without a file."""
        engine, of_date = self._stage.raw_engine, f"FROM bronze.{name} WHERE run_date = DATE '{day}'"
        rows = engine.arrow(f"SELECT run_date, * EXCLUDE (run_date, _run_id) {of_date}")
        self._rows[name].add(rows)
        landed.rows = rows.num_rows
        runs = [run for (run,) in engine.rows(f"SELECT DISTINCT _run_id {of_date} ORDER BY 1")]
        landed.kept = {"rows": landed.rows, "files": files, "runs": runs}


class _RowStore:
    """The rows of an entity of all dates: in memory, or, if they are many, in the engine as ``landed.<entity>``."""

    def __init__(self, engine: DuckDBEngine, name: str, entity: Entity) -> None:
        self._engine = engine
        self._table = f"landed.{name}"
        texts = dict.fromkeys([*entity.columns, *TECHNICAL_COLUMNS], pa.string())
        self._empty = pa.schema({RUN_DATE_COLUMN: pa.date32(), **texts, "_row_number": pa.int64()}).empty_table()
        self._names: dict[str, str] = {}
        """The name of each column by its key, as in the first rows: those of another date may spell it in another way."""
        self._blocks: list[pa.Table] = []
        self._bytes = 0
        self._in_engine = False

    def add(self, rows: pa.Table) -> None:
        """Add rows. They have a column ``run_date``."""
        rows = rows.rename_columns([self._names.setdefault(column_key(name), name) for name in rows.column_names])
        self._blocks.append(rows)
        self._bytes += rows.nbytes
        if self._bytes <= _MAX_MEMORY_BYTES:
            return
        if not self._in_engine:
            self._engine.refresh(self._table)
        self._engine.append(self._table, pa.concat_tables(self._blocks, promote_options="default"))
        self._in_engine = True
        self._blocks.clear()

    def drop(self, days: Collection[date]) -> None:
        """Remove the rows of some dates."""
        if self._in_engine and days:
            self._engine.delete(self._table, f"{RUN_DATE_COLUMN} IN ({list_dates_sql(days)})")
        self._blocks = [_without_dates(each, days) for each in self._blocks]

    def publish(self) -> Optional[pa.Table]:
        """Define ``landed.<entity>``; return the rows if they are in memory."""
        if self._in_engine:
            return None
        rows = pa.concat_tables(self._blocks, promote_options="default") if self._blocks else self._empty
        self._blocks = [rows] if self._blocks else []
        self._engine.register(self._table, rows)
        return rows


def _count_by_date(rows: pa.Table) -> Iterator[tuple[date, int, int]]:
    """Yield each date with its number of rows, and of rows with a problem."""
    counts = rows.group_by(RUN_DATE_COLUMN).aggregate([([], "count_all"), ("_problem", "count")])
    return zip(*(counts.column(name).to_pylist() for name in (RUN_DATE_COLUMN, "count_all", "_problem_count")))


def _without_dates(rows: pa.Table, days: Collection[date]) -> pa.Table:
    if not days:
        return rows
    return rows.filter(~pc.field(RUN_DATE_COLUMN).isin(pa.array(list(days), pa.date32())))


def _mask_erased_people(stage: Stage, landing: LandingResult) -> None:
    """Mask values of erased people that landed again, before anything is shown or stored."""
    if not load_erased_pseudonyms(stage.lake.root):
        return
    rows = {
        name: stage.raw_engine.arrow(f"SELECT * FROM landed.{name} ORDER BY run_date, _source_file, _row_number")
        for name in stage.source.entities
    }
    found = mask_erased_rows(
        rows,
        lake=stage.lake,
        source=stage.source,
        keys=load_keys(stage.settings.pii_key),
        timezone=stage.settings.timezone,
        days=stage.dates,
    )
    if found is None:
        return
    landing.erasable_rows = found.other_date_rows
    for day, counts in found.counts.items():
        landing.dates[day].withheld = counts
    for name in {name for counts in found.counts.values() for name in counts}:
        landing.rows[name] = found.rows[name]
        stage.raw_engine.register(f"landed.{name}", found.rows[name])
