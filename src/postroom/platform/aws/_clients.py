"""What AWS says, in Postroom's words: the only place that reads botocore's errors.

A code that is not known to be permanent is temporary. Conditional failures are answers, not errors: the adapters read
them before they get here.

Connections to AWS: one way to make a client, with time-outs that fit a worker's lease.

A call that hangs holds a lease for nothing, so a connection that is not there in 2 s and an answer that is not there in
10 s are given up; botocore then repeats the call ("adaptive" mode: 3 more times, with backoff, and a client that is throttled
slows down by itself). It may thus repeat a write whose answer was lost: every adapter must be able to tell its own earlier
write from somebody else's, and says how. Mail is never sent through these clients' retries (platform.mail).

The clients of one account share a session, because what a session reads of botocore's data is most of what a client costs: 40 ms
of CPU each apart, 5 ms together. Making clients is not safe between threads, so it is done one by one; the clients are.

A secret that people put into Secrets Manager for the stack to read.
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
    """Turn whatever botocore raises inside into one of ours; `doing` says what failed ("reading the table x")."""
    try:
        yield
    except (boto.BotoCoreError, boto.ClientError) as error:
        raise postroom_error(error, doing) from error


def postroom_error(error: boto.BotoCoreError | boto.ClientError, doing: str) -> PostroomError:
    """The error of ours that says the same."""
    if isinstance(error, boto.ClientError):
        return _refusal(error, doing)
    if isinstance(error, _NO_LOGIN):
        return Denied(f"AWS was not asked while {doing}: {error}")
    if isinstance(error, boto.ParamValidationError):
        return Invalid(f"AWS takes no such request while {doing}: {error}")
    return Unavailable(f"AWS did not answer while {doing}: {error}")


def error_code(error: boto.ClientError) -> str:
    """AWS's own word for it; a HEAD has no body and so only its HTTP status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def was_retried(error: boto.ClientError) -> bool:
    """Whether botocore had sent the request before: an earlier one may have been carried out unseen."""
    return error.response.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0


def _refusal(error: boto.ClientError, doing: str) -> PostroomError:
    code = error_code(error).rpartition(".")[2]  # SQS also speaks in "AWS.SimpleQueueService.X"
    said = f"{code}: {error.response.get('Error', {}).get('Message', '')}"
    if code in _DENIED or code == "403":
        return Denied(f"AWS does not allow {doing} ({said}): check the role's policy")
    if code in _ABSENT:
        return Unsupported(f"AWS has nothing to work on while {doing} ({said}): deploy the stack, or check the settings")
    if code in _TOO_LARGE:
        return TooLarge(f"too large for AWS while {doing} ({said})")
    if code in _INVALID:
        return Invalid(f"AWS refuses the request while {doing} ({said})")
    return Unavailable(f"AWS could not go on {doing} ({said})")


CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 10.0
ATTEMPTS = 4
POOL_SIZE = 32
"""Connections kept open a client: no adapter runs more threads than that."""


@dataclass(frozen=True, slots=True)
class AwsAccount:
    """Where to go and as whom. What is None comes from the environment, as AWS documents it (role, profile, region)."""

    region: str | None = None
    endpoint: str | None = None
    """One address for all services: an emulator's. None: as botocore finds it (`AWS_ENDPOINT_URL`, else the real one)."""
    access_key: str | None = None
    secret_key: str | None = field(default=None, repr=False)
    _shared: _Shared = field(default_factory=lambda: _Shared(), init=False, repr=False, compare=False)

    def dynamodb(self) -> DynamoDBClient:
        """A DynamoDB client, safe to share between threads."""
        client: DynamoDBClient = self._client("dynamodb", "v4")
        return client

    def sqs(self) -> SQSClient:
        """An SQS client, safe to share between threads."""
        client: SQSClient = self._client("sqs", "v4")
        return client

    def s3(self) -> S3Client:
        """An S3 client, safe to share between threads."""
        client: S3Client = self._client("s3", "s3v4")
        return client

    def streams(self) -> DynamoDBStreamsClient:
        """A client of DynamoDB's streams, safe to share between threads."""
        client: DynamoDBStreamsClient = self._client("dynamodbstreams", "v4")
        return client

    def scheduler(self) -> EventBridgeSchedulerClient:
        """A client of the EventBridge Scheduler, safe to share between threads."""
        client: EventBridgeSchedulerClient = self._client("scheduler", "v4")
        return client

    def stepfunctions(self) -> SFNClient:
        """A Step Functions client, safe to share between threads."""
        client: SFNClient = self._client("stepfunctions", "v4")
        return client

    def kms(self) -> KMSClient:
        """A KMS client, safe to share between threads."""
        client: KMSClient = self._client("kms", "v4")
        return client

    def cognito(self) -> CognitoIdentityProviderClient:
        """A client of Cognito's user pools, safe to share between threads."""
        client: CognitoIdentityProviderClient = self._client("cognito-idp", "v4")
        return client

    def sns(self) -> SNSClient:
        """An SNS client, safe to share between threads."""
        client: SNSClient = self._client("sns", "v4")
        return client

    def secretsmanager(self) -> Any:
        """A Secrets Manager client, safe to share between threads."""
        return self._client("secretsmanager", "v4")

    def _client(self, service: str, signature: str) -> Any:
        shared = self._shared
        with shared.lock:
            if shared.session is None:  # not boto3's default one: that is the whole process's
                shared.session = boto3.session.Session(self.access_key, self.secret_key, region_name=self.region)
            return shared.session.client(service, endpoint_url=self.endpoint, config=_config(signature))  # type: ignore[call-overload]


class _Shared:
    """The session that an account's clients are made from, once there is one."""

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
    """By name or ARN. `NotFound`, `Denied`, `Unavailable`."""
    with aws_errors(f"reading the secret {name}"):
        client = account.secretsmanager()
        answer = client.get_secret_value(SecretId=name)
        client.close()
    text = str(answer.get("SecretString", "")).strip()
    if not text:
        raise NotFound(f"the secret {name} holds no text")
    return text
