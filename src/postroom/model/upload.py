"""An upload: a file that a client brings to the object store by a signed URL of its own.

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
"""All of one length: no upload's object is found under the beginning of another's."""
CONTENT_TYPE_PATTERN = r"^[A-Za-z0-9!#$&^_.+-]{1,100}/[A-Za-z0-9!#$&^_.+-]{1,100}(; ?charset=[A-Za-z0-9_.:-]{1,40})?$"
"""A media type (RFC 6838 §4.2), at most with a charset: it is signed, and sent back as a header."""
MAX_FILENAME_BYTES = 255
_ID = re.compile(ID_PATTERN)
_UNTITLED = "upload"
# What runs when it is opened. The big mailbox providers refuse mail that carries any of these.
_PROGRAMS = re.compile(
    "ade|adp|apk|appx|bat|cab|chm|cmd|com|cpl|dll|dmg|exe|hta|img|ins|iso|isp|jar|js|jse|lib|lnk|mde|msc|msi|msix|msp|mst|nsh|"
    "pif|ps1|scr|sct|shb|sys|vb|vbe|vbs|vhd|vxd|wsc|wsf|wsh"
)


class UploadKind(StrEnum):
    """What it is for."""

    RECIPIENTS = "recipients"
    """A list of recipients."""
    ASSET = "asset"
    """An attachment or an inline image."""


MAX_BYTES = {UploadKind.RECIPIENTS: 2 << 30, UploadKind.ASSET: 25 << 20}
"""An asset travels in every mail: mailbox providers take mails of 20 to 25 MB."""


class UploadStatus(StrEnum):
    """How far it is."""

    WAITING = "waiting"
    """Announced; its bytes have not arrived whole."""
    READY = "ready"
    """Arrived, whole; it never changes again."""
    EXPIRED = "expired"
    """Its bytes are gone, and so is what was known of them."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a recipients file looks like, told from its beginning. Nothing in it is taken from a row."""

    encoding: str | None = None
    """Such as `utf-8`; None, as the others: it cannot be told."""
    delimiter: str | None = None
    header: bool = False
    """Whether the first row names the columns; else they are `column1`, `column2` …"""
    columns: tuple[str, ...] = ()
    """Their names; of very many, the first."""
    column_count: int = 0
    address_column: str | None = None
    """The column taken for the addresses where nobody says otherwise."""
    rows: int | None = None
    """Rows after the header, those with a fault included."""
    rows_exact: bool = False
    """Counted; else estimated from the beginning."""
    problems: tuple[str, ...] = ()
    """Why it cannot be imported as it is, in sentences."""


@dataclass(frozen=True, slots=True)
class Upload:
    """The record of one upload."""

    tenant: str
    id: str
    kind: UploadKind
    filename: str
    """Without a path; empty once it is gone."""
    content_type: str
    size: int
    """Bytes, as announced: others are not taken."""
    author: str
    """Who announced it; empty once it is gone."""
    created_at: Instant
    status: UploadStatus = UploadStatus.WAITING
    sha256: str | None = None
    """Hex; announced, then other bytes are not taken."""
    due: Instant | None = None
    """When housekeeping must look at it."""
    arrived_at: Instant | None = None
    """When it was first seen to be there."""
    object_version: str | None = None
    inspection: Inspection | None = None
    """Of a recipients file that is ready."""
    deleted: bool = False
    """Expired because somebody deleted it: nobody is shown it any more."""
    purged: bool = False
    """Its bytes were deleted once already; once more when no signed URL can bring them back."""
    version: int = 0

    @property
    def object_key(self) -> str:
        """Where its bytes are."""
        return f"{self.tenant}/uploads/{self.id}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to think about before it is sent."""
        stem, _, extension = self.filename.lower().rpartition(".")
        if self.kind is UploadKind.ASSET and stem and _PROGRAMS.fullmatch(extension):
            return (f"Most mailbox providers refuse mails with a .{extension} file: offer it for download instead.",)
        return ()


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


def is_upload_id(text: str) -> bool:
    """Whether an upload could have that id."""
    return _ID.fullmatch(text) is not None


def safe_filename(text: str) -> str:
    """The name alone, without a path and without what cannot be seen (control characters, changes of direction that make
    `exe.pdf` of `fdp.exe`), up to 255 bytes of UTF-8, its ending kept."""
    name = re.split(r"[/\\]", unicodedata.normalize("NFC", text))[-1]
    name = "".join(character for character in name if unicodedata.category(character) not in {"Cc", "Cf", "Cs", "Zl", "Zp"})
    name = name.strip().strip(".").strip() or _UNTITLED
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > 20:
        stem, dot, ending = name, "", ""
    kept = MAX_FILENAME_BYTES - len((dot + ending).encode())
    return stem.encode()[:kept].decode("utf-8", "ignore") + dot + ending
