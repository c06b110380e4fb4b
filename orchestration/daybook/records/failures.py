"""Describe the failure of an attempt in one sentence."""

from __future__ import annotations

from daybook.records.models import AttemptRecord

NOT_RETRIED = "not retried: the same input would fail again"
"""Why a stage with a permanent failure has one attempt."""

_MAX_LINE_LENGTH = 2_000
"""Maximum length of a reason's first line."""


def describe_failure(attempt: AttemptRecord) -> str:
    """Return one sentence on a failed attempt: stage, cell, why it was not retried, first line of the exception."""
    failure = attempt.failure
    retried = f", {NOT_RETRIED}" if failure and failure.permanent else ""
    cell = f" in cell {failure.cell}" if failure and failure.cell else ""
    return f"{attempt.stage} failed{cell} (attempt {attempt.attempt}{retried}): {failure_line(attempt)}"


def failure_line(attempt: AttemptRecord) -> str:
    """Return the exception of a failed attempt and the first line of its message.

    Records of earlier releases may have no failure, or one without an exception.
    """
    exception = attempt.failure.exception if attempt.failure else None
    message = attempt.failure.message if attempt.failure else None
    return ": ".join(filter(None, [exception, first_line(message or "")]))


def first_line(text: str) -> str:
    """Return the first line of a message, shortened if it is very long, or that there was no message."""
    line = (text.strip().splitlines() or ["no reason was given"])[0]
    if len(line) <= _MAX_LINE_LENGTH:
        return line
    return f"{line[:_MAX_LINE_LENGTH]} [left out: {len(line) - _MAX_LINE_LENGTH:,} characters]"
