"""Provide what all systems share: landing files, SELECTs, workspaces, and the comparison of gold tables."""

from __future__ import annotations

import json
import os
import shutil
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import duckdb
from deltalake import DeltaTable

from daybook.contracts import load_tables
from daybook.privacy import load_keys
from daybook.settings import project_root
from demo_shop import generate
from tests.cells import load_sql_cells

LAST_DAY = date(2025, 11, 30)
"""The demo shop's last day, which is measured."""
EARLIER_DAYS = 2
"""Number of earlier days in each lake, so that the measured day merges and restates."""


def list_days(count: int, last: date = LAST_DAY) -> list[str]:
    """Return ``count`` consecutive dates up to ``last``."""
    return [(last - timedelta(days=back)).isoformat() for back in reversed(range(count))]


def make_demo(landing: Path) -> None:
    """Generate the files of `daybook demo` unless they exist."""
    if not landing.exists():
        generate(landing, last_day=LAST_DAY)


def make_large_day(landing: Path, *, orders: int, lines: int) -> None:
    """Generate the files of one large day unless they exist; values are hashes, so the bytes are always the same."""
    if landing.exists():
        return
    day, customers, products = LAST_DAY.isoformat(), max(orders // 2, 1), 5_000
    at = f"strftime(TIMESTAMP '{day} 00:00:01' + to_seconds(CAST(hash(n) % 80000 AS BIGINT)), '%Y-%m-%d %H:%M:%S')"
    tables = {
        "orders": f"""SELECT format('DB-{{:08d}}', n) AS order_id,
            format('C-{{:08d}}', hash(n + 1) % {customers}) AS customer_id,
            CASE WHEN n % 50 = 0 THEN 'cancelled' ELSE 'paid' END AS status, {at} AS ordered_at, {at} AS approved_at,
            '' AS shipped_at, '' AS delivered_at, '' AS estimated_delivery_at, 'Leipzig' AS ship_city, 'Sachsen' AS ship_state,
            'DE' AS ship_country, {at} AS updated_at FROM range({orders}) AS t(n)""",
        "order_items": f"""SELECT format('DB-{{:08d}}', n % {orders}) AS order_id, n // {orders} + 1 AS line_number,
            format('P-{{:05d}}', hash(n) % {products}) AS product_id, format('S-{{:02d}}', n % 50) AS seller_id,
            n % 4 + 1 AS quantity, printf('%.2f', hash(7 * n) % 10000 / 100.0 + 0.5) AS unit_price, '4.95' AS freight
            FROM range({lines}) AS t(n)""",
        "payments": f"""SELECT format('DB-{{:08d}}', n) AS order_id, 1 AS sequence,
            ['credit_card', 'paypal', 'invoice'][1 + n % 3] AS method, 1 AS installments,
            printf('%.2f', hash(3 * n) % 20000 / 100.0 + 1) AS amount FROM range({orders}) AS t(n)""",
        "customers": f"""SELECT format('C-{{:08d}}', n) AS customer_id, 'First' AS first_name, 'Last' || n AS last_name,
            'c' || n || '@example.com' AS email, '' AS phone, 'Lindenstraße ' || n % 99 AS street, '04199' AS postal_code,
            'Leipzig' AS city, 'Sachsen' AS state, 'DE' AS country, '{day} 00:00:00' AS registered_at,
            '{day} 00:00:00' AS updated_at FROM range({customers}) AS t(n)""",
        "products": f"""SELECT format('P-{{:05d}}', n) AS product_id, 'Ding ' || n AS name,
            format('K-{{:02d}}', n % 14) AS category_id, '9.99' AS list_price, '{day} 00:00:00' AS updated_at
            FROM range({products}) AS t(n)""",
        "categories": """SELECT format('K-{:02d}', n) AS category_id, 'Category ' || n AS category_name, 'Home' AS department
            FROM range(14) AS t(n)""",
    }
    temporary = landing.with_name(f"{landing.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    source = duckdb.connect(config={"memory_limit": "2GB", "threads": 2})
    for name, sql in tables.items():
        folder = temporary / name / day
        folder.mkdir(parents=True)
        source.execute(f"COPY ({sql}) TO '{folder / name}.csv' (HEADER)")
    temporary.rename(landing)


def write_texts(file: Path) -> None:
    """Write what all systems share: the project's SELECTs of silver and gold, and the column types of their contracts."""
    cells = {**load_sql_cells("transform"), **load_sql_cells("aggregate")}
    tables = {**load_tables("silver"), **load_tables("gold")}
    document = {
        "silver": {name.split(".")[1]: sql for name, sql in cells.items() if name.startswith("silver.")},
        "gold": {name.split(".")[1]: sql for name, sql in cells.items() if name.startswith("gold.")},
        "views": {name: sql for name, sql in cells.items() if "." not in name},
        "types": {name: {column: each.type_of(column) for column in each.columns} for name, each in tables.items()},
        "keys": {each.name: each.key for each in load_tables("gold").values()},
    }
    file.write_text(json.dumps(document))


class Workspace:
    """A folder with its own lake, archive and key; workspaces share a landing folder."""

    def __init__(self, root: Path, landing: Path) -> None:
        self.root = root
        self.landing = landing

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    def make(self) -> Workspace:
        """Create the folder, or empty it, with the key that all workspaces share."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        key = self.root / "pii.key"
        key.write_text("5a" * 32 + "\n")
        key.chmod(0o600)
        load_keys(str(key))
        write_texts(self.root / "texts.json")
        return self

    def copy(self, root: Path) -> Workspace:
        """Copy the workspace; table files, which never change, are hard links."""
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.root, root, ignore=shutil.ignore_patterns("scratch", "out", "lake"))
        if self.lake.exists():
            shutil.copytree(self.lake, root / "lake", copy_function=os.link)
        return Workspace(root, self.landing)

    def arguments(self, dates: str) -> dict[str, str]:
        """Return the arguments of the functions written by hand for a date, or for a range as ``FIRST..LAST``."""
        run_date, _, until = dates.partition("..")
        return {
            "landing": str(self.landing), "lake": str(self.lake), "run_date": run_date, "until": until,
            "key": str(self.root / "pii.key"), "texts": str(self.root / "texts.json"),
        }  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return the environment variables with which Daybook uses this workspace."""
        return {**os.environ, "DAYBOOK_HOME": str(self.root), "PYTHONPATH": import_path()}


def import_path() -> str:
    """Return the PYTHONPATH of this project for a new process."""
    return os.pathsep.join([str(project_root() / "orchestration"), str(project_root())])


def read_gold(lake: Path, since: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return the sorted rows of all gold tables from the date ``since`` on."""
    found = {}
    database = duckdb.connect()
    for contract in load_tables("gold").values():
        database.register("rows", DeltaTable(str(lake / "gold" / contract.name)).to_pyarrow_dataset())
        where = f"WHERE order_date >= DATE '{since}'" if "order_date" in contract.columns else ""
        columns = ", ".join(
            f"round({name}, 9) AS {name}" if contract.type_of(name) == "DOUBLE" else name for name in contract.columns
        )
        found[contract.name] = database.sql(f"SELECT {columns} FROM rows {where} ORDER BY ALL").fetchall()
    return found


def require_same_gold(system: str, lake: Path, expected: dict[str, list[tuple[Any, ...]]], since: str) -> None:
    """Raise AssertionError if a system's gold differs from ``expected``."""
    found = read_gold(lake, since)
    for table, rows in expected.items():
        if found[table] != rows:
            differing = [pair for pair in zip(found[table], rows) if pair[0] != pair[1]]
            raise AssertionError(
                f"{system}: gold.{table} has {len(found[table])} rows, expected {len(rows)}; first difference: {differing[:1]}"
            )
    if not expected["daily_sales"]:
        raise AssertionError(f"{system}: there are no daily sales to compare")
