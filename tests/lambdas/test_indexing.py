"""Messages stand in the search index as they stand in the records, whatever order and however often changes come."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from postroom.clock import Instant
from postroom.entrypoints.lambdas import streams
from postroom.errors import Denied, Unavailable
from postroom.model.campaign import CampaignRef
from postroom.model.event import Bounce, BounceClass, BounceType, Event, EventKind
from postroom.model.ids import Key
from postroom.model.message import MessageStatus
from postroom.model.tokens import message_id
from postroom.platform.aws.search import INDEX, SearchIndex
from postroom.platform.ports.feed import MessageChange
from tests.lambdas.kit import Context, installed

HOME = CampaignRef("default", "2" * 16)
BOUNCED = Event(
    kind=EventKind.BOUNCED,
    attempt=1,
    at=Instant(1_790_000_000_000),
    id="e",
    source="ses",
    bounce=Bounce(BounceType.HARD, BounceClass.MAILBOX, "5.1.1"),
    detail="550 anna@example.net is unknown",
)


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """OpenSearch, as an emulator has it."""
    package = importlib.util.find_spec("osmem_server")
    if package is None or package.origin is None:
        pytest.skip("no emulator of OpenSearch here: `make test` installs it")
    program = Path(package.origin).parent / "bin" / "osmem-server"
    words = [str(program), "-no-ja", "-addr", "127.0.0.1:0"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()


def change(number: int, state: MessageStatus, sequence: int, event: Event | None = None) -> MessageChange:
    key, at = Key(number.to_bytes(12, "big")), Instant(1_790_000_000_000 + sequence)
    return MessageChange(HOME, 3, key, state, 1, at, 250, "ok anna@example.net", event, sequence, at)


def found(engine: str) -> dict[str, Any]:
    """What is indexed, by message."""
    with urllib.request.urlopen(f"{engine}/{INDEX}/_search?size=100", timeout=5) as answer:
        hits = json.load(answer)["hits"]["hits"]
    return {hit["_source"]["message"]: hit["_source"] for hit in hits}


def test_a_message_stands_as_its_newest_change_says(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streams._index.cache_clear()
    monkeypatch.setattr(streams, "changes_of", list)
    with installed(tmp_path, monkeypatch, streams, POSTROOM_AWS_SEARCH=engine):
        batches: list[Sequence[MessageChange]] = [
            [change(1, MessageStatus.SENT, 2), change(2, MessageStatus.PENDING, 1), change(1, MessageStatus.PENDING, 1)],
            [change(1, MessageStatus.BOUNCED, 3, BOUNCED)],
            [change(1, MessageStatus.SENT, 2), change(2, MessageStatus.PENDING, 1)],
            [],
        ]
        for batch in batches:
            streams.index_messages({"Records": batch}, Context())
    streams._index.cache_clear()
    documents = found(engine)
    one, two = (message_id(HOME, Key(number.to_bytes(12, "big"))) for number in (1, 2))
    assert documents.keys() == {one, two}
    assert (documents[one]["status"], documents[one]["event"], documents[one]["bounce_class"]) == (
        "bounced",
        "bounced",
        "mailbox",
    )
    assert documents[two]["status"] == "pending"
    assert "anna" not in json.dumps(documents), "nothing that names anybody"


def test_another_process_finds_the_index_made(engine: str) -> None:
    for _ in range(2):
        assert SearchIndex(engine).put([change(9, MessageStatus.SENT, 5)]) == 0


class Scripted:
    """An index that answers as told."""

    def __init__(self, status: int, item: int = 200) -> None:
        self.status_code = status
        self.content = json.dumps({"items": [{"index": {"status": item}}]}).encode()

    def send(self, _request: object) -> Scripted:
        return self


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Scripted(503), Unavailable),
        (Scripted(429), Unavailable),
        (Scripted(403), Denied),
        (Scripted(200, 429), Unavailable),
        (Scripted(200, 503), Unavailable),
    ],
)
def test_what_the_index_cannot_take_now_comes_again(answer: Scripted, error: type[Exception]) -> None:
    with pytest.raises(error):
        scripted(answer).put([change(1, MessageStatus.SENT, 1)])


@pytest.mark.parametrize(("item", "refused"), [(201, 0), (409, 0), (400, 1)])
def test_what_it_refuses_for_good_is_counted_and_something_newer_is_no_refusal(item: int, refused: int) -> None:
    assert scripted(Scripted(200, item)).put([change(1, MessageStatus.SENT, 1)]) == refused


def test_an_index_that_is_not_there_is_asked_again() -> None:
    with pytest.raises(Unavailable):
        SearchIndex("http://127.0.0.1:9").put([change(1, MessageStatus.SENT, 1)])


def test_requests_over_tls_are_signed_for_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKID",
        "AWS_SECRET_ACCESS_KEY": "key",
        "AWS_SESSION_TOKEN": "session",
        "AWS_DEFAULT_REGION": "eu-west-1",
    }.items():
        monkeypatch.setenv(name, value)
    sent: list[Any] = []
    index = SearchIndex("https://search.example")

    class Noting(Scripted):
        def send(self, request: object) -> Scripted:
            sent.append(request)
            return self

    monkeypatch.setattr(index, "_http", Noting(200))
    index.put([change(1, MessageStatus.SENT, 1)])
    for request in sent:
        assert "/eu-west-1/es/aws4_request" in str(request.headers["Authorization"])
        assert request.headers["X-Amz-Security-Token"] in ("session", b"session")
    assert [request.url for request in sent] == [f"https://search.example/{INDEX}", "https://search.example/_bulk"]


def scripted(answer: Scripted) -> SearchIndex:
    index = SearchIndex("http://127.0.0.1:9")
    index._http = answer  # type: ignore[assignment]
    index._is_made = True
    return index
