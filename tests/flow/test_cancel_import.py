"""A campaign that is cancelled while it is imported leaves nobody waiting, also of the rows that were just being stored."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from postroom.clock import Instant
from postroom.entrypoints.server.worker import WORKERS, WorkflowLoop, import_handler
from postroom.ledger import scheduler_messages
from postroom.model.campaign import CampaignRef, CampaignSpec, CampaignStatus, Content
from postroom.model.message import MessageRow
from postroom.platform.embedded.messages import SqliteMessages
from postroom.services.campaign_creation import CampaignParts
from postroom.settings import Settings
from postroom.wiring import Container, open_app

ROWS = 40


@pytest.fixture
def postroom(tmp_path: Path) -> Iterator[Container]:
    with open_app(Settings.load({"POSTROOM_DATA": str(tmp_path)}, None, {})) as postroom:
        yield postroom


def importing(postroom: Container) -> CampaignRef:
    spec = CampaignSpec(name="test", content=Content(from_="news@example.com", subject="Hello"))
    parts = CampaignParts(html="<p>Hello</p>")
    upload = "email\n" + "".join(f"p{number}@a.example\n" for number in range(ROWS))
    return postroom.campaign_creator.create("default", spec, parts, io.BytesIO(upload.encode()), filename="people.csv").ref


@pytest.mark.parametrize("before", [True, False])
def test_rows_stored_after_the_cancelling_are_skipped_too(
    postroom: Container, monkeypatch: pytest.MonkeyPatch, before: bool
) -> None:
    ref = importing(postroom)
    store = SqliteMessages.store
    skipped: list[int] = []

    def cancelled_meanwhile(messages: SqliteMessages, ref: CampaignRef, rows: Sequence[MessageRow], now: Instant) -> list[int]:
        if before:
            skipped.append(postroom.campaigns.cancel(ref))
        winners = store(messages, ref, rows, now)
        if not before:
            skipped.append(postroom.campaigns.cancel(ref))
        return winners

    monkeypatch.setattr(SqliteMessages, "store", cancelled_meanwhile)
    assert WorkflowLoop(
        postroom, scheduler_messages.IMPORT, import_handler(postroom, threading.Event()), owner="worker", group=WORKERS
    ).once()
    counts = postroom.messages.counts(ref)
    assert skipped == [0 if before else ROWS]
    assert (counts.skipped, counts.waiting, counts.total) == (ROWS, 0, ROWS)
    assert postroom.records.get(ref).status is CampaignStatus.CANCELLED
    assert postroom.workflows.running(scheduler_messages.IMPORT) == []
