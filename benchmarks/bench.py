"""Hold the options of one benchmark and format its results as tables."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from benchmarks.shop import make_demo

Result = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """The options of one benchmark: ``scratch`` holds landings and workspaces, each system runs ``repeats`` times."""

    scratch: Path
    repeats: int
    orders: Optional[int] = None
    """Orders of the large day; None means the size that the part defines."""
    days: Optional[int] = None
    """Maximum number of earlier days in the part ``growth``, and of dates in ``year``."""

    @property
    def demo(self) -> Path:
        """The landing folder of the demo shop, generated on first use."""
        landing = self.scratch / "demo"
        make_demo(landing)
        return landing

    def log(self, text: str) -> None:
        sys.stderr.write(f"  {text}\n")


@dataclass(frozen=True)
class Table:
    """A table of formatted results with a title and an optional remark."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    remark: str = ""

    def markdown(self) -> str:
        """Return Markdown; all columns except the first are aligned right."""
        lines = [f"| {' | '.join(self.columns)} |", f"|---{'|---:' * (len(self.columns) - 1)}|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return f"### {self.title}\n\n" + "\n".join(lines) + (f"\n\n{self.remark}\n" if self.remark else "\n")


def format_seconds(value: float) -> str:
    """Format seconds with two decimals, or none from 100 s."""
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def format_ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}"


def format_megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"
