"""Test that a sum too large for its gold column rejects the date and names the column, without a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.notebook import aggregate
from daybook.notebook import context as stages
from daybook.records.names import RESULT_MIME
from demo_shop import generate
from tests.cells import load_sql_cells
from tests.sessions import Session

pytestmark = pytest.mark.slow

DAY = "2025-11-30"


def test_sum_that_overflows_rejects_the_date(session: Session, tmp_path: Path) -> None:
    generate(tmp_path / "landing", orders_per_day=20)
    overrides = {name: str(tmp_path / name) for name in ("landing", "lake")}
    overrides["pii_key"] = str(tmp_path / "pii.key")
    assert session.run_day(DAY, 1, overrides) == "SUCCEEDED"
    session.value(
        "from daybook.notebook import aggregate, begin\n"
        f"begin('aggregate', env='local', run_date='{DAY}', run_id='daily-{DAY}-2', overrides={overrides!r})"
    )
    stage = stages.current
    assert stage is not None
    aggregate.touched_dates(stage)
    for name, sql in load_sql_cells("aggregate").items():
        stage.engine.define("as_defined" if name == "gold.daily_sales" else name, sql)
    large = "SELECT * REPLACE (gross_revenue + 99999999999999 AS gross_revenue) FROM as_defined"
    stage.engine.define("gold.daily_sales", large)

    session.value("aggregate.write_candidates(__import__('daybook.notebook.context').notebook.context.current)")

    assert (stage.ended, stage.details["held_dates"]) == ("REJECTED", [DAY])
    (reason,) = next(each[RESULT_MIME] for each in session.outputs if RESULT_MIME in each)["reasons"]
    assert reason.startswith("gold.daily_sales: 'gross_revenue can be converted to DECIMAL(18,4)' does not hold: 1 row")
    assert DAY in reason
    gold = DuckDBEngine(Lake(overrides["lake"]), "Europe/Berlin")
    assert gold.fetch_row("SELECT max(gross_revenue) < 1000000 FROM gold.daily_sales") == (True,)
