"""Forms as browsers and clients send them: small, each name once, UTF-8."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import Depends, Request

from postroom.errors import Invalid, TooLarge

MAX_BYTES = 16_384
_TYPE = "application/x-www-form-urlencoded"


async def _read(request: Request) -> Mapping[str, str]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _TYPE:
        raise Invalid(f"the body must be {_TYPE}")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge(f"the form is larger than {MAX_BYTES} bytes")
    return parsed(bytes(body))


def parsed(body: bytes) -> Mapping[str, str]:
    """By name. `Invalid`: a name twice (RFC 6749 §3.2), or not UTF-8."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError as error:
        raise Invalid("the form cannot be read") from error
    values = dict(pairs)
    if len(values) != len(pairs):
        raise Invalid("a parameter stands in the form twice")
    return values


Form = Annotated[Mapping[str, str], Depends(_read)]
