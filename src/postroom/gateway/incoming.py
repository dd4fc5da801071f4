"""A body on its way into the object store: read as fast as the store writes, counted and hashed, never held.

The store writes in a thread and asks the event loop for each next block; nothing is read ahead of it but what the server buffers.
So a body of any size costs a block or two of memory. The last block is handed over only after everything about the body is
known to be right: whatever is not, and a client that goes away, ends the write before anything of it is visible.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping

import anyio.from_thread

from postroom.errors import Denied, Invalid

BLOCK_BYTES = 1 << 20
IDLE_S = 30.0
"""A client that sends nothing for so long is given up: it keeps a thread."""


class Incoming:
    """One body. `blocks` runs in a thread that `anyio.to_thread` started."""

    def __init__(self, stream: AsyncIterator[bytes], size: int, digests: Mapping[str, bytes]) -> None:
        """`digests`: by name of the algorithm in hashlib, what the client says the bytes come to."""
        self._stream = stream
        self._size = size
        self._said = digests
        self._hashes = {name: hashlib.new(name, usedforsecurity=False) for name in {"sha256", *digests}}
        self._ended = False

    @property
    def sha256(self) -> str:
        """Hex; of what came so far."""
        return self._hashes["sha256"].hexdigest()

    def blocks(self) -> Iterator[bytes]:
        """The body. `Denied`: another size than signed; `Invalid`: other bytes than the client says."""
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
    """What `Content-Digest` (RFC 9530), `Content-MD5` and S3's `x-amz-checksum-sha256` say. `Invalid`: unreadable."""
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
