"""The upload of a campaign, as what reads it sees it: one version of one object, and how it is laid out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import NamedTuple

from postroom.errors import Invalid, NotFound
from postroom.model.campaign import Import
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.layout import HEAD_BYTES, Layout, layout_for

BLOCK = 262_144
_PART = 4_194_304


class Recognised(NamedTuple):
    """What is imported, and how it is read."""

    version: str
    layout: Layout


def recognised(objects: Objects, source: Import) -> Recognised:
    """The version that the campaign names, or the newest, and its layout, told from its beginning. `Invalid`."""
    upload = objects.info(source.upload_key, source.upload_version)
    if upload is None:
        raise gone(source)
    head = objects.read(source.upload_key, 0, HEAD_BYTES, upload.version)
    return Recognised(upload.version, layout_for(source, head, whole=len(head) == upload.size))


def blocks(objects: Objects, source: Import, version: str) -> Iterator[bytes]:
    """The whole, from its beginning. `Invalid`: it is gone."""
    try:
        stream = objects.open(source.upload_key, version)
    except NotFound as error:
        raise gone(source) from error
    with closing(stream):
        yield from iter(lambda: stream.read(BLOCK), b"")


def part(objects: Objects, source: Import, version: str, *, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to before `end`. `Invalid`: it is gone."""
    while start < end:
        try:
            block = objects.read(source.upload_key, start, min(_PART, end - start), version)
        except NotFound as error:
            raise gone(source) from error
        if not block:
            return
        yield block
        start += len(block)


def gone(source: Import) -> Invalid:
    """What to say where it is not there."""
    return Invalid(f"The upload {source.filename} is gone: upload it again.")
