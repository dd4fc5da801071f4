"""How to call each route about somebody's records: what the walks through the whole door follow.

A route without a recipe fails the walks: whoever adds one says here how it is called with ids of another tenant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import httpx2 as httpx
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from tests.gateway.door_kit import Household, WholeDoor, letter

Json = dict[str, object]
SAME_ID = {"X-Request-Id": "0123456789"}
"""So that two answers about the same differ in nothing."""
Body = Callable[[Household, Household], object]
"""Of those whom it is about, and of the caller: whose own records make the rest of it good."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One way to call a route."""

    path: Mapping[str, str] = field(default_factory=dict)
    """Parameter → a field of the `Household` it is about; `own.<field>`: of the caller's; `=<text>`: as it stands."""
    query: Mapping[str, str] = field(default_factory=dict)
    """The same."""
    body: Body | None = None
    content: str | None = None
    """A body that is no JSON."""
    names_nobody: bool = False
    """It refers to no record; what it answers must be the caller's own."""
    operators_may: bool = False
    """An operator of the installation does it for every tenant, or takes any name on trust: that is what operators are for."""

    def url(self, template: str, about: Household, own: Household) -> str:
        return template.format(**{name: _value(text, about, own) for name, text in self.path.items()})

    def params(self, about: Household, own: Household) -> dict[str, str]:
        return {name: _value(text, about, own) for name, text in self.query.items()}


def routes(door: WholeDoor) -> Iterator[tuple[str, str]]:
    """Method and path of everything under /v1."""
    for route in door.app.routes:
        if isinstance(route, APIRoute) and route.path.startswith("/v1/"):
            yield from ((method, route.path) for method in sorted(route.methods or ()))


def call(client: TestClient, route: str, recipe: Recipe, *, about: Household, own: Household) -> httpx.Response:
    method, path = route.split(" ")
    options: dict[str, object] = {"params": recipe.params(about, own), "headers": SAME_ID}
    if recipe.content is not None:
        options |= {"content": recipe.content, "headers": {**SAME_ID, "Content-Type": "text/csv"}}
    elif recipe.body is not None:
        options["json"] = recipe.body(about, own)
    return client.request(method, recipe.url(path, about, own), **options)  # type: ignore[arg-type]  # one by one they are right


def order(**fields: Callable[[Household], object]) -> Body:
    """A campaign that is the caller's, but for `fields`."""

    def body(about: Household, own: Household) -> Json:
        good: Json = {"name": "Mine", "template_id": own.template, "upload_id": own.upload, "from": f"news@{own.sender}"}
        return good | {"start": False} | {_alias(name): made(about) for name, made in fields.items()}

    return body


def single(**fields: Callable[[Household], object]) -> Body:
    """A message that is the caller's, but for `fields`."""

    def body(about: Household, own: Household) -> Json:
        good: Json = {"to": "ann@mail.example", "from": f"news@{own.sender}", "template_id": own.template}
        return good | {_alias(name): made(about) for name, made in fields.items()}

    return body


def fixed(value: object) -> Body:
    return lambda about, own: value


def _value(text: str, about: Household, own: Household) -> str:
    if text.startswith("="):
        return text[1:]
    found: str = getattr(own if text.startswith("own.") else about, text.removeprefix("own."))
    return found


def _alias(name: str) -> str:
    return name.rstrip("_")


TEMPLATE = {"template_id": "template"}
UPLOAD = {"upload_id": "upload"}
CAMPAIGN = {"campaign_id": "campaign"}
SENDER = {"name": "sender"}
PROVIDER = {"name": "provider"}
CALLBACK = {"id": "callback"}
CAMPAIGNS_CALLBACK = {"id": "campaigns_callback"}
TENANT = {"id": "tenant"}
USER = {"id": "user"}
KEY = {"id": "key"}
OWN = Recipe(names_nobody=True)
RELAY = {"url": "smtp://mail.relay.example:587"}


def own(body: object) -> list[Recipe]:
    return [Recipe(names_nobody=True, body=fixed(body))]


def of(path: Mapping[str, str], body: object = None, *, operators_may: bool = False) -> list[Recipe]:
    return [Recipe(path=path, body=None if body is None else fixed(body), operators_may=operators_may)]


RECIPES: dict[str, list[Recipe]] = {
    "POST /v1/templates": own(letter("mine")),
    "GET /v1/templates": [OWN, Recipe(query={"name": "word"})],
    "POST /v1/templates/validate": own({"subject": "Hi", "html": "<p>Hi</p>"}),
    "GET /v1/templates/{template_id}": of(TEMPLATE),
    "PUT /v1/templates/{template_id}": of(TEMPLATE, letter("mine")),
    "DELETE /v1/templates/{template_id}": of(TEMPLATE),
    "POST /v1/templates/{template_id}/rollback": of(TEMPLATE, {"version": 1}),
    "POST /v1/templates/{template_id}/unarchive": of(TEMPLATE),
    "GET /v1/templates/{template_id}/versions": of(TEMPLATE),
    "GET /v1/templates/{template_id}/versions/{version}": of({**TEMPLATE, "version": "=1"}),
    "GET /v1/templates/{template_id}/diff": [Recipe(path=TEMPLATE, query={"from": "=1", "to": "=2"})],
    "POST /v1/templates/{template_id}/preview": [
        Recipe(path=TEMPLATE, body=fixed({"variables": {}})),
        Recipe(path={"template_id": "own.template"}, body=lambda about, own: {"upload_id": about.upload}),
    ],
    "POST /v1/templates/{template_id}/test": [
        Recipe(path=TEMPLATE, body=lambda about, own: {"to": ["ann@mail.example"], "from": f"news@{own.sender}"}),
        Recipe(
            path={"template_id": "own.template"},
            body=lambda about, own: {"to": ["ann@mail.example"], "from": f"a@{about.sender}"},
        ),
    ],
    "POST /v1/uploads": own({"kind": "asset", "filename": "a.pdf", "content_type": "application/pdf", "size": 5}),
    "GET /v1/uploads": [OWN],
    "GET /v1/uploads/{upload_id}": of(UPLOAD),
    "DELETE /v1/uploads/{upload_id}": of(UPLOAD),
    "GET /v1/uploads/{upload_id}/content": of(UPLOAD),
    "POST /v1/campaigns": [
        Recipe(body=order(template_id=lambda about: about.template)),
        Recipe(body=order(upload_id=lambda about: about.upload)),
        Recipe(body=order(from_=lambda about: f"news@{about.sender}")),
        Recipe(body=order(provider=lambda about: about.provider)),
        Recipe(body=order(attachments=lambda about: [{"upload_id": about.asset}])),
    ],
    "GET /v1/campaigns": [OWN, Recipe(query={"name": "word"})],
    "GET /v1/campaigns/{campaign_id}": of(CAMPAIGN),
    "PATCH /v1/campaigns/{campaign_id}": of(CAMPAIGN, {"name": "Mine"}),
    "DELETE /v1/campaigns/{campaign_id}": of(CAMPAIGN),
    "POST /v1/campaigns/{campaign_id}/start": of(CAMPAIGN),
    "POST /v1/campaigns/{campaign_id}/pause": of(CAMPAIGN),
    "POST /v1/campaigns/{campaign_id}/resume": of(CAMPAIGN),
    "POST /v1/campaigns/{campaign_id}/dry-run": of(CAMPAIGN),
    "POST /v1/campaigns/{campaign_id}/cancel": of(CAMPAIGN),
    "POST /v1/campaigns/{campaign_id}/retry-failed": of(CAMPAIGN),
    "POST /v1/campaigns/{campaign_id}/settle": of(CAMPAIGN, {"decision": "sent"}),
    "GET /v1/campaigns/{campaign_id}/batches": of(CAMPAIGN),
    "GET /v1/campaigns/{campaign_id}/messages": of(CAMPAIGN),
    "GET /v1/campaigns/{campaign_id}/messages/{message_id}": [
        Recipe(path={**CAMPAIGN, "message_id": "campaign_message"}),
        Recipe(path={"campaign_id": "own.campaign", "message_id": "campaign_message"}),
    ],
    "GET /v1/campaigns/{campaign_id}/rejected.csv": of(CAMPAIGN),
    "GET /v1/campaigns/{campaign_id}/export.csv": of(CAMPAIGN),
    "GET /v1/campaigns/{campaign_id}/status": [Recipe(path=CAMPAIGN), Recipe(path=CAMPAIGN, query={"wait": "=1"})],
    "POST /v1/messages": [
        Recipe(body=single(template_id=lambda about: about.template)),
        Recipe(body=single(from_=lambda about: f"news@{about.sender}")),
        Recipe(body=single(attachments=lambda about: [{"upload_id": about.asset}])),
        Recipe(body=lambda about, own: [single(template_id=lambda about: about.template)(about, own)]),
    ],
    "GET /v1/messages": [OWN],
    "GET /v1/messages/{id}": [Recipe(path={"id": "message"}), Recipe(path={"id": "campaign_message"})],
    "GET /v1/suppressions": [OWN, Recipe(query={"address": "suppressed"})],
    "POST /v1/suppressions": own({"address": "gone@mail.example"}),
    "DELETE /v1/suppressions": [Recipe(query={"address": "suppressed"})],
    "POST /v1/suppressions/import": [Recipe(names_nobody=True, content="address\ngone@mail.example\n")],
    "GET /v1/suppressions/export.csv": [OWN],
    "POST /v1/erasures": own({"address": "gone@mail.example"}),
    "GET /v1/erasures/{erasure_id}": of({"erasure_id": "erasure"}),
    "POST /v1/senders": own({"name": "mine.example"}),
    "GET /v1/senders": [OWN],
    "GET /v1/senders/{name}": of(SENDER),
    "DELETE /v1/senders/{name}": of(SENDER),
    "POST /v1/senders/{name}/verify": of(SENDER),
    "POST /v1/senders/{name}/trust": of(SENDER, operators_may=True),
    "GET /v1/senders/{name}/dkim": of(SENDER),
    "POST /v1/senders/{name}/dkim": of(SENDER, {}),
    "POST /v1/senders/{name}/dkim/{selector}/verify": [
        Recipe(path={**SENDER, "selector": "selector"}),
        Recipe(path={"name": "own.sender", "selector": "selector"}),
    ],
    "DELETE /v1/senders/{name}/dkim/{selector}": [
        Recipe(path={**SENDER, "selector": "selector"}),
        Recipe(path={"name": "own.sender", "selector": "selector"}),
    ],
    "GET /v1/providers": [OWN],
    "POST /v1/providers": own({"name": "mine", **RELAY}),
    "GET /v1/providers/{name}": of(PROVIDER),
    "PUT /v1/providers/{name}": of(PROVIDER, RELAY),
    "DELETE /v1/providers/{name}": of(PROVIDER),
    "POST /v1/providers/{name}/test": of(PROVIDER),
    "GET /v1/callbacks/campaign-secret": [OWN],
    "POST /v1/callbacks/campaign-secret/rotate": [OWN],
    "GET /v1/callbacks": [OWN],
    "POST /v1/callbacks": own({"url": "https://mine.example/hook"}),
    "GET /v1/callbacks/{id}": of(CALLBACK),
    "PATCH /v1/callbacks/{id}": of(CALLBACK, {"description": "mine"}),
    "DELETE /v1/callbacks/{id}": of(CALLBACK),
    "POST /v1/callbacks/{id}/rotate-secret": of(CALLBACK),
    "POST /v1/callbacks/{id}/test": of(CALLBACK),
    "GET /v1/callbacks/{id}/deliveries": [*of(CALLBACK), *of(CAMPAIGNS_CALLBACK)],
    "GET /v1/callbacks/{id}/deliveries/{delivery_id}": [
        Recipe(path={**CALLBACK, "delivery_id": "delivery"}),
        Recipe(path={**CAMPAIGNS_CALLBACK, "delivery_id": "delivery"}),
        Recipe(path={"id": "own.callback", "delivery_id": "delivery"}),
    ],
    "POST /v1/callbacks/{id}/deliveries/{delivery_id}/redeliver": [
        Recipe(path={**CALLBACK, "delivery_id": "delivery"}),
        Recipe(path={"id": "own.callback", "delivery_id": "delivery"}),
    ],
    "POST /v1/callbacks/{id}/redeliver": [*of(CALLBACK, {}), *of(CAMPAIGNS_CALLBACK, {})],
    "POST /v1/tenants": own({"id": "newcomers"}),
    "GET /v1/tenants": [OWN],
    "GET /v1/tenants/me": [OWN],
    "GET /v1/tenants/{id}": of(TENANT, operators_may=True),
    "POST /v1/tenants/{id}/disable": of(TENANT, operators_may=True),
    "POST /v1/tenants/{id}/enable": of(TENANT, operators_may=True),
    "POST /v1/users": own({"subject": "mine", "role": "viewer", "name": "mine"}),
    "GET /v1/users": [OWN],
    "GET /v1/users/{id}": of(USER),
    "PATCH /v1/users/{id}": of(USER, {"role": "viewer"}),
    "DELETE /v1/users/{id}": of(USER),
    "POST /v1/keys": own({"name": "mine", "role": "viewer"}),
    "GET /v1/keys": [OWN],
    "GET /v1/keys/{id}": of(KEY),
    "DELETE /v1/keys/{id}": of(KEY),
    "GET /v1/audit": [OWN],
    "GET /v1/audit/verification": [OWN],
}
