"""A message's id: what is written is read, and nothing else is an id."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import NotFound
from postroom.model.campaign import CampaignRef
from postroom.model.ids import Key, encode
from postroom.model.tokens import MESSAGE_ID_LENGTH, message_id, parse_message_id

CAMPAIGN = encode(2**79 + 12345, 16)


@given(st.integers(0, 2**80 - 1), st.binary(min_size=12, max_size=12))
def test_an_id_comes_back_as_its_campaign_and_key(number: int, key: bytes) -> None:
    campaign = encode(number, 16)
    text = message_id(CampaignRef("default", campaign), Key(key))
    assert len(text) == MESSAGE_ID_LENGTH
    assert parse_message_id(text) == (campaign, key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        CAMPAIGN,
        f"{CAMPAIGN}-",
        f"{CAMPAIGN}-{'2' * 19}",
        f"{CAMPAIGN}-{'2' * 21}",
        f"{CAMPAIGN}-{'z' * 20}",  # 100 bits: more than a key has
        f"{CAMPAIGN}_{'2' * 20}",
        f"{CAMPAIGN}-{'2' * 19}A",
        f"{CAMPAIGN}-{'2' * 19}1",
        f"{CAMPAIGN}-{'2' * 20}\n",
        f"{CAMPAIGN}-{'2' * 19}\x00",
    ],
)
def test_what_is_no_id_is_a_message_nobody_has(text: str) -> None:
    with pytest.raises(NotFound):
        parse_message_id(text)
