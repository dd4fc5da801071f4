"""The whole door over a real installation, and people and programs of several tenants who stand before it."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
from fastapi import FastAPI
from fastapi.testclient import TestClient

from postroom.entrypoints.application import application
from postroom.ledger.dkim import DkimKeys
from postroom.model.access import Membership, Principal, PrincipalKind, Role
from postroom.model.campaign import CampaignRef
from postroom.platform.mail.provider_url import parse_relay
from postroom.services.dkim import DkimService
from postroom.services.providers import ProviderService
from postroom.services.senders import SenderService
from postroom.settings import Settings
from postroom.wiring import Container, open_app

URL = "http://door.example"
OPERATOR = "operator"
"""An admin who is an operator of the installation too."""
RANKS = (*Role, OPERATOR)


class WholeDoor:
    """See the module's text."""

    def __init__(self, postroom: Container) -> None:
        self.postroom = postroom
        self.app: FastAPI = application(postroom)
        self.token = functools.cache(self._token)

    def client(self, rank: str = OPERATOR, tenant: str = "default") -> TestClient:
        """Who has this role in that tenant. Redirects are shown, not followed."""
        return self.bearing(self.token(rank, tenant))

    def bearing(self, credential: str | None) -> TestClient:
        """Whoever has this credential; None: none."""
        client = TestClient(self.app, base_url=URL, follow_redirects=False)
        if credential is not None:
            client.headers["Authorization"] = f"Bearer {credential}"
        return client

    def key(self, tenant: str, role: Role, scopes: frozenset[str] | None = None) -> str:
        """An API key's text."""
        maker = Principal(PrincipalKind.OPERATOR, "root", "root", tenant, Role.ADMIN, operator=True)
        return self.postroom.api_keys.create(maker, f"{role} of {tenant}", role=role, scopes=scopes).text

    def imported(self, ref: CampaignRef) -> None:
        """As a worker imports it."""
        self.postroom.splitter.run(ref, alive=lambda: True)
        self.postroom.scheduler.look(ref)

    def _token(self, rank: str, tenant: str) -> str:
        """An API key; for an operator, which no key is, an access token."""
        if rank != OPERATOR:
            return self.key(tenant, Role(rank))
        issuer = self.postroom.issuer
        assert issuer is not None
        subject = f"operator-of-{tenant}"
        self.postroom.memberships.grant(Membership(issuer.membership_issuer, subject, tenant, Role.ADMIN, subject, operator=True))
        return issuer.tokens.access(subject, client="console", scope=())


@contextmanager
def whole_door(root: Path) -> Iterator[WholeDoor]:
    """On an installation of its own, whose rate nobody reaches."""
    with open_app(Settings(data=root, api_url=URL, api_rate=1e6)) as postroom:
        yield WholeDoor(offline(postroom))


class NoDns:
    """In which no name has a text."""

    def txt(self, name: str) -> list[str]:
        return []


def offline(postroom: Container) -> Container:
    """The same, but that it neither asks the DNS nor connects to a relay, whatever a caller names."""

    def check(url: str, trusted: bool) -> None:
        parse_relay(url, trusted=trusted)

    providers = ProviderService(postroom.providers, check=check, examine=lambda means: [])
    senders = SenderService(postroom.identities, NoDns(), postroom.clock)
    dkim = DkimService(DkimKeys(postroom.tables, postroom.secrets), NoDns(), postroom.clock)
    return postroom.but(senders=senders, dkim=dkim, provider_service=providers)


@dataclass(frozen=True)
class Household:
    """One of everything that a tenant may have, all of it with the tenant's own word in it."""

    tenant: str
    word: str
    template: str
    upload: str
    asset: str
    campaign: str
    """Ready to be sent."""
    campaign_message: str
    message: str
    sender: str
    selector: str
    """Of a DKIM key of the sender."""
    provider: str
    suppressed: str
    erasure: str
    key: str
    user: str
    subject: str
    callback: str
    delivery: str
    """The later of two tests of the callback."""

    @property
    def campaigns_callback(self) -> str:
        """What the campaign's own is called."""
        return f"campaign-{self.campaign}"


def household(door: WholeDoor, tenant: str, word: str) -> Household:
    """Made through the door, by an operator of the tenant; imported by the worker's own splitter."""
    with door.client(OPERATOR, tenant) as client:
        domain, suppressed = f"{word}.example", f"left@{word}.example"
        made(client.post("/v1/senders", json={"name": domain}))
        made(client.post(f"/v1/senders/{domain}/trust"))
        selector = made(client.post(f"/v1/senders/{domain}/dkim", json={}))["keys"][0]["selector"]
        provider = {"name": f"relay-{word}", "url": f"smtp://mail.{domain}:587"}
        made(client.post("/v1/providers", json=provider))
        template = made(client.post("/v1/templates", json=letter(word)))["id"]
        made(client.put(f"/v1/templates/{template}", json=letter(word, "again")))
        made(client.post("/v1/suppressions", json={"address": suppressed}))
        people = f"email,first_name\nann@{domain},Ann {word}\nbob@{domain},Bob\nnobody,Eve {word}\n{suppressed},Gone\n"
        upload = bring(client, f"{word}.csv", people.encode())
        asset = bring(client, f"{word}.pdf", b"%PDF-" + word.encode(), kind="asset")
        order = {"name": f"To {word}", "template_id": template, "upload_id": upload, "from": f"news@{domain}", "start": False}
        order |= {"provider": provider["name"], "attachments": [{"upload_id": asset}], "callback_url": f"https://{domain}/own"}
        campaign = made(client.post("/v1/campaigns", json=order))["id"]
        door.imported(CampaignRef(tenant, campaign))
        single = {"to": f"Ann {word} <ann@{domain}>", "from": f"news@{domain}", "template_id": template}
        listed = made(client.get(f"/v1/campaigns/{campaign}/messages"))["items"]
        subject = f"somebody-of-{word}"
        callback = made(client.post("/v1/callbacks", json={"url": f"https://{domain}/hook"}))["id"]
        tests = [made(client.post(f"/v1/callbacks/{callback}/test"))["delivery_id"] for _ in range(2)]
        return Household(
            tenant=tenant,
            word=word,
            template=template,
            upload=upload,
            asset=asset,
            campaign=campaign,
            campaign_message=listed[0]["id"],
            message=made(client.post("/v1/messages", json=single))["id"],
            sender=domain,
            selector=selector,
            provider=provider["name"],
            suppressed=suppressed,
            erasure=made(client.post("/v1/erasures", json={"address": f"forgotten@{domain}"}))["id"],
            key=made(client.post("/v1/keys", json={"name": f"key of {word}", "role": "viewer"}))["id"],
            user=made(client.post("/v1/users", json={"subject": subject, "role": "viewer", "name": subject}))["id"],
            subject=subject,
            callback=callback,
            delivery=tests[-1],
        )


def letter(word: str, more: str = "") -> dict[str, object]:
    """The body of a template."""
    return {"name": f"Letter of {word}", "subject": f"Hi from {word}", "html": f"<p>Hello from {word} {more}</p>"}


def bring(client: TestClient, filename: str, content: bytes, kind: str = "recipients") -> str:
    """The id of an upload that has arrived."""
    what = {"kind": kind, "filename": filename, "content_type": "text/plain", "size": len(content)}
    announced = made(client.post("/v1/uploads", json=what))
    sent = client.request(announced["method"], announced["url"], content=content, headers=announced["headers"])
    assert sent.status_code == 200, sent.text
    found: str = announced["id"]
    return found


def made(response: httpx.Response) -> Any:
    """The JSON of an answer that must be a success."""
    assert response.is_success, f"{response.request.method} {response.request.url}: {response.status_code} {response.text}"
    return response.json()
