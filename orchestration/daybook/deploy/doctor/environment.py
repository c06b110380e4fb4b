"""What everything stands on: who asks, clocks, quotas, roles, stacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any, Callable

from daybook.deploy.doctor.checks import Check, CheckContext, build_check, run_check
from daybook.execution.aws.account import error_code, error_reason

MAX_SKEW_SECONDS = 60
"""Clocks that differ by more are told; AWS refuses requests whose clock differs by five minutes."""
Clock = Callable[[], datetime]


def check_environment(patient: CheckContext, now: Clock) -> Iterator[Check]:
    """All of these questions."""
    caller = patient.account
    yield Check("credentials", "ok", f"account {caller.number}, region {caller.region}, as {caller.caller}")
    yield run_check("clock", "set this machine's clock (NTP)", lambda: _check_clock(patient, now))
    yield _check_quotas(patient)
    for name in _list_roles(patient):
        yield _check_role(patient, name)
    yield run_check(
        "passing roles", "deploy as the deployer's role, see infra/deployer.yaml", lambda: _check_pass_role(patient)
    )
    for template in patient.templates.values():
        stack = template.stack_name(patient.env)
        yield run_check(f"stack {stack}", patient.deploy_command, partial(_check_stack, patient, stack))


def _check_clock(patient: CheckContext, now: Clock) -> Check:
    told = patient.account.client("sts").get_caller_identity()["ResponseMetadata"]["HTTPHeaders"].get("date")
    if told is None:
        return Check("clock", "warning", "AWS did not say its time", "ask again")
    skew = abs((now() - parsedate_to_datetime(told).astimezone(timezone.utc)).total_seconds())
    wrong = f"{skew:,.0f} s apart from AWS's, which refuses requests from 300 s on" if skew > MAX_SKEW_SECONDS else None
    return build_check("clock", f"within {MAX_SKEW_SECONDS} s of AWS's", [wrong], "set this machine's clock (NTP)", "warning")


def _check_quotas(patient: CheckContext) -> Check:
    """Whether as many jobs may run at a time as the deployment starts; without an answer, a doubt and no fault."""
    from botocore.exceptions import BotoCoreError, ClientError

    runs, dpu = float(patient.values.get("MaxConcurrentRuns", "5")), float(patient.values.get("Dpu", "0.0625"))
    needed = {"concurrent job runs per account": runs, "task dpus per account": runs * dpu}
    found: dict[str, float] = {}
    try:
        client = patient.account.client("service-quotas")
        for page in client.get_paginator("list_service_quotas").paginate(ServiceCode="glue"):
            for quota in page["Quotas"]:
                found.update({key: quota["Value"] for key in needed if key in quota["QuotaName"].lower()})
    except ClientError as error:
        why = f"could not be asked: {error_reason(error)} ({error_code(error)})"
        return Check("quotas", "warning", why, "look at AWS Glue's quotas in the console")
    except BotoCoreError as error:
        return Check("quotas", "warning", f"could not be asked: {error}", "look at AWS Glue's quotas in the console")
    wrong = [
        f"{key}: {found[key]:g}, and {most:g} are needed" for key, most in needed.items() if key in found and found[key] < most
    ]
    told = ", ".join(f"{key}: {value:g}" for key, value in found.items()) or "none is told"
    return build_check("quotas", told, wrong, "ask for more in Service Quotas, or lower MaxConcurrentRuns")


def _list_roles(patient: CheckContext) -> list[str]:
    made = (each for name in ("deployer", "pipeline") for each in patient.named(name, "AWS::IAM::Role", "RoleName").values())
    return list(made)


def _check_role(patient: CheckContext, name: str) -> Check:
    def question() -> Check:
        patient.account.client("iam").get_role(RoleName=name)
        return Check(f"role {name}", "ok", "is there")

    return run_check(f"role {name}", patient.deploy_command, question)


def _check_pass_role(patient: CheckContext) -> Check:
    """Whether the caller may hand the role that makes resources to CloudFormation, as IAM works it out."""
    name = "passing roles"
    source = _principal_arn(patient)
    role = f"arn:{patient.account.partition}:iam::{patient.account.number}:role/resources-daybook-{patient.env}"
    if not source:
        return Check(name, "ok", "the account's root may do anything; better deploy as the deployer's role")
    given = {"ContextKeyName": "iam:PassedToService", "ContextKeyType": "string"}
    (result,) = patient.account.client("iam").simulate_principal_policy(
        PolicySourceArn=source,
        ActionNames=["iam:PassRole"],
        ResourceArns=[role],
        ContextEntries=[{**given, "ContextKeyValues": ["cloudformation.amazonaws.com"]}],
    )["EvaluationResults"]
    wrong = None if result["EvalDecision"] == "allowed" else f"{source} may not pass {role} ({result['EvalDecision']})"
    return build_check(name, f"{source} may pass {role}", [wrong], "deploy as the deployer's role, see infra/deployer.yaml")


def _principal_arn(patient: CheckContext) -> str:
    """Whose policies the caller acts under: a user's or role's ARN, with its path; empty for root."""
    caller = patient.account.caller
    if caller.endswith(":root"):
        return ""
    if ":assumed-role/" not in caller:
        return caller
    role = caller.split("/")[1]
    return str(patient.account.client("iam").get_role(RoleName=role)["Role"]["Arn"])


def _check_stack(patient: CheckContext, stack: str) -> Check:
    from botocore.exceptions import ClientError

    try:
        (found,) = patient.account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
    except ClientError as error:
        if "does not exist" in error_reason(error):
            return Check(f"stack {stack}", "failed", "is not there", patient.deploy_command)
        raise
    return _check_stack_status(f"stack {stack}", found, patient.deploy_command)


def _check_stack_status(name: str, stack: dict[str, Any], again: str) -> Check:
    status = stack["StackStatus"]
    drift = stack.get("DriftInformation", {}).get("StackDriftStatus", "NOT_CHECKED")
    if status in ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"):
        drifted = f"{status}, but somebody changed its resources by hand (drift)" if drift == "DRIFTED" else None
        return build_check(name, f"{status}, drift {drift.lower().replace('_', ' ')}", [drifted], again, "warning")
    if status.endswith("_IN_PROGRESS") or status == "UPDATE_ROLLBACK_COMPLETE":
        why = "the last change failed and was taken back" if "ROLLBACK" in status else "is being changed"
        return Check(name, "warning", f"{status}: {why}", f"wait, or {again}")
    return Check(name, "failed", status, again)
