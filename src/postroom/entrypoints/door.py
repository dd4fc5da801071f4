"""The door: the HTTP application of this installation, under uvicorn, as one process."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI

from postroom.entrypoints.process import Stop, attended
from postroom.gateway.app import create_app
from postroom.gateway.frame import Frame
from postroom.gateway.rates import Rates
from postroom.gateway.recorder import LedgerRecorder
from postroom.gateway.routes.audit import audit_routes
from postroom.gateway.routes.campaign_messages import campaign_message_routes
from postroom.gateway.routes.campaigns import Desk, campaign_routes
from postroom.gateway.routes.health import health_routes
from postroom.gateway.routes.keys import keys_routes
from postroom.gateway.routes.messages import message_routes, template_test_routes
from postroom.gateway.routes.providers import providers_routes
from postroom.gateway.routes.senders import sender_routes
from postroom.gateway.routes.status import status_routes
from postroom.gateway.routes.suppressions import suppression_routes
from postroom.gateway.routes.templates import templates_routes
from postroom.gateway.routes.tenants import tenants_routes
from postroom.gateway.routes.transfers import transfers_routes
from postroom.gateway.routes.uploads import uploads_routes
from postroom.gateway.routes.users import users_routes
from postroom.gateway.status_board import StatusBoard
from postroom.issuer.routes import issuer_routes
from postroom.model.access import BUILT_IN
from postroom.model.tenant import DEFAULT_TENANT
from postroom.settings import Settings
from postroom.wiring import Postroom

_LOOK_S = 0.1
_GRACE_S = 15
"""For calls under way when the door is to close; the longest poll is told to end before."""
_IDLE_S = 30
"""How long a connection may stay open between two calls: longer than the proxies' usual pool time costs nothing."""


def application(postroom: Postroom) -> FastAPI:
    """All services behind one door."""
    return create_app(frame(postroom), routers(postroom))


def frame(postroom: Postroom) -> Frame:
    """What surrounds the services."""
    settings = postroom.settings
    return Frame(
        authenticator=postroom.authenticator,
        clock=postroom.clock,
        url=settings.door_url,
        issuer=settings.issuer or "",
        tables=postroom.tables,
        secrets=postroom.secrets,
        audit=LedgerRecorder(postroom.audit, postroom.clock),
        rates=Rates.of(settings.api_rate),
        trusted_proxies=settings.trusted_proxies,
        cors_origins=settings.cors_origins,
    )


def routers(postroom: Postroom) -> Iterator[APIRouter]:
    """A router a service; each would stand behind a door of its own as well."""
    board = StatusBoard(postroom.status, postroom.clock)
    yield health_routes([("stores", lambda: _try_stores(postroom))])
    yield templates_routes(postroom.templates, rows=postroom.uploads.row)
    yield template_test_routes(postroom.singles, postroom.identities.first_address)
    yield uploads_routes(postroom.uploads)
    yield transfers_routes(postroom.objects, postroom.stores.transfers)
    yield campaign_routes(_campaign_desk(postroom, board))
    yield campaign_message_routes(postroom.reading, postroom.exports)
    yield status_routes(board)
    yield message_routes(postroom.singles)
    yield suppression_routes(postroom.suppressions)
    yield sender_routes(postroom.senders)
    yield providers_routes(postroom.provider_verbs)
    yield tenants_routes(postroom.tenants)
    yield users_routes(postroom.members, issuer=postroom.settings.issuer or BUILT_IN)
    yield keys_routes(postroom.api_keys, postroom.secrets)
    yield audit_routes(postroom.audit)
    if postroom.issuer is not None:
        yield issuer_routes(postroom.issuer)


def _campaign_desk(postroom: Postroom, board: StatusBoard) -> Desk:
    return Desk(
        campaigns=postroom.campaigns,
        orders=postroom.orders,
        edits=postroom.edits,
        changes=postroom.changes,
        dry_run=postroom.dry_run,
        changed=board.forget,
    )


def _try_stores(postroom: Postroom) -> None:
    """`Unavailable` and the like: they cannot be read."""
    postroom.tenants.read(DEFAULT_TENANT)
    postroom.objects.info("readiness")


def run(postroom: Postroom, door: socket.socket) -> None:
    """Answer on a socket that listens already, until told to stop."""
    server = _Server(_config(application(postroom), postroom.settings))

    async def serve(stop: Stop) -> None:
        serving = asyncio.create_task(server.serve([door]))
        stopping = asyncio.create_task(stop.event.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving

    uvloop.run(attended(serve))


class _Server(uvicorn.Server):
    """Signals are the process frame's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        loop="none",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=True,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_GRACE_S,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return config
