"""Define the targets of the benchmark and compare the results of all parts with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Callable, Optional

from benchmarks import comparison, small, validation, volume, year
from benchmarks.bench import Result, Table


@dataclass(frozen=True)
class Target:
    """A figure of a part's result and its bound: an upper bound, or a lower bound if ``at_least``."""

    part: str
    what: str
    bound: float
    found: Callable[[Result], Optional[float]]
    goal: Optional[float] = None
    at_least: bool = False
    unit: str = ""

    def is_reached(self, value: float, bound: float) -> bool:
        return value >= bound if self.at_least else value <= bound

    def describe_bound(self) -> str:
        sign = "≥" if self.at_least else "≤"
        goal = "" if self.goal is None else f" (goal {self.goal:g})"
        return f"{sign} {self.bound:g}{self.unit}{goal}"

    def verdict(self, value: float) -> str:
        """Return whether ``value`` reaches the bound, and the goal if there is one."""
        if not self.is_reached(value, self.bound):
            return "no"
        return "yes" if self.goal is None or self.is_reached(value, self.goal) else "yes, not the goal"


def _seconds(result: Result, name: str) -> float:
    found: float = result["systems"][name]["seconds"]
    return found


def _ratio(first: str, second: str) -> Callable[[Result], float]:
    return lambda result: _seconds(result, first) / _seconds(result, second)


def _overhead(result: Result) -> float:
    return median(small.notebook_overhead(each["phases"]) for each in result["systems"]["daybook"]["stages"])


def _backfill(result: Result) -> float:
    loops = [_seconds(result, name) for name in result["systems"] if name.startswith("papermill")]
    return min(loops) / _seconds(result, "daybook backfill --parallel 2")


def _memory(result: Result) -> float:
    found: dict[str, Any] = result["systems"]
    return float(found["daybook"]["peak_bytes"] / found["limit"]["peak_bytes"])


def _full_size_only(found: Callable[[Result], float]) -> Callable[[Result], Optional[float]]:
    """Ignore results of another size (``--orders``), for which no target is defined."""
    return lambda result: found(result) if result["orders"] == volume.ORDERS else None


def _year(first: str, second: str) -> Callable[[Result], Optional[float]]:
    """Return the rate of ``first`` divided by that of ``second``, for a whole year only."""

    def found(result: Result) -> Optional[float]:
        systems = result["systems"]
        if systems["limit"]["dates"] != year.DATE_COUNT:
            return None
        return year.dates_per_minute(systems[first]) / year.dates_per_minute(systems[second])

    return found


def _growth(result: Result) -> Optional[float]:
    seconds = {each["days"]: each["seconds"] for each in result["points"]}
    return seconds[1000] / seconds[10] if {10, 1000} <= seconds.keys() else None


def _live_files(result: Result) -> Optional[float]:
    return next((float(each["files"]) for each in result["points"] if each["days"] == 1000), None)


def _reading(result: Result) -> Optional[float]:
    """Return the largest ratio of all gold tables."""
    ratios = [each["delta_seconds"] / each["parquet_seconds"] for each in result.get("reading", [])]
    return max(ratios, default=None)


TARGETS = (
    Target("small", "a date within a command ÷ the limit", 6, _ratio("daybook", "limit"), goal=4),
    Target("small", "`daybook run` from the shell ÷ the papermill command", 0.5, _ratio("daybook cold", "papermill command")),
    Target("small", "overhead of a notebook besides its cells", 0.25, _overhead, unit=" s"),
    Target("start", "`daybook --help`", 0.25, lambda result: _seconds(result, "daybook --help"), unit=" s"),
    Target("start", "`daybook runs`", 0.5, lambda result: _seconds(result, "daybook runs"), unit=" s"),
    Target(
        "backfill", "dates per minute, two at a time ÷ one at a time", 1.7,
        _ratio("daybook backfill --parallel 1", "daybook backfill --parallel 2"), at_least=True,
    ),
    Target("backfill", "dates per minute ÷ the fastest papermill command", 5, _backfill, goal=10, at_least=True),
    Target(
        "year", "dates per minute ÷ papermill by date", 10, _year("daybook backfill", "papermill by date, 2 at once"),
        at_least=True,
    ),
    Target("year", "time ÷ the limit", 4, _year("limit", "daybook backfill")),
    Target(
        "year", "largest process of the backfill", 2147,
        lambda result: float(result["systems"]["daybook backfill"]["peak_bytes"] / 1e6), unit=" MB",
    ),
    Target("volume", "200,000 orders ÷ the limit", 2, _full_size_only(_ratio("daybook", "limit")), goal=1.3),
    Target("volume", "200,000 orders: largest process ÷ that of the limit", 1.2, _full_size_only(_memory)),
    Target(
        "volume", "200,000 orders: time of pandas notebooks ÷ Daybook", 2.5,
        _full_size_only(_ratio("papermill-pandas", "daybook")), at_least=True,
    ),
    Target("growth", "a day with 1,000 earlier days ÷ one with 10", 1.3, _growth),
    Target("growth", "live data files of 1,000 days", 1500, _live_files),
    Target("growth", "a SELECT over all days of a gold table, in a session ÷ one of a Parquet file", 1.5, _reading),
    Target("validation", "a contract's rules ÷ a SELECT of their columns", validation.BOUND, _ratio("rules", "SELECT")),
    Target(
        "comparison", "comparing two versions of a table ÷ a SELECT of their columns", comparison.BOUND,
        _ratio("a twentieth", "SELECT"),
    ),
    Target("comparison", "comparing a million rows", 10, lambda result: _seconds(result, "a twentieth"), unit=" s"),
)  # fmt: skip


def build_target_table(results: Mapping[str, Result]) -> Table:
    """Return a table of all targets with the measured values."""
    rows = []
    for target in TARGETS:
        value = target.found(results[target.part]) if target.part in results else None
        found = ["not measured", ""] if value is None else [f"{value:.2f}{target.unit}", target.verdict(value)]
        rows.append([target.what, target.part, target.describe_bound(), *found])
    limited = results.get("limited", {"lines": 0, "systems": {}})
    for name, each in limited["systems"].items():
        passes = {"SUCCEEDED": "yes", "not measured": ""}.get(each["outcome"], "no")
        rows.append([f"{limited['lines']:,} lines with {name}", "limited", "passes", each["outcome"].lower(), passes])
    return Table("Targets and results", ["figure", "part", "target", "result", "reached"], rows)
