"""Only what was sealed here is recorded and leads anywhere; the answer comes from memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.errors import Corrupt, Invalid, NotFound
from postroom.events.machine_detection import TrackingRequest
from postroom.events.tracking import NotCached
from postroom.model.campaign import CampaignRef
from postroom.model.event import MAX_URL, EventKind
from postroom.model.ids import Key
from postroom.model.message import MessageRow
from postroom.model.tenant import Tenant
from postroom.model.tokens import TokenSealer, parse_tracking_token
from tests.events.tracking_kit import ANNA, BROWSER, CAMPAIGN, Web
from tests.fakes.ledger import bench

SHOP, NEWS = "https://shop.example/?a=1", "http://news.example/"


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with bench(tmp_path) as made:
        web = Web(made, tmp_path)
        yield web
        web.close()


def test_an_open_is_told_of_the_attempt_that_its_token_names(web: Web) -> None:
    web.tracking.prepare(token := web.token(batch=7, attempt=2))
    web.tracking.opened(token, BROWSER)
    (told,) = web.arrived()
    assert (told.tenant, told.campaign, told.batch, told.key) == (0, CAMPAIGN, 7, ANNA)
    event = told.event
    assert (event.kind, event.attempt, event.source, event.machine) == (EventKind.OPENED, 2, "tracking", False)
    assert (event.at, event.detail, event.url) == (web.made.clock.now(), BROWSER.agent, "")


def test_a_click_leads_where_the_campaigns_table_says_and_is_told(web: Web) -> None:
    web.table([SHOP, NEWS])
    token = web.token()
    web.tracking.prepare(f"{token}.1")
    assert web.tracking.clicked(f"{token}.1", BROWSER) == NEWS
    assert web.tracking.clicked(f"{token}.0", BROWSER) == SHOP
    assert [(each.event.kind, each.event.url) for each in web.arrived()] == [(EventKind.CLICKED, NEWS), (EventKind.CLICKED, SHOP)]


def test_a_personal_link_leads_where_it_was_sealed_to(web: Web) -> None:
    token, url = web.token(), f"https://shop.example/für/anna?{'x' * 900}"
    web.tracking.prepare(token)
    assert web.tracking.clicked(token + web.sealer().personal(token, url), BROWSER) == url
    (told,) = web.arrived()
    assert told.event.url == url[:MAX_URL]


def test_a_single_messages_link_leads_where_its_contents_table_says(web: Web) -> None:
    token = web.single([SHOP])
    web.tracking.prepare(f"{token}.0")
    assert web.tracking.clicked(f"{token}.0", BROWSER) == SHOP


def test_what_nothing_is_left_of_leads_nowhere(web: Web) -> None:
    """A campaign that is gone; a stream; a message; one whose recipient was erased."""
    single = web.single([SHOP])
    stream = parse_tracking_token(single, lambda number: web.tenant.secret).message.campaign
    erased = Key(b"e" * 12)
    ref = CampaignRef("default", stream)
    web.made.messages.store(ref, [MessageRow(3, erased, 2, "", None, "[]")], web.made.clock.now())
    for gone in (
        web.token(),
        web.token(f"{stream[:-2]}yf"),
        web.token(stream, key=Key(b"z" * 12)),
        web.token(stream, key=erased),
    ):
        with pytest.raises(NotFound):
            web.tracking.prepare(f"{gone}.0")
    web.tracking.prepare(f"{single}.0")


def test_a_table_that_cannot_be_read_is_said_to_be(web: Web) -> None:
    web.objects.put(f"default/campaigns/{CAMPAIGN}/links.json", b"{")
    with pytest.raises(Corrupt):
        web.tracking.prepare(f"{web.token()}.0")


def test_nothing_but_our_own_tokens_is_recorded_or_leads_anywhere(web: Web) -> None:
    web.table([SHOP, "javascript:alert(1)"])
    token = web.token()
    web.tracking.prepare(f"{token}.0")
    others = TokenSealer(Tenant("default", 0, b"x" * 32), CAMPAIGN)
    strange = others.recipient(3, ANNA, 1)
    own = web.sealer()
    personal = own.personal(token, "https://good.example/")
    foreign = own.personal(web.token(key=Key(b"b" * 12)), "https://evil.example/")
    damaged = ["", "x", token[:-1], token + "x", strange, token.swapcase(), "é" * 52, token[:20]]
    for text in (*damaged, f"{token}.0"):
        with pytest.raises((Invalid, NotFound)):
            web.tracking.opened(text, BROWSER)
    links = [f"{each}.0" for each in damaged]
    links += [token, f"{token}.", f"{token}.2", f"{token}.-1", f"{token}.1", f"{token}.0.0", f"{token}.999999", f"{token}.1e3"]
    links += [token + foreign, token + personal[:-1], token + personal + "x", strange + personal, f"{token}.~"]
    links += [token + own.personal(token, "javascript:alert(1)"), strange + others.personal(strange, "https://evil.example/")]
    for text in links:
        with pytest.raises((Invalid, NotFound)):
            web.tracking.clicked(text, BROWSER)
    assert web.arrived() == []


def test_a_number_that_no_tenant_has_is_asked_for_and_not_found(web: Web) -> None:
    token = TokenSealer(Tenant("nobody", 99, b"x" * 32), CAMPAIGN).recipient(3, ANNA, 1)
    with pytest.raises(NotCached):
        web.tracking.opened(token, BROWSER)
    with pytest.raises(NotFound):
        web.tracking.prepare(token)


def test_the_answer_asks_no_store(web: Web) -> None:
    """Once the campaign is known: neither for others of its recipients."""
    web.table([SHOP])
    single = web.single([NEWS])
    with pytest.raises(NotCached):
        web.tracking.opened(web.token(), BROWSER)
    web.tracking.prepare(f"{web.token()}.0")
    web.tracking.prepare(f"{single}.0")
    asked = len(web.asked.calls)
    for number in range(10):
        token = web.token(key=Key(bytes([number]) * 12))
        web.tracking.opened(token, BROWSER)
        web.tracking.clicked(f"{token}.0", BROWSER)
    web.tracking.clicked(f"{single}.0", BROWSER)
    assert asked
    assert len(web.asked.calls) == asked


def test_tables_are_remembered_as_far_as_there_is_room(tmp_path: Path) -> None:
    with bench(tmp_path) as made:
        web = Web(made, tmp_path, most_links=2_000)
        tokens = []
        for letter in "abcde":
            web.table([f"https://{letter}.example/"] * 4, letter * 16)
            tokens.append(f"{web.token(letter * 16)}.0")
            web.tracking.prepare(tokens[-1])
        kept = [letter for letter, token in zip("abcde", tokens, strict=True) if is_prepared(web, token)]
        assert kept == ["c", "d", "e"]
        web.close()


def is_prepared(web: Web, token: str) -> bool:
    try:
        web.tracking.clicked(token, BROWSER)
    except NotCached:
        return False
    return True


def test_the_same_within_seconds_is_one_event(web: Web) -> None:
    """But another link is another, and so is a hit of another program: a scanner's does not stand for a person's."""
    web.table([SHOP, NEWS])
    token = web.token()
    web.tracking.prepare(f"{token}.0")
    for _ in range(3):
        web.tracking.opened(token, TrackingRequest(f"{BROWSER.agent} too"))
        web.tracking.opened(token, TrackingRequest(BROWSER.agent, head=True))
        web.tracking.opened(token, BROWSER)
        web.tracking.clicked(f"{token}.0", BROWSER)
        web.tracking.clicked(f"{token}.1", BROWSER)
    assert [each.event.machine for each in web.arrived()] == [False, True, False, False, False]
    web.tracking.opened(token, BROWSER)
    (first,) = web.arrived()
    web.made.clock.advance(10)
    web.tracking.opened(token, BROWSER)
    (second,) = web.arrived()
    assert first.event.id != second.event.id


def test_a_machines_hit_is_told_as_one_with_the_reason(web: Web) -> None:
    web.tracking.prepare(token := web.token())
    web.tracking.opened(token, TrackingRequest(BROWSER.agent, head=True))
    (told,) = web.arrived()
    assert told.event.machine
    assert told.event.detail == f"asked for the head only: {BROWSER.agent}"
