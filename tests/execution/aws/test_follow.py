"""Test that following an execution on AWS shows the same as a local run, with child executions.

The local interpreter creates the histories; botocore's service description validates them as responses.
"""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from typing import Any, Callable, Optional

from rich.console import Console

from asl_local import FakeClock, StateMachine, TaskError, run_execution
from daybook.cli.progress import BackfillProgress, Progress
from daybook.execution.aws.follow import MAX_POLL_SECONDS, MIN_POLL_SECONDS, Follower
from daybook.records.fingerprint import state_machine_path
from daybook.settings import load_settings

RUN = "daily-2025-11-30-1"
JOB, OBJECT = "arn:aws:states:::glue:startJobRun.sync", "arn:aws:states:::aws-sdk:s3:getObject"
CHILD = "arn:aws:states:::states:startExecution.sync:2"
Event = dict[str, Any]


class NoWait(random.Random):
    def random(self) -> float:
        return 0.0


def executed(
    place: Path, machine: str, name: str, given: Event, services: dict[str, Callable[..., Any]], listener: Any = None
) -> list[Event]:
    """Run an execution with the local interpreter and return its history."""
    execution = run_execution(
        StateMachine.load(state_machine_path(machine)),
        name=name,
        input={"env": "prod", "overrides": {}, "archive": {"bucket": "b", "prefix": ""}, **given},
        services={JOB: succeed, OBJECT: succeed, CHILD: succeed, **services},
        journal=place / f"{name}.jsonl",
        clock=FakeClock(),
        random=NoWait(),
        listener=listener,
    )
    return list(execution.events)


def succeed(resource: str, arguments: Any, **_: Any) -> Event:
    if "Key" in arguments:
        stage = arguments["Key"].rsplit("/", 1)[1][: -len(".json")]
        rows = {"in": 10, "out": 9, "rejected": 1}
        return {"Body": json.dumps({"stage": stage, "outcome": "SUCCEEDED", "attempt": 1, "reasons": [], "rows": rows})}
    if "StateMachineArn" in arguments:
        return {"Output": {"outcome": "SUCCEEDED"}}
    return {"JobRunState": "SUCCEEDED"}


def shown(listen: Callable[[Progress], None]) -> list[str]:
    screen = io.StringIO()
    with Progress(Console(file=screen, width=120, color_system=None), load_settings("prod"), RUN, live=True) as progress:
        listen(progress)
    return screen.getvalue().splitlines()


def test_run_on_aws_is_shown_like_local_run(aws: Any, tmp_path: Path) -> None:
    here: list[Event] = []
    events = executed(tmp_path, "daily", RUN, {"run_date": "2025-11-30"}, {}, here.append)
    # Three polls: first events, no new ones, the rest. Each response has all events so far.
    aws.history("daily", RUN, events[:7])
    aws.history("daily", RUN, events[:7])
    aws.described("daily", RUN, "RUNNING")
    aws.history("daily", RUN, events)
    aws.described("daily", RUN, "SUCCEEDED")
    clock = FakeClock()
    followers: list[Follower] = []

    def follow(progress: Progress) -> None:
        followers.append(Follower(aws.executions, "daily", RUN, progress, clock=clock))
        assert followers[0].follow().status == "SUCCEEDED"

    def replay(progress: Progress) -> None:
        for event in here:
            progress(event)

    lines = shown(follow)
    assert lines == shown(replay)
    assert len(lines) == 7
    assert clock.sleeps == [MIN_POLL_SECONDS, MIN_POLL_SECONDS * 1.5]
    assert [each["id"] for each in followers[0].events] == [each["id"] for each in events]
    assert followers[0].events[3]["timestamp"] == events[3]["timestamp"]
    assert followers[0].events[0]["executionArn"] == aws.executions.arn("daily", RUN)


def test_failed_attempts_are_counted_without_notices(aws: Any, tmp_path: Path) -> None:
    faults = [TaskError("States.TaskFailed", "{}"), TaskError("States.TaskFailed", "{}")]

    def job(resource: str, arguments: Any, **_: Any) -> Event:
        if arguments["JobName"].endswith("validate") and faults:
            raise faults.pop()
        return {"JobRunState": "SUCCEEDED"}

    events = executed(tmp_path, "daily", RUN, {"run_date": "2025-11-30"}, {JOB: job})
    aws.history("daily", RUN, events)
    aws.described("daily", RUN, "SUCCEEDED")
    lines = shown(lambda progress: Follower(aws.executions, "daily", RUN, progress, clock=FakeClock()).follow() and None)
    assert [line.strip() for line in lines if "retrying" in line] == [
        "validate: attempt 1 failed, retrying",
        "validate: attempt 2 failed, retrying",
    ]


def test_poll_interval_grows_to_maximum(aws: Any, tmp_path: Path) -> None:
    events = executed(tmp_path, "daily", RUN, {"run_date": "2025-11-30"}, {})
    aws.history("daily", RUN, events[:1])
    for _ in range(9):
        aws.history("daily", RUN, events[:1])
        aws.described("daily", RUN, "RUNNING")
    aws.history("daily", RUN, events)
    aws.described("daily", RUN, "SUCCEEDED")
    clock = FakeClock()
    Follower(aws.executions, "daily", RUN, clock=clock).follow()
    assert clock.sleeps[0] == MIN_POLL_SECONDS
    assert clock.sleeps == sorted(clock.sleeps)
    assert clock.sleeps[-1] == MAX_POLL_SECONDS


def test_follow_ends_without_last_event(aws: Any) -> None:
    for _ in range(3):
        aws.history("daily", RUN, [])
        aws.described("daily", RUN, "ABORTED")
    aws.described("daily", RUN, "ABORTED", cause="by hand")
    assert Follower(aws.executions, "daily", RUN, clock=FakeClock()).follow().cause == "by hand"


def test_runs_of_backfill_are_followed(aws: Any, tmp_path: Path) -> None:
    name, run_id = "backfill-2025-11-30-2025-11-30-1", RUN
    day = executed(tmp_path, "daily", run_id, {"run_date": "2025-11-30"}, {})
    given = {"daily": "d", "backfill_id": name, "ranges": [{"run_date": "2025-11-30", "run_id": run_id}], "max_concurrency": 2}
    events = executed(tmp_path, "backfill", name, given, {})
    started = next(number for number, each in enumerate(events, 1) if "RunRange" in json.dumps(each))
    aws.history("backfill", name, events[:started])
    aws.history("daily", run_id, day[:10])
    aws.history("backfill", name, events)
    aws.history("daily", run_id, day)  # before the backfill's event for the end of the date
    aws.described("backfill", name, "SUCCEEDED")
    events_of_runs: list[tuple[str, Optional[str]]] = []
    screen = io.StringIO()
    with BackfillProgress(Console(file=screen, width=120, color_system=None), 1, shown=True) as progress:

        def of_day(child: str, event: Any) -> None:
            events_of_runs.append((child, event["type"]))
            progress.on_run_event(child, event)

        Follower(aws.executions, "backfill", name, progress, of_day, FakeClock()).follow()
    assert [kind for _, kind in events_of_runs] == [each["type"] for each in day]
    assert {child for child, _ in events_of_runs} == {run_id}
    assert re.search(rf"✓ {run_id} SUCCEEDED .*\(1 of 1", screen.getvalue())
    assert progress.counts == {"SUCCEEDED": 1}
