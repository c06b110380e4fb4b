"""The lineage of the tables that a stage's cells define, for the stage's record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from daybook.contracts import LAYERS, load_tables
from daybook.errors import DaybookError
from daybook.lake.lineage.sql import LineageReader
from daybook.sources.csv import TECHNICAL_COLUMNS
from daybook.sources.mapping import mapped_sql, quote

if TYPE_CHECKING:
    from daybook.notebook.context import Stage

FIRST_ORDERS_SQL = "SELECT customer_key, min(order_date) AS first_order_date FROM silver.orders GROUP BY customer_key"
"""What ``silver.customers.first_order_date`` holds. No cell says it: transform sets it when all tables are merged."""


def record_lineage(stage: Stage) -> None:
    """Put the lineage of every silver and gold table that the cells define into the stage's details, as ``lineage``.

    A query that cannot be followed never stops a day: what is wrong with it is noted under ``lineage_gaps``.
    """
    tables = {name: table for layer in LAYERS for name, table in load_tables(layer).items()}
    wanted = [name for name in stage.definitions if name in tables]
    if not wanted:
        return
    definitions = {**stage.definitions, "first_orders": FIRST_ORDERS_SQL}
    if stage.name == "transform":
        definitions = {**_mapping_queries(stage), **definitions}

    def columns_of(name: str) -> Sequence[str]:
        if name in tables:
            return tables[name].columns
        layer, _, entity = name.partition(".")
        if layer == "bronze" and entity in stage.source.entities:
            return [*stage.source.entities[entity].columns, *TECHNICAL_COLUMNS]
        return list(stage.engine.query(f"SELECT * FROM {name} LIMIT 0").columns)

    keys = {name: table.key for name, table in tables.items()}
    reader = LineageReader(definitions, columns_of, kept=tables, keys=keys)
    found, gaps = {}, []
    for name in wanted:
        try:
            found[name] = reader.entry(name)
            if name == "silver.customers" and "first_order_date" not in found[name]["columns"]:
                first = reader.entry("first_orders")
                found[name]["columns"]["first_order_date"] = {**first["rows"], **first["columns"]["first_order_date"]}
        except DaybookError as error:
            gaps.append(str(error))
        except Exception as error:  # noqa: BLE001 (the parser met SQL it was not written for; the day's figures are right)
            gaps.append(f"The lineage of {name} cannot be told ({type(error).__name__}); write its query more plainly.")
    stage.details["lineage"] = found
    if gaps:
        stage.details["lineage_gaps"] = gaps


def _mapping_queries(stage: Stage) -> dict[str, str]:
    """The source's mapping as queries: ``mapped.<table>`` from the entities, and those from bronze."""
    queries = {}
    for name, entity in stage.source.entities.items():
        columns = [*entity.columns, *TECHNICAL_COLUMNS]
        queries[name] = f"SELECT {', '.join(quote(column) for column in columns)} FROM bronze.{quote(name)}"
    for name in load_tables("silver"):
        table = name.split(".")[1]
        rows = mapped_sql(stage.source, table, stage.run_date)
        queries[f"mapped.{table}"] = f"SELECT *, DATE '{stage.day}' AS landed_on FROM ({rows}) AS mapped"
    return queries
