"""Test that a silver and a gold table, added by cells and contracts alone, work in every stage and tool."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import nbformat
import pytest

from daybook.cli.check import check_project
from daybook.contracts import load_tables
from daybook.deploy.catalogue import render_catalogue
from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import context as stages
from daybook.notebook.parameters import notebook_path
from daybook.notebook.stale_dates import mark_stale_dates
from daybook.privacy import load_keys, make_pseudonym
from daybook.privacy.erasure.erase import erase
from daybook.settings import load_settings
from tests.conftest import Project
from tests.sessions import Session, new_session

pytestmark = pytest.mark.slow

EARLY, DAY, LATE = "2025-05-10", "2025-05-11", "2025-05-12"
FILES = Path(__file__).parent / "new_tables"
"""The files that the project adds, by their paths in it."""
CELLS = {
    "transform": (
        "transform.merge_silver(",
        """%%sql silver.shipments
SELECT shipment_id, order_id, carrier, recipient_key, weight_kg, version_at, landed_on
FROM mapped.shipments
QUALIFY row_number() OVER (
  PARTITION BY landed_on, shipment_id ORDER BY version_at DESC, _source_file DESC, _row_number DESC
) = 1""",
    ),
    "aggregate": (
        "aggregate.write_candidates(",
        """%%sql gold.sales_by_carrier
SELECT
  c.order_date, s.carrier, COUNT(DISTINCT s.order_id) AS shipped_orders,
  SUM(CASE WHEN l.is_sold THEN l.line_amount ELSE 0 END) AS shipped_revenue
FROM counted AS c
JOIN silver.shipments AS s ON s.order_id = c.order_id
JOIN lines AS l ON l.order_id = c.order_id
GROUP BY c.order_date, s.carrier""",
    ),
    "quality": (
        "quality.publish(",
        """%%sql carriers_from_silver --quiet
SELECT l.counts_on AS order_date, SUM(l.line_amount) AS shipped_revenue
FROM checked_lines AS l JOIN silver.shipments AS s ON s.order_id = l.order_id
WHERE l.is_sold
GROUP BY l.counts_on
---
%%sql carriers_from_candidates --quiet
SELECT order_date, SUM(shipped_revenue) AS shipped_revenue FROM candidate.sales_by_carrier GROUP BY order_date
---
quality.reconcile(stage, audit, candidate="carriers_from_candidates", silver="carriers_from_silver")""",
    ),
}
"""The beginning of the cell before which the cells are added, by stage."""


class Shop:
    """A deployment ``carriers`` whose source lands shipments."""

    def __init__(self, session: Session, home: Path) -> None:
        self.session, self.home = session, home
        self.settings = load_settings("carriers")

    def land(self, day: str, name: str, header: str, *rows: str) -> None:
        folder = self.home / "carriers" / "landing" / day
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}.csv").write_text("\n".join([header, *rows, ""]), encoding="utf-8")

    def land_day(self, day: str, orders: dict[str, str], shipments: tuple[str, ...] = ()) -> None:
        """Land an order of two lines over 30.00 for each customer by its id, and shipments."""
        self.land(
            day, "orders", "id,customer,at,state", *(f"{each},{who},{day} 09:00:00 +0000,paid" for each, who in orders.items())
        )
        self.land(
            day, "lines", "order_id,number,product,qty,price", *(f"{each},{n},Wax,1,{n}0.00" for each in orders for n in (1, 2))
        )
        self.land(day, "shipments", "id,order_id,carrier,recipient,kg,changed", *shipments)

    def run_range(self, first: str, last: str) -> str:
        return self.session.run_range(first, last, 1, {}, env="carriers")

    def run(self, day: str, number: int = 1) -> str:
        return self.session.run_day(day, number, {}, env="carriers")

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return DuckDBEngine(Lake(str(self.home / "carriers" / "lake")), "UTC").rows(sql)

    def sales(self) -> list[tuple[str, str, int, Decimal]]:
        return [(str(day), *rest) for day, *rest in self.rows("SELECT * FROM gold.sales_by_carrier ORDER BY ALL")]


def add_cells(project: Project) -> None:
    for stage, (before, cells) in CELLS.items():
        path = notebook_path(stage)
        notebook = nbformat.read(path, as_version=4)
        place = next(n for n, cell in enumerate(notebook.cells) if cell.source.startswith(before))
        notebook.cells[place:place] = [nbformat.v4.new_code_cell(source) for source in cells.split("\n---\n")]
        nbformat.write(notebook, path)


@pytest.fixture
def shop(project: Project, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    for file in FILES.rglob("*.yaml"):
        project.write(file.relative_to(FILES).as_posix(), file.read_text(encoding="utf-8"))
    add_cells(project)
    monkeypatch.setenv("IPYTHONDIR", str(home / "ipython"))
    monkeypatch.setattr(stages, "current", None)
    home.mkdir(exist_ok=True)
    monkeypatch.chdir(home)
    with new_session() as session:
        yield Shop(session, home)


@pytest.fixture
def two_days(shop: Shop) -> Shop:
    """Two dates: order A of Ann is shipped on its date, order B of Bob is not."""
    shop.land_day(EARLY, {"A": "ann", "B": "bob"}, (f"S1,A,DHL,ann,1.5,{EARLY} 10:00:00 +0000",))
    shop.land_day(DAY, {"C": "ann"}, (f"S2,C,UPS,ann,2.5,{DAY} 10:00:00 +0000",))
    assert shop.run_range(EARLY, DAY) == "SUCCEEDED"
    return shop


def test_table_is_added_by_cells_and_contracts_alone(two_days: Shop) -> None:
    assert not [each for each in check_project() if each.problems]
    assert two_days.rows("SELECT shipment_id, order_id, carrier FROM silver.shipments ORDER BY 1") == [
        ("S1", "A", "DHL"),
        ("S2", "C", "UPS"),
    ]
    assert two_days.sales() == [(EARLY, "DHL", 1, 30), (DAY, "UPS", 1, 30)]


def test_late_shipment_restates_the_date_of_its_order(two_days: Shop) -> None:
    two_days.land_day(LATE, {"D": "bob"}, (f"S3,B,UPS,bob,1,{LATE} 10:00:00 +0000",))
    assert two_days.run(LATE) == "SUCCEEDED"
    assert two_days.sales() == [(EARLY, "DHL", 1, 30), (EARLY, "UPS", 1, 30), (DAY, "UPS", 1, 30)]
    assert stages.current is not None
    assert stages.current.details["published_dates"] == [EARLY, LATE]


def test_change_that_gold_does_not_read_restates_nothing(two_days: Shop) -> None:
    two_days.land_day(LATE, {"D": "bob"}, (f"S1,A,DHL,ann,9.5,{LATE} 10:00:00 +0000",))
    assert two_days.run(LATE) == "SUCCEEDED"
    assert two_days.rows("SELECT weight_kg FROM silver.shipments WHERE shipment_id = 'S1'") == [(Decimal("9.5"),)]
    assert stages.current is not None
    assert stages.current.details["published_dates"] == [LATE]


def test_landed_rows_are_validated_by_the_landing_contract(two_days: Shop) -> None:
    two_days.land_day(LATE, {"D": "bob"}, ("S4,D,DHL,bob,-3,", f"S5,D,DHL,bob,3,{LATE} 10:00:00 +0000"))
    assert two_days.run(LATE) == "SUCCEEDED"
    assert two_days.rows("SELECT shipment_id FROM silver.shipments WHERE order_id = 'D'") == [("S5",)]
    assert two_days.rows(f"SELECT count(*) FROM quarantine.shipments WHERE run_date = DATE '{LATE}'") == [(1,)]


def test_row_that_breaks_the_silver_contract_stops_the_date(two_days: Shop) -> None:
    two_days.land_day(LATE, {"D": "bob"}, (f"S4,D,Pigeon,bob,3,{LATE} 10:00:00 +0000",))
    assert two_days.run(LATE) == "REJECTED"
    assert two_days.sales() == [(EARLY, "DHL", 1, 30), (DAY, "UPS", 1, 30)]


def test_figures_that_differ_from_silver_stop_the_date(two_days: Shop, project: Project) -> None:
    project.replace(
        "notebooks/4_aggregate.ipynb",
        "THEN l.line_amount ELSE 0 END) AS shipped_revenue",
        "THEN 1 ELSE 0 END) AS shipped_revenue",
    )
    two_days.land_day(LATE, {"D": "bob"}, (f"S4,D,DHL,bob,3,{LATE} 10:00:00 +0000",))
    assert two_days.run(LATE) == "REJECTED"


def test_lineage_leads_from_gold_to_landed_columns(two_days: Shop) -> None:
    assert stages.current is not None
    two_days.land_day(LATE, {"D": "bob"}, (f"S4,D,DHL,bob,3,{LATE} 10:00:00 +0000",))
    found: dict[str, Any] = {}
    end = stages.Stage._end

    def noted(stage: stages.Stage, *args: Any) -> None:
        found.update(stage.details.get("lineage", {}))
        assert not stage.details.get("lineage_gaps")
        end(stage, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages.Stage, "_end", noted)
        assert two_days.run(LATE) == "SUCCEEDED"
    assert "silver.shipments.carrier" in found["gold.sales_by_carrier"]["columns"]["carrier"]
    assert "bronze.shipments.carrier" in found["silver.shipments"]["columns"]["carrier"]
    assert "silver.orders.order_date" in found["silver.customers"]["columns"]["first_order_date"]


def test_erased_person_leaves_the_new_table(two_days: Shop) -> None:
    ann = make_pseudonym(load_keys(two_days.settings.pii_key), "ann")
    assert (ann,) in two_days.rows("SELECT recipient_key FROM silver.shipments")
    erase(two_days.settings, "ann", "asked to be", mark_stale_dates)
    assert (ann,) not in two_days.rows("SELECT recipient_key FROM silver.shipments")
    assert two_days.rows("SELECT DISTINCT recipient FROM bronze.shipments WHERE recipient LIKE '%ann%'") == []


def test_both_tables_are_registered_in_athena(shop: Shop) -> None:
    infra = Path(__file__).resolve().parents[2] / "infra"
    template = render_catalogue((infra / "catalogue.yaml").read_text(encoding="utf-8"))
    for table in ("silver.shipments", "gold.sales_by_carrier"):
        layer, name = table.split(".")
        assert f"  {layer.capitalize()}{''.join(map(str.capitalize, name.split('_')))}:" in template
        assert f"/{layer}/{name}/" in template
        assert [each for each in load_tables(layer)[table].columns if f"- Name: {each}\n" not in template] == []
