"""The HTTP application of an installation: every service behind one door."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI

from postroom.gateway.app import create_app
from postroom.gateway.frame import Frame
from postroom.gateway.rates import Rates
from postroom.gateway.recorder import LedgerRecorder
from postroom.gateway.routes.audit import audit_routes
from postroom.gateway.routes.callbacks import callbacks_routes
from postroom.gateway.routes.campaign_messages import campaign_message_routes
from postroom.gateway.routes.campaigns import Desk, campaign_routes
from postroom.gateway.routes.dkim import dkim_routes
from postroom.gateway.routes.erasures import erasure_routes
from postroom.gateway.routes.health import health_routes
from postroom.gateway.routes.hooks import hooks_routes
from postroom.gateway.routes.keys import keys_routes
from postroom.gateway.routes.messages import message_routes, template_test_routes
from postroom.gateway.routes.providers import providers_routes
from postroom.gateway.routes.senders import sender_routes
from postroom.gateway.routes.status import status_routes
from postroom.gateway.routes.suppressions import suppression_routes
from postroom.gateway.routes.templates import templates_routes
from postroom.gateway.routes.tenants import tenants_routes
from postroom.gateway.routes.tracking import tracking_routes
from postroom.gateway.routes.transfers import transfers_routes
from postroom.gateway.routes.unsubscribe import unsubscribe_routes
from postroom.gateway.routes.uploads import uploads_routes
from postroom.gateway.routes.users import users_routes
from postroom.gateway.status_board import StatusBoard
from postroom.issuer.routes import issuer_routes
from postroom.model.access import BUILT_IN
from postroom.model.tenant import DEFAULT_TENANT
from postroom.wiring import Postroom


def application(postroom: Postroom, board: StatusBoard | None = None) -> FastAPI:
    """All services behind one door. `board`: closed by whoever closes the door, so that nobody waits for a change any longer."""
    return create_app(frame(postroom), routers(postroom, board))


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


def routers(postroom: Postroom, board: StatusBoard | None = None) -> Iterator[APIRouter]:
    """A router a service; each would stand behind a door of its own as well."""
    board = board or StatusBoard(postroom.status, postroom.clock)
    mail = _mail_prefixes(postroom)
    yield tracking_routes(postroom.tracking, mail)  # the most often called first: routes are tried one after the other
    yield unsubscribe_routes(postroom.unsubscribing, postroom.letterhead.of, mail)
    yield health_routes(_checks(postroom))
    yield templates_routes(postroom.templates, rows=postroom.uploads.row)
    yield template_test_routes(postroom.singles, postroom.identities.first_address)
    yield uploads_routes(postroom.uploads)
    if postroom.stores.machine is not None:
        yield transfers_routes(postroom.objects, postroom.stores.machine.transfers)
    yield campaign_routes(_campaign_desk(postroom, board))
    yield campaign_message_routes(postroom.reading, postroom.exports)
    yield status_routes(board)
    yield message_routes(postroom.singles)
    yield suppression_routes(postroom.suppressions)
    yield erasure_routes(postroom.erasure_requests)
    yield sender_routes(postroom.senders)
    yield dkim_routes(postroom.senders, postroom.dkim)
    yield providers_routes(postroom.provider_verbs)
    yield callbacks_routes(postroom.callback_desk, postroom.secrets)
    yield tenants_routes(postroom.tenants)
    yield users_routes(postroom.members, issuer=postroom.settings.issuer or BUILT_IN)
    yield keys_routes(postroom.api_keys, postroom.secrets)
    yield audit_routes(postroom.audit)
    if postroom.settings.ses_topics:
        yield hooks_routes(postroom.ses_hook.take)
    if postroom.issuer is not None:
        yield issuer_routes(postroom.issuer)


def _mail_prefixes(postroom: Postroom) -> list[str]:
    """What may stand before `/t/` and `/u/`: the public URL's path, and nothing, where a proxy takes that away. Without a public
    URL too: there may have been one, and mail of that time still leads here."""
    return sorted({"", urlsplit(postroom.settings.public_url or "").path})


def _campaign_desk(postroom: Postroom, board: StatusBoard) -> Desk:
    return Desk(
        campaigns=postroom.campaigns,
        orders=postroom.orders,
        edits=postroom.edits,
        changes=postroom.changes,
        dry_run=postroom.dry_run,
        changed=board.forget,
    )


def _checks(postroom: Postroom) -> list[tuple[str, Callable[[], object]]]:
    """What a door needs; each raises when it does not work."""
    return [
        ("tables", lambda: postroom.tenants.read(DEFAULT_TENANT)),
        ("objects", lambda: postroom.objects.info("readiness")),
        ("secrets", lambda: postroom.secrets.open("readiness", postroom.secrets.seal("readiness", b""))),
    ]
