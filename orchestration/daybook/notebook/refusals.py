"""Refuse run dates whose candidates a gate rejects, as one date after the other would."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import Callable

from daybook.notebook.basis import CandidateBasis
from daybook.notebook.context import Stage
from daybook.notebook.gate import apply_approval
from daybook.notebook.stale_dates import hold_dates
from daybook.quality.checks import RuleResult
from daybook.quality.gates import Finding

FindingsOf = Callable[[date, Sequence[date], Collection[date]], tuple[list[Finding], list[RuleResult]]]
"""Given a run date, the dates that it touched and that no refused date holds, and the refused dates before it: what a gate
finds, and the results of all rules."""


def refuse_dates(stage: Stage, basis: CandidateBasis, find: FindingsOf, rows: Mapping[date, int]) -> set[date]:
    """Reject the run dates whose candidates a gate refuses, and hold what they touched; return them.

    The run dates are judged in order, each by the dates that it touched. What a refused date has touched is held, so it is left
    out for the dates after it.

    Parameters
    ----------
    stage
        The open stage.
    basis
        The basis of the candidates.
    find
        What the gate finds.
    rows
        By run date, the rows that came in.
    """
    refused: dict[date, list[str]] = {}
    held: set[date] = set()
    for day in stage.dates:
        findings, rules = find(day, [each for each in basis.touched(day) if each not in held], refused)
        reasons = apply_approval(stage, day, findings, rules) if findings or rules else []
        if reasons:
            refused[day] = reasons
            held.update(each for each, touched_by in basis.touched_by.items() if day in touched_by)
    if refused:
        # Their rows are in silver, and gold stays without them.
        hold_dates(stage, list(refused))
    for day, reasons in refused.items():
        stage.reject_date(day, reasons, rows_in=rows.get(day))
    return set(refused)
