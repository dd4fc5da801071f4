"""Campaign records for tests, with what a test does not care about filled in."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from postroom.clock import Instant
from postroom.ledger.campaigns import Campaigns
from postroom.model.campaign import Campaign, CampaignRef, CampaignSpec, CampaignStatus, Content, Import, StoredFiles


def campaign_spec(name: str = "test", *, topic: str | None = None, **fields: Any) -> CampaignSpec:
    """From news@example.com, subject "Hello"."""
    return CampaignSpec(name=name, content=Content(from_="news@example.com", subject="Hello", topic=topic), **fields)


def campaign_record(
    ref: CampaignRef,
    status: CampaignStatus,
    created_at: Instant,
    *,
    spec: CampaignSpec | None = None,
    source: Import | None = None,
    **fields: Any,
) -> Campaign:
    """A record whose files and upload are named, not stored."""
    source = source or Import("upload", "people.csv")
    return Campaign(ref, spec or campaign_spec(), status, StoredFiles("html"), source, created_at, **fields)


def change_spec(campaigns: Campaigns, campaign: Campaign, **fields: Any) -> Campaign:
    """Store the campaign with other fields of its spec."""
    return campaigns.change(campaign, spec=replace(campaign.spec, **fields))
