"""`ports.transfers` straight to and from S3, by presigned requests.

Length, type, `If-None-Match: *` and checksum are signed as headers, so S3 refuses any other value with 403, and a second put
with 412 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). The signing role must be allowed to do
what it signs, and a URL expires with the credentials that signed it: a role's session may be shorter than `expires_at`
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-presigned-url.html). S3 counts in seconds, so a URL may live up to
a second longer than requested.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from postroom.clock import Clock, Instant
from postroom.platform.aws._clients import aws_errors, error_code
from postroom.platform.ports.objects import check_object_key
from postroom.platform.ports.transfers import ArrivedObject, PresignedRequest, attachment, check_transfer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_ABSENT = frozenset(
    {"NoSuchKey", "404", "405"}
)  # a HEAD's answer has no body, so its code is the status; 405: the newest version is a delete marker


class S3Transfers:
    """`ports.transfers.Transfers` of one bucket."""

    def __init__(self, client: S3Client, bucket: str, clock: Clock) -> None:
        """`client` must sign with Signature Version 4."""
        self._client = client
        self._bucket = bucket
        self._clock = clock

    def put(self, key: str, *, size: int, content_type: str, expires_at: Instant, sha256: str | None = None) -> PresignedRequest:
        check_transfer(key, expires_at, self._clock.now(), size=size)
        facts: dict[str, Any] = {"ContentLength": size, "ContentType": content_type, "IfNoneMatch": "*"}
        headers = {"Content-Type": content_type, "Content-Length": str(size), "If-None-Match": "*"}
        if sha256 is not None:
            facts["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
        return PresignedRequest("PUT", self._sign("put_object", key, expires_at, facts), headers, expires_at)

    def get(self, key: str, *, filename: str, content_type: str, expires_at: Instant) -> PresignedRequest:
        check_transfer(key, expires_at, self._clock.now())
        facts = {"ResponseContentDisposition": attachment(filename), "ResponseContentType": content_type}
        return PresignedRequest("GET", self._sign("get_object", key, expires_at, facts), {}, expires_at)

    def arrived(self, key: str) -> ArrivedObject | None:
        check_object_key(key)
        with aws_errors(f"asking for the object {key}"):
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error_code(error) in _ABSENT:
                    return None
                raise
        return ArrivedObject(head["VersionId"], head["ContentLength"])

    def _sign(self, operation: str, key: str, expires_at: Instant, facts: dict[str, Any]) -> str:
        seconds = max(1, -(-(expires_at - self._clock.now()) // 1000))
        with aws_errors(f"signing a URL of the object {key}"):
            url: str = self._client.generate_presigned_url(
                operation, Params={"Bucket": self._bucket, "Key": key, **facts}, ExpiresIn=seconds
            )
        return url
