"""Mapping rows of several dates in one statement gives the rows of mapping each date by itself."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from daybook.contracts import load_tables
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.sources import Source, list_sources, load_source, mapped_sql
from daybook.sources.mapping import is_mapped_by_date, join_by_date

DAYS = [date(2025, 11, 29), date(2025, 11, 30)]
_VALUES: dict[str, tuple[str, Any]] = {
    "text": ("VARCHAR", "one"),
    "integer": ("BIGINT", 1),
    "decimal": ("DECIMAL(18,4)", Decimal(2)),
    "date": ("DATE", date(2025, 11, 28)),
    "timestamp": ("TIMESTAMPTZ", "2025-11-28 10:00:00+00"),
    "boolean": ("BOOLEAN", True),
}


@pytest.fixture
def engine(tmp_path: Any) -> DuckDBEngine:
    engine = DuckDBEngine(Lake(str(tmp_path)), "Europe/Berlin")
    engine.add_text_function("pseudonym", lambda texts: texts)
    return engine


def define_rows(engine: DuckDBEngine, source: Source, dates: list[date], *, with_date: bool) -> None:
    """Define two rows of each entity for each date. All rows of an entity are equal but for their number and their date."""
    for name, entity in source.entities.items():
        columns = []
        for column, spec in entity.columns.items():
            kind, value = _VALUES[spec.type]
            text = f"'{value}'" if kind != "VARCHAR" else "number || ''"
            columns.append(f'CAST({text} AS {kind}) AS "{column}"')
        listed = ", ".join(f"DATE '{day}'" for day in dates)
        date_column = ", run_date" if with_date else ""
        engine.create_table(
            name,
            f"SELECT {', '.join(columns)}, 'f' AS _source_file, CAST(number AS BIGINT) AS _row_number{date_column} "
            f"FROM (SELECT unnest([{listed}]) AS run_date) AS dates, (SELECT unnest([1, 2]) AS number) AS numbers",
        )


@pytest.mark.parametrize("table", [name.split(".")[1] for name in load_tables("silver")])
@pytest.mark.parametrize("name", list_sources())
def test_dates_mapped_together_give_the_rows_of_each_alone(engine: DuckDBEngine, name: str, table: str) -> None:
    source = load_source(name)
    assert is_mapped_by_date(source, table)
    alone = []
    for day in DAYS:
        define_rows(engine, source, [day], with_date=False)
        alone += engine.rows(f"SELECT *, DATE '{day}' AS landed_on FROM ({mapped_sql(source, table, day)}) AS mapped")
    define_rows(engine, source, DAYS, with_date=True)
    together = engine.rows(mapped_sql(source, table))
    assert sorted(together, key=repr) == sorted(alone, key=repr)


def with_select(source: Source, **changes: Any) -> Source:
    select = source.mapping["orders"][0].model_copy(update=changes)
    return source.model_copy(update={"mapping": {**source.mapping, "orders": [select]}})


@pytest.mark.parametrize(
    "changes",
    [
        {"where": "order_id IN (SELECT order_id FROM order_items)"},
        {"columns": {"order_id": "first_value(order_id) OVER (ORDER BY ordered_at)"}},
        {"join": "FULL JOIN order_items ON order_items.order_id = orders.order_id"},
        {"group_by": ["ALL"]},
    ],
)
def test_mapping_that_would_mix_dates_is_not_done_together(changes: dict[str, Any]) -> None:
    assert not is_mapped_by_date(with_select(load_source("demo"), **changes), "orders")


@pytest.mark.parametrize(
    ("join", "expected"),
    [
        ("", ""),
        ("JOIN order_items USING (order_id)", "JOIN order_items USING (order_id, run_date)"),
        (
            "LEFT JOIN order_items AS i ON i.order_id = orders.order_id OR i.order_id IS NULL",
            "LEFT JOIN order_items AS i ON (i.order_id = orders.order_id OR i.order_id IS NULL) "
            'AND "i".run_date = orders.run_date',
        ),
        ("CROSS JOIN order_items", 'JOIN order_items ON "order_items".run_date = orders.run_date'),
    ],
)
def test_entities_are_joined_within_the_date(join: str, expected: str) -> None:
    source = with_select(load_source("demo"), join=join)
    assert " ".join(join_by_date(source, source.mapping["orders"][0]).split()) == expected
