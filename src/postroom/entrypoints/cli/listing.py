"""All messages of a campaign, and its files, for commands that show them."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from postroom.model.campaign import CampaignRef
from postroom.model.message import Message, MessageStatus
from postroom.services.exports import CampaignExports
from postroom.wiring import Container


def exports(postroom: Container) -> CampaignExports:
    """The same files as over HTTP."""
    return CampaignExports(postroom.records, postroom.messages, postroom.objects)


def every_message(postroom: Container, ref: CampaignRef, statuses: Collection[MessageStatus] = ()) -> Iterator[Message]:
    """Of these states (none named: all); none where nothing is imported yet."""
    return exports(postroom).every_message(ref, statuses)
