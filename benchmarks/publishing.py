"""Results as ``docs/benchmarks.md``, with the picture of the growth, and the short table in the README.

Here: writing those. Not here: the tables of a part (in its module), measuring.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import targets
from benchmarks.bench import Result, format_ratio, format_seconds
from daybook.settings import project_root

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
_SHORT_SYSTEMS = ("limit", "papermill", "papermill command", "daybook", "daybook cold")
_INTRODUCTION = """# Benchmarks

Written by `make bench ARGS="--write"`, of the parts that were taken before (`python -m benchmarks --help` says which
there are; `all` takes all). Systems are measured in turn, A B C A B C, each repeat on a fresh copy of the same lake, and
figures are medians. What a system comes to is compared with the others, to the cent, before its time counts. What each part
does and leaves out stands at the head of its module in `benchmarks/`; the work by hand is `byhand.py`, and the papermill
notebooks are made of its source.
"""


def write_results(results: Mapping[str, Result], parts: Sequence[str]) -> None:
    """Write what there is of results; raises ``SystemExit`` where there is none."""
    if not results:
        raise SystemExit("There are no results yet: name a part to run.")
    docs = project_root() / "docs"
    docs.mkdir(exist_ok=True)
    text = f"{_INTRODUCTION}\n## targets\n\n{targets.build_target_table(results).markdown()}"
    for part in parts:
        if part not in results:
            continue
        module = import_module(f"benchmarks.{part}")
        text += f"\n## {part}\n\n" + "\n".join(table.markdown() for table in module.tables(results[part]))
        if part == "growth":
            draw_growth(results[part]["points"], docs / "growth.png")
            text += "\n![Seconds of a day by the number of days before it](growth.png)\n"
        text += f"\n{describe_machine(results[part]['machine'])}\n"
    (docs / "benchmarks.md").write_text(text, encoding="utf-8")
    if "small" in results:
        readme = project_root() / "README.md"
        readme.write_text(
            replace_short_table(readme.read_text(encoding="utf-8"), render_short_table(results["small"])), encoding="utf-8"
        )


def describe_machine(facts: Mapping[str, Any]) -> str:
    """One sentence of what the figures were taken on."""
    packages = ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    load = " ".join(f"{each:.2f}" for each in facts["load_before"])
    return (
        f"*{facts['processor']}, {facts['cores']} cores, {facts['memory_gb']:.0f} GB, {facts['system']}, "
        f"Python {facts['python']}; {packages}. Load before: {load}.*"
    )


def render_short_table(result: Result) -> str:
    """The README's table: the small day, by system."""
    names = import_module("benchmarks.small").NAMES
    found = result["systems"]
    times = {name: found[name]["seconds"] for name in _SHORT_SYSTEMS}
    rows = [
        f"| {names[name]} | {format_seconds(each)} | {format_ratio(each, times['papermill'])} |" for name, each in times.items()
    ]
    head = ["| one day of the demo shop | median | ÷ papermill in a loop |", "|---|---:|---:|"]
    return "\n".join([*head, *rows, "", describe_machine(result["machine"])])


def replace_short_table(readme: str, table: str) -> str:
    """The README with the table between its markers; ``ValueError`` where it has none."""
    if len(re.findall(f"{re.escape(BEGIN)}.*?{re.escape(END)}", readme, re.DOTALL)) != 1:
        raise ValueError(f"README.md needs one pair of the lines {BEGIN} and {END}; put them where the table is to be.")
    before, _, rest = readme.partition(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def draw_growth(points: Sequence[Mapping[str, Any]], file: Path) -> None:
    """The curve: seconds of a day (median, least and most) over the number of days before it."""
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
    axes.set_xlabel("days before it in the lake")
    axes.set_ylabel("seconds")
    axes.set_title("A day of the demo shop, warm")
    axes.grid(axis="y", color="#e6e9ec")
    figure.savefig(file, metadata={"Software": None})
