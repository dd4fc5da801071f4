"""What makes a message of a template and a row, put together."""

from __future__ import annotations

from postroom.delivery.compose import ContentCompiler
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def composing(settings: Settings, stores: Stores, ledger: Ledger) -> ContentCompiler:
    """What makes a message of a template and a row."""
    return ContentCompiler(
        ledger.tenants,
        stores.objects,
        public_url=settings.public_url,
        bounce_domain=settings.bounce_domain,
        mail_comes_back=mail_comes_back(settings),
        keys=ledger.dkim,
    )


def mail_comes_back(settings: Settings) -> bool:
    """Whether somebody reads what is written to the bounce domain."""
    return settings.bounce_domain is not None and bool(settings.feedback_listen or settings.feedback_mailbox)
