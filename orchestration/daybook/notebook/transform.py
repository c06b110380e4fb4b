"""Stage 3: accepted rows become rows of the canonical model, merged into silver by key; the newest version wins.

Here: the mapped rows for the notebook's SQL, which business dates a merge makes stale, and the merges. Not here: the SQL
that chooses and derives (the notebook), mappings (``daybook.sources``).
"""

from __future__ import annotations

from datetime import date

import pyarrow as pa

from daybook.contracts import Table, load_tables
from daybook.notebook.display import Listing
from daybook.notebook.stage import Stage
from daybook.notebook.validate import accept
from daybook.quality import check_contract, refuse_broken
from daybook.sources import mapped_sql

STALE_DATES = "control.stale_dates"
"""Order dates whose gold a run's merges made stale, by the run's business date; cleared once gold is published.

Written before the merges: a run that dies between them and gold leaves the note for the next try."""


LANDED_DATES = "control.landed_dates"
"""The business dates whose rows have passed validation and are in silver, a partition each."""


def map_to_canonical(stage: Stage) -> Listing:
    """Make the source's rows of the date queryable as ``mapped.<table>``; returns how many rows each entity gave."""
    counts = accept(stage)
    for name in load_tables("silver"):
        table = name.split(".")[1]
        sql = mapped_sql(stage.source, table, stage.run_date)
        rows = stage.engine.arrow(f"SELECT *, DATE '{stage.day}' AS landed_on FROM ({sql}) AS mapped")
        stage.engine.register(f"mapped.{table}", rows)
    return counts


def merge_silver(stage: Stage) -> Listing:
    """Merge every silver table that the notebook defines, and end the stage. A null or repeated key stops all of them."""
    contracts = list(load_tables("silver").values())
    rows = {contract.full_name: stage.relation(contract) for contract in contracts}
    verdict_on = []
    for contract in contracts:
        stage.engine.register(f"new.{contract.name}", rows[contract.full_name])
        verdict_on += check_contract(stage.engine, f"new.{contract.name}", contract)
    verdict = refuse_broken(verdict_on)
    read = stage.engine.one("SELECT " + " + ".join(f"(SELECT count(*) FROM mapped.{each.name})" for each in contracts))[0]
    if not verdict.passed:
        stage.reject(verdict.reasons, rows_in=read)
        return Listing(["rule", "broken by"], [(each.rule, each.failing) for each in verdict_on if each.failing])
    for contract in contracts:
        stage.engine.refresh(contract.full_name)
    stale = _note_stale_dates(stage)
    _note_affected_customers(stage)
    merged = []
    # Orders last but for the customers: what other tables say of an order is there before the order is.
    for contract in sorted(contracts, key=lambda each: each.name in ("orders", "customers")):
        counts = stage.lake.merge(contract, rows[contract.full_name], landed_on=stage.run_date)
        stage.engine.refresh(contract.full_name)
        merged.append((contract.full_name, rows[contract.full_name].num_rows, *counts.values()))
    _set_first_order_dates(stage, load_tables("silver")["silver.customers"])
    landed = pa.table({"orders": pa.array([rows["silver.orders"].num_rows], pa.int64())})
    stage.lake.replace_partition(LANDED_DATES, landed, stage.run_date)
    stage.details["merged"] = {name: dict(zip(("rows", "inserted", "updated", "deleted"), rest)) for name, *rest in merged}
    stage.details["stale_dates"] = [day.isoformat() for day in stale]
    stage.succeed(rows_in=read, rows_out=sum(table.num_rows for table in rows.values()))
    return Listing(["table", "rows", "inserted", "updated", "deleted"], merged)


def _note_stale_dates(stage: Stage) -> list[date]:
    """Write down the order dates whose gold these merges can change, beside those an unfinished try has noted.

    They are: the dates of the orders that come in, now and as silver has them; of orders that a line, payment or review came
    in for, or disappears from; of a customer's orders whose first one changes; of orders with a product whose category changes.
    """
    gone = " UNION ALL ".join(
        f"SELECT t.order_id FROM silver.{name} AS t WHERE t.landed_on = DATE '{stage.day}' "
        f"AND t.order_id NOT IN (SELECT order_id FROM new.{name})"
        for name in ("orders", "order_items", "payments", "reviews")
    )
    touched = " UNION ALL ".join(
        f"SELECT order_id FROM new.{name}" for name in ("orders", "order_items", "payments", "reviews")
    )
    rows = stage.engine.rows(
        f"""
        WITH touched AS ({touched} UNION ALL {gone}),
        known AS (SELECT customer_key, min(order_date) AS first_date FROM silver.orders GROUP BY customer_key),
        moved AS (  -- customers whose first order may change: an earlier one comes in, or one is corrected or disappears
            SELECT n.customer_key FROM new.orders AS n JOIN known AS k ON k.customer_key = n.customer_key
            WHERE n.order_date < k.first_date
            UNION SELECT t.customer_key FROM new.orders AS n JOIN silver.orders AS t ON t.order_id = n.order_id
            WHERE t.order_date <> n.order_date OR t.customer_key IS DISTINCT FROM n.customer_key
            UNION SELECT t.customer_key FROM silver.orders AS t WHERE t.landed_on = DATE '{stage.day}'
            AND t.order_id NOT IN (SELECT order_id FROM new.orders)
        ),
        recategorised AS (
            SELECT n.product_id FROM new.products AS n JOIN silver.products AS t ON t.product_id = n.product_id
            WHERE n.category IS DISTINCT FROM t.category
            -- Lines can come in before their product does.
            UNION SELECT n.product_id FROM new.products AS n ANTI JOIN silver.products AS t ON t.product_id = n.product_id
        )
        SELECT order_date FROM new.orders
        UNION SELECT order_date FROM silver.orders WHERE order_id IN (SELECT order_id FROM touched)
        UNION SELECT order_date FROM silver.orders WHERE customer_key IN (SELECT customer_key FROM moved)
        UNION SELECT o.order_date FROM silver.orders AS o JOIN silver.order_items AS i ON i.order_id = o.order_id
              WHERE i.product_id IN (SELECT product_id FROM recategorised)
        """
    )
    noted = {row[0] for row in rows} | stale_dates(stage)
    stale = sorted(noted)
    stage.lake.replace_partition(STALE_DATES, pa.table({"order_date": pa.array(stale, pa.date32())}), stage.run_date)
    stage.engine.refresh(STALE_DATES)
    return stale


def stale_dates(stage: Stage) -> set[date]:
    """The order dates noted for this business date and not yet published."""
    if not stage.lake.exists(STALE_DATES):
        return set()
    return {row[0] for row in stage.engine.rows(f"SELECT order_date FROM {STALE_DATES} WHERE run_date = DATE '{stage.day}'")}


def clear_stale_dates(stage: Stage) -> None:
    """Forget the noted dates: their gold is published."""
    stage.lake.replace_partition(STALE_DATES, pa.table({"order_date": pa.array([], pa.date32())}), stage.run_date)


def _note_affected_customers(stage: Stage) -> None:
    """Keep, as ``affected``, whose first order the merges can change: before them, while silver still has what disappears."""
    rows = stage.engine.arrow(
        f"""
        SELECT customer_key FROM new.orders UNION SELECT customer_key FROM new.customers
        UNION SELECT customer_key FROM silver.orders WHERE landed_on = DATE '{stage.day}'
        UNION SELECT t.customer_key FROM silver.orders AS t JOIN new.orders AS n ON n.order_id = t.order_id
        """
    )
    stage.engine.register("affected", rows)


def _set_first_order_dates(stage: Stage, contract: Table) -> None:
    """Bring ``customers.first_order_date`` in line with silver.orders; null for a customer without orders."""
    rows = stage.engine.arrow(
        "SELECT a.customer_key, min(o.order_date) AS first_order_date FROM affected AS a "
        "LEFT JOIN silver.orders AS o ON o.customer_key = a.customer_key WHERE a.customer_key IS NOT NULL "
        "GROUP BY a.customer_key ORDER BY a.customer_key"
    )
    stage.lake.update_column(contract, rows, "first_order_date")
