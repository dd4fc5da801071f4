"""A campaign through the deployed stack: records, suppression list, callbacks and index agree with what SES did, each recipient once."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.aws_e2e import people
from tests.aws_e2e.office import follow, order, suppressed
from tests.aws_e2e.privileges import assert_enough, assert_least
from tests.aws_e2e.stack import deployed
from tests.aws_e2e.truth import assert_exact, assert_found, assert_no_trouble, assert_told, engaged, subscribe, wait_for_end
from tests.fakes.ses_simulator.fates import Fates
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.flow.campaign_kit import until

_AHEAD_S = 25
"""The scheduled campaign starts so long from now: its import has ended by then."""


def rules() -> list[Rule]:
    """Too fast for SES now and then, once a pace is known; and some answers are lost after the mail was taken."""
    return [
        Rule("error", 429, "TooManyRequestsException", "Maximum sending rate exceeded.", every=300, times=3),
        Rule("accept_drop", to="taken*"),
        Rule("accept_cut", to="returned*"),
    ]


def test_what_ses_did_is_what_everybody_is_told(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    fates, options = Fates(script=people.fate, repeats=2, shuffled=True), Options(rate=200, quota=50_000)
    with deployed(tmp_path, tmp_path_factory, monkeypatch, rules=rules(), options=options, fates=fates) as office:
        caller = office.newcomer()
        secret = subscribe(caller, office.world.receiver_url)
        now = order(caller, people.dirty_sheet())
        at = datetime.fromtimestamp(time.time() + _AHEAD_S, UTC)
        later = order(caller, people.sheet(people.LATER), schedule={"at": at.isoformat(), "timezone": "UTC"})
        campaigns = {now: people.PEOPLE, later: people.LATER}
        wait_for_end(office, caller, campaigns)

        ses = office.world.ses
        assert_exact(caller, ses.recipients(), campaigns)
        assert min(message.at for message in ses.accepted if message.recipient in people.LATER) >= at.timestamp()
        counts = caller.call("GET", f"/v1/campaigns/{now}/status", 200)["counts"]
        assert (counts["invalid"], counts["duplicate"]) == (len(people.INVALID), people.DUPLICATES)
        assert suppressed(caller) == people.listed()
        assert_told(office, secret, list(campaigns))
        assert_found(office, campaigns)
        follow(office, ses.accepted[0])
        until(lambda: engaged(caller, campaigns) == (1, 1), "it to be known who opened and clicked")
        assert_no_trouble(office)
        assert_enough(office)
        assert_least(office)
