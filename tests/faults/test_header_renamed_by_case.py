"""Test columns whose spelling changes by case: rows, erasures and redaction stay correct.

Lakes of earlier releases, which stored such a column under both spellings, are tested too.
"""

from __future__ import annotations

import shutil
import unicodedata
from collections.abc import Iterator
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from deltalake import DeltaTable, write_deltalake

from daybook.contracts import files as contract_files
from daybook.engines import DuckDBEngine
from daybook.lake.delta import open_dataset
from daybook.lake.tables import Lake
from daybook.notebook.stale_dates import mark_stale_dates
from daybook.privacy import load_keys, make_pseudonym
from daybook.privacy.erasure import ErasureResult, erase
from daybook.privacy.rekey import rekey
from daybook.privacy.run_values import build_redactor
from daybook.settings import Settings, load_settings, project_root
from daybook.sources import config
from tests.conftest import Project
from tests.faults.conftest import add_deployment
from tests.notebook.conftest import session
from tests.sessions import Session, new_session

pytestmark = pytest.mark.slow

__all__ = ["session"]

HERE = Path(__file__).parent / "header_renamed_by_case"
DAY1, DAY2 = "2025-11-01", "2025-11-13"
CONTRACT, SOURCE = "params/contracts/landing/odd.yaml", "params/sources/odd.yaml"
NOON = datetime(2025, 11, 13, 11, tzinfo=timezone.utc)


def clear_caches() -> None:
    """Clear the caches of contracts and sources."""
    for read in (contract_files._load_cached, config._load_source_cached):
        read.cache_clear()


class Shop:
    """The deployment ``odd``, run in this process."""

    def __init__(self, session: Session, project: Project) -> None:
        self.session, self.project = session, project

    @property
    def settings(self) -> Settings:
        return load_settings("odd")

    def land(self, day: str, folder: str, *renamed: tuple[str, str]) -> None:
        """Land the files of a folder for a date, with renamed columns in the header of orders."""
        target = Path(self.settings.landing) / "o" / day
        shutil.copytree(HERE / folder, target)
        header, rows = (target / "orders.csv").read_text(encoding="utf-8").split("\n", 1)
        for old, new in renamed:
            assert old in header
            header = header.replace(old, new)
        (target / "orders.csv").write_text(f"{header}\n{rows}", encoding="utf-8")

    def rename_in_contract(self, *renamed: tuple[str, str]) -> None:
        """Rename columns in the contract and the source."""
        for old, new in renamed:
            self.project.replace(CONTRACT, f"name: {old}", f"name: {new}")
            self.project.replace(SOURCE, f": {old}", f": {new}")
        if any(old == "customer" for old, _ in renamed):
            self.project.replace(SOURCE, "customer_key: customer", "customer_key: Customer")
        clear_caches()

    def run(self, day: str, number: int = 1) -> str:
        return self.session.run_day(day, number, {}, env="odd")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return DuckDBEngine(Lake(self.settings.lake), self.settings.timezone).rows(sql)

    def key_of(self, customer: str) -> str:
        return str(make_pseudonym(load_keys(self.settings.pii_key), customer))

    def orders(self) -> list[tuple[Any, ...]]:
        return self.rows("SELECT order_id, customer_key, shipped_at, status FROM silver.orders ORDER BY order_id")

    def erase(self, customer: str) -> ErasureResult:
        return erase(self.settings, customer, "asked to be", mark_stale_dates)

    def stored(self, table: str) -> DeltaTable:
        return DeltaTable(Lake(self.settings.lake).uri(table))

    def columns(self, table: str) -> list[str]:
        return [field.name for field in self.stored(table).schema().fields]


@pytest.fixture
def shop(session: Session, project: Project) -> Shop:
    add_deployment(project.root, "odd", "odd")
    return Shop(session, project)


RENAMED = (("customer", "Customer"), ("shipped_at", "Shipped_At"))


@pytest.fixture
def renamed(shop: Shop, home: Path, two_days: tuple[Path, Path]) -> Shop:
    """Provide the shop after a day with the old header and a day with the new one."""
    for source, copy in zip(two_days, (shop.project.root, home)):
        shutil.copytree(source, copy, dirs_exist_ok=True)
    return shop


@pytest.fixture(scope="module")
def two_days(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    """Provide project and home of that shop, built once."""
    root, home = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("home")
    for folder in ("params", "notebooks"):
        shutil.copytree(project_root() / folder, root / folder)
    add_deployment(root, "odd", "odd")
    with pytest.MonkeyPatch.context() as patch, new_session() as session:
        patch.setenv("DAYBOOK_PROJECT", str(root))
        patch.setenv("DAYBOOK_HOME", str(home))
        patch.setenv("IPYTHONDIR", str(home / "ipython"))
        patch.chdir(home)
        shop = Shop(session, Project(root))
        shop.land(DAY1, "day1")
        assert shop.run(DAY1) == "SUCCEEDED"
        shop.rename_in_contract(*RENAMED)
        shop.land(DAY2, "day2")
        assert shop.run(DAY2) == "SUCCEEDED"
    yield root, home


def test_renamed_column_keeps_its_values(renamed: Shop) -> None:
    assert renamed.orders() == [
        ("A1", renamed.key_of("900021"), datetime(2025, 11, 1, 11, tzinfo=timezone.utc), "paid"),
        ("S1", renamed.key_of("900131"), NOON, "paid"),
        ("S2", renamed.key_of("900132"), NOON, "paid"),
    ]
    assert renamed.rows(f"SELECT new_customers FROM gold.daily_sales WHERE order_date = DATE '{DAY2}'") == [(2,)]
    assert renamed.columns("bronze.orders").count("customer") == 1 and "Customer" not in renamed.columns("bronze.orders")


def test_erase_finds_customers_of_both_spellings(renamed: Shop) -> None:
    for customer in ("900131", "900021"):
        assert renamed.erase(customer).proof.is_clean
        assert renamed.rows(f"SELECT count(*) FROM bronze.orders WHERE customer = '{customer}'") == [(0,)]
    assert [key for _, key, *_ in renamed.orders()] == [None, None, renamed.key_of("900132")]


def test_renamed_required_column_is_present(shop: Shop) -> None:
    shop.project.replace(CONTRACT, "{name: status, logicalType: string,", "{name: status, required: true, logicalType: string,")
    shop.land(DAY1, "day1")
    assert shop.run(DAY1) == "SUCCEEDED"
    shop.rename_in_contract(("status", "Status"))
    shop.land(DAY2, "day2", ("status", "Status"), ("Customer", "customer"), ("Shipped_At", "shipped_at"))
    assert shop.run(DAY2) == "SUCCEEDED"
    assert [status for *_, status in shop.orders()] == ["paid"] * 3


def test_header_may_differ_from_the_contract(shop: Shop) -> None:
    shop.land(DAY2, "day2", ("Customer", " CUSTOMER "), ("Shipped_At", "shipped_AT"), ("status", '"Status "'))
    assert shop.run(DAY2) == "SUCCEEDED"
    assert shop.orders()[0] == ("S1", shop.key_of("900131"), NOON, "paid")
    assert shop.rows("SELECT customer FROM bronze.orders ORDER BY 1") == [("900131",), ("900132",)]


def test_non_ascii_column_may_be_renamed(shop: Shop) -> None:
    composed, decomposed = "Käufer", unicodedata.normalize("NFD", "Käufer")
    for file in (CONTRACT, SOURCE):
        text = (shop.project.root / file).read_text(encoding="utf-8")
        text = text.replace("name: customer", f"name: {composed}").replace(
            "customer_key: customer", f"customer_key: {composed}"
        )
        shop.project.write(file, text.replace("orders: customer", f"orders: {composed}"))
    clear_caches()
    shop.land(DAY1, "day1", ("customer", decomposed))
    assert shop.run(DAY1) == "SUCCEEDED"
    for file in (CONTRACT, SOURCE):
        text = (shop.project.root / file).read_text(encoding="utf-8")
        # Contract and source have the decomposed form, as if pasted from a header.
        shop.project.write(file, text.replace(composed, unicodedata.normalize("NFD", "KÄUFER")))
    clear_caches()
    shop.land(DAY2, "day2", ("Customer", "käufer"))
    assert shop.run(DAY2) == "SUCCEEDED"
    assert [key for _, key, *_ in shop.orders()] == [shop.key_of(each) for each in ("900021", "900131", "900132")]
    assert shop.erase("900131").proof.is_clean and shop.erase("900021").proof.is_clean


SILVER = {
    "silver/orders": ("status", "shipped_at", "customer_key", "order_id", "order_date"),
    "silver/customers": ("customer_key", "first_order_date", "city"),
    "gold/daily_sales": ("net_revenue", "orders", "order_date"),
}


def test_renamed_column_of_a_table_keeps_its_values(shop: Shop) -> None:
    customers = "  customers:\n    - from: orders\n      columns: {customer_key: customer, version_at: updated_at}\n"
    shop.project.replace(SOURCE, "  order_items:\n", f"{customers}  order_items:\n")
    shop.land(DAY1, "day1")
    assert shop.run(DAY1) == "SUCCEEDED"
    before = shop.stored("silver.orders").version()
    for table, names in SILVER.items():
        for name in names:
            shop.project.replace(f"params/contracts/{table}.yaml", f"name: {name}", f"name: {name.title()}")
    clear_caches()
    shop.land(DAY2, "day2", ("Customer", "customer"))
    assert shop.run(DAY2) == "SUCCEEDED"
    assert shop.run(DAY1, 2) == "SUCCEEDED"
    assert [row[::3] for row in shop.orders()] == [("A1", "paid"), ("S1", "paid"), ("S2", "paid")]
    engine = DuckDBEngine(Lake(shop.settings.lake), "UTC")
    assert {"Status", "Order_Id"} < set(engine.query("SELECT * FROM silver.orders").columns)
    keys = [shop.key_of(each) for each in ("900021", "900131", "900132")]
    assert [key for _, key, *_ in shop.orders()] == keys
    assert shop.rows("SELECT Order_Date, Orders FROM gold.daily_sales ORDER BY 1") == [
        (date(2025, 11, 1), 1),
        (date(2025, 11, 13), 2),
    ]
    days = [date(2025, 11, 1), date(2025, 11, 13), date(2025, 11, 13)]
    assert sorted(shop.rows("SELECT customer_key, first_order_date FROM silver.customers")) == sorted(zip(keys, days))
    for table in ("silver.orders", "versions.orders"):
        assert len({name.lower() for name in shop.columns(table)}) == len(shop.columns(table))
    assert shop.stored("silver.orders").version() > before
    assert "silver.orders" in rekey(shop.settings.lake, shop.settings.pii_key, "odd").tables
    assert [key for _, key, *_ in shop.orders()] == [shop.key_of(each) for each in ("900021", "900131", "900132")]
    assert shop.erase("900131").rows["silver.orders"] == 1


# Lakes of earlier releases


def split_column(delta: DeltaTable, name: str, other: str, where: pc.Expression) -> None:
    """Store the values of some rows under another spelling, as earlier releases did after a rename."""
    rows = open_dataset(delta).to_table()
    partitions = list(delta.metadata().partition_columns) or None
    moved = rows.filter(where)
    moved = moved.rename_columns([other if each == name else each for each in moved.column_names])
    write_deltalake(delta, rows.filter(~where), mode="overwrite", schema_mode="overwrite", partition_by=partitions)
    write_deltalake(delta, moved, mode="append", schema_mode="merge")


@pytest.fixture
def legacy(renamed: Shop) -> Shop:
    """Provide a lake of an earlier release, with a column under two spellings in bronze, silver and versions."""
    second = pc.field("run_date") == pa.scalar(date.fromisoformat(DAY2))
    for name, other in RENAMED:
        split_column(renamed.stored("bronze.orders"), name, other, second)
    for table in ("silver.orders", "versions.orders"):
        split_column(renamed.stored(table), "status", "Status", pc.field("order_id") == "S1")
    assert {"customer", "Customer"} < set(renamed.columns("bronze.orders"))
    return renamed


def test_columns_stored_twice_read_as_one(legacy: Shop) -> None:
    found = legacy.rows("SELECT customer, SHIPPED_AT FROM bronze.orders ORDER BY customer")
    assert [customer for customer, _ in found] == ["900021", "900131", "900132"]
    assert all(shipped for _, shipped in found)
    assert [status for *_, status in legacy.orders()] == ["paid"] * 3
    columns = DuckDBEngine(Lake(legacy.settings.lake), "UTC").query("SELECT * FROM bronze.orders").columns
    assert columns.count("Customer") == 1 and "customer" not in columns


def test_next_run_merges_columns_stored_twice(legacy: Shop) -> None:
    orders, before = legacy.orders(), legacy.stored("bronze.orders").version()
    assert legacy.run(DAY2, 2) == "SUCCEEDED"
    for table in ("bronze.orders", "silver.orders", "versions.orders"):
        assert len({name.lower() for name in legacy.columns(table)}) == len(legacy.columns(table))
    rows = open_dataset(legacy.stored("bronze.orders")).to_table().to_pylist()
    assert sorted(row["Customer"] for row in rows) == ["900021", "900131", "900132"]
    earlier = open_dataset(DeltaTable(Lake(legacy.settings.lake).uri("bronze.orders"), version=before)).to_table()
    assert earlier.num_rows == 3 and {"customer", "Customer"} < set(earlier.column_names)
    assert legacy.run(DAY1, 2) == "SUCCEEDED"
    assert legacy.orders() == orders


@pytest.mark.parametrize("customer", ["900021", "900131"])
def test_erase_on_columns_stored_twice(legacy: Shop, customer: str) -> None:
    key = legacy.key_of(customer)
    result = legacy.erase(customer)
    assert result.proof.is_clean and result.rows["bronze.orders"] == 1
    assert key not in [each for _, each, *_ in legacy.orders()]
    assert legacy.rows(f"SELECT count(*) FROM bronze.orders WHERE customer = '{customer}'") == [(0,)]
    assert legacy.rows("SELECT count(customer) FROM bronze.orders") == [(3,)]


def test_rekey_on_columns_stored_twice(legacy: Shop) -> None:
    for table in ("silver.orders", "versions.orders"):
        split_column(legacy.stored(table), "customer_key", "Customer_Key", pc.field("order_id") == "S2")
    rekey(legacy.settings.lake, legacy.settings.pii_key, "odd")
    assert [key for _, key, *_ in legacy.orders()] == [legacy.key_of(each) for each in ("900021", "900131", "900132")]


def test_redaction_of_columns_stored_twice(legacy: Shop) -> None:
    Path(legacy.settings.archive).mkdir(parents=True, exist_ok=True)
    for day, customer in ((DAY1, "900021"), (DAY2, "900131")):
        assert customer not in build_redactor(legacy.settings, f"daily-{day}-1", stage="validate").redact_text(
            f"it was {customer}"
        )


def test_views_hide_personal_columns_in_any_case(renamed: Shop) -> None:
    renamed.session.value(f"from daybook.notebook import begin\nstage = begin('validate', env='odd', run_date='{DAY2}')")
    shown = renamed.session.value("%%sql --rows 100\nSELECT CUSTOMER, status FROM bronze.orders")
    assert shown.rows
    assert all(len(customer) == 32 for customer, _ in shown.rows)
