"""Write the published tables into ``infra/catalogue.yaml``, which registers them for Athena, from the contracts.

Restricted layers are not registered. After a change of a contract run:

    python -m daybook.deploy.catalogue
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from daybook.contracts import LAYERS, Table, load_tables
from daybook.settings import project_root

_HEADER = """\
# `python -m daybook.deploy.catalogue` writes the tables from params/contracts/; a test compares them.
"""
_ATHENA_TYPES = {
    "VARCHAR": "string",
    "DATE": "date",
    "TIMESTAMPTZ": "timestamp",
    "BOOLEAN": "boolean",
    "INTEGER": "int",
    "BIGINT": "bigint",
    "DOUBLE": "double",
}
_MAX_LINE_LENGTH = 128


def athena_type(physical: str) -> str:
    """Return Athena's name of a contract's SQL type."""
    return _ATHENA_TYPES.get(physical, physical.lower())


def database_name(environment: str, layer: str) -> str:
    """Return the name of a layer's database in the Glue catalogue."""
    return f"daybook_{environment}_{layer}"


def render_catalogue(text: str) -> str:
    """Return the template ``text`` as YAML with the tables of the present contracts instead of its own."""
    template = yaml.safe_load(text)
    others = {name: each for name, each in template["Resources"].items() if each["Type"] != "AWS::Glue::Table"}
    tables = {_logical_id(table): _table_resource(table) for layer in LAYERS for table in load_tables(layer).values()}
    template["Resources"] = {**others, **tables}
    return _HEADER + yaml.safe_dump(template, sort_keys=False, allow_unicode=True, width=_MAX_LINE_LENGTH)


def _table_resource(table: Table) -> dict[str, Any]:
    lake = {"Fn::ImportValue": {"Fn::Sub": "daybook-${Environment}-LakeBucket"}}
    return {
        "Type": "AWS::Glue::Table",
        "Properties": {
            "CatalogId": {"Ref": "AWS::AccountId"},
            "DatabaseName": {"Ref": f"{table.layer.capitalize()}Database"},
            "TableInput": {
                "Name": table.name,
                "Description": table.description,
                "TableType": "EXTERNAL_TABLE",
                # The same parameters as Athena's CREATE EXTERNAL TABLE for a Delta table.
                "Parameters": {"EXTERNAL": "TRUE", "table_type": "DELTA", "spark.sql.sources.provider": "delta"},
                "StorageDescriptor": {
                    "Location": {"Fn::Sub": [f"s3://${{Lake}}/{table.layer}/{table.name}/", {"Lake": lake}]},
                    "Columns": [
                        {"Name": each.name, "Type": athena_type(each.physicalType), "Comment": each.description}
                        for each in table.properties
                    ],
                },
            },
        },
    }


def _logical_id(table: Table) -> str:
    return "".join(part.capitalize() for part in re.split(r"[._]", table.full_name))


if __name__ == "__main__":
    path = project_root() / "infra" / "catalogue.yaml"
    path.write_text(render_catalogue(path.read_text(encoding="utf-8")), encoding="utf-8")
