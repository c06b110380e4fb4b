"""Guard ``LOGIC_VERSION``: package code that gives other rows for the same input raises it.

``logic_version.json`` holds the content hashes of a demo day with the fingerprint that computed it. Record it again with
``.venv/bin/python -m pytest tests/notebook/test_logic_version.py --record-logic``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from daybook.engines import DuckDBEngine
from daybook.lake.tables import Lake
from daybook.records.fingerprint import compute_fingerprint
from daybook.settings import load_settings
from demo_shop import generate
from tests.runs.content import hash_tables
from tests.sessions import Session

RECORDED = Path(__file__).with_name("logic_version.json")


def demo_day(session: Session, place: Path) -> dict[str, Any]:
    """Run a day of a small demo shop; return the fingerprint and the content hashes of its tables."""
    generate(place / "landing", orders_per_day=30)
    overrides = {"landing": str(place / "landing"), "lake": str(place / "lake"), "pii_key": str(place / "pii.key")}
    # Pseudonyms are part of the content, so the key is fixed.
    (place / "pii.key").write_text("00" * 32 + "\n", encoding="ascii")
    (place / "pii.key").chmod(0o600)
    assert session.run_day("2025-11-28", 1, overrides) == "SUCCEEDED"
    settings = load_settings("local")
    engine = DuckDBEngine(Lake(overrides["lake"]), settings.timezone)
    return {"fingerprint": compute_fingerprint(settings), "content": hash_tables(engine)}


def test_other_content_has_another_logic_version(session: Session, tmp_path: Path, pytestconfig: pytest.Config) -> None:
    found = demo_day(session, tmp_path)
    if pytestconfig.getoption("--record-logic"):
        RECORDED.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    if found["fingerprint"] == recorded["fingerprint"]:
        assert found["content"] == recorded["content"], (
            "the same notebooks, contracts and input give other rows: raise LOGIC_VERSION in "
            "daybook/records/fingerprint.py, then record again with --record-logic"
        )
    else:
        assert found == recorded, "notebooks, contracts, source, settings or logic changed: record again with --record-logic"
