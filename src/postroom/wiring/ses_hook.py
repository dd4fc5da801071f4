"""Who hears Amazon SES at the door, put together."""

from __future__ import annotations

from postroom.events.group_commit import Together
from postroom.events.ses.sns import SnsPages, Verifier
from postroom.events.ses.webhook import Records, SesHook
from postroom.platform.mail.ses_url import sns_endpoint
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def ses_hook(settings: Settings, stores: Stores, ledger: Ledger) -> SesHook:
    """Believes the settings' topics. `Invalid`: AWS's own variables name no place where SNS could be."""
    records = Records(ledger.tenants, ledger.campaigns, stores.messages, ledger.suppression)
    pages = SnsPages(stores.clock, endpoint=sns_endpoint(settings.aws.variables))
    return SesHook(Verifier(settings.ses_topics, pages, stores.clock), records, Together(ledger.arrivals.put).put)
