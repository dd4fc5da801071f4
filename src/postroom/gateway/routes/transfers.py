"""Uploads and downloads by signed URL, where our own door stands in front of the object store. The URL is the credential.

No part of the API of `/v1`: a client takes method, URL and headers from there and does what they say, here as at S3. A PUT is
refused before its body is read where a header tells that it is not what was signed. Repeated with the same bytes it succeeds
again, with others it is a `Conflict`, and what is there stays. Bodies have threads of their own: slow ones keep nobody else out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from functools import partial

import anyio
import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from postroom.errors import Conflict, Denied, NotFound, Unavailable
from postroom.gateway.incoming import IDLE_S, Incoming, announced_digests
from postroom.gateway.refusals import Overloaded
from postroom.platform.ports.objects import ObjectInfo, Objects
from postroom.platform.ports.transfers import TransferPermission, TransferVerifier, attachment

AT_ONCE = 32
"""Bodies under way, in a process; one more is refused for now."""
_BLOCK = 1 << 20
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})")
_SHOWN_AS_A_FILE = {
    "Accept-Ranges": "bytes",
    "Cache-Control": "private, no-store",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


def transfers_routes(objects: Objects, grants: TransferVerifier) -> APIRouter:
    """`/transfers/…` of an installation whose object store is on this machine."""
    router = APIRouter(prefix="/transfers", include_in_schema=False)
    bodies = anyio.CapacityLimiter(AT_ONCE)

    @router.put("/{token}")
    async def put(token: str, request: Request) -> Response:
        """Take the bytes of one object."""
        granted = await anyio.to_thread.run_sync(grants.granted, "PUT", token)
        _check_headers(granted, request)
        body = Incoming(request.stream(), granted.size, _digests(granted, request))
        if bodies.available_tokens < 1:
            raise Overloaded("too many uploads are under way; try again")
        try:
            version = await anyio.to_thread.run_sync(partial(_store, objects, granted, body), limiter=bodies)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody is there to read it
        except TimeoutError as error:
            raise Unavailable(f"nothing came for {IDLE_S:g} s: nothing was stored") from error
        return Response(headers={"ETag": f'"{version}"'})

    @router.get("/{token}")
    async def get(token: str, request: Request) -> Response:
        """Give the bytes of one object, or a range of them (RFC 9110 §14)."""
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


def _store(objects: Objects, granted: TransferPermission, body: Incoming) -> str:
    """The version that holds the bytes: new, or from before. `Conflict`: others are there."""
    blocks = body.blocks()
    try:
        return objects.put(granted.key, blocks, content_type=granted.content_type, if_absent=True).version
    except Conflict:
        for _ in blocks:  # what was not read yet, to know whether they are the same
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
        "Content-Type": granted.content_type,  # as it was signed: not as a media type, that would get a charset
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
    """Which bytes; all of them where the field is none that we follow (several ranges, another unit). None: beyond the end."""
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
    """Block by block, in the default threads: each is short."""
    for at in range(span.start, span.stop, _BLOCK):
        yield await anyio.to_thread.run_sync(objects.read, info.key, at, min(_BLOCK, span.stop - at), info.version)
