"""A campaign whose items another release wrote in another format is refused, and stays as it is."""

from __future__ import annotations

from typing import Any

import pytest

from postroom.clock import Instant
from postroom.errors import Unsupported
from postroom.model.campaign import CampaignRef
from postroom.platform.aws._ledger import FORMAT, campaign_key
from postroom.platform.aws.messages import DynamoMessages
from tests.contract.aws_backend import TABLE, AwsBackend

CAMPAIGN = CampaignRef("acme", "spring")


@pytest.mark.parametrize(("found", "writer"), [(None, "older"), (FORMAT - 1, "older"), (FORMAT + 1, "newer")])
def test_another_format_is_refused_by_name(backend: AwsBackend, found: int | None, writer: str) -> None:
    messages: DynamoMessages = backend.messages()
    messages.create(CAMPAIGN, 2)
    at = campaign_key(CAMPAIGN)
    item: dict[str, Any] = {"pk": {"S": at.pk}, "sk": {"S": at.sk}, "batches": {"N": "2"}}
    if found is not None:
        item["format"] = {"N": str(found)}
    client = backend.account.dynamodb()
    client.put_item(TableName=TABLE, Item=item)
    with pytest.raises(Unsupported, match=rf"{writer} Postroom \(format {found or 1}, this one reads {FORMAT}\)"):
        messages.recount(CAMPAIGN)
    with pytest.raises(Unsupported):
        messages.open(CAMPAIGN, 0, "worker", Instant(0), lease_ms=1_000)
    assert client.get_item(TableName=TABLE, Key={"pk": {"S": at.pk}, "sk": {"S": at.sk}})["Item"] == item
    client.close()
