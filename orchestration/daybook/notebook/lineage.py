"""Record the lineage of the tables that the cells of a stage define."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from daybook.contracts import LAYERS, Table, load_tables
from daybook.errors import DaybookError
from daybook.lake.lineage.sql import LineageReader
from daybook.sources.csv import TECHNICAL_COLUMNS
from daybook.sources.mapping import mapped_sql, quote

if TYPE_CHECKING:
    from daybook.notebook.context import Stage


def derivation_name(contract: Table) -> str:
    """Return the name under which a cell defines the derived columns of a silver table, by its key."""
    return f"derived.{contract.name}"


def record_lineage(stage: Stage) -> None:
    """Store the lineage of every silver and gold table that the cells define in the stage's details, as ``lineage``.

    A query that cannot be parsed never fails the stage: the reason is stored under ``lineage_gaps``.
    """
    tables = {name: table for layer in LAYERS for name, table in load_tables(layer).items()}
    wanted = [name for name in stage.definitions if name in tables]
    if not wanted:
        return
    definitions = stage.definitions
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
    reader = LineageReader(definitions, columns_of, stored_names=tables, keys=keys)
    found, gaps = {}, []
    for name in wanted:
        try:
            found[name] = reader.entry(name)
            derivation = derivation_name(tables[name])
            if derivation in definitions:
                derived = reader.entry(derivation)
                for column in tables[name].derived:
                    found[name]["columns"][column] = {**derived["rows"], **derived["columns"][column]}
        except DaybookError as error:
            gaps.append(str(error))
        except Exception as error:  # noqa: BLE001 (lineage must not fail a stage whose figures are right)
            gaps.append(f"The lineage of {name} cannot be read ({type(error).__name__}); simplify its query.")
    stage.details["lineage"] = found
    if gaps:
        stage.details["lineage_gaps"] = gaps


def _mapping_queries(stage: Stage) -> dict[str, str]:
    """Return the queries of the source's mapping: ``mapped.<table>`` from the entities, and the entities from bronze."""
    queries = {}
    for name, entity in stage.source.entities.items():
        columns = [*entity.columns, *TECHNICAL_COLUMNS]
        queries[name] = f"SELECT {', '.join(quote(column) for column in columns)} FROM bronze.{quote(name)}"
    for name in load_tables("silver"):
        table = name.split(".")[1]
        rows = mapped_sql(stage.source, table, stage.run_date)
        queries[f"mapped.{table}"] = f"SELECT *, DATE '{stage.day}' AS landed_on FROM ({rows}) AS mapped"
    return queries
