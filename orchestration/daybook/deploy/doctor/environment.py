"""Check credentials, clock, quotas, roles and stacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Callable

from daybook.deploy.doctor.checks import Check, CheckContext, ProblemError, require_none

MAX_SKEW_SECONDS = 60
"""Maximum clock difference without a warning. AWS rejects requests with a difference of five minutes."""
Clock = Callable[[], datetime]


def check_environment(context: CheckContext, now: Clock) -> Iterator[Check]:
    """Run all checks of this module."""
    caller = context.account
    yield Check("credentials", "ok", f"account {caller.number}, region {caller.region}, as {caller.caller}")
    yield context.run("clock", _check_clock, now, remedy="set this machine's clock (NTP)")
    yield context.run("quotas", _check_quotas, remedy="see the quotas of AWS Glue in the console", unreadable="warning")
    for template in ("deployer", "pipeline"):
        for role in context.resource_names(template, "AWS::IAM::Role", "RoleName").values():
            yield context.run(f"role {role}", _check_role, role)
    remedy = "deploy with the deployer's role, see infra/deployer.yaml"
    yield context.run("passing roles", _check_pass_role, remedy=remedy)
    for each in context.templates.values():
        yield context.run(f"stack {each.stack_name(context.env)}", _check_stack, each.stack_name(context.env))


def _check_clock(context: CheckContext, now: Clock) -> str:
    date = context.account.client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        raise ProblemError("AWS sent no time", "run the command again", "warning")
    skew = abs((now() - parsedate_to_datetime(date).astimezone(timezone.utc)).total_seconds())
    if skew > MAX_SKEW_SECONDS:
        raise ProblemError(f"differs by {skew:,.0f} s from AWS, which rejects requests from 300 s on", state="warning")
    return f"differs by less than {MAX_SKEW_SECONDS} s from AWS"


def _check_quotas(context: CheckContext) -> str:
    """Check the Glue quotas for concurrent jobs."""
    runs, dpu = float(context.values.get("MaxConcurrentRuns", "5")), float(context.values.get("Dpu", "0.0625"))
    needed = {"concurrent job runs per account": runs, "task dpus per account": runs * dpu}
    found: dict[str, float] = {}
    client = context.account.client("service-quotas")
    for page in client.get_paginator("list_service_quotas").paginate(ServiceCode="glue"):
        for quota in page["Quotas"]:
            found.update({key: quota["Value"] for key in needed if key in quota["QuotaName"].lower()})
    require_none(
        [f"{key}: {value:g} of {needed[key]:g} needed" for key, value in found.items() if value < needed[key]],
        "request an increase in Service Quotas, or lower MaxConcurrentRuns",
    )
    return ", ".join(f"{key}: {value:g}" for key, value in found.items()) or "none found"


def _check_role(context: CheckContext, name: str) -> str:
    context.account.client("iam").get_role(RoleName=name)
    return "exists"


def _check_pass_role(context: CheckContext) -> str:
    """Check with IAM's simulation that the caller can pass the role for resources to CloudFormation."""
    source = _principal_arn(context)
    role = f"arn:{context.account.partition}:iam::{context.account.number}:role/resources-daybook-{context.env}"
    if not source:
        return "the root user has all permissions; deploy with the deployer's role instead"
    key = {"ContextKeyName": "iam:PassedToService", "ContextKeyType": "string"}
    (result,) = context.account.client("iam").simulate_principal_policy(
        PolicySourceArn=source,
        ActionNames=["iam:PassRole"],
        ResourceArns=[role],
        ContextEntries=[{**key, "ContextKeyValues": ["cloudformation.amazonaws.com"]}],
    )["EvaluationResults"]
    if result["EvalDecision"] != "allowed":
        raise ProblemError(f"{source} cannot pass {role} ({result['EvalDecision']})")
    return f"{source} can pass {role}"


def _principal_arn(context: CheckContext) -> str:
    """Return the ARN of the user or role whose policies apply to the caller; empty for the root user."""
    caller = context.account.caller
    if caller.endswith(":root"):
        return ""
    if ":assumed-role/" not in caller:
        return caller
    role = caller.split("/")[1]
    return str(context.account.client("iam").get_role(RoleName=role)["Role"]["Arn"])


def _check_stack(context: CheckContext, name: str) -> str:
    (stack,) = context.account.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    status = str(stack["StackStatus"])
    if status.endswith("_IN_PROGRESS") or status == "UPDATE_ROLLBACK_COMPLETE":
        reason = "the last change failed and was rolled back" if "ROLLBACK" in status else "a change is in progress"
        raise ProblemError(f"{status}: {reason}", f"wait, or {context.deploy_command}", "warning")
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        raise ProblemError(status)
    drift = stack.get("DriftInformation", {}).get("StackDriftStatus", "NOT_CHECKED")
    if drift == "DRIFTED":
        raise ProblemError(f"{status}, but resources were changed by hand (drift)", state="warning")
    return f"{status}, drift {drift.lower().replace('_', ' ')}"
