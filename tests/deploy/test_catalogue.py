"""Test that the tables registered for Athena match the contracts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from daybook.contracts import LAYERS, load_tables
from daybook.deploy.catalogue import athena_type, database_name, render_catalogue
from daybook.lake.table_properties import RESTRICTED_LAYERS
from daybook.lake.tables import Lake

TEMPLATE = Path(__file__).resolve().parents[2] / "infra" / "catalogue.yaml"


@pytest.fixture(scope="module")
def tables() -> dict:
    found = {}
    for each in yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))["Resources"].values():
        if each["Type"] == "AWS::Glue::Table":
            layer = each["Properties"]["DatabaseName"]["Ref"][: -len("Database")].lower()
            table = each["Properties"]["TableInput"]
            found[f"{layer}.{table['Name']}"] = table
    return found


def test_committed_template_matches_contracts() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    assert text == render_catalogue(text), "run: python -m daybook.deploy.catalogue"


def test_databases_are_those_of_layers() -> None:
    resources = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))["Resources"]
    for layer in LAYERS:
        name = resources[f"{layer.capitalize()}Database"]["Properties"]["DatabaseInput"]["Name"]
        assert name == {"Fn::Sub": database_name("${Environment}", layer)}


def test_published_tables_are_registered(tables: dict) -> None:
    assert set(tables) == {name for layer in LAYERS for name in (table.full_name for table in load_tables(layer).values())}
    assert not [name for name in tables if name.split(".")[0] in RESTRICTED_LAYERS]


def test_table_location_is_that_of_lake(tables: dict) -> None:
    for name, table in tables.items():
        text, more = table["StorageDescriptor"]["Location"]["Fn::Sub"]
        assert more == {"Lake": {"Fn::ImportValue": {"Fn::Sub": "daybook-${Environment}-LakeBucket"}}}
        assert text.replace("${Lake}", "lake") == Lake("s3://lake").uri(name) + "/"


def test_columns_match_contracts_in_order(tables: dict) -> None:
    for layer in LAYERS:
        for contract in load_tables(layer).values():
            columns = tables[contract.full_name]["StorageDescriptor"]["Columns"]
            assert [each["Name"] for each in columns] == contract.columns
            # Limits of the Glue catalogue.
            assert all(len(each["Comment"]) <= 255 for each in columns)
            assert all(
                re.fullmatch(r"string|date|timestamp|boolean|int|bigint|double|decimal\(\d+,\d+\)", each["Type"])
                for each in columns
            )


@pytest.mark.parametrize(
    ("physical", "athena"),
    [("VARCHAR", "string"), ("TIMESTAMPTZ", "timestamp"), ("BIGINT", "bigint"), ("DECIMAL(18,4)", "decimal(18,4)")],
)
def test_types_are_those_of_athena(physical: str, athena: str) -> None:
    assert athena_type(physical) == athena
