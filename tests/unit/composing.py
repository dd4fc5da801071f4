"""How tests of composing make a campaign and take its messages apart again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any, cast

from postroom.clock import Instant
from postroom.delivery.compose import Composed, Composer, Identity, compile_content, variables
from postroom.model.campaign import Attachment, CampaignRef, Content, MissingPolicy
from postroom.model.ids import Key, encode
from postroom.model.message import MessageStatus, Recipient
from postroom.model.tenant import Tenant

SECRET = bytes(range(32))
CAMPAIGN = encode(2**79 + 98765, 16)
PUBLIC_URL = "https://mail.example.com"
KEY = Key(b"0123456789ab")
NOW = Instant(1_760_000_000_000)


def compile_it(
    html: str,
    *,
    subject: str = "News",
    text: str | None = "text",
    columns: Sequence[str] | None = None,
    public_url: str | None = None,
    bounce_domain: str | None = None,
    unsubscribe_mailbox: str | None = None,
    attachments: Sequence[tuple[Attachment, bytes]] = (),
    missing: MissingPolicy = MissingPolicy.ERROR,
    from_: str = "News <news@sender.example>",
    **more: Any,
) -> Composer:
    if columns is None:
        columns = sorted(variables(html=html, text=text, subject=subject))
    content = Content(subject=subject, from_=from_, missing=missing, **more)
    identity = Identity(
        ref=CampaignRef("default", CAMPAIGN),
        tenant=Tenant("default", 7, SECRET),
        public_url=public_url,
        bounce_domain=bounce_domain,
        unsubscribe_mailbox=unsubscribe_mailbox,
    )
    return compile_content(content, html=html, text=text, attachments=attachments, columns=columns, identity=identity)


def recipient(
    cells: Sequence[str | None], *, address: str = "someone@example.org", name: str | None = None, attempt: int = 0
) -> Recipient:
    return Recipient(KEY, 17, address, name, json.dumps(list(cells)), MessageStatus.PENDING, attempt)


def compose_it(composer: Composer, row: Mapping[str, str | None], **more: Any) -> Composed:
    """With the values of a row, by name."""
    return composer.compose(5, recipient([row.get(name) for name in composer._columns], **more), NOW)


def opened(composed: Composed) -> EmailMessage:
    """As Python's strict parser reads it: it finds nothing wrong anywhere."""
    message = message_from_bytes(composed.content, policy=policy.strict)
    for part in message.walk():
        assert part.defects == []
        for value in part.values():
            assert cast("Any", value).defects == ()
    return message


def part_of(message: EmailMessage, kind: str) -> str:
    """The text of a part, its final line end taken off."""
    part = cast("EmailMessage", message.get_body(preferencelist=(kind,)))
    return cast("str", part.get_content()).replace("\r\n", "\n").removesuffix("\n")
