"""Check state machines, jobs, schedules, subscriptions and dead-letter queues."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Optional

from daybook.deploy.doctor.checks import Check, CheckContext, ProblemError, require_none
from daybook.deploy.doctor.environment import Clock
from daybook.deploy.release import stored_checksum
from daybook.settings import project_root


def check_services(context: CheckContext, now: Clock) -> Iterator[Check]:
    """Run all checks of this module."""
    machines = context.resource_names("pipeline", "AWS::StepFunctions::StateMachine", "StateMachineName")
    for logical_id, machine in machines.items():
        yield context.run(f"state machine {machine}", _check_machine, logical_id, machine)
    for job in context.resource_names("pipeline", "AWS::Glue::Job", "Name").values():
        yield context.run(f"job {job}", _check_job, job)
    for schedule in context.resource_names("pipeline", "AWS::Scheduler::Schedule", "Name").values():
        yield context.run(f"schedule {schedule}", _check_schedule, schedule, now)
    yield context.run("subscriptions", _check_subscriptions)
    for queue, content in (("undelivered", "undelivered starts"), ("bad-ends", "unpublished messages")):
        yield context.run(content, _check_dead_letters, f"daybook-{context.env}-{queue}")


def _check_machine(context: CheckContext, logical_id: str, name: str) -> str:
    key = context.templates["pipeline"].resources[logical_id]["Properties"]["DefinitionS3Location"]["Key"]
    file = project_root() / "orchestration" / key["Sub"].rsplit("/", 1)[1]
    found = context.account.client("stepfunctions").describe_state_machine(
        stateMachineArn=context.account.arn("states", f"stateMachine:{name}")
    )
    expected = file.read_text(encoding="utf-8").replace("${BundleUri}", context.values.get("BundleUri", ""))
    expected = expected.replace("${TopicArn}", context.account.arn("sns", f"daybook-{context.env}"))
    same = json.loads(found["definition"]) == json.loads(expected)
    require_none(
        [
            None if found["status"] == "ACTIVE" else f"is {found['status']}",
            None if same else f"differs from orchestration/{file.name}",
        ]
    )
    return f"active, equal to orchestration/{file.name}"


def _check_job(context: CheckContext, name: str) -> str:
    job = context.account.client("glue").get_job(JobName=name)["Job"]
    s3 = context.account.client("s3")
    bundle, script = job["DefaultArguments"].get("--bundle", ""), job["Command"]["ScriptLocation"]
    require_none([_object_problem(s3, bundle), _object_problem(s3, script)])
    return f"runs {script.rsplit('/', 1)[1]} from {bundle}"


def _object_problem(s3: Any, uri: str) -> Optional[str]:
    """Return the problem of an object that a job starts from. A bundle's name contains its digest, which S3 computed."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    stored = base64.b64decode(stored_checksum(s3, bucket, key)).hex() if key else ""
    if not stored:
        return f"{uri or 'the bundle'} does not exist or has no digest"
    digest = re.search(r"daybook-([0-9a-f]+)\.zip$", key)
    return f"{uri} does not match the digest in its name" if digest and not stored.startswith(digest[1]) else None


def _check_schedule(context: CheckContext, name: str, now: Clock) -> str:
    found = context.account.client("scheduler").get_schedule(Name=name, GroupName=f"daybook-{context.env}")
    if found["State"] != "ENABLED":
        raise ProblemError("is disabled", "deploy with Schedules=ENABLED to start runs by schedule", "warning")
    at = next_daily_time(found["ScheduleExpression"], now())
    return f"next at {at:%Y-%m-%d %H:%M} UTC" if at else str(found["ScheduleExpression"])


def next_daily_time(expression: str, after: datetime) -> Optional[datetime]:
    """Return the next time of a daily cron expression (``cron(0 2 * * ? *)``) after ``after``; None for any other."""
    found = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", expression)
    if not found:
        return None
    due = after.replace(hour=int(found[2]), minute=int(found[1]), second=0, microsecond=0)
    return due if due > after else due + timedelta(days=1)


def _check_subscriptions(context: CheckContext) -> str:
    topic = context.account.arn("sns", f"daybook-{context.env}")
    pages = context.account.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = [each for page in pages for each in page["Subscriptions"]]
    if not found:
        raise ProblemError("none, so messages are sent to nobody")
    pending = ", ".join(each["Endpoint"] for each in found if each["SubscriptionArn"] == "PendingConfirmation")
    if pending:
        message = f"not confirmed by {pending}, so they get no messages"
        raise ProblemError(message, "follow the link in the e-mail from AWS Notifications", "warning")
    return f"{len(found)} confirmed: {', '.join(each['Endpoint'] for each in found)}"


def _check_dead_letters(context: CheckContext, queue: str) -> str:
    sqs = context.account.client("sqs")
    url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    count = int(attributes["ApproximateNumberOfMessages"])
    if count:
        remedy = f"read them in the queue, then run `daybook gaps --env {context.env}`"
        raise ProblemError(f"{count} in the queue {queue}", remedy)
    return "none"
