"""`/v1/providers`: SMTP relays and Amazon SES accounts of the caller's tenant, and those that the installation shares."""

from __future__ import annotations

import hashlib
import secrets

from fastapi import APIRouter, Response

from postroom.gateway.access import Admin, Viewer
from postroom.gateway.audit import Audit, reads
from postroom.gateway.etags import IfMatch, IfNoneMatch, demand, etag_of, matches, not_modified
from postroom.gateway.idempotency import Points
from postroom.gateway.paging import Page
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.providers import (
    NewProvider,
    ProviderBody,
    ProviderCheck,
    ProviderName,
    ProviderSettings,
    ProviderTestResult,
)
from postroom.model.access import Principal
from postroom.model.provider import Provider
from postroom.services.doctor import healthy
from postroom.services.providers import ProviderCaller, ProviderService


def providers_routes(providers: ProviderService) -> APIRouter:
    router = APIRouter(prefix="/v1/providers", tags=["providers"], route_class=Route)
    _add_reading(router, providers)
    _add_changing(router, providers)
    return router


def _add_reading(router: APIRouter, providers: ProviderService) -> None:
    @router.get("", operation_id="list_providers")
    def list_all(caller: Viewer) -> Page[ProviderBody]:
        """List the providers that the tenant can send through: its own, shared ones and the default. In one page."""
        items = [ProviderBody.from_record(provider, operator=caller.operator) for provider in providers.list(_asker(caller))]
        return Page(items=items, cursor=None)

    @router.get(
        "/{name}", operation_id="get_provider", response_model=ProviderBody, responses={304: {"description": "Not modified"}}
    )
    def get(name: ProviderName, caller: Viewer, response: Response, if_none_match: IfNoneMatch = None) -> ProviderBody | Response:
        """Retrieve a provider, without its password."""
        provider = providers.get(_asker(caller), name)
        if matches(if_none_match, _etag(provider, caller)):
            return not_modified(_etag(provider, caller))
        return _shown(provider, caller, response)

    @router.post("/{name}/test", operation_id="test_provider")
    @reads
    def test(name: ProviderName, caller: Admin) -> ProviderTestResult:
        """Test a provider: connect to the relay, start TLS and log in, or query the Amazon SES account. Nothing is sent. Only
        operators can test a shared provider."""
        findings = providers.test(_asker(caller), name)
        return ProviderTestResult(works=healthy(findings), findings=[ProviderCheck.from_record(finding) for finding in findings])


def _add_changing(router: APIRouter, providers: ProviderService) -> None:
    @router.post("", status_code=201, operation_id="create_provider")
    def create(body: NewProvider, caller: Admin, points: Points, audit: Audit, response: Response) -> ProviderBody:
        """Create a provider. A tenant's relay must be on the public Internet, and its URL must not refer to a file."""
        mark = points.once("mark", lambda: secrets.token_hex(16))
        provider = providers.create(_asker(caller), body.name, body.change(), shared=body.shared, mark=mark)
        response.headers["Location"] = f"/v1/providers/{provider.name}"
        shown = _shown(provider, caller, response)
        audit.changed("provider", provider.id, after=shown.model_dump())
        return shown

    @router.put("/{name}", operation_id="change_provider")
    def change(
        name: ProviderName, body: ProviderSettings, caller: Admin, audit: Audit, response: Response, if_match: IfMatch = None
    ) -> ProviderBody:
        """Replace a provider's settings. Mail that leaves from now on takes them; campaigns that are sending do so within minutes
        or after a pause. Another URL needs its password again."""
        was = providers.get(_asker(caller), name)
        demand(if_match, _etag(was, caller))
        provider = providers.change(_asker(caller), was, body.change())
        shown = _shown(provider, caller, response)
        audit.changed(
            "provider",
            provider.id,
            before=ProviderBody.from_record(was, operator=caller.operator).model_dump(),
            after=shown.model_dump(),
        )
        return shown

    @router.delete("/{name}", status_code=204, operation_id="delete_provider")
    def delete(name: ProviderName, caller: Admin, audit: Audit) -> None:
        """Delete a provider and its password. Campaigns that name it cannot send until there is one of that name again."""
        was = providers.delete(_asker(caller), name)
        audit.changed("provider", was.id, before=ProviderBody.from_record(was, operator=caller.operator).model_dump())


def _asker(caller: Principal) -> ProviderCaller:
    return ProviderCaller(caller.tenant, caller.operator)


def _shown(provider: Provider, caller: Principal, response: Response) -> ProviderBody:
    response.headers["ETag"] = _etag(provider, caller)
    return ProviderBody.from_record(provider, operator=caller.operator)


def _etag(provider: Provider, caller: Principal) -> str:
    """The tag of what the caller sees. A version alone could repeat with a later provider of that name; a setting has none."""
    seen = f"{provider.version} {ProviderBody.from_record(provider, operator=caller.operator).model_dump_json()}"
    return etag_of(hashlib.sha256(seen.encode()).hexdigest()[:24])
