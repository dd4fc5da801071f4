"""Any order, any repetition of any events, wherever between them the worker records: the same records, timelines and sums."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.model.campaign import CampaignRef as Campaign
from postroom.model.message import Settlement
from postroom.platform.ports.messages import Messages, ReportedEvent
from tests.contract.backend import Backend
from tests.contract.messages_kit import LEASE_MS, NOW, S, at, key, outcome, row
from tests.contract.test_messages_model import WITHOUT_SHRINKING, told_of

KEYS = 2
_numbers = itertools.count()
_outcomes = st.tuples(
    st.integers(0, KEYS - 1), st.sampled_from((S.DEFERRED, S.SENT, S.FAILED, S.UNKNOWN, S.BOUNCED, S.PENDING)), st.integers(1, 3)
)

Step = Settlement | ReportedEvent
_Seen = tuple[Any, Any, Any]


def play(messages: Messages, steps: Sequence[Sequence[Step]]) -> tuple[_Seen, _Seen]:
    """Each step is one call: outcomes, or reports. All that can be seen then, as it is and once it is counted anew."""
    campaign = Campaign("order", f"c{next(_numbers)}")
    messages.create(campaign, 1)
    messages.store(campaign, [row(n) for n in range(KEYS)], NOW)
    messages.recount(campaign)
    opened = messages.open(campaign, 0, "w1", NOW, lease_ms=LEASE_MS)
    assert opened is not None
    for step in steps:
        reports = [one for one in step if isinstance(one, ReportedEvent)]
        settled = [one for one in step if isinstance(one, Settlement)]
        if reports:
            messages.record_events(campaign, reports, at(9))
        if settled:
            messages.record(campaign, 0, opened.fence, settled, [], NOW, lease_ms=LEASE_MS)
    messages.close(campaign, 0, opened.fence)
    found = _seen(messages, campaign)
    messages.recount(campaign)
    return found, _seen(messages, campaign)


def _seen(messages: Messages, campaign: Campaign) -> _Seen:
    timelines = [messages.timeline(campaign, 0, key(n)) for n in range(KEYS)]
    return messages.list(campaign).messages, messages.totals(campaign), timelines


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[list[Step]], list[list[Step]]]:
    """The plain one: what the worker records, then each event, once. And the same with the events in any order, in groups of
    any size, several times, and anywhere between the outcomes, which keep their order."""
    worker: list[list[Step]] = [
        [outcome(n, state, attempt=attempt, ms=ms)]
        for ms, (n, state, attempt) in enumerate(draw(st.lists(_outcomes, max_size=6)))
    ]
    told = draw(told_of(KEYS, 16)) + draw(told_of(KEYS, 16))
    events = list({(n, event.id): ReportedEvent(0, key(n), event) for n, event in told}.values())
    repeated = draw(st.permutations(events + draw(st.lists(st.sampled_from(events), max_size=6))))
    other: list[list[Step]] = []
    while repeated:
        size = draw(st.integers(1, len(repeated)))
        other.append([*repeated[:size]])
        repeated = repeated[size:]
    for place, step in enumerate(worker):
        first = next((i + 1 for i, s in reversed(list(enumerate(other))) if s in worker[:place]), 0)
        other.insert(draw(st.integers(first, len(other))), step)
    return worker + [[event] for event in events], other


def check(backend: Backend, history: tuple[list[list[Step]], list[list[Step]]]) -> None:
    plain, other = history
    messages = backend.messages()
    found, counted = play(messages, plain)
    assert found == counted
    assert play(messages, other) == (found, counted)


@pytest.mark.backends("embedded")
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories())
def test_in_any_order_and_however_often_it_ends_the_same(
    backend: Backend, history: tuple[list[list[Step]], list[list[Step]]]
) -> None:
    check(backend, history)


@pytest.mark.backends("aws")
@settings(max_examples=10, phases=WITHOUT_SHRINKING, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=histories())
def test_in_any_order_it_ends_the_same_on_aws(backend: Backend, history: tuple[list[list[Step]], list[list[Step]]]) -> None:
    check(backend, history)
