"""Fixtures: a small valid source to vary, and CSV files that are read as one entity."""

from __future__ import annotations

import copy
from typing import Any, Callable, Dict, List, Tuple

import pyarrow as pa
import pytest

from daybook.errors import LandingError
from daybook.sources import Column, Entity, Source
from tests.reading import read_csv

Spec = Dict[str, Any]

SHOP: Spec = {
    "name": "shop",
    "title": "A shop",
    "entities": {
        "orders": {
            "files": "orders/{run_date}.csv",
            "columns": {"id": {}, "person": {"pii": "id"}, "at": {"type": "timestamp"}, "state": {}},
        },
        "lines": {
            "files": "lines/{run_date}.csv",
            "follows": {"entity": "orders", "by": "id"},
            "columns": {"id": {}, "sku": {}, "pieces": {"type": "integer"}, "price": {"type": "decimal"}},
        },
    },
    "mapping": {
        "orders": [
            {"from": "orders", "columns": {"order_id": "id", "customer_key": "person", "ordered_at": "at", "status": "state"}}
        ],
        "order_items": [
            {
                "from": "lines",
                "columns": {
                    "order_id": "id",
                    "line_number": "_row_number",
                    "product_id": "sku",
                    "quantity": "pieces",
                    "unit_price": "price",
                },
            }
        ],
    },
}


@pytest.fixture
def shop() -> Spec:
    """Return a small source as parsed YAML, which a test can change."""
    return copy.deepcopy(SHOP)


def landing_contract(spec: Spec) -> Spec:
    """Return the landing contract of a source, from its columns."""
    logical = {"text": "string", "decimal": "number"}
    custom = {"pii": "pii", "pad": "pad", "format": "strptime", "decimal_comma": "decimalComma"}
    tables = []
    for entity, settings in spec["entities"].items():
        properties = []
        for name, column in settings["columns"].items():
            kind = column.get("type", "text")
            item = {"name": name, "logicalType": logical.get(kind, kind), "physicalType": "VARCHAR"}
            given = [{"property": custom[key], "value": value} for key, value in column.items() if key in custom]
            if given:
                item["customProperties"] = given
            if "pii" in column:
                item["classification"] = "restricted"
            properties.append(item)
        tables.append({"name": entity, "physicalType": "file", "properties": properties})
    head = {"apiVersion": "v3.1.0", "kind": "DataContract", "id": "landing.shop", "version": "1.0.0", "status": "active"}
    return {**head, "schema": tables}


def small_source(columns: Tuple[str, ...], settings: Dict[str, Any]) -> Source:
    """Return a source whose entity ``e`` declares these columns as text."""
    spec = copy.deepcopy(SHOP)
    spec["entities"]["e"] = Entity(files="e.csv", columns={name: Column() for name in columns}, **settings)
    return Source.model_validate(spec)


@pytest.fixture(scope="session")
def read() -> Callable[..., pa.Table]:
    """Return a function that reads a CSV file as an entity with columns ``a`` and ``b``, or other columns and settings."""

    def call(data: Any, *, key: str = "e.csv", columns: Tuple[str, ...] = ("a", "b"), **settings: Any) -> pa.Table:
        raw = data if isinstance(data, bytes) else data.encode()
        return read_csv(raw, f"landing/{key}", key, small_source(columns, settings), "e")

    return call


@pytest.fixture(scope="session")
def rows(read: Callable[..., pa.Table]) -> Callable[..., List[Tuple[Any, ...]]]:
    """Return a function like ``read`` that returns tuples of the declared columns."""

    def call(data: Any, *, columns: Tuple[str, ...] = ("a", "b"), **settings: Any) -> List[Tuple[Any, ...]]:
        table = read(data, columns=columns, **settings)
        return list(zip(*(table[name].to_pylist() for name in columns)))

    return call


@pytest.fixture(scope="session")
def refusal(read: Callable[..., pa.Table]) -> Callable[..., str]:
    """Return a function like ``read`` that returns the text of the error."""

    def call(data: Any, **settings: Any) -> str:
        with pytest.raises(LandingError) as caught:
            read(data, **settings)
        return str(caught.value)

    return call
