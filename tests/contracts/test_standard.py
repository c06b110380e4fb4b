"""Test that the project's contracts follow the Open Data Contract Standard, with its published model and schema."""

from __future__ import annotations

import json
import sys

import jsonschema
import pytest
import yaml

from daybook.settings import list_files, project_root

CONTRACTS = list_files(project_root() / "params" / "contracts", "*/*.yaml")
if sys.version_info < (3, 10):
    pytest.skip("THE STANDARD'S MODEL NEEDS PYTHON 3.10: contracts are held against it on newer ones", allow_module_level=True)

from open_data_contract_standard.model import OpenDataContractStandard  # noqa: E402


def name_of(path):
    return f"{path.parent.name}/{path.name}"


@pytest.mark.parametrize("path", CONTRACTS, ids=name_of)
def test_contract_fits_the_published_model(path):
    contract = OpenDataContractStandard.from_file(str(path))
    assert contract.apiVersion == "v3.1.0"
    assert contract.schema_


@pytest.mark.parametrize("path", CONTRACTS, ids=name_of)
def test_contract_fits_the_published_schema(path):
    schema = json.loads(OpenDataContractStandard.json_schema())
    validator = jsonschema.Draft201909Validator(schema)
    assert [each.message for each in validator.iter_errors(yaml.safe_load(path.read_text(encoding="utf-8")))] == []


def test_published_schema_refuses_a_mistake():
    schema = json.loads(OpenDataContractStandard.json_schema())
    contract = yaml.safe_load(CONTRACTS[0].read_text(encoding="utf-8"))
    contract["schema"][0]["properties"][0]["quality"] = [{"metric": "sadValues", "mustBe": 0}]
    assert list(jsonschema.Draft201909Validator(schema).iter_errors(contract))
