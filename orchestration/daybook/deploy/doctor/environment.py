"""Check credentials, clock, quotas, roles and stacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Callable

from daybook.deploy.doctor.checks import Check, CheckContext, build_check, run_check
from daybook.execution.aws.account import error_code, error_reason

MAX_SKEW_SECONDS = 60
"""Maximum clock difference without a warning. AWS rejects requests with a difference of five minutes."""
Clock = Callable[[], datetime]


def check_environment(context: CheckContext, now: Clock) -> Iterator[Check]:
    """Run all checks of this module."""
    caller = context.account
    yield Check("credentials", "ok", f"account {caller.number}, region {caller.region}, as {caller.caller}")
    yield run_check("clock", "set this machine's clock (NTP)", lambda: _check_clock(context, now))
    yield _check_quotas(context)
    for name in _list_roles(context):
        yield _check_role(context, name)
    yield run_check(
        "passing roles", "deploy with the deployer's role, see infra/deployer.yaml", lambda: _check_pass_role(context)
    )
    for template in context.templates.values():
        stack = template.stack_name(context.env)
        yield run_check(f"stack {stack}", context.deploy_command, partial(_check_stack, context, stack))


def _check_clock(context: CheckContext, now: Clock) -> Check:
    date = context.account.client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"].get("date")
    if date is None:
        return Check("clock", "warning", "AWS sent no time", "run the command again")
    skew = abs((now() - parsedate_to_datetime(date).astimezone(timezone.utc)).total_seconds())
    problem = f"differs by {skew:,.0f} s from AWS, which rejects requests from 300 s on" if skew > MAX_SKEW_SECONDS else None
    good = f"differs by less than {MAX_SKEW_SECONDS} s from AWS"
    return build_check("clock", good, [problem], "set this machine's clock (NTP)", "warning")


def _check_quotas(context: CheckContext) -> Check:
    """Check the Glue quotas for concurrent jobs; if they cannot be read, this is a warning."""
    from botocore.exceptions import BotoCoreError, ClientError

    runs, dpu = float(context.values.get("MaxConcurrentRuns", "5")), float(context.values.get("Dpu", "0.0625"))
    needed = {"concurrent job runs per account": runs, "task dpus per account": runs * dpu}
    found: dict[str, float] = {}
    try:
        client = context.account.client("service-quotas")
        for page in client.get_paginator("list_service_quotas").paginate(ServiceCode="glue"):
            for quota in page["Quotas"]:
                found.update({key: quota["Value"] for key in needed if key in quota["QuotaName"].lower()})
    except (ClientError, BotoCoreError) as error:
        reason = f"{error_reason(error)} ({error_code(error)})" if isinstance(error, ClientError) else str(error)
        return Check("quotas", "warning", f"could not be checked: {reason}", "see the quotas of AWS Glue in the console")
    problems = [
        f"{key}: {found[key]:g} of {minimum:g} needed"
        for key, minimum in needed.items()
        if key in found and found[key] < minimum
    ]
    good = ", ".join(f"{key}: {value:g}" for key, value in found.items()) or "none found"
    return build_check("quotas", good, problems, "request an increase in Service Quotas, or lower MaxConcurrentRuns")


def _list_roles(context: CheckContext) -> list[str]:
    names = [context.resource_names(template, "AWS::IAM::Role", "RoleName") for template in ("deployer", "pipeline")]
    return [role for each in names for role in each.values()]


def _check_role(context: CheckContext, name: str) -> Check:
    def check() -> Check:
        context.account.client("iam").get_role(RoleName=name)
        return Check(f"role {name}", "ok", "exists")

    return run_check(f"role {name}", context.deploy_command, check)


def _check_pass_role(context: CheckContext) -> Check:
    """Check with IAM's simulation that the caller can pass the role for resources to CloudFormation."""
    name = "passing roles"
    source = _principal_arn(context)
    role = f"arn:{context.account.partition}:iam::{context.account.number}:role/resources-daybook-{context.env}"
    if not source:
        return Check(name, "ok", "the root user has all permissions; deploy with the deployer's role instead")
    key = {"ContextKeyName": "iam:PassedToService", "ContextKeyType": "string"}
    (result,) = context.account.client("iam").simulate_principal_policy(
        PolicySourceArn=source,
        ActionNames=["iam:PassRole"],
        ResourceArns=[role],
        ContextEntries=[{**key, "ContextKeyValues": ["cloudformation.amazonaws.com"]}],
    )["EvaluationResults"]
    problem = None if result["EvalDecision"] == "allowed" else f"{source} cannot pass {role} ({result['EvalDecision']})"
    return build_check(name, f"{source} can pass {role}", [problem], "deploy with the deployer's role, see infra/deployer.yaml")


def _principal_arn(context: CheckContext) -> str:
    """Return the ARN of the user or role whose policies apply to the caller; empty for the root user."""
    caller = context.account.caller
    if caller.endswith(":root"):
        return ""
    if ":assumed-role/" not in caller:
        return caller
    role = caller.split("/")[1]
    return str(context.account.client("iam").get_role(RoleName=role)["Role"]["Arn"])


def _check_stack(context: CheckContext, stack: str) -> Check:
    from botocore.exceptions import ClientError

    try:
        (found,) = context.account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in error_reason(error):
            return Check(f"stack {stack}", "failed", "does not exist", context.deploy_command)
        raise
    return _check_stack_status(f"stack {stack}", found, context.deploy_command)


def _check_stack_status(name: str, stack: dict[str, Any], again: str) -> Check:
    status = stack["StackStatus"]
    drift = stack.get("DriftInformation", {}).get("StackDriftStatus", "NOT_CHECKED")
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        drifted = f"{status}, but resources were changed by hand (drift)" if drift == "DRIFTED" else None
        return build_check(name, f"{status}, drift {drift.lower().replace('_', ' ')}", [drifted], again, "warning")
    if status.endswith("_IN_PROGRESS") or status == "UPDATE_ROLLBACK_COMPLETE":
        reason = "the last change failed and was rolled back" if "ROLLBACK" in status else "a change is in progress"
        return Check(name, "warning", f"{status}: {reason}", f"wait, or {again}")
    return Check(name, "failed", status, again)
