"""What was recorded, listed, told and indexed, held against what SES did by its own account."""

from __future__ import annotations

import json
import time
import urllib.request
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from standardwebhooks import Webhook

from postroom.model.campaign import CampaignRef
from postroom.model.event import EventKind
from postroom.model.tenant import DEFAULT_TENANT
from tests.aws_e2e import people
from tests.aws_e2e.office import Office, happened, messages
from tests.aws_e2e.world import PREFIX
from tests.flow.campaign_kit import assert_adds_up, until
from tests.flow.serve_kit import Caller

KINDS = frozenset({EventKind.DELIVERED, EventKind.BOUNCED, EventKind.COMPLAINED})
"""Of which the receiver is told."""
_MINUTE_S = 15
"""A minute of the stack's is as long here: what its rule would do is done more often."""


def subscribe(caller: Caller, url: str) -> str:
    """Have the tenant told; the secret that requests are signed with."""
    body = {"url": url, "events": [f"message.{kind}" for kind in KINDS]}
    return str(caller.call("POST", "/v1/callbacks", 201, body)["secret"])


def states(found: Mapping[str, Any]) -> dict[str, Counter[str]]:
    """By group, how many are in each state."""
    counted: dict[str, Counter[str]] = {}
    for address, item in found.items():
        counted.setdefault(people.group_of(address), Counter())[item["status"]] += 1
    return counted


def assert_exact(caller: Caller, accepted: Collection[str], campaigns: Mapping[str, list[str]]) -> None:
    """Everybody was written to once, and stands in the records as SES told of them."""
    times = Counter(accepted)
    expected = [address for addresses in campaigns.values() for address in addresses]
    twice = [address for address, count in times.items() if count > 1]
    assert not twice, f"written to again: {twice[:5]}"
    assert set(times) == set(expected), f"missed: {sorted(set(expected) - set(times))[:5]}"
    for campaign, addresses in campaigns.items():
        found = messages(caller, campaign)
        assert found.keys() == set(addresses)
        assert states(found) == ends(addresses)
        assert_adds_up(caller.call("GET", f"/v1/campaigns/{campaign}/status", 200))


def wait_for_end(office: Office, caller: Caller, campaigns: Mapping[str, list[str]], seconds: float = 300) -> None:
    """Until the campaigns are completed, and all that SES has to tell is recorded."""
    shown: dict[str, Any] = {}
    minutes = count(1)
    begun = time.monotonic()

    def over(campaign: str, addresses: list[str]) -> bool:
        status = caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)
        shown[campaign] = status["status"], {state: number for state, number in status["counts"].items() if number}
        expected = Counter(people.ENDS[people.group_of(address)] for address in addresses)
        return status["status"] == "completed" and all(status["counts"][state] == number for state, number in expected.items())

    def all_over() -> bool:
        if time.monotonic() > begun + _MINUTE_S * next_minute[0]:
            next_minute[0] = next(minutes)
            office.minute()
        time.sleep(1)
        return all(over(campaign, addresses) for campaign, addresses in campaigns.items())

    next_minute = [next(minutes)]
    try:
        until(all_over, "the campaigns to end", seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {shown}") from None


def engaged(caller: Caller, campaigns: Iterable[str]) -> tuple[int, int]:
    """How many opened, how many clicked."""
    shown = [caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)["engagement"] for campaign in campaigns]
    return sum(each["opened"] for each in shown), sum(each["clicked"] for each in shown)


def ends(addresses: Collection[str]) -> dict[str, Counter[str]]:
    """As what SES tells of them leaves them."""
    groups = Counter(people.group_of(address) for address in addresses)
    return {group: Counter({people.ENDS[group]: count}) for group, count in groups.items()}


def assert_told(office: Office, secret: str, campaigns: Collection[str]) -> None:
    """The receiver was told, signed, of all that happened, and of nothing else."""
    receiver = office.world.receiver
    with office.opened() as postroom:
        expected: Counter[Any] = Counter()
        for campaign in campaigns:
            expected += happened(postroom, CampaignRef(DEFAULT_TENANT, campaign), KINDS)
    with suppress(AssertionError):
        until(lambda: len(receiver.taken) >= expected.total(), "all to be told", 240)
    tells = receiver.tells()
    assert tells == expected, (
        f"{tells.total()} of {expected.total()}, not told: {sorted(expected - tells)[:3]}; no such event: {sorted(tells - expected)[:3]}"
    )
    verify = Webhook(secret).verify
    for name, bodies in receiver.told.items():
        verify(bodies[0], {key.lower(): value for key, value in receiver.headers[name].items()})
        assert len(set(bodies)) == 1, "what is told twice is the same"


def assert_found(office: Office, campaigns: Mapping[str, list[str]]) -> None:
    """The index holds every message once, in the state that the records show."""
    query = {"size": 0, "track_total_hits": True, "aggs": {"states": {"terms": {"field": "status", "size": 20}}}}
    expected = sum((Counter(people.ENDS[people.group_of(a)] for a in addresses) for addresses in campaigns.values()), Counter())
    shown: list[Any] = []

    def agrees() -> bool:
        answer = _search(office, query)
        shown.append({bucket["key"]: bucket["doc_count"] for bucket in answer["aggregations"]["states"]["buckets"]})
        return bool(shown[-1] == expected)

    try:
        until(agrees, "the index to agree", 120)
    except AssertionError:
        raise AssertionError(f"the index says {shown[-1]}, the records {expected}") from None


def _search(office: Office, query: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        f"{office.world.search}/messages-v1/_search", json.dumps(query).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


def assert_no_trouble(office: Office) -> None:
    """Nothing is among the dead letters, and no call to SES was one that no client should make."""
    queues = office.world.client("sqs")
    for url in queues.list_queues(QueueNamePrefix=f"{PREFIX}-d-")["QueueUrls"]:
        left = queues.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        assert not left, f"{url}: {[message['Body'][:500] for message in left]}"
    assert office.world.ses.violations == []
