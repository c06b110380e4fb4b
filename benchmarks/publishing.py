"""Write the results of benchmarks to ``docs/benchmarks.md`` and a chart of the part ``growth``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.bench import Result
from daybook.settings import project_root

_INTRODUCTION = """# Benchmarks

`make bench ARGS="all --write"` measures all parts and writes this page. [Performance](performance.md) describes the parts.
Systems are measured in turn (A B C A B C), each repeat on a fresh copy of the same lake. Figures are medians. The results of
all systems are compared, to the cent, before their times count. The docstring of each part's module says what the part does and
leaves out. The work by hand is in `byhand.py`; the papermill notebooks are generated from its source.
"""


def write_results(results: Mapping[str, Result], parts: Sequence[str]) -> None:
    """Write the results of all measured parts, and keep those of others; raise ``SystemExit`` if there are none."""
    if not results:
        raise SystemExit("There are no results yet; name a part to run.")
    docs = project_root() / "docs"
    docs.mkdir(exist_ok=True)
    page = docs / "benchmarks.md"
    earlier = _split_parts(page.read_text(encoding="utf-8")) if page.exists() else {}
    measured = targets.build_target_table(results).markdown()
    text = f"{_INTRODUCTION}\n## targets\n\n{_keep_values(measured, earlier.get('targets', ''))}"
    for part in parts:
        if part not in results:
            text += f"\n{earlier[part]}" if part in earlier else ""
            continue
        module = import_module(f"benchmarks.{part}")
        text += f"\n## {part}\n\n" + "\n".join(table.markdown() for table in module.tables(results[part]))
        if part == "growth":
            draw_growth(results[part]["points"], docs / "growth.png")
            text += "\n![Seconds of a day by the number of earlier days](growth.png)\n"
        text += f"\n{describe_machine(results[part]['machine'])}\n"
    page.write_text(text, encoding="utf-8")


def _keep_values(table: str, earlier: str) -> str:
    """Return a table of targets, with the earlier values of figures that were not measured."""
    values = {line.split("|")[1]: line for line in earlier.splitlines() if line.startswith("|")}
    lines = [values.get(line.split("|")[1], line) if "| not measured |" in line else line for line in table.splitlines()]
    return "\n".join(lines) + "\n"


def _split_parts(page: str) -> dict[str, str]:
    """Return the sections of a page by their headings, each with its heading."""
    sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)[1:]
    return {section.splitlines()[0][3:]: section.rstrip("\n") + "\n" for section in sections}


def describe_machine(facts: Mapping[str, Any]) -> str:
    """Return one line with the machine and packages of a measurement."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    load = " ".join(f"{each:.2f}" for each in facts["load_before"])
    return (
        f"*{facts['processor']}, {facts['cores']} cores, {facts['memory_gb']:.0f} GB, {facts['system']}, "
        f"Python {facts['python']}; {packages}. Load before: {load}.*"
    )


def draw_growth(points: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Draw the seconds of a day (median, minimum and maximum) by the number of earlier days."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.4), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    days = [each["days"] for each in points]
    medians = [each["seconds"] for each in points]
    spread = [
        [max(middle - min(each["all_seconds"]), 0) for each, middle in zip(points, medians)],
        [max(max(each["all_seconds"]) - middle, 0) for each, middle in zip(points, medians)],
    ]
    axes.errorbar(days, medians, yerr=spread, marker="o", color="#c8553d", capsize=3)
    axes.set_xscale("log")
    axes.set_xticks(days, [f"{each:,}" for each in days])
    axes.set_ylim(0, None)
    axes.set_xlabel("earlier days in the lake")
    axes.set_ylabel("seconds")
    axes.set_title("A day of the demo shop, warm")
    axes.grid(axis="y", color="#e6e9ec")
    figure.savefig(file, metadata={"Software": None})
