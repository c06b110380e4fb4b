"""The raw personal values that a run may have met: what is looked for in all it leaves behind.

Here: gathering them from bronze, quarantine and landing, the words that are nobody's name, and which tokens are customers'
keys. Not here: how a text is searched (``daybook.pii``), when (``daybook.execution``).
"""

from __future__ import annotations

import builtins
import csv
import json
import keyword
import re
import zlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import date
from functools import cache
from pathlib import Path
from typing import Optional

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from daybook.archive import Archive
from daybook.contracts import LAYERS, load_tables
from daybook.errors import LandingError
from daybook.lake import PARTITION, Lake
from daybook.params import Settings, project_root
from daybook.pii import load_keys, pseudonym
from daybook.pii.redaction import Redactor
from daybook.pii.values import PersonalValues
from daybook.sources import Source, load_source, open_landing, read_entity
from daybook.sources.files import find_files
from daybook.stages import STAGES, run_date_of
from daybook.storage import Store

_UNSPLIT = "_raw"
"""The column with the text of rows that could not be split: any of its fields may be personal."""
_OUTCOMES = {"SUCCEEDED", "SKIPPED", "REJECTED", "FAILED", "RUNNING", "Daybook", "DuckDB", "Python"}
_TIME_OR_NUMBER = re.compile(r"[\d\s.,:/+TZ-]*")


def redactor_for(settings: Settings, run_id: str, *, stage: Optional[str] = None) -> Redactor:
    """A redactor that knows the personal values of a run's business date.

    Landing is read too where bronze may not hold what the run met: in the ingest stage, and while bronze's rows of the date are
    another run's. Raises whatever keeps the values from being read: then nothing can be said to be free of them.
    """
    source, run_date, lake = load_source(settings.source), run_date_of(run_id), Lake(settings.lake)
    values = PersonalValues()
    runs: set[str] = set()
    for entity in source.entities:
        runs |= _add_stored(values, lake, f"bronze.{entity}", personal_classes(source, entity), source, run_date)
    if stage == STAGES[0] or run_id not in runs:
        for entity in source.entities:
            _add_landed(values, settings, source, entity, run_date)
    everyones = {name: kind for entity in source.entities for name, kind in personal_classes(source, entity).items()}
    for name in Store(f"{settings.lake}/quarantine").folders():
        personal = personal_classes(source, name) if name in source.entities else everyones
        _add_stored(values, lake, f"quarantine.{name}", personal, source, run_date)
    ordinary = ordinary_words(source) | _stewards(settings, run_id)

    def known(tokens: Collection[str]) -> set[str]:
        return customers_among(lake, tokens) | (set(tokens) & _pseudonyms_of_the_day(settings, lake, source, run_date))

    return Redactor(values, ordinary=ordinary, pseudonyms=known)


def personal_classes(source: Source, entity: str) -> dict[str, str]:
    """An entity's personal columns and their classes: name, email, phone, address, id, text."""
    return {name: column.pii for name, column in source.entities[entity].columns.items() if column.pii}


def ordinary_words(source: Source) -> set[str]:
    """Words that are nobody's name as they are written: in the project's notebooks, as names of tables and columns, and in
    lower case in Daybook's own code and messages (a customer may be called Max or Will).
    """
    texts = [name for entity in source.entities.values() for name in entity.columns]
    texts += source.entities
    texts += [text for layer in LAYERS for table in load_tables(layer).values() for text in [table.name, *table.columns]]
    for path in sorted((project_root() / "notebooks").glob("*.ipynb")):
        texts += ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    return {word for text in texts for word in re.findall(r"[^\W\d_]+", text)} | own_words()


@cache
def own_words() -> frozenset[str]:
    """Words in lower case of Daybook's own code and messages, and Python's."""
    package = Path(__file__).parent
    texts = [path.read_text(encoding="utf-8") for path in package.rglob("*.py")]
    own = {word for text in texts for word in re.findall(r"(?<![^\W\d_])[a-z]+(?![^\W\d_])", text)}
    return frozenset(own | _OUTCOMES | set(STAGES) | set(keyword.kwlist) | set(dir(builtins)))


def _stewards(settings: Settings, run_id: str) -> set[str]:
    """The names of who approved the run or released its rows: they answer for it by name, whatever customers are called."""
    try:
        started = Archive(settings.archive).started(run_id)
    except FileNotFoundError:
        return set()
    names = [str((started.get(deed) or {}).get("by", "")) for deed in ("approval", "released")]
    return {word for name in names for word in re.findall(r"[^\W\d_]+", name)}


def customers_among(lake: Lake, tokens: Collection[str]) -> set[str]:
    """Which of some tokens are keys of customers in silver."""
    found: set[str] = set()
    for name, table in load_tables("silver").items():
        stored = lake.dataset(name) if table.pseudonyms else None
        if stored is None:
            continue
        for column in set(table.pseudonyms) & set(stored.schema.names):
            asked = pc.field(column).isin(list(tokens))
            found.update(stored.to_table(columns=[column], filter=asked)[column].to_pylist())
    return found


def _pseudonyms_of_the_day(settings: Settings, lake: Lake, source: Source, run_date: date) -> set[str]:
    """The pseudonyms of the ids that landed on a date: a stage that fails before its merge shows customers silver has not.

    Ids as they landed, and without the .0 that spreadsheets add; a mapping that makes more of an id is known once merged.
    """
    keys = load_keys(settings.pii_key)
    found: set[str] = set()
    for entity in source.entities:
        stored = lake.dataset(f"bronze.{entity}")
        for name, kind in personal_classes(source, entity).items():
            if stored is None or kind != "id" or name not in stored.schema.names:
                continue
            rows = stored.to_table(columns=[name], filter=pc.field(PARTITION) == run_date)
            for text in _distinct(rows, name):
                forms = {text.strip(), re.sub(r"\.0$", "", text.strip())} if text else set()
                found.update(made for made in (pseudonym(keys, form) for form in forms) if made)
    return found


def _add_stored(
    values: PersonalValues, lake: Lake, table: str, personal: dict[str, str], source: Source, run_date: date
) -> set[str]:
    """Take in a date's rows of a table; returns the runs that wrote them."""
    stored = lake.dataset(table)
    if stored is None:
        return set()
    names = stored.schema.names
    where = (pc.field(PARTITION) == run_date) if PARTITION in names else None
    wanted = {*personal, "_run_id", "repairs", *([_UNSPLIT] if personal else [])}
    columns = [name for name in names if name in wanted]
    rows = stored.to_table(columns=columns, filter=where)
    for name in columns:
        texts = _distinct(rows, name)
        if name in personal:
            values.add(name, personal[name], texts)
        elif name == _UNSPLIT and any(texts):
            entity = table.split(".")[1]
            delimiter = source.entities[entity].delimiter if entity in source.entities else None
            values.add(name, "unsplit", _fields(texts, delimiter or source.delimiter, _plain_values(stored, personal, where)))
        elif name == "repairs":
            _add_repairs(values, texts, personal)
    return {str(run) for run in _distinct(rows, "_run_id")} if "_run_id" in columns else set()


def _add_repairs(values: PersonalValues, texts: Iterable[Optional[str]], personal: dict[str, str]) -> None:
    """Take in what people have written in place of landed values: JSON by column."""
    for text in texts:
        for name, value in (json.loads(text) if text else {}).items():
            if name in personal:
                values.add(name, personal[name], [str(value)])


def _add_landed(values: PersonalValues, settings: Settings, source: Source, entity: str, run_date: date) -> None:
    """Take in an entity's landing files; from files that are broken, whatever can be read of them."""
    personal = personal_classes(source, entity)
    if not personal:
        return
    try:
        store = open_landing(settings.landing)
    except LandingError:
        return  # There is no landing folder, so there was nothing to meet.
    try:
        rows, _ = read_entity(store, source, entity, run_date)
    except LandingError:
        for key in find_files(store, source.entities[entity], run_date):
            _add_broken(values, store, key, source, entity)
        return
    if rows is None:
        return
    for name, kind in personal.items():
        values.add(name, kind, _distinct(rows, name))
    raw = [text for text in _distinct(rows, _UNSPLIT) if text]
    if raw:
        delimiter = source.entities[entity].delimiter or source.delimiter
        values.add(_UNSPLIT, "unsplit", _fields(raw, delimiter, _plain_values(ds.dataset(rows), personal, None)))


def _add_broken(values: PersonalValues, store: Store, key: str, source: Source, entity: str) -> None:
    """Take in a file that cannot be read as it should: personal columns where there is a header, else every field."""
    try:
        data = store.read(key)
    except (PermissionError, FileNotFoundError):
        return  # Nor could the notebook read it.
    if key.endswith(".gz"):
        data = _decompressed(data)
    personal = personal_classes(source, entity)
    delimiter = source.entities[entity].delimiter or source.delimiter
    for encoding in source.encodings(entity):
        lines = data.decode("utf-8-sig" if encoding == "utf-8" else encoding, errors="replace").replace("\x00", "").splitlines()
        header = next(_split(lines[:1], delimiter), [])
        if not set(header) & set(source.entities[entity].columns):
            values.add(_UNSPLIT, "unsplit", _fields(lines, delimiter, set()))
            continue
        for row in _split(lines[1:], delimiter):
            if len(row) != len(header):
                values.add(_UNSPLIT, "unsplit", _fields([delimiter.join(row)], delimiter, set()))
                continue
            for name, text in zip(header, row):
                if name in personal:
                    values.add(name, personal[name], [text])


def _decompressed(data: bytes) -> bytes:
    """As much of a gzip file as is whole."""
    stream = zlib.decompressobj(wbits=31)
    found = b""
    with suppress(zlib.error):
        for start in range(0, len(data), 4096):
            found += stream.decompress(data[start : start + 4096])
    return found


def _distinct(rows: pa.Table, name: str) -> list[Optional[str]]:
    texts: list[Optional[str]] = pc.unique(rows[name]).to_pylist()
    return texts


def _plain_values(stored: ds.Dataset, personal: dict[str, str], where: Optional[pc.Expression]) -> set[str]:
    """What the entity's columns hold that are not personal: a city in a broken row is no name."""
    names = [
        name for name, kind in zip(stored.schema.names, stored.schema.types) if name not in personal and kind == pa.string()
    ]
    names = [name for name in names if not name.startswith("_")]
    rows = stored.to_table(columns=names, filter=where)
    return {text for name in names for text in _distinct(rows, name) if text}


def _fields(lines: Iterable[Optional[str]], delimiter: str, plain: set[str]) -> Iterator[str]:
    """The fields of rows that could not be split, without those that are surely not personal."""
    for row in _split([line for line in lines if line], delimiter):
        for field in row:
            short = len(field.strip()) < 4
            if not short and field not in plain and not (_TIME_OR_NUMBER.fullmatch(field) and not _looks_dialled(field)):
                yield field


def _looks_dialled(field: str) -> bool:
    """Whether digits may be a telephone number or an id, rather than a time or an amount."""
    return ":" not in field and "." not in field and len(re.sub(r"\D", "", field)) >= 6 and "-" not in field[1:]


def _split(lines: list[str], delimiter: str) -> Iterator[list[str]]:
    for line in lines:
        try:
            yield next(csv.reader([line], delimiter=delimiter), [])
        except csv.Error:
            yield line.split(delimiter)
