"""Test that the JSON schemas in docs/ match the models, and that archived records match the schemas."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from daybook.records.schemas import render_schemas, write_schemas
from daybook.settings import project_root

FIXTURE = Path(__file__).parent / "previous_release"
PATTERNS = {
    "run": "**/run*.json",
    "attempt": "**/*.attempt-*.json",
    "stage": "outcomes/*/*.json",
    "backfill": "backfills/*/*.json",
    "start": "run_date=*/*/started.json",
    "claim": "**/*.claim",
}


def test_published_schemas_are_current(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    published = project_root() / "docs" / "schemas"
    assert {path.name: path.read_text() for path in published.iterdir()} == {
        path.name: path.read_text() for path in tmp_path.iterdir()
    }, "run `make schemas`"


def test_every_key_has_a_description() -> None:
    for name, text in render_schemas().items():
        schema = json.loads(text)
        for title, model in {name: schema, **schema.get("$defs", {})}.items():
            for key, field in model.get("properties", {}).items():
                assert field.get("description"), f"{title}.{key}"


@pytest.mark.parametrize("name", PATTERNS)
def test_archived_records_fit_the_schema(name: str) -> None:
    schema = json.loads(render_schemas()[f"{name}.json"])
    validator = jsonschema.Draft202012Validator(schema)
    found = sorted(FIXTURE.glob(PATTERNS[name]))
    assert found
    for path in found:
        validator.validate(json.loads(path.read_bytes()))
