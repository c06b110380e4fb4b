"""Provide a lake of two days with two customers, Ann and Bob, in every layer."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any, Optional

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daybook.contracts import load_table
from daybook.lake.tables import Lake
from daybook.privacy import load_keys, make_pseudonym
from daybook.privacy.erasure import ErasureResult, erase
from daybook.privacy.rekey import require_keys
from daybook.records.archive import Archive
from daybook.settings import Settings, load_settings
from daybook.sources import load_source
from tests.lake.writing import replace_date

FIRST, SECOND = date(2025, 11, 1), date(2025, 11, 2)
MOMENT = datetime(2025, 11, 1, tzinfo=timezone.utc)
ANN, BOB = "C-00001", "C-00002"
ANNS = {
    "first_name": "Ann",
    "last_name": "Zwölfaxing",
    "email": "ann@zwoelfaxing.example",
    "phone": "+43 660 1234567",
    "street": "Lindengasse 7",
    "postal_code": "1070",
    "city": "Wien",
}
BOBS = {**ANNS, "first_name": "Bob", "last_name": "Ypsilon", "email": "bob@ypsilon.example", "phone": "+43 660 7654321"}
COMMENT = "Ann from Lindengasse was not at home when it came"


class Shop:
    """The demo shop's lake, archive and landing in a temporary home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings: Settings = load_settings("local")
        self.root = self.settings.lake
        self.stale_dates: set[date] = set()

    def key_of(self, person: str) -> str:
        found = make_pseudonym(load_keys(self.settings.pii_key), person)
        assert found is not None
        return found

    def land(self, entity: str, day: date, *rows: dict[str, Any], lake: Optional[Lake] = None) -> None:
        """Replace the bronze rows of an entity and a date. Missing values are empty."""
        replace_date((lake or self.lake()), f"bronze.{entity}", landed(entity, day, rows), day)

    def lake(self, **options: str) -> Lake:
        return Lake(self.root, **(options or {"run_id": "daily-2025-11-01-1"}))

    def fill(self) -> None:
        """Write two days: Ann and Bob are customers with orders on both, and Ann writes a review on the second."""
        self.fill_lake(self.lake())
        require_keys(self.root, load_keys(self.settings.pii_key), "local", note=True)
        landing = Path(self.settings.landing)
        landing.mkdir(parents=True)
        (landing / "customers.csv").write_text(f"customer_id,email\n{ANN},{ANNS['email']}\n")
        (landing / "products.csv").write_text("product_id\nP-1\n")
        Archive(self.settings.archive).store.create("run_date=2025-11-01/daily-2025-11-01-1/run.json", b"{}")

    def fill_lake(self, lake: Lake) -> None:
        """Write the two days to a lake or a development copy."""
        for day in (FIRST, SECOND):
            people = [{"customer_id": ANN, **ANNS}, {"customer_id": BOB, **BOBS}]
            self.land("customers", day, *people, lake=lake)
            orders = [{"order_id": f"{name}-{day.day}", "customer_id": who, "ship_city": "Wien"} for name, who in BOTH]
            self.land("orders", day, *orders, lake=lake)
            self.land("products", day, {"product_id": "P-1", "name": "Lamp"}, lake=lake)
        self.land("reviews", SECOND, {"review_id": "R-1", "order_id": "A-1", "score": "1", "comment": COMMENT}, lake=lake)
        quarantined = landed("customers", FIRST, [{"customer_id": ANN, **ANNS}, {"customer_id": BOB, **BOBS}])
        replace_date(lake, "quarantine.customers", quarantined, FIRST)
        ann, bob = self.key_of(ANN), self.key_of(BOB)
        for layer in ("silver", "versions"):
            put(lake, f"{layer}.customers", customer_key=[ann, bob], city=["Wien", "Wien"])
            put(lake, f"{layer}.orders", order_id=["A-1", "A-2", "B-1"], customer_key=[ann, ann, bob], city=["Wien"] * 3)
        put(lake, "gold.customer_rfm", customer_key=[ann, bob], frequency=[2, 1])
        lake.write_candidate("candidate.customer_rfm", pa.table({"customer_key": [ann]}))

    def erase(self, person: str = ANN, why: str = "asked to be") -> ErasureResult:
        return erase(self.settings, person, why, self.note)

    def note(self, lake: Lake, dates: Iterable[date]) -> None:
        """Record the dates that the next run computes again."""
        self.stale_dates |= set(dates)

    def rows(self, table: str, *columns: str, development: str = "") -> list[tuple[Any, ...]]:
        """Return the table's rows, or some columns of them, sorted."""
        dataset = Lake(self.root, development=development).dataset(table)
        assert dataset is not None
        found = dataset.to_table(columns=list(columns) or None)
        return sorted(zip(*(column.to_pylist() for column in found.columns)), key=repr)

    def content(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return all rows of all tables that an erasure changes, with equal marks for erased ids."""
        return {**self.content_without_erased(), "erased": self.rows("control.erased")}

    def content_without_erased(self) -> dict[str, list[tuple[Any, ...]]]:
        """Return the rows of the tables that exist before any erasure."""
        found = {}
        for user in ("", "eve") if (Path(self.root) / "dev").is_dir() else ("",):
            for layer, names in TABLES.items():
                for name in names:
                    rows = self.rows(f"{layer}.{name}", development=user)
                    found[f"{user}/{layer}.{name}"] = sorted((tuple(map(_unsalted, row)) for row in rows), key=repr)
        return found

    def files_with(self, *texts: str) -> list[str]:
        """Return the files under lake and archive with any of the texts, in their bytes or in Parquet values."""
        found = []
        for root_folder in (Path(self.root), Path(self.settings.archive)):
            for path in root_folder.rglob("*"):
                if path.is_file():
                    text_of_file = path.read_bytes().decode("utf-8", errors="replace")
                    text_of_file += repr(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else ""
                    if any(text in text_of_file for text in texts):
                        found.append(str(path.relative_to(self.home)))
        return sorted(found)


BOTH = (("A", ANN), ("B", BOB))
TABLES = {
    "bronze": ("customers", "orders", "products", "reviews"),
    "quarantine": ("customers",),
    "silver": ("customers", "orders"),
    "versions": ("customers", "orders"),
    "gold": ("customer_rfm",),
}


def _unsalted(value: Any) -> Any:
    return "[erased:…]" if isinstance(value, str) and value.startswith("[erased:") else value


def landed(entity: str, day: date, rows: Iterable[dict[str, Any]]) -> pa.Table:
    """Return rows as ingest stores them: text with addresses and the date."""
    columns = list(load_source("demo").entities[entity].columns)
    rows = list(rows)
    table: dict[str, Any] = {"run_date": pa.array([day] * len(rows), pa.date32())}
    table.update({name: pa.array([row.get(name, "") for row in rows], pa.string()) for name in columns})
    table["_source_file"] = pa.array([f"{entity}/{day}/{entity}.csv"] * len(rows), pa.string())
    table["_row_number"] = pa.array(range(1, len(rows) + 1), pa.int64())
    for name in ("_problem", "_raw"):
        table[name] = pa.array([row.get(name) for row in rows], pa.string())
    return pa.table(table)


def put(lake: Lake, table: str, **columns: list[Any]) -> None:
    """Write rows of a silver or gold table in two commits, so that there is an old version. Missing values are null."""
    layer, name = table.split(".")
    contract = load_table(f"silver.{name}" if layer == "versions" else table)
    size = len(next(iter(columns.values())))
    defaults = {"order_date": [FIRST] * size, "landed_on": [FIRST] * size, "version_at": [MOMENT] * size, **columns}
    rows = pa.table(
        {item.name: pa.array(defaults.get(item.name, [None] * size), item.arrow_type) for item in contract.properties}
    )
    replace_date(lake, table, rows.slice(0, 1), FIRST)
    replace_date(lake, table, rows, FIRST)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home with the shop's two days, to copy."""
    home = tmp_path_factory.mktemp("filled") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_HOME", str(home))
        Shop(home).fill()
    return home


@pytest.fixture
def shop(filled: Path, home: Path) -> Shop:
    """Return a copy of the shop with its two days."""
    shutil.copytree(filled, home)
    return Shop(home)
