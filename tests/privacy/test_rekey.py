"""Test that a rekey converts all pseudonyms once, also after a kill, and leaves no old ones."""

from __future__ import annotations

import shutil
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from daybook.contracts import load_table
from daybook.errors import DaybookError, StageError
from daybook.lake.tables import Lake
from daybook.privacy import load_keys, make_pseudonym
from daybook.privacy.rekey import rekey, require_keys
from tests.conftest import Killed, Killer
from tests.lake.writing import replace_date

PEOPLE = ("C-1", "C-2", "C-3")
DAY = date(2025, 11, 1)
MOMENT = datetime(2025, 11, 1, tzinfo=timezone.utc)
CUSTOMERS, ORDERS, RFM = (load_table(name) for name in ("silver.customers", "silver.orders", "gold.customer_rfm"))


def rows(contract: Any, people: list[Any]) -> pa.Table:
    """Return one row per pseudonym, with a number in its key if the key has more columns."""
    values = {"customer_key": people, "order_id": [f"O-{n}" for n in range(len(people))]}
    filled = {"landed_on": [DAY] * len(people), "version_at": [MOMENT] * len(people)}
    return pa.table(
        {
            item.name: pa.array({**values, **filled}.get(item.name, [None] * len(people)), item.arrow_type)
            for item in contract.properties
        }
    )


def put(lake: Lake, table: str, found: pa.Table) -> None:
    """Write rows in two commits, so that there is an old version."""
    replace_date(lake, table, found.slice(0, 1), DAY)
    replace_date(lake, table, found, DAY)


class Shop:
    """A lake with pseudonyms in four layers, a development copy and a candidate, and its key."""

    def __init__(self, root: Path) -> None:
        self.root, self.key = str(root / "lake"), str(root / "pii.key")

    def fill(self) -> None:
        keys = load_keys(self.key)
        people = [make_pseudonym(keys, person) for person in PEOPLE]
        for lake in (Lake(self.root, run_id="daily-2025-11-01-1"), Lake(self.root, development="ann")):
            put(lake, "silver.customers", rows(CUSTOMERS, people))
            put(lake, "silver.orders", rows(ORDERS, [*people, people[0], None]))
            put(lake, "gold.customer_rfm", rows(RFM, people[:2]))
            put(lake, "control.erased", pa.table({"customer_key": people[2:]}))
            put(lake, "bronze.customers", pa.table({"customer_id": list(PEOPLE)}))
            lake.write_candidate("candidate.customer_rfm", rows(RFM, people[:2]))
        require_keys(self.root, keys, "local", note=True)

    def content(self) -> dict[str, list[Any]]:
        """Return the pseudonyms in every table, in their order."""
        found = {}
        for lake in (Lake(self.root), Lake(self.root, development="ann")):
            for table in ("silver.customers", "silver.orders", "gold.customer_rfm", "control.erased"):
                dataset = lake.dataset(table)
                assert dataset is not None
                found[f"{lake.development}/{table}"] = sorted(dataset.to_table().column("customer_key").to_pylist(), key=repr)
        return found

    def expected(self) -> dict[str, list[Any]]:
        """Return the pseudonyms of a lake that was filled with the current keys."""
        one, two, three = (make_pseudonym(load_keys(self.key), person) for person in PEOPLE)
        tables = {
            "silver.customers": [one, two, three],
            "silver.orders": [one, two, three, one, None],
            "gold.customer_rfm": [one, two],
            "control.erased": [three],
        }
        return {f"{user}/{name}": sorted(found, key=repr) for user in ("", "ann") for name, found in tables.items()}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.fill()
    return shop


def bytes_of(root: str) -> bytes:
    """Return all bytes under the lake and all texts in its Parquet files."""
    found = []
    for path in Path(root).rglob("*"):
        if path.is_file():
            found.append(path.read_bytes())
            if path.suffix == ".parquet":
                found.append(repr(pq.read_table(path).to_pylist()).encode())
    return b"\n".join(found)


def test_every_pseudonym_gets_the_new_key(shop: Shop) -> None:
    before = shop.content()
    done = rekey(shop.root, shop.key, "local")
    assert (done.old_generation, done.new_generation) == (1, 2)
    assert shop.content() == shop.expected() != before
    assert set(done.tables) == {
        *("silver.customers", "silver.orders", "gold.customer_rfm", "control.erased"),
        *("dev/ann/silver.customers", "dev/ann/silver.orders", "dev/ann/gold.customer_rfm", "dev/ann/control.erased"),
    }


def test_no_file_has_an_old_pseudonym(shop: Shop) -> None:
    old = [str(make_pseudonym(load_keys(shop.key), person)).encode() for person in PEOPLE]
    assert all(each in bytes_of(shop.root) for each in old)
    rekey(shop.root, shop.key, "local")
    assert not [each for each in old if each in bytes_of(shop.root)]


def test_other_columns_are_unchanged(shop: Shop) -> None:
    rekey(shop.root, shop.key, "local")
    bronze = Lake(shop.root).dataset("bronze.customers")
    assert bronze is not None
    assert sorted(bronze.to_table().column("customer_id").to_pylist()) == list(PEOPLE)
    orders = Lake(shop.root).dataset("silver.orders")
    assert orders is not None
    assert sorted(orders.to_table().column("order_id").to_pylist()) == [f"O-{n}" for n in range(5)]


def test_rekey_can_be_repeated(shop: Shop) -> None:
    rekey(shop.root, shop.key, "local")
    done = rekey(shop.root, shop.key, "local")
    assert (done.old_generation, done.new_generation) == (2, 3)
    assert shop.content() == shop.expected()


def test_tables_created_after_a_rekey_are_converted_once(shop: Shop) -> None:
    rekey(shop.root, shop.key, "local")
    person = make_pseudonym(load_keys(shop.key), "C-9")
    put(Lake(shop.root, run_id="daily-2025-11-01-2"), "versions.customers", rows(CUSTOMERS, [person]))
    rekey(shop.root, shop.key, "local")
    versions = Lake(shop.root).dataset("versions.customers")
    assert versions is not None
    assert versions.to_table().column("customer_key").to_pylist() == [make_pseudonym(load_keys(shop.key), "C-9")]


@pytest.mark.slow
def test_rekey_killed_at_any_write_is_finished_by_the_next(shop: Shop, tmp_path: Path, killer: Killer) -> None:
    pristine = shutil.copytree(tmp_path / "shop", tmp_path / "pristine")
    killer.aim(None)
    rekey(shop.root, shop.key, "local")
    writes = killer.writes
    assert writes > 40
    # All writes up to the removals of old files, which are alike, and some of those.
    for number in [*range(1, 22), *range(22, writes + 1, 15), writes]:
        shutil.rmtree(tmp_path / "shop")
        shutil.copytree(pristine, tmp_path / "shop")
        killer.aim(number)
        with pytest.raises(Killed):
            rekey(shop.root, shop.key, "local")
        killer.aim(None)
        generations = len(load_keys(shop.key))
        behind = refused(shop)
        assert behind or shop.content() == shop.expected(), f"write {number}: a partial rekey is not refused"
        done = rekey(shop.root, shop.key, "local")
        assert shop.content() == shop.expected(), f"write {number}"
        assert not behind or done.new_generation == generations == 2, (
            f"write {number}: the rekey started again instead of finishing"
        )
        assert not refused(shop)


def refused(shop: Shop) -> bool:
    """Return whether the start of a stage is refused."""
    try:
        require_keys(shop.root, load_keys(shop.key), "local")
    except StageError:
        return True
    return False


def test_lake_with_older_key_is_refused_until_rekey(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    other.key = shop.key
    other.fill()
    rekey(shop.root, shop.key, "local")
    with pytest.raises(StageError) as caught:
        require_keys(other.root, load_keys(shop.key), "olist")
    assert str(caught.value) == (
        "The key of pseudonyms has generation 2 and the tables have generation 1; "
        "convert them with `daybook rekey --env olist`."
    )
    done = rekey(other.root, shop.key, "olist")
    assert (done.old_generation, done.new_generation) == (1, 2)
    assert other.content() == other.expected()
    require_keys(other.root, load_keys(shop.key), "olist")


def test_key_of_another_lake_is_refused(shop: Shop, tmp_path: Path) -> None:
    before = shop.content()
    stranger = str(tmp_path / "stranger.key")
    for attempt in (lambda: require_keys(shop.root, load_keys(stranger), "local"), lambda: rekey(shop.root, stranger, "local")):
        with pytest.raises(DaybookError, match=r"were made with another key than the one in params/local\.yaml"):
            attempt()
    assert shop.content() == before
    assert len(load_keys(stranger)) == 1


def test_key_without_newest_generation_is_refused(shop: Shop) -> None:
    old = Path(shop.key).read_bytes()
    rekey(shop.root, shop.key, "local")
    Path(shop.key).write_bytes(old)
    for attempt in (
        lambda: require_keys(shop.root, load_keys(shop.key), "local"),
        lambda: rekey(shop.root, shop.key, "local"),
    ):
        with pytest.raises(DaybookError, match="restore the key of this lake with all its generations"):
            attempt()


def test_lake_without_key_record_has_the_first_key(shop: Shop) -> None:
    shutil.rmtree(Path(shop.root) / "control" / "pseudonym_keys")
    require_keys(shop.root, load_keys(shop.key), "local")
    rekey(shop.root, shop.key, "local")
    assert shop.content() == shop.expected()


def test_new_lake_accepts_any_generation(tmp_path: Path, shop: Shop) -> None:
    rekey(shop.root, shop.key, "local")
    root = str(tmp_path / "new")
    require_keys(root, load_keys(shop.key), "local")
    assert not Path(root).exists()
    require_keys(root, load_keys(shop.key), "local", note=True)
    done = rekey(root, shop.key, "local")
    assert (done.old_generation, done.new_generation) == (2, 3)


def test_log_of_an_older_table_loses_pseudonyms(shop: Shop) -> None:
    DeltaTable(f"{shop.root}/silver/customers").alter.set_table_properties({"delta.dataSkippingStatsColumns": "customer_key"})
    rekey(shop.root, shop.key, "local")
    log = b"".join(path.read_bytes() for path in (Path(shop.root) / "silver" / "customers" / "_delta_log").iterdir())
    assert not [each for person in PEOPLE if (each := str(make_pseudonym(load_keys(shop.key), person)).encode()) in log]
