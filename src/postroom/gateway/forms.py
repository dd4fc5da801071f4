"""A small form as a mail program or a browser sends it: urlencoded, or multipart (RFC 7578), which RFC 8058 allows too.

What cannot be read has no fields: whoever posts to an unsubscribe address means it, whatever else is wrong with the form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import parse_qsl

from fastapi import Request

from postroom.errors import TooLarge

MAX_BYTES = 16_384
_MOST_FIELDS = 50
_BOUNDARY = re.compile(r"""multipart/form-data\s*;.*?\bboundary=(?:"([^"]{1,70})"|([^\s;",]{1,70}))""", re.IGNORECASE | re.DOTALL)
_NAME = re.compile(rb"""^content-disposition:[^\r\n]*;\s*name=(?:"([^"\r\n]*)"|([^\s;"]+))""", re.IGNORECASE | re.MULTILINE)


async def fields_of(request: Request) -> Mapping[str, str]:
    """The form's fields; of a name that stands there twice the last. `TooLarge`."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BYTES:
            raise TooLarge(f"the form is larger than {MAX_BYTES:,} bytes")
    return fields(request.headers.get("content-type", ""), bytes(body))


def fields(content_type: str, body: bytes) -> Mapping[str, str]:
    """By name."""
    boundary = _BOUNDARY.match(content_type.strip())
    if boundary is not None:
        return _multipart(body, (boundary[1] or boundary[2]).encode())
    try:
        return dict(parse_qsl(body.decode("latin-1"), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}


def _multipart(body: bytes, boundary: bytes) -> Mapping[str, str]:
    found = {}
    for part in body.split(b"--" + boundary)[1 : _MOST_FIELDS + 1]:
        head, gap, value = part.replace(b"\r\n", b"\n").partition(b"\n\n")
        name = _NAME.search(head)
        if gap and name is not None:
            found[(name[1] or name[2] or b"").decode("utf-8", "replace")] = value.strip(b"\n").decode("utf-8", "replace")
    return found
