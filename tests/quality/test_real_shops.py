"""Test the landing contracts on real shops' files."""

from __future__ import annotations

from collections import Counter
from datetime import date
from pathlib import Path

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.quality.checks import check_rules
from daybook.quality.rules import WHOLE_ROW_CONDITION, landing_rules
from daybook.sources import load_source, open_landing
from daybook.sources.mapping import quote, typed_select
from tests.reading import read_entity

pytestmark = pytest.mark.slow


def judge(name: str, landing: Path, day: date) -> tuple[Counter[str], Counter[str]]:
    """Return numbers of landed rows and duplicates, and of failures by entity and rule."""
    source = load_source(name)
    store = open_landing(str(landing))
    engine = DuckDBEngine(Lake("memory:///none"), "UTC")
    rows: Counter[str] = Counter()
    for entity in source.entities:
        table, _ = read_entity(store, source, entity, day)
        assert table is not None
        rows["landed"] += table.num_rows
        engine.register(f"bronze.{entity}", table)
        columns = ", ".join(quote(each) for each in table.column_names if each not in ("_source_file", "_row_number"))
        copies = f"row_number() OVER (PARTITION BY {columns} ORDER BY _row_number) AS _copy"
        landed = f"(SELECT *, '' AS _waived, {copies} FROM bronze.{entity}) AS landed"
        engine.create_table(f"typed.{entity}", typed_select(source, entity, landed))
        engine.define(entity, f"SELECT * FROM typed.{entity} WHERE {WHOLE_ROW_CONDITION}")
        rows["copies"] += engine.fetch_row(f"SELECT count(*) FROM typed.{entity} WHERE _copy > 1")[0]
    broken: Counter[str] = Counter()
    for entity in source.entities:
        results, _, _ = check_rules(
            engine,
            f"typed.{entity}",
            landing_rules(source, entity),
            entity,
            key=["_source_file", "_row_number"],
            counted="_copy = 1",
            run_date=day,
            objects=entity,
        )
        broken.update({f"{each.table}: {each.rule}": each.failing for each in results if each.failing and each.rule != COPIES})
    return rows, broken


COPIES = "rows stand once"


def test_online_retail_half_year_rejects_only_duplicates(shared_data: Path) -> None:
    landing = shared_data / "online_retail"
    rows: Counter[str] = Counter()
    broken: Counter[str] = Counter()
    for path in sorted(landing.glob("*.csv")):
        found, failing = judge("online_retail", landing, date.fromisoformat(path.stem))
        rows, broken = rows + found, broken + failing
    assert dict(rows) == {"landed": 209_029, "copies": 1_747}
    assert broken == Counter()


def test_olist_snapshot_is_accepted(shared_data: Path) -> None:
    rows, broken = judge("olist", shared_data / "olist", date(2018, 10, 3))
    assert rows["landed"] > 70_000
    assert broken == Counter()
