"""Renders a template for a recipient nobody is, through the very composer that makes campaigns: what comes out is what is sent.

Only links are as the author wrote them, no open pixel is added, and pictures that a campaign brings along (`cid:`) are empty.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from email import message_from_bytes, policy
from typing import NamedTuple

import orjson

from postroom.clock import Instant
from postroom.delivery.compose import ContentCompiler, variables
from postroom.errors import Invalid
from postroom.model import address
from postroom.model.campaign import Attachment, CampaignRef, Content, MissingPolicy
from postroom.model.ids import CAMPAIGN_ID_LENGTH, Key, encode
from postroom.model.message import MessageStatus, Recipient
from postroom.recipients_file.columns import address_column, find_column

STAND_IN_URL = "https://links.example"
"""Where unsubscribe links lead on an installation without POSTROOM_PUBLIC_URL, so that the template can be looked at."""
SOMEONE = "someone@example.com"
MAX_INLINE = 50
_NOBODY = encode(0, CAMPAIGN_ID_LENGTH)
_CID = re.compile(r"\bcid:([^\"'\s)>{]+)", re.IGNORECASE)


class Parts(NamedTuple):
    """What is composed."""

    subject: str
    html: str
    text: str | None


class Rendered(NamedTuple):
    """For one recipient."""

    subject: str
    html: str
    text: str


class Rendering:
    """One template, compiled. For one thread at a time."""

    def __init__(
        self,
        parts: Parts,
        tenant: str,
        *,
        composing: ContentCompiler,
        missing: MissingPolicy = MissingPolicy.EMPTY,
        public_url: str | None,
    ) -> None:
        """`Invalid` as a campaign's."""
        self.names = tuple(sorted(variables(html=parts.html, text=parts.text, subject=parts.subject)))
        content = Content(
            html_key="",
            text_key=None,
            subject=parts.subject,
            from_=SOMEONE,
            missing=missing,
            track_opens=False,
            track_clicks=False,
            public_url=public_url,
        )
        self._composer = composing.compile(
            CampaignRef(tenant, _NOBODY),
            content,
            html=parts.html,
            text=parts.text,
            attachments=_pictures(parts.html),
            columns=self.names,
        )

    def render(self, values: Mapping[str, str]) -> Rendered:
        """With these values; `email` is the recipient. `RowError` where a recipient's message could not be made."""
        row = orjson.dumps([values.get(name) for name in self.names]).decode()
        to = _mailbox(values.get("email") or SOMEONE)
        recipient = Recipient(Key(bytes(12)), 1, to, None, row, MessageStatus.PENDING, 0)
        message = message_from_bytes(self._composer.compose(0, recipient, Instant(0)).content, policy=policy.default)
        html, text = (_body(message.get_body((kind,))) for kind in ("html", "plain"))
        return Rendered(str(message["Subject"] or ""), html, text)


def by_name(row: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """What a row of a recipients file gives to a template that asks for `names`, found as an import finds them."""
    columns = tuple(row)
    found = {name: at for name in names if (at := find_column(columns, name)) is not None}
    values = {name: row[columns[at]].strip() for name, at in found.items()}
    with suppress(Invalid):  # no column of addresses: then it is for someone
        values["email"] = row[columns[address_column(columns, [tuple(row.values())], None)]].strip()
    return values


def _body(part: object) -> str:
    content: str = part.get_content()  # type: ignore[attr-defined]  # the stubs know no payload's type
    return content.replace("\r\n", "\n")


def _mailbox(text: str) -> str:
    try:
        return address.parse_address(text).mailbox
    except address.AddressError as problem:
        raise Invalid(f"email: {problem}") from problem


def _pictures(html: str) -> list[tuple[Attachment, bytes]]:
    names = sorted(set(_CID.findall(html)))[:MAX_INLINE]
    return [(Attachment("", f"{at}.png", "image/png", name), b"") for at, name in enumerate(names)]
