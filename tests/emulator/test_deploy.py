"""``deploy`` and ``destroy``, against an emulated account: what is made, told, refused, kept."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from tests.emulator.deployments import ENV, Deployment

pytestmark = [pytest.mark.slow, pytest.mark.long]

STACKS = ("deployer", "foundation", "catalogue", "pipeline", "watch")


def test_a_first_deployment_makes_all_stacks_and_a_second_changes_nothing(undeployed: Deployment) -> None:
    code, out, error = undeployed.deploy()
    assert (code, error) == (0, "")
    assert {undeployed.status(name) for name in STACKS} == {"CREATE_COMPLETE"}
    assert "  + NightlySchedule (AWS::Scheduler::Schedule)\n" in out
    assert re.search(r"^ +\d+ s  Daily \(AWS::StepFunctions::StateMachine\) CREATE_COMPLETE$", out, re.MULTILINE)
    assert out.endswith(f"Deployed: {', '.join(f'daybook-{ENV}-{name}' for name in STACKS)}.\n")

    code, out, error = undeployed.deploy()
    assert (code, error) == (0, "")
    assert out.splitlines()[-6:] == [*(f"daybook-{ENV}-{name}: nothing to change" for name in STACKS), "Nothing to change."]


def test_a_dry_run_of_a_first_deployment_tells_all_and_leaves_nothing(undeployed: Deployment) -> None:
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


def test_a_dry_run_over_a_deployment_leaves_it_and_no_change_sets(deployed: Deployment) -> None:
    code, out, error = deployed.deploy("--dry-run", "--parameter", "CatchUpDates=3", "--parameter", "LatencyHours=20")
    assert (code, error) == (0, "")
    assert " CatchUpSchedule (AWS::Scheduler::Schedule): Target" in out
    assert " NotFresh (AWS::CloudWatch::Alarm): Threshold" in out
    schedule = deployed.client("scheduler").get_schedule(Name=f"daybook-{ENV}-catch-up", GroupName=f"daybook-{ENV}")
    assert '"limit": 7' in schedule["Target"]["Input"]
    for name in STACKS:
        left = deployed.client("cloudformation").list_change_sets(StackName=f"daybook-{ENV}-{name}")["Summaries"]
        assert [each for each in left if each["ExecutionStatus"] == "AVAILABLE"] == []


def test_a_changed_state_machine_is_released_and_deployed(deployed: Deployment) -> None:
    before = deployed.client("s3").list_objects_v2(Bucket=deployed.bucket("code"))["KeyCount"]
    deployed.replace("orchestration/daily.asl.json", "One business day", "A business day")
    code, out, error = deployed.deploy()
    assert (code, error) == (0, "")
    machine = deployed.client("stepfunctions").describe_state_machine(
        stateMachineArn=deployed.arn("states", f"stateMachine:daybook-{ENV}-daily")
    )
    definition = (deployed.root / "orchestration" / "daily.asl.json").read_text(encoding="utf-8")
    given = {"${BundleUri}": f"s3://{deployed.bucket('code')}/bundles/{deployed.bundle.name}"}
    given["${TopicArn}"] = deployed.arn("sns", f"daybook-{ENV}")
    for name, value in given.items():
        assert name in definition
        definition = definition.replace(name, value)
    assert machine["definition"] == definition
    # Four machines and the job script under a new prefix; bundle and templates were there.
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


def test_what_is_replaced_is_marked_and_needs_a_yes(deployed: Deployment) -> None:
    deployed.replace(*RENAMED)
    code, out, error = deployed.deploy()
    assert code == 2
    assert "-/+ Undelivered (AWS::SQS::Queue): QueueName - REPLACED; it HOLDS DATA, which goes with it\n" in out
    assert error.startswith("Replaced or deleted: Undelivered; with their data: Undelivered. ")
    assert error.endswith("Nothing was changed; run it with --yes once you have read that.\n")
    assert queues(deployed) == [f"daybook-{ENV}-bad-ends", f"daybook-{ENV}-undelivered"]

    code, _, error = deployed.deploy("--yes")
    assert (code, error) == (0, "")
    assert queues(deployed) == [f"daybook-{ENV}-bad-ends", f"daybook-{ENV}-lost"]


def test_an_answer_at_a_terminal_decides(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_first_resource_that_failed_gives_its_reason_and_the_next_attempt_goes_on(undeployed: Deployment) -> None:
    # Somebody has a job of that name, which CloudFormation will not take over.
    glue = undeployed.client("glue")
    script = {"Name": "pythonshell", "ScriptLocation": "s3://elsewhere/own.py"}
    glue.create_job(Name=f"daybook-{ENV}-validate", Role="own", Command=script)
    code, out, error = undeployed.deploy()
    assert code == 1
    assert error.startswith(f"daybook-{ENV}-pipeline ended ROLLBACK_COMPLETE: ValidateJob (AWS::Glue::Job) failed: ")
    assert error.endswith("; mend that, then run it again.\n")
    assert error.count("\n") == 1
    assert "ValidateJob (AWS::Glue::Job) CREATE_FAILED: " in out
    assert undeployed.status("watch") is None
    # Nothing of it is left that would be in the way, logs that outlive stacks included.
    assert undeployed.client("logs").describe_log_groups()["logGroups"] == []

    glue.delete_job(JobName=f"daybook-{ENV}-validate")
    code, _, error = undeployed.deploy()
    assert (code, error) == (0, "")
    assert {undeployed.status(name) for name in STACKS} == {"CREATE_COMPLETE"}


def test_a_missing_parameter_is_asked_for_before_anything_is_made(undeployed: Deployment) -> None:
    undeployed.replace("params/prod.yaml", "    AlertEmail: data@shop.example\n", "")
    code, _, error = undeployed.deploy()
    assert code == 2
    assert error.startswith("infra/foundation.yaml needs AlertEmail (Who is told; the address gets a mail to confirm); ")
    assert {undeployed.status(name) for name in STACKS} == {None}


def test_what_was_given_once_need_not_be_in_params(deployed: Deployment) -> None:
    deployed.replace("params/prod.yaml", "    AlertEmail: data@shop.example\n", "")
    code, out, _ = deployed.deploy()
    assert (code, out.splitlines()[-1]) == (0, "Nothing to change.")


def test_destroying_keeps_data_and_deploying_again_goes_on_from_it(deployed: Deployment) -> None:
    deployed.client("s3").put_object(Bucket=deployed.bucket("lake"), Key="gold/part.parquet", Body=b"x" * 1000)
    code, _, error = deployed.call("destroy")
    assert (code, error.count("\n")) == (2, 1)
    assert deployed.status("pipeline") == "CREATE_COMPLETE"

    code, out, error = deployed.call("destroy", "--yes")
    assert (code, error) == (0, "")
    assert {deployed.status(name) for name in ("deployer", "foundation")} == {"CREATE_COMPLETE"}
    assert {deployed.status(name) for name in ("catalogue", "pipeline", "watch")} <= {None, "DELETE_COMPLETE"}
    assert f"stays: bucket {deployed.bucket('lake')}, 0.0 MB, about 0.00 USD a month\n" in out
    assert "Together about 1.40 USD a month" in out
    assert deployed.client("stepfunctions").list_state_machines()["stateMachines"] == []

    code, _, error = deployed.deploy()
    assert (code, error) == (0, "")
    kept = deployed.client("s3").get_object(Bucket=deployed.bucket("lake"), Key="gold/part.parquet")["Body"].read()
    assert kept == b"x" * 1000
    assert deployed.status("pipeline") == "CREATE_COMPLETE"


def test_destroying_data_needs_the_environments_name(deployed: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert "until when it can be called back" in out


def test_what_object_lock_keeps_stays_with_the_key_that_reads_it(deployed: Deployment) -> None:
    # The emulator's CloudFormation leaves the lock out; its S3 does not.
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
    assert f"bucket {deployed.bucket('archive')}: 1 versions of objects are locked and stay\n" in out
    assert deployed.client("s3").head_object(Bucket=deployed.bucket("archive"), Key="run.json", VersionId=record["VersionId"])
    assert deployed.client("kms").describe_key(KeyId=f"alias/daybook-{ENV}")["KeyMetadata"]["KeyState"] == "Enabled"
    assert deployed.status("foundation") == "CREATE_COMPLETE"
