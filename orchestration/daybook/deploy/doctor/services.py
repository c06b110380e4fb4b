"""What works: state machines, jobs and what they run from, schedules, who is told, what could not be delivered."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Optional

from daybook.deploy.doctor.checks import Check, CheckContext, build_check, run_check
from daybook.deploy.doctor.environment import Clock
from daybook.deploy.release import stored_checksum
from daybook.settings import project_root


def check_services(patient: CheckContext, now: Clock) -> Iterator[Check]:
    """All of these questions."""
    machines = patient.named("pipeline", "AWS::StepFunctions::StateMachine", "StateMachineName")
    for logical_id, machine in machines.items():
        yield run_check(
            f"state machine {machine}", patient.deploy_command, partial(_check_machine, patient, logical_id, machine)
        )
    for job in patient.named("pipeline", "AWS::Glue::Job", "Name").values():
        yield run_check(f"job {job}", patient.deploy_command, partial(_check_job, patient, job))
    for schedule in patient.named("pipeline", "AWS::Scheduler::Schedule", "Name").values():
        yield run_check(f"schedule {schedule}", patient.deploy_command, partial(_check_schedule, patient, schedule, now))
    yield run_check("subscriptions", patient.deploy_command, lambda: _check_subscriptions(patient))
    for queue, what in (("undelivered", "undelivered starts"), ("bad-ends", "unpublished messages")):
        yield run_check(what, patient.deploy_command, partial(_check_queue, patient, queue, what))


def _check_machine(patient: CheckContext, logical_id: str, name: str) -> Check:
    key = patient.templates["pipeline"].resources[logical_id]["Properties"]["DefinitionS3Location"]["Key"]
    file = project_root() / "orchestration" / key["Sub"].rsplit("/", 1)[1]
    found = patient.account.client("stepfunctions").describe_state_machine(
        stateMachineArn=patient.account.arn("states", f"stateMachine:{name}")
    )
    wanted = file.read_text(encoding="utf-8").replace("${BundleUri}", patient.values.get("BundleUri", ""))
    wanted = wanted.replace("${TopicArn}", patient.account.arn("sns", f"daybook-{patient.env}"))
    same = json.loads(found["definition"]) == json.loads(wanted)
    wrong = [
        None if found["status"] == "ACTIVE" else f"is {found['status']}",
        None if same else f"is not what orchestration/{file.name} says",
    ]
    return build_check(f"state machine {name}", f"active, as orchestration/{file.name} says", wrong, patient.deploy_command)


def _check_job(patient: CheckContext, name: str) -> Check:
    job = patient.account.client("glue").get_job(JobName=name)["Job"]
    s3 = patient.account.client("s3")
    bundle, script = job["DefaultArguments"].get("--bundle", ""), job["Command"]["ScriptLocation"]
    wrong = [_object_problem(s3, bundle), _object_problem(s3, script)]
    return build_check(f"job {name}", f"runs {script.rsplit('/', 1)[1]} from {bundle}", wrong, patient.deploy_command)


def _object_problem(s3: Any, uri: str) -> Optional[str]:
    """What is wrong with an object that a job starts from: S3 worked its digest out as it came; a bundle's name says it."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    stored = base64.b64decode(stored_checksum(s3, bucket, key)).hex() if key else ""
    if not stored:
        return f"{uri or 'the bundle'} is not there, or has no digest"
    named = re.search(r"daybook-([0-9a-f]+)\.zip$", key)
    return f"{uri} is not what its name says" if named and not stored.startswith(named[1]) else None


def _check_schedule(patient: CheckContext, name: str, now: Clock) -> Check:
    found = patient.account.client("scheduler").get_schedule(Name=name, GroupName=f"daybook-{patient.env}")
    if found["State"] != "ENABLED":
        remedy = "deploy with Schedules=ENABLED, if dates are to be started by the clock"
        return Check(f"schedule {name}", "warning", "is switched off", remedy)
    at = next_daily_time(found["ScheduleExpression"], now())
    return Check(f"schedule {name}", "ok", f"next at {at:%Y-%m-%d %H:%M} UTC" if at else found["ScheduleExpression"])


def next_daily_time(expression: str, after: datetime) -> Optional[datetime]:
    """When a daily cron expression (``cron(0 2 * * ? *)``) is due next; None for any other."""
    found = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", expression)
    if not found:
        return None
    due = after.replace(hour=int(found[2]), minute=int(found[1]), second=0, microsecond=0)
    return due if due > after else due + timedelta(days=1)


def _check_subscriptions(patient: CheckContext) -> Check:
    topic = patient.account.arn("sns", f"daybook-{patient.env}")
    pages = patient.account.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = [each for page in pages for each in page["Subscriptions"]]
    if not found:
        return Check("subscriptions", "failed", "nobody is told of anything", patient.deploy_command)
    waiting = [each["Endpoint"] for each in found if each["SubscriptionArn"] == "PendingConfirmation"]
    wrong = f"not confirmed by {', '.join(waiting)}, who is told nothing" if waiting else None
    good = f"{len(found)} confirmed: {', '.join(each['Endpoint'] for each in found)}"
    return build_check("subscriptions", good, [wrong], "follow the link in the mail from AWS Notifications", "warning")


def _check_queue(patient: CheckContext, queue: str, what: str) -> Check:
    """Return whether a dead-letter queue is empty."""
    sqs = patient.account.client("sqs")
    url = sqs.get_queue_url(QueueName=f"daybook-{patient.env}-{queue}")["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    waiting = int(told["ApproximateNumberOfMessages"])
    wrong = f"{waiting} in the queue daybook-{patient.env}-{queue}" if waiting else None
    return build_check(what, "none", [wrong], f"read them in the queue, then `daybook gaps --env {patient.env}`")
