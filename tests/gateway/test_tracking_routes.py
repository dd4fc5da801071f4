"""The pixel and the links of mail, at the door: always a picture, never an open redirect."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx2 as httpx
import pytest
from fastapi.testclient import TestClient
from starlette.types import Receive, Scope, Send

from postroom.clock import SystemClock
from postroom.errors import Unavailable
from postroom.gateway.app import create_app
from postroom.gateway.rate_limits import ApiRates
from postroom.gateway.routes.public import PIXEL, tracking_routes
from postroom.gateway.state import GatewayConfig
from postroom.model.event import EventKind
from postroom.model.ids import Key
from postroom.model.tenant import Tenant
from postroom.model.tokens import TokenSealer
from tests.events.tracking_kit import BROWSER, CAMPAIGN, Web
from tests.fakes.ledger import bench
from tests.gateway.kit import Believer

SHOP = "https://shop.example/?a=1&b=%20"
FRAME = GatewayConfig(authenticator=Believer(), clock=SystemClock())
NOBODY = {"User-Agent": BROWSER.agent}


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with bench(tmp_path) as made:
        web = Web(made, tmp_path)
        web.table([SHOP])
        yield web
        web.close()


@pytest.fixture
def client(web: Web) -> Iterator[TestClient]:
    with client_of(web) as client:
        yield client


def client_of(web: Web, frame: GatewayConfig = FRAME, prefixes: tuple[str, ...] = ("",)) -> TestClient:
    app = create_app(frame, [tracking_routes(web.tracking, prefixes)])
    client = TestClient(app, base_url="http://mail.example", follow_redirects=False)
    client.headers = httpx.Headers(NOBODY)
    return client


def is_pixel(response: httpx.Response) -> bool:
    kept = set(response.headers["cache-control"].split(", "))
    assert {"no-store", "no-cache", "must-revalidate", "private"} <= kept
    return (response.status_code, response.headers["content-type"], response.content) == (200, "image/gif", PIXEL)


def test_a_pixel_is_a_picture_that_nobody_keeps_and_an_open(web: Web, client: TestClient) -> None:
    assert is_pixel(client.get(f"/t/o/{web.token()}"))
    assert [(each.event.kind, each.event.machine) for each in web.arrived()] == [(EventKind.OPENED, False)]


def test_whatever_its_token_a_pixel_is_the_same_and_nothing_is_recorded(web: Web, client: TestClient) -> None:
    token = web.token()
    for text in ("x", token[:-1], f"{token}.0", "%00", "a" * 5_000, "é", f"{token}/x"):
        assert is_pixel(client.get(f"/t/o/{text}")), text
    assert web.arrived() == []


def test_a_link_leads_where_the_campaign_says_and_nobody_keeps_the_answer(web: Web, client: TestClient) -> None:
    answer = client.get(f"/t/c/{web.token()}.0")
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, SHOP, b"")
    assert "no-store" in answer.headers["cache-control"]
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert [(each.event.kind, each.event.url) for each in web.arrived()] == [(EventKind.CLICKED, SHOP)]


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("https://a.example/b?c=d&e=%2F#f", "https://a.example/b?c=d&e=%2F#f"),
        ("HTTPS://a.example/für?x=ü", "HTTPS://a.example/f%C3%BCr?x=%C3%BC"),
        ("http://[2001:db8::1]:8080/~me/;x=1,2/(3)*'!@$+", "http://[2001:db8::1]:8080/~me/;x=1,2/(3)*'!@$+"),
        ('https://a.example/"<>\\^`{|}\r\nSet-Cookie: x', "https://a.example/%22%3C%3E%5C%5E%60%7B%7C%7D%0D%0ASet-Cookie:%20x"),
    ],
    ids=["plain", "letters", "characters", "hostile"],
)
def test_a_personal_address_arrives_as_it_was_sealed(web: Web, client: TestClient, url: str, location: str) -> None:
    token = web.token()
    answer = client.get(f"/t/c/{token}{web.sealer().personal(token, url)}")
    assert (answer.status_code, answer.headers["location"]) == (302, location)
    assert "set-cookie" not in answer.headers


def test_a_link_that_leads_nowhere_is_a_page_in_the_readers_language(web: Web, client: TestClient) -> None:
    token = web.token()
    evil = TokenSealer(Tenant("default", 0, b"x" * 32), CAMPAIGN)
    forged = evil.recipient(3, Key(b"a" * 12), 1) + evil.personal(evil.recipient(3, Key(b"a" * 12), 1), "https://evil.example/")
    for text in (token, f"{token}.1", f"{token}.x", "x", forged, "https://evil.example/", "//evil.example"):
        answer = client.get(f"/t/c/{text}", headers={"Accept-Language": "de-CH, en;q=0.5"})
        assert answer.status_code == 404, text
        assert '<html lang="de">' in answer.text
        assert "location" not in answer.headers
        assert "evil" not in answer.text
    assert web.arrived() == []


def test_what_stands_after_the_question_mark_changes_nothing(web: Web, client: TestClient) -> None:
    assert client.get(f"/t/c/{web.token()}.0?fbclid=x&url=https://evil.example/").headers["location"] == SHOP


def test_machines_are_answered_alike_and_told_as_machines(web: Web, client: TestClient) -> None:
    token = web.token()
    assert client.head(f"/t/c/{token}.0").headers["location"] == SHOP
    head = client.head(f"/t/o/{token}")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(PIXEL)), b"")
    assert client.get(f"/t/c/{token}.0", headers={"Sec-Purpose": "prefetch"}).status_code == 302
    assert client.get(f"/t/o/{token}", headers={"User-Agent": "Mozilla/5.0"}).status_code == 200
    arrived = web.arrived()
    assert len(arrived) == 4
    assert all(each.event.machine for each in arrived)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_other_methods_are_refused(web: Web, client: TestClient, method: str) -> None:
    answer = client.request(method, f"/t/o/{web.token()}")
    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD"
    assert web.arrived() == []


def test_behind_a_path_of_the_public_url_it_is_the_same(web: Web) -> None:
    with client_of(web, prefixes=("", "/mail")) as client:
        assert client.get(f"/mail/t/c/{web.token()}.0").headers["location"] == SHOP
        assert is_pixel(client.get(f"/mail/t/o/{web.token()}"))
        assert client.get(f"/t/c/{web.token()}.0").headers["location"] == SHOP
    assert len(web.arrived()) == 2


def test_damaged_tokens_are_counted_by_address_and_good_ones_are_not(web: Web) -> None:
    with client_of(web, replace(FRAME, rates=ApiRates(address=0.001))) as client:
        good = f"/t/c/{web.token()}.0"
        assert client.get(good).status_code == 302
        statuses = [client.get("/t/c/damaged").status_code for _ in range(30)]
        assert statuses[:10] == [404] * 10
        assert statuses[-1] == 429
        refused = client.get("/t/c/damaged")
        assert int(refused.headers["retry-after"]) > 0
        assert "<html" in refused.text
        assert [client.get(good).status_code for _ in range(50)] == [302] * 50
        strange = TokenSealer(Tenant("nobody", 99, b"x" * 32), CAMPAIGN).recipient(3, Key(b"a" * 12), 1)
        asked = len(web.asked.calls)
        assert is_pixel(client.get(f"/t/o/{strange}"))  # nothing is looked up for them any more
        assert len(web.asked.calls) == asked


def test_a_store_that_does_not_answer_costs_a_click_a_moment_and_an_open_its_record(
    web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(text: str) -> None:
        raise Unavailable("the disk at /secret is busy")

    monkeypatch.setattr(web.tracking, "prepare", unavailable)
    with client_of(web) as client:
        answer = client.get(f"/t/c/{web.token()}.0")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert "secret" not in answer.text
        assert is_pixel(client.get(f"/t/o/{web.token()}"))
    assert web.arrived() == []


def test_the_log_names_the_route_and_no_token(web: Web, client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    token = web.token()
    with caplog.at_level(logging.INFO, "postroom.gateway.access"):
        client.get(f"/t/o/{token}")
        client.get(f"/t/c/{token}.0")
    lines = [record.__dict__["fields"] for record in caplog.records if record.name == "postroom.gateway.access"]
    assert [line["route"] for line in lines] == ["/t/o/{token}", "/t/c/{token}"]
    assert token not in caplog.text


def test_the_caller_is_whom_a_trusted_proxy_names(web: Web) -> None:
    """So that one who brings damaged tokens shuts out nobody else."""
    frame = replace(FRAME, rates=ApiRates(address=0.001), trusted_proxies=("127.0.0.1",))
    app = create_app(frame, [tracking_routes(web.tracking)])

    async def proxied(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": ("127.0.0.1", 1)}, receive, send)

    with TestClient(proxied, follow_redirects=False) as client:
        answers = [client.get("/t/c/x", headers={"X-Forwarded-For": "198.51.100.7"}).status_code for _ in range(30)]
        assert answers[-1] == 429
        assert client.get("/t/c/x", headers={"X-Forwarded-For": "198.51.100.8"}).status_code == 404


def test_who_brings_many_damaged_pixels_fills_no_log(web: Web, caplog: pytest.LogCaptureFixture) -> None:
    strange = TokenSealer(Tenant("nobody", 99, b"x" * 32), CAMPAIGN).recipient(3, Key(b"a" * 12), 1)
    with client_of(web, replace(FRAME, rates=ApiRates(address=0.001))) as client, caplog.at_level(logging.WARNING):
        assert all(is_pixel(client.get(f"/t/o/{strange}")) for _ in range(40))
    assert caplog.text == ""
