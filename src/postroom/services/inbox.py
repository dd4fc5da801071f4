"""Mail received by the built-in inbox: list, show, save. Reads the objects that platform.mail.inbox stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from postroom.clock import Instant
from postroom.errors import Invalid, NotFound
from postroom.model.ids import INBOX_PREFIX, inbox_object_key, is_mail_id, mail_id_from
from postroom.platform.ports.objects import ObjectInfo, Objects
from postroom.services.mail_reading import read_body, read_headers

_HEAD_BYTES = 16_384


class InboxEntry(NamedTuple):
    id: str
    from_: str
    to: tuple[str, ...]
    """Envelope recipients."""
    subject: str
    received_at: Instant
    size: int


class InboxPage(NamedTuple):
    """`cursor` asks for the next page; None: the last one."""

    mails: list[InboxEntry]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class OpenedMail:
    """A parsed mail."""

    mail: InboxEntry
    headers: Sequence[tuple[str, str]]
    text: str
    """The text part; the HTML source if there is none; empty if there is neither."""
    attachments: tuple[str, ...]
    """File names, inline images included."""


class InboxService:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def list(self, *, cursor: str | None = None, limit: int = 50) -> InboxPage:
        """Mails, newest first; `limit` 1 to 1,000."""
        page = self._objects.list(INBOX_PREFIX, cursor=cursor, limit=limit)
        return InboxPage([self._summary(info) for info in page.objects], page.cursor)

    def show(self, mail: str) -> OpenedMail:
        """Raises `NotFound` for an unknown id, `Invalid` for a malformed one."""
        info = self._info(mail)
        content = self._objects.get(info.key)
        body = read_body(content)
        return OpenedMail(self._summary(info), read_headers(content), body.text, body.attachments)

    def raw(self, mail: str) -> bytes:
        """The mail as received: an `.eml` file. Errors as `show`."""
        return self._objects.get(self._info(mail).key)

    def _info(self, mail: str) -> ObjectInfo:
        if not is_mail_id(mail):
            raise Invalid(f"{mail!r} is not the id of a mail; `postroom inbox list` shows them")
        info = self._objects.info(inbox_object_key(mail))
        if info is None:
            raise NotFound(f"the inbox has no mail {mail}; `postroom inbox list` shows those there are")
        return info

    def _summary(self, info: ObjectInfo) -> InboxEntry:
        values: dict[str, list[str]] = {}
        for name, value in read_headers(self._objects.read(info.key, 0, _HEAD_BYTES)):
            values.setdefault(name.lower(), []).append(value)
        return InboxEntry(
            mail_id_from(info.key),
            values.get("from", [""])[0],
            tuple(values.get("delivered-to", [])),
            values.get("subject", [""])[0],
            info.stored_at,
            info.size,
        )
