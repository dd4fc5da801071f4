"""Whether an upload is still read: a campaign that has not imported it yet would fail without it."""

from __future__ import annotations

from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import CampaignStatus

_READING = frozenset({CampaignStatus.DRAFT, CampaignStatus.IMPORTING})


class UploadUse:
    """`services.uploads.InUse`. Attachments are copied when a campaign is made, recipients when they are imported."""

    def __init__(self, campaigns: Campaigns) -> None:
        self._campaigns = campaigns

    def __call__(self, tenant: str, upload_id: str) -> bool:
        """Looks at the campaigns that were made after the upload: both ids begin with their time."""
        cursor: str | None = None
        while True:
            page = self._campaigns.list(tenant, cursor=cursor)
            for campaign in page.campaigns:
                if campaign.ref.campaign < upload_id:
                    return False
                if campaign.upload_id == upload_id and campaign.status in _READING:
                    return True
            cursor = page.cursor
            if cursor is None:
                return False
