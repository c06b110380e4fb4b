"""The message that people get of a run or of a backfill: to whom it is worth one, its words, its links."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Optional
from urllib.parse import quote

from daybook.records.archive import Archive, Record, attempt_name, describe_failure, first_line

MAX_SUBJECT_LENGTH = 99
"""SNS takes less than 100 characters, without line breaks."""
MAX_BODY_BYTES = 200_000
"""SNS takes 256 KiB with everything that it wraps the text in."""
PERMANENT_FAILURE = "Daybook.PermanentFailure"
"""The error that the state machine names for a stage with a permanent failure; its cause is the outcome's reason."""
_MAX_LINE_LENGTH = 1000
_MAX_LINES = 40
"""Reasons or warnings that a message names; the record has all."""
_LOG_GROUP_PREFIX = "/aws-glue/python-jobs"
"""Where Glue writes what jobs print: groups whose names begin so."""


@dataclass(frozen=True)
class Message:
    """A subject of one line of ASCII, and a body of plain text."""

    subject: str
    body: str

    def to_record(self) -> dict[str, str]:
        return {"subject": self.subject, "body": self.body}


def find_suppression_reason(run_id: str, outcome: str, warnings: Sequence[str], tell: str, part_of: Optional[str]) -> str:
    """Why nobody is told of a run, or an empty text where somebody is. ``tell`` is the setting: trouble, or always."""
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
    run_date: str,
    outcome: str,
    reasons: Sequence[str],
    news: Sequence[str],
    failed: Optional[Record],
    caught: Optional[Record],
    archive: Archive,
    execution: str,
) -> Message:
    """What a run came to, in which stage and cell, what can be done about it, and where to look.

    ``news`` are the day's figures and warnings; ``failed`` is the attempt to blame, if one left a record; ``caught`` what the
    state machine caught; ``execution`` its ARN, or empty. ``options`` give a command the run's settings.
    """
    stage = failed["stage"] if failed else _failed_stage(caught)
    where = f" in {stage}" if stage else ""
    lines = [f"{title}, {run_date}: {outcome}{where}", *_truncate_lines(reasons)]
    failure = (failed or {}).get("failure") or {}
    if failure.get("source"):
        lines.append(f"Cell {failure['cell']} begins: {failure['source']}")
    lines += _truncate_lines(news)
    todo = _suggest_commands(options, run_id, run_date, outcome)
    if todo:
        lines += ["", "What to do:", *(f"  {each}" for each in todo)]
    lines += ["", "Where to look:", *(f"  {each}" for each in _list_links(archive, run_id, failed, caught, execution))]
    return Message(format_subject(f"Daybook {env}: {run_date} {outcome}{where}"), format_body(lines))


def format_subject(text: str) -> str:
    """A text as SNS takes it for a subject: one line of ASCII, short enough."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.sub(r"[^\x20-\x7e]", " ", plain).split())[:MAX_SUBJECT_LENGTH]


def format_body(lines: Iterable[str]) -> str:
    """Lines as a body, none of them endless, cut where SNS would not take it."""
    text = "\n".join(each if len(each) <= _MAX_LINE_LENGTH else f"{each[:_MAX_LINE_LENGTH]} …" for each in lines)
    data = text.encode()
    if len(data) <= MAX_BODY_BYTES:
        return text
    return f"{data[:MAX_BODY_BYTES].decode(errors='ignore')}\n… cut here; the record has all."


def describe_run_failure(failed: Optional[Record], caught: Record) -> str:
    """One sentence for a failure: stage, cell, the exception's first line; where no attempt told, what its job did."""
    cause = str(caught.get("Cause") or "")
    if caught.get("Error") == PERMANENT_FAILURE and cause:
        # Of this attempt. ``failed`` is an earlier one where the stage could not start.
        return first_line(cause)
    if failed:
        return describe_failure(failed)
    # Of a job, the cause is its description as JSON, and perhaps cut off.
    told = re.search(r'"ErrorMessage"\s*:\s*("(?:[^"\\]|\\.)*")', cause)
    said = json.loads(told[1]) if told else cause
    return (
        f"{_failed_stage(caught) or 'The run'} failed ({caught.get('Error', 'no error was named')}): {first_line(said)[:300]}"
    )


def execution_url(execution: str) -> str:
    """Where AWS shows an execution, by its ARN, to people."""
    region = parse_region(execution)
    return f"https://{region}.console.aws.amazon.com/states/home?region={region}#/v2/executions/details/{execution}"


def parse_region(execution: str) -> str:
    """The region in an execution's ARN; empty where there is none: on a laptop it is local."""
    parts = execution.split(":")
    return parts[3] if execution.startswith("arn:aws:states:") and parts[3] != "local" else ""


def _failed_stage(caught: Optional[Record]) -> str:
    """The stage whose state failed: ingest, for Ingest and ReadIngestOutcome."""
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


def _list_links(archive: Archive, run_id: str, failed: Optional[Record], caught: Optional[Record], execution: str) -> list[str]:
    region, folder = parse_region(execution), archive.folder(run_id)
    found = [f"the run's records: {_object_link(archive, f'{folder}/', region)}"]
    if failed and failed.get("html"):
        page = f"{attempt_name(failed['stage'], failed['attempt'])}.html"
        found.insert(0, f"the executed notebook: {_object_link(archive, f'{folder}/{page}', region)}")
    if region:
        console = f"https://{region}.console.aws.amazon.com"
        found.append(f"the execution: {execution_url(execution)}")
        if caught:
            # The console wants a name in an address's fragment to be quoted twice, with $ for %.
            group = quote(quote(_LOG_GROUP_PREFIX, safe=""), safe="").replace("%", "$")
            stream = re.search(r'"Id"\s*:\s*"(jr_[0-9a-f]+)"', str(caught.get("Cause") or ""))
            which = f" (stream {stream[1]})" if stream else ""
            logs = f"{console}/cloudwatch/home?region={region}#logsV2:log-groups$3FlogGroupNameFilter$3D{group}"
            found.append(f"the job's log{which}: {logs}")
    return found


def _object_link(archive: Archive, key: str, region: str) -> str:
    """An address of the console, where the archive is a bucket and a region is known; else the object's own name."""
    where = archive.store.href(key)
    if not region or not where.startswith("s3://"):
        return where
    bucket, _, path = where[len("s3://") :].partition("/")
    kind = "buckets" if path.endswith("/") else "object"
    return f"https://s3.console.aws.amazon.com/s3/{kind}/{bucket}?region={region}&prefix={quote(path)}"


def _truncate_lines(lines: Sequence[str]) -> list[str]:
    more = len(lines) - _MAX_LINES
    return [*lines[:_MAX_LINES], *([f"and {more:,} more"] if more > 0 else [])]


def list_warnings(stages: Iterable[dict[str, Any]]) -> list[str]:
    """What a run's attempts warn of."""
    return [warning for each in stages for warning in each["details"].get("warnings", [])]
