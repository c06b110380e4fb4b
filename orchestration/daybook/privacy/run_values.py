"""The raw personal values that a run may have met: what is looked for in all it leaves behind."""

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
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO, Callable, Optional

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from daybook.contracts import LAYERS, load_tables
from daybook.contracts.columns import column_key, find_column, matching_columns
from daybook.errors import ContractError, LandingError, LimitError, ParamsError, StorageError
from daybook.lake.tables import Lake
from daybook.privacy import load_keys, make_pseudonym
from daybook.privacy.matcher import ValueMatcher
from daybook.privacy.raw_reads import list_raw_tables_read
from daybook.privacy.redactor import CustomerKeyLookup, Redactor, find_literals, strip_literals
from daybook.records.archive import Archive
from daybook.records.names import STAGES, notebook_name, run_date_of
from daybook.settings import Settings, list_files, project_root
from daybook.sources import Entity, Source, load_source, open_landing
from daybook.sources.compression import UnpackLimits, is_gzip, unpack, unpack_limits
from daybook.sources.files import FileMarks, find_files, is_entity_file, mark_files, read_blocks
from daybook.storage import CHUNK_BYTES, Store

_RAW_COLUMN = "_raw"
"""The column with the text of rows that could not be split: any of its fields may be personal."""
_OUTCOMES = {"SUCCEEDED", "SKIPPED", "REJECTED", "FAILED", "RUNNING", "Daybook", "DuckDB", "Python"}
_ORDINARY_WORDS = Path(__file__).with_name("ordinary_words.txt")
_MAX_HELD_RAW_ROWS = 50_000
"""Rows that could not be split which are held until the plain values of their day are known. Of more, every field counts."""
_SCAN_OPTIONS: dict[str, int] = {"batch_size": 1 << 16, "batch_readahead": 2, "fragment_readahead": 1}
_RAW_TABLE = re.compile(r"""\b(bronze|quarantine)["'`]?\s*\.\s*["'`]?(\w*)""", re.IGNORECASE)
_TIME_OR_NUMBER = re.compile(r"[\d\s.,:/+TZ-]*")


class RunRedactor(Redactor):
    """A redactor that knows the personal values of a run."""

    def __init__(
        self, values: ValueMatcher, ordinary: set[str], known: CustomerKeyLookup, is_current: Callable[[], bool]
    ) -> None:
        super().__init__(values, ordinary=ordinary, pseudonyms=known)
        self.is_current = is_current
        """Whether another one, made now, would know the same values."""


def build_redactor(settings: Settings, run_id: str, *, stage: Optional[str] = None) -> RunRedactor:
    """A redactor that knows the personal values of a run's business date.

    Landing is read too where bronze may not hold what the run met: in the ingest stage, and while bronze's rows of the date are
    another run's. Of a table that a cell of the stage's notebook names, or has read raw
    values of, all dates count. Raises whatever keeps the values from
    being read: then nothing can be said to be free of them.
    """
    source, run_date, lake = load_source(settings.source), run_date_of(run_id), Lake(settings.lake)
    files, marks = _list_data_files(lake, settings, source, run_date), _read_landing_state(settings, source, run_date)
    values = ValueMatcher(_open_database)
    runs: set[str] = set()
    for entity in source.entities:
        runs |= _add_table_values(values, lake, f"bronze.{entity}", source, run_date)
    landed = stage == STAGES[0] or run_id not in runs
    if landed:
        for entity in source.entities:
            _add_landing_values(values, settings, source, entity, run_date)
    for name in _list_quarantine_tables(settings):
        _add_table_values(values, lake, f"quarantine.{name}", source, run_date)
    read = _list_raw_tables_read(settings, run_id, stage)
    for table in sorted(_find_raw_tables_in_notebook(stage, settings, source) | read) if stage else ():
        _add_table_values(values, lake, table, source, None)
    values.build_index()
    ordinary = load_ordinary_words(source) | _approver_names(settings, run_id)

    def known(tokens: Collection[str]) -> set[str]:
        merged = find_customer_keys(lake, tokens)
        return merged | _find_landed_pseudonyms(set(tokens) - merged, settings, lake, source, run_date)

    def is_current() -> bool:
        if landed and (marks is None or _read_landing_state(settings, source, run_date) != marks):
            return False
        if _list_raw_tables_read(settings, run_id, stage) != read:
            return False
        return all(
            now == files.get(table) or _has_no_new_values(values, lake, table, source, run_date)
            for table, now in _list_data_files(lake, settings, source, run_date).items()
        )

    return RunRedactor(values, ordinary, known, is_current)


def _list_quarantine_tables(settings: Settings) -> list[str]:
    """The tables of quarantine."""
    return Store(f"{settings.lake}/quarantine").list_folders()


def _find_raw_tables_in_notebook(stage: str, settings: Settings, source: Source) -> set[str]:
    """Return the tables with raw values that the code of a stage's notebook names.

    A query reads all dates of them unless it says otherwise. A name that is put together while the cell runs counts as all.
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


def _list_raw_tables_read(settings: Settings, run_id: str, stage: Optional[str]) -> set[str]:
    """Return the tables of bronze and quarantine that the stage has read raw values of, whatever its code names."""
    found = list_raw_tables_read(Archive(settings.archive), run_id, stage) if stage else set()
    return {table for table in found if table.startswith(("bronze.", "quarantine."))}


def _read_cells(notebook: Path) -> list[tuple[str, str]]:
    """Return the type and the source of each cell; nothing of a broken notebook, whose stage reports the fault."""
    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _list_data_files(lake: Lake, settings: Settings, source: Source, run_date: date) -> dict[str, frozenset[str]]:
    """The files that hold a date's rows, by table: where they are the same, the rows are.

    Of an entity's rows in quarantine those in bronze tell: they are copies of them.
    """
    others = [name for name in _list_quarantine_tables(settings) if name not in source.entities]
    return {
        table: lake.files(table, run_date)
        for table in (*(f"bronze.{name}" for name in source.entities), *(f"quarantine.{name}" for name in others))
    }


def _read_landing_state(settings: Settings, source: Source, run_date: date) -> Optional[dict[str, FileMarks]]:
    """The date's landing files with personal columns as they are now; None where there is no telling."""
    entities = {name: entity for name, entity in source.entities.items() if pii_classes(source, name)}
    try:
        store = open_landing(settings.landing)
        return {name: mark_files(store, entity, run_date) for name, entity in entities.items()}
    except (LandingError, StorageError):
        return None


def _open_database() -> Any:
    """A database for a day's values; small days get by without the engine's imports."""
    from daybook.engines.memory import open_database

    return open_database()


def pii_classes(source: Source, entity: str) -> dict[str, str]:
    """An entity's personal columns and their classes: name, email, phone, address, id, text."""
    return {name: column.pii for name, column in source.entities[entity].columns.items() if column.pii}


def load_ordinary_words(source: Source) -> set[str]:
    """Return words that are nobody's name as they are written: words of the project's notebooks, names of tables and columns,
    and ``load_common_words``.

    What a cell has between quotes may be data. Its words count in lower case only: they are names of tables and columns.
    """
    texts = [name for entity in source.entities.values() for name in entity.columns]
    texts += source.entities
    # A broken contract or notebook gives no words, so that more is redacted. Its stage reports the fault.
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
    """Return the words of ``pii/ordinary_words.txt`` (English, Daybook's vocabulary), outcomes, stages and Python's own names.

    The list is data. It does not depend on the text of Daybook's source code, so rewording a message changes no redaction.
    """
    lines = _ORDINARY_WORDS.read_text(encoding="utf-8").splitlines()
    listed = {line for line in lines if line and not line.startswith("#")}
    return frozenset(listed | _OUTCOMES | set(STAGES) | set(keyword.kwlist) | set(dir(builtins)))


def _approver_names(settings: Settings, run_id: str) -> set[str]:
    """The names of who approved the run or released its rows: they answer for it by name, whatever customers are called."""
    try:
        started = Archive(settings.archive).started(run_id)
    except FileNotFoundError:
        return set()
    names = [str((started.get(deed) or {}).get("by", "")) for deed in ("approval", "released")]
    return {word for name in names for word in re.findall(r"[^\W\d_]+", name)}


def find_customer_keys(lake: Lake, tokens: Collection[str]) -> set[str]:
    """Which of some tokens are keys of customers in silver."""
    found: set[str] = set()
    for name, table in load_tables("silver").items():
        stored = lake.dataset(name) if table.pseudonyms else None
        if stored is None:
            continue
        for column in matching_columns(stored.schema.names, table.pseudonyms):
            asked = pc.field(column).isin(list(tokens))
            for batch in _scan_column(stored, column, asked):
                found.update(batch.to_pylist())
    return found


def _find_landed_pseudonyms(tokens: set[str], settings: Settings, lake: Lake, source: Source, run_date: date) -> set[str]:
    """Which of some tokens are pseudonyms of ids that landed on a date: a stage that fails before its merge shows customers
    silver has not.

    Ids as they landed, and without the .0 that spreadsheets add; a mapping that makes more of an id is known once merged.
    """
    found: set[str] = set()
    if not tokens:
        return found
    keys = load_keys(settings.pii_key)
    for entity in source.entities:
        stored = lake.dataset(f"bronze.{entity}", run_date)
        ids = [name for name, kind in pii_classes(source, entity).items() if kind == "id"]
        for name in matching_columns(stored.schema.names, ids) if stored is not None else ():
            for array in _scan_column(stored, name, None):
                for text in array.unique().to_pylist():
                    forms = {text.strip(), re.sub(r"\.0$", "", text.strip())} if text else set()
                    found.update(tokens.intersection(make_pseudonym(keys, form) for form in forms))
                if found == tokens:
                    return found
    return found


def _pii_classes_of_table(source: Source, table: str) -> dict[str, str]:
    """The personal columns of a table of bronze or quarantine: where it is no entity's, whatever any entity has."""
    entity = table.split(".")[1]
    if entity in source.entities:
        return pii_classes(source, entity)
    return {name: kind for each in source.entities for name, kind in pii_classes(source, each).items()}


def _match_declared_columns(names: Iterable[str], personal: Iterable[str]) -> dict[str, str]:
    """Return, for those of the names that are personal columns, how the contract writes them."""
    declared = {column_key(name): name for name in personal}
    return {name: declared[column_key(name)] for name in names if column_key(name) in declared}


def _add_table_values(values: ValueMatcher, lake: Lake, table: str, source: Source, run_date: Optional[date]) -> set[str]:
    """Take in a date's rows of a table, or all; returns the runs that wrote them."""
    stored = lake.dataset(table, run_date)
    if stored is None:
        return set()
    names, personal = stored.schema.names, _pii_classes_of_table(source, table)
    ranks = {name: values.begin(column, personal[column]) for name, column in _match_declared_columns(names, personal).items()}
    few: dict[str, set[str]] = {name: set() for name in names if name in (_RAW_COLUMN, "repairs", "_run_id")}
    for batch in stored.to_batches(columns=[*ranks, *few], **_SCAN_OPTIONS):
        for name, rank in ranks.items():
            values.add_array(rank, batch.column(name))
        for name, texts in few.items():
            texts.update(text for text in batch.column(name).unique().to_pylist() if text)
        if personal:
            _flush_raw_rows(values, few.get(_RAW_COLUMN, set()), _find_delimiter(source, table.split(".")[1]))
    if personal and few.get(_RAW_COLUMN):
        values.add(_RAW_COLUMN, "unsplit", _parse_stored_raw_rows(lake, stored, few[_RAW_COLUMN], table, source, run_date))
    _add_repairs(values, few.get("repairs", ()), personal)
    return few.get("_run_id", set())


def _has_no_new_values(values: ValueMatcher, lake: Lake, table: str, source: Source, run_date: date) -> bool:
    """Whether a date's rows of a table bring no value that was not taken in before, as ingest's do not: they are its files'.
    Of what people wrote that is not said."""
    stored = lake.dataset(table, run_date)
    if stored is None:
        return True
    names, personal = stored.schema.names, _pii_classes_of_table(source, table)
    columns = _match_declared_columns(names, personal)
    raw: set[str] = set()
    for batch in stored.to_batches(columns=[*columns, *({_RAW_COLUMN, "repairs"} & set(names))], **_SCAN_OPTIONS):
        if "repairs" in names and any(batch.column("repairs").to_pylist()):
            return False
        if not all(values.holds(column, personal[column], batch.column(name)) for name, column in columns.items()):
            return False
        if _RAW_COLUMN in names:
            raw.update(text for text in batch.column(_RAW_COLUMN).unique().to_pylist() if text)
        if len(raw) > _MAX_HELD_RAW_ROWS:
            return False  # The redactor is made once more, which costs less than it would take to compare.
    unsplit = _parse_stored_raw_rows(lake, stored, raw, table, source, run_date) if personal and raw else []
    return values.holds(_RAW_COLUMN, "unsplit", pa.array(unsplit, pa.string()))


def _parse_stored_raw_rows(
    lake: Lake, stored: ds.Dataset, raw: set[str], table: str, source: Source, run_date: Optional[date]
) -> list[str]:
    entity, personal = table.split(".")[1], _pii_classes_of_table(source, table)
    # Rows in quarantine are copies of rows in bronze. Few of them are left there to tell which values are plain.
    copied = entity in source.entities and not table.startswith("bronze.")
    known = [stored, lake.dataset(f"bronze.{entity}", run_date) if copied else None]

    def plain_among(fields: list[str]) -> set[str]:
        return {text for each in known if each is not None for text in _find_non_personal_fields(each, fields, personal)}

    return _parse_raw_rows(raw, _find_delimiter(source, entity), plain_among)


def _parse_raw_rows(raw: set[str], delimiter: str, plain_among: Callable[[list[str]], set[str]]) -> list[str]:
    """The fields of rows that could not be split, without what the entity's columns hold that are not personal: a city in a
    broken row is no name."""
    fields = sorted(_extract_fields(raw, delimiter))
    plain = plain_among(fields) if fields else set()
    return [field for field in fields if field not in plain]


def _find_non_personal_fields(stored: ds.Dataset, fields: list[str], personal: dict[str, str]) -> set[str]:
    plain: set[str] = set()
    restricted = _match_declared_columns(stored.schema.names, personal)
    for name, kind in zip(stored.schema.names, stored.schema.types):
        if kind == pa.string() and name not in restricted and not name.startswith("_"):
            plain |= _distinct_values(stored, name, pc.field(name).isin(fields))
    return plain


def _add_repairs(values: ValueMatcher, texts: Iterable[str], personal: dict[str, str]) -> None:
    """Take in what people have written in place of landed values: JSON by column."""
    repaired: dict[str, list[str]] = {}
    for text in texts:
        repairs = json.loads(text)
        for name, column in _match_declared_columns(repairs, personal).items():
            repaired.setdefault(column, []).append(str(repairs[name]))
    for column, written in repaired.items():
        values.add(column, personal[column], written)


def _add_landing_values(values: ValueMatcher, settings: Settings, source: Source, entity: str, run_date: date) -> None:
    """Take in an entity's landing files; from files that are broken, whatever can be read of them."""
    personal = pii_classes(source, entity)
    if not personal:
        return
    try:
        store = open_landing(settings.landing)
    except LandingError:
        return  # There is no landing folder, so there was nothing to meet.
    limits = unpack_limits(settings)
    try:
        delimiter = _find_delimiter(source, entity)
        raw = _add_blocks(values, read_blocks(store, source, entity, run_date, [], limits=limits), personal, delimiter)
        if raw:
            blocks = read_blocks(store, source, entity, run_date, [], limits=limits)
            values.add(
                _RAW_COLUMN,
                "unsplit",
                _parse_raw_rows(raw, delimiter, lambda fields: _find_non_personal_in_blocks(blocks, fields, personal)),
            )
    except (LandingError, StorageError):
        for key in _find_landing_files(store, source.entities[entity], run_date):
            _add_malformed_file(values, store, key, source, entity, limits)


def _find_landing_files(store: Store, entity: Entity, run_date: date) -> list[str]:
    """Return the entity's files for a date, also where a name that is not UTF-8 keeps the store from listing the folder."""
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
    # The notebook, which the same user runs, could not read such a folder either.
    if not isinstance(error, (PermissionError, FileNotFoundError)):
        raise error


def _open_landing_file(store: Store, key: str) -> BinaryIO:
    """Open a file, also one whose name is not UTF-8."""
    try:
        key.encode()
    except UnicodeEncodeError:
        return (Path(store.uri) / key).open("rb")
    return store.read_with_version_tag(key).file


def _find_delimiter(source: Source, entity: str) -> str:
    """Return the delimiter of an entity's files; of a table that is not an entity's, the source's."""
    delimiter = source.entities[entity].delimiter if entity in source.entities else None
    return delimiter or source.delimiter


def _flush_raw_rows(values: ValueMatcher, raw: set[str], delimiter: str) -> None:
    """Take in the fields of rows that could not be split, and empty the set, if the rows are many."""
    if len(raw) > _MAX_HELD_RAW_ROWS:
        values.add(_RAW_COLUMN, "unsplit", _extract_fields(raw, delimiter))
        raw.clear()


def _add_blocks(values: ValueMatcher, blocks: Iterable[pa.Table], personal: dict[str, str], delimiter: str) -> set[str]:
    """Take in rows as they are read; returns the text of those that could not be split."""
    ranks = {name: values.begin(name, kind) for name, kind in personal.items()}
    raw: set[str] = set()
    for block in blocks:
        for name, rank in ranks.items():
            for array in block[name].chunks:
                values.add_array(rank, array)
        raw.update(text for text in block[_RAW_COLUMN].unique().to_pylist() if text)
        _flush_raw_rows(values, raw, delimiter)
    return raw


def _find_non_personal_in_blocks(blocks: Iterable[pa.Table], fields: list[str], personal: dict[str, str]) -> set[str]:
    asked = pa.array(fields, pa.string())
    plain: set[str] = set()
    for block in blocks:
        for name in block.column_names:
            if name not in personal and not name.startswith("_"):
                plain.update(block[name].filter(pc.is_in(block[name], value_set=asked)).to_pylist())
    return plain


def _add_malformed_file(
    values: ValueMatcher, store: Store, key: str, source: Source, entity: str, limits: UnpackLimits
) -> None:
    """Take in a file that cannot be read as declared: personal columns if there is a header, else every field.

    The file is read in pieces. Encodings are tried in order up to the first that fits the whole file, as in ingest.
    """
    try:
        file = _open_landing_file(store, key)
    except (PermissionError, FileNotFoundError):
        return  # Nor could the notebook read it.
    with file:
        for encoding in source.encodings(entity):
            decoder = codecs.getincrementaldecoder("utf-8-sig" if encoding == "utf-8" else encoding)("replace")
            lines = _LineParser(values, source, entity)
            for piece in _read_chunks(file, store.href(key), limits):
                lines.add(decoder.decode(piece))
            lines.add(decoder.decode(b"", final=True), final=True)
            if lines.is_decodable:
                break


def _read_chunks(file: BinaryIO, shown: str, limits: UnpackLimits) -> Iterator[bytes]:
    """Yield the content of a file; of a gzip file as much as can be unpacked within the limits."""
    if is_gzip(file):
        with suppress(OSError, EOFError, zlib.error, LimitError):
            yield from unpack(file, shown, limits)
        return
    file.seek(0)
    while piece := file.read(CHUNK_BYTES):
        yield piece


class _LineParser:
    """The lines of a broken file, whose text comes in pieces. Values are taken in by column, one array per piece."""

    def __init__(self, values: ValueMatcher, source: Source, entity: str) -> None:
        self._values, self._source, self._entity = values, source, entity
        self._delimiter = _find_delimiter(source, entity)
        self._header_read = False
        self._columns: Optional[int] = None
        """How many columns the header has; None without one."""
        self._ranks: dict[int, int] = {}
        self._unsplit = values.begin(_RAW_COLUMN, "unsplit")
        self._pending = ""
        self.is_decodable = True
        """Whether all text so far can be of the encoding."""

    def add(self, text: str, *, final: bool = False) -> None:
        """Take in the next piece of the text."""
        self.is_decodable = self.is_decodable and "\ufffd" not in text and "\x00" not in text
        text = self._pending + text.replace("\x00", "")
        cut = len(text) if final else max(text.rfind("\n"), text.rfind("\r")) + 1
        if not cut and len(text) > 2 * CHUNK_BYTES:
            # A line without an end must not fill the memory. It is cut between two fields.
            cut = text.rfind(self._delimiter) + 1 or len(text)
        text, self._pending = text[:cut], text[cut:]
        rows = list(_split_lines(filter(None, re.split(r"[\r\n]+", text)), self._delimiter))
        if rows and not self._header_read:
            self._begin(rows[0])
        whole = [row for row in rows if len(row) == self._columns]
        for place, rank in self._ranks.items():
            self._values.add_array(rank, pa.array([row[place] for row in whole], pa.string()))
        others = {field for row in rows if len(row) != self._columns for field in row}
        self._values.add_array(self._unsplit, pa.array(list(_filter_searchable(others)), pa.string()))

    def _begin(self, first: list[str]) -> None:
        self._header_read = True
        places = _find_column_positions(first, self._source, self._entity)
        if places:
            self._columns = len(first)
            personal = pii_classes(self._source, self._entity)
            begun = {name: self._values.begin(name, personal[name]) for name in places if name in personal}
            self._ranks = {places[name]: rank for name, rank in begun.items()}


def _find_column_positions(header: list[str], source: Source, entity: str) -> dict[str, int]:
    """Return the places of declared columns in the first line of a file; none if that line is not a header."""
    found = {name: find_column(header, name) for name in source.entities[entity].columns}
    return {name: header.index(there) for name, there in found.items() if there is not None}


def _scan_column(stored: ds.Dataset, name: str, where: Optional[pc.Expression]) -> Iterator[pa.Array]:
    """A column's values, as many at a time as a file has them together."""
    for batch in stored.to_batches(columns=[name], filter=where, **_SCAN_OPTIONS):
        if batch.num_rows:
            yield batch.column(0)


def _distinct_values(stored: ds.Dataset, name: str, where: Optional[pc.Expression]) -> set[str]:
    """A column's values of which there are few."""
    found: set[str] = set()
    for array in _scan_column(stored, name, where):
        found.update(text for text in array.unique().to_pylist() if text)
    return found


def _extract_fields(lines: Iterable[str], delimiter: str) -> set[str]:
    """Return the fields of rows that could not be split, without those that are certainly not personal."""
    return set(_filter_searchable({field for row in _split_lines(lines, delimiter) for field in row}))


def _filter_searchable(fields: Iterable[str]) -> Iterator[str]:
    for field in fields:
        if len(field.strip()) >= 4 and (not _TIME_OR_NUMBER.fullmatch(field) or _may_be_phone_number(field)):
            yield field


def _may_be_phone_number(field: str) -> bool:
    """Whether digits may be a telephone number or an id, rather than a time or an amount."""
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
