"""Which routes stand behind which door: on one machine a single door has them all, on AWS each service is a function of its own.

What a service imports is imported with its door, and not before: on AWS the first caller waits for it.

The HTTP application of an installation: every service behind one door, or one service behind a door of its own.
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


def tracking(postroom: Container) -> Routers:
    """Pixels, links and unsubscribing."""
    from postroom.gateway.routes.public import tracking_routes, unsubscribe_routes

    mail = _mail_prefixes(postroom)
    yield tracking_routes(postroom.tracking, mail)
    yield unsubscribe_routes(postroom.unsubscribe, postroom.sender_display.name_for, mail)


def templates(postroom: Container) -> Routers:
    """Templates and their versions."""
    from postroom.gateway.routes.templates import templates_routes

    yield templates_routes(postroom.templates, rows=postroom.uploads.row)


def uploads(postroom: Container) -> Routers:
    """Files that are announced here, and brought by a signed URL."""
    from postroom.gateway.routes.uploads import uploads_routes

    yield uploads_routes(postroom.uploads)


def email(postroom: Container, changed: Callable[[CampaignRef], None] = lambda ref: None) -> Routers:
    """What is sent: campaigns, single messages; as whom, through what, to whom not. `changed`: told of campaigns' changes."""
    from postroom.gateway.routes.campaigns import CampaignServices, campaign_routes
    from postroom.gateway.routes.messages import message_routes, template_test_routes
    from postroom.gateway.routes.providers import providers_routes
    from postroom.gateway.routes.recipients import erasure_routes, suppression_routes
    from postroom.gateway.routes.senders import dkim_routes, sender_routes

    desk = CampaignServices(
        campaigns=postroom.campaigns,
        requests=postroom.campaign_requests,
        edits=postroom.campaign_editor,
        changes=postroom.campaign_actions,
        dry_run=postroom.dry_run,
        changed=changed,
    )
    yield campaign_routes(desk)
    yield template_test_routes(postroom.transactional, postroom.identities.first_address)
    yield message_routes(postroom.transactional)
    yield suppression_routes(postroom.suppressions, _download(postroom))
    yield erasure_routes(postroom.erasure_requests)
    yield sender_routes(postroom.senders)
    yield dkim_routes(postroom.senders, postroom.dkim)
    yield providers_routes(postroom.provider_service)


def status(postroom: Container, board: StatusCache | None = None) -> Routers:
    """What became of it, and whether all is well."""
    from postroom.gateway.routes.access import audit_log_routes
    from postroom.gateway.routes.campaign_status import status_routes
    from postroom.gateway.routes.campaigns import campaign_message_routes
    from postroom.gateway.routes.system import health_routes

    yield health_routes(_checks(postroom))
    yield campaign_message_routes(postroom.campaign_reader, postroom.exports, _download(postroom))
    yield status_routes(board or StatusCache(postroom.status, postroom.clock))
    yield audit_log_routes(postroom.audit)


def callbacks(postroom: Container) -> Routers:
    """Whom tenants want told."""
    from postroom.gateway.routes.callbacks import callbacks_routes

    yield callbacks_routes(postroom.callback_service, postroom.secrets)


def access(postroom: Container) -> Routers:
    """Who may do what."""
    from postroom.gateway.routes.access import keys_routes, tenants_routes, users_routes

    yield tenants_routes(postroom.tenants)
    yield users_routes(postroom.members, issuer=postroom.settings.issuer or BUILT_IN)
    yield keys_routes(postroom.api_keys, postroom.secrets)


def on_one_machine(postroom: Container) -> Routers:
    """What AWS has services of its own for: S3 takes the bytes of uploads, Cognito signs people in, SQS brings SES's notices."""
    from postroom.gateway.routes.hooks import hooks_routes
    from postroom.gateway.routes.uploads import transfers_routes
    from postroom.identity.routes import identity_routes

    yield transfers_routes(postroom.objects, postroom.stores.on_one_machine("bringing files to the door").transfers)
    if postroom.settings.ses_topics:
        yield hooks_routes(postroom.ses_webhook.receive)
    if postroom.issuer is not None:
        yield identity_routes(postroom.issuer)


SERVICES: Final[Mapping[str, Callable[[Container], Routers]]] = {
    "tracking": tracking,
    "templates": templates,
    "uploads": uploads,
    "email": email,
    "status": status,
    "callbacks": callbacks,
    "access": access,
}
"""By the name of their function on AWS (entrypoints.lambdas.api)."""


def all_routers(postroom: Container, board: StatusCache) -> Routers:
    """Behind one door; the most often called first: routes are tried one after the other."""
    yield from tracking(postroom)
    yield from templates(postroom)
    yield from uploads(postroom)
    yield from email(postroom, board.forget)
    yield from status(postroom, board)
    yield from callbacks(postroom)
    yield from access(postroom)
    if postroom.stores.machine is not None:
        yield from on_one_machine(postroom)


def _mail_prefixes(postroom: Container) -> list[str]:
    """What may stand before `/t/` and `/u/`: the public URL's path, and nothing, where a proxy takes that away. Without a public
    URL too: there may have been one, and mail of that time still leads here."""
    return sorted({"", urlsplit(postroom.settings.public_url or "").path})


def _download(postroom: Container) -> Download:
    """How files are answered: Lambda carries 6 MB."""
    from postroom.gateway.paging import redirected, streamed

    return streamed if postroom.export_files is None else redirected(postroom.export_files)


def _checks(postroom: Container) -> list[tuple[str, Callable[[], object]]]:
    """What a door needs; each raises when it does not work."""
    return [
        ("tables", lambda: postroom.tenants.read(DEFAULT_TENANT)),
        ("objects", lambda: postroom.objects.info("readiness")),
        ("secrets", lambda: postroom.secrets.open("readiness", postroom.secrets.seal("readiness", b""))),
    ]


def application(postroom: Container, board: StatusCache | None = None) -> FastAPI:
    """All services behind one door. `board`: closed by whoever closes the door, so that nobody waits for a change any longer."""
    board = board or StatusCache(postroom.status, postroom.clock)
    return create_app(gateway_config(postroom), all_routers(postroom, board))


def service_application(postroom: Container, service: str) -> FastAPI:
    """One of `SERVICES` alone. Its OpenAPI document is of the whole API, as at any door: made when somebody asks for it."""
    app = create_app(gateway_config(postroom), SERVICES[service](postroom))
    app.openapi = lambda: application(postroom).openapi()  # type: ignore[method-assign]  # as FastAPI's documentation has it
    return app


def gateway_config(postroom: Container) -> GatewayConfig:
    """What surrounds the services."""
    settings = postroom.settings
    return GatewayConfig(
        authenticator=postroom.authenticator,
        clock=postroom.clock,
        url=settings.api_base_url,
        issuer=settings.issuer or "",
        tables=postroom.tables,
        secrets=postroom.secrets,
        audit=LedgerAuditRecorder(postroom.audit, postroom.clock),
        rates=ApiRates.from_setting(settings.api_rate),
        trusted_proxies=settings.trusted_proxies,
        cors_origins=settings.cors_origins,
    )
