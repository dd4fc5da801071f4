"""CSV files as answers: streamed by this very door, or, where answers are small (AWS Lambda), a redirect to a signed URL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from fastapi import Response
from fastapi.responses import RedirectResponse, StreamingResponse

from postroom.services.export_files import ExportFiles

Download = Callable[[str, Iterator[bytes], str], Response]
"""Whose, its parts, its name. Errors of the first parts are raised."""
_BLOCK = 65_536
_TYPE = "text/csv"


class CsvAnswer(StreamingResponse):
    """CSV in UTF-8, for a file."""

    media_type = _TYPE


CSV: dict[int | str, dict[str, object]] = {
    200: {
        "description": "UTF-8 with a header (RFC 4180). Cells that a spreadsheet would take for a formula have a `'` in front.",
        "content": {_TYPE: {"schema": {"type": "string"}}},
    },
    307: {
        "description": "On AWS: the file is at `Location`, for ten minutes.",
        "headers": {"Location": {"description": "The signed URL of the download.", "schema": {"type": "string"}}},
    },
}


def streamed(tenant: str, parts: Iterator[bytes], filename: str) -> Response:
    """The first parts are read before the answer begins, so that errors still can be told."""
    blocks = _in_blocks(parts)
    first = next(blocks, b"")
    disposition = f'attachment; filename="{filename}"'
    return CsvAnswer(chain([first], blocks), headers={"Content-Disposition": disposition})


def redirected(files: ExportFiles) -> Download:
    """Written to the store before the answer."""

    def answer(tenant: str, parts: Iterator[bytes], filename: str) -> Response:
        return RedirectResponse(files.written(tenant, parts, filename, content_type=_TYPE).url, 307)

    return answer


def _in_blocks(parts: Iterator[bytes]) -> Iterator[bytes]:
    """A thread is asked once a block, not once a line."""
    held: list[bytes] = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= _BLOCK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)
