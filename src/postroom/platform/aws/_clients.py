"""Connections to AWS: one way to make a client, with time-outs that fit a worker's lease.

A call that hangs holds a lease for nothing, so a connection that is not there in 2 s and an answer that is not there in
10 s are given up; botocore then repeats the call ("standard" mode: 3 more times, with backoff). It may thus repeat a
write whose answer was lost: every adapter must be able to tell its own earlier write from somebody else's, and says how.
Mail is never sent through these clients' retries (platform.mail).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

CONNECT_TIMEOUT_S = 2.0
READ_TIMEOUT_S = 10.0
ATTEMPTS = 4
POOL_SIZE = 32
"""Connections kept open a client: no adapter runs more threads than that."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where to go and as whom. What is None comes from the environment, as AWS documents it (role, profile, region)."""

    region: str | None = None
    endpoint: str | None = None
    """One address for all services: an emulator's."""
    access_key: str | None = None
    secret_key: str | None = None

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

    def _client(self, service: str, signature: str) -> Any:
        # A session of its own: boto3's default one is shared by the whole process and not safe to share between threads.
        session = boto3.session.Session(self.access_key, self.secret_key, region_name=self.region)
        return session.client(service, endpoint_url=self.endpoint, config=_config(signature))  # type: ignore[call-overload]


def _config(signature: str) -> Config:
    return Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=POOL_SIZE,
        tcp_keepalive=True,
        signature_version=signature,
        user_agent_extra="postroom",
    )
