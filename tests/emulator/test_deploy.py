"""Test ``daybook deploy`` and ``daybook destroy`` on an emulated account."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from tests.emulator.deployments import ENV, Deployment

pytestmark = pytest.mark.slow

STACKS = ("deployer", "foundation", "catalogue", "pipeline", "watch")


def test_second_deployment_changes_nothing(undeployed: Deployment) -> None:
    code, out, error = undeployed.deploy()
    assert (code, error) == (0, "")
    assert {undeployed.status(name) for name in STACKS} == {"CREATE_COMPLETE"}
    assert "  + NightlySchedule (AWS::Scheduler::Schedule)\n" in out
    assert re.search(r"^ +\d+ s  Daily \(AWS::StepFunctions::StateMachine\) CREATE_COMPLETE$", out, re.MULTILINE)
    assert out.endswith(f"Deployed: {', '.join(f'daybook-{ENV}-{name}' for name in STACKS)}.\n")

    code, out, error = undeployed.deploy()
    assert (code, error) == (0, "")
    assert out.splitlines()[-6:] == [*(f"daybook-{ENV}-{name}: nothing to change" for name in STACKS), "Nothing to change."]


def test_dry_run_of_first_deployment_creates_nothing(undeployed: Deployment) -> None:
    code, out, error = undeployed.deploy("--dry-run")
    assert (code, error) == (0, "")
    for resource in (
        "Boundary (AWS::IAM::ManagedPolicy)",
        "Lake (AWS::S3::Bucket)",
        "Attention (AWS::CloudWatch::CompositeAlarm)",
    ):
        assert f"  + {resource}\n" in out
    assert out.endswith("Nothing was changed (--dry-run).\n")
    assert {undeployed.status(name) for name in STACKS} <= {None, "DELETE_COMPLETE"}
    assert undeployed.client("s3").list_buckets()["Buckets"] == []


def test_dry_run_leaves_deployment_and_no_change_sets(deployed: Deployment) -> None:
    code, out, error = deployed.deploy("--dry-run", "--parameter", "CatchUpDates=3", "--parameter", "LatencyHours=20")
    assert (code, error) == (0, "")
    assert " CatchUpSchedule (AWS::Scheduler::Schedule): Target" in out
    assert " NotFresh (AWS::CloudWatch::Alarm): Threshold" in out
    schedule = deployed.client("scheduler").get_schedule(Name=f"daybook-{ENV}-catch-up", GroupName=f"daybook-{ENV}")
    assert '"limit": 7' in schedule["Target"]["Input"]
    for name in STACKS:
        left = deployed.client("cloudformation").list_change_sets(StackName=f"daybook-{ENV}-{name}")["Summaries"]
        assert [each for each in left if each["ExecutionStatus"] == "AVAILABLE"] == []


def test_changed_state_machine_is_deployed(deployed: Deployment) -> None:
    before = deployed.client("s3").list_objects_v2(Bucket=deployed.bucket("code"))["KeyCount"]
    deployed.replace("orchestration/daily.asl.json", "One run of a business date", "A run of a business date")
    code, out, error = deployed.deploy()
    assert (code, error) == (0, "")
    machine = deployed.client("stepfunctions").describe_state_machine(
        stateMachineArn=deployed.arn("states", f"stateMachine:daybook-{ENV}-daily")
    )
    definition = (deployed.root / "orchestration" / "daily.asl.json").read_text(encoding="utf-8")
    values = {"${BundleUri}": f"s3://{deployed.bucket('code')}/bundles/{deployed.bundle.name}"}
    values["${TopicArn}"] = deployed.arn("sns", f"daybook-{ENV}")
    for name, value in values.items():
        assert name in definition
        definition = definition.replace(name, value)
    assert machine["definition"] == definition
    # Four machines and the bootstrap script with a new prefix; bundle and templates are unchanged.
    assert deployed.client("s3").list_objects_v2(Bucket=deployed.bucket("code"))["KeyCount"] == before + 5
    assert out.count(f"s3://{deployed.bucket('code')}/releases/") == 5
    assert f"s3://{deployed.bucket('code')}/bundles/" not in out


RENAMED = (
    "infra/pipeline.yaml",
    "QueueName: !Sub daybook-${Environment}-undelivered",
    "QueueName: !Sub daybook-${Environment}-lost",
)


def queues(deployed: Deployment) -> list[str]:
    return sorted(url.rsplit("/", 1)[1] for url in deployed.client("sqs").list_queues()["QueueUrls"])


def test_replacement_needs_confirmation(deployed: Deployment) -> None:
    deployed.replace(*RENAMED)
    code, out, error = deployed.deploy()
    assert code == 2
    assert "-/+ Undelivered (AWS::SQS::Queue): QueueName - REPLACED, and ITS DATA IS LOST\n" in out
    assert error.startswith("Replaced or deleted: Undelivered; with their data: Undelivered. ")
    assert error.endswith("Nothing was changed; add --yes to confirm.\n")
    assert queues(deployed) == [f"daybook-{ENV}-bad-ends", f"daybook-{ENV}-undelivered"]

    code, _, error = deployed.deploy("--yes")
    assert (code, error) == (0, "")
    assert queues(deployed) == [f"daybook-{ENV}-bad-ends", f"daybook-{ENV}-lost"]


def test_confirmation_at_terminal(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed.replace(*RENAMED)
    asked = []

    def answer(given: bool):
        def confirm(text: str, **_: object) -> bool:
            asked.append(text)
            return given

        return confirm

    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.confirm", answer(False))
    code, out, _ = deployed.deploy()
    assert (code, out.splitlines()[-1]) == (1, "Nothing was changed.")
    monkeypatch.setattr("typer.confirm", answer(True))
    code, _, error = deployed.deploy()
    assert (code, error) == (0, "")
    assert "with their data: Undelivered" in asked[0]


def test_deployment_continues_after_failed_resource(undeployed: Deployment) -> None:
    # CloudFormation does not replace a job that exists outside the stack.
    glue = undeployed.client("glue")
    script = {"Name": "pythonshell", "ScriptLocation": "s3://elsewhere/own.py"}
    glue.create_job(Name=f"daybook-{ENV}-validate", Role="own", Command=script)
    code, out, error = undeployed.deploy()
    assert code == 1
    assert error.startswith(f"daybook-{ENV}-pipeline ended with ROLLBACK_COMPLETE: ValidateJob (AWS::Glue::Job) failed: ")
    assert error.endswith("; correct the cause, then try again.\n")
    assert error.count("\n") == 1
    assert "ValidateJob (AWS::Glue::Job) CREATE_FAILED: " in out
    assert undeployed.status("watch") is None
    # The rollback also deletes logs, which a deleted stack keeps.
    assert undeployed.client("logs").describe_log_groups()["logGroups"] == []

    glue.delete_job(JobName=f"daybook-{ENV}-validate")
    code, _, error = undeployed.deploy()
    assert (code, error) == (0, "")
    assert {undeployed.status(name) for name in STACKS} == {"CREATE_COMPLETE"}


def test_missing_parameter_stops_before_changes(undeployed: Deployment) -> None:
    undeployed.replace("params/prod.yaml", "    AlertEmail: data@shop.example\n", "")
    code, _, error = undeployed.deploy()
    assert code == 2
    assert error.startswith(
        "infra/foundation.yaml needs the parameter AlertEmail (The address for messages; AWS sends an e-mail to confirm it); "
    )
    assert {undeployed.status(name) for name in STACKS} == {None}


def test_previous_parameter_is_kept(deployed: Deployment) -> None:
    deployed.replace("params/prod.yaml", "    AlertEmail: data@shop.example\n", "")
    code, out, _ = deployed.deploy()
    assert (code, out.splitlines()[-1]) == (0, "Nothing to change.")


def test_destroy_keeps_data_for_next_deployment(deployed: Deployment) -> None:
    deployed.client("s3").put_object(Bucket=deployed.bucket("lake"), Key="gold/part.parquet", Body=b"x" * 1000)
    code, _, error = deployed.call("destroy")
    assert (code, error.count("\n")) == (2, 1)
    assert deployed.status("pipeline") == "CREATE_COMPLETE"

    code, out, error = deployed.call("destroy", "--yes")
    assert (code, error) == (0, "")
    assert {deployed.status(name) for name in ("deployer", "foundation")} == {"CREATE_COMPLETE"}
    assert {deployed.status(name) for name in ("catalogue", "pipeline", "watch")} <= {None, "DELETE_COMPLETE"}
    assert f"kept: bucket {deployed.bucket('lake')}, 0.0 MB, about 0.00 USD a month\n" in out
    assert "They cost about 1.40 USD a month" in out
    assert deployed.client("stepfunctions").list_state_machines()["stateMachines"] == []

    code, _, error = deployed.deploy()
    assert (code, error) == (0, "")
    kept = deployed.client("s3").get_object(Bucket=deployed.bucket("lake"), Key="gold/part.parquet")["Body"].read()
    assert kept == b"x" * 1000
    assert deployed.status("pipeline") == "CREATE_COMPLETE"


def test_destroy_data_needs_typed_name(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed.client("s3").put_object(Bucket=deployed.bucket("landing"), Key="orders.csv", Body=b"first")
    deployed.client("s3").put_object(Bucket=deployed.bucket("landing"), Key="orders.csv", Body=b"second")
    monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: True))
    monkeypatch.setattr("typer.prompt", lambda *_, **__: "yes")
    assert deployed.call("destroy", "--data")[0] == 1
    assert deployed.status("pipeline") == "CREATE_COMPLETE"

    monkeypatch.setattr("typer.prompt", lambda *_, **__: ENV)
    code, out, error = deployed.call("destroy", "--data")
    assert (code, error) == (0, "")
    assert deployed.client("s3").list_buckets()["Buckets"] == []
    assert {deployed.status(name) for name in STACKS} <= {None, "DELETE_COMPLETE"}
    secret = deployed.client("secretsmanager").describe_secret(SecretId=f"daybook-{ENV}-pii-key")
    assert secret["DeletedDate"]
    assert "can be restored until then" in out


def test_destroy_data_keeps_locked_objects_and_key(deployed: Deployment) -> None:
    # The emulator's CloudFormation does not set Object Lock; its S3 does.
    deployed.client("s3").put_object_lock_configuration(
        Bucket=deployed.bucket("archive"),
        ObjectLockConfiguration={
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 365}},
        },
    )
    record = deployed.client("s3").put_object(
        Bucket=deployed.bucket("archive"), Key="run.json", Body=b"{}", ChecksumAlgorithm="SHA256"
    )
    code, out, error = deployed.call("destroy", "--data", "--yes")
    assert (code, error) == (0, "")
    assert f"bucket {deployed.bucket('archive')}: kept, 1 object versions are locked\n" in out
    assert deployed.client("s3").head_object(Bucket=deployed.bucket("archive"), Key="run.json", VersionId=record["VersionId"])
    assert deployed.client("kms").describe_key(KeyId=f"alias/daybook-{ENV}")["KeyMetadata"]["KeyState"] == "Enabled"
    assert deployed.status("foundation") == "CREATE_COMPLETE"
