"""Collect the raw personal values that a run may have read, and build the redactor that removes them from its outputs."""

from __future__ import annotations

import builtins
import codecs
import csv
import json
import keyword
import os
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import date
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional, Union

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.columns import column_key, matching_columns
from daybook.errors import ContractError, LandingError, LimitError, ParamsError, StorageError
from daybook.lake.tables import Lake
from daybook.privacy import load_keys, make_pseudonym
from daybook.privacy.matcher import ValueMatcher
from daybook.privacy.raw_reads import list_raw_tables_read
from daybook.privacy.redactor import CustomerKeyLookup, Redactor, find_literals, strip_literals
from daybook.records.archive import Archive
from daybook.records.names import STAGES, list_range, notebook_name
from daybook.settings import Settings, list_files, project_root
from daybook.sources import Entity, Source, load_source, open_landing
from daybook.sources.compression import UnpackLimits, is_gzip, unpack, unpack_limits
from daybook.sources.files import FileMarks, find_files, is_entity_file, mark_files, read_blocks
from daybook.storage import CHUNK_BYTES, Store

_RAW_COLUMN = "_raw"
"""Column with the text of malformed rows, of which any field may be personal."""
_OUTCOMES = {"SUCCEEDED", "SKIPPED", "REJECTED", "FAILED", "RUNNING", "Daybook", "DuckDB", "Python"}
_ORDINARY_WORDS = Path(__file__).with_name("ordinary_words.txt")
_MAX_HELD_RAW_ROWS = 50_000
"""Maximum number of malformed rows in memory. Up to it, fields that occur in non-personal columns are excluded."""
_SCAN_OPTIONS: dict[str, int] = {"batch_size": 1 << 16, "batch_readahead": 2, "fragment_readahead": 1}
_RAW_TABLE = re.compile(r"""\b(bronze|quarantine)["'`]?\s*\.\s*["'`]?(\w*)""", re.IGNORECASE)
_TIME_OR_NUMBER = re.compile(r"[\d\s.,:/+TZ-]*")


_Values = tuple[str, str, Union[pa.Array, pa.ChunkedArray]]
"""A column, its class of personal data, and some of its values."""
_Rows = Union[pa.RecordBatch, pa.Table]


class RunRedactor(Redactor):
    """A redactor with the personal values of a run."""

    def __init__(
        self, values: ValueMatcher, ordinary: set[str], find_keys: CustomerKeyLookup, is_current: Callable[[], bool]
    ) -> None:
        super().__init__(values, ordinary=ordinary, pseudonyms=find_keys)
        self.is_current = is_current
        """Return whether a redactor that is built now would have the same values."""


def build_redactor(settings: Settings, run_id: str, *, stage: Optional[str] = None) -> RunRedactor:
    """Build a redactor with the personal values of a run's business dates.

    Landing is read too if bronze may lack values that the run read: in the ingest stage, and while another run wrote bronze's
    rows of all dates. All dates are read of a table that a cell of the stage's notebook names, or whose raw values the stage
    has read. Any error while reading is raised, since without the values no output is known to be free of them.
    """
    source, dates, lake = load_source(settings.source), list_range(run_id), Lake(settings.lake)
    files, marks = _list_data_files(lake, settings, source, dates), _read_landing_state(settings, source, dates)
    archive = Archive(settings.archive)
    raw_tables = list_raw_tables_read(archive, run_id, stage) if stage else set()
    bronze = {f"bronze.{name}": lake.dataset(f"bronze.{name}", dates) for name in source.entities}
    reads_landing = stage == STAGES[0] or not any(_has_rows_of(run_id, stored) for stored in bronze.values())

    def read_values() -> Iterator[_Values]:
        for table, stored in bronze.items():
            yield from _read_table(lake, stored, table, source, dates)
        for entity in source.entities if reads_landing else ():
            # A file that belongs to all dates, such as a snapshot, is read once.
            for day in {source.entities[entity].pattern(day): day for day in dates}.values():
                yield from _read_landing(settings, source, entity, day)
        for table in (f"quarantine.{name}" for name in _list_quarantine_tables(settings)):
            yield from _read_table(lake, lake.dataset(table, dates), table, source, dates)
        for table in sorted(_find_raw_tables_in_notebook(stage, settings, source) | raw_tables) if stage else ():
            yield from _read_table(lake, lake.dataset(table), table, source, None)

    values = ValueMatcher(_open_database)
    _add_values(values, read_values())
    values.build_index()
    ordinary = load_ordinary_words(source) | _approver_names(settings, run_id)

    def find_keys(tokens: Collection[str]) -> set[str]:
        merged = find_customer_keys(lake, tokens)
        return merged | _find_landed_pseudonyms(set(tokens) - merged, settings, lake, source, dates)

    def is_current() -> bool:
        if reads_landing and (marks is None or _read_landing_state(settings, source, dates) != marks):
            return False
        if stage and list_raw_tables_read(archive, run_id, stage) != raw_tables:
            return False
        current = _list_data_files(lake, settings, source, dates)
        return all(
            values.contains_all(*found)
            for table, listed in current.items()
            if listed != files.get(table)
            for found in _read_table(lake, lake.dataset(table, dates), table, source, dates)
        )

    return RunRedactor(values, ordinary, find_keys, is_current)


def _has_rows_of(run_id: str, stored: Optional[ds.Dataset]) -> bool:
    """Return whether a run wrote any of the stored rows."""
    if stored is None or "_run_id" not in stored.schema.names:
        return False
    return bool(stored.count_rows(filter=pc.field("_run_id") == run_id))


def _add_values(values: ValueMatcher, found: Iterable[_Values]) -> None:
    rank = cache(values.add_column)
    for column, kind, array in found:
        values.add_array(rank(column, kind), array)


def _list_quarantine_tables(settings: Settings) -> list[str]:
    """Return the names of all quarantine tables."""
    return Store(f"{settings.lake}/quarantine").list_folders()


def _find_raw_tables_in_notebook(stage: str, settings: Settings, source: Source) -> set[str]:
    """Return the tables with raw values that the code of a stage's notebook names.

    A query may read all their dates. A name that the cell completes at run time counts as all tables of the layer.
    """
    known = {f"bronze.{name}" for name in source.entities} | {
        f"quarantine.{name}" for name in _list_quarantine_tables(settings)
    }
    notebook = project_root() / "notebooks" / f"{notebook_name(stage)}.ipynb"
    found: set[str] = set()
    for kind, code in _read_cells(notebook):
        for named in _RAW_TABLE.finditer(code) if kind == "code" else ():
            table = f"{named[1]}.{named[2]}".lower()
            found |= {table} if table in known else {each for each in known if each.startswith(named[1].lower())}
    return found


def _read_cells(notebook: Path) -> list[tuple[str, str]]:
    """Return type and source of each cell; nothing for a broken notebook, whose stage reports the error."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _list_data_files(lake: Lake, settings: Settings, source: Source, dates: Collection[date]) -> dict[str, frozenset[str]]:
    """Return the data files of dates, by table. The same files hold the same rows.

    Quarantine tables of entities are left out, since their rows are copies of rows in bronze.
    """
    others = [name for name in _list_quarantine_tables(settings) if name not in source.entities]
    return {
        table: lake.list_files(table, dates)
        for table in (*(f"bronze.{name}" for name in source.entities), *(f"quarantine.{name}" for name in others))
    }


def _read_landing_state(
    settings: Settings, source: Source, dates: Collection[date]
) -> Optional[dict[tuple[str, date], FileMarks]]:
    """Return the version tags of the dates' landing files with personal columns; None if they cannot be listed."""
    entities = {name: entity for name, entity in source.entities.items() if pii_classes(source, name)}
    try:
        store = open_landing(settings.landing)
        return {(name, day): mark_files(store, entity, day) for name, entity in entities.items() for day in dates}
    except (LandingError, StorageError):
        return None


def _open_database() -> Any:
    """Open a database for a day's values. The import is slow, and small days do not need it."""
    from daybook.engines.memory import open_database

    return open_database()


def pii_classes(source: Source, entity: str) -> dict[str, str]:
    """Return an entity's personal columns and their classes: name, email, phone, address, id or text.

    For a table of no entity, such as ``quarantine.releases``, return the columns of all entities.
    """
    entities = [source.entities[entity]] if entity in source.entities else source.entities.values()
    return {name: column.pii for each in entities for name, column in each.columns.items() if column.pii}


def load_ordinary_words(source: Source) -> set[str]:
    """Return words that are not redacted as they are written: words in the project's notebooks, names of tables and columns,
    and ``load_common_words``.

    A string literal in a cell may be data. Of its words only those in lower case count, such as names of columns.
    """
    texts = [name for entity in source.entities.values() for name in entity.columns]
    texts += source.entities
    # Without the words of a broken contract, more is redacted. The stage reports the error.
    for layer in LAYERS:
        with suppress(ContractError, ParamsError):
            texts += [text for table in load_tables(layer).values() for text in [table.name, *table.columns]]
    for path in list_files(project_root() / "notebooks", "*.ipynb"):
        for kind, code in _read_cells(path):
            if kind == "code":
                texts += [word for text in find_literals(code) for word in re.findall(r"[^\W\d_]+", text) if word.islower()]
                code = strip_literals(code)
            texts.append(code)
    return {word for text in texts for word in re.findall(r"[^\W\d_]+", text)} | load_common_words()


@cache
def load_common_words() -> frozenset[str]:
    """Return the words of ``ordinary_words.txt`` (English and Daybook's terms), outcomes, stages and Python's own names.

    The list is a data file, so that rewording a message in the source code changes no redaction.
    """
    lines = _ORDINARY_WORDS.read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    return frozenset(listed | _OUTCOMES | set(STAGES) | set(keyword.kwlist) | set(dir(builtins)))


def _approver_names(settings: Settings, run_id: str) -> set[str]:
    """Return words in the names of the users who approved the run or released its rows. They stay visible in records."""
    try:
        started = Archive(settings.archive).started(run_id)
    except FileNotFoundError:
        return set()
    names = [decision.by for decision in (started.approval, started.released) if decision]
    return {word for name in names for word in re.findall(r"[^\W\d_]+", name)}


def find_customer_keys(lake: Lake, tokens: Collection[str]) -> set[str]:
    """Return the tokens that are customer keys in silver."""
    found: set[str] = set()
    for name, table in load_tables("silver").items():
        stored = lake.dataset(name) if table.pseudonyms else None
        if stored is None:
            continue
        for column in matching_columns(stored.schema.names, table.pseudonyms):
            for array in _scan_column(stored, column, pc.field(column).isin(list(tokens))):
                found.update(array.to_pylist())
    return found


def _find_landed_pseudonyms(
    tokens: set[str], settings: Settings, lake: Lake, source: Source, dates: Collection[date]
) -> set[str]:
    """Return the tokens that are pseudonyms of ids in the dates' bronze rows, which are not in silver before the merge.

    Pseudonyms are made of ids as they landed and without the .0 that spreadsheets add. Ids that a mapping changes otherwise
    are found in silver after the merge.
    """
    found: set[str] = set()
    if not tokens:
        return found
    keys = load_keys(settings.pii_key)
    for entity in source.entities:
        stored = lake.dataset(f"bronze.{entity}", dates)
        ids = [name for name, kind in pii_classes(source, entity).items() if kind == "id"]
        for name in matching_columns(stored.schema.names, ids) if stored is not None else ():
            for array in _scan_column(stored, name, None):
                for text in array.unique().to_pylist():
                    forms = {text.strip(), re.sub(r"\.0$", "", text.strip())} if text else set()
                    found.update(tokens.intersection(make_pseudonym(keys, form) for form in forms))
                if found == tokens:
                    return found
    return found


def _match_declared_columns(names: Iterable[str], personal: Iterable[str]) -> dict[str, str]:
    """Return the names that are personal columns, mapped to their spelling in the contract."""
    declared = {column_key(name): name for name in personal}
    return {name: declared[column_key(name)] for name in names if column_key(name) in declared}


def _read_table(
    lake: Lake, stored: Optional[ds.Dataset], table: str, source: Source, dates: Optional[Collection[date]]
) -> Iterator[_Values]:
    """Yield the personal values in the stored rows of a table, of some dates or all."""
    if stored is None:
        return
    names, entity = stored.schema.names, table.split(".")[1]
    personal = pii_classes(source, entity)
    # Quarantine has copies of only some rows of bronze. Bronze has more values of non-personal columns.
    is_copy = entity in source.entities and not table.startswith("bronze.")

    def read_all() -> Iterator[pa.RecordBatch]:
        for dataset in (stored, lake.dataset(f"bronze.{entity}", dates) if is_copy else None):
            if dataset is not None:
                plain = _non_personal_columns(dataset.schema.names, personal)
                yield from dataset.to_batches(columns=plain, **_SCAN_OPTIONS)

    batches = stored.to_batches(columns=matching_columns(names, [_RAW_COLUMN, *personal]), **_SCAN_OPTIONS)
    yield from _read_rows(batches if personal else (), personal, _find_delimiter(source, entity), read_all)
    if entity not in source.entities and "repairs" in names:
        repairs = {text for array in _scan_column(stored, "repairs", None) for text in array.unique().to_pylist() if text}
        yield from _read_repairs(repairs, personal)


def _read_rows(
    rows: Iterable[_Rows], personal: dict[str, str], delimiter: str, read_all: Callable[[], Iterable[_Rows]]
) -> Iterator[_Values]:
    """Yield the values of personal columns and the fields of malformed rows.

    ``read_all`` returns the rows again with all non-personal columns. A field of a malformed row that occurs in one of them,
    such as a city, is left out.
    """
    raw: set[str] = set()
    for batch in rows:
        names = batch.schema.names
        for name, column in _match_declared_columns(names, personal).items():
            yield column, personal[column], batch.column(name)
        if _RAW_COLUMN in names:
            raw.update(filter(None, batch.column(_RAW_COLUMN).unique().to_pylist()))
        if len(raw) > _MAX_HELD_RAW_ROWS:
            yield _unsplit(_extract_fields(raw, delimiter))
            raw.clear()
    if fields := _extract_fields(raw, delimiter):
        yield _unsplit(fields - _find_non_personal(read_all(), fields, personal))


def _unsplit(fields: Iterable[str]) -> _Values:
    return _RAW_COLUMN, "unsplit", pa.array(sorted(fields), pa.string())


def _non_personal_columns(names: list[str], personal: dict[str, str]) -> list[str]:
    restricted = matching_columns(names, personal)
    return [name for name in names if name not in restricted and not name.startswith("_")]


def _find_non_personal(rows: Iterable[_Rows], fields: set[str], personal: dict[str, str]) -> set[str]:
    """Return the fields that are values of non-personal columns."""
    value_set = pa.array(sorted(fields), pa.string())
    plain: set[str] = set()
    for batch in rows:
        for column in map(batch.column, _non_personal_columns(batch.schema.names, personal)):
            if column.type == pa.string():
                plain.update(column.filter(pc.is_in(column, value_set=value_set)).to_pylist())
    return plain


def _read_repairs(texts: Iterable[str], personal: dict[str, str]) -> Iterator[_Values]:
    """Yield the values in repairs (JSON by column) of released rows."""
    repaired: dict[str, list[str]] = {}
    for text in texts:
        repairs = json.loads(text)
        for name, column in _match_declared_columns(repairs, personal).items():
            repaired.setdefault(column, []).append(str(repairs[name]))
    for column, written in repaired.items():
        yield column, personal[column], pa.array(written, pa.string())


def _read_landing(settings: Settings, source: Source, entity: str, run_date: date) -> Iterator[_Values]:
    """Yield the personal values in an entity's landing files; of broken files, those in the readable part."""
    personal = pii_classes(source, entity)
    if not personal:
        return
    try:
        store = open_landing(settings.landing)
    except LandingError:
        return  # Without a landing folder the run read no values.
    limits = unpack_limits(settings)
    read_all = partial(read_blocks, store, source, entity, run_date, [], limits=limits)
    try:
        yield from _read_rows(read_all(), personal, _find_delimiter(source, entity), read_all)
    except (LandingError, StorageError):
        for key in _find_landing_files(store, source.entities[entity], run_date):
            yield from _read_malformed_file(store, key, source, entity, limits)


def _find_landing_files(store: Store, entity: Entity, run_date: date) -> list[str]:
    """Return the entity's files for a date, also if the store cannot list a folder because a name in it is not UTF-8."""
    try:
        return find_files(store, entity, run_date)
    except StorageError:
        if "://" in store.uri:
            raise
    found = []
    for folder, _, names in os.walk(store.uri, onerror=_raise_unless_inaccessible):
        keys = ((Path(folder) / name).relative_to(store.uri).as_posix() for name in names)
        found += [key for key in keys if is_entity_file(entity, run_date, key)]
    return sorted(found)


def _raise_unless_inaccessible(error: OSError) -> None:
    # The notebook runs as the same user, so it could not read the folder either.
    if not isinstance(error, (PermissionError, FileNotFoundError)):
        raise error


def _open_landing_file(store: Store, key: str) -> BinaryIO:
    """Open a landing file, whose name need not be UTF-8."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return (Path(store.uri) / key).open("rb")
    return store.read_with_version_tag(key).file


def _find_delimiter(source: Source, entity: str) -> str:
    """Return the delimiter of an entity's files; for a table of no entity, the source's."""
    delimiter = source.entities[entity].delimiter if entity in source.entities else None
    return delimiter or source.delimiter


def _read_malformed_file(store: Store, key: str, source: Source, entity: str, limits: UnpackLimits) -> Iterator[_Values]:
    """Yield the values of a file that cannot be read as declared: personal columns if it has a header, else every field.

    The file is read in chunks. Encodings are tried in order up to the first that fits the whole file, as in ingest.
    """
    try:
        file = _open_landing_file(store, key)
    except (PermissionError, FileNotFoundError):
        return  # The notebook could not read it either.
    personal, delimiter = pii_classes(source, entity), _find_delimiter(source, entity)
    with file:
        for encoding in source.encodings(entity):
            fits, pending = True, ""
            header: Optional[list[str]] = None
            declared: dict[str, str] = {}
            for text in _decode(_read_chunks(file, store.href(key), limits), encoding):
                fits = fits and "\ufffd" not in text and "\x00" not in text
                pending += text.replace("\x00", "")
                cut = max(pending.rfind("\n"), pending.rfind("\r")) + 1
                if not cut and len(pending) > 2 * CHUNK_BYTES:
                    # A very long line must not fill the memory. It is split between two fields.
                    cut = pending.rfind(delimiter) + 1 or len(pending)
                rows = list(_split_lines(filter(None, re.split(r"[\r\n]+", pending[:cut])), delimiter))
                pending = pending[cut:]
                if rows and header is None:
                    header = rows[0]
                    declared = _match_declared_columns(header, source.entities[entity].columns)
                columns = len(header) if header and declared else None
                whole = [row for row in rows if len(row) == columns]
                for place, name in enumerate(header or ()):
                    if (column := declared.get(name)) in personal:
                        yield column, personal[column], pa.array([row[place] for row in whole], pa.string())
                yield _unsplit(_filter_searchable({field for row in rows if len(row) != columns for field in row}))
            if fits:
                break


def _decode(pieces: Iterable[bytes], encoding: str) -> Iterator[str]:
    """Yield the text of a file, which always ends with a line break."""
    decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)("replace")
    yield from map(decoder.decode, pieces)
    yield decoder.decode(b"", final=True) + "\n"


def _read_chunks(file: BinaryIO, shown: str, limits: UnpackLimits) -> Iterator[bytes]:
    """Yield the content of a file; of a gzip file as much as the limits allow."""
    if is_gzip(file):
        with suppress(OSError, EOFError, zlib.error, LimitError):
            yield from unpack(file, shown, limits)
        return
    file.seek(0)
    while piece := file.read(CHUNK_BYTES):
        yield piece


def _scan_column(stored: ds.Dataset, name: str, where: Optional[pc.Expression]) -> Iterator[pa.Array]:
    """Yield a column's values in batches."""
    for batch in stored.to_batches(columns=[name], filter=where, **_SCAN_OPTIONS):
        if batch.num_rows:
            yield batch.column(0)


def _extract_fields(lines: Iterable[str], delimiter: str) -> set[str]:
    """Return the fields of malformed rows, without those that are certainly not personal."""
    return set(_filter_searchable({field for row in _split_lines(lines, delimiter) for field in row}))


def _filter_searchable(fields: Iterable[str]) -> Iterator[str]:
    for field in fields:
        if len(field.strip()) >= 4 and (not _TIME_OR_NUMBER.fullmatch(field) or _may_be_phone_number(field)):
            yield field


def _may_be_phone_number(field: str) -> bool:
    """Return whether digits may be a telephone number or an id, rather than a time or an amount."""
    return ":" not in field and "." not in field and len(re.sub(r"\D", "", field)) >= 6 and "-" not in field[1:]


def _split_lines(lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    for line in lines:
        if '"' not in line:
            yield line.split(delimiter)
            continue
        try:
            yield next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            yield line.split(delimiter)
