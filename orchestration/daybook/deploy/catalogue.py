"""Generate ``infra/catalogue.yaml``, which registers the published tables for Athena, from the contracts.

Restricted layers are not registered. After a change of a contract run:

    python -m daybook.deploy.catalogue > infra/catalogue.yaml
"""

from __future__ import annotations

import re
import sys
from typing import Any

import yaml

from daybook.contracts import LAYERS, Table, load_tables

_HEADER = """\
# Written by `python -m daybook.deploy.catalogue > infra/catalogue.yaml` from params/contracts/; a test holds it to that.
"""
_DESCRIPTION = (
    "Daybook, what Athena reads: silver and gold as Delta tables in the Glue catalogue, and a workgroup with a limit. "
    "Needs foundation.yaml."
)
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


def render_catalogue() -> str:
    """Return the template for the present contracts as YAML."""
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": _DESCRIPTION,
        "Parameters": {
            "Environment": {
                "Type": "String",
                "Description": "The deployment's name, a file in params/ without .yaml.",
                "Default": "prod",
                "AllowedPattern": "[a-z][a-z0-9]{0,19}",
            },
            "ScanLimitBytes": {
                "Type": "Number",
                "Description": "A query of the workgroup that would read more is stopped; 10 GiB cost 5 cents.",
                "Default": 10 * 1024**3,
                "MinValue": 10 * 1000**2,
            },
        },
        "Resources": {
            "Workgroup": _workgroup_resource(),
            **{f"{layer.capitalize()}Database": _database_resource(layer) for layer in LAYERS},
            **{_logical_id(table): _table_resource(table) for layer in LAYERS for table in load_tables(layer).values()},
        },
    }
    return _HEADER + yaml.safe_dump(template, sort_keys=False, allow_unicode=True, width=_MAX_LINE_LENGTH)


def _workgroup_resource() -> dict[str, Any]:
    return {
        "Type": "AWS::Athena::WorkGroup",
        "Properties": {
            "Name": {"Fn::Sub": "daybook-${Environment}"},
            "Description": "Queries of Daybook's published tables",
            "WorkGroupConfiguration": {
                "EngineVersion": {"SelectedEngineVersion": "Athena engine version 3"},
                "EnforceWorkGroupConfiguration": True,
                "PublishCloudWatchMetricsEnabled": True,
                "BytesScannedCutoffPerQuery": {"Ref": "ScanLimitBytes"},
                "ManagedQueryResultsConfiguration": {
                    "Enabled": True,
                    "EncryptionConfiguration": {"KmsKey": _import_value("KeyArn")},
                },
            },
            "Tags": [{"Key": "application", "Value": "daybook"}, {"Key": "environment", "Value": {"Ref": "Environment"}}],
        },
    }


def _database_resource(layer: str) -> dict[str, Any]:
    name = {"Fn::Sub": database_name("${Environment}", layer)}
    return {
        "Type": "AWS::Glue::Database",
        "Properties": {
            "CatalogId": {"Ref": "AWS::AccountId"},
            "DatabaseInput": {"Name": name, "Description": f"Daybook's {layer} tables; their contracts say what they hold."},
        },
    }


def _table_resource(table: Table) -> dict[str, Any]:
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
                    "Location": {
                        "Fn::Sub": [f"s3://${{Lake}}/{table.layer}/{table.name}/", {"Lake": _import_value("LakeBucket")}]
                    },
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


def _import_value(output: str) -> dict[str, Any]:
    """Return a reference to an output of foundation.yaml."""
    return {"Fn::ImportValue": {"Fn::Sub": f"daybook-${{Environment}}-{output}"}}


if __name__ == "__main__":
    sys.stdout.write(render_catalogue())
