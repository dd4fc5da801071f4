"""The HTTP application of an installation: every service behind one door, or one service behind a door of its own."""

from __future__ import annotations

from fastapi import FastAPI

from postroom.entrypoints.services import SERVICES, all_routers
from postroom.gateway.app import create_app
from postroom.gateway.audit import LedgerAuditRecorder
from postroom.gateway.rate_limits import Rates
from postroom.gateway.routes.campaign_status import StatusCache
from postroom.gateway.state import GatewayConfig
from postroom.wiring import Postroom


def application(postroom: Postroom, board: StatusCache | None = None) -> FastAPI:
    """All services behind one door. `board`: closed by whoever closes the door, so that nobody waits for a change any longer."""
    board = board or StatusCache(postroom.status, postroom.clock)
    return create_app(frame(postroom), all_routers(postroom, board))


def service_application(postroom: Postroom, service: str) -> FastAPI:
    """One of `SERVICES` alone. Its OpenAPI document is of the whole API, as at any door: made when somebody asks for it."""
    app = create_app(frame(postroom), SERVICES[service](postroom))
    app.openapi = lambda: application(postroom).openapi()  # type: ignore[method-assign]  # as FastAPI's documentation has it
    return app


def frame(postroom: Postroom) -> GatewayConfig:
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
        rates=Rates.of(settings.api_rate),
        trusted_proxies=settings.trusted_proxies,
        cors_origins=settings.cors_origins,
    )
