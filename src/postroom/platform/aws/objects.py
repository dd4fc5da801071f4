"""`ports.objects` in a versioned S3 bucket that holds nothing else.

Each object's metadata holds the SHA-256 of the whole content, the time and a mark of the put. Content that does not come as bytes
is spooled first, in memory up to 8 MiB and then in a temporary file, because its SHA-256 must be known before its first byte
is sent. Up to 16 MiB go in one request, checked by S3 against the SHA-256; larger content goes in parts, each checked
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html). What a killed upload leaves is
invisible, and deleted by the bucket's lifecycle rule
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpu-abort-incomplete-mpu-lifecycle-config.html).

An `if_absent` put is a conditional write (https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html). If
its answer was lost, botocore's repeat is refused because of the first try: the mark on the stored object shows that. A plain put
repeated so may leave two versions of the same content.

S3's listing has neither version nor SHA-256, so each listed object costs a HeadObject, 16 at a time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, BinaryIO

from botocore.exceptions import BotoCoreError, ClientError

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, Corrupt, Invalid, NotFound, StorageFull, Unavailable
from postroom.platform.aws._clients import aws_errors, error_code, postroom_error
from postroom.platform.ports.limits import check_page, cursor_after, parse_cursor
from postroom.platform.ports.objects import ObjectInfo, ObjectPage, check_object_key, check_object_prefix

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


_CHUNK_BYTES = 1 << 20
_IN_MEMORY_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Spooled:
    """Content whose size and hash are known, and that can be read again for another try."""

    file: IO[bytes]
    size: int
    sha256: str

    def parts(self, size: int) -> Iterator[bytes]:
        """All of it in parts of `size`; nothing for empty content."""
        self.file.seek(0)
        while part := self.file.read(size):
            yield part


@contextmanager
def spool(content: bytes | BinaryIO | Iterator[bytes]) -> Iterator[Spooled]:
    """Read the content to its end: in memory up to 8 MiB, then in a temporary file that is gone however we end.

    `StorageFull`: the temporary directory has no room. What the stream or iterator raises goes on to the caller.
    """
    digest, size = hashlib.sha256(), 0
    with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES) as file:
        for chunk in _chunks(content):
            digest.update(chunk)
            size += len(chunk)
            _write(file, chunk)
        yield Spooled(file, size, digest.hexdigest())


def _write(file: IO[bytes], chunk: bytes) -> None:
    try:
        file.write(chunk)
    except OSError as error:
        raise StorageFull(f"the temporary directory {tempfile.gettempdir()} took no more: {error}") from error


def _chunks(content: bytes | BinaryIO | Iterator[bytes]) -> Iterable[bytes]:
    if isinstance(content, bytes | bytearray | memoryview):
        return (bytes(content),)
    if hasattr(content, "read"):
        stream: Any = content
        return iter(lambda: stream.read(_CHUNK_BYTES), b"")
    return content


CHUNK_BYTES = 1 << 20
_RESUMES = 3
"""Broken connections in a row, without a byte between them, before the reader gets the error."""


class Download(io.RawIOBase):
    """Reads `body`; where it breaks, `resume(position)` opens the rest of the same version."""

    def __init__(self, body: Any, resume: Callable[[int], Any], key: str, sha256: str | None) -> None:
        self._body = body
        self._resume = resume
        self._key = key
        self._sha256 = sha256
        self._hash = hashlib.sha256()
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        chunk = self._read(len(view))
        view[: len(chunk)] = chunk
        self._position += len(chunk)
        self._hash.update(chunk)
        if not chunk and len(view) and self._sha256 not in (None, self._hash.hexdigest()):
            raise Corrupt(f"Object {self._key} is damaged: its content is not what was stored. Restore an older version.")
        return len(chunk)

    def readall(self) -> bytes:
        return b"".join(iter(lambda: self.read(CHUNK_BYTES), b""))

    def _read(self, size: int) -> bytes:
        broken = 0
        while True:
            try:
                return bytes(self._body.read(size))
            except BotoCoreError as error:
                broken += 1
                if broken > _RESUMES:
                    raise postroom_error(error, f"reading the object {self._key}") from error
            self._body.close()
            self._body = self._resume(self._position)

    def close(self) -> None:
        self._body.close()
        super().close()


PART_BYTES = 16 << 20
_MAX_PARTS = 9_000  # S3 takes 10,000
_THREADS = 16
_PURGE_MAX = 1_000  # DeleteObjects
_TRIES = 5
_PAUSE_S = 0.1

# A delete marker answers 405 to GET; a HEAD's answer has no body, so its code is the status:
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
_ABSENT = frozenset({"NoSuchKey", "NoSuchVersion", "MethodNotAllowed", "404", "405"})

# A bad version id. Without a version in the request, these codes mean another error, such as an expired session.
_NO_VERSION = frozenset({"InvalidArgument", "400"})
_BEYOND = "InvalidRange"
_TAKEN = "PreconditionFailed"
_RACING = "ConditionalRequestConflict"


class S3Objects:
    """`ports.objects.Objects` in one bucket."""

    def __init__(self, client: S3Client, bucket: str, clock: Clock) -> None:
        self._client = client
        self._bucket = bucket
        self._clock = clock
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="s3")

    def close(self) -> None:
        """End the threads; streams that are open stay open."""
        self._pool.shutdown()

    def put(
        self,
        key: str,
        content: bytes | BinaryIO | Iterator[bytes],
        *,
        content_type: str = "application/octet-stream",
        if_absent: bool = False,
    ) -> ObjectInfo:
        check_object_key(key)
        with spool(content) as spooled:
            for attempt in range(_TRIES):
                info = self._put(key, spooled, content_type, if_absent=if_absent)
                if info is not None:
                    return info
                self._clock.sleep(_PAUSE_S * 2**attempt)
        raise Unavailable(f"other writers kept putting the object {key}")

    def _put(self, key: str, spooled: Spooled, content_type: str, *, if_absent: bool) -> ObjectInfo | None:
        """Store the content. Returns None if S3 asks for another try because of a concurrent conditional put (409)."""
        now, mark = self._clock.now(), self._clock.random(9).hex()
        metadata = {"sha256": spooled.sha256, "stored-at": str(now), "mark": mark}
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if if_absent else {}
        store = self._put_whole if spooled.size <= PART_BYTES else self._put_parts
        with aws_errors(f"putting the object {key}"):
            try:
                version = store(key, spooled, condition, ContentType=content_type, Metadata=metadata)
            except ClientError as error:
                if error_code(error) == _RACING:
                    return None
                if error_code(error) != _TAKEN:
                    raise
                own = self._own_version(key, mark)
                if own is None:
                    raise Conflict(f"There is an object {key} already.") from error
                version = own
        return ObjectInfo(key, version, spooled.size, spooled.sha256, content_type, now)

    def _put_whole(self, key: str, spooled: Spooled, condition: dict[str, Any], **facts: Any) -> str:
        checksum = base64.b64encode(bytes.fromhex(spooled.sha256)).decode()
        body = b"".join(spooled.parts(PART_BYTES))
        answer = self._client.put_object(Bucket=self._bucket, Key=key, Body=body, ChecksumSHA256=checksum, **condition, **facts)
        return answer["VersionId"]

    def _put_parts(self, key: str, spooled: Spooled, condition: dict[str, Any], **facts: Any) -> str:
        at: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        upload = self._client.create_multipart_upload(**at, ChecksumAlgorithm="SHA256", **facts)["UploadId"]
        try:
            parts: list[Any] = []
            size = max(PART_BYTES, -(-spooled.size // _MAX_PARTS))
            for number, part in enumerate(spooled.parts(size), start=1):
                checksum = base64.b64encode(hashlib.sha256(part).digest()).decode()
                sent = self._client.upload_part(**at, UploadId=upload, PartNumber=number, Body=part, ChecksumSHA256=checksum)
                parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum})
            done = self._client.complete_multipart_upload(
                **at,
                UploadId=upload,
                MultipartUpload={"Parts": parts},
                **condition,
            )
        except BaseException:
            self._abort(at, upload)
            raise
        return done["VersionId"]

    def _abort(self, at: dict[str, Any], upload: str) -> None:
        try:
            self._client.abort_multipart_upload(**at, UploadId=upload)
        except ClientError as error:
            if error_code(error) != "NoSuchUpload":
                raise

    def _own_version(self, key: str, mark: str) -> str | None:
        """The current version if it has our mark, else None."""
        head = self._head(key, None)
        return head["VersionId"] if head is not None and head["Metadata"].get("mark") == mark else None

    def get(self, key: str, version: str | None = None) -> bytes:
        with self.open(key, version) as stream:
            return stream.read()

    def open(self, key: str, version: str | None = None) -> BinaryIO:
        """See the port. If the connection breaks, the stream continues in the same version. Its SHA-256 is checked at the end."""
        answer = self._get(key, version)
        known = version or answer["VersionId"]

        def resume(start: int) -> Any:
            rest = self._get(key, known, start)
            return io.BytesIO() if rest is None else rest["Body"]

        return io.BufferedReader(Download(answer["Body"], resume, key, answer["Metadata"].get("sha256")), CHUNK_BYTES)

    def read(self, key: str, start: int, length: int, version: str | None = None) -> bytes:
        if start < 0 or length < 0:
            raise Invalid(f"There is no range of {length} bytes from {start}.")
        if length == 0:
            if self.info(key, version) is None:
                raise _absent(key, version)
            return b""
        answer = self._get(key, version, start, start + length - 1)
        if answer is None:
            return b""
        with aws_errors(f"reading the object {key}"):
            return bytes(answer["Body"].read(length))

    def _get(self, key: str, version: str | None, start: int = 0, last: int | None = None) -> Any:
        """S3's answer, or None if the range begins at the end or beyond. The body may continue after `last`."""
        check_object_key(key)
        ranged = start > 0 or last is not None
        part: dict[str, Any] = {"Range": f"bytes={start}-{'' if last is None else last}"} if ranged else {}
        with aws_errors(f"reading the object {key}"):
            try:
                answer: Any = self._client.get_object(Bucket=self._bucket, Key=key, **_named(version), **part)
            except ClientError as error:
                if _says_absent(error, version):
                    raise _absent(key, version) from error
                if error_code(error) == _BEYOND:
                    return None
                raise
            if ranged and "ContentRange" not in answer:  # a server may ignore a range (RFC 9110 §14.2)
                _skip(answer["Body"], start)
        return answer

    def info(self, key: str, version: str | None = None) -> ObjectInfo | None:
        check_object_key(key)
        head = self._head(key, version)
        return None if head is None else self._info(key, head)

    def _head(self, key: str, version: str | None) -> Any:
        with aws_errors(f"asking for the object {key}"):
            try:
                return self._client.head_object(Bucket=self._bucket, Key=key, **_named(version))
            except ClientError as error:
                if _says_absent(error, version):
                    return None
                raise

    def _info(self, key: str, head: Any) -> ObjectInfo:
        facts = head["Metadata"]
        stored_at = int(facts.get("stored-at") or head["LastModified"].timestamp() * 1_000)
        sha256 = facts.get("sha256") or self._hash(key, head["VersionId"])
        return ObjectInfo(key, head["VersionId"], head["ContentLength"], sha256, head["ContentType"], Instant(stored_at))

    def _hash(self, key: str, version: str) -> str:
        """The SHA-256 of an object that a client uploaded straight to S3: read all of it."""
        digest = hashlib.sha256()
        with self.open(key, version) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def versions(self, key: str) -> list[ObjectInfo]:
        check_object_key(key)
        named: list[str] = []
        for page in self._version_pages(key):
            named += [one["VersionId"] for one in page.get("Versions", ()) if one["Key"] == key]
            if any(one["Key"] != key for one in page.get("Versions", ())):  # in byte order, the key itself comes first
                break
        return self._infos([(key, version) for version in named])

    def _infos(self, named: Sequence[tuple[str, str | None]]) -> list[ObjectInfo]:
        """The infos of those that still exist."""
        infos = self._pool.map(lambda one: self.info(*one), named)
        return [info for info in infos if info is not None]

    def list(self, prefix: str = "", *, cursor: str | None = None, limit: int = 100) -> ObjectPage:
        check_object_prefix(prefix)
        check_page(limit)
        start: dict[str, Any] = {} if cursor is None else {"StartAfter": parse_cursor(cursor)}
        with aws_errors("listing objects"):
            page = self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, MaxKeys=limit, **start)
        keys = [one["Key"] for one in page.get("Contents", ())]
        more = cursor_after(keys[-1]) if page["IsTruncated"] else None
        return ObjectPage(self._infos([(key, None) for key in keys]), more)

    def delete(self, key: str) -> None:
        check_object_key(key)
        with aws_errors(f"deleting the object {key}"):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def purge(self, prefix: str) -> int:
        check_object_prefix(prefix)
        if not prefix:
            raise Invalid("Purging everything needs at least one character of a prefix.")
        purged = 0
        for page in self._version_pages(prefix):
            versions, markers = page.get("Versions", ()), page.get("DeleteMarkers", ())
            doomed = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in (*versions, *markers)]
            if doomed:
                self._delete_versions(doomed)
            purged += len(versions)
        return purged

    def _delete_versions(self, doomed: Sequence[Any]) -> None:
        for first in range(0, len(doomed), _PURGE_MAX):
            part = doomed[first : first + _PURGE_MAX]
            with aws_errors("deleting versions of objects"):
                answer = self._client.delete_objects(Bucket=self._bucket, Delete={"Objects": part, "Quiet": True})
            for error in answer.get("Errors", ()):
                raise Unavailable(f"S3 did not delete {error.get('Key')}: {error.get('Code')} {error.get('Message')}")

    def _version_pages(self, prefix: str) -> Iterator[Any]:
        start: dict[str, Any] = {}
        while True:
            with aws_errors("listing versions of objects"):
                page = self._client.list_object_versions(Bucket=self._bucket, Prefix=prefix, **start)
            yield page
            if not page["IsTruncated"]:
                return
            start = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}


def _skip(body: Any, count: int) -> None:
    while count and (chunk := body.read(min(count, CHUNK_BYTES))):
        count -= len(chunk)


def _named(version: str | None) -> dict[str, Any]:
    return {} if version is None else {"VersionId": version}


def _says_absent(error: ClientError, version: str | None) -> bool:
    return error_code(error) in _ABSENT or (version is not None and error_code(error) in _NO_VERSION)


def _absent(key: str, version: str | None) -> NotFound:
    return NotFound(f"There is no object {key}{f' of version {version}' if version else ''}.")
