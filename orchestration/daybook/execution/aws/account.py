"""The AWS account that a person's credentials lead to, and AWS's refusals said in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Optional

from daybook.errors import AwsError, UsageError

ACCESS_DENIED_CODES = frozenset(
    {
        *("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError", "403", "Forbidden"),
        *("AuthorizationErrorException", "UnauthorizedException", "NotAuthorized"),
    }
)
"""How services say that one may not ask, each its own way."""
NOT_FOUND_CODES = frozenset(
    {
        *("404", "NoSuchBucket", "NoSuchKey", "NotFound", "NotFoundException", "ResourceNotFoundException", "NoSuchEntity"),
        *(
            "EntityNotFoundException",
            "StateMachineDoesNotExist",
            "QueueDoesNotExist",
            "AWS.SimpleQueueService.NonExistentQueue",
        ),
        *("ResourceNotFound", "NoSuchPublicAccessBlockConfiguration", "ServerSideEncryptionConfigurationNotFoundError"),
    }
)
"""How services say that there is no such thing."""


@dataclass(frozen=True)
class Account:
    """Where clients go, and who asks: ``caller`` is an ARN, ``partition`` is ``aws`` but in China and for governments."""

    number: str
    region: str
    caller: str
    partition: str

    def arn(self, service: str, resource: str) -> str:
        """The ARN of something in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.number}:{resource}"

    def client(self, service: str) -> Any:
        """A client of boto3 that gives up on a service which does not answer, rather than trying for minutes."""
        return _client(service, self.region)

    def session(self) -> Any:
        """A session of boto3 for libraries that make their own clients."""
        import boto3

        return boto3.Session(region_name=self.region)


def connect(region: Optional[str], doing: str) -> Account:
    """The account of the credentials at hand; ``region`` is the deployment's, else the environment's or profile's.

    Raises ``AwsError`` without credentials, or where AWS does not take them; ``UsageError`` without a region.
    """
    with wrap_aws_errors(f"`{doing}` cannot start"):
        sts = _client("sts", region)
        identity = sts.get_caller_identity()
    caller = identity["Arn"]
    return Account(identity["Account"], sts.meta.region_name, caller, caller.split(":")[1])


def _client(service: str, region: Optional[str]) -> Any:
    import boto3  # slow, and most commands do without
    from boto3.compat import filter_python_deprecation_warnings
    from botocore.config import Config
    from botocore.exceptions import NoRegionError

    # Credentials of a machine (its metadata service) are asked for last, by botocore's own second and single try: a laptop
    # without credentials is told so at once, and a machine that has a role is not locked out.
    config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 3})
    # That it is old is known (it is what Glue has), and no answer to a command.
    filter_python_deprecation_warnings()
    try:
        return boto3.client(service, region_name=region, config=config)
    except NoRegionError:
        raise UsageError("No AWS region is given: write `region` under `deployment` in params/, or set AWS_REGION.") from None


@contextmanager
def wrap_aws_errors(what: str) -> Iterator[None]:
    """Say in one sentence what could not be done: AWS refuses, does not answer, or was never asked for want of credentials.

    ``what`` is the sentence's beginning: "The bundle could not be uploaded".
    """
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        EndpointConnectionError,
        HTTPClientError,
        NoCredentialsError,
        PartialCredentialsError,
        ProfileNotFound,
    )

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError):
        raise AwsError(
            f"{what}: there are no AWS credentials; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run "
            "`aws sso login`, then run it again."
        ) from None
    except ProfileNotFound as error:
        raise AwsError(f"{what}: {_single_line(str(error))}; set AWS_PROFILE to one that is in ~/.aws/config.") from None
    except ClientError as error:
        raise AwsError(f"{what}: {error_reason(error)}{_advice(error_code(error))}") from error
    except (EndpointConnectionError, HTTPClientError) as error:
        raise AwsError(
            f"{what}: AWS cannot be reached ({_single_line(str(error))}); look to the network, then run it again."
        ) from error
    except BotoCoreError as error:
        raise AwsError(f"{what}: {_single_line(str(error))}; look to the credentials, then run it again.") from error


def error_code(error: Any) -> str:
    """The short name that AWS gives a refusal: ``AccessDenied``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_reason(error: Any) -> str:
    """What AWS says of a refusal, on one line and without a full stop."""
    said = error.response.get("Error", {})
    return _single_line(said.get("Message") or said.get("Code") or str(error))


def _advice(code: str) -> str:
    if code in ACCESS_DENIED_CODES:
        return "; use credentials that may, see infra/deployer.yaml."
    if code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"):
        return "; get new credentials (`aws sso login`), then run it again."
    return "."


def _single_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
