"""Compiles a campaign's content, from the draft when it is made and from the store when it is sent: the same either way."""

from __future__ import annotations

from collections.abc import Sequence

from postroom.delivery.compose import Composer, Identity, compile_content
from postroom.delivery.signing import Signing
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Attachment, Campaign, CampaignRef, Content
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
        mail_comes_back: bool = False,
        keys: DkimKeys | None = None,
    ) -> None:
        """`mail_comes_back`: somebody reads what is written to the bounce domain. `keys`: what mail is signed with; None: nothing
        is signed."""
        self._tenants = tenants
        self._objects = objects
        self.public_url = public_url
        """Where links of new campaigns lead; a campaign keeps the one it was made with."""
        self._bounce_domain = bounce_domain
        self._unsubscribe_mailbox = f"unsubscribe@{bounce_domain}" if bounce_domain and mail_comes_back else None
        self._keys = keys

    def compile(
        self,
        ref: CampaignRef,
        content: Content,
        *,
        html: str,
        text: str | None,
        attachments: Sequence[tuple[Attachment, bytes]],
        columns: Sequence[str],
        kind: str = "campaign",
        listed: bool = True,
        signs: Signing | None = None,
    ) -> Composer:
        """From the parts themselves; `kind` and `listed` as in `Identity`; `signs`: what really leaves. `Invalid`: where in them,
        and what to do."""
        identity = Identity(
            ref=ref,
            tenant=self._tenants.get(ref.tenant),
            public_url=content.public_url,
            bounce_domain=self._bounce_domain,
            unsubscribe_mailbox=self._unsubscribe_mailbox,
            kind=kind,
            listed=listed,
            signs=signs,
        )
        return compile_content(content, html=html, text=text, attachments=attachments, columns=columns, identity=identity)

    def signing(self, tenant: str, from_: str) -> Signing | None:
        """What the sender's mail is signed with, where it has a key. `Unavailable`: the store does not answer."""
        return None if self._keys is None else Signing(self._keys, tenant, from_)

    def load(self, campaign: Campaign, *, signed: bool = False) -> Composer:
        """From what the campaign has stored. `signed`: for mail that leaves; only looked at, it needs no key. `Corrupt`,
        `Unavailable`: the key cannot be used."""
        content, objects = campaign.content, self._objects
        signs = self.signing(campaign.ref.tenant, content.from_) if signed else None
        if signs is not None:
            signs.check()
        return self.compile(
            campaign.ref,
            content,
            html=objects.get(content.html_key).decode(),
            text=objects.get(content.text_key).decode() if content.text_key else None,
            attachments=[(attachment, objects.get(attachment.object_key)) for attachment in content.attachments],
            columns=campaign.source.columns,
            signs=signs,
        )
