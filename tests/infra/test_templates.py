"""What the templates promise: encrypted, closed buckets, jobs as the state machines call them, one deployment file's names."""

from __future__ import annotations

import json
from typing import Any, Dict

import pytest

from daybook.records.names import STAGES
from daybook.settings import load_settings
from tests.infra.policies import allows
from tests.infra.templates import (
    INFRA,
    NAMES,
    PARAMETERS,
    Template,
    list_exports,
    list_tasks,
    load_machine,
    role_statements,
    statements,
)

BUCKETS = ("Lake", "Archive", "Landing", "Code", "AccessLogs")


@pytest.fixture(scope="module")
def foundation() -> Template:
    return Template("foundation")


@pytest.fixture(scope="module")
def pipeline() -> Template:
    return Template("pipeline")


# -- what stays -------------------------------------------------------------------------------------------------------------


def test_all_buckets_are_tested(foundation: Template) -> None:
    assert set(foundation.of_type("AWS::S3::Bucket")) == set(BUCKETS)


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets_are_encrypted_and_not_public(foundation: Template, name: str) -> None:
    bucket = foundation.resources[name]["Properties"]
    (rule,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    if name == "AccessLogs":
        assert rule["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    else:
        assert rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms"
        assert bucket["LoggingConfiguration"]["DestinationBucketName"] == PARAMETERS["AccessLogBucket"]
    assert bucket["PublicAccessBlockConfiguration"] == {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    }
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert any("AbortIncompleteMultipartUpload" in each for each in rules)


@pytest.mark.parametrize("name", BUCKETS)
def test_buckets_require_current_tls(foundation: Template, name: str) -> None:
    (policy,) = [each for each in foundation.of_type("AWS::S3::BucketPolicy").values() if each["Bucket"] == GIVEN_NAMES[name]]
    arn = f"arn:aws:s3:::{GIVEN_NAMES[name]}"
    denied = [each for each in statements(policy["PolicyDocument"]) if each["Effect"] == "Deny"]
    assert [each["Condition"] for each in denied] == [
        {"Bool": {"aws:SecureTransport": "false"}},
        {"NumericLessThan": {"s3:TlsVersion": "1.2"}},
    ]
    assert all((each["Principal"], each["Action"], each["Resource"]) == ("*", ["s3:*"], [arn, f"{arn}/*"]) for each in denied)


def test_lake_bucket_has_no_versioning(foundation: Template) -> None:
    assert "VersioningConfiguration" not in foundation.resources["Lake"]["Properties"]


def test_object_lock_of_archive_is_optional(foundation: Template) -> None:
    locked = foundation.resources["Archive"]["Properties"]
    assert locked["ObjectLockEnabled"] is True
    assert locked["ObjectLockConfiguration"]["Rule"]["DefaultRetention"] == {"Mode": "GOVERNANCE", "Days": 365}
    free = Template("foundation", ObjectLock="off").resources["Archive"]["Properties"]
    assert not {"ObjectLockEnabled", "ObjectLockConfiguration"} & set(free)
    assert locked["VersioningConfiguration"] == free["VersioningConfiguration"] == {"Status": "Enabled"}


def test_stateful_resources_are_retained(foundation: Template) -> None:
    kept = {key for key, each in foundation.resources.items() if each.get("DeletionPolicy") == "Retain"}
    assert kept == {*BUCKETS, "Key", "PiiKey"}


def test_generated_key_of_pseudonyms_is_valid(foundation: Template) -> None:
    asked = foundation.resources["PiiKey"]["Properties"]["GenerateSecretString"]
    left = set("0123456789abcdefghijklmnopqrstuvwxyz") - set(asked["ExcludeCharacters"])
    assert asked["ExcludeUppercase"] and asked["ExcludePunctuation"] and not asked["RequireEachIncludedType"]
    assert left == set("0123456789abcdef")
    assert asked["PasswordLength"] == 64


@pytest.mark.parametrize(("given", "protocols"), [("", ["email"]), ("https://chat.example/hook", ["email", "https"])])
def test_subscriptions_of_topic(given: str, protocols: list[str]) -> None:
    found = Template("foundation", AlertHttps=given).of_type("AWS::SNS::Subscription").values()
    assert [each["Protocol"] for each in found] == protocols


def test_budget_is_optional_and_uses_topic() -> None:
    (budget,) = Template("watch", BudgetUsd=50).of_type("AWS::Budgets::Budget").values()
    assert budget["Budget"]["BudgetLimit"] == {"Amount": 50, "Unit": "USD"}
    reported = {
        each["Notification"]["NotificationType"]: each["Subscribers"] for each in budget["NotificationsWithSubscribers"]
    }
    topic = [{"SubscriptionType": "SNS", "Address": list_exports()["daybook-prod-TopicArn"]}]
    assert reported == {"ACTUAL": topic, "FORECASTED": topic}
    assert Template("watch", BudgetUsd=0).of_type("AWS::Budgets::Budget") == {}


# -- one deployment's names ---------------------------------------------------------------------------------------------------

GIVEN_NAMES = {
    "Lake": PARAMETERS["LakeBucket"],
    "Archive": PARAMETERS["ArchiveBucket"],
    "Landing": PARAMETERS["LandingBucket"],
    "Code": PARAMETERS["CodeBucket"],
    "AccessLogs": PARAMETERS["AccessLogBucket"],
}


def test_params_name_resources_of_templates(foundation: Template, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DAYBOOK_PROJECT", raising=False)
    settings = load_settings("prod")
    assert (settings.lake, settings.archive, settings.landing) == tuple(
        f"s3://{GIVEN_NAMES[name]}" for name in ("Lake", "Archive", "Landing")
    )
    assert settings.pii_key == f"secretsmanager://{foundation.resources['PiiKey']['Properties']['Name']}"


@pytest.mark.parametrize("name", NAMES)
def test_resources_are_tagged(name: str) -> None:
    untagged = (
        *(
            "AWS::KMS::Alias",
            "AWS::S3::BucketPolicy",
            "AWS::SNS::TopicPolicy",
            "AWS::SNS::Subscription",
            "AWS::SQS::QueuePolicy",
        ),
        *("AWS::IAM::ManagedPolicy", "AWS::Glue::SecurityConfiguration", "AWS::Glue::Database", "AWS::Glue::Table"),
        *("AWS::Scheduler::Schedule", "AWS::CloudWatch::Dashboard"),
    )
    for key, each in Template(name).resources.items():
        if each["Type"] in untagged:
            continue
        tags = each["Properties"]["ResourceTags" if each["Type"] == "AWS::Budgets::Budget" else "Tags"]
        found = tags if isinstance(tags, dict) else {tag["Key"]: tag["Value"] for tag in tags}
        assert found == {"application": "daybook", "environment": "prod"}, key


# -- what works ---------------------------------------------------------------------------------------------------------------


def test_every_stage_has_a_job(pipeline: Template) -> None:
    names = {each["Name"] for each in pipeline.of_type("AWS::Glue::Job").values()}
    assert names == {f"daybook-prod-{name}" for name in (*STAGES, "errand")}


def test_jobs_are_python_shell_without_retries(pipeline: Template) -> None:
    for job in pipeline.of_type("AWS::Glue::Job").values():
        assert job["Command"] == {
            "Name": "pythonshell",
            "PythonVersion": "3.9",
            "ScriptLocation": "s3://daybook-prod-code/releases/0123abcd/orchestration/glue_bootstrap.py",
        }
        assert job["MaxRetries"] == 0
        # The job ends before the state machine gives it up, which would leave it running.
        assert job["Timeout"] * 60 < min(_timeouts())
        assert job["DefaultArguments"]["library-set"] == "none"
        assert job["DefaultArguments"]["--bundle"] == PARAMETERS["BundleUri"]
        assert (job["MaxCapacity"], job["ExecutionProperty"]) == (0.0625, {"MaxConcurrentRuns": 5})


def _timeouts() -> list[int]:
    """How long the state machines wait for a job, in seconds."""
    found = []
    for name in ("daily", "backfill", "catch_up"):
        states: Dict[str, Any] = load_machine(name)["States"]
        found += [each["TimeoutSeconds"] for each in states.values() if "glue:startJobRun" in each.get("Resource", "")]
    return found


def test_catch_up_concurrency_fits_jobs(pipeline: Template) -> None:
    given = json.loads(pipeline.resources["CatchUpSchedule"]["Properties"]["Target"]["Input"])
    most = {each["ExecutionProperty"]["MaxConcurrentRuns"] for each in pipeline.of_type("AWS::Glue::Job").values()}
    assert most == {given["max_concurrency"]}


def test_machines_use_files_of_release_with_logs(pipeline: Template) -> None:
    machines = pipeline.of_type("AWS::StepFunctions::StateMachine").values()
    files = set()
    for machine in machines:
        where = machine["DefinitionS3Location"]
        assert where["Bucket"] == PARAMETERS["CodeBucket"]
        files.add(where["Key"].split(PARAMETERS["CodePrefix"])[1])
        logging = machine["LoggingConfiguration"]
        assert (logging["Level"], logging["IncludeExecutionData"], machine["TracingConfiguration"]) == (
            "ALL",
            True,
            {"Enabled": True},
        )
    assert files == {f"orchestration/{path.name}" for path in (INFRA.parent / "orchestration").glob("*.asl.json")}


def test_job_runs_get_deployed_bundle_and_topic(pipeline: Template) -> None:
    # The arguments of a run replace the job's own (AWS Glue, StartJobRun).
    machines = {
        each["DefinitionS3Location"]["Key"].rsplit("/", 1)[1]: each
        for each in pipeline.of_type("AWS::StepFunctions::StateMachine").values()
    }
    for name in ("daily", "backfill", "catch_up"):
        text = json.dumps(load_machine(name))
        for key, value in machines[f"{name}.asl.json"]["DefinitionSubstitutions"].items():
            text = text.replace(f"${{{key}}}", value)
        assert "${" not in text
        jobs = [each["Arguments"] for each in list_tasks(json.loads(text)) if "glue:startJobRun" in each["Resource"]]
        assert jobs
        for job in jobs:
            assert job["Arguments"]["--bundle"] == PARAMETERS["BundleUri"]
            assert job["Arguments"]["--topic_arn"] == list_exports()["daybook-prod-TopicArn"]


def test_job_cannot_read_other_bundles(pipeline: Template) -> None:
    role = list(role_statements(pipeline, "JobRole"))
    assert allows(role, "s3:GetObject", PARAMETERS["BundleUri"].replace("s3://", "arn:aws:s3:::"))
    assert not allows(role, "s3:GetObject", "arn:aws:s3:::daybook-prod-code/bundles/daybook-4567.zip")


def test_undelivered_starts_are_retried_and_kept(pipeline: Template) -> None:
    queue = "arn:aws:sqs:eu-central-1:123456789012:daybook-prod-undelivered"
    targets = [each["Target"] for each in pipeline.of_type("AWS::Scheduler::Schedule").values()]
    targets += pipeline.of_type("AWS::Events::Rule")["Manifests"]["Targets"]
    for target in targets:
        assert target["DeadLetterConfig"] == {"Arn": queue}
        # Less than a day: yesterday's start does not come after today's.
        assert 3600 < target["RetryPolicy"]["MaximumEventAgeInSeconds"] < 86400
    for schedule in pipeline.of_type("AWS::Scheduler::Schedule").values():
        assert schedule["FlexibleTimeWindow"] == {"Mode": "OFF"}


def test_disabled_schedules_start_nothing() -> None:
    off = Template("pipeline", Schedules="DISABLED")
    found = {**off.of_type("AWS::Scheduler::Schedule"), **off.of_type("AWS::Events::Rule")}
    assert {each["State"] for each in found.values()} == {"DISABLED"}
    assert set(found) == {"NightlySchedule", "CatchUpSchedule", "Manifests"}
