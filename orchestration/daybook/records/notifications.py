"""Write the message to people on a run or a backfill: whether one is sent, its text, its links."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, Optional, Union
from urllib.parse import quote

from daybook.records.archive import Archive, attempt_name
from daybook.records.failures import describe_failure, first_line
from daybook.records.models import AttemptRecord, Notification

MAX_SUBJECT_LENGTH = 99
"""SNS takes less than 100 characters, without line breaks."""
MAX_BODY_BYTES = 200_000
"""SNS takes 256 KiB, including what it adds to the text."""
PERMANENT_FAILURE = "Daybook.PermanentFailure"
"""The error that the state machine names for a stage with a permanent failure; its cause is the outcome's reason."""
_MAX_LINE_LENGTH = 1000
_MAX_LINES = 40
"""Maximum number of reasons or warnings in a message; the record has all."""
_LOG_GROUP_PREFIX = "/aws-glue/python-jobs"
"""Prefix of the log groups to which Glue writes what jobs print."""


def find_suppression_reason(run_id: str, outcome: str, warnings: Sequence[str], tell: str, part_of: Optional[str]) -> str:
    """Return why no message on a run is sent; empty if one is sent. ``tell`` is the setting: trouble, or always."""
    if not run_id:
        return "it is no run, but a notebook executed by itself."
    if part_of:
        return f"{part_of} sends one summary of all its days."
    if outcome == "SKIPPED":
        return "there was nothing to do."
    if outcome == "SUCCEEDED" and not warnings and tell != "always":
        return "it is a good day, without a warning (tell: always, in params/, tells of those too)."
    return ""


def run_message(
    *,
    env: str,
    options: str,
    title: str,
    run_id: str,
    run_date: Union[date, str],
    outcome: str,
    reasons: Sequence[str],
    news: Sequence[str],
    failed: Optional[AttemptRecord],
    caught: Optional[Mapping[str, Any]],
    archive: Archive,
    execution: str,
    rejected: Optional[tuple[str, str]] = None,
) -> Notification:
    """Return the message on a run: its outcome, the stage and cell, what to do, and where to look.

    Parameters
    ----------
    env, title
        The deployment, and the shop's title.
    run_id, run_date, outcome, reasons
        The run and its outcome.
    options
        Options that give a command the run's settings.
    news
        The date's figures and warnings, a line each.
    failed
        The attempt that decided the outcome, if it left a record.
    caught
        The error that the state machine caught, if it did.
    archive
        The archive with the run's records.
    execution
        ARN of the state machine's execution; empty if there is none.
    rejected
        The run and the date that commands on a rejected date of a range name.
    """
    stage = failed.stage if failed else _failed_stage(caught)
    where = f" in {stage}" if stage else ""
    lines = [f"{title}, {run_date}: {outcome}{where}", *_truncate_lines(reasons)]
    if failed and failed.failure and failed.failure.source:
        lines.append(f"Cell {failed.failure.cell} begins: {failed.failure.source}")
    lines += _truncate_lines(news)
    named = rejected if rejected and outcome == "REJECTED" else (run_id, str(run_date))
    commands = _suggest_commands(options, *named, outcome)
    if commands:
        lines += ["", "What to do:", *(f"  {each}" for each in commands)]
    lines += ["", "Where to look:", *(f"  {each}" for each in _list_links(archive, run_id, failed, caught, execution))]
    return Notification(subject=format_subject(f"Daybook {env}: {run_date} {outcome}{where}"), body=format_body(lines))


def format_subject(text: str) -> str:
    """Return a text as SNS takes it for a subject: one short line of ASCII."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.sub(r"[^\x20-\x7e]", " ", plain).split())[:MAX_SUBJECT_LENGTH]


def format_body(lines: Iterable[str]) -> str:
    """Return lines as the body of a message. Long lines are shortened, and the body is cut at ``MAX_BODY_BYTES``."""
    text = "\n".join(each if len(each) <= _MAX_LINE_LENGTH else f"{each[:_MAX_LINE_LENGTH]} …" for each in lines)
    data = text.encode()
    if len(data) <= MAX_BODY_BYTES:
        return text
    return f"{data[:MAX_BODY_BYTES].decode(errors='ignore')}\n… cut here; the record has all."


def describe_run_failure(failed: Optional[AttemptRecord], caught: Mapping[str, Any]) -> str:
    """Return one sentence on a failure: stage, cell, first line of the exception; without an attempt, what its job reported."""
    cause = str(caught.get("Cause") or "")
    if caught.get("Error") == PERMANENT_FAILURE and cause:
        # The cause is of this attempt. ``failed`` is an earlier one if the stage could not start.
        return first_line(cause)
    if failed:
        return describe_failure(failed)
    # The cause of a failed job is its description as JSON, which may be cut off.
    found = re.search(r'"ErrorMessage"\s*:\s*("(?:[^"\\]|\\.)*")', cause)
    message = first_line(json.loads(found[1]) if found else cause)[:300]
    return f"{_failed_stage(caught) or 'The run'} failed ({caught.get('Error', 'no error was named')}): {message}"


def execution_url(execution: str) -> str:
    """Return the address at which the AWS console shows an execution, given its ARN."""
    region = parse_region(execution)
    return f"https://{region}.console.aws.amazon.com/states/home?region={region}#/v2/executions/details/{execution}"


def parse_region(execution: str) -> str:
    """Return the region in an execution's ARN; empty for an execution on this machine."""
    parts = execution.split(":")
    return parts[3] if execution.startswith("arn:aws:states:") and parts[3] != "local" else ""


def _failed_stage(caught: Optional[Mapping[str, Any]]) -> str:
    """Return the stage whose state failed, such as ingest for Ingest and ReadIngestOutcome."""
    return re.sub(r"^Read|Outcome$|Ended$", "", str((caught or {}).get("State", ""))).lower()


def _suggest_commands(options: str, run_id: str, run_date: str, outcome: str) -> list[str]:
    if outcome == "FAILED":
        return [
            f"daybook show {run_id} {options}",
            f"daybook resume {run_id} {options}    (once the cause is mended; stages that ended well are not run again)",
        ]
    if outcome == "REJECTED":
        return [
            f"daybook quarantine list --date {run_date} {options}",
            f"daybook run --date {run_date} {options}    (once the shop has sent the files again)",
            f'daybook approve {run_id} --why "..." {options}    (if the day is right as it is)',
        ]
    return []


def _list_links(
    archive: Archive, run_id: str, failed: Optional[AttemptRecord], caught: Optional[Mapping[str, Any]], execution: str
) -> list[str]:
    region, folder = parse_region(execution), archive.folder(run_id)
    found = [f"the run's records: {_object_link(archive, f'{folder}/', region)}"]
    if failed and failed.html:
        page = f"{attempt_name(failed.stage, failed.attempt)}.html"
        found.insert(0, f"the executed notebook: {_object_link(archive, f'{folder}/{page}', region)}")
    if region:
        console = f"https://{region}.console.aws.amazon.com"
        found.append(f"the execution: {execution_url(execution)}")
        if caught:
            # The console needs a name in the fragment of an address to be quoted twice, with $ for %.
            group = quote(quote(_LOG_GROUP_PREFIX, safe=""), safe="").replace("%", "$")
            stream = re.search(r'"Id"\s*:\s*"(jr_[0-9a-f]+)"', str(caught.get("Cause") or ""))
            which = f" (stream {stream[1]})" if stream else ""
            logs = f"{console}/cloudwatch/home?region={region}#logsV2:log-groups$3FlogGroupNameFilter$3D{group}"
            found.append(f"the job's log{which}: {logs}")
    return found


def _object_link(archive: Archive, key: str, region: str) -> str:
    """Return an address in the AWS console for an object in a bucket whose region is known; else the object's own name."""
    where = archive.store.href(key)
    if not region or not where.startswith("s3://"):
        return where
    bucket, _, path = where[len("s3://") :].partition("/")
    kind = "buckets" if path.endswith("/") else "object"
    return f"https://s3.console.aws.amazon.com/s3/{kind}/{bucket}?region={region}&prefix={quote(path)}"


def _truncate_lines(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MAX_LINES
    return [*lines[:_MAX_LINES], *([f"and {more:,} more"] if more > 0 else [])]


def list_warnings(stages: Iterable[AttemptRecord]) -> list[str]:
    """Return the warnings of a run's attempts."""
    return [warning for each in stages for warning in each.details.warnings]
