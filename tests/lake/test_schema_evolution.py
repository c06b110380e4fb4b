"""Test that tables follow their contracts: earlier rows are read as the current contract says."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from deltalake.table import TableAlterer

from daybook.contracts import Property, Table
from daybook.contracts.model import CustomProperty
from daybook.errors import LakeError
from daybook.lake.compaction import COMPACTION_MIN_FILES
from daybook.lake.merge import merge
from daybook.lake.publish import publish
from daybook.lake.tables import Lake
from daybook.privacy import apply_keys, load_keys
from daybook.privacy.rekey import rekey, require_keys
from tests.lake.tables import (
    CUSTOMERS,
    FIRST,
    PAYMENTS,
    PRODUCTS,
    SECOND,
    THIRD,
    Version,
    customers,
    payments,
    products,
    read_rows,
)

BRAND = Property(name="brand", logicalType="string", physicalType="VARCHAR")
FEE = Property(name="fee", logicalType="number", physicalType="DECIMAL(18,4)")


def gaining(contract: Table, column: Property, at: int = 2) -> Table:
    """Return the contract with one more column in the middle."""
    return contract.model_copy(update={"properties": [*contract.properties[:at], column, *contract.properties[at:]]})


IS_DATE = CustomProperty(property="businessDate", value=True)
BRANDED = gaining(PRODUCTS, BRAND)
WITH_FEE = gaining(PAYMENTS, FEE)


def branded(landed_on: date, brand: str, *versions: Version) -> pa.Table:
    """Return products of one brand."""
    rows = products(landed_on, *versions)
    return rows.add_column(2, "brand", pa.array([brand] * rows.num_rows, pa.string()))


def with_fee(*amounts: tuple[date, str]) -> pa.Table:
    rows = payments(*amounts)
    return rows.add_column(2, "fee", pa.array([Decimal(1)] * rows.num_rows, pa.decimal128(18, 4)))


def change_contracts(monkeypatch: pytest.MonkeyPatch, layer: str, *contracts: Table) -> None:
    """Replace the contract files."""
    there = {each.full_name: each for each in contracts}
    for module in ("daybook.lake.tables", "daybook.lake.schema_evolution", "daybook.lake.table_properties"):
        monkeypatch.setattr(f"{module}.load_tables", lambda asked: there if asked == layer else {})


def stored(lake: Lake, table: str) -> DeltaTable:
    return DeltaTable(lake.uri(table))


def columns(lake: Lake, table: str) -> list[str]:
    return [each.name for each in stored(lake, table).schema().fields]


@pytest.fixture
def filled(lake: Lake) -> Lake:
    """Return a lake with two dates of products in silver and versions."""
    merge(lake, PRODUCTS, products(FIRST, Version("a", "Ant", 1), Version("b", "Bee", 1)), dates=[FIRST])
    merge(lake, PRODUCTS, products(SECOND, Version("b", "Bee II", 2)), dates=[SECOND])
    return lake


# A new column


def test_new_column_is_null_until_the_date_is_merged_again(filled: Lake) -> None:
    merge(filled, BRANDED, branded(THIRD, "Acme", Version("c", "Cat", 3)), dates=[THIRD])
    assert read_rows(filled, "silver.products", "name") == [("Ant",), ("Bee II",), ("Cat",)]
    assert dict(zip(*rows_of(filled, "product_id", "brand"))) == {"a": None, "b": None, "c": "Acme"}
    merge(filled, BRANDED, branded(SECOND, "Busy", Version("b", "Bee II", 2)), dates=[SECOND])
    assert dict(zip(*rows_of(filled, "product_id", "brand"))) == {"a": None, "b": "Busy", "c": "Acme"}


def rows_of(lake: Lake, *names: str) -> list[list[Any]]:
    found = stored(lake, "silver.products").to_pyarrow_table(columns=list(names))
    return [found.column(name).to_pylist() for name in names]


def test_restored_version_has_null_in_a_new_column(filled: Lake) -> None:
    merge(filled, BRANDED, branded(SECOND, "Busy"), dates=[SECOND])
    assert sorted(zip(*rows_of(filled, "product_id", "name", "brand"))) == [("a", "Ant", None), ("b", "Bee", None)]


def test_merging_again_adds_the_column_only(filled: Lake) -> None:
    rows = branded(SECOND, "", Version("b", "Bee II", 2))
    rows = rows.set_column(2, "brand", pa.array([None], pa.string()))
    assert merge(filled, BRANDED, rows, dates=[SECOND]) == {"inserted": 0, "updated": 0, "deleted": 0}
    assert "brand" in columns(filled, "silver.products")
    assert "brand" in columns(filled, "versions.products")


def test_table_that_fits_its_contract_is_unchanged(filled: Lake) -> None:
    before = filled.version("silver.products")
    filled.ensure_table(PRODUCTS)
    assert filled.version("silver.products") == before


def test_commit_of_a_new_column_names_the_run(filled: Lake) -> None:
    filled.ensure_table(BRANDED)
    last = stored(filled, "silver.products").history(1)[0]
    assert (last["operation"], last["daybook_run_id"]) == ("ADD COLUMN", filled.run_id)
    assert filled.tables_written["silver.products"] == last["version"]


def test_publication_adds_a_new_gold_column(lake: Lake) -> None:
    publish(lake, PAYMENTS, payments((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND])
    later = Lake(lake.root, run_id="daily-2025-11-02-2")
    publish(later, WITH_FEE, with_fee((SECOND, "3")), [SECOND])
    found = stored(later, "gold.payment_mix").to_pyarrow_table(columns=["order_date", "amount", "fee"])
    assert sorted(zip(*(each.to_pylist() for each in found.columns))) == [
        (FIRST, Decimal(1), None),
        (SECOND, Decimal(3), Decimal(1)),
    ]


def test_reader_gets_the_contracts_columns_in_order(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    change_contracts(monkeypatch, "silver", BRANDED)
    before = filled.version("silver.products")
    dataset = filled.dataset("silver.products")
    assert dataset is not None
    assert dataset.schema.names == BRANDED.columns
    assert read_rows(filled, "silver.products", "product_id", "brand") == [("a", None), ("b", None)]
    assert filled.version("silver.products") == before


def test_pinned_version_has_the_contracts_columns(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    before = filled.version("silver.products")
    merge(filled, BRANDED, branded(FIRST, "Acme", Version("a", "Ant", 1)), dates=[FIRST])
    change_contracts(monkeypatch, "silver", BRANDED)
    assert read_rows(filled, "silver.products", "product_id", "brand") == [("a", "Acme"), ("b", None)]
    filled.pin({"silver.products": before})
    assert read_rows(filled, "silver.products", "product_id", "brand") == [("a", None), ("b", None)]


def test_earlier_candidate_has_the_contracts_columns(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    lake.write_candidate("candidate.payment_mix", payments((FIRST, "1")))
    change_contracts(monkeypatch, "gold", WITH_FEE)
    assert read_rows(lake, "candidate.payment_mix", "order_date", "fee") == [(FIRST, None)]


def test_new_column_is_added_to_the_development_copy_only(filled: Lake) -> None:
    mine = Lake(filled.root, development="ada")
    merge(mine, BRANDED, branded(THIRD, "Acme", Version("c", "Cat", 3)), dates=[THIRD])
    assert dict(zip(*rows_of(mine, "product_id", "brand"))) == {"a": None, "b": None, "c": "Acme"}
    assert columns(filled, "silver.products") == PRODUCTS.columns


def test_files_with_and_without_the_column_are_compacted(filled: Lake) -> None:
    for number in range(COMPACTION_MIN_FILES):
        row = branded(THIRD, "Acme", *(Version(f"c{each}", "Cat", 3) for each in range(number + 1)))
        merge(filled, BRANDED, row, dates=[THIRD])
    assert filled.compact("silver.products")
    names, brands = rows_of(filled, "product_id", "brand")
    assert {name for name, brand in zip(names, brands) if brand is None} == {"a", "b"}
    assert len(names) == COMPACTION_MIN_FILES + 2


def test_new_pseudonym_has_no_statistics_in_the_log(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    maker = Property(name="maker_key", logicalType="string", physicalType="VARCHAR", classification="pseudonym")
    made = gaining(PRODUCTS, maker)
    change_contracts(monkeypatch, "silver", made)
    rows = products(THIRD, Version("c", "Cat", 3)).add_column(2, "maker_key", pa.array(["a-person"], pa.string()))
    merge(filled, made, rows, dates=[THIRD])
    for table in ("silver.products", "versions.products"):
        logs = list((Path(filled.uri(table)) / "_delta_log").glob("*.json"))
        assert any("maker_key" in log.read_text() for log in logs), table
        assert not any("a-person" in log.read_text() for log in logs), table


# A removed column, and processes with different contracts


def test_removed_column_is_not_read_and_null_in_new_rows(filled: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    merge(filled, BRANDED, branded(THIRD, "Acme", Version("c", "Cat", 3), Version("d", "Dog", 3)), dates=[THIRD])
    merge(filled, PRODUCTS, products(THIRD, Version("c", "Cat II", 3), Version("d", "Dog", 3)), dates=[THIRD])
    change_contracts(monkeypatch, "silver", PRODUCTS)
    dataset = filled.dataset("silver.products")
    assert dataset is not None
    assert dataset.schema.names == PRODUCTS.columns
    assert dict(zip(*rows_of(filled, "product_id", "brand"))) == {"a": None, "b": None, "c": None, "d": "Acme"}


def test_gold_is_published_without_a_removed_column(lake: Lake) -> None:
    publish(lake, WITH_FEE, with_fee((FIRST, "1"), (SECOND, "2")), [FIRST, SECOND])
    publish(Lake(lake.root, run_id="daily-2025-11-02-2"), PAYMENTS, payments((SECOND, "3")), [SECOND])
    found = stored(lake, "gold.payment_mix").to_pyarrow_table(columns=["order_date", "amount", "fee"])
    assert sorted(zip(*(each.to_pylist() for each in found.columns))) == [
        (FIRST, Decimal(1), Decimal(1)),
        (SECOND, Decimal(3), None),
    ]


def _merge_under(root: str, contract: Table, brand: str, day: date) -> dict[str, int]:
    rows = products(day, Version("shared", f"of {day}", day.day), Version(f"{day}", "own", 1))
    if brand:
        rows = rows.add_column(2, "brand", pa.array([brand] * rows.num_rows, pa.string()))
    return merge(Lake(root), contract, rows, dates=[day])


def test_concurrent_processes_add_a_column_once(filled: Lake) -> None:
    days = [FIRST + timedelta(days=number) for number in range(3, 7)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        under_way = [pool.submit(_merge_under, filled.root, BRANDED, f"of {day}", day) for day in days]
        assert all(each.result() for each in under_way)
    assert dict(zip(*rows_of(filled, "product_id", "brand"))) == {
        "a": None,
        "b": None,
        "shared": f"of {days[-1]}",
        **{f"{day}": f"of {day}" for day in days},
    }
    assert [each["operation"] for each in stored(filled, "silver.products").history()].count("ADD COLUMN") == 1


def test_second_writer_finds_the_new_column(filled: Lake, waits: list[float], monkeypatch: Any) -> None:
    add_columns = TableAlterer.add_columns
    met: list[str] = []

    def second(alterer: TableAlterer, *args: Any, **named: Any) -> None:
        if not met:
            met.append("another writer")
            Lake(filled.root, run_id="daily-2025-11-02-1").ensure_table(BRANDED)
        add_columns(alterer, *args, **named)

    monkeypatch.setattr(TableAlterer, "add_columns", second)
    filled.ensure_table(BRANDED)
    assert len(waits) == 1
    assert columns(filled, "silver.products") == [*PRODUCTS.columns, "brand"]


def test_process_with_the_earlier_contract_can_write(filled: Lake) -> None:
    late = Lake(filled.root, run_id="daily-2025-11-01-2")
    assert late.dataset("silver.products") is not None  # opened before the change
    merge(filled, BRANDED, branded(THIRD, "Acme", Version("c", "Cat", 3)), dates=[THIRD])
    merge(late, PRODUCTS, products(FIRST, Version("a", "Ant III", 3)), dates=[FIRST])
    assert dict(zip(*rows_of(filled, "name", "brand"))) == {"Ant III": None, "Bee II": None, "Cat": "Acme"}


def test_rekey_keeps_values_of_a_new_column(lake: Lake, tmp_path: Path) -> None:
    key = str(tmp_path / "pii.key")
    keys = load_keys(key)
    require_keys(lake.root, keys, "local", note=True)
    mark = gaining(CUSTOMERS, BRAND, at=3)
    old, new = (apply_keys(keys, each, 0) for each in ("ada", "bob"))
    merge(lake, CUSTOMERS, customers(FIRST, old, city="Ulm"), dates=[FIRST])
    rows = customers(SECOND, new, city="Kiel").add_column(3, "brand", pa.array(["Acme"], pa.string()))
    merge(lake, mark, rows, dates=[SECOND])
    rekey(lake.root, key, "local")
    found = stored(lake, "silver.customers").to_pyarrow_table(columns=["city", "brand", "customer_key"]).to_pylist()
    assert {(row["city"], row["brand"]) for row in found} == {("Ulm", None), ("Kiel", "Acme")}
    assert {old, new}.isdisjoint(row["customer_key"] for row in found)


# Incompatible tables

UNKNOWN_BEFORE = (
    "column 'brand' is required and new, so stored rows lack it; make it nullable (and no key) until all dates have run again."
)


@pytest.mark.parametrize(
    ("contract", "said"),
    [
        (
            gaining(PRODUCTS, BRAND.model_copy(update={"required": True})),
            UNKNOWN_BEFORE,
        ),
        (
            gaining(PRODUCTS, BRAND.model_copy(update={"primaryKey": True})),
            UNKNOWN_BEFORE,
        ),
        (
            PRODUCTS.model_copy(
                update={
                    "properties": [
                        each.model_copy(update={"physicalType": "BIGINT" if each.name == "name" else each.physicalType})
                        for each in PRODUCTS.properties
                    ]
                }
            ),
            "column 'name' is stored as string, not BIGINT; give the column of another type another name.",
        ),
        (
            gaining(PRODUCTS, BRAND.model_copy(update={"customProperties": [IS_DATE]})),
            "its business date is nothing and not brand; restore that.",
        ),
    ],
    ids=["required", "key", "type", "business date"],
)
def test_incompatible_table_is_an_error_and_unchanged(filled: Lake, contract: Table, said: str) -> None:
    before = filled.version("silver.products"), filled.version("versions.products")
    with pytest.raises(LakeError) as told:
        merge(filled, contract, branded(THIRD, "Acme", Version("c", "Cat", 3)), dates=[THIRD])
    place = filled.uri("silver.products")
    assert str(told.value) == f"silver.products at {place} does not fit params/contracts/silver/products.yaml: {said}"
    assert (filled.version("silver.products"), filled.version("versions.products")) == before


def test_required_column_can_be_added_without_rows(lake: Lake) -> None:
    strict = gaining(PRODUCTS, BRAND.model_copy(update={"required": True}))
    lake.ensure_table(PRODUCTS)
    lake.ensure_table(strict)
    merge(lake, strict, branded(FIRST, "Acme", Version("a", "Ant", 1)), dates=[FIRST])
    assert columns(lake, "silver.products") == [*PRODUCTS.columns, "brand"]
    lake.ensure_table(strict)


def test_removed_pseudonym_column_is_an_error(lake: Lake) -> None:
    merge(lake, CUSTOMERS, customers(FIRST, "a"), dates=[FIRST])
    fewer = CUSTOMERS.model_copy(update={"properties": [each for each in CUSTOMERS.properties if each.name != "customer_key"]})
    with pytest.raises(LakeError, match="column 'customer_key' has pseudonyms, which an erasure would no longer find"):
        lake.ensure_table(fewer)
