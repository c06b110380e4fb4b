"""How AWS's answers become a line of the doctor's; the questions themselves are asked of an emulator in ``tests/emulator``."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from daybook.deploy.doctor.checks import Check, build_check, run_check
from daybook.deploy.doctor.services import next_daily_time
from daybook.errors import AwsError
from daybook.execution.aws.account import wrap_aws_errors


def refusing(code: str, message: str = "as it is"):
    """A question that AWS answers so."""

    def question() -> Check:
        raise ClientError({"Error": {"Code": code, "Message": message}}, "GetJob")

    return question


@pytest.mark.parametrize(
    ("code", "state", "said"),
    [
        ("AccessDeniedException", "refused", "these credentials may not ask (GetJob)"),
        ("403", "refused", "these credentials may not ask (GetJob)"),
        ("EntityNotFoundException", "failed", "is not there"),
        ("Throttling", "failed", "could not be asked: as it is"),
    ],
)
def test_a_refusal_is_an_answer(code: str, state: str, said: str) -> None:
    found = run_check("job", "deploy", refusing(code))
    assert (found.state, found.said) == (state, said)


def test_a_network_that_is_down_is_an_answer() -> None:
    def question() -> Check:
        raise EndpointConnectionError(endpoint_url="https://glue.example")

    found = run_check("job", "deploy", question)
    assert (found.state, found.remedy) == ("failed", "look to the network")


def test_all_that_is_wrong_is_said_at_once() -> None:
    assert build_check("bucket", "good", [None, "is open", None, "is plain"], "close it").said == "is open; is plain"
    assert build_check("bucket", "good", [None], "close it") == Check("bucket", "ok", "good")


@pytest.mark.parametrize(
    ("expression", "at", "due"),
    [
        ("cron(0 2 * * ? *)", (2025, 11, 30, 1, 59), (2025, 11, 30, 2, 0)),
        ("cron(0 2 * * ? *)", (2025, 11, 30, 2, 0), (2025, 12, 1, 2, 0)),
        ("cron(30 14 * * ? *)", (2025, 12, 31, 15, 0), (2026, 1, 1, 14, 30)),
    ],
)
def test_a_daily_schedule_says_when_it_is_due_next(expression: str, at: tuple[int, ...], due: tuple[int, ...]) -> None:
    assert next_daily_time(expression, datetime(*at, tzinfo=timezone.utc)) == datetime(*due, tzinfo=timezone.utc)  # type: ignore[misc]


def test_of_any_other_schedule_it_is_not_guessed() -> None:
    assert next_daily_time("rate(1 day)", datetime(2025, 11, 30, tzinfo=timezone.utc)) is None
    assert next_daily_time("cron(0 2 ? * MON *)", datetime(2025, 11, 30, tzinfo=timezone.utc)) is None


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("AccessDenied", "as it is; use credentials that may, see infra/deployer.yaml."),
        ("ExpiredToken", "as it is; get new credentials (`aws sso login`), then run it again."),
        ("Other", "as it is."),
    ],
)
def test_a_refused_command_says_what_aws_says_and_what_to_do(code: str, advice: str) -> None:
    with pytest.raises(AwsError) as told, wrap_aws_errors("It cannot start"):
        refusing(code, "as\n  it is.")()
    assert str(told.value) == f"It cannot start: {advice}"
