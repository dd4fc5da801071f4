"""What a message costs, from upload to delivered: counted by the stack's own functions, beside the emulator and beside the stand-in."""

from __future__ import annotations

import pytest
from bench.aws import FEW, measured
from bench.aws_bill import Bill
from bench.aws_engines import installed, mailing, searching

from tests.aws.emulator import emulator

RATE = 150
MOST_DOLLARS = 5.0
"""A million messages."""
_SDK_S = 0.001


def test_a_million_messages_cost_five_dollars_at_most_and_a_message_three_writes(request: pytest.FixtureRequest) -> None:
    pytest.importorskip("osmem_server")
    account = emulator(request.config)
    with mailing() as mail, searching() as search:
        both = {"POSTROOM_MAIL": mail, "POSTROOM_AWS_SEARCH": search}
        real = measured(installed(account) | both, recipients=200, stand_in=False, notices=FEW)
        few = measured(installed(account) | both, recipients=200, notices=FEW)
        many = measured(installed(account) | both, recipients=1_500)
    assert [each.total("own") / each.recipients for each in (real, few, many)] == [3.0, 3.0, 3.0]
    assert real.total("writes") == pytest.approx(few.total("writes"), rel=0.02), "the stand-in is asked for the same"
    assert real.total("reads") == pytest.approx(few.total("reads"), rel=0.05)
    assert many.total("writes") / many.recipients < 3.15, "what is not the messages' own is little"
    lines = Bill(many, few, sdk_s=_SDK_S).at(RATE)
    assert sum(line.dollars for line in lines) <= MOST_DOLLARS, lines
