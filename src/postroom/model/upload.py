"""An upload: a file that a client transfers to the object store by a presigned URL.

waiting ──→ ready ──→ expired
   └──────────────────↗
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import StrEnum

from postroom.clock import Instant

ID_PATTERN = "^[2-7a-z]{16}$"
"""All ids have one length, so no object key is a prefix of another's."""
CONTENT_TYPE_PATTERN = r"^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(; ?charset=[A-Za-z0-9_.:-]{1,40})?$"
"""A media type (RFC 6838 section 4.2), at most with a charset: it is signed, and returned as a header."""
MAX_FILENAME_BYTES = 255
_ID = re.compile(ID_PATTERN)
_UNTITLED = "upload"
# What runs when it is opened. The big mailbox providers refuse mail that carries any of these.
_PROGRAMS = re.compile(
    "ade|adp|apk|appx|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|hta|img|ins|iso|isp|jar|js|jse|lib|lnk|mde|msc|msi|msix|msp|mst|nsh|"
    "pif|ps1|scr|sct|shb|sys|vb|vbe|vbs|vhd|vxd|wsc|wsf|wsh"
)


class UploadKind(StrEnum):
    """The purpose of an upload."""

    RECIPIENTS = "recipients"
    """A list of recipients."""
    ASSET = "asset"
    """An attachment or an inline image."""


MAX_BYTES = {UploadKind.RECIPIENTS: 2 << 30, UploadKind.ASSET: 25 << 20}
"""An asset is part of every mail; mailbox providers accept mails of 20 to 25 MB."""


class UploadStatus(StrEnum):
    """The status of an upload."""

    WAITING = "waiting"
    """Announced; its bytes have not arrived."""
    READY = "ready"
    """Arrived; it never changes again."""
    EXPIRED = "expired"
    """Its bytes and names are deleted."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """The layout of a recipients file, detected from its beginning. It contains nothing from a row."""

    encoding: str | None = None
    """Such as `utf-8`; None, here and below: unknown."""
    delimiter: str | None = None
    header: bool = False
    """Whether the first row names the columns; else they are `column1`, `column2` …"""
    columns: tuple[str, ...] = ()
    """Their names; only the first if there are very many."""
    column_count: int = 0
    address_column: str | None = None
    """The column used for addresses by default."""
    rows: int | None = None
    """Rows after the header, those with a fault included."""
    rows_exact: bool = False
    """Whether `rows` was counted; else it is an estimate from the beginning."""
    problems: tuple[str, ...] = ()
    """Why it cannot be imported, in sentences."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload's record."""

    tenant: str
    id: str
    kind: UploadKind
    filename: str
    """Without a path; empty once expired."""
    content_type: str
    size: int
    """Bytes as announced; other sizes are refused."""
    author: str
    """The user who announced it; empty once expired."""
    created_at: Instant
    status: UploadStatus = UploadStatus.WAITING
    sha256: str | None = None
    """Hex, as announced: other bytes are refused. None: not checked."""
    due: Instant | None = None
    """When maintenance must look at it."""
    arrived_at: Instant | None = None
    """When its arrival was first noticed."""
    object_version: str | None = None
    inspection: Inspection | None = None
    """Set for a ready recipients file."""
    deleted: bool = False
    """Expired because a user deleted it: it is not shown."""
    purged: bool = False
    """Its bytes were deleted once; they are deleted again when no presigned URL can restore them."""
    version: int = 0

    @property
    def object_key(self) -> str:
        """The object key of its bytes."""
        return f"{self.tenant}/uploads/{self.id}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings to show before it is sent."""
        stem, _, extension = self.filename.lower().rpartition(".")
        if self.kind is UploadKind.ASSET and stem and _PROGRAMS.fullmatch(extension):
            return (f"Most mailbox providers refuse mails with a .{extension} file: offer it for download instead.",)
        return ()


@dataclass(frozen=True, slots=True)
class ReadyUpload:
    """An upload that has arrived."""

    id: str
    kind: UploadKind
    object_key: str
    object_version: str
    filename: str
    content_type: str
    size: int
    """Bytes."""


def is_upload_id(text: str) -> bool:
    """Whether `text` is a well-formed upload id."""
    return _ID.fullmatch(text) is not None


def safe_filename(text: str) -> str:
    """The file name without path, control characters and direction marks (which display `fdp.exe` as `exe.pdf`), up to 255 bytes
    of UTF-8, extension kept."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", text))[-1]
    name = "".join(character for character in name if unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    name = name.strip().strip(".").strip() or _UNTITLED
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > 20:
        stem, dot, ending = name, "", ""
    kept = MAX_FILENAME_BYTES - len((dot + ending).encode())
    return stem.encode()[:kept].decode("utf-8", "ignore") + dot + ending
