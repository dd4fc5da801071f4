"""A machine's hit is known by what it sends, or by its haste; what could be a person's is a person's."""

from __future__ import annotations

import pytest

from postroom.clock import Instant
from postroom.events.machine_detection import (
    SLACK_MS,
    TOO_EARLY_MS,
    TrackingRequest,
    detect_machine,
    flag_too_early,
    tracking_request,
)
from postroom.model.event import MAX_DETAIL, Event, EventKind

OPENED, CLICKED = EventKind.OPENED, EventKind.CLICKED
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
GMAIL = "Mozilla/5.0 (Windows NT 5.1; rv:11.0) Gecko Firefox/11.0 (via ggpht.com GoogleImageProxy)"
GMAIL_AHEAD = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/42.0.2311.135 Safari/537.36 Edge/12.246 Mozilla/5.0"
)
YAHOO = "YahooMailProxy; https://help.yahoo.com/kb/yahoo-mail-proxy-SLN28749.html"
PEOPLE = (
    FIREFOX,
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)",
    "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/42.0.2311.135 Safari/537.36 Edge/12.246",
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 10.0; Trident/7.0; Microsoft Outlook 16.0.5500; ms-office; MSOffice 16)",
    "Outlook-iOS/2.0",
    "Thunderbird/128.0",
    "okhttp/4.12.0",
    "Mozilla/5.0 (Linux; Android 9; CUBOT X18 Plus) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0 Mobile Safari/537.36",
)
PROGRAMS = (
    "curl/8.5.0",
    "Wget/1.21",
    "python-requests/2.32",
    "Python/3.11 aiohttp/3.9",
    "Go-http-client/2.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
    "facebookexternalhit/1.1",
    "WhatsApp/2.23",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 6.1; WOW64) BingPreview/1.0b",
)
SCANNERS = (
    "BarracudaCentral",
    "Barracuda Sentinel (EE)",
    "Mozilla/5.0 Proofpoint URL Defense",
    "Mimecast TTP",
    "Mozilla/5.0 (Windows NT 10.0) Microsoft Office Existence Discovery",
)


@pytest.mark.parametrize("agent", PEOPLE, ids=range(len(PEOPLE)))
def test_mail_programs_and_browsers_are_peoples(agent: str) -> None:
    assert detect_machine(OPENED, TrackingRequest(agent)) is None
    assert detect_machine(CLICKED, TrackingRequest(agent)) is None


@pytest.mark.parametrize("agent", PROGRAMS, ids=range(len(PROGRAMS)))
def test_programs_are_machines(agent: str) -> None:
    assert detect_machine(OPENED, TrackingRequest(agent)) == detect_machine(CLICKED, TrackingRequest(agent)) == "program"


@pytest.mark.parametrize("agent", SCANNERS, ids=range(len(SCANNERS)))
def test_scanners_are_machines(agent: str) -> None:
    assert detect_machine(OPENED, TrackingRequest(agent)) == detect_machine(CLICKED, TrackingRequest(agent)) == "scanner"


@pytest.mark.parametrize("agent", [GMAIL, YAHOO], ids=["gmail", "yahoo"])
def test_an_image_proxy_opens_for_a_person_and_clicks_for_nobody(agent: str) -> None:
    assert detect_machine(OPENED, TrackingRequest(agent)) is None
    assert detect_machine(CLICKED, TrackingRequest(agent)) == "image proxy"


@pytest.mark.parametrize("kind", [OPENED, CLICKED])
def test_what_is_fetched_before_anybody_looks_is_a_machines(kind: EventKind) -> None:
    assert detect_machine(kind, TrackingRequest("Mozilla/5.0")) == "privacy protection"
    assert detect_machine(kind, TrackingRequest(GMAIL_AHEAD)) == "fetched ahead"
    assert detect_machine(kind, TrackingRequest(" ")) == "says nothing of itself"


@pytest.mark.parametrize(
    "field",
    [
        (b"sec-purpose", b"prefetch;anonymous-client-ip"),
        (b"purpose", b"prefetch"),
        (b"x-moz", b"Prefetch"),
        (b"x-purpose", b"preview"),
    ],
)
def test_who_says_that_nobody_asked_yet_is_believed(field: tuple[bytes, bytes]) -> None:
    fetch = tracking_request("GET", [(b"user-agent", FIREFOX.encode()), field])
    assert detect_machine(CLICKED, fetch) == "fetched ahead"


def test_who_asks_for_the_head_only_is_a_machine() -> None:
    assert detect_machine(OPENED, tracking_request("HEAD", [(b"user-agent", FIREFOX.encode())])) == "asked for the head only"


def test_other_fields_say_nothing() -> None:
    fields = [(b"user-agent", FIREFOX.encode()), (b"sec-purpose", b""), (b"accept", b"prefetch"), (b"x-moz-thing", b"prefetch")]
    assert tracking_request("GET", fields) == TrackingRequest(FIREFOX)


def test_what_somebody_says_of_themselves_is_bounded_and_never_fails() -> None:
    fetch = tracking_request("GET", [(b"user-agent", b"\xff\x00\n" * 10_000)])
    assert len(fetch.agent) == MAX_DETAIL
    fetch.agent.encode()


def hit(after_ms: int, kind: EventKind = OPENED, *, machine: bool = False) -> Event:
    at = Instant(1_000_000_000 + after_ms)
    return Event(kind=kind, attempt=1, at=at, id="x", source="tracking", detail=FIREFOX, machine=machine)


SENT = Instant(1_000_000_000)


@pytest.mark.parametrize("kind", [OPENED, CLICKED])
@pytest.mark.parametrize("after_ms", [-SLACK_MS, -1, 0, TOO_EARLY_MS - 1])
def test_a_hit_sooner_than_anybody_reads_is_a_machines(kind: EventKind, after_ms: int) -> None:
    """Also one that comes before the sending is recorded: that is done in groups."""
    judged = flag_too_early(hit(after_ms, kind), SENT)
    assert judged.machine
    assert FIREFOX in judged.detail


@pytest.mark.parametrize("after_ms", [TOO_EARLY_MS, 86_400_000, -SLACK_MS - 1])
def test_later_hits_and_those_long_before_a_late_report_stay_as_they_are(after_ms: int) -> None:
    assert flag_too_early(hit(after_ms), SENT) == hit(after_ms)


def test_without_a_time_of_sending_nothing_is_judged() -> None:
    assert flag_too_early(hit(0), None) == hit(0)
    assert flag_too_early(hit(0, EventKind.UNSUBSCRIBED), SENT) == hit(0, EventKind.UNSUBSCRIBED)
    assert flag_too_early(hit(0, machine=True), SENT) == hit(0, machine=True)
