"""Test that a redactor built while the notebook runs has the values of one built afterwards."""

from __future__ import annotations

import json
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from nbformat import NotebookNode, v4

from daybook.contracts import load_table
from daybook.lake.tables import Lake
from daybook.privacy import run_values
from daybook.privacy.background import BackgroundRedactor
from daybook.privacy.matcher import MAX_IN_MEMORY, ValueMatcher
from daybook.privacy.run_values import RunRedactor
from daybook.settings import Settings, load_settings
from daybook.sources import load_source
from tests.lake.writing import replace_date

DAY = date(2025, 11, 30)
RUN = f"daily-{DAY}-1"


@pytest.fixture
def settings(home: Path) -> Settings:
    (home / "landing").mkdir(parents=True)
    return load_settings("local")


@pytest.fixture
def built_stages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of stages for which redactors are built."""
    stages: list[str] = []
    make = run_values.build_redactor

    def noting(*given: Any, stage: str) -> Any:
        stages.append(stage)
        return make(*given, stage=stage)

    monkeypatch.setattr(run_values, "build_redactor", noting)
    return stages


def land(settings: Settings, table: str, name: str, day: date = DAY) -> None:
    rows = pa.table({"last_name": [name], "_run_id": [RUN]})
    replace_date(Lake(settings.lake), table, rows, day)


def start_redactor(settings: Settings, stage: str) -> BackgroundRedactor:
    """Return a background redactor whose first build is done."""
    with BackgroundRedactor(settings, RUN, stage) as redactor_now:
        return redactor_now


def test_unchanged_data_keeps_the_redactor(settings: Settings, built_stages: list[str]) -> None:
    land(settings, "bronze.customers", "Kanarie")
    redactor_now = start_redactor(settings, "transform")
    land(settings, "bronze.customers", "Gesternmann", day=date(2025, 11, 29))
    assert redactor_now().redact_text("Kanarie, Gesternmann") == "[redacted:last_name], Gesternmann"
    assert built_stages == ["transform"]


def test_later_bronze_rows_are_redacted(settings: Settings, built_stages: list[str]) -> None:
    land(settings, "bronze.customers", "Kanarie")
    redactor_now = start_redactor(settings, "validate")
    land(settings, "bronze.customers", "Spätling")
    assert redactor_now().redact_text("It is Spätling") == "It is [redacted:last_name]"
    assert built_stages == ["validate", "validate"]


def test_later_repairs_are_redacted(settings: Settings, built_stages: list[str]) -> None:
    land(settings, "bronze.customers", "Kanarie")
    redactor_now = start_redactor(settings, "validate")
    rows = pa.table({"entity": ["customers"], "repairs": [json.dumps({"last_name": "Neumannsen"})]})
    replace_date(Lake(settings.lake), "quarantine.releases", rows, DAY)
    assert redactor_now().redact_text("It is Neumannsen") == "It is [redacted:last_name]"
    assert built_stages == ["validate", "validate"]


def test_later_quarantine_rows_keep_the_redactor(settings: Settings, built_stages: list[str]) -> None:
    land(settings, "bronze.customers", "Kanarie")
    redactor_now = start_redactor(settings, "validate")
    land(settings, "quarantine.customers", "Kanarie")
    assert redactor_now().redact_text("It is Kanarie") == "It is [redacted:last_name]"
    assert built_stages == ["validate"]


def deliver(settings: Settings, *last_names: str, broken: str = "") -> None:
    """Write a landing file of customers with a malformed row."""
    file = Path(settings.landing) / "customers" / DAY.isoformat() / "customers.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    names = list(load_source("demo").entities["customers"].columns)
    rows = [",".join(last_name if name == "last_name" else "" for name in names) for last_name in last_names]
    file.write_text("\n".join([",".join(names), *rows, *filter(None, [broken]), ""]))


def test_ingest_reads_landing_in_the_background(settings: Settings, built_stages: list[str]) -> None:
    deliver(settings, "Kanarie", "Spatzig")
    redactor_now = start_redactor(settings, "ingest")
    land(settings, "bronze.customers", "Kanarie")
    assert redactor_now().redact_text("Kanarie, Spatzig") == "[redacted:last_name], [redacted:last_name]"
    assert built_stages == ["ingest"]


@pytest.mark.parametrize("many", [0, MAX_IN_MEMORY])
def test_later_landing_rows_are_redacted(
    settings: Settings, built_stages: list[str], monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    monkeypatch.setattr(run_values, "ValueMatcher", partial(ValueMatcher, max_in_memory=many))
    deliver(settings, "Kanarie")
    redactor_now = start_redactor(settings, "ingest")
    land(settings, "bronze.customers", "Spätling")
    assert redactor_now().redact_text("Kanarie, Spätling") == "[redacted:last_name], [redacted:last_name]"
    assert built_stages == ["ingest", "ingest"]


def test_known_values_are_compared_per_column(settings: Settings, built_stages: list[str]) -> None:
    deliver(settings, "Kanarie")
    redactor_now = start_redactor(settings, "ingest")
    rows = pa.table({"street": ["Kanarie"], "_run_id": [RUN]})
    replace_date(Lake(settings.lake), "bronze.customers", rows, DAY)
    redactor_now()
    assert built_stages == ["ingest", "ingest"]


def test_table_of_no_entity_has_columns_of_all_entities(settings: Settings, built_stages: list[str]) -> None:
    land(settings, "bronze.customers", "Kanarie")
    land(settings, "quarantine.former", "Spatzig")
    redactor_now = start_redactor(settings, "validate")
    land(settings, "quarantine.former", "Spätling")
    assert redactor_now().redact_text("It is Spätling") == "It is [redacted:last_name]"
    assert built_stages == ["validate", "validate"]


@pytest.mark.parametrize(("raw", "times"), [("C-K4N5,Ottokar,Spatzig", 1), ("C-K4N6,Meiselinde,Spatzig", 2)])
def test_malformed_rows_of_landing_keep_the_redactor(settings: Settings, built_stages: list[str], raw: str, times: int) -> None:
    deliver(settings, "Kanarie", broken="C-K4N5,Ottokar,Spatzig")
    redactor_now = start_redactor(settings, "ingest")
    rows = pa.table({"last_name": ["Kanarie"], "_raw": [raw], "_run_id": [RUN]})
    replace_date(Lake(settings.lake), "bronze.customers", rows, DAY)
    assert redactor_now().redact_text(raw) == "[redacted:_raw],[redacted:_raw],[redacted:_raw]"
    assert built_stages == ["ingest"] * times


@pytest.mark.parametrize("stage", ["ingest", "transform"])
def test_changed_landing_files_are_read_again(settings: Settings, built_stages: list[str], stage: str) -> None:
    deliver(settings, "Kanarie")
    redactor_now = start_redactor(settings, stage)
    deliver(settings, "Kanarie", "Spätling")
    assert redactor_now().redact_text("It is Spätling") == "It is [redacted:last_name]"
    assert built_stages == [stage, stage]


def test_unlistable_landing_rebuilds_the_redactor(settings: Settings, built_stages: list[str]) -> None:
    Path(settings.landing).rmdir()
    start_redactor(settings, "ingest")()
    assert built_stages == ["ingest", "ingest"]


def test_build_error_is_raised_on_the_call(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OSError("the lake is away")

    monkeypatch.setattr(run_values, "build_redactor", fails)
    redactor_now = start_redactor(settings, "transform")
    with pytest.raises(OSError, match="the lake is away"):
        redactor_now()


# Searching ahead


def leaving(text: str) -> NotebookNode:
    return v4.new_code_cell("show()", outputs=[v4.new_output("stream", text=text)])


def looked_at(settings: Settings, *cells: NotebookNode) -> RunRedactor:
    """Return the redactor of a transform stage after the search of its cells."""
    with BackgroundRedactor(settings, RUN, "transform") as redactor_now:
        for cell in cells:
            redactor_now.submit_output(cell)
        return redactor_now()


def test_clean_texts_are_not_searched_again(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    land(settings, "bronze.customers", "Kanarie")
    redactor = looked_at(settings, leaving("three rows"), leaving("It is Kanarie"))
    searched: list[str] = []
    find = ValueMatcher.find
    monkeypatch.setattr(
        ValueMatcher, "find", lambda self, text, **options: searched.append(text) or find(self, text, **options)
    )
    assert redactor.counts == {}
    assert redactor.redact_text("three rows") == "three rows"
    assert redactor.redact_text("It is Kanarie") == "It is [redacted:last_name]"
    assert searched == ["It is Kanarie"]
    assert redactor.counts == {"last_name": 1}


def test_customer_merged_after_the_search_is_redacted(settings: Settings) -> None:
    land(settings, "bronze.customers", "Kanarie")
    key = "0123456789abcdef" * 2
    with BackgroundRedactor(settings, RUN, "transform") as redactor_now:
        redactor_now.submit_output(leaving(f"customer {key}"))
        redactor_now._queue.put(None)
        redactor_now._thread.join()
        contract = load_table("silver.customers")
        rows = pa.table({"customer_key": [key]})
        Lake(settings.lake).ensure_table(contract)
        write_deltalake(Lake(settings.lake).uri("silver.customers"), rows, mode="append", schema_mode="merge")
        assert redactor_now().redact_text(f"customer {key}") == "customer [redacted:customer_key]"


def test_new_rows_discard_earlier_searches(settings: Settings) -> None:
    land(settings, "bronze.customers", "Kanarie")
    with BackgroundRedactor(settings, RUN, "validate") as redactor_now:
        redactor_now.submit_output(leaving("It is Spätling"))
        redactor_now._queue.put(None)
        redactor_now._thread.join()
        land(settings, "bronze.customers", "Spätling")
        assert redactor_now().redact_text("It is Spätling") == "It is [redacted:last_name]"


def test_thread_ends_if_the_attempt_is_interrupted(settings: Settings) -> None:
    land(settings, "bronze.customers", "Kanarie")
    with pytest.raises(KeyboardInterrupt), BackgroundRedactor(settings, RUN, "transform") as redactor_now:
        raise KeyboardInterrupt
    redactor_now._thread.join(timeout=60)
    assert not redactor_now._thread.is_alive()
