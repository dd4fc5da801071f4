"""`/v1/uploads`: announce a file, upload it by a presigned URL, inspect it. And `/transfers`: those URLs, if the API itself
serves the object store; the URL is the credential, and it works as at S3.

An upload is streamed into the object store, counted and hashed, never held in memory. The store writes in a thread and asks the
event loop for each next block, so a body of any size costs a block or two. The last block is handed over only after size and
digests were verified: a wrong body, or a client that disconnects, ends the write before anything is visible.

A PUT is refused before its body is read if a header differs from what was signed. Repeated with the same bytes it succeeds; with
others it is a `Conflict` and the object stays. Bodies have their own threads, so slow ones do not block other requests.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from postroom.errors import Conflict, Denied, Invalid, NotFound, Unavailable
from postroom.gateway.access import Editor, Viewer
from postroom.gateway.audit import Audit
from postroom.gateway.errors import Overloaded
from postroom.gateway.idempotency import Points
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.uploads import NewUpload, SignedUpload, UploadBody, UploadId, announcement
from postroom.model.access import Role
from postroom.platform.ports.objects import ObjectInfo, Objects
from postroom.platform.ports.transfers import TransferPermission, TransferVerifier, attachment
from postroom.services.uploads import UploadService

BLOCK_BYTES = 1 << 20
IDLE_S = 30.0
"""Seconds without data after which a client is disconnected: it holds a thread."""


class IncomingBody:
    """`blocks` must run in a thread started by `anyio.to_thread`."""

    def __init__(self, stream: AsyncIterator[bytes], size: int, digests: Mapping[str, bytes]) -> None:
        """`digests`: expected digests, by hashlib's name of the algorithm."""
        self._stream = stream
        self._size = size
        self._said = digests
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *digests}}
        self._ended = False

    @property
    def sha256(self) -> str:
        """Hex, of the bytes so far."""
        return self._hashes["sha256"].hexdigest()

    def blocks(self) -> Iterator[bytes]:
        """The body. Raises `Denied` for another size than signed, `Invalid` for another digest."""
        held, left = b"", self._size
        while block := anyio.from_thread.run(self._next):
            left -= len(block)
            if left < 0:
                break
            for digest in self._hashes.values():
                digest.update(block)
            if held:
                yield held
            held = block
        if left != 0:
            raise Denied(f"{'more' if left < 0 else 'less'} than the {self._size} bytes came that the URL was signed for")
        self._check()
        if held:
            yield held

    async def _next(self) -> bytes:
        """About a block; empty at the end."""
        parts: list[bytes] = []
        size = 0
        with anyio.fail_after(IDLE_S) as patience:
            while size < BLOCK_BYTES and not self._ended:
                part = await anext(self._stream, None)
                self._ended = part is None
                parts.append(part or b"")
                size += len(parts[-1])
                patience.deadline = anyio.current_time() + IDLE_S
        return b"".join(parts)

    def _check(self) -> None:
        for name, said in self._said.items():
            if self._hashes[name].digest() != said:
                raise Invalid(f"the bytes that arrived have another {name} than the client said; send them again")


def announced_digests(headers: Mapping[str, str]) -> dict[str, bytes]:
    """Digests from `Content-Digest` (RFC 9530), `Content-MD5` and S3's `x-amz-checksum-sha256`. Raises `Invalid`."""
    said: dict[str, str] = {}
    for member in filter(None, map(str.strip, headers.get("content-digest", "").split(","))):
        name, _, value = member.partition("=")
        if name in {"sha-256", "sha-512"}:  # others may be ignored
            said[name.replace("-", "")] = value.removeprefix(":").removesuffix(":")
    for header, name in (("content-md5", "md5"), ("x-amz-checksum-sha256", "sha256")):
        if header in headers:
            said[name] = headers[header]
    try:
        return {name: base64.b64decode(value, validate=True) for name, value in said.items()}
    except (binascii.Error, ValueError) as error:
        raise Invalid(f"a checksum among the headers is not base64: {error}") from error


AT_ONCE = 32
"""Concurrent bodies per process; more are refused for now."""
_BLOCK = 1 << 20
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")

_SHOWN_AS_A_FILE = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


def transfers_routes(objects: Objects, grants: TransferVerifier) -> APIRouter:
    """`/transfers/…`, if the object store is on this machine."""
    router = APIRouter(prefix="/transfers", include_in_schema=False)
    bodies = anyio.CapacityLimiter(AT_ONCE)

    @router.put("/{token}")
    async def put(token: str, request: Request) -> Response:
        """Upload the bytes of one object."""
        granted = await anyio.to_thread.run_sync(grants.granted, "PUT", token)
        _check_headers(granted, request)
        body = IncomingBody(request.stream(), granted.size, _digests(granted, request))
        if bodies.available_tokens < 1:
            raise Overloaded("too many uploads are under way; try again")
        try:
            version = await anyio.to_thread.run_sync(partial(_store, objects, granted, body), limiter=bodies)
        except ClientDisconnect:
            return Response(status_code=499)  # the client has disconnected
        except TimeoutError as error:
            raise Unavailable(f"nothing came for {IDLE_S:g} s: nothing was stored") from error
        return Response(headers={"ETag": f'"{version}"'})

    @router.get("/{token}")
    async def get(token: str, request: Request) -> Response:
        """Download the bytes of one object, or a range of them (RFC 9110 section 14)."""
        granted = await anyio.to_thread.run_sync(grants.granted, "GET", token)
        info = await anyio.to_thread.run_sync(objects.info, granted.key)
        if info is None:
            raise NotFound("there is nothing to download")
        return _download(objects, granted, info, request)

    return router


def _check_headers(granted: TransferPermission, request: Request) -> None:
    headers = request.headers
    if headers.get("content-length") != str(granted.size):
        raise Denied(f"the URL was signed for exactly {granted.size} bytes: send Content-Length: {granted.size}")
    if headers.get("content-type") != granted.content_type:
        raise Denied(f"the URL was signed for another type: send Content-Type: {granted.content_type}")
    if "content-encoding" in headers:
        raise Denied("the URL was signed for the bytes as they are: send no Content-Encoding")


def _digests(granted: TransferPermission, request: Request) -> dict[str, bytes]:
    digests = announced_digests(request.headers)
    if granted.sha256 is not None and digests.setdefault("sha256", bytes.fromhex(granted.sha256)).hex() != granted.sha256:
        raise Denied("the URL was signed for bytes with another SHA-256")
    return digests


def _store(objects: Objects, granted: TransferPermission, body: IncomingBody) -> str:
    """The version with these bytes, new or existing. Raises `Conflict` if the object has others."""
    blocks = body.blocks()
    try:
        return objects.put(granted.key, blocks, content_type=granted.content_type, if_absent=True).version
    except Conflict:
        for _ in blocks:  # the rest is read to compare the bytes
            pass
    info = objects.info(granted.key)
    if info is None or _sha256(objects, info) != body.sha256:
        raise Conflict("other bytes arrived by this URL before: they stay; announce a new upload")
    return info.version


def _sha256(objects: Objects, info: ObjectInfo) -> str:
    digest = hashlib.sha256()
    with objects.open(info.key, info.version) as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _download(objects: Objects, granted: TransferPermission, info: ObjectInfo, request: Request) -> Response:
    etag = f'"{info.version}"'
    headers = _SHOWN_AS_A_FILE | {
        "ETag": etag,
        "Content-Type": granted.content_type,  # as signed: `media_type` would add a charset
        "Content-Disposition": attachment(granted.filename),
    }
    asked = request.headers.get("range") if request.headers.get("if-range", etag) == etag else None
    span = _span(asked, info.size)
    if span is None:
        return Response(status_code=416, headers=headers | {"Content-Range": f"bytes */{info.size}"})
    headers["Content-Length"] = str(len(span))
    ranged = len(span) != info.size
    if ranged:
        headers["Content-Range"] = f"bytes {span.start}-{span.stop - 1}/{info.size}"
    body = _read(objects, info, span)
    return StreamingResponse(body, 206 if ranged else 200, headers=headers)


def _span(asked: str | None, size: int) -> range | None:
    """The requested bytes; all of them for a field that is not supported (several ranges, another unit). None: beyond the end."""
    match = _RANGE.fullmatch(asked or "")
    if match is None or match[0] == "bytes=-":
        return range(size)
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size) if int(last) else None
    if last and int(last) < int(first):
        return range(size)
    stop = min(size, int(last) + 1) if last else size
    return range(int(first), stop) if int(first) < size else None


async def _read(objects: Objects, info: ObjectInfo, span: range) -> AsyncIterator[bytes]:
    """Block by block, in the default threads: each read is short."""
    for at in range(span.start, span.stop, _BLOCK):
        yield await anyio.to_thread.run_sync(objects.read, info.key, at, min(_BLOCK, span.stop - at), info.version)


_LOCATION = {"Location": {"description": "The signed URL of the download.", "schema": {"type": "string"}}}
_REDIRECT: dict[int | str, dict[str, Any]] = {
    307: {"description": "The bytes are at `Location`, for ten minutes.", "headers": _LOCATION}
}


def uploads_routes(service: UploadService) -> APIRouter:
    router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=Route)

    @router.post("", status_code=201, operation_id="announce_upload")
    def announce(body: NewUpload, caller: Editor, points: Points, audit: Audit) -> SignedUpload:
        """Announce an upload. The response has the signed request that uploads the bytes.

        The request accepts exactly what was announced. If it is interrupted, nothing is stored, and it may be repeated."""
        upload_id = points.once("id", service.new_id)
        announced = service.create(caller.tenant, upload_id, announcement(body), author=caller.name)
        audit.changed("upload", upload_id, after=body.model_dump(mode="json"))
        return SignedUpload.from_record(announced)

    @router.get("", operation_id="list_uploads")
    def list_uploads(caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Page[UploadBody]:
        """List uploads, newest first, without sample rows."""
        page = service.list(caller.tenant, cursor=cursor, limit=limit)
        return Page(items=[UploadBody.from_record(upload) for upload in page.items], cursor=page.cursor)

    @router.get("/{upload_id}", operation_id="get_upload")
    def get(upload_id: UploadId, caller: Viewer) -> UploadBody:
        """Retrieve an upload.

        A recipients file that has arrived has encoding, delimiter, columns, the address column, the number of rows and, for
        editors, the first rows."""
        upload = service.get(caller.tenant, upload_id)
        return UploadBody.from_record(upload, service.sample(upload) if caller.role.includes(Role.EDITOR) else None)

    @router.delete("/{upload_id}", status_code=204, operation_id="delete_upload")
    def delete(upload_id: UploadId, caller: Editor, audit: Audit) -> Response:
        """Delete an upload and its bytes. Answered with 409 while a campaign that has not ended uses it."""
        service.delete(caller.tenant, upload_id)
        audit.changed("upload", upload_id)
        return Response(status_code=204)

    @router.get(
        "/{upload_id}/content",
        status_code=307,
        response_class=RedirectResponse,
        responses=_REDIRECT,
        operation_id="download_upload",
    )
    def content(upload_id: UploadId, caller: Editor) -> RedirectResponse:
        """Download an upload.

        Redirects to a presigned URL. Answered with 422 before the bytes arrive and after they are deleted."""
        return RedirectResponse(service.content(caller.tenant, upload_id).url, 307)

    return router
