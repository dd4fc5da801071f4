"""An upload: a file that a client brings to the object store by a signed URL of its own."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class UploadKind(StrEnum):
    """What it is for."""

    RECIPIENTS = "recipients"
    """A list of recipients."""
    ASSET = "asset"
    """An attachment or an inline image."""


@dataclass(frozen=True, slots=True)
class ReadyUpload:
    """An upload that has arrived whole."""

    id: str
    kind: UploadKind
    object_key: str
    object_version: str
    filename: str
    content_type: str
    size: int
    """Bytes."""
