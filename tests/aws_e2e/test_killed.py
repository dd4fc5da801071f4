"""The same with functions killed and calls of theirs failing at every step: still everybody once, and all of it recorded."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.aws_e2e import functions, people
from tests.aws_e2e.faults import Fault, Plan
from tests.aws_e2e.office import Office, messages, order, suppressed
from tests.aws_e2e.privileges import assert_enough
from tests.aws_e2e.stack import deployed
from tests.aws_e2e.truth import assert_exact, assert_found, assert_no_trouble, assert_told, subscribe, wait_for_end
from tests.fakes.ses_simulator.fates import Fates
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.flow.campaign_kit import until
from tests.flow.serve_kit import Caller

FAULTS = {
    "import-plan": [Fault(3, "kill_after"), Fault(5, "raise")],
    "import-range": [Fault(2, "kill"), Fault(4, "lose")],
    "import-reduce": [Fault(3, "kill_after"), Fault(12, "kill"), Fault(40, "raise")],
    "import-finish": [Fault(2, "kill_after"), Fault(6, "kill")],
    "send-round": [Fault(3, "kill_after"), Fault(5, "raise")],
    "sender": [Fault(6, "kill_after"), Fault(60, "kill_after"), Fault(90, "lose"), Fault(140, "raise")],
    "events": [Fault(4, "kill_after"), Fault(30, "kill"), Fault(55, "lose"), Fault(80, "raise")],
    "callbacks-stream": [Fault(2, "kill_after"), Fault(9, "raise")],
    "callbacks-sender": [Fault(4, "kill_after"), Fault(25, "kill"), Fault(60, "lose")],
    "scheduler": [Fault(2, "kill_after")],
    "maintenance": [Fault(3, "kill")],
}
KILLED_AT = (150, 350, 550)
"""Whoever sends, and whoever indexes, is killed when SES has taken so many."""


def test_whoever_is_killed_it_is_exact(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(FAULTS)
    fates, options = Fates(script=people.fate, repeats=2, shuffled=True), Options(rate=200, quota=50_000)
    rules = [Rule("error", 429, "TooManyRequestsException", "Maximum sending rate exceeded.", every=300, times=3)]
    with deployed(tmp_path, tmp_path_factory, monkeypatch, rules=rules, options=options, fates=fates, faulty=plan) as office:
        caller = office.newcomer()
        secret = subscribe(caller, office.world.receiver_url)
        with killing(office):
            campaign = order(caller, people.dirty_sheet())
            campaigns = {campaign: people.PEOPLE}
            never = wait_for_doubt(office, caller, campaign)
            assert never, "a killed sender had some in its hands"
        concerned = caller.call("POST", f"/v1/campaigns/{campaign}/settle", 202, {"decision": "resend"})
        assert concerned["messages"] == len(never)
        wait_for_end(office, caller, campaigns)

        assert_exact(caller, office.world.ses.recipients(), campaigns)
        assert suppressed(caller) == people.listed()
        assert_told(office, secret, list(campaigns))
        assert_found(office, campaigns)
        assert_no_trouble(office)
        assert_enough(office)
        assert plan.missed() == []


def wait_for_doubt(office: Office, caller: Caller, campaign: str) -> set[str]:
    """Who was in a killed sender's hands and never reached SES: their messages are unknown, and nobody is written to again until a
    person says so. All others' are known by what SES tells."""
    accepted = office.world.ses.recipients

    def known() -> bool:
        counts = caller.call("GET", f"/v1/campaigns/{campaign}/status", 200)
        time.sleep(1)
        unknown: int = counts["counts"]["unknown"]
        return bool(counts["status"] == "completed" and unknown == len(people.PEOPLE) - len(set(accepted())))

    until(known, "all to be known but what was never sent", 400)
    never = set(people.PEOPLE) - set(accepted())
    assert {address for address, item in messages(caller, campaign).items() if item["status"] == "unknown"} == never
    return never


@contextmanager
def killing(office: Office) -> Iterator[None]:
    """Senders and the indexer, in the middle of it."""
    over = threading.Event()

    def watch() -> None:
        for accepted in KILLED_AT:
            while len(office.world.ses.accepted) < accepted:
                if over.wait(0.01):
                    return
            for function in ("sender", "indexer"):  # which talk to others than AWS
                functions.kill(office.world, function)

    thread = threading.Thread(target=watch, name="killer")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
