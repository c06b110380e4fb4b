"""Connect to an AWS account and report errors of AWS in one sentence."""

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
"""Error codes of services for missing permissions."""
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
"""Error codes of services for missing resources."""


@dataclass(frozen=True)
class Account:
    """An AWS account with region and caller. ``caller`` is an ARN; ``partition`` is ``aws`` except in China and GovCloud."""

    number: str
    region: str
    caller: str
    partition: str

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in this account and region."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.number}:{resource}"

    def client(self, service: str) -> Any:
        """Return a boto3 client with short timeouts and few retries."""
        return _client(service, self.region)

    def session(self) -> Any:
        """Return a boto3 session for libraries that create their own clients."""
        import boto3

        return boto3.Session(region_name=self.region)


def connect(region: Optional[str], command: str) -> Account:
    """Return the account of the present credentials.

    Parameters
    ----------
    region : str, optional
        The region of the deployment; by default that of the environment or profile.
    command : str
        The command for error messages.

    Raises
    ------
    AwsError
        Credentials are missing or invalid.
    UsageError
        No region is set.
    """
    with wrap_aws_errors(f"`{command}` cannot start"):
        sts = _client("sts", region)
        identity = sts.get_caller_identity()
    caller = identity["Arn"]
    return Account(identity["Account"], sts.meta.region_name, caller, caller.split(":")[1])


def _client(service: str, region: Optional[str]) -> Any:
    import boto3  # slow, and most commands do not need it
    from boto3.compat import filter_python_deprecation_warnings
    from botocore.config import Config
    from botocore.exceptions import NoRegionError

    # botocore queries the metadata service of a machine last, once and for one second, so a laptop without credentials fails
    # at once, and a machine with a role works.
    config = Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "max_attempts": 3})
    filter_python_deprecation_warnings()  # Glue Python shell has Python 3.9
    try:
        return boto3.client(service, region_name=region, config=config)
    except NoRegionError:
        raise UsageError("No AWS region is set; set `region` under `deployment` in params/, or AWS_REGION.") from None


@contextmanager
def wrap_aws_errors(what: str) -> Iterator[None]:
    """Raise errors of boto3 as ``AwsError`` with one sentence.

    Parameters
    ----------
    what : str
        The start of the sentence, such as "The bundle could not be uploaded".
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
            "`aws sso login`, then try again."
        ) from None
    except ProfileNotFound as error:
        raise AwsError(f"{what}: {_single_line(str(error))}; set AWS_PROFILE to a profile in ~/.aws/config.") from None
    except ClientError as error:
        raise AwsError(f"{what}: {error_reason(error)}{_advice(error_code(error))}") from error
    except (EndpointConnectionError, HTTPClientError) as error:
        raise AwsError(
            f"{what}: AWS cannot be reached ({_single_line(str(error))}); check the network, then try again."
        ) from error
    except BotoCoreError as error:
        raise AwsError(f"{what}: {_single_line(str(error))}; check the credentials, then try again.") from error


def error_code(error: Any) -> str:
    """Return the error code of a ``ClientError``, such as ``AccessDenied``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def error_reason(error: Any) -> str:
    """Return the message of a ``ClientError`` on one line and without a full stop."""
    details = error.response.get("Error", {})
    return _single_line(details.get("Message") or details.get("Code") or str(error))


def _advice(code: str) -> str:
    if code in ACCESS_DENIED_CODES:
        return "; use credentials with this permission, see infra/deployer.yaml."
    if code in ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"):
        return "; get new credentials (`aws sso login`), then try again."
    return "."


def _single_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
