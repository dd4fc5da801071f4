"""What the embedded backend leaves of an erased recipient: nothing in the feed, nothing in the bytes of its file."""

from __future__ import annotations

import pytest

from postroom.platform.ports.messages import Messages
from tests.contract.embedded_backend import EmbeddedBackend
from tests.contract.messages_kit import CAMPAIGN, S, at, key, opened, outcome, record, stored

pytestmark = pytest.mark.backends("embedded")


def test_the_feed_tells_no_reply_of_it_any_more_and_that_it_changed(backend: EmbeddedBackend, messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0, S.BOUNCED), outcome(1, S.BOUNCED)])
    feed, shard = backend.feed(), "acme/spring"
    position = feed.read(shard, None).position
    messages.erase(CAMPAIGN, 0, fence, key(1), at(9))
    replies = {
        (change.key, change.status): change.reply for change in feed.read(shard, None).changes if change.status is S.BOUNCED
    }
    assert replies == {(key(0), S.BOUNCED): "2.0.0 queued as 0", (key(1), S.BOUNCED): ""}
    (told,) = feed.read(shard, position).changes
    assert (told.key, told.status, told.attempt, told.reply) == (key(1), S.BOUNCED, 1, "")


def test_nothing_of_it_stays_in_the_file(backend: EmbeddedBackend, messages: Messages) -> None:
    stored(messages, 0)
    fence = opened(messages)
    record(messages, fence, [outcome(0, S.BOUNCED), outcome(1, S.BOUNCED)])
    messages.erase(CAMPAIGN, 0, fence, key(1), at(9))
    messages._ledgers.close()  # type: ignore[attr-defined]  # the last connection moves the log into the file
    (path,) = (backend.root / "ledgers").glob("*/*.db")
    assert not path.with_name(path.name + "-wal").exists()
    content = path.read_bytes()
    assert b"r0@example.org" in content
    for trace in (b"r1@example.org", b"queued as 1", "Nº 1".encode()):
        assert trace not in content
