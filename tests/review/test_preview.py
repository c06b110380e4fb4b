"""Test previews through the command line, on the demo shop and on Online Retail: the real notebooks, records and lake."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from daybook.lake.tables import development_user
from daybook.review.preview import Preview
from daybook.settings import load_settings
from demo_shop import generate
from tests.runs.shop import PROJECT, DaybookHome, copy_project, insert_into_last_cell

pytestmark = pytest.mark.slow
AGGREGATE, QUALITY = "4_aggregate", "5_quality"
RETURNING = "f.first_order_date < c.order_date THEN"
"""What makes a customer a returning one, in notebook 4."""


@dataclass
class Shop:
    """A shop with some published dates, and a copy of the project that a test can change."""

    env: str
    project: Path
    home: DaybookHome
    options: tuple[str, ...] = ()

    def notebook(self, name: str) -> Path:
        return self.project / "notebooks" / f"{name}.ipynb"

    def change(self, name: str, old: str, new: str) -> None:
        """Change the source of a notebook's cells."""
        text = self.notebook(name).read_text(encoding="utf-8")
        assert old in text
        self.notebook(name).write_text(text.replace(old, new), encoding="utf-8")

    def preview(self, *options: str) -> tuple[int, str]:
        """Call the command in a process of its own; return its exit code and output."""
        command = [sys.executable, "-c", "from daybook.cli import main; main()", "preview", "--env", self.env]
        done = subprocess.run(
            [*command, *self.options, *options], capture_output=True, text=True, check=False, timeout=600, cwd=self.project
        )
        return done.returncode, done.stdout + done.stderr

    def preview_json(self, *options: str) -> Preview:
        code, printed = self.preview("--json", *options)
        assert code == 0, printed
        return Preview.model_validate_json(printed)

    def count_returning(self, dates: Iterable[date], later_than: int = 0) -> int:
        """Return the number of customers of these dates, by silver, whose first order is over ``later_than`` days earlier."""
        listed = ", ".join(f"DATE '{day}'" for day in dates)
        (row,) = self.home.engine(self.env).rows(
            f"""
            WITH firsts AS (SELECT customer_key, min(order_date) AS first FROM silver.orders GROUP BY customer_key)
            SELECT count(DISTINCT (o.order_date, o.customer_key)) FROM silver.orders AS o JOIN firsts AS f USING (customer_key)
            WHERE o.order_date IN ({listed}) AND o.status NOT IN ('cancelled', 'unavailable', 'adjustment')
            AND f.first < o.order_date - {later_than}
            """
        )
        return int(row[0])

    def require_only_returning_changed(self, found: Preview) -> None:
        """Require that only returning customers of the previewed dates differ, as counted from silver."""
        dates = [each.date for each in found.dates]
        (sales,) = [each for each in found.comparison.tables if each.has_changes]
        (column,) = [each for each in sales.columns if each.changed]
        assert (sales.table, column.column) == ("gold.daily_sales", "returning_customers")
        before, after = self.count_returning(dates), self.count_returning(dates, later_than=1)
        assert (column.total_before, column.total_after) == (before, after)
        assert before > after

    def lake_files(self) -> dict[str, int]:
        """Return all files of the lake with their sizes."""
        lake = Path(load_settings(self.env).lake)
        return {str(path.relative_to(lake)): path.stat().st_size for path in sorted(lake.rglob("*")) if path.is_file()}


def publish(shop: Shop, *ranges: tuple[str, str], **overrides: str) -> None:
    """Run ranges of dates, and leave a file in the user's development copy."""
    for first, last in ranges:
        _, record = shop.home.run(shop.env, first, last, **overrides)
        assert record.outcome in ("SUCCEEDED", "SKIPPED")
    own = Path(load_settings(shop.env).lake) / "dev" / development_user() / "gold" / "trial"
    own.mkdir(parents=True)
    (own / "rows.parquet").write_bytes(b"own rows")


@pytest.fixture(scope="module")
def module_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    project = copy_project(tmp_path_factory.mktemp("preview") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAYBOOK_PROJECT", str(project))
        patch.setenv("DAYBOOK_HOME", str(project.parent / "home"))
        yield project


@pytest.fixture(scope="module")
def published_demo(module_project: Path) -> Shop:
    home = DaybookHome(module_project.parent / "home")
    (module_project / "params" / "local.yaml").write_bytes((PROJECT / "params" / "local.yaml").read_bytes())
    shop = Shop("local", module_project, home)
    generate(home.path / "landing", orders_per_day=150)
    publish(shop, ("2025-11-27", "2025-11-28"))
    return shop


@pytest.fixture
def notebooks(module_project: Path) -> Iterator[None]:
    """Restore the notebooks of the checkout after a test."""
    yield
    for name in (AGGREGATE, QUALITY):
        file = f"notebooks/{name}.ipynb"
        (module_project / file).write_bytes((PROJECT / file).read_bytes())


@pytest.fixture
def demo(published_demo: Shop, notebooks: None) -> Shop:
    return published_demo


def test_preview_shows_a_changed_definition(demo: Shop, tmp_path: Path) -> None:
    before = demo.lake_files()
    demo.change(AGGREGATE, RETURNING, RETURNING.replace("c.order_date", "c.order_date - 1"))

    found = demo.preview_json("--html", str(tmp_path / "page.html"))

    assert (found.changes, found.stages) == ([AGGREGATE], ["aggregate", "quality"])
    demo.require_only_returning_changed(found)
    assert [each.samples for each in found.comparison.tables] == [[]] * len(found.comparison.tables)
    assert "a day with returns" in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert demo.lake_files() == before


def test_nothing_runs_if_nothing_changed(demo: Shop) -> None:
    before = demo.lake_files()
    found = demo.preview_json()
    assert (found.changes, found.stages, found.dates, found.comparison.tables) == ([], [], [], [])
    assert demo.lake_files() == before


def test_preview_of_a_rejected_change_exits_with_3(demo: Shop) -> None:
    # A customer would count as new and as returning.
    demo.change(AGGREGATE, RETURNING, RETURNING.replace("<", "<="))
    code, printed = demo.preview("--date", "2025-11-28")
    assert code == 3
    assert "2025-11-28 quality REJECTED\n  gold.daily_sales: 1 row breaks 'a customer counts once'" in printed
    assert "No date has gold in the preview, so there is nothing to compare." in printed


def test_failing_cell_ends_the_preview(demo: Shop) -> None:
    before = demo.lake_files()
    insert_into_last_cell(demo.notebook(AGGREGATE), "1 / 0")
    code, printed = demo.preview("--date", "2025-11-28")
    assert code == 1
    assert "4_aggregate of 2025-11-28 failed in cell " in printed
    assert "ZeroDivisionError: division by zero; run the notebook in JupyterLab and correct it." in printed
    assert demo.lake_files() == before


def test_next_preview_removes_what_a_killed_one_left(demo: Shop) -> None:
    before = demo.lake_files()
    insert_into_last_cell(demo.notebook(QUALITY), "import os, signal; os.kill(os.getppid(), signal.SIGKILL); os._exit(9)")
    code, _ = demo.preview("--date", "2025-11-28", "--stage", "aggregate")
    assert code == -9
    left = demo.lake_files()
    assert {file: size for file, size in left.items() if not file.startswith("dev/preview-")} == before
    assert len(left) > len(before)

    demo.notebook(QUALITY).write_bytes((PROJECT / "notebooks" / f"{QUALITY}.ipynb").read_bytes())
    found = demo.preview_json("--date", "2025-11-28", "--stage", "aggregate")
    assert not found.comparison.has_changes
    assert demo.lake_files() == before


def test_kept_copy_can_be_read(demo: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    found = demo.preview_json("--date", "2025-11-27", "--stage", "aggregate", "--keep")
    name = found.comparison.after.split()[-1].rstrip(")")
    monkeypatch.setenv("DAYBOOK_DEVELOPMENT", name)
    command = [sys.executable, "-c", "from daybook.cli import main; main()", "compare", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    compared: dict[str, Any] = json.loads(done.stdout)
    assert (compared["after"], compared["dates"]) == (f"development copy of {name}", ["2025-11-27"])


def test_preview_of_a_real_shop(module_project: Path, notebooks: None, shared_data: Path) -> None:
    home, landing = DaybookHome(module_project.parent / "home"), str(shared_data / "online_retail")
    shop = Shop("online_retail", module_project, home, ("--set", f"landing={landing}"))
    publish(shop, *((day, day) for day in ("2010-12-01", "2010-12-02", "2010-12-04")), landing=landing)
    before = shop.lake_files()
    shop.change(AGGREGATE, RETURNING, RETURNING.replace("c.order_date", "c.order_date - 1"))

    found = shop.preview_json()

    assert [(each.date.isoformat(), each.outcome) for each in found.dates] == [
        ("2010-12-01", "SUCCEEDED"),
        ("2010-12-02", "SUCCEEDED"),
        ("2010-12-04", "SKIPPED"),
    ]
    assert found.absent == ["a day with late data"]
    shop.require_only_returning_changed(found)
    assert shop.lake_files() == before
