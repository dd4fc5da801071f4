"""Tags name one attempt at one message, and what is not exactly ours names none."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Invalid
from postroom.model.ids import Key
from postroom.model.tokens import (
    ATTEMPT_TAG,
    CAMPAIGN_TAG,
    MAX_ATTEMPT,
    MAX_BATCH,
    MAX_TENANT,
    MESSAGE_TAG,
    TENANT_TAG,
    MessageRef,
    parse_ses_tags,
    ses_tags,
)

refs = st.builds(
    MessageRef,
    st.integers(0, MAX_TENANT),
    st.text("234567abcdefghijklmnopqrstuvwxyz", min_size=16, max_size=16),
    st.integers(0, MAX_BATCH),
    st.binary(min_size=12, max_size=12).map(Key),
    st.integers(1, MAX_ATTEMPT),
)
REF = MessageRef(7, "abcdefgh23456722", 12, Key(b"k" * 12), 3)


def worn(ref: MessageRef) -> dict[str, list[str]]:
    return {name: [value] for name, value in ses_tags(ref)}


@given(refs)
def test_what_was_tagged_is_read(ref: MessageRef) -> None:
    assert parse_ses_tags(worn(ref)) == ref
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,256}", text) for pair in ses_tags(ref) for text in pair)


@dataclass(frozen=True)
class Change:
    name: str
    values: list[str]


@pytest.mark.parametrize(
    "change",
    [
        Change(TENANT_TAG, []),
        Change(TENANT_TAG, [str(MAX_TENANT + 1)]),
        Change(TENANT_TAG, ["07"]),
        Change(TENANT_TAG, ["٧"]),
        Change(CAMPAIGN_TAG, ["abcdefgh"]),
        Change(CAMPAIGN_TAG, ["abcdefgh23456722\n"]),
        Change(CAMPAIGN_TAG, ["abcdefgh23456722", "abcdefgh23456722"]),
        Change(MESSAGE_TAG, ["12"]),
        Change(MESSAGE_TAG, [f"{MAX_BATCH + 1}-" + "0" * 24]),
        Change(ATTEMPT_TAG, ["0"]),
        Change(ATTEMPT_TAG, ["32"]),
    ],
    ids=lambda change: f"{change.name}={change.values}",
)
def test_what_is_not_ours_is_of_no_message(change: Change) -> None:
    with pytest.raises(Invalid):
        parse_ses_tags(worn(REF) | {change.name: change.values})
    with pytest.raises(Invalid):
        parse_ses_tags({})
