"""Compiles a campaign's content, from the draft when it is made and from the store when it is sent: the same either way."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.delivery.compose import Composer, Identity, compile_content
from postroom.delivery.signing import Signing
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Attachment, Campaign, Content, Home
from postroom.platform.ports.objects import Objects


class Composing:
    """The installation's part of composing."""

    def __init__(
        self,
        tenants: Tenants,
        objects: Objects,
        *,
        public_url: str | None,
        bounce_domain: str | None,
        keys: DkimKeys | None = None,
    ) -> None:
        """`keys`: what mail is signed with; None: nothing is signed."""
        self._tenants = tenants
        self._objects = objects
        self.public_url = public_url
        """Where links of new campaigns lead; a campaign keeps the one it was made with."""
        self._bounce_domain = bounce_domain
        self._keys = keys

    def compile(
        self,
        home: Home,
        content: Content,
        *,
        html: str,
        text: str | None,
        attachments: Sequence[tuple[Attachment, bytes]],
        columns: Sequence[str],
        kind: str = "campaign",
        listed: bool = True,
        signed: bool = True,
    ) -> Composer:
        """From the parts themselves; `kind` and `listed` as in `Identity`; `signed` where its sender has a key. `Invalid`: where
        in them, and what to do; `Corrupt`, `Unavailable`: the key cannot be used."""
        identity = Identity(
            home=home,
            tenant=self._tenants.get(home.tenant),
            public_url=content.public_url,
            bounce_domain=self._bounce_domain,
            kind=kind,
            listed=listed,
            signs=Signing(self._keys, home.tenant, content.from_) if self._keys is not None and signed else None,
        )
        return compile_content(content, html=html, text=text, attachments=attachments, columns=columns, identity=identity)

    def load(self, campaign: Campaign) -> Composer:
        """From what the campaign has stored."""
        content, objects = campaign.content, self._objects
        return self.compile(
            campaign.home,
            content,
            html=objects.get(content.html_key).decode(),
            text=objects.get(content.text_key).decode() if content.text_key else None,
            attachments=[(attachment, objects.get(attachment.object_key)) for attachment in content.attachments],
            columns=campaign.source.columns,
        )
