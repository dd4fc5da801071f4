"""The HTTP application of an installation: all services in one application, or one service alone (a function on AWS).

A service's routes are imported when its application is built: on AWS the first caller waits for imports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI

from postroom.gateway.app import create_app
from postroom.gateway.audit import LedgerAuditRecorder
from postroom.gateway.rate_limits import ApiRates
from postroom.gateway.routes.campaign_status import StatusCache
from postroom.gateway.state import GatewayConfig
from postroom.model.access import BUILT_IN
from postroom.model.campaign import CampaignRef
from postroom.model.tenant import DEFAULT_TENANT
from postroom.wiring import Container

if TYPE_CHECKING:
    from postroom.gateway.paging import Download


Routers = Iterator[APIRouter]


def tracking(container: Container) -> Routers:
    """Pixels, links and unsubscribing."""
    from postroom.gateway.routes.public import tracking_routes, unsubscribe_routes

    mail = _mail_prefixes(container)
    yield tracking_routes(container.tracking, mail)
    yield unsubscribe_routes(container.unsubscribe, container.sender_display.name_for, mail)


def templates(container: Container) -> Routers:
    """Templates and their versions."""
    from postroom.gateway.routes.templates import templates_routes

    yield templates_routes(container.templates, rows=container.uploads.row)


def uploads(container: Container) -> Routers:
    """Uploads: created here, sent to a signed URL."""
    from postroom.gateway.routes.uploads import uploads_routes

    yield uploads_routes(container.uploads)


def email(container: Container, changed: Callable[[CampaignRef], None] = lambda ref: None) -> Routers:
    """Campaigns, transactional messages, senders, providers, suppression. `changed` is called when a campaign changes."""
    from postroom.gateway.routes.campaigns import CampaignServices, campaign_routes
    from postroom.gateway.routes.messages import message_routes, template_test_routes
    from postroom.gateway.routes.providers import providers_routes
    from postroom.gateway.routes.recipients import erasure_routes, suppression_routes
    from postroom.gateway.routes.senders import dkim_routes, sender_routes

    services = CampaignServices(
        campaigns=container.campaigns,
        requests=container.campaign_requests,
        edits=container.campaign_editor,
        changes=container.campaign_actions,
        dry_run=container.dry_run,
        changed=changed,
    )
    yield campaign_routes(services)
    yield template_test_routes(container.transactional, container.identities.first_address)
    yield message_routes(container.transactional)
    yield suppression_routes(container.suppressions, _download(container))
    yield erasure_routes(container.erasure_requests)
    yield sender_routes(container.senders)
    yield dkim_routes(container.senders, container.dkim)
    yield providers_routes(container.provider_service)


def status(container: Container, status_cache: StatusCache | None = None) -> Routers:
    """Status, messages, exports, the audit log, health."""
    from postroom.gateway.routes.access import audit_log_routes
    from postroom.gateway.routes.campaign_status import status_routes
    from postroom.gateway.routes.campaigns import campaign_message_routes
    from postroom.gateway.routes.system import health_routes

    yield health_routes(_checks(container))
    yield campaign_message_routes(container.campaign_reader, container.exports, _download(container))
    yield status_routes(status_cache or StatusCache(container.status, container.clock))
    yield audit_log_routes(container.audit)


def callbacks(container: Container) -> Routers:
    """Callback endpoints."""
    from postroom.gateway.routes.callbacks import callbacks_routes

    yield callbacks_routes(container.callback_service, container.secrets)


def access(container: Container) -> Routers:
    """Tenants, users, API keys."""
    from postroom.gateway.routes.access import keys_routes, tenants_routes, users_routes

    yield tenants_routes(container.tenants)
    yield users_routes(container.members, issuer=container.settings.issuer or BUILT_IN)
    yield keys_routes(container.api_keys, container.secrets)


def on_one_machine(container: Container) -> Routers:
    """Routes that AWS replaces by its services: uploads (S3), sign-in (Cognito), SES notifications (SQS)."""
    from postroom.gateway.routes.hooks import hooks_routes
    from postroom.gateway.routes.uploads import transfers_routes
    from postroom.identity.routes import identity_routes

    yield transfers_routes(container.objects, container.stores.on_one_machine("receiving uploads").transfers)
    if container.settings.ses_topics:
        yield hooks_routes(container.ses_webhook.receive)
    if container.issuer is not None:
        yield identity_routes(container.issuer)


SERVICES: Final[Mapping[str, Callable[[Container], Routers]]] = {
    "tracking": tracking,
    "templates": templates,
    "uploads": uploads,
    "email": email,
    "status": status,
    "callbacks": callbacks,
    "access": access,
}
"""The routes of each service; on AWS each is a function (entrypoints.lambdas.api)."""


def all_routers(container: Container, status_cache: StatusCache) -> Routers:
    """Return all routes, the most often called first: they are tried in order."""
    yield from tracking(container)
    yield from templates(container)
    yield from uploads(container)
    yield from email(container, status_cache.forget)
    yield from status(container, status_cache)
    yield from callbacks(container)
    yield from access(container)
    if container.stores.machine is not None:
        yield from on_one_machine(container)


def _mail_prefixes(container: Container) -> list[str]:
    """Return the possible prefixes of `/t/` and `/u/`: the public URL's path, and none if a proxy strips it. Links of mail that
    was sent before stay valid without a public URL."""
    return sorted({"", urlsplit(container.settings.public_url or "").path})


def _download(container: Container) -> Download:
    """Return how files are sent: a function's response is limited to 6 MB."""
    from postroom.gateway.paging import redirected, streamed

    return streamed if container.export_files is None else redirected(container.export_files)


def _checks(container: Container) -> list[tuple[str, Callable[[], object]]]:
    """Return the readiness checks; each raises when its store does not work."""
    return [
        ("tables", lambda: container.tenants.read(DEFAULT_TENANT)),
        ("objects", lambda: container.objects.info("readiness")),
        ("secrets", lambda: container.secrets.open("readiness", container.secrets.seal("readiness", b""))),
    ]


def application(container: Container, status_cache: StatusCache | None = None) -> FastAPI:
    """Return the application with all services. Close `status_cache` before the server stops: it ends long polls."""
    status_cache = status_cache or StatusCache(container.status, container.clock)
    return create_app(gateway_config(container), all_routers(container, status_cache))


def service_application(container: Container, service: str) -> FastAPI:
    """Return the application of one of `SERVICES`. Its OpenAPI document is that of the whole API, made when requested."""
    app = create_app(gateway_config(container), SERVICES[service](container))
    app.openapi = lambda: application(container).openapi()  # type: ignore[method-assign]  # as FastAPI's documentation has it
    return app


def gateway_config(container: Container) -> GatewayConfig:
    """Return the configuration of the gateway."""
    settings = container.settings
    return GatewayConfig(
        authenticator=container.authenticator,
        clock=container.clock,
        url=settings.api_base_url,
        issuer=settings.issuer or "",
        tables=container.tables,
        secrets=container.secrets,
        audit=LedgerAuditRecorder(container.audit, container.clock),
        rates=ApiRates.from_setting(settings.api_rate),
        trusted_proxies=settings.trusted_proxies,
        cors_origins=settings.cors_origins,
    )
