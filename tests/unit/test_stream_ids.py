"""A stream's id says the day, the tenant and the batches, and is no campaign's."""

from __future__ import annotations

import pytest

from postroom.clock import Instant
from postroom.errors import Invalid
from postroom.model import ids
from postroom.model.stream import day_of, is_stream, stream_batches, stream_day, stream_ref, transactional_key
from postroom.model.tenant import Tenant
from postroom.platform.ports.limits import check_name
from tests.fakes.clock import START

TENANT = Tenant("acme", 2**25 - 1, b"s" * 32)


def test_an_id_says_what_is_needed_to_find_a_message() -> None:
    home = stream_ref(TENANT, day_of(START))
    assert home.tenant == "acme"
    assert (stream_day(home.campaign), stream_batches(home.campaign)) == (day_of(START), 32)
    check_name(home.campaign, "execution")


def test_streams_of_two_tenants_or_days_differ() -> None:
    other = Tenant("other", 7, b"s" * 32)
    homes = {stream_ref(tenant, day).campaign for tenant in (TENANT, other) for day in (1, 2)}
    assert len(homes) == 4


def test_no_campaign_has_a_streams_id_before_2054() -> None:
    in_2054 = Instant(2_650_838_400_000)
    assert is_stream(stream_ref(TENANT, 1).campaign)
    assert not is_stream(ids.campaign_id(in_2054, b"\xff" * 5))


def test_what_is_no_stream_is_refused() -> None:
    for text in ("", "zz", "a" * 16, "zz" + "0" * 14):
        with pytest.raises(Invalid):
            stream_day(text)


def test_keys_differ_by_seed_index_and_tenant() -> None:
    keys = {transactional_key(secret, seed, index) for secret in (b"a", b"b") for seed in ("1.x", "1.y") for index in (0, 1)}
    assert len(keys) == 8
    assert transactional_key(b"a", "1.x", 0) == transactional_key(b"a", "1.x", 0)
