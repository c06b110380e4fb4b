"""Publish days of a simulated shop, run after run, in processes that are killed at random times.

``python -m tests.runs.publisher ROOT RUNS SEED`` in the checkout prints one line of JSON per attempt, with the run, the stage
and whether it was killed. An attempt writes to the lake what the stages aggregate and quality write, without notebooks.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa

from daybook.contracts import load_table
from daybook.lake.publish import publish, take_lake_snapshot
from daybook.lake.tables import Lake
from tests.lake.writing import replace_date

FIRST_DAY = date(2025, 11, 1)
DAYS = [FIRST_DAY + timedelta(days=number) for number in range(4)]
CATEGORIES = ["Books", "Garden", "Tea", "Toys"]
TABLES = {name: load_table(name) for name in ("gold.daily_sales", "gold.category_sales", "gold.product_sales")}
AUDIT_TABLE = "control.audited"
_MAX_KILLS = 3


def build_rows(table: str, day: date, generation: int) -> list[dict[str, object]]:
    """Return the rows of a date in one generation; the revenue of each category is the generation's number."""
    figures = {"orders": 1, "units": 1, "cancelled_orders": 0, "returns_amount": Decimal(0), "new_customers": 0}
    figures["returning_customers"] = 0
    if table == "gold.daily_sales":
        total = Decimal(generation * len(CATEGORIES))
        return [{**figures, "order_date": day, "gross_revenue": total, "net_revenue": total}]
    money = {"gross_revenue": Decimal(generation), "net_revenue": Decimal(generation)}
    key = "category" if table == "gold.category_sales" else "product_id"
    return [{**figures, **money, "order_date": day, key: name, "category": name} for name in CATEGORIES]


def restated_dates(generation: int) -> list[date]:
    """Return the two of the four dates that a run restates."""
    return [DAYS[generation % 4], DAYS[(generation * 3 + 1) % 4]]


def is_rejected(generation: int) -> bool:
    """Return whether the quality gate rejects a run."""
    return generation % 7 == 3


def aggregate(lake: Lake, generation: int) -> None:
    """Change silver and write the candidates."""
    touched = pa.table({"generation": [generation]})
    replace_date(lake, "control.landed_dates", touched, restated_dates(generation)[0])
    for name, contract in TABLES.items():
        rows = [row for day in restated_dates(generation) for row in build_rows(name, day, generation)]
        known = [{column: row[column] for column in contract.columns if column in row} for row in rows]
        lake.write_candidate(f"candidate.{contract.name}", pa.Table.from_pylist(known, schema=contract.arrow_schema))


def gate_and_publish(lake: Lake, generation: int) -> None:
    """Record the result of the gate and publish each table in one commit."""
    if is_rejected(generation):
        return
    snapshot = take_lake_snapshot(lake, ["control.landed_dates"], list(TABLES), identified_by="control.landed_dates")
    replace_date(lake, AUDIT_TABLE, pa.table({"generation": [generation]}), FIRST_DAY + timedelta(days=generation))
    for contract in TABLES.values():
        rows = lake.dataset(f"candidate.{contract.name}")
        assert rows is not None
        publish(lake, contract, rows.to_table(), restated_dates(generation), snapshot)


def main(root: str, runs: int, seed: int) -> None:
    """Execute all runs in sequence; each stage is repeated until an attempt is not killed."""
    rng = random.Random(seed)  # noqa: S311
    # The parent never opens a table, so that forked processes start without other threads.
    forked = multiprocessing.get_context("fork")
    for generation in range(1, runs + 1):
        lake = Lake(root, run_id=f"daily-2025-11-01-{generation}")
        for stage in (aggregate, gate_and_publish):
            for number in range(1, _MAX_KILLS + 2):
                attempt = forked.Process(target=stage, args=(lake, generation))
                attempt.start()
                attempt.join(rng.uniform(0.0, 0.15) if number <= _MAX_KILLS else None)
                killed = attempt.is_alive()
                attempt.kill()
                attempt.join()
                if not killed and attempt.exitcode:
                    raise SystemExit(f"{stage.__name__} of run {generation} failed with {attempt.exitcode}")
                print(json.dumps({"run": generation, "stage": stage.__name__, "killed": killed}), flush=True)  # noqa: T201
                if not killed:
                    break


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
