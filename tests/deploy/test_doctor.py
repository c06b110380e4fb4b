"""Test how errors of AWS become check results. ``tests/emulator`` tests the checks themselves."""

from __future__ import annotations

from datetime import datetime, timezone
from types import SimpleNamespace
from typing import cast

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from daybook.deploy.doctor.checks import Check, CheckContext, ProblemError, require_none, run_check
from daybook.deploy.doctor.environment import _check_clock
from daybook.deploy.doctor.services import next_daily_time
from daybook.errors import AwsError
from daybook.execution.aws.account import Account, wrap_aws_errors
from daybook.settings import load_settings


def failing_check(code: str, message: str = "the reason"):
    """Return a check that AWS answers with an error."""

    def check() -> str:
        raise ClientError({"Error": {"Code": code, "Message": message}}, "GetJob")

    return check


@pytest.mark.parametrize(
    ("code", "state", "message"),
    [
        ("AccessDeniedException", "refused", "no permission for GetJob"),
        ("403", "refused", "no permission for GetJob"),
        ("EntityNotFoundException", "failed", "does not exist"),
        ("Throttling", "failed", "could not be checked: the reason"),
    ],
)
def test_client_error_gives_check_result(code: str, state: str, message: str) -> None:
    found = run_check("job", "deploy", failing_check(code))
    assert (found.state, found.message) == (state, message)


def test_network_error_gives_check_result() -> None:
    def check() -> str:
        raise EndpointConnectionError(endpoint_url="https://glue.example")

    found = run_check("job", "deploy", check)
    assert (found.state, found.remedy) == ("failed", "check the network")


def test_unreadable_check_can_be_warning() -> None:
    found = run_check("quotas", "see the console", failing_check("Throttling"), unreadable="warning")
    assert found == Check("quotas", "warning", "could not be checked: the reason", "see the console")


def test_unreachable_service_can_be_warning() -> None:
    def check() -> str:
        raise EndpointConnectionError(endpoint_url="https://servicequotas.example")

    assert run_check("quotas", "see the console", check, unreadable="warning").state == "warning"


def test_answer_of_aws_without_time_is_a_warning() -> None:
    answer = {"ResponseMetadata": {"HTTPHeaders": {}}}
    account = SimpleNamespace(client=lambda _: SimpleNamespace(get_caller_identity=lambda: answer))
    context = CheckContext(cast(Account, account), load_settings("local"), {}, {})
    found = context.run("clock", _check_clock, lambda: datetime.now(timezone.utc))
    assert (found.state, found.message) == ("warning", "AWS sent no time")


def test_missing_stack_does_not_exist() -> None:
    found = run_check("stack s", "deploy", failing_check("ValidationError", "Stack with id s does not exist"))
    assert found == Check("stack s", "failed", "does not exist", "deploy")


def test_check_reports_all_problems() -> None:
    def check() -> str:
        require_none([None, "is open", None, "is plain"], "close it")
        return "good"

    assert run_check("bucket", "deploy", check) == Check("bucket", "failed", "is open; is plain", "close it")


def test_check_without_problems_is_ok() -> None:
    def check() -> str:
        require_none([None], "close it")
        return "good"

    assert run_check("bucket", "deploy", check) == Check("bucket", "ok", "good")


def test_problem_without_remedy_has_that_of_check() -> None:
    def check() -> str:
        raise ProblemError("is late", state="warning")

    assert run_check("clock", "set it", check) == Check("clock", "warning", "is late", "set it")


@pytest.mark.parametrize(
    ("expression", "at", "due"),
    [
        ("cron(0 2 * * ? *)", (2025, 11, 30, 1, 59), (2025, 11, 30, 2, 0)),
        ("cron(0 2 * * ? *)", (2025, 11, 30, 2, 0), (2025, 12, 1, 2, 0)),
        ("cron(30 14 * * ? *)", (2025, 12, 31, 15, 0), (2026, 1, 1, 14, 30)),
    ],
)
def test_next_time_of_daily_schedule(expression: str, at: tuple[int, ...], due: tuple[int, ...]) -> None:
    assert next_daily_time(expression, datetime(*at, tzinfo=timezone.utc)) == datetime(*due, tzinfo=timezone.utc)  # type: ignore[misc]


def test_next_time_of_other_schedules_is_none() -> None:
    assert next_daily_time("rate(1 day)", datetime(2025, 11, 30, tzinfo=timezone.utc)) is None
    assert next_daily_time("cron(0 2 ? * MON *)", datetime(2025, 11, 30, tzinfo=timezone.utc)) is None


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDenied", "the reason; use credentials with this permission, see infra/deployer.yaml."),
        ("ExpiredToken", "the reason; get new credentials (`aws sso login`), then try again."),
        ("Other", "the reason."),
    ],
)
def test_client_error_message_has_reason_and_advice(code: str, advice: str) -> None:
    with pytest.raises(AwsError) as caught, wrap_aws_errors("It cannot start"):
        failing_check(code, "the\n  reason.")()
    assert str(caught.value) == f"It cannot start: {advice}"
