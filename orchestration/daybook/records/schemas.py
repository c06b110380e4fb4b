"""Write the JSON schemas of records to ``docs/schemas/``: ``python -m daybook.records.schemas``."""

from __future__ import annotations

import json
from pathlib import Path

from daybook.records.models import PUBLISHED_MODELS, SCHEMA_VERSION
from daybook.settings import project_root


def render_schemas() -> dict[str, str]:
    """Return the JSON schema of each record by file name, such as ``run.json``."""
    rendered = {}
    for name, model in PUBLISHED_MODELS.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **model.model_json_schema(by_alias=True),
            "x-schema-version": SCHEMA_VERSION,
        }
        rendered[f"{name}.json"] = json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
    return rendered


def write_schemas(folder: Path) -> None:
    """Write the JSON schemas into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in render_schemas().items():
        (folder / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_schemas(project_root() / "docs" / "schemas")
