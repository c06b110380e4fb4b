"""Divide numbers and costs in proportion to weights, so that the shares add up to the whole exactly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Optional, Union

from daybook.records.models import CostLine, JobCost, RunCost

AMOUNT_QUANTUM = Decimal("0.00000001")
"""The smallest amount in a cost."""


def sum_amounts(cost: RunCost) -> Decimal:
    """Return the sum of the amounts of a cost that are known."""
    lines: list[Union[JobCost, CostLine]] = [*cost.jobs, cost.transitions, cost.writes, cost.reads]
    return sum((Decimal(each.amount) for each in lines if each.amount is not None), Decimal(0))


def share_cost(cost: RunCost, weights: Sequence[int], range_id: str) -> list[RunCost]:
    """Divide the cost of a range among its dates. The shares add up to the whole exactly, in each part.

    Parameters
    ----------
    cost
        The cost of the range.
    weights
        Of each date, the rows that were processed. Dates share equally if there are none.
    range_id
        The range.
    """
    jobs = [_share_job(job, weights) for job in cost.jobs]
    executions = [
        [each.changed(transitions=share) for share in split_number(each.transitions, weights)] for each in cost.executions
    ]
    transitions, writes, reads = (_share_line(line, weights) for line in (cost.transitions, cost.writes, cost.reads))
    shares = [
        cost.changed(
            share_of=range_id,
            jobs=[each[date] for each in jobs],
            executions=[each[date] for each in executions],
            transitions=transitions[date],
            writes=writes[date],
            reads=reads[date],
        )
        for date in range(len(weights))
    ]
    return [each.changed(total=format(sum_amounts(each), "f")) for each in shares]


def split_number(number: int, weights: Sequence[int]) -> list[int]:
    """Divide a whole number in proportion to weights, or equally if all are zero. The parts add up to the number."""
    if not any(weights):
        weights = [1] * len(weights)
    whole = sum(weights)
    # The parts are the differences of rounded sums, so no rounding error is left over.
    sums = [(2 * number * each + whole) // (2 * whole) for each in itertools.accumulate(weights)]
    return [upper - lower for lower, upper in zip([0, *sums], sums)]


def _share_job(job: JobCost, weights: Sequence[int]) -> list[JobCost]:
    seconds = split_number(job.seconds, weights)
    amounts = _share_amount(job.amount, weights)
    return [job.changed(seconds=share, amount=amount) for share, amount in zip(seconds, amounts)]


def _share_line(line: CostLine, weights: Sequence[int]) -> list[CostLine]:
    counts: Sequence[Optional[int]] = [None] * len(weights) if line.count is None else split_number(line.count, weights)
    return [CostLine(count=count, amount=amount) for count, amount in zip(counts, _share_amount(line.amount, weights))]


def _share_amount(amount: Optional[str], weights: Sequence[int]) -> list[Any]:
    """Divide an amount, a decimal as text, into texts; None stays None."""
    if amount is None:
        return [None] * len(weights)
    quanta = int(Decimal(amount) / AMOUNT_QUANTUM)
    return [format(share * AMOUNT_QUANTUM, "f") for share in split_number(quanta, weights)]
