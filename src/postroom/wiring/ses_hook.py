"""Who hears Amazon SES at the door, put together."""

from __future__ import annotations

from postroom.events.group_commit import GroupCommit
from postroom.events.ses.sns import SnsVerifier
from postroom.events.ses.sns_client import SnsClient
from postroom.events.ses.webhook import SesRecords, SesWebhook
from postroom.platform.mail.ses_url import sns_endpoint
from postroom.settings import Settings
from postroom.wiring.ledger import Ledger
from postroom.wiring.stores import Stores


def ses_hook(settings: Settings, stores: Stores, ledger: Ledger) -> SesWebhook:
    """Believes the settings' topics. `Invalid`: AWS's own variables name no place where SNS could be."""
    records = SesRecords(ledger.tenants, ledger.campaigns, stores.messages, ledger.suppression)
    pages = SnsClient(stores.clock, endpoint=sns_endpoint(settings.aws.variables))
    return SesWebhook(SnsVerifier(settings.ses_topics, pages, stores.clock), records, GroupCommit(ledger.arrivals.put).put)
