"""Test that an erasure with a truncated gzip file in landing finishes and lists the file as not searched."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.cli.conftest import Call, call
from tests.privacy.erasure.conftest import ANN, Shop, filled, shop

__all__ = ["call", "filled", "shop"]
LATE = Path(__file__).parent / "erase_broken_gz" / "late.csv.gz"


def test_erasure_finishes_and_lists_the_cut_file(shop: Shop, call: Call) -> None:
    landed = Path(shop.settings.landing) / "customers" / "2025-11-03" / LATE.name
    landed.parent.mkdir(parents=True)
    shutil.copy(LATE, landed)
    code, out, _ = call("erase", "--customer", ANN, "--yes")
    (record,) = (Path(shop.settings.archive) / "erasures").iterdir()
    unread = json.loads(record.read_text())["landing_files_not_searched"]
    assert (code, list(unread)) == (1, [str(landed)])
    assert f"{landed} (Compressed file ended before the end-of-stream marker was reached)" in out
    assert shop.rows("silver.customers", "customer_key") == [(shop.key_of("C-00002"),)]
