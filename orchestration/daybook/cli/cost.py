"""Command on the cost of runs: cost."""

# No `from __future__ import annotations`: on Python 3.9 Typer does not resolve Annotated in string annotations.

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Optional

import typer

from daybook.cli.app import (
    EnvOption,
    JsonOption,
    SetOption,
    app,
    console,
    escape_markup,
    load_command_settings,
    new_table,
    print_json,
)
from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.cost import COST_PARTS, ESTIMATED, CostSummary, sum_costs
from daybook.records.names import run_date_of

_AMOUNT_QUANTUM = Decimal("0.00001")
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
    archive = Archive(load_command_settings(env, set_).archive)
    names = [name for name in archive.run_ids() if month is None or run_date_of(name).isoformat().startswith(f"{month}-")]
    runs = [archive.run(name) for name in names]
    sums = sum_costs(runs)
    if as_json:
        print_json({"month": month, "runs": len(runs), "sums": [_to_json(each) for each in sums]})
        return
    if not runs:
        console.print(f"No run of {month or env} exists; `daybook runs` lists all runs.")
    for each in sums:
        _print_summary(each)
    _print_without(sums[0].runs_without_cost)


def _print_summary(found: CostSummary) -> None:
    if not found.runs:
        return
    parts = [part for part in COST_PARTS if part in found.by_stage]
    listing = new_table("date", *parts, "total", right=(*parts, "total"))
    for day, costs in found.by_date.items():
        listing.add_row(
            day, *(_format_amount(costs.get(part)) for part in parts), _format_amount(sum(costs.values(), Decimal(0)))
        )
    listing.add_row(
        "[bold]all[/]", *(_format_amount(found.by_stage[part]) for part in parts), f"[bold]{_format_amount(found.total)}[/]"
    )
    console.print(listing)
    runs = "1 run costs" if found.runs == 1 else f"{found.runs:,} runs cost"
    text = f"{runs} {_format_amount(found.total)} {found.currency} at the prices of {', '.join(found.prices)}"
    if found.bases == (ESTIMATED,):
        text += ". It is an estimate of what they would cost on AWS if they took the same time there"
    elif ESTIMATED in found.bases:
        text += ". A part of it is an estimate"
    console.print(f"{escape_markup(text)}.", soft_wrap=True)
    console.print(f"Not counted: {'; '.join(found.not_counted)}.", soft_wrap=True)


def _print_without(names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _MAX_LISTED_RUNS} more" if len(names) > _MAX_LISTED_RUNS else ""
        console.print(f"Without a cost on record: {escape_markup(', '.join(names[:_MAX_LISTED_RUNS]))}{more}.", soft_wrap=True)


def _format_amount(amount: Optional[Decimal]) -> str:
    return "" if amount is None else f"{amount.quantize(_AMOUNT_QUANTUM, rounding=ROUND_HALF_UP):,}"


def _to_json(found: CostSummary) -> dict[str, Any]:
    return {
        "currency": found.currency or None,
        "prices": found.prices,
        "bases": found.bases,
        "runs": found.runs,
        "total": format(found.total, "f"),
        "by_stage": _format_amounts(found.by_stage),
        "by_date": {day: _format_amounts(costs) for day, costs in found.by_date.items()},
        "not_counted": found.not_counted,
        "runs_without_cost": found.runs_without_cost,
    }


def _format_amounts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    """Return decimals as text, since JSON numbers are floats."""
    return {part: format(amount, "f") for part, amount in amounts.items()}
