"""Test which values are redacted: those of bronze, quarantine and, before ingest has written bronze, landing."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
import shutil
from collections.abc import Iterator
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Callable

import pyarrow as pa
import pytest
from deltalake import write_deltalake

import daybook
from daybook.contracts import load_table
from daybook.errors import StorageError
from daybook.lake.tables import Lake
from daybook.privacy.matcher import ValueMatcher
from daybook.privacy.run_values import build_redactor, find_customer_keys, load_common_words, load_ordinary_words
from daybook.records.archive import Archive, serialize_record
from daybook.settings import Settings, load_settings
from daybook.sources import LandingStore, load_source
from daybook.sources.files import is_entity_file
from daybook.storage import Store
from demo_shop import generate
from tests.conftest import Project
from tests.lake.writing import replace_date

DAY = date(2025, 11, 30)
RUN = f"daily-{DAY}-1"
CUSTOMER = "C-K4N4,Zoë,Kanarie,zoe@example.com,+44 20 7946 0321,Am Käfig 7,10115,Berlin,Berlin,DE,2025-11-30,2025-11-30"
HEADER = "customer_id,first_name,last_name,email,phone,street,postal_code,city,state,country,registered_at,updated_at"


@pytest.fixture
def settings(home: Path) -> Settings:
    """Return the demo shop's deployment with one day of a few orders in landing."""
    generate(home / "landing", days=1, last_day=DAY, orders_per_day=3)
    return load_settings("local")


def land(settings: Settings, *lines: str, encoding: str = "utf-8") -> Path:
    """Write the customers of landing."""
    file = Path(settings.landing) / "customers" / DAY.isoformat() / "customers.csv"
    file.write_bytes("\n".join(lines).encode(encoding))
    return file


def store(settings: Settings, table: str, run_id: str = RUN, day: date = DAY, **columns: str) -> None:
    """Replace a table's rows of a day by one row."""
    rows = pa.table({**{name: [text] for name, text in columns.items()}, "_run_id": [run_id]})
    replace_date(Lake(settings.lake), table, rows, day)


def left(settings: Settings, text: str, *, stage: str = "transform") -> str:
    return build_redactor(settings, RUN, stage=stage).redact_text(text)


def test_values_in_bronze_and_quarantine_are_redacted(settings: Settings) -> None:
    store(settings, "bronze.customers", email="bronze.person@nowhere", last_name="Bronzemann", city="Bronzestadt")
    store(settings, "quarantine.customers", last_name="Quarantäner")
    assert (
        left(settings, "Bronzemann of Bronzestadt, Quarantäner") == "[redacted:last_name] of Bronzestadt, [redacted:last_name]"
    )


def test_non_personal_values_of_bronze_are_kept(settings: Settings) -> None:
    store(settings, "bronze.customers", last_name="Bronzemann", state="Quarz-Anhalt")
    store(settings, "quarantine.customers", _raw="C-1,Rohwert,Quarz-Anhalt", _problem="3 fields")
    assert left(settings, "Rohwert of Quarz-Anhalt") == "[redacted:_raw] of Quarz-Anhalt"


def test_columns_in_another_case_are_redacted(settings: Settings) -> None:
    store(settings, "bronze.customers", Email="bronze.person@nowhere", LAST_NAME="Bronzemann", City="Bronzestadt")
    store(settings, "quarantine.releases", entity="customers", repairs=json.dumps({"Last_Name": "Kanarie"}))
    redactor = build_redactor(settings, RUN, stage="transform")
    assert (
        redactor.redact_text("Bronzemann of Bronzestadt, Kanarie")
        == "[redacted:last_name] of Bronzestadt, [redacted:last_name]"
    )
    assert redactor.is_current()


def test_values_of_other_dates_are_kept(settings: Settings) -> None:
    store(settings, "bronze.customers", day=date(2025, 11, 29), last_name="Gesternmann")
    assert left(settings, "Gesternmann") == "Gesternmann"


RANGE = "range-2025-11-29-2025-11-30-1"


def test_values_of_all_dates_of_a_range_are_redacted(settings: Settings) -> None:
    store(settings, "bronze.customers", run_id=RANGE, day=date(2025, 11, 29), last_name="Gesternmann")
    store(settings, "bronze.customers", run_id=RANGE, last_name="Heutemann")
    store(settings, "bronze.customers", run_id=RANGE, day=date(2025, 11, 28), last_name="Vorgesternmann")
    store(settings, "quarantine.customers", run_id=RANGE, day=date(2025, 11, 29), last_name="Quarantäner")
    redactor = build_redactor(settings, RANGE, stage="transform")
    assert redactor.redact_text("Gesternmann, Heutemann, Vorgesternmann, Quarantäner") == (
        "[redacted:last_name], [redacted:last_name], Vorgesternmann, [redacted:last_name]"
    )
    assert redactor.is_current()
    store(settings, "bronze.customers", run_id=RANGE, day=date(2025, 11, 29), last_name="Neumannsen")
    assert not redactor.is_current()


def test_landing_of_all_dates_of_a_range_is_redacted(settings: Settings) -> None:
    land(settings, "customer_id,first_name,last_name", "C-1,Ada,Landmann")
    earlier = Path(settings.landing) / "customers" / "2025-11-29" / "customers.csv"
    earlier.parent.mkdir()
    earlier.write_text("customer_id,first_name,last_name\nC-2,Eva,Gesternmann\n", encoding="utf-8")
    redactor = build_redactor(settings, RANGE, stage="ingest")
    assert redactor.redact_text("Landmann, Gesternmann") == "[redacted:last_name], [redacted:last_name]"


def test_values_in_repairs_are_redacted(settings: Settings) -> None:
    repairs = json.dumps({"last_name": "Neumannsen", "city": "Neustadt"})
    store(settings, "quarantine.releases", entity="customers", repairs=repairs, why="asked")
    assert left(settings, "Neumannsen of Neustadt") == "[redacted:last_name] of Neustadt"


def test_landing_is_read_if_another_run_wrote_bronze(settings: Settings) -> None:
    land(settings, HEADER, CUSTOMER)
    assert left(settings, "Kanarie") == "[redacted:last_name]"
    store(settings, "bronze.customers", run_id=f"daily-{DAY}-7", last_name="Vorher")
    assert left(settings, "Kanarie Vorher") == "[redacted:last_name] [redacted:last_name]"
    store(settings, "bronze.customers", last_name="Vorher")
    assert left(settings, "Kanarie Vorher") == "Kanarie [redacted:last_name]"
    assert left(settings, "Kanarie Vorher", stage="ingest") == "[redacted:last_name] [redacted:last_name]"


def test_fields_of_malformed_rows_are_redacted(settings: Settings) -> None:
    land(settings, HEADER, CUSTOMER, "C-K4N5,Ottokar,Spatzig,Berlin,2025-11-30 10:00:00")
    clean = left(settings, "Spatzig of Berlin on 2025-11-30 10:00:00: 17")
    assert clean == "[redacted:_raw] of Berlin on 2025-11-30 10:00:00: 17"


@pytest.mark.parametrize(
    "lines",
    [
        (HEADER, CUSTOMER, 'C-9,"never closed,x'),
        (HEADER.replace("state,", ""), CUSTOMER),
        (CUSTOMER, CUSTOMER.replace("K4N4", "K4N5")),
        (HEADER, CUSTOMER, "\x00"),
        (HEADER.upper().replace(",", " ,").replace("STATE ,", ""), CUSTOMER.replace("Berlin,Berlin", "Berlin")),
    ],
    ids=["open quote", "column missing", "no header", "not text", "another spelling"],
)
def test_values_in_unreadable_files_are_redacted(settings: Settings, lines: tuple[str, ...]) -> None:
    land(settings, *lines)
    clean = left(settings, "Kanarie, +44 20 7946 0321, Am Käfig 7", stage="ingest")
    assert clean.count("[redacted:") == 3
    assert "Kanarie" not in clean


def test_file_in_another_encoding_is_redacted(settings: Settings) -> None:
    land(settings, HEADER, CUSTOMER, encoding="windows-1252")
    assert left(settings, "Kanarie", stage="ingest") == "[redacted:last_name]"


def test_readable_part_of_a_gzip_file_is_redacted(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    source = load_source("demo")
    entity = source.entities["customers"].model_copy(update={"files": "customers/{run_date}/customers.csv.gz"})
    changed = source.model_copy(update={"entities": {**source.entities, "customers": entity}})
    monkeypatch.setattr("daybook.privacy.run_values.load_source", lambda name: changed)
    file = land(settings, HEADER, *([CUSTOMER] * 500))
    packed = gzip.compress(file.read_bytes())
    file.with_name("customers.csv.gz").write_bytes(packed[: len(packed) - 30])
    assert left(settings, "Kanarie", stage="ingest") == "[redacted:last_name]"


def test_missing_landing_folder_has_no_values(settings: Settings) -> None:
    shutil.rmtree(settings.landing)
    assert left(settings, "Kanarie", stage="ingest") == "Kanarie"


def test_unreadable_values_raise(settings: Settings) -> None:
    store(settings, "bronze.customers", last_name="Bronzemann")
    for file in (Path(settings.lake) / "bronze").rglob("*.parquet"):
        file.write_bytes(b"no longer Parquet")
    with pytest.raises(Exception, match=r"(?i)parquet"):
        build_redactor(settings, RUN, stage="transform")


def test_only_customer_keys_are_redacted_as_pseudonyms(settings: Settings) -> None:
    contract, lake = load_table("silver.customers"), Lake(settings.lake)
    row = {"customer_key": "ab" * 16, "landed_on": DAY, "version_at": datetime(2025, 11, 30)}
    write_deltalake(lake.uri("silver.customers"), pa.Table.from_pylist([row], schema=contract.arrow_schema))
    assert find_customer_keys(lake, {"ab" * 16, "cd" * 16}) == {"ab" * 16}
    assert left(settings, f"{'ab' * 16} ordered {'cd' * 16}") == f"[redacted:customer_key] ordered {'cd' * 16}"


def test_name_of_the_approver_is_kept(settings: Settings) -> None:
    store(settings, "bronze.customers", last_name="Steward", first_name="Käthe")
    Archive(settings.archive).start_run(DAY, {"approval": {"of": "daily-2025-11-30-9", "by": "Steward", "why": "asked"}})
    assert left(settings, "approved by Steward for Käthe") == "approved by Steward for [redacted:first_name]"


@pytest.fixture
def several_files(project: Project) -> None:
    """Allow customer files of any name, which are found by listing the folder."""
    project.replace("params/sources/demo.yaml", "customers/{run_date}/customers.csv", "customers/{run_date}/*.csv")


def test_landing_is_searched_beside_a_name_that_is_not_utf8(several_files: None, settings: Settings) -> None:
    file = land(settings, HEADER, CUSTOMER)
    file.rename(os.fsdecode(os.fsencode(file.parent) + b"/customers_M\xe4rz.csv"))
    pattern = load_source("demo").entities["customers"]
    assert is_entity_file(pattern, DAY, f"customers/{DAY}/customers_M\udce4rz.csv")
    assert "Kanarie" not in left(settings, "Zoë Kanarie was here", stage="ingest")


def test_unreadable_landing_raises(several_files: None, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    land(settings, HEADER, CUSTOMER)

    def fails(store: Store, prefix: str = "") -> list[str]:
        raise StorageError(f"{store.href(prefix)} could not be read: its disk fails to read or write.")

    def broken(top: str, onerror: Callable[[OSError], None]) -> Iterator[Any]:
        onerror(OSError(errno.EIO, "Input/output error"))
        yield from ()

    monkeypatch.setattr(LandingStore, "keys", fails)
    assert "Kanarie" not in left(settings, "Zoë Kanarie was here", stage="ingest")
    monkeypatch.setattr("os.walk", broken)
    with pytest.raises(OSError, match="Input/output error"):
        left(settings, "Zoë Kanarie was here", stage="ingest")


@pytest.mark.parametrize("file", ["notebooks/4_aggregate.ipynb", "params/contracts/gold/daily_sales.yaml"])
def test_broken_project_file_has_no_ordinary_words(project: Project, file: str) -> None:
    before = load_ordinary_words(load_source("demo"))
    project.write(file, "<<<<<<< HEAD\n")
    after = load_ordinary_words(load_source("demo"))
    assert load_common_words() < after <= before


def test_ordinary_words_come_from_project_files() -> None:
    words = load_ordinary_words(load_source("demo"))
    assert {"silver", "first", "SELECT", "customers", "SUCCEEDED", "ingest", "max", "will", "any"} <= words
    assert not {"Kanarie", "kanarie", "Max", "Will", "Zoë", "Emil"} & words


def test_ordinary_words_do_not_depend_on_source_text(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reads: list[Path] = []
    read = Path.read_text

    def noted(path: Path, *arguments: Any, **named: Any) -> str:
        reads.append(path)
        return read(path, *arguments, **named)

    monkeypatch.setattr(Path, "read_text", noted)
    load_common_words.cache_clear()
    load_ordinary_words(load_source("demo"))
    assert {path.suffix for path in reads} <= {".txt", ".ipynb", ".yaml"}


def test_word_list_names_its_source_and_license() -> None:
    text = (Path(daybook.__file__).parent / "privacy" / "ordinary_words.txt").read_text(encoding="utf-8")
    assert "SCOWL 2020.12.07" in text
    assert "Permission to use, copy, modify" in text
    words = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(words) > 10_000
    assert all(re.fullmatch("[a-z]+", word) for word in words)


def test_many_values_are_redacted_like_few(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daybook.privacy.run_values.ValueMatcher", partial(ValueMatcher, max_in_memory=0))
    land(settings, HEADER, CUSTOMER, "C-K4N5,Ottokar,Spatzig,Berlin,2025-11-30 10:00:00")
    store(settings, "quarantine.customers", last_name="Quarantäner", city="Bern")
    clean = left(settings, "Kanarie, Spatzig of Berlin, Quarantäner of Bern", stage="ingest")
    assert clean == "[redacted:last_name], [redacted:_raw] of Berlin, [redacted:last_name] of Bern"


def test_all_dates_of_raw_reads_are_redacted(settings: Settings) -> None:
    store(settings, "bronze.customers", day=date(2025, 11, 29), last_name="Gesternmann")
    before = build_redactor(settings, RUN, stage="transform")
    assert before.is_current()
    record = {"stage": "transform", "tables": ["bronze.customers"]}
    Archive(settings.archive).store.create(f"raw_reads/{RUN}/1.json", serialize_record(record))
    assert not before.is_current()
    assert left(settings, "Gesternmann") == "[redacted:last_name]"
    assert left(settings, "Gesternmann", stage="quality") == "Gesternmann"


def test_all_dates_of_tables_in_cells_are_redacted(settings: Settings, project: Project) -> None:
    store(settings, "bronze.customers", day=date(2025, 11, 29), last_name="Gesternmann")
    store(settings, "quarantine.customers", day=date(2025, 11, 28), last_name="Vorgesternmann")
    text = "Gesternmann Vorgesternmann"
    assert left(settings, text) == text
    for query, expected in (
        ("SELECT * FROM bronze.customers", "[redacted:last_name] Vorgesternmann"),
        ('SELECT * FROM "bronze"."customers"', "[redacted:last_name] Vorgesternmann"),
        ("SELECT * FROM Quarantine.customers", "Gesternmann [redacted:last_name]"),
        ("rows(f'SELECT * FROM bronze.{name}')", "[redacted:last_name] Vorgesternmann"),
    ):
        path = project.root / "notebooks" / "3_transform.ipynb"
        original = path.read_text(encoding="utf-8")
        notebook = json.loads(original)
        notebook["cells"].append(
            {"cell_type": "code", "source": [query], "metadata": {}, "outputs": [], "execution_count": None}
        )
        path.write_text(json.dumps(notebook), encoding="utf-8")
        assert left(settings, text) == expected
        path.write_text(original, encoding="utf-8")


def test_capitalized_words_in_literals_are_not_ordinary(settings: Settings, project: Project) -> None:
    path = project.root / "notebooks" / "3_transform.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    source = ["Plain = rows(\"SELECT * FROM silver.customers WHERE last_name = 'Quarkström' OR kind = 'subscribed'\")"]
    notebook["cells"].append({"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None})
    path.write_text(json.dumps(notebook), encoding="utf-8")
    words = load_ordinary_words(load_source("demo"))
    assert {"Plain", "subscribed"} <= words
    assert "Quarkström" not in words
