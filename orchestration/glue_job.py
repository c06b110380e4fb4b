"""The job script: one stage of one run, or an errand. AWS Glue Python shell starts it, and so does the local runner, with the
same arguments.

    python glue_job.py --stage ingest --env local --run_date 2025-11-30 --run_id daily-2025-11-30-1 --overrides '{}'
    python glue_job.py --errand summary --env local --execution backfill-2025-11-01-2025-11-30-1 --overrides '{}'

On AWS a job is given ``--topic_arn`` besides. Then notify, once the run is on record, sends the message by that topic and the
run's metrics to CloudWatch, and a summary sends the backfill's message. A message that is not taken fails the job.

It ends with exit code 0 when the stage has an outcome, which is written to the archive for the state machine: SUCCEEDED,
SKIPPED, REJECTED, or FAILED for a permanent failure, which is not retried (``daybook.errors``). A fault ends it with a message
and exit code 1, and the state machine tries again. So does a permanent failure in notify, and one that leaves no settings to
find the archive by. What it prints holds no personal data.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import Any, Optional

# Beside this script lies the package, in a checkout and in the bundle alike.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from daybook.execution.fork_server.standalone import prepare_imports, start_standby_kernel

if __name__ == "__main__":
    prepare_imports()

from daybook.errors import DaybookError, NotificationError
from daybook.execution.run_record import HistoryLoader
from daybook.execution.stage import record_unstarted_failure, run_stage
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive, Record, failure_line
from daybook.records.names import STAGES
from daybook.records.notifications import parse_region
from daybook.records.timings import read_process_start
from daybook.scheduling.backfills import is_planned
from daybook.settings import load_settings, parse_run_date
from daybook.storage import describe_os_error, storage_write_error


def main(*, alone: bool = False) -> None:
    """Do what the arguments say; ``alone`` in a process that has just begun, and may fork its kernel off."""
    arguments = _arguments()
    try:
        if alone:
            start_standby_kernel(arguments.stage)
        if arguments.errand:
            _run_errand(arguments)
            return
        record = run_stage(
            arguments.stage,
            env=arguments.env,
            run_date=arguments.run_date,
            run_id=arguments.run_id,
            part_of=_backfill(arguments),
            overrides=arguments.overrides,
            extra=_caught(arguments),
            history=_history(arguments),
            began=read_process_start(),
        )
        if arguments.stage == STAGES[-1] and arguments.topic_arn and record["outcome"] != "FAILED":
            _tell(arguments, record)
    except DaybookError as error:
        said = Redactor().text(str(error))
        _end(f"{type(error).__name__}: {said}", normally=_ends_unstarted(arguments, error, said))
        return
    except OSError as error:
        if describe_os_error(error) is None:
            sys.exit(_traced(error))
        sys.exit(f"StorageError: {Redactor().text(str(storage_write_error(error.filename or 'A file', error)))}")
    except Exception as error:  # noqa: BLE001 (what Python would print may hold a row, and the log is for everybody)
        sys.exit(_traced(error))
    if record["outcome"] == "FAILED":
        _end(failure_line(record), normally=record["permanent"])


def _end(said: str, *, normally: bool) -> None:
    """Print why the job failed; exit with code 1 unless it ends normally, with its outcome on record."""
    if not normally:
        sys.exit(said)
    sys.stderr.write(f"{said}\n")


def _ends_unstarted(arguments: argparse.Namespace, error: DaybookError, said: str) -> bool:
    """Return whether the stage, which raised ``error`` outside of its notebook, has an outcome on record."""
    return bool(arguments.stage) and record_unstarted_failure(
        arguments.stage, env=arguments.env, run_id=arguments.run_id, overrides=arguments.overrides, error=error, said=said
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--stage", choices=STAGES)
    work.add_argument("--errand", choices=("gaps", "summary"))
    parser.add_argument("--env", required=True)
    parser.add_argument("--overrides", type=json.loads, default={})
    parser.add_argument("--topic_arn", help="the SNS topic that people are told by; without it nothing is told")
    stage = parser.add_argument_group("of a stage")
    stage.add_argument("--run_date")
    stage.add_argument("--run_id")
    stage.add_argument("--part_of", default="none", help="the backfill that the run is a day of, or none")
    stage.add_argument("--failure", help="JSON of what the state machine caught; for notify only")
    stage.add_argument("--execution_arn", help="the state machine's execution; for notify only")
    errand = parser.add_argument_group("of an errand")
    errand.add_argument("--execution", help="the backfill to sum up; for gaps, the name that the answer is left under")
    errand.add_argument("--limit", type=int, default=7, help="at most so many gaps")
    errand.add_argument("--since", default="none", help="YYYY-MM-DD or none")
    errand.add_argument("--until", default="none", help="YYYY-MM-DD or none")
    errand.add_argument("--include_stale", choices=("yes", "no"), default="no")
    arguments, _ = parser.parse_known_args()  # Glue adds arguments of its own.
    wanted = ("execution",) if arguments.errand else ("run_date", "run_id")
    for name in wanted:
        if getattr(arguments, name) is None:
            parser.error(f"the argument --{name} is required")
    return arguments


def _run_errand(arguments: argparse.Namespace) -> None:
    # Only here, since it reads tables: a stage's job has a kernel for that.
    from daybook.execution.tasks import plan_gap_backfill, summarize_backfill

    settings = load_settings(arguments.env, arguments.overrides)
    if arguments.errand == "summary":
        summary = summarize_backfill(settings, arguments.execution)
        if arguments.topic_arn:
            from daybook.execution.aws.notify import send_message

            send_message(arguments.topic_arn, summary["message"])
        return
    since, until = _given(arguments.since), _given(arguments.until)
    plan_gap_backfill(
        settings,
        arguments.execution,
        limit=arguments.limit,
        since=parse_run_date(since) if since else None,
        until=parse_run_date(until) if until else None,
        include_stale=arguments.include_stale == "yes",
    )


def _backfill(arguments: argparse.Namespace) -> Optional[str]:
    """Return the backfill that reports the run, if there is one.

    The input of an execution can name any backfill. A run that the named one does not plan sends its own message.
    """
    named = _given(arguments.part_of)
    if named is None:
        return None
    archive = Archive(load_settings(arguments.env, arguments.overrides).archive)
    return named if is_planned(archive, named, arguments.run_id) else None


def _caught(arguments: argparse.Namespace) -> dict[str, Any]:
    """What only notify is given, as parameters of its notebook."""
    given = {"failure": arguments.failure, "execution": arguments.execution_arn}
    return {name: value for name, value in given.items() if value is not None}


def _history(arguments: argparse.Namespace) -> Optional[HistoryLoader]:
    """How to ask for the execution's events, where it is Step Functions that executes."""
    execution = arguments.execution_arn
    if not execution or not parse_region(execution):
        return None
    from daybook.execution.aws.notify import read_execution_history

    return lambda: read_execution_history(execution)


def _tell(arguments: argparse.Namespace, record: Record) -> None:
    """Tell people and CloudWatch of a run that is on record, in the words that are."""
    from daybook.execution.aws.metrics import build_datapoints
    from daybook.execution.aws.notify import send_message, send_metrics
    from daybook.sources import load_source

    if record["details"].get("message"):
        send_message(arguments.topic_arn, record["details"]["message"])
    settings = load_settings(arguments.env, arguments.overrides)
    closed = Archive(settings.archive).read_closing_records(arguments.run_id)[-1]
    try:
        # After the message: what is tried again because that failed has not been counted yet.
        send_metrics(arguments.env, build_datapoints(closed, load_source(settings.source).calendar))
    except NotificationError as error:
        # Everything is done and people are told; a night without metrics rings the freshness alarm.
        sys.stderr.write(f"Warning: {error}\n")


def _given(text: str) -> Optional[str]:
    """An argument that may be left out; a job's arguments are texts, and an empty one is lost on the way."""
    return None if text == "none" else text


def _traced(error: Exception) -> str:
    """Where an unforeseen fault arose, and its class. Its message stays unsaid: nobody has searched it for personal data."""
    places = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    return f"{places}{type(error).__name__}: a fault in Daybook itself, in the lines above; its message is withheld"


if __name__ == "__main__":
    main(alone=True)
