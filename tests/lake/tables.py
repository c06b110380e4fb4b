"""Build small tables for tests of the lake, and read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Optional

import pyarrow as pa
from deltalake import DeltaTable

from daybook.contracts import load_table
from daybook.lake.tables import Lake

FIRST, SECOND, THIRD = date(2025, 11, 1), date(2025, 11, 2), date(2025, 11, 3)
PRODUCTS = load_table("silver.products")
CUSTOMERS = load_table("silver.customers")
PAYMENTS = load_table("gold.payment_mix")
COHORTS = load_table("gold.cohort_retention")


def read_rows(lake: Lake, table: str, *columns: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table, or the named columns of them, sorted."""
    dataset = lake.dataset(table)
    assert dataset is not None
    found = dataset.to_table(columns=list(columns) or None)
    return sorted(zip(*(column.to_pylist() for column in found.columns)), key=repr)


def list_files(folder: Path) -> dict[Path, int]:
    """Return every file under a folder with its modification time."""
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file()}


def landing_rows(*values: str) -> pa.Table:
    return pa.table({"value": pa.array(values, pa.string())})


class Version(NamedTuple):
    """A landed version of a product; ``changed`` is its hour of November 2025 in the source."""

    product_id: str
    name: str
    changed: int


def products(landed_on: date, *versions: Version) -> pa.Table:
    start = datetime(2025, 11, 1, tzinfo=timezone.utc)
    rows = [
        {
            "product_id": each.product_id,
            "name": each.name,
            "version_at": start + timedelta(hours=each.changed),
            "landed_on": landed_on,
        }
        for each in versions
    ]
    return pa.Table.from_pylist(rows, schema=PRODUCTS.arrow_schema)


def customers(landed_on: date, *keys: str, city: Optional[str] = None, first: Optional[date] = None) -> pa.Table:
    rows = [
        {
            "customer_key": key,
            "city": city,
            "first_order_date": first,
            "version_at": datetime(2025, 11, landed_on.day, tzinfo=timezone.utc),
            "landed_on": landed_on,
        }
        for key in keys
    ]
    return pa.Table.from_pylist(rows, schema=CUSTOMERS.arrow_schema)


def payments(*amounts: tuple[date, str]) -> pa.Table:
    rows = [
        {"order_date": day, "method": "card", "payments": 1, "orders": 1, "amount": Decimal(amount), "share": Decimal(1)}
        for day, amount in amounts
    ]
    return pa.Table.from_pylist(rows, schema=PAYMENTS.arrow_schema)


def create_partitioned(lake: Lake, table: str, schema: pa.Schema, column: str = "run_date") -> None:
    """Create a table as earlier releases did, with a partition for each date and no statistics."""
    DeltaTable.create(
        lake.uri(table),
        schema=schema,
        partition_by=[column],
        name=table,
        configuration={"delta.dataSkippingNumIndexedCols": "0", "delta.checkpointInterval": "10"},
    )


def stored_partitions(lake: Lake, table: str) -> list[str]:
    return list(DeltaTable(lake.uri(table)).metadata().partition_columns)


def failing_reader(rows: pa.Table) -> pa.RecordBatchReader:
    """Return a reader that fails after the rows."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from rows.to_batches()
        raise OSError("the disk went away")

    return pa.RecordBatchReader.from_batches(rows.schema, batches())
