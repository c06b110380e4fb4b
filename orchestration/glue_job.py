"""Run one stage of a run, or a task of a backfill. AWS Glue and the local runner start this script with the same arguments.

    python glue_job.py --stage ingest --env local --run_date 2025-11-30 --run_id daily-2025-11-30-1 --overrides '{}'
    python glue_job.py --errand summary --env local --execution backfill-2025-11-01-2025-11-30-1 --overrides '{}'

A stage of a range also has ``--until``, its last date.

On AWS there is also ``--topic_arn``. Notify then sends the recorded run's message to this topic and its metrics to CloudWatch,
and a summary sends the backfill's message. A message that cannot be sent fails the job.

The exit code is 0 if the archive has an outcome of the stage: SUCCEEDED, SKIPPED, REJECTED, or FAILED for a permanent failure,
which is not retried (``daybook.errors``). Other failures end with a message and exit code 1, and the state machine retries. So
do permanent failures in notify, and those without settings to find the archive. The output contains no personal data.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import Any, Optional

# The package is next to this script, in a checkout and in the bundle.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from daybook.execution.fork_server.standalone import prepare_imports, start_standby_kernel

if __name__ == "__main__":
    prepare_imports()

from daybook.errors import DaybookError, NotificationError
from daybook.execution.run_record import HistoryLoader
from daybook.execution.stage import record_unstarted_failure, run_stage
from daybook.privacy.redactor import Redactor
from daybook.records.archive import Archive
from daybook.records.failures import failure_line
from daybook.records.models import AttemptRecord
from daybook.records.names import STAGES
from daybook.records.notifications import parse_region
from daybook.records.timings import read_process_start
from daybook.scheduling.backfills import is_planned
from daybook.scheduling.ranges import DEFAULT_CHUNK
from daybook.settings import load_settings, parse_run_date
from daybook.storage import describe_os_error, storage_write_error


def main(*, standalone: bool = False) -> None:
    """Run the stage or task of the arguments. With ``standalone`` in a new process, it may fork its kernel."""
    arguments = _parse_arguments()
    try:
        if standalone:
            start_standby_kernel(arguments.stage)
        if arguments.errand:
            _run_task(arguments)
            return
        record = run_stage(
            arguments.stage,
            env=arguments.env,
            run_date=arguments.run_date,
            until=_optional(arguments.until),
            run_id=arguments.run_id,
            splits=arguments.splits,
            part_of=_find_backfill(arguments),
            overrides=arguments.overrides,
            extra=_notify_parameters(arguments),
            history=_history_loader(arguments),
            process_start=read_process_start(),
        )
        if arguments.stage == STAGES[-1] and arguments.topic_arn and record.outcome != "FAILED":
            _send_notifications(arguments, record)
    except DaybookError as error:
        message = Redactor().redact_text(str(error))
        _end(f"{type(error).__name__}: {message}", recorded=_is_failure_recorded(arguments, error, message))
        return
    except OSError as error:
        if describe_os_error(error) is None:
            sys.exit(_format_traceback(error))
        sys.exit(f"StorageError: {Redactor().redact_text(str(storage_write_error(error.filename or 'A file', error)))}")
    except Exception as error:  # noqa: BLE001 (a message may contain personal data, and the log is not restricted)
        sys.exit(_format_traceback(error))
    if record.outcome == "FAILED":
        _end(failure_line(record), recorded=record.permanent)


def _end(message: str, *, recorded: bool) -> None:
    """Print why the job failed; exit with code 1 unless the archive has its permanent failure."""
    if not recorded:
        sys.exit(message)
    sys.stderr.write(f"{message}\n")


def _is_failure_recorded(arguments: argparse.Namespace, error: DaybookError, message: str) -> bool:
    """Record a permanent failure outside of the notebook; return whether that was done."""
    return bool(arguments.stage) and record_unstarted_failure(
        arguments.stage, env=arguments.env, run_id=arguments.run_id, overrides=arguments.overrides, error=error, message=message
    )


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    work = parser.add_mutually_exclusive_group(required=True)
    work.add_argument("--stage", choices=STAGES)
    work.add_argument("--errand", choices=("gaps", "summary"))
    parser.add_argument("--env", required=True)
    parser.add_argument("--overrides", type=json.loads, default={})
    parser.add_argument("--topic_arn", help="SNS topic for messages; without it nothing is sent")
    parser.add_argument("--until", default="none", help="stage: last date of a range; gaps: last date; YYYY-MM-DD or none")
    stage = parser.add_argument_group("stage")
    stage.add_argument("--run_date")
    stage.add_argument("--run_id")
    stage.add_argument("--part_of", default="none", help="the backfill of the run, or none")
    stage.add_argument("--failure", help="error that the state machine caught, as JSON; for notify only")
    stage.add_argument("--execution_arn", help="the execution of the state machine; for notify only")
    stage.add_argument("--splits", type=int, default=0, help="how often a range was halved before; for notify only")
    task = parser.add_argument_group("task")
    task.add_argument("--execution", help="summary: the backfill; gaps: the execution that reads the result")
    task.add_argument("--limit", type=int, default=7, help="maximum number of gaps")
    task.add_argument("--since", default="none", help="YYYY-MM-DD or none")
    task.add_argument("--chunk", default=DEFAULT_CHUNK, help="gaps: day, week, month or a number of dates")
    task.add_argument("--include_stale", choices=("yes", "no"), default="no")
    arguments, _ = parser.parse_known_args()  # Glue adds further arguments
    required = ("execution",) if arguments.errand else ("run_date", "run_id")
    for name in required:
        if getattr(arguments, name) is None:
            parser.error(f"the argument --{name} is required")
    return arguments


def _run_task(arguments: argparse.Namespace) -> None:
    # Imported here, because a stage's job does not read tables itself.
    from daybook.execution.tasks import plan_gap_backfill, summarize_backfill

    settings = load_settings(arguments.env, arguments.overrides)
    if arguments.errand == "summary":
        summary = summarize_backfill(settings, arguments.execution)
        if arguments.topic_arn and summary.message:
            from daybook.execution.aws.notify import send_message

            send_message(arguments.topic_arn, summary.message)
        return
    since, until = _optional(arguments.since), _optional(arguments.until)
    plan_gap_backfill(
        settings,
        arguments.execution,
        limit=arguments.limit,
        since=parse_run_date(since) if since else None,
        until=parse_run_date(until) if until else None,
        include_stale=arguments.include_stale == "yes",
        chunk=arguments.chunk,
    )


def _find_backfill(arguments: argparse.Namespace) -> Optional[str]:
    """Return the backfill that reports the run, if there is one.

    The input of an execution can name any backfill. If that backfill does not plan the run, the run sends its own message.
    """
    backfill_id = _optional(arguments.part_of)
    if backfill_id is None:
        return None
    archive = Archive(load_settings(arguments.env, arguments.overrides).archive)
    return backfill_id if is_planned(archive, backfill_id, arguments.run_id) else None


def _notify_parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that only the notebook of notify has."""
    parameters = {"failure": arguments.failure, "execution": arguments.execution_arn}
    return {name: value for name, value in parameters.items() if value is not None}


def _history_loader(arguments: argparse.Namespace) -> Optional[HistoryLoader]:
    """Return a function that reads the events of an execution on AWS; None for a local one."""
    execution = arguments.execution_arn
    if not execution or not parse_region(execution):
        return None
    from daybook.execution.aws.notify import read_execution_history

    return lambda: read_execution_history(execution)


def _send_notifications(arguments: argparse.Namespace, record: AttemptRecord) -> None:
    """Send the recorded message of a run to SNS, and its metrics to CloudWatch."""
    from daybook.execution.aws.metrics import build_datapoints
    from daybook.execution.aws.notify import send_message, send_metrics
    from daybook.sources import load_source

    if record.details.message:
        send_message(arguments.topic_arn, record.details.message)
    settings = load_settings(arguments.env, arguments.overrides)
    closed = Archive(settings.archive).read_closing_records(arguments.run_id)[-1]
    try:
        # After the message, so that a retry because of a failed message does not send metrics twice.
        send_metrics(arguments.env, build_datapoints(closed, load_source(settings.source).calendar))
    except NotificationError as error:
        # Not an error, because the message was sent, and the freshness alarm detects missing metrics.
        sys.stderr.write(f"Warning: {error}\n")


def _optional(text: str) -> Optional[str]:
    """Return an optional argument; "none" stands for a missing one, because Glue drops empty arguments."""
    return None if text == "none" else text


def _format_traceback(error: Exception) -> str:
    """Return the traceback and class of an unexpected error, without its message, which may contain personal data."""
    lines = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    return f"{lines}{type(error).__name__}: unexpected error in Daybook, see the lines above; its message is withheld"


if __name__ == "__main__":
    main(standalone=True)
