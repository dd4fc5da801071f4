"""Clients of AWS, and the translation of their errors.

**Clients.** Time-outs fit a worker's lease: a connection that takes longer than 2 s or an answer that takes longer than 10 s is
given up. botocore then repeats the call 3 times with backoff, in "adaptive" mode, in which a throttled client slows down by
itself (https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html). It may repeat a write whose answer was
lost, so every adapter must recognize its own earlier write; its module says how. Mail is never sent through these clients'
retries (platform.mail). The clients of one account share a session: loading botocore's data takes 40 ms of CPU for each
session, 5 ms for each client of a shared one. Creating clients is not safe between threads, so a lock guards it; using them is.

**Errors.** This is the only module that translates botocore's errors
(https://docs.aws.amazon.com/boto3/latest/guide/error-handling.html). A code that is not known to be permanent is
temporary. Failed conditions are results, not errors: adapters read them before translation.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from botocore import exceptions as boto
from botocore.config import Config

from postroom.errors import Denied, Invalid, NotFound, PostroomError, TooLarge, Unavailable, Unsupported

if TYPE_CHECKING:
    from mypy_boto3_cognito_idp import CognitoIdentityProviderClient
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodbstreams import DynamoDBStreamsClient
    from mypy_boto3_kms import KMSClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_sns import SNSClient
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_stepfunctions import SFNClient


_DENIED = frozenset(
    {
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "KmsAccessDenied",
        "KMSAccessDeniedException",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "NotAuthorized",
        "NotAuthorizedException",
        "OptInRequired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)

_ABSENT = frozenset({"NoSuchBucket", "NotFoundException", "ResourceNotFoundException"})
_TOO_LARGE = frozenset({"BatchRequestTooLong", "EntityTooLarge", "RequestEntityTooLarge"})

_INVALID = frozenset(
    {
        "InvalidArgument",
        "InvalidAttributeValue",
        "InvalidMessageContents",
        "InvalidParameterException",
        "InvalidParameterValue",
        "InvalidRequest",
        "SerializationException",
        "ValidationException",
    }
)

_NO_LOGIN = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.NoRegionError, boto.ProfileNotFound)


@contextmanager
def aws_errors(doing: str) -> Iterator[None]:
    """Raise botocore's errors of the block as errors from `postroom.errors`. `doing` says what failed ("reading the table x")."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError) as error:
        raise postroom_error(error, doing) from error


def postroom_error(error: boto.BotoCoreError | boto.ClientError, doing: str) -> PostroomError:
    """The error from `postroom.errors` that corresponds."""
    if isinstance(error, boto.ClientError):
        return _refusal(error, doing)
    if isinstance(error, _NO_LOGIN):
        return Denied(f"no call was made to AWS while {doing}: {error}")
    if isinstance(error, boto.ParamValidationError):
        return Invalid(f"the request to AWS is not valid while {doing}: {error}")
    return Unavailable(f"AWS did not answer while {doing}: {error}")


def error_code(error: boto.ClientError) -> str:
    """AWS's error code. A HEAD's answer has no body, so its code is the HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def was_retried(error: boto.ClientError) -> bool:
    """Whether botocore had sent the request before: an earlier try may have been applied and its answer lost."""
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def _refusal(error: boto.ClientError, doing: str) -> PostroomError:
    code = error_code(error).rpartition(".")[2]  # SQS prefixes some codes: "AWS.SimpleQueueService.X"
    detail = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
    if code in _DENIED or code == "403":
        return Denied(f"AWS does not allow {doing} ({detail}): check the role's policy")
    if code in _ABSENT:
        return Unsupported(f"AWS has nothing to work on while {doing} ({detail}): deploy the stack, or check the settings")
    if code in _TOO_LARGE:
        return TooLarge(f"too large for AWS while {doing} ({detail})")
    if code in _INVALID:
        return Invalid(f"AWS refuses the request while {doing} ({detail})")
    return Unavailable(f"AWS could not go on {doing} ({detail})")


CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 10.0
ATTEMPTS = 4
POOL_SIZE = 32
"""Connections that a client keeps open. No adapter runs more threads than that."""


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """Region, endpoint and credentials of an account. A value of None comes from the environment: role, profile, region
    (https://docs.aws.amazon.com/sdkref/latest/guide/environment-variables.html). Clients are safe to share between threads."""

    region: str | None = None
    endpoint: str | None = None
    """One URL for all services, such as an emulator's. Default: `AWS_ENDPOINT_URL`, else AWS's own."""
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    _shared: _Shared = field(default_factory=lambda: _Shared(), init=False, repr=False, compare=False)

    def dynamodb(self) -> DynamoDBClient:
        client: DynamoDBClient = self._client("dynamodb", "v4")
        return client

    def sqs(self) -> SQSClient:
        client: SQSClient = self._client("sqs", "v4")
        return client

    def s3(self) -> S3Client:
        client: S3Client = self._client("s3", "s3v4")
        return client

    def streams(self) -> DynamoDBStreamsClient:
        client: DynamoDBStreamsClient = self._client("dynamodbstreams", "v4")
        return client

    def scheduler(self) -> EventBridgeSchedulerClient:
        client: EventBridgeSchedulerClient = self._client("scheduler", "v4")
        return client

    def stepfunctions(self) -> SFNClient:
        client: SFNClient = self._client("stepfunctions", "v4")
        return client

    def kms(self) -> KMSClient:
        client: KMSClient = self._client("kms", "v4")
        return client

    def cognito(self) -> CognitoIdentityProviderClient:
        client: CognitoIdentityProviderClient = self._client("cognito-idp", "v4")
        return client

    def sns(self) -> SNSClient:
        client: SNSClient = self._client("sns", "v4")
        return client

    def secretsmanager(self) -> Any:
        return self._client("secretsmanager", "v4")

    def _client(self, service: str, signature: str) -> Any:
        shared = self._shared
        with shared.lock:
            if shared.session is None:  # not boto3's default one: that is the whole process's
                shared.session = boto3.session.Session(self.access_key, self.secret_key, region_name=self.region)
            return shared.session.client(service, endpoint_url=self.endpoint, config=_config(signature))  # type: ignore[call-overload]


class _Shared:
    """The session that an account's clients are made from, once it exists."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.session: boto3.session.Session | None = None


def _config(signature: str) -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "adaptive", "total_max_attempts": ATTEMPTS},
        max_pool_connections=POOL_SIZE,
        tcp_keepalive=True,
        signature_version=signature,
        user_agent_extra="postroom",
    )


def secret_text(account: AwsAccount, name: str) -> str:
    """The text of a secret in Secrets Manager, by name or ARN. Raises `NotFound`, `Denied` or `Unavailable`
    (https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html)."""
    with aws_errors(f"reading the secret {name}"):
        client = account.secretsmanager()
        answer = client.get_secret_value(SecretId=name)
        client.close()
    text = str(answer.get("SecretString", "")).strip()
    if not text:
        raise NotFound(f"the secret {name} holds no text")
    return text
