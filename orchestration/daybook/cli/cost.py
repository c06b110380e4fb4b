"""The command on what runs cost: cost."""

# No `from __future__ import annotations` here: on Python 3.9 Typer reads Annotated only where it is no text.

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Optional

import typer

from daybook.cli.app import AsJson, Env, Set, app, console, escaped, new_table, print_json, settings_of
from daybook.errors import UsageError
from daybook.records.archive import Archive
from daybook.records.cost import ESTIMATED, PARTS, Sum, sum_costs
from daybook.records.names import run_date_of

_PLACES = Decimal("0.00001")
_NAMED = 5
"""Runs without a cost that are named; JSON has all."""


@app.command()
def cost(
    env: Env = "local",
    set_: Set = None,
    as_json: AsJson = False,
    month: Annotated[
        Optional[str],
        typer.Option("--month", help="Business dates of a month, such as 2026-11; else of all.", metavar="YYYY-MM"),
    ] = None,
) -> None:
    """Sum up what runs cost on AWS, by business date and stage, from their records alone."""
    if month is not None and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise UsageError(f"--month {month} is not a month; write it as YYYY-MM, for example 2026-11.")
    archive = Archive(settings_of(env, set_).archive)
    names = [name for name in archive.run_ids() if month is None or run_date_of(name).isoformat().startswith(f"{month}-")]
    runs = [archive.run(name) for name in names]
    sums = sum_costs(runs)
    if as_json:
        print_json({"month": month, "runs": len(runs), "sums": [_told(each) for each in sums]})
        return
    if not runs:
        console.print(f"There are no runs of {month or env}; `daybook runs` lists those there are.")
    for each in sums:
        _print(each)
    _print_without(sums[0].without)


def _print(found: Sum) -> None:
    if not found.runs:
        return
    parts = [part for part in PARTS if part in found.by_stage]
    listing = new_table("date", *parts, "total", right=(*parts, "total"))
    for day, costs in found.by_date.items():
        listing.add_row(day, *(_amount(costs.get(part)) for part in parts), _amount(sum(costs.values(), Decimal(0))))
    listing.add_row("[bold]all[/]", *(_amount(found.by_stage[part]) for part in parts), f"[bold]{_amount(found.total)}[/]")
    console.print(listing)
    runs = "1 run costs" if found.runs == 1 else f"{found.runs:,} runs cost"
    said = f"{runs} {_amount(found.total)} {found.currency} at the prices of {', '.join(found.prices)}"
    if found.bases == (ESTIMATED,):
        said += ". It is an estimate: what they would cost on AWS, had they taken as long there"
    elif ESTIMATED in found.bases:
        said += ". Some of it is an estimate"
    console.print(f"{escaped(said)}.", soft_wrap=True)
    console.print(f"Not counted: {'; '.join(found.not_counted)}.", soft_wrap=True)


def _print_without(names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        console.print(f"Without a cost on record: {escaped(', '.join(names[:_NAMED]))}{more}.", soft_wrap=True)


def _amount(amount: Optional[Decimal]) -> str:
    return "" if amount is None else f"{amount.quantize(_PLACES, rounding=ROUND_HALF_UP):,}"


def _told(found: Sum) -> dict[str, Any]:
    return {
        "currency": found.currency or None,
        "prices": found.prices,
        "bases": found.bases,
        "runs": found.runs,
        "total": format(found.total, "f"),
        "by_stage": _texts(found.by_stage),
        "by_date": {day: _texts(costs) for day, costs in found.by_date.items()},
        "not_counted": found.not_counted,
        "runs_without_cost": found.without,
    }


def _texts(amounts: Mapping[str, Decimal]) -> dict[str, str]:
    """Decimals as texts, since JSON's numbers are floats."""
    return {part: format(amount, "f") for part, amount in amounts.items()}
