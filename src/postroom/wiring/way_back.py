"""How mail comes back: by SMTP to a listener, or to a mailbox that is looked into; behind both one mailroom."""

from __future__ import annotations

import ssl
from collections.abc import Callable

from postroom.errors import Invalid
from postroom.events.bounce_parser.mime import MAX_PARSED_BYTES
from postroom.events.inbound_mail import InboundMailProcessor
from postroom.events.mailbox_poller import MailboxPoller
from postroom.events.tracking import TenantSecretCache
from postroom.events.unsubscribe import UnsubscribeService
from postroom.ledger.suppression import SuppressionList
from postroom.platform.mail.listener import MAX_BYTES, Listener
from postroom.platform.mail.listener_session import ListenerConfig
from postroom.platform.mail.mailbox import Mailbox
from postroom.platform.mail.mailbox_url import parse_mailbox
from postroom.settings import Settings
from postroom.wiring.postroom import Postroom


def check_way_back(settings: Settings) -> None:
    """`Invalid`: what the settings say of it cannot be used."""
    if settings.feedback_listen is not None and settings.bounce_domain is None:
        raise Invalid("POSTROOM_FEEDBACK_LISTEN needs POSTROOM_BOUNCE_DOMAIN: else no mail that comes in is ours")
    if settings.feedback_mailbox is not None:
        parse_mailbox(settings.feedback_mailbox)


def listener(postroom: Postroom) -> Listener:
    """Takes mail to the bounce domain."""
    settings = postroom.settings
    terms = ListenerConfig(name=settings.bounce_domain or "localhost", max_bytes=MAX_BYTES, kept_bytes=MAX_PARSED_BYTES)
    return Listener(_mailroom(postroom), terms, tls=_certificate(settings))


def collecting(postroom: Postroom, trouble: Callable[[str], None]) -> MailboxPoller | None:
    """Looks into the mailbox, if there is one. `Invalid`."""
    url = postroom.settings.feedback_mailbox
    if url is None:
        return None
    mailbox = Mailbox(parse_mailbox(url), kept_bytes=MAX_PARSED_BYTES)
    return MailboxPoller(mailbox, _mailroom(postroom), postroom.tables, on_trouble=trouble)


def _mailroom(postroom: Postroom) -> InboundMailProcessor:
    tenants, clock = postroom.tenants, postroom.clock
    return InboundMailProcessor(
        postroom.arrivals,
        UnsubscribeService(tenants, SuppressionList(postroom.tables, clock), postroom.arrivals, clock),
        secret_of=TenantSecretCache(tenants, clock),
        domain=postroom.settings.bounce_domain,
        clock=clock,
    )


def _certificate(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_certificate is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    return context
