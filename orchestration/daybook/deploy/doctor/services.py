"""What works: state machines, jobs and what they run from, schedules, who is told, what could not be delivered."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Optional

from daybook.deploy.doctor.checks import Check, Patient, asked, verdict
from daybook.deploy.doctor.environment import Clock
from daybook.deploy.release import stored_checksum
from daybook.settings import project_root


def look(patient: Patient, now: Clock) -> Iterator[Check]:
    """All of these questions."""
    machines = patient.named("pipeline", "AWS::StepFunctions::StateMachine", "StateMachineName")
    for logical_id, machine in machines.items():
        yield asked(f"state machine {machine}", patient.again, partial(_machine, patient, logical_id, machine))
    for job in patient.named("pipeline", "AWS::Glue::Job", "Name").values():
        yield asked(f"job {job}", patient.again, partial(_job, patient, job))
    for schedule in patient.named("pipeline", "AWS::Scheduler::Schedule", "Name").values():
        yield asked(f"schedule {schedule}", patient.again, partial(_schedule, patient, schedule, now))
    yield asked("subscriptions", patient.again, lambda: _subscriptions(patient))
    for queue, what in (("undelivered", "undelivered starts"), ("bad-ends", "unpublished messages")):
        yield asked(what, patient.again, partial(_queue, patient, queue, what))


def _machine(patient: Patient, logical_id: str, name: str) -> Check:
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
    return verdict(f"state machine {name}", f"active, as orchestration/{file.name} says", wrong, patient.again)


def _job(patient: Patient, name: str) -> Check:
    job = patient.account.client("glue").get_job(JobName=name)["Job"]
    s3 = patient.account.client("s3")
    bundle, script = job["DefaultArguments"].get("--bundle", ""), job["Command"]["ScriptLocation"]
    wrong = [_object(s3, bundle), _object(s3, script)]
    return verdict(f"job {name}", f"runs {script.rsplit('/', 1)[1]} from {bundle}", wrong, patient.again)


def _object(s3: Any, uri: str) -> Optional[str]:
    """What is wrong with an object that a job starts from: S3 worked its digest out as it came; a bundle's name says it."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    stored = base64.b64decode(stored_checksum(s3, bucket, key)).hex() if key else ""
    if not stored:
        return f"{uri or 'the bundle'} is not there, or has no digest"
    named = re.search(r"daybook-([0-9a-f]+)\.zip$", key)
    return f"{uri} is not what its name says" if named and not stored.startswith(named[1]) else None


def _schedule(patient: Patient, name: str, now: Clock) -> Check:
    found = patient.account.client("scheduler").get_schedule(Name=name, GroupName=f"daybook-{patient.env}")
    if found["State"] != "ENABLED":
        remedy = "deploy with Schedules=ENABLED, if dates are to be started by the clock"
        return Check(f"schedule {name}", "warning", "is switched off", remedy)
    at = next_daily(found["ScheduleExpression"], now())
    return Check(f"schedule {name}", "ok", f"next at {at:%Y-%m-%d %H:%M} UTC" if at else found["ScheduleExpression"])


def next_daily(expression: str, after: datetime) -> Optional[datetime]:
    """When a daily cron expression (``cron(0 2 * * ? *)``) is due next; None for any other."""
    found = re.fullmatch(r"cron\((\d+) (\d+) \* \* \? \*\)", expression)
    if not found:
        return None
    due = after.replace(hour=int(found[2]), minute=int(found[1]), second=0, microsecond=0)
    return due if due > after else due + timedelta(days=1)


def _subscriptions(patient: Patient) -> Check:
    topic = patient.account.arn("sns", f"daybook-{patient.env}")
    pages = patient.account.client("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
    found = [each for page in pages for each in page["Subscriptions"]]
    if not found:
        return Check("subscriptions", "failed", "nobody is told of anything", patient.again)
    waiting = [each["Endpoint"] for each in found if each["SubscriptionArn"] == "PendingConfirmation"]
    wrong = f"not confirmed by {', '.join(waiting)}, who is told nothing" if waiting else None
    good = f"{len(found)} confirmed: {', '.join(each['Endpoint'] for each in found)}"
    return verdict("subscriptions", good, [wrong], "follow the link in the mail from AWS Notifications", "warning")


def _queue(patient: Patient, queue: str, what: str) -> Check:
    """Return whether a dead-letter queue is empty."""
    sqs = patient.account.client("sqs")
    url = sqs.get_queue_url(QueueName=f"daybook-{patient.env}-{queue}")["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])["Attributes"]
    waiting = int(told["ApproximateNumberOfMessages"])
    wrong = f"{waiting} in the queue daybook-{patient.env}-{queue}" if waiting else None
    return verdict(what, "none", [wrong], f"read them in the queue, then `daybook gaps --env {patient.env}`")
