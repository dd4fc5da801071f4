"""Providers: a tenant's own and shared ones, with a password that nobody but the sender gets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from postroom.errors import Conflict, Corrupt, Invalid, NotFound
from postroom.ledger.providers import MAX_PROVIDERS, Providers, ProviderSpec
from postroom.model.provider import MessageStream, Provider, UsageLimits, with_password, without_password
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.secrets import KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.ports.rates import RateLimit
from postroom.platform.ports.tables import ItemKey, Put, Write
from tests.fakes.clock import ManualClock

URL = "smtp://news:s3cret%40@smtp.example.com:587?tls=starttls"
BARE = "smtp://news@smtp.example.com:587?tls=starttls"
BULK, SINGLE = frozenset({MessageStream.BULK}), frozenset({MessageStream.TRANSACTIONAL})


class House:
    def __init__(self, root: Path, tables: SqliteTables, clock: ManualClock) -> None:
        self.tables, self.clock = tables, clock
        self.keys = KeyFile(root / "master.key", clock)
        self.secrets = MasterSecrets(self.keys)
        self.providers = Providers(tables, self.secrets, clock, default_url="smtp://me:pw@relay.example")

    def stored(self, partition: str) -> str:
        page = self.tables.query(partition)
        return json.dumps([[*item.key, dict(item.data)] for item in page.items])


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield House(tmp_path, SqliteTables(control, clock), clock)


@pytest.fixture
def providers(house: House) -> Providers:
    return house.providers


def names(found: list[Provider]) -> list[tuple[str | None, str]]:
    return [(provider.tenant, provider.name) for provider in found]


def test_a_provider_is_as_it_was_made_and_shows_no_password(house: House, providers: Providers) -> None:
    use = UsageLimits(per_second=14.5, per_day=50_000, connections=8)
    made = providers.create("acme", "relay", ProviderSpec(URL, use, BULK))
    assert made == providers.get("acme", "relay")
    assert (made.name, made.url, made.has_password, made.use, made.streams) == ("relay", BARE, True, use, BULK)
    assert (made.tenant, made.shared, made.created_at, made.version) == ("acme", False, house.clock.now(), 1)
    assert "s3cret" not in repr(made) + repr(ProviderSpec(URL)) + house.stored("acme#providers") + house.stored("#provider-seals")


def test_the_sender_gets_everything_and_its_repr_shows_nothing(providers: Providers) -> None:
    providers.create("acme", "relay", ProviderSpec(URL, UsageLimits(14.5, 50_000, 8), trusted=True))
    means = providers.credentials("acme", "relay")
    assert (means.id, means.url, means.connections, means.trusted) == ("acme/relay", URL, 8, True)
    assert means.limit == RateLimit(per_second=14.5, per_day=50_000)
    assert "s3cret" not in repr(means)
    assert providers.credentials("acme", "default").url == "smtp://me:pw@relay.example"


def test_another_tenants_provider_is_not_there(providers: Providers) -> None:
    providers.create("acme", "relay", ProviderSpec(URL))
    for call in (providers.get, providers.credentials, providers.for_campaign):
        with pytest.raises(NotFound):
            call("other", "relay")
        with pytest.raises(NotFound):
            call("acme", "missing")
    assert names(providers.list("other")) == [(None, "default")]


def test_shared_ones_are_everybodys_and_a_tenants_own_hides_one_of_its_name(providers: Providers) -> None:
    providers.create(None, "relay", ProviderSpec("smtp://shared.example"))
    providers.create(None, "other", ProviderSpec("smtp://other.example"))
    providers.create("acme", "relay", ProviderSpec("smtp://own.example"))
    assert names(providers.list("acme")) == [("acme", "relay"), (None, "other"), (None, "default")]
    assert names(providers.list("beta")) == [(None, "other"), (None, "relay"), (None, "default")]
    assert providers.credentials("acme", "relay").url == "smtp://own.example"
    assert providers.credentials("beta", "relay").url == "smtp://shared.example"
    assert providers.get(None, "relay").url == "smtp://shared.example"
    ids = [providers.credentials(tenant, "relay").id for tenant in ("acme", "beta")]
    assert ids == ["acme/relay", "/relay"]


def test_a_name_is_taken_once_and_the_same_call_again_makes_the_same(providers: Providers) -> None:
    made = providers.create("acme", "relay", ProviderSpec(URL), mark="call-1")
    assert providers.create("acme", "relay", ProviderSpec(URL), mark="call-1") == made
    for mark in ("", "call-2"):
        with pytest.raises(Conflict):
            providers.create("acme", "relay", ProviderSpec(URL), mark=mark)


@pytest.mark.parametrize("name", ["", "default", "Relay", "a b", "a/b", "ä", "a" * 41, "relay\n", "٣"])
def test_what_cannot_name_a_provider(providers: Providers, name: str) -> None:
    with pytest.raises(Invalid):
        providers.create("acme", name, ProviderSpec(URL))


def test_there_are_at_most_so_many(providers: Providers) -> None:
    for number in range(MAX_PROVIDERS):
        providers.create("acme", f"relay-{number}", ProviderSpec("smtp://relay.example"))
    with pytest.raises(Conflict, match=str(MAX_PROVIDERS)):
        providers.create("acme", "one-more", ProviderSpec("smtp://relay.example"))
    assert len(providers.list("acme")) == MAX_PROVIDERS + 1
    providers.create("beta", "relay", ProviderSpec("smtp://relay.example"))


def test_a_change_keeps_the_password_where_the_url_stays(providers: Providers) -> None:
    was = providers.create("acme", "relay", ProviderSpec(URL))
    now = providers.change(was, ProviderSpec(BARE, UsageLimits(per_second=1), SINGLE))
    assert (now.version, now.use, now.streams, now.created_at) == (2, UsageLimits(per_second=1), SINGLE, was.created_at)
    assert providers.credentials("acme", "relay").url == URL


@pytest.mark.parametrize(
    "url",
    [
        "smtp://news@evil.example:587?tls=starttls",
        "smtp://news@smtp.example.com:2525?tls=starttls",
        "smtp://news@smtp.example.com:587?tls=none&clear_auth=yes",
        "smtp://news@smtp.example.com:587?tls=starttls&verify=no",
        "smtp://other@smtp.example.com:587?tls=starttls",
    ],
)
def test_a_password_is_never_carried_to_another_url(providers: Providers, url: str) -> None:
    was = providers.create("acme", "relay", ProviderSpec(URL))
    with pytest.raises(Invalid, match="password"):
        providers.change(was, ProviderSpec(url))
    assert providers.credentials("acme", "relay").url == URL
    providers.change(was, ProviderSpec(with_password(url, "new")))
    assert providers.credentials("acme", "relay").url == with_password(url, "new")


def test_without_a_user_the_password_is_forgotten(house: House, providers: Providers) -> None:
    was = providers.create("acme", "relay", ProviderSpec(URL))
    assert not providers.change(was, ProviderSpec("smtp://smtp.example.com")).has_password
    assert house.stored("#provider-seals") == "[]"
    assert providers.credentials("acme", "relay").url == "smtp://smtp.example.com"


def test_of_two_who_change_the_same_one_wins(providers: Providers) -> None:
    was = providers.create("acme", "relay", ProviderSpec(URL))
    providers.change(was, ProviderSpec(BARE, UsageLimits(per_second=1)))
    with pytest.raises(Conflict):
        providers.change(was, ProviderSpec(BARE, UsageLimits(per_second=2)))
    with pytest.raises(Conflict):
        providers.delete(was)
    assert providers.get("acme", "relay").use == UsageLimits(per_second=1)


def test_what_is_deleted_is_gone_with_its_password(house: House, providers: Providers) -> None:
    was = providers.create("acme", "relay", ProviderSpec(URL))
    providers.delete(was)
    with pytest.raises(NotFound):
        providers.get("acme", "relay")
    with pytest.raises(NotFound):
        providers.change(was, ProviderSpec(URL))
    assert house.stored("acme#providers") == house.stored("#provider-seals") == "[]"


def test_a_sealed_password_does_not_open_in_anothers_place(house: House, providers: Providers) -> None:
    providers.create("acme", "relay", ProviderSpec(URL))
    providers.create("beta", "relay", ProviderSpec(URL))
    item = house.tables.get(ItemKey("acme#providers", "relay"))
    assert item is not None
    house.tables.write([Put(ItemKey("beta#providers", "relay"), item.data)])
    with pytest.raises(Corrupt):
        providers.credentials("beta", "relay")


def test_what_carries_single_messages_only_carries_no_campaign(providers: Providers) -> None:
    providers.create("acme", "single", ProviderSpec(URL, streams=SINGLE))
    providers.create("acme", "both", ProviderSpec(URL))
    with pytest.raises(Invalid, match="single messages"):
        providers.for_campaign("acme", "single")
    assert providers.for_campaign("acme", "both").name == "both"
    assert providers.for_campaign("acme", "default").name == "default"


def test_single_messages_leave_through_the_tenants_own_then_one_for_them_then_the_default(providers: Providers) -> None:
    assert providers.for_single("acme") == "default"
    providers.create(None, "both", ProviderSpec(URL))
    assert providers.for_single("acme") == "default"
    providers.create(None, "express", ProviderSpec(URL, streams=SINGLE))
    assert providers.for_single("acme") == "express"
    providers.create("acme", "bulk", ProviderSpec(URL, streams=BULK))
    assert providers.for_single("acme") == "express"
    providers.create("acme", "own", ProviderSpec(URL))
    assert providers.for_single("acme") == "own"
    assert providers.for_single("beta") == "express"


def test_after_a_rotation_every_password_is_under_the_newest_key(house: House, providers: Providers) -> None:
    for tenant in (None, "acme", "beta"):
        providers.create(tenant, "relay", ProviderSpec(URL))
    providers.create("acme", "open", ProviderSpec("smtp://relay.example"))
    house.keys.add()
    providers.create("beta", "new", ProviderSpec(URL))
    assert providers.reseal() == (3, 0)
    assert providers.reseal() == (0, 0)
    house.clock.advance(25 * 3_600)
    assert house.keys.drop_older() == 1
    assert {providers.credentials(tenant, "relay").url for tenant in ("acme", "beta", "gamma")} == {URL}


def test_a_password_whose_key_is_gone_is_left_and_counted(house: House, providers: Providers, tmp_path: Path) -> None:
    providers.create("acme", "lost", ProviderSpec(URL))
    (tmp_path / "master.key").unlink()
    house = House(tmp_path, house.tables, house.clock)  # as a new process
    house.providers.create("acme", "kept", ProviderSpec(URL))
    house.keys.add()
    assert house.providers.reseal() == (1, 1)


def test_a_password_that_is_being_changed_is_sealed_again_all_the_same(house: House, providers: Providers) -> None:
    """The change keeps the stored password, which is under the older key; it comes between the reading and the writing."""
    was = providers.create("acme", "relay", ProviderSpec(URL))
    house.keys.add()
    write = house.tables.write
    changed: list[bool] = []

    def interrupted(writes: Sequence[Write]) -> list[int]:
        if not changed:
            changed.append(True)
            providers.change(was, ProviderSpec(BARE, UsageLimits(per_second=1)))
        return write(writes)

    with pytest.MonkeyPatch.context() as faults:
        faults.setattr(house.tables, "write", interrupted)
        assert providers.reseal() == (1, 0)
    assert providers.reseal() == (0, 0)
    assert providers.get("acme", "relay").use == UsageLimits(per_second=1)


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        (URL, BARE, "s3cret%40"),
        ("smtp://relay.example", "smtp://relay.example", None),
        ("smtps://u:@[::1]:465", "smtps://u@[::1]:465", ""),
        ("smtp://u:a:b@h", "smtp://u@h", "a:b"),
        ("smtp://u:a@b@h?tls=none", "smtp://u@h?tls=none", "a@b"),
        ("inbox:", "inbox:", None),
    ],
)
def test_a_url_and_its_password_come_apart_and_together(url: str, bare: str, password: str | None) -> None:
    assert without_password(url) == (bare, password)
    assert with_password(bare, password) == url


@pytest.mark.parametrize("url", ["smtp://relay.example", "smtp://u:p@relay.example", "smtp://[broken"])
def test_a_password_needs_a_place_in_the_url(url: str) -> None:
    with pytest.raises(Invalid) as raised:
        with_password(url, "s3cret")
    assert "s3cret" not in str(raised.value)
