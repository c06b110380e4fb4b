"""Test that values with markup of rich and control characters are printed literally."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call, call
from tests.faults.conftest import Shop

__all__ = ["call"]

DAY = "2025-11-14"
FILES = Path(__file__).parent / "console_markup"


@pytest.fixture
def rejected(shop: Shop) -> Shop:
    """Return the shop with one rejected line, whose article has a bracket after a backslash and terminal codes."""
    lines = (FILES / "lines.csv").read_text().replace("Rack 19", "\x1b]0;TITLE\x07\x1b[31mRack 19")
    shop.land(f"o/{DAY}/orders.csv", (FILES / "orders.csv").read_bytes())
    shop.land(f"o/{DAY}/lines.csv", lines)
    shop.run(DAY, overrides={"max_rejected_share": "1"})
    return shop


@pytest.mark.parametrize(
    "arguments",
    [
        ("quarantine", "list", "--env", "odd", "--date", DAY),
        ("sql", "SELECT sku FROM quarantine.lines", "--env", "odd"),
    ],
)
@pytest.mark.slow
def test_values_are_printed_literally(rejected: Shop, arguments: tuple[str, ...], call: Call) -> None:
    code, out, err = call(*arguments)
    assert (code, err) == (0, "")
    assert r"Rack 19\[/2HE]" in out
    assert not {"\x1b", "\x07"} & set(out)
