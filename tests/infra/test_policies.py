"""Test that each role has the permissions that its component needs, and no others.

The needs are derived from the state machines' tasks and from the package's calls of obstore and boto3. Actions that a
service does in a role's name are listed here with a reason.
"""

from __future__ import annotations

import ast
import json
import re
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Dict, Iterator, List, Set

import botocore.session
import pytest
from botocore import xform_name

import daybook
from daybook.execution.aws.account import Account
from daybook.execution.aws.executions import Executions
from daybook.settings import load_settings
from tests.docs.pages import DOCS, Page
from tests.infra.policies import allows
from tests.infra.templates import (
    NAMES,
    Template,
    deployment_parameters,
    list_exports,
    list_tasks,
    load_machine,
    role_statements,
    statements,
)

PACKAGE = Path(daybook.__file__).parent
MACHINES = {"Daily": "daily", "Backfill": "backfill", "CatchUp": "catch_up", "Nightly": "nightly"}

# -- what calls need ------------------------------------------------------------------------------------------------------

TASKS = {
    "glue:startJobRun.sync": {"glue:StartJobRun", "glue:GetJobRun", "glue:GetJobRuns", "glue:BatchStopJobRun"},
    # Objects of an encrypted bucket are decrypted with the reader's permissions.
    "aws-sdk:s3:getObject": {"s3:GetObject", "kms:Decrypt"},
    "aws-sdk:s3:listObjectsV2": {"s3:ListBucket"},
    "states:startExecution": {"states:StartExecution"},
    "states:startExecution.sync:2": {
        "states:StartExecution",
        "states:DescribeExecution",
        "states:StopExecution",
        "events:PutTargets",
        "events:PutRule",
        "events:DescribeRule",
    },
}
"""Actions by the resource of a state machine's task."""
TELEMETRY = {
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
    "xray:PutTraceSegments",
    "xray:PutTelemetryRecords",
    "xray:GetSamplingRules",
    "xray:GetSamplingTargets",
}
"""Actions of every state machine for logs and traces."""

OBSTORE = {
    "get": {"s3:GetObject"},
    "head": {"s3:GetObject"},
    "list": {"s3:ListBucket"},
    "list_with_delimiter": {"s3:ListBucket"},
    # A large object is uploaded in parts, and the parts of a failed upload are deleted.
    "put": {"s3:PutObject", "s3:AbortMultipartUpload"},
    "delete": {"s3:DeleteObject"},
}
"""Actions by the function of obstore. deltalake uses the same requests."""
CLIENTS = {
    ("secretsmanager", "get_secret_value"): {"secretsmanager:GetSecretValue"},
    ("sns", "publish"): {"sns:Publish"},
    ("cloudwatch", "put_metric_data"): {"cloudwatch:PutMetricData"},
    ("stepfunctions", "get_execution_history"): {"states:GetExecutionHistory"},
    # Only for `daybook rekey`, which users run.
    ("secretsmanager", "put_secret_value"): set(),
}
"""Actions by boto3's client and its method."""
JOB_BESIDES = {
    "kms:Decrypt": "every bucket that it reads is encrypted",
    "kms:GenerateDataKey": "every bucket that it writes to is encrypted",
    "logs:CreateLogGroup": "Glue writes what the script prints",
    "logs:CreateLogStream": "Glue writes what the script prints",
    "logs:PutLogEvents": "Glue writes what the script prints",
    "logs:AssociateKmsKey": "Glue encrypts these logs, as the security configuration says",
    "glue:GetSecurityConfiguration": "Glue reads the security configuration",
}

COMMANDS = {
    ("sts", "get_caller_identity"): set(),  # needs no permission
    ("cloudformation", "create_change_set"): {"cloudformation:CreateChangeSet"},
    ("cloudformation", "describe_change_set"): {"cloudformation:DescribeChangeSet"},
    # Creating or changing a stack by a change set is the same permission.
    ("cloudformation", "execute_change_set"): {
        "cloudformation:ExecuteChangeSet",
        "cloudformation:CreateStack",
        "cloudformation:UpdateStack",
    },
    ("cloudformation", "delete_change_set"): {"cloudformation:DeleteChangeSet"},
    ("cloudformation", "delete_stack"): {"cloudformation:DeleteStack"},
    ("cloudformation", "describe_stacks"): {"cloudformation:DescribeStacks"},
    ("cloudformation", "describe_stack_events"): {"cloudformation:DescribeStackEvents"},
    ("cloudformation", "describe_stack_resources"): {"cloudformation:DescribeStackResources"},
    ("cloudformation", "get_template"): {"cloudformation:GetTemplate"},
    # Objects of an encrypted bucket are read and written with the caller's permissions; ListBucket reports missing ones.
    ("s3", "head_object"): {"s3:GetObject", "s3:ListBucket", "kms:Decrypt"},
    ("s3", "put_object"): {"s3:PutObject", "kms:GenerateDataKey"},
    ("s3", "head_bucket"): {"s3:ListBucket"},
    ("s3", "list_object_versions"): {"s3:ListBucketVersions"},
    ("s3", "get_bucket_encryption"): {"s3:GetEncryptionConfiguration"},
    ("s3", "get_public_access_block"): {"s3:GetBucketPublicAccessBlock"},
    ("s3", "get_bucket_versioning"): {"s3:GetBucketVersioning"},
    ("kms", "describe_key"): {"kms:DescribeKey"},
    ("secretsmanager", "describe_secret"): {"secretsmanager:DescribeSecret"},
    ("stepfunctions", "describe_state_machine"): {"states:DescribeStateMachine"},
    ("stepfunctions", "start_execution"): {"states:StartExecution"},
    ("stepfunctions", "describe_execution"): {"states:DescribeExecution"},
    ("glue", "get_job"): {"glue:GetJob"},
    ("scheduler", "get_schedule"): {"scheduler:GetSchedule"},
    ("sns", "list_subscriptions_by_topic"): {"sns:ListSubscriptionsByTopic"},
    ("sqs", "get_queue_url"): {"sqs:GetQueueUrl"},
    ("sqs", "get_queue_attributes"): {"sqs:GetQueueAttributes"},
    ("iam", "get_role"): {"iam:GetRole"},
    ("iam", "simulate_principal_policy"): {"iam:SimulatePrincipalPolicy"},
    ("logs", "describe_log_groups"): {"logs:DescribeLogGroups"},
    ("service-quotas", "list_service_quotas"): {"servicequotas:ListServiceQuotas"},
    # For `daybook destroy --data`, which an administrator runs.
    ("s3", "delete_objects"): set(),
    ("s3", "delete_bucket"): set(),
    ("logs", "delete_log_group"): set(),
    ("kms", "schedule_key_deletion"): set(),
    ("secretsmanager", "delete_secret"): set(),
}
"""Actions of `daybook deploy`, `doctor` and `destroy`, by service and method."""
WRANGLER = {"get_table_types": {"glue:GetTable"}, "get_table_location": {"glue:GetTable"}}
"""Actions of `daybook doctor` by the function of awswrangler's catalogue."""
DEPLOYER_BESIDES = {
    "iam:PassRole": "the role that makes resources is handed to CloudFormation",
    "cloudformation:ValidateTemplate": "for people, before a change",
    "cloudformation:GetTemplateSummary": "CloudFormation asks it for parameters of a change set",
    "s3:AbortMultipartUpload": "a bundle that is copied by hand comes in parts",
}

UNNAMED = {
    *TELEMETRY,
    "servicequotas:ListServiceQuotas",
    "cloudwatch:PutMetricData",
    "cloudwatch:DescribeAlarms",
    "glue:GetSecurityConfiguration",
    "glue:CreateSecurityConfiguration",
    "glue:DeleteSecurityConfiguration",
    "kms:CreateKey",
    "kms:TagResource",
    "kms:ListAliases",
    "secretsmanager:GetRandomPassword",
    "cloudformation:ValidateTemplate",
}
"""Actions that do not support resources. Only these are allowed on all resources."""


def allowed(template: Template, role: str) -> Set[str]:
    return {action for each in role_statements(template, role) for action in each["Action"]}


def _package_calls() -> Iterator[ast.Call]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield node


def calls(module: str) -> List[ast.Call]:
    """Return the package's calls of functions by the name of a module, such as ``obstore.get``."""
    return [each for each in _package_calls() if isinstance(each.func.value, ast.Name) and each.func.value.id == module]


def called_functions(module: str) -> Set[str]:
    return {each.func.attr for each in calls(module)}


@pytest.fixture(scope="module")
def pipeline() -> Template:
    return Template("pipeline")


# -- the state machines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", MACHINES)
def test_state_machine_role_has_permissions_of_its_tasks(pipeline: Template, role: str) -> None:
    needed = set(TELEMETRY)
    for task in list_tasks(load_machine(MACHINES[role])):
        needed |= TASKS[task["Resource"].split(":states:::")[1]]
    assert allowed(pipeline, f"{role}Role") == needed


@pytest.mark.parametrize("role", MACHINES)
def test_state_machine_can_start_its_jobs_only(pipeline: Template, role: str) -> None:
    names = [task["Arguments"].get("JobName", "") for task in list_tasks(load_machine(MACHINES[role]))]
    started = {f"daybook-prod-{found[1]}" for name in names for found in re.finditer(r"'-([a-z]+)'", name)}
    permitted = {
        arn.split(":job/")[1]
        for each in role_statements(pipeline, f"{role}Role")
        if "glue:StartJobRun" in each["Action"]
        for arn in each["Resource"]
    }
    assert permitted == started
    assert permitted <= {each["Name"] for each in pipeline.of_type("AWS::Glue::Job").values()}


def test_state_machine_can_start_machines_of_its_input(pipeline: Template) -> None:
    # The input names the machine: $daily for backfill and nightly, $backfill for catch-up. The daily machine starts itself.
    starts = {"DailyRole": "daily", "BackfillRole": "daily", "CatchUpRole": "backfill", "NightlyRole": "daily"}
    for role, name in starts.items():
        (found,) = [each["Resource"] for each in role_statements(pipeline, role) if "states:StartExecution" in each["Action"]]
        assert found == [f"arn:aws:states:eu-central-1:123456789012:stateMachine:daybook-prod-{name}"]


def test_state_machine_can_read_outcomes_only(pipeline: Template) -> None:
    for role in ("DailyRole", "CatchUpRole"):
        (found,) = [each["Resource"] for each in role_statements(pipeline, role) if "s3:GetObject" in each["Action"]]
        assert found == ["arn:aws:s3:::daybook-prod-archive/outcomes/*"]


def test_nightly_machine_can_list_runs_only(pipeline: Template) -> None:
    role, archive = list(role_statements(pipeline, "NightlyRole")), "arn:aws:s3:::daybook-prod-archive"
    assert allows(role, "s3:ListBucket", archive, {"s3:prefix": "run_date=2025-11-30/"})
    assert not allows(role, "s3:ListBucket", archive, {"s3:prefix": "outcomes/"})
    assert not allows(role, "s3:ListBucket", archive)
    assert not allows(role, "s3:GetObject", f"{archive}/run_date=2025-11-30/daily-2025-11-30-1/run.json")


# -- the jobs --------------------------------------------------------------------------------------------------------------


def test_job_role_has_permissions_of_package_calls(pipeline: Template) -> None:
    needed = set(JOB_BESIDES)
    for function in called_functions("obstore"):
        needed |= OBSTORE[function]
    clients = [each.args[0] for each in calls("boto3") if each.func.attr == "client"]
    assert {each.value for each in clients if isinstance(each, ast.Constant)} == {name for name, _ in CLIENTS}
    methods = {each.func.attr for each in _package_calls()}
    for (_, method), actions in CLIENTS.items():
        assert method in methods
        needed |= actions
    assert allowed(pipeline, "JobRole") == needed


def test_package_calls_known_services_only() -> None:
    # Calls of AWS by other libraries than obstore, deltalake and boto3's clients would need an entry in the tables above.
    assert called_functions("boto3") == {"client", "Session"}
    assert called_functions("wr") | called_functions("awswrangler") == set()
    assert called_functions("catalog") == set(WRANGLER)
    # A session makes no call itself; it is only passed to awswrangler.
    assert len([each for each in calls("boto3") if each.func.attr == "Session"]) == 1


def test_job_can_delete_lake_files_only(pipeline: Template) -> None:
    places = {
        action: {arn for each in role_statements(pipeline, "JobRole") if action in each["Action"] for arn in each["Resource"]}
        for action in ("s3:DeleteObject", "s3:PutObject", "s3:GetObject", "s3:ListBucket")
    }
    lake, archive, landing = (f"arn:aws:s3:::daybook-prod-{name}" for name in ("lake", "archive", "landing"))
    assert places["s3:DeleteObject"] == {f"{lake}/*"}
    assert places["s3:PutObject"] == {f"{lake}/*", f"{archive}/*"}
    assert places["s3:ListBucket"] == {lake, archive, landing}
    assert places["s3:GetObject"] == {
        f"{lake}/*",
        f"{archive}/*",
        f"{landing}/*",
        "arn:aws:s3:::daybook-prod-code/releases/0123abcd/*",
        "arn:aws:s3:::daybook-prod-code/bundles/daybook-0123.zip",
    }


@pytest.mark.parametrize(("namespace", "allowed"), [("Daybook/prod", True), ("Daybook/prodeu", False), ("Daybook", False)])
def test_job_can_write_metrics_of_its_deployment_only(pipeline: Template, namespace: str, allowed: bool) -> None:
    boundary = Template("deployer").of_type("AWS::IAM::ManagedPolicy")["Boundary"]["PolicyDocument"]
    for policy in (list(role_statements(pipeline, "JobRole")), list(statements(boundary))):
        assert allows(policy, "cloudwatch:PutMetricData", "*", {"cloudwatch:namespace": namespace}) is allowed


def test_job_can_use_its_topic_and_machine_only(pipeline: Template) -> None:
    found = {action: each["Resource"] for each in role_statements(pipeline, "JobRole") for action in each["Action"]}
    assert found["sns:Publish"] == [list_exports()["daybook-prod-TopicArn"]]
    daily = "arn:aws:states:eu-central-1:123456789012:execution:daybook-prod-daily:*"
    assert found["states:GetExecutionHistory"] == [daily]


def test_every_job_gets_topic(pipeline: Template) -> None:
    for job in pipeline.of_type("AWS::Glue::Job").values():
        assert job["DefaultArguments"]["--topic_arn"] == list_exports()["daybook-prod-TopicArn"]


# -- what starts executions -------------------------------------------------------------------------------------------------


def test_scheduler_role_starts_its_machines_only(pipeline: Template) -> None:
    assert allowed(pipeline, "SchedulerRole") == {
        "states:StartExecution",
        "sqs:SendMessage",
        # The schedules and the queue are encrypted.
        "kms:Decrypt",
        "kms:GenerateDataKey",
    }
    (started,) = [
        set(each["Resource"])
        for each in role_statements(pipeline, "SchedulerRole")
        if "states:StartExecution" in each["Action"]
    ]
    assert started == {each["Target"]["Arn"] for each in pipeline.of_type("AWS::Scheduler::Schedule").values()}


def test_manifest_role_starts_nightly_machine_only(pipeline: Template) -> None:
    (found,) = list(role_statements(pipeline, "ManifestsRole"))
    targets = [each["Arn"] for each in pipeline.of_type("AWS::Events::Rule")["Manifests"]["Targets"]]
    assert (found["Action"], found["Resource"]) == (["states:StartExecution"], targets)


# -- of all roles ------------------------------------------------------------------------------------------------------------

ROLES = [(name, role) for name in NAMES for role in Template(name).of_type("AWS::IAM::Role")]


@pytest.mark.parametrize(("name", "role"), ROLES)
def test_actions_have_resources_where_possible(name: str, role: str) -> None:
    for each in role_statements(Template(name), role):
        assert not any(action.endswith(":*") or action == "*" for action in each["Action"]), each
        assert "NotAction" not in each and "NotResource" not in each
        if "*" in each["Resource"]:
            assert set(each["Action"]) <= UNNAMED, each
        # Names exclude all other resources of the account.
        for arn in each["Resource"]:
            assert arn == "*" or re.search(
                r"daybook[-_]prod|StepFunctionsGetEventsFor|/aws-glue/python-jobs|:key/|:catalog$", arn
            )


SHARED = re.compile(r"\*$|.*:(key/.+|catalog)$|.*rule/StepFunctionsGetEvents|.*:log-group:/aws-glue/python-jobs")
"""Resources that deployments in one account share: those of AWS, and keys, which a condition on tags separates."""


def resources(name: str, environment: str) -> Set[str]:
    """Return the resources that the policies of a template name in a deployment."""
    template = Template(name, **deployment_parameters(environment, name))
    found = {
        arn
        for role in template.of_type("AWS::IAM::Role")
        for each in role_statements(template, role)
        for arn in each["Resource"]
    }
    for policy in template.of_type("AWS::IAM::ManagedPolicy").values():
        found |= {arn for each in statements(policy["PolicyDocument"]) for arn in each["Resource"]}
    return {arn for arn in found if not SHARED.match(arn)}


@pytest.mark.parametrize("other", ["prodeu", "prod2", "pro", "xprod"])
@pytest.mark.parametrize("name", ["deployer", "pipeline"])
def test_roles_cannot_access_other_deployments(name: str, other: str) -> None:
    own = resources(name, "prod")
    assert own
    for arn in resources(name, other):
        assert [each for each in own if fnmatchcase(arn.replace("*", "any"), each)] == []


@pytest.mark.parametrize("name", NAMES)
def test_deployment_names_have_no_hyphen(name: str) -> None:
    declared = Template(name).raw["Parameters"]["Environment"]
    accepted = re.compile(declared["AllowedPattern"])
    assert [each for each in ("prod", "prodeu", "p2", "prod-eu", "Prod", "2p", "") if accepted.fullmatch(each)] == [
        "prod",
        "prodeu",
        "p2",
    ]


@pytest.mark.parametrize(("name", "role"), ROLES)
def test_role_is_for_one_service_or_deployer(name: str, role: str) -> None:
    trusted = Template(name).resources[role]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert [each["Action"] for each in trusted] == ["sts:AssumeRole"]
    wanted = {
        "Deployer": {"AWS": "arn:aws:iam::123456789012:role/ci"},
        "Resources": {"Service": "cloudformation.amazonaws.com"},
        "JobRole": {"Service": "glue.amazonaws.com"},
        "SchedulerRole": {"Service": "scheduler.amazonaws.com"},
        "ManifestsRole": {"Service": "events.amazonaws.com"},
    }
    assert trusted[0]["Principal"] == wanted.get(role, {"Service": "states.amazonaws.com"})


@pytest.mark.parametrize(("name", "role"), ROLES)
def test_policies_fit_size_limits(name: str, role: str) -> None:
    policies = Template(name).resources[role]["Properties"]["Policies"]
    assert sum(len(json.dumps(each["PolicyDocument"], separators=(",", ":"))) for each in policies) <= 10_240


# -- the deployer --------------------------------------------------------------------------------------------------------------

TAGS = {"TagResource", "UntagResource", "ListTagsForResource"}
MADE: Dict[str, Dict[str, Set[str]]] = {
    "AWS::Athena::WorkGroup": {"athena": {"CreateWorkGroup", "DeleteWorkGroup", "GetWorkGroup", "UpdateWorkGroup", *TAGS}},
    "AWS::Budgets::Budget": {"budgets": {"ModifyBudget", "ViewBudget", *TAGS}},
    "AWS::CloudWatch::Alarm": {"cloudwatch": {"PutMetricAlarm", "DeleteAlarms", "DescribeAlarms", *TAGS}},
    "AWS::CloudWatch::CompositeAlarm": {"cloudwatch": {"PutCompositeAlarm", "DeleteAlarms", "DescribeAlarms", *TAGS}},
    "AWS::CloudWatch::Dashboard": {"cloudwatch": {"PutDashboard", "GetDashboard", "DeleteDashboards", *TAGS}},
    "AWS::Events::Rule": {
        "events": {"PutRule", "DeleteRule", "DescribeRule", "PutTargets", "RemoveTargets", "ListTargetsByRule", *TAGS},
        "iam": {"PassRole"},
    },
    "AWS::Glue::Database": {"glue": {"CreateDatabase", "DeleteDatabase", "GetDatabase", "UpdateDatabase"}},
    "AWS::Glue::Job": {
        "glue": {"CreateJob", "DeleteJob", "GetJob", "UpdateJob", "GetTags", "TagResource", "UntagResource"},
        "iam": {"GetRole", "PassRole"},
    },
    "AWS::Glue::SecurityConfiguration": {
        "glue": {"CreateSecurityConfiguration", "DeleteSecurityConfiguration", "GetSecurityConfiguration"}
    },
    "AWS::Glue::Table": {"glue": {"CreateTable", "DeleteTable", "GetTable", "UpdateTable", "GetDatabase"}},
    "AWS::IAM::ManagedPolicy": {
        "iam": {
            *("CreatePolicy", "CreatePolicyVersion", "DeletePolicy", "DeletePolicyVersion", "GetPolicy", "GetPolicyVersion"),
            *("ListPolicyVersions", "ListEntitiesForPolicy", "AttachRolePolicy", "DetachRolePolicy"),
        }
    },
    "AWS::IAM::Role": {
        "iam": {
            *("CreateRole", "DeleteRole", "GetRole", "UpdateRole", "UpdateRoleDescription", "UpdateAssumeRolePolicy"),
            *("PutRolePolicy", "DeleteRolePolicy", "GetRolePolicy", "ListRolePolicies", "TagRole", "UntagRole"),
            *("AttachRolePolicy", "DetachRolePolicy", "ListAttachedRolePolicies", "PutRolePermissionsBoundary"),
        }
    },
    "AWS::KMS::Alias": {"kms": {"CreateAlias", "DeleteAlias", "UpdateAlias", "ListAliases"}},
    "AWS::KMS::Key": {
        "kms": {
            *("CreateKey", "DescribeKey", "EnableKey", "DisableKey", "EnableKeyRotation", "DisableKeyRotation"),
            *("GetKeyRotationStatus", "GetKeyPolicy", "PutKeyPolicy", "ListResourceTags", "TagResource", "UntagResource"),
            *("ScheduleKeyDeletion", "UpdateKeyDescription"),
        }
    },
    "AWS::Logs::LogGroup": {
        "logs": {
            *("CreateLogGroup", "DeleteLogGroup", "DescribeLogGroups", "AssociateKmsKey", "DisassociateKmsKey", *TAGS),
            *("PutRetentionPolicy", "DeleteRetentionPolicy", "GetDataProtectionPolicy", "DescribeIndexPolicies"),
        }
    },
    "AWS::S3::Bucket": {
        "s3": {
            *("CreateBucket", "DeleteBucket", "ListBucket", "PutBucketAcl", "PutBucketLogging", "PutBucketNotification"),
            *("PutBucketObjectLockConfiguration", "PutBucketOwnershipControls", "PutBucketPublicAccessBlock", *TAGS),
            *("PutBucketTagging", "PutBucketVersioning", "PutEncryptionConfiguration", "PutLifecycleConfiguration"),
            # CloudFormation reads more of a bucket than these templates set.
            *("GetBucket*", "Get*Configuration"),
        }
    },
    "AWS::S3::BucketPolicy": {"s3": {"PutBucketPolicy", "DeleteBucketPolicy", "GetBucket*"}},
    "AWS::SNS::Subscription": {"sns": {"Subscribe", "Unsubscribe", "GetSubscriptionAttributes", "SetSubscriptionAttributes"}},
    "AWS::SNS::Topic": {
        "sns": {
            *("CreateTopic", "DeleteTopic", "GetTopicAttributes", "SetTopicAttributes", "ListSubscriptionsByTopic"),
            *("GetDataProtectionPolicy", "Subscribe", "Unsubscribe", *TAGS),
        }
    },
    "AWS::SNS::TopicPolicy": {"sns": {"SetTopicAttributes"}},
    "AWS::SQS::Queue": {
        "sqs": {
            *("CreateQueue", "DeleteQueue", "GetQueueAttributes", "GetQueueUrl", "SetQueueAttributes"),
            *("ListQueueTags", "TagQueue", "UntagQueue"),
        }
    },
    "AWS::SQS::QueuePolicy": {"sqs": {"SetQueueAttributes"}},
    "AWS::Scheduler::Schedule": {
        "scheduler": {"CreateSchedule", "DeleteSchedule", "GetSchedule", "UpdateSchedule"},
        "iam": {"PassRole"},
    },
    "AWS::Scheduler::ScheduleGroup": {
        "scheduler": {"CreateScheduleGroup", "DeleteScheduleGroup", "GetScheduleGroup", "DeleteSchedule", *TAGS}
    },
    "AWS::SecretsManager::Secret": {
        "secretsmanager": {
            *("CreateSecret", "DeleteSecret", "DescribeSecret", "UpdateSecret", "TagResource", "UntagResource"),
            "GetRandomPassword",
        }
    },
    "AWS::StepFunctions::StateMachine": {
        "states": {"CreateStateMachine", "DeleteStateMachine", "DescribeStateMachine", "UpdateStateMachine", *TAGS},
        "iam": {"PassRole"},
        # The definition is read from the code bucket, and the machine's logs and schedules are encrypted.
        "s3": {"GetObject", "GetObjectVersion"},
        "kms": {"DescribeKey", "Decrypt", "GenerateDataKey"},
    },
}
"""Actions of CloudFormation for a resource type, by service: the permissions in its registry for the properties used here."""


def test_cloudformation_role_has_permissions_of_templates() -> None:
    kinds = {each["Type"] for name in NAMES if name != "deployer" for each in Template(name).raw["Resources"].values()}
    assert kinds == set(MADE)
    needed = {f"{service}:{action}" for kind in kinds for service, actions in MADE[kind].items() for action in actions}
    assert allowed(Template("deployer"), "Resources") == needed


def test_roles_are_created_within_boundary(pipeline: Template) -> None:
    deployer = Template("deployer")
    boundary = "arn:aws:iam::123456789012:policy/boundary-daybook-prod"
    widening = {"iam:CreateRole", "iam:PutRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePermissionsBoundary"}
    for each in role_statements(deployer, "Resources"):
        if widening & set(each["Action"]):
            assert each["Condition"] == {"StringEquals": {"iam:PermissionsBoundary": boundary}}
        if any(action.startswith("iam:") for action in each["Action"]):
            # Deployments cannot change the boundary and the deployer's roles.
            own = [
                "policy/boundary-daybook-prod",
                "policy/boundary-deployer-daybook-prod",
                "role/deployer-daybook-prod",
                "role/resources-daybook-prod",
            ]
            assert not [
                arn for arn in each["Resource"] for name in own if fnmatchcase(f"arn:aws:iam::123456789012:{name}", arn)
            ]
    roles = pipeline.of_type("AWS::IAM::Role").values()
    assert {each["PermissionsBoundary"] for each in roles} == {boundary}


def test_boundary_allows_all_role_permissions(pipeline: Template) -> None:
    policy = Template("deployer").of_type("AWS::IAM::ManagedPolicy")["Boundary"]["PolicyDocument"]
    within = [
        (action, arn) for each in policy["Statement"] for action in _list(each["Action"]) for arn in _list(each["Resource"])
    ]
    for role in pipeline.of_type("AWS::IAM::Role"):
        for each in role_statements(pipeline, role):
            for action in each["Action"]:
                for arn in each["Resource"]:
                    assert [1 for known, most in within if known == action and fnmatchcase(arn, most)], (role, action, arn)


THROUGH_CLOUDFORMATION = (
    *("s3:PutBucketPolicy", "s3:DeleteBucketPolicy", "s3:PutBucketAcl", "s3:PutBucketPublicAccessBlock"),
    *("kms:PutKeyPolicy", "kms:CreateGrant", "secretsmanager:PutResourcePolicy", "sns:SetTopicAttributes"),
    *("iam:UpdateAssumeRolePolicy", "iam:AttachRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePermissionsBoundary"),
    "iam:CreatePolicyVersion",
)


@pytest.mark.parametrize("action", THROUGH_CLOUDFORMATION)
def test_deployer_grants_permissions_by_cloudformation_only(action: str) -> None:
    deployer = Template("deployer")
    role = deployer.resources["Deployer"]["Properties"]
    (boundary,) = [
        list(statements(each["PolicyDocument"]))
        for each in deployer.of_type("AWS::IAM::ManagedPolicy").values()
        if role["PermissionsBoundary"].endswith(f":policy/{each['ManagedPolicyName']}")
    ]
    assert not allows(boundary, action, "any")
    assert not allows(boundary, action, "any", {"aws:CalledVia": ["athena.amazonaws.com"]})
    assert allows(boundary, action, "any", {"aws:CalledVia": ["cloudformation.amazonaws.com"]})
    # The boundary does not restrict the commands.
    for each in role_statements(deployer, "Deployer"):
        assert all(allows(boundary, called, "any") for called in each["Action"])


def test_deployments_use_role_of_cloudformation() -> None:
    deployer = Template("deployer")
    found = {each["Sid"]: each for each in role_statements(deployer, "Deployer")}
    resources = "arn:aws:iam::123456789012:role/resources-daybook-prod"
    assert found["Change"]["Condition"] == {"StringEquals": {"cloudformation:RoleArn": resources}}
    assert (found["Hand"]["Action"], found["Hand"]["Resource"]) == (["iam:PassRole"], [resources])


THROUGH_EXECUTIONS = {"start": "start_execution", "find": "describe_execution"}
"""Calls of Step Functions in a smoke run, by the method of ``Executions``."""


def test_deployer_has_permissions_of_commands() -> None:
    nodes = [
        node
        for path in (*(PACKAGE / "deploy").rglob("*.py"), PACKAGE / "execution" / "aws" / "account.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    ]
    found = [each for each in nodes if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)]
    literals = [(each.func.attr, each.args[0].value) for each in found if each.args and isinstance(each.args[0], ast.Constant)]
    services = {service for service, _ in COMMANDS}
    # account.py creates the client of sts by a function of its own; executions.py has that of stepfunctions.
    assert {name for function, name in literals if function == "client"} | {"sts", "stepfunctions"} == services
    session = botocore.session.Session()
    methods = {xform_name(each) for service in services for each in session.get_service_model(service).operation_names}
    called = {each.func.attr for each in found} & methods
    called |= {name for function, name in literals if function == "get_paginator"}
    smoke = [each for each in found if isinstance(each.func.value, ast.Name) and each.func.value.id == "executions"]
    called |= {THROUGH_EXECUTIONS[each.func.attr] for each in smoke}
    assert called == {method for _, method in COMMANDS}
    needed = set(DEPLOYER_BESIDES).union(*COMMANDS.values(), *WRANGLER.values())
    assert allowed(Template("deployer"), "Deployer") == needed


RUNNERS = {
    "start_execution": "states:StartExecution",
    "list_executions": "states:ListExecutions",
    "describe_execution": "states:DescribeExecution",
    "get_execution_history": "states:GetExecutionHistory",
    "redrive_execution": "states:RedriveExecution",
}
"""Actions of users who run dates, by the client's method. No stack creates a role for them."""


class RecordingClient:
    """A client of Step Functions that records the called methods."""

    exceptions = type("Exceptions", (), {"ExecutionDoesNotExist": KeyError, "StateMachineDoesNotExist": LookupError})

    def __init__(self) -> None:
        self.called: Set[str] = set()

    def get_paginator(self, name: str) -> Any:
        self.called.add(name)
        return SimpleNamespace(paginate=lambda **_: [])

    def __getattr__(self, name: str) -> Any:
        def call(**_: object) -> Dict[str, Any]:
            self.called.add(name)
            return {"status": "RUNNING", "startDate": datetime(2025, 12, 1, 2, tzinfo=timezone.utc), "events": []}

        return call


def test_running_dates_needs_documented_permissions(monkeypatch: pytest.MonkeyPatch) -> None:
    client = RecordingClient()
    monkeypatch.setattr(Account, "client", lambda self, service: {"stepfunctions": client}[service])
    executions = Executions(load_settings("prod"), Account("1", "eu-central-1", "arn:aws:iam::1:user/ann", "aws"))
    executions.start("daily", "a", {})
    executions.redrive("daily", "a")
    executions.find("daily", "a")
    executions.list_running("daily")
    executions.events("daily", "a").read()
    assert client.called == set(RUNNERS)
    page = Page(DOCS / "aws" / "operate.md")
    assert {code for code in page.inline_code if code.startswith("states:")} == set(RUNNERS.values())


def test_deployer_has_read_access_to_data_stores_only() -> None:
    for each in role_statements(Template("deployer"), "Deployer"):
        for action in each["Action"]:
            name = action.split(":")[1]
            if not name.startswith(("Get", "List", "Describe", "Simulate", "Validate")):
                # Changes are allowed for stacks, the code bucket and started runs.
                assert all(
                    re.search(
                        r"stack/daybook-prod-|:daybook-prod-code(/\*)?$|role/resources-daybook-prod$|:key/\*$|-daily$", arn
                    )
                    for arn in each["Resource"]
                ), each


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
