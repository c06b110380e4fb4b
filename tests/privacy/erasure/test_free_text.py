"""Test that `daybook erase --also` replaces a person's values in columns of free text and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from daybook.engines import DuckDBEngine
from daybook.errors import UsageError
from daybook.notebook.releases import digest_sql, list_landed_columns
from daybook.privacy.erasure import ErasureResult, erase
from daybook.sources import load_source
from tests.conftest import Killed, Killer
from tests.lake.writing import replace_date
from tests.privacy.erasure.conftest import ANN, ANNS, BOB, BOBS, FIRST, SECOND, Shop, put

pytestmark = pytest.mark.slow

MUG = f"Mug for Ann Zwölfaxing, {ANNS['email'].upper()}, tel. {ANNS['phone']}"
BLANK_MUG = "Mug for [erased], [erased], tel. [erased]"
CUP = "Cup of 1070 g, zwölfaxing style, not Zwölfaxinger"
BLANK_CUP = "Cup of 1070 g, [erased] style, not Zwölfaxinger"


@pytest.fixture
def named(shop: Shop) -> Shop:
    """Return the shop with Ann's values in product names, in bronze, silver and a development copy."""
    for lake in (shop.lake(), shop.lake(development="eve")):
        products = [
            {"product_id": "P-1", "name": MUG},
            {"product_id": "P-2", "name": CUP},
            {"product_id": "P-3", "name": "Lamp"},
        ]
        shop.land("products", SECOND, *products, lake=lake)
        put(lake, "silver.products", product_id=["P-1", "P-2", "P-3"], name=[MUG, CUP, "Lamp"])
    return shop


def erase_also(shop: Shop, *also: str) -> ErasureResult:
    return erase(shop.settings, ANN, "asked to be", shop.note, also)


def test_named_column_loses_the_person_in_every_layer(named: Shop) -> None:
    done = erase_also(named, "products.name")
    assert done.proof.is_clean
    for user in ("", "eve"):
        expected = [("P-1", BLANK_MUG), ("P-2", BLANK_CUP), ("P-3", "Lamp")]
        assert named.rows("silver.products", "product_id", "name", development=user) == expected
        assert [row for row in named.rows("bronze.products", "product_id", "name", development=user) if row[1] != "Lamp"] == (
            expected[:2]
        )
    assert named.files_with(MUG, CUP, ANNS["phone"]) == []
    counts = {f"{user}{layer}.products.name": 2 for user in ("", "dev/eve/") for layer in ("bronze", "silver")}
    assert done.free_text_rows == counts == json.loads(Path(str(done.record)).read_text())["also"]


def test_values_of_another_customer_stay_in_free_text(named: Shop) -> None:
    named.land("customers", SECOND, {"customer_id": ANN, **ANNS}, {"customer_id": BOB, **BOBS, "last_name": "Zwölfaxing"})
    erase_also(named, "products.name")
    assert ("P-2", CUP) in named.rows("silver.products", "product_id", "name")
    assert ("P-1", BLANK_MUG) in named.rows("silver.products", "product_id", "name")


def test_erasure_without_the_column_names_its_files(named: Shop) -> None:
    done = named.erase()
    assert "column name" in done.proof.matches.values()
    assert done.record is None


@pytest.mark.parametrize(
    ("also", "message"),
    [
        ("product.name", "the lake has no table 'product'; write table.column, with products."),
        ("name", "the lake has no table ''; write table.column, with "),
        ("products.nam", "products has no column 'nam'; its columns of text are: category, name."),
        ("products.product_id", r"bronze\.products\.product_id is a key that identifies or joins rows"),
        ("products.category_id", r"bronze\.products\.category_id is a key"),
        ("bronze.customers.customer_id", r"bronze\.customers\.customer_id is a key"),
        ("silver.customers.customer_key", r"silver\.customers\.customer_key is a key"),
        ("products.list_price", r"bronze\.products\.list_price does not hold text"),
        ("products._raw", r"bronze\.products\._raw is a key"),
        ("control.erased.customer_key", "the lake has no table 'control.erased'"),
    ],
)
def test_column_that_is_no_free_text_is_refused(named: Shop, also: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"^--also {also}: {message}"):
        erase_also(named, also)


def test_release_follows_a_row_that_loses_free_text(named: Shop) -> None:
    engine = DuckDBEngine(named.lake(), "UTC")
    digest = digest_sql(list_landed_columns(engine, "bronze.products"))
    row = f"bronze.products WHERE run_date = DATE '{SECOND}' AND _row_number = 1"
    release = {
        "entity": "products",
        "_source_file": f"products/{SECOND}/products.csv",
        "_row_number": 1,
        "digest": str((engine.fetch_row(f"SELECT {digest} FROM {row}") or ("",))[0]),
        "repairs": json.dumps({"name": MUG, "list_price": "1"}),
    }
    replace_date(named.lake(), "quarantine.releases", pa.Table.from_pylist([release]), SECOND)
    erase_also(named, "products.name")
    ((repairs, kept),) = named.rows("quarantine.releases", "repairs", "digest")
    assert json.loads(repairs) == {"name": BLANK_MUG, "list_price": "1"}
    assert DuckDBEngine(named.lake(), "UTC").fetch_row(f"SELECT {digest} FROM {row}") == (kept,)
    assert kept != release["digest"]


@pytest.mark.parametrize("number", [3, 8, 14, 40])
def test_killed_erasure_is_finished_without_naming_the_column(named: Shop, killer: Killer, number: int) -> None:
    killer.aim(number)
    with pytest.raises(Killed):
        erase_also(named, "products.name")
    killer.aim(None)
    done = named.erase() if number > 2 else erase_also(named, "products.name")
    assert done.proof.is_clean
    assert done.free_text_rows["silver.products.name"] == 2
    assert named.files_with(MUG, CUP) == []


def test_rows_without_the_person_are_unchanged(named: Shop) -> None:
    before = named.rows("bronze.products", "run_date", "product_id", "name")
    erase_also(named, "products.name")
    after = named.rows("bronze.products", "run_date", "product_id", "name")
    assert [row for row in after if row[2] == "Lamp"] == [row for row in before if row[2] == "Lamp"]
    assert (FIRST, "P-1", "Lamp") in after
    assert len(after) == len(before)


@pytest.mark.slow
def test_values_come_from_landing_after_bronze_is_masked(named: Shop) -> None:
    named.erase()
    with pytest.raises(UsageError, match="no landing file has the values any more"):
        erase_also(named, "products.name")
    path = Path(named.settings.landing) / f"customers/{SECOND}/customers.csv"
    path.parent.mkdir(parents=True)
    columns = list(load_source("demo").entities["customers"].columns)
    values = {"customer_id": ANN, **ANNS}
    path.write_text(f"{','.join(columns)}\n{','.join(values.get(name, '') for name in columns)}\n")
    assert erase_also(named, "products.name").free_text_rows["silver.products.name"] == 2
    assert named.rows("silver.products", "product_id", "name")[0] == ("P-1", BLANK_MUG)
