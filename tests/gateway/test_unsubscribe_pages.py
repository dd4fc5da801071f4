"""The page where people say that they want no more mail: seeing it changes nothing, and what is said is done when it is answered."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient

from postroom.clock import SystemClock
from postroom.errors import Unavailable
from postroom.events.unsubscribe import SubscriptionState
from postroom.gateway.app import create_app
from postroom.gateway.rate_limits import ApiRates
from postroom.gateway.recipient_pages import language_of, languages
from postroom.gateway.routes.public import unsubscribe_routes
from postroom.gateway.state import GatewayConfig
from postroom.ledger.suppression import SuppressionReason
from postroom.model.event import EventKind
from tests.events.test_unsubscribe import ANNA, BEN, UnsubscribeSetup
from tests.fakes.ledger import bench
from tests.gateway.kit import Believer

FRAME = GatewayConfig(authenticator=Believer(), clock=SystemClock())
ONE_CLICK = "List-Unsubscribe=One-Click"
FORM = "application/x-www-form-urlencoded"
HOSTILE = '<script>alert("x")</script>&"{topic}'
UNSUBSCRIBED, RESUBSCRIBED = EventKind.UNSUBSCRIBED, EventKind.RESUBSCRIBED


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[UnsubscribeSetup]:
    with bench(tmp_path) as made:
        yield UnsubscribeSetup(made)


@pytest.fixture
def client(desk: UnsubscribeSetup) -> Iterator[TestClient]:
    with client_of(desk) as client:
        yield client


def client_of(
    desk: UnsubscribeSetup, frame: GatewayConfig = FRAME, sender: str = "Weekly Okapi", prefixes: tuple[str, ...] = ("",)
) -> TestClient:
    def sender_of(wish: SubscriptionState) -> str:
        return sender

    app = create_app(frame, [unsubscribe_routes(desk.unsubscribing, sender_of, prefixes)])
    return TestClient(app, base_url="https://mail.example", follow_redirects=False)


class Page(HTMLParser):
    """What a reader, and a program that reads to them, finds."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.buttons: list[str] = []
        self.language = ""
        self.words = ""
        self.style = ""
        self.status = ""
        self._open: list[str] = []
        self.feed(response.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self._open.append(tag)
        if tag == "html":
            self.language = given["lang"] or ""
        if tag == "button":
            assert given["name"] == "choice"
            self.buttons.append(given["value"] or "")
        if given.get("role") == "status":
            self._open.append("status")
        assert not any(name.startswith("on") or name in {"style", "src", "href"} for name in given)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self._open:
            self.style += data
        else:
            self.words += data
        if "status" in self._open:
            self.status += data


def test_seeing_the_page_changes_nothing(desk: UnsubscribeSetup, client: TestClient) -> None:
    for _ in range(2):
        page = Page(client.get(f"/u/{desk.token(topic='news')}"))
        assert page.buttons == ["stop-topic", "stop-all"]
    assert client.head(f"/u/{desk.token()}").status_code == 200
    assert desk.suppression.entries_for("default", ANNA) == []
    assert desk.kinds() == []
    assert "Weekly Okapi" in page.words
    assert "news" in page.words


def test_a_mail_without_a_topic_has_one_question(desk: UnsubscribeSetup, client: TestClient) -> None:
    assert Page(client.get(f"/u/{desk.token()}")).buttons == ["stop-all"]


def choose(client: TestClient, token: str, choice: str) -> Page:
    """Press a button, and see the page that the browser goes to."""
    answer = client.post(f"/u/{token}", data={"choice": choice})
    assert answer.status_code == 303
    return Page(client.get(str(answer.url.join(answer.headers["location"]))))


def test_every_way_through_the_page(desk: UnsubscribeSetup, client: TestClient) -> None:
    token = desk.token(topic="news")
    page = choose(client, token, "stop-topic")
    assert page.buttons == ["undo-topic", "stop-all"]
    assert "news" in page.status
    assert left(desk) == {"news"}
    page = choose(client, token, "undo-topic")
    assert page.buttons == ["stop-topic", "stop-all"]
    assert left(desk) == set()
    page = choose(client, token, "stop-all")
    assert page.buttons == ["undo-all"]
    assert "Weekly Okapi" in page.status
    assert left(desk) == {None}
    assert choose(client, token, "undo-all").buttons == ["stop-topic", "stop-all"]
    assert left(desk) == set()
    assert desk.kinds() == [UNSUBSCRIBED, RESUBSCRIBED, UNSUBSCRIBED, RESUBSCRIBED]


def left(desk: UnsubscribeSetup) -> set[str | None]:
    return {entry.topic for entry in desk.suppression.entries_for("default", ANNA)}


def test_whoever_clicks_twice_is_answered_alike_and_heard_once(desk: UnsubscribeSetup, client: TestClient) -> None:
    token = desk.token(topic="news")
    pages = [choose(client, token, "stop-topic").words for _ in range(3)]
    assert len(set(pages)) == 1
    assert desk.kinds() == [UNSUBSCRIBED]


MULTIPART = (
    '--b\r\nContent-Disposition: form-data; name="List-Unsubscribe"\r\n\r\nOne-Click\r\n--b--\r\n',
    "multipart/form-data; boundary=b",
)
BUTTONS = ((ONE_CLICK, FORM), MULTIPART, ("", FORM), ("", ""), ("{}", "application/json"), ("%", FORM), ("\x00", "text/plain"))


@pytest.mark.parametrize(("body", "media"), BUTTONS, ids=range(len(BUTTONS)))
def test_a_mail_programs_button_is_done_at_once_whatever_form_it_sends(
    desk: UnsubscribeSetup, client: TestClient, body: str, media: str
) -> None:
    """RFC 8058: no redirect, no cookie, no question; and nothing but that it is a POST is asked of it."""
    answer = client.post(f"/u/{desk.token(topic='news')}", content=body, headers={"Content-Type": media})
    assert answer.status_code == 200
    assert left(desk) == {"news"}
    (told,) = desk.arrived()
    assert told.event.detail == "from news, by the mail program's button"


def test_a_choice_may_come_as_multipart_too(desk: UnsubscribeSetup, client: TestClient) -> None:
    answer = client.post(f"/u/{desk.token(topic='news')}", files={"choice": (None, "stop-all")})
    assert answer.status_code == 303
    assert left(desk) == {None}


def test_a_choice_that_is_none_changes_nothing(desk: UnsubscribeSetup, client: TestClient) -> None:
    assert client.post(f"/u/{desk.token()}", data={"choice": "sing"}).status_code == 303
    assert left(desk) == set()


def test_a_form_without_end_is_refused(desk: UnsubscribeSetup, client: TestClient) -> None:
    answer = client.post(f"/u/{desk.token()}", content=b"a=" + b"x" * 20_000, headers={"Content-Type": FORM})
    assert answer.status_code == 413
    assert left(desk) == set()


def test_who_complained_is_off_and_has_nothing_to_undo(desk: UnsubscribeSetup, client: TestClient) -> None:
    desk.suppression.add("default", ANNA, address="a@a.example", reason=SuppressionReason.COMPLAINT)
    page = Page(client.get(f"/u/{desk.token()}"))
    assert page.buttons == []
    assert page.status
    assert choose(client, desk.token(), "undo-all").buttons == []
    assert left(desk) == {None}


@pytest.mark.parametrize("reason", [SuppressionReason.BOUNCE, SuppressionReason.MANUAL])
def test_who_is_on_the_list_by_no_wish_of_theirs_can_wish_it(
    desk: UnsubscribeSetup, client: TestClient, reason: SuppressionReason
) -> None:
    desk.suppression.add("default", ANNA, address="a@a.example", reason=reason)
    assert Page(client.get(f"/u/{desk.token()}")).buttons == ["stop-all"]
    assert choose(client, desk.token(), "stop-all").buttons == ["undo-all"]
    entry = desk.suppression.get("default", ANNA)
    assert entry is not None
    assert entry.reason is SuppressionReason.UNSUBSCRIBE


def test_a_damaged_link_is_a_page_and_changes_nothing(desk: UnsubscribeSetup, client: TestClient) -> None:
    token = desk.token(topic="news")
    for text in (token[:-1], token.partition(".")[0], "x", "%00"):
        for answer in (client.get(f"/u/{text}"), client.post(f"/u/{text}", content=ONE_CLICK, headers={"Content-Type": FORM})):
            assert answer.status_code == 404, text
            assert Page(answer).buttons == []
    assert left(desk) == set()


def test_damaged_links_are_counted_by_address_and_good_ones_are_not(desk: UnsubscribeSetup) -> None:
    with client_of(desk, replace(FRAME, rates=ApiRates(address=0.001))) as client:
        assert [client.get("/u/x").status_code for _ in range(30)][-1] == 429
        good = [client.get(f"/u/{desk.token(BEN)}") for _ in range(30)]
        good += [client.post(f"/u/{desk.token(BEN)}", content=ONE_CLICK, headers={"Content-Type": FORM}) for _ in range(10)]
        assert {answer.status_code for answer in good} == {200}


def test_who_says_the_same_without_end_is_asked_to_wait_and_nobody_else(desk: UnsubscribeSetup, client: TestClient) -> None:
    """Each time is a write to the disk."""

    def button(token: str) -> httpx.Response:
        return client.post(f"/u/{token}", content=ONE_CLICK, headers={"Content-Type": FORM})

    answers = [button(desk.token(BEN)) for _ in range(30)]
    assert [answer.status_code for answer in answers] == [200] * 20 + [429] * 10
    assert int(answers[-1].headers["retry-after"]) > 0
    assert Page(answers[-1]).buttons == []
    assert button(desk.token(ANNA)).status_code == 200
    assert client.get(f"/u/{desk.token(BEN)}").status_code == 200


def test_a_wish_that_could_not_be_written_is_not_said_to_be(desk: UnsubscribeSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise Unavailable("the disk at /secret is busy")

    monkeypatch.setattr(desk.suppression, "add_all", unavailable)
    with client_of(desk) as client:
        answer = client.post(f"/u/{desk.token()}", content=ONE_CLICK, headers={"Content-Type": FORM})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "secret" not in answer.text


def test_behind_a_path_of_the_public_url_the_page_leads_back_to_itself(desk: UnsubscribeSetup) -> None:
    with client_of(desk, prefixes=("", "/mail")) as client:
        address = f"/mail/u/{desk.token()}"
        answer = client.post(address, data={"choice": "stop-all"})
        assert answer.url.join(answer.headers["location"]).path == address
        assert "action" not in client.get(address).text.partition("<body>")[2]


def test_nothing_that_others_chose_is_markup(desk: UnsubscribeSetup) -> None:
    with client_of(desk, sender=HOSTILE) as client:
        page = client.get(f"/u/{desk.token(topic='<b>&lt;')}")
    assert "<script" not in page.text
    assert HOSTILE in Page(page).words
    assert "<b>&lt;" in Page(page).words


def test_the_page_needs_no_script_no_cookie_and_nothing_from_elsewhere(desk: UnsubscribeSetup, client: TestClient) -> None:
    answer = client.get(f"/u/{desk.token(topic='news')}")
    page = Page(answer)
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    assert policy["style-src"] == f"'sha256-{digest}'"
    assert (policy["default-src"], policy["form-action"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert not {"script", "img", "link", "iframe", "input"} & set(page.tags)
    assert "set-cookie" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert page.tags.count("h1") == page.tags.count("main") == page.tags.count("title") == 1
    assert "prefers-color-scheme: dark" in page.style
    assert "url(" not in page.style
    assert not re.search(r"(?<![\w-])(min-)?width: *[0-9.]+(px|rem)", page.style)  # it fits any screen


@pytest.mark.parametrize("language", sorted(languages()))
def test_every_language_says_everything(desk: UnsubscribeSetup, client: TestClient, language: str) -> None:
    english, words = languages()["en"], languages()[language]
    assert words.keys() == english.keys()
    for name, text in words.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", english[name])), name
    answer = client.get(f"/u/{desk.token(topic='news')}", headers={"Accept-Language": f"{language}-XX;q=0.9, xx"})
    assert Page(answer).language == answer.headers["content-language"] == language
    assert words["stop_all"] in Page(answer).words
    assert answer.headers["vary"] == "Accept-Language"


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("*", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("ja, fr;q=0.8, de;q=0.9", "de"),
        ("en;q=0.1, es", "es"),
        ("nl;q=0, it;q=0.001", "it"),
        ("pt-BR,pt;q=0.9,en-US;q=0.8", "pt"),
        ("zh-Hant-TW", "en"),
        ("de;q=x, fr", "fr"),
        (";;;,,,q=1", "en"),
        ("a" * 100_000 + ",de", "en"),
        ("x," * 50_000 + "de", "en"),
    ],
    ids=range(13),
)
def test_the_readers_language_is_the_one_they_like_best(accepted: str, language: str) -> None:
    assert language_of(accepted) == language
