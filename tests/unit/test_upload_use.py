"""An upload is in use until the campaign made from it has imported it."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.model.campaign import CampaignRef, CampaignStatus
from postroom.model.ids import decode, encode
from postroom.services.uploads import UploadUsage
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.fakes.ledger import Bench, bench

UPLOAD, LATER, EARLIER = "4" * 16, "5" * 16, "3" * 16


def campaign(made: Bench, campaign_id: str, state: CampaignStatus, upload_id: str | None = UPLOAD, tenant: str = "acme") -> None:
    made.campaigns.create(
        campaign_record(CampaignRef("acme", campaign_id), state, made.clock.now(), spec=campaign_spec(upload_id=upload_id))
    )


@pytest.mark.parametrize("state", list(CampaignStatus))
def test_until_it_is_imported(tmp_path: Path, state: CampaignStatus) -> None:
    with bench(tmp_path) as made:
        campaign(made, LATER, state)
        assert UploadUsage(made.campaigns)("acme", UPLOAD) == (state in {CampaignStatus.DRAFT, CampaignStatus.IMPORTING})
        assert not UploadUsage(made.campaigns)("other", UPLOAD)


def test_only_campaigns_made_after_it_are_looked_at_and_all_of_these(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        for number in range(150):
            campaign(made, encode(decode(LATER) + 1 + number, 16), CampaignStatus.READY, upload_id=None)
        assert not UploadUsage(made.campaigns)("acme", UPLOAD)
        campaign(made, LATER, CampaignStatus.IMPORTING)
        assert UploadUsage(made.campaigns)("acme", UPLOAD)


def test_a_campaign_from_before_it_ends_the_search(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        campaign(made, EARLIER, CampaignStatus.IMPORTING)
        assert not UploadUsage(made.campaigns)("acme", UPLOAD)
