"""Whether a machine fetched what a mail holds, or a person: docs/reference/tracking.md explains each rule.

A machine's hit is shown and does not count. What cannot be told is a person's: scanners that look like a browser, and come late,
are not recognised by what they send, and lists of their networks would be stale in a month.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from postroom.clock import Instant
from postroom.model.event import MAX_DETAIL, Event, EventKind

TOO_EARLY_MS: Final = 2_000
"""Sooner after the message left nobody has it before them: it is a filter on the way that looks into it."""
SLACK_MS: Final = 60_000
"""A hit that came longer before than this came before another report of the delivery: that says nothing of the hit."""
TOO_EARLY: Final = "sooner than anybody reads"
_HITS = frozenset({EventKind.OPENED, EventKind.CLICKED})
_AHEAD = re.compile("prefetch|preview|prerender|instant")
_AHEAD_FIELDS = frozenset({b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"})
_SCANNERS = re.compile(
    "barracuda|proofpoint|mimecast|safelinks|ciscosecure|ironport|fireeye|trellix|trendmicro|trend micro|symantec|messagelabs|"
    "sophos|fortimail|forcepoint|zscaler|checkpoint|kaspersky|bitdefender|vadesecure|hornetsecurity|spamhaus|urlscan|virustotal|"
    "google-safety|existence discovery"
)
_PROGRAMS = re.compile(
    r"(?<!cu)bot\b|crawl|spider|preview|scanner|monitor|facebookexternalhit|whatsapp|headless|phantomjs|puppeteer|playwright|"
    r"^(curl|wget|python|aiohttp|go-http-client|java|libwww|lwp|ruby|perl|php|node|axios|got|guzzle|apache-httpclient|ahc)\b"
)
_PROXIES = re.compile("googleimageproxy|yahoomailproxy")
_PRIVACY = "mozilla/5.0"
"""All that Apple Mail's privacy protection says of itself."""
_GMAIL_AHEAD = "edge/12.246 mozilla/5.0"
"""How the agent ends with which Gmail fetches ahead; as its image proxy, for somebody who looks, it says that it is one."""


class TrackingRequest(NamedTuple):
    """What a request says of whoever makes it."""

    agent: str
    head: bool = False
    """It asks for the head of the answer only."""
    ahead: bool = False
    """It says itself that nobody asked for it yet."""


def tracking_request(method: str, fields: Iterable[tuple[bytes, bytes]]) -> TrackingRequest:
    """By the method and the header fields, names in lower case."""
    agent, ahead = b"", False
    for name, value in fields:
        if name == b"user-agent":
            agent = value
        elif name in _AHEAD_FIELDS:
            ahead = ahead or _AHEAD.search(value.decode("latin-1").lower()) is not None
    return TrackingRequest(agent[:MAX_DETAIL].decode("latin-1"), method == "HEAD", ahead)


def detect_machine(kind: EventKind, fetch: TrackingRequest) -> str | None:
    """What gives the machine away, in words; None: nothing does."""
    if fetch.head:
        return "asked for the head only"
    if fetch.ahead:
        return "fetched ahead"
    agent = fetch.agent.strip().lower()
    if not agent:
        return "says nothing of itself"
    if agent == _PRIVACY:
        return "privacy protection"
    if agent.endswith(_GMAIL_AHEAD):
        return "fetched ahead"
    if _PROXIES.search(agent):  # fetches the picture when somebody looks at the mail, and follows no link for anybody
        return "image proxy" if kind is EventKind.CLICKED else None
    if _SCANNERS.search(agent):
        return "scanner"
    return "program" if _PROGRAMS.search(agent) else None


def flag_too_early(event: Event, sent_at: Instant | None) -> Event:
    """A hit that came too soon after the message (None: nobody knows when that was) is a machine's; all else is as it was."""
    if event.kind not in _HITS or event.machine or sent_at is None:
        return event
    if not -SLACK_MS <= event.at - sent_at < TOO_EARLY_MS:
        return event
    return replace(event, machine=True, detail=f"{TOO_EARLY}: {event.detail}"[:MAX_DETAIL])
