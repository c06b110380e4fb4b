"""Command on the cost of runs: cost."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import re
from collections.abc import Sequence
from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any, Optional

import typer

from daybook.cli.app import app, load_command_settings
from daybook.cli.options import EnvOption, JsonOption, SetOption
from daybook.cli.terminal import Part, format_number, print_json, print_line, print_table
from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.cost import COST_PARTS, ESTIMATED, CostSummary, cost_as_single_runs, load_prices, sum_costs
from daybook.records.formatting import format_decimal
from daybook.records.models import RunRecord
from daybook.records.names import run_date_of
from daybook.settings import Settings

_AMOUNT_DECIMALS = 5
_MAX_LISTED_RUNS = 5
"""Maximum number of runs without a cost that are listed; JSON has all."""


@app.command()
def cost(
    env: EnvOption = "local",
    set_: SetOption = None,
    as_json: JsonOption = False,
    month: Annotated[
        Optional[str],
        typer.Option("--month", help="Only business dates of this month, such as 2026-11.", metavar="YYYY-MM"),
    ] = None,
) -> None:
    """Show what runs cost on AWS, by business date and stage, from their records."""
    if month is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise UsageError(f"--month {month} is not a month; write it as YYYY-MM, for example 2026-11.")
    settings = load_command_settings(env, set_)
    archive = Archive(settings.archive)
    names = [name for name in archive.run_ids() if month is None or run_date_of(name).isoformat().startswith(f"{month}-")]
    runs = [archive.run(name) for name in names]
    sums = sum_costs(runs)
    ranges = _compare_ranges(settings, runs)
    if as_json:
        found = [{**asdict(each), "currency": each.currency or None} for each in sums]
        print_json({"month": month, "runs": len(runs), "sums": found, **({"ranges": ranges} if ranges else {})})
        return
    if not runs:
        print_line(f"No run of {month or env} exists; `daybook runs` lists all runs.")
    for each in sums:
        if each.runs:
            _print_summary(each)
    if ranges:
        total, single = (_format_amount(ranges[key]) for key in ("total", "as_single_runs"))
        dates = format_number(ranges["dates"], "date")
        print_line(f"{dates} of ranges cost {total} {ranges['currency']}; a run for each would have cost at least {single}.")
    without = sums[0].runs_without_cost
    if without:
        more = f" and {len(without) - _MAX_LISTED_RUNS} more" if len(without) > _MAX_LISTED_RUNS else ""
        print_line(f"Without a cost on record: {', '.join(without[:_MAX_LISTED_RUNS])}{more}.")


def _compare_ranges(settings: Settings, runs: Sequence[RunRecord]) -> Optional[dict[str, Any]]:
    """Return what the dates of ranges cost, and what a run for each would have cost; None without ranges or a price table."""
    if settings.prices is None:
        return None
    prices = load_prices(settings.prices)
    own = [each for each in runs if each.range_id and each.cost and each.cost.currency == prices.currency]
    if not own:
        return None
    total = sum((Decimal(each.cost.total) for each in own if each.cost), Decimal(0))
    single = cost_as_single_runs(own, prices)
    return {"dates": len(own), "total": total, "as_single_runs": single, "currency": prices.currency}


def _print_summary(found: CostSummary) -> None:
    parts = [part for part in COST_PARTS if part in found.by_stage]
    rows: list[list[Part]] = [
        [day, *(_format_amount(costs.get(part)) for part in parts), _format_amount(sum(costs.values(), Decimal(0)))]
        for day, costs in found.by_date.items()
    ]
    sums = [_format_amount(found.by_stage[part]) for part in parts]
    rows.append([("all", "bold"), *sums, (_format_amount(found.total), "bold")])
    print_table(["date", *parts, "total"], rows, right=[*parts, "total"])
    runs = "1 run costs" if found.runs == 1 else f"{found.runs:,} runs cost"
    text = f"{runs} {_format_amount(found.total)} {found.currency} at the prices of {', '.join(found.prices)}"
    if found.bases == (ESTIMATED,):
        text += ". It is an estimate of what they would cost on AWS if they took the same time there"
    elif ESTIMATED in found.bases:
        text += ". A part of it is an estimate"
    print_line(f"{text}.")
    print_line(f"Not counted: {'; '.join(found.not_counted)}.")


def _format_amount(amount: Optional[Decimal]) -> str:
    return "" if amount is None else format_decimal(amount, _AMOUNT_DECIMALS)
