"""What stands at SNS's addresses is fetched within bounds, and nothing else is."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2 as httpx
import pytest

from postroom.errors import Denied, Unavailable
from postroom.events.ses.sns_client import CACHED_S, LIMIT_BYTES, LIMIT_S, SnsClient, SnsUnavailable
from tests.fakes.clock import ManualClock

URL = "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-1.pem"


class Sns:
    """Answers as scripted, and remembers what it was asked for."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response], endpoint: str | None = None) -> None:
        self.asked: list[str] = []
        self.clock = ManualClock()
        self._answer = answer
        self.pages = SnsClient(self.clock, endpoint=endpoint, transport=httpx.MockTransport(self._handle))

    def _handle(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        return self._answer(request)


def test_a_page_is_fetched() -> None:
    sns = Sns(lambda _: httpx.Response(200, content=iter([b"PEM"])))
    assert sns.pages(URL) == b"PEM"
    assert sns.asked == [URL]


def test_an_endpoint_of_the_operators_stands_in_for_the_host_alone() -> None:
    sns = Sns(lambda _: httpx.Response(200, content=iter([b"ok"])), endpoint="http://127.0.0.1:8025")
    sns.pages("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&Token=1")
    assert sns.asked == ["http://127.0.0.1:8025/?Action=ConfirmSubscription&Token=1"]


def drip(clock: ManualClock) -> Iterator[bytes]:
    for _ in range(1_000):
        clock.advance(1)
        yield b"x"


@pytest.mark.parametrize(
    ("status", "kind"),
    [(301, SnsUnavailable), (302, SnsUnavailable), (307, SnsUnavailable), (404, Denied), (403, Denied), (500, SnsUnavailable)],
)
def test_a_redirect_is_not_followed_and_an_error_is_none(status: int, kind: type[Exception]) -> None:
    sns = Sns(lambda _: httpx.Response(status, headers={"Location": "http://169.254.169.254/latest"}, content=b"x"))
    for _ in range(2):
        with pytest.raises(kind):
            sns.pages(URL)
    assert sns.asked == [URL]


def test_what_is_too_large_or_too_slow_is_let_go() -> None:
    large = Sns(lambda _: httpx.Response(200, content=iter([b"x" * (LIMIT_BYTES + 1)])))
    slow = Sns(lambda _: httpx.Response(200, content=drip(slow.clock)))
    for sns in (large, slow):
        with pytest.raises(Unavailable, match="too"):
            sns.pages(URL)
    assert slow.clock.monotonic() <= LIMIT_S + 1


def test_what_failed_is_asked_for_again_only_after_a_while() -> None:
    answers = iter([httpx.Response(503), httpx.Response(200, content=iter([b"PEM"]))])
    sns = Sns(lambda _: next(answers))
    for _ in range(3):
        with pytest.raises(Unavailable):
            sns.pages(URL)
    sns.clock.advance(CACHED_S)
    assert (sns.pages(URL), len(sns.asked)) == (b"PEM", 2)


def test_who_all_want_the_same_page_have_it_fetched_once() -> None:
    under_way, go = threading.Event(), threading.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        under_way.set()
        assert go.wait(10)
        return httpx.Response(200, content=iter([b"PEM"]))

    sns = Sns(answer)
    with ThreadPoolExecutor(4) as threads:
        pages = [threads.submit(sns.pages, URL)]
        assert under_way.wait(10)
        pages += [threads.submit(sns.pages, URL) for _ in range(3)]
        go.set()
        assert {page.result(10) for page in pages} == {b"PEM"}
    assert len(sns.asked) == 1


def test_an_address_that_cannot_be_reached_is_unavailable() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unavailable):
        Sns(refuse).pages(URL)
