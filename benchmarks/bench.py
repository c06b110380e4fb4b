"""One call of the benchmark: where it works, how often it repeats, what it says meanwhile.

Here: what all parts are given. Not here: the parts, and how results are shown (``tables``).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from benchmarks.shop import make_demo

Result = dict[str, Any]


@dataclass(frozen=True)
class Bench:
    """``scratch`` holds landings and homes, which are made once; ``repeats`` counts those of each system, in turn."""

    scratch: Path
    repeats: int
    orders: Optional[int] = None
    """Of the large day, where it is not to be as large as the part has it."""
    days: Optional[int] = None
    """Up to so many days before, in the part growth."""

    @property
    def demo(self) -> Path:
        """The demo shop's landing."""
        landing = self.scratch / "demo"
        make_demo(landing)
        return landing

    def say(self, text: str) -> None:
        sys.stderr.write(f"  {text}\n")


@dataclass(frozen=True)
class Table:
    """A table of results: a title, a remark below it, columns, and rows of what is shown."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    remark: str = ""

    def markdown(self) -> str:
        """As Markdown; all columns but the first are figures."""
        lines = [f"| {' | '.join(self.columns)} |", f"|---{'|---:' * (len(self.columns) - 1)}|"]
        lines += [f"| {' | '.join(row)} |" for row in self.rows]
        return f"### {self.title}\n\n" + "\n".join(lines) + (f"\n\n{self.remark}\n" if self.remark else "\n")


def format_seconds(value: float) -> str:
    """Seconds as tables have them: three figures, no more."""
    return f"{value:.2f} s" if value < 100 else f"{value:.0f} s"


def format_ratio(value: float, base: float) -> str:
    return f"{value / base:.2f}"


def format_megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"
