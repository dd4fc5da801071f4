"""Tells whether a machine or a person fetched a tracking pixel or link. docs/reference/tracking.md explains each rule.

Machine events are shown and not counted. In doubt it is a person: scanners that look like a browser and come late cannot be told
by their requests, and lists of their networks would be outdated in a month.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, NamedTuple

from postroom.clock import Instant
from postroom.model.event import MAX_DETAIL, Event, EventKind

TOO_EARLY_MS: Final = 2_000
"""A request sooner than this after the message was sent comes from a filter on the way, not from a reader."""
SLACK_MS: Final = 60_000
"""If the request is older than `sent_at` by more than this, `sent_at` is of a later report, and says nothing of the request."""
TOO_EARLY: Final = "sooner than a person can read"
_ENGAGEMENT = frozenset({EventKind.OPENED, EventKind.CLICKED})
_PREFETCH = re.compile("prefetch|preview|prerender|instant")
_PREFETCH_FIELDS = frozenset({b"sec-purpose", b"purpose", b"x-purpose", b"x-moz"})
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
"""The whole User-Agent of Apple Mail Privacy Protection."""
_GMAIL_PREFETCH = "edge/12.246 mozilla/5.0"
"""The end of the User-Agent with which Gmail prefetches. When a person opens the mail, its image proxy names itself."""


class TrackingRequest(NamedTuple):
    """What a tracking request says about its client."""

    agent: str
    head: bool = False
    """Whether the method is HEAD."""
    prefetch: bool = False
    """Whether a header field says that it is a prerequest."""


def tracking_request(method: str, fields: Iterable[tuple[bytes, bytes]]) -> TrackingRequest:
    """From the HTTP method and the header fields, with names in lower case."""
    agent, prefetch = b"", False
    for name, value in fields:
        if name == b"user-agent":
            agent = value
        elif name in _PREFETCH_FIELDS:
            prefetch = prefetch or _PREFETCH.search(value.decode("latin-1").lower()) is not None
    return TrackingRequest(agent[:MAX_DETAIL].decode("latin-1"), method == "HEAD", prefetch)


def detect_machine(kind: EventKind, request: TrackingRequest) -> str | None:
    """Why the client is a machine, in words; None if it may be a person."""
    if request.head:
        return "asked for the head only"
    if request.prefetch:
        return "fetched ahead"
    agent = request.agent.strip().lower()
    if not agent:
        return "says nothing of itself"
    if agent == _PRIVACY:
        return "privacy protection"
    if agent.endswith(_GMAIL_PREFETCH):
        return "fetched ahead"
    if _PROXIES.search(agent):  # fetches images when a person opens the mail, but follows no links for them
        return "image proxy" if kind is EventKind.CLICKED else None
    if _SCANNERS.search(agent):
        return "scanner"
    return "program" if _PROGRAMS.search(agent) else None


def flag_too_early(event: Event, sent_at: Instant | None) -> Event:
    """Marks an open or click too soon after the message was sent as a machine's. `sent_at`: None if unknown."""
    if event.kind not in _ENGAGEMENT or event.machine or sent_at is None:
        return event
    if not -SLACK_MS <= event.at - sent_at < TOO_EARLY_MS:
        return event
    return replace(event, machine=True, detail=f"{TOO_EARLY}: {event.detail}"[:MAX_DETAIL])
