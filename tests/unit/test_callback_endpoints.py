"""Endpoints and their secrets, as they are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from postroom.errors import Conflict, NotFound
from postroom.ledger.callback_endpoints import MAX_ENDPOINTS, CallbackEndpoints, CallbackSecrets, EndpointSettings
from postroom.model.callback import OLD_SECRET_MS
from postroom.model.event import EventKind
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.secrets import KeyFile, MasterSecrets
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.fakes.faults import Faults, Killed

WISHES = EndpointSettings(url="https://shop.example/hook", kinds=frozenset({EventKind.BOUNCED}))
S1, S2, S3 = (bytes([number]) * 32 for number in (1, 2, 3))


class Desk:
    """The records over one control file."""

    def __init__(self, root: Path, faults: Faults | None = None) -> None:
        self.control = open_control(root)
        self.clock = ManualClock()
        self.tables = (faults or Faults()).wrap(SqliteTables(self.control, self.clock))
        self.secrets = CallbackSecrets(self.tables, MasterSecrets(KeyFile(root / "master.key", self.clock)), self.clock)
        self.callbacks = CallbackEndpoints(self.tables, self.secrets, self.clock)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    with closing(made.control):
        yield made


def test_the_same_call_again_makes_one(desk: Desk) -> None:
    first = desk.callbacks.create("acme", WISHES, id="one", secret=S1)
    assert desk.callbacks.create("acme", WISHES, id="one", secret=S1) == first
    assert desk.callbacks.list("acme") == [first]
    assert desk.callbacks.list("other") == []
    assert desk.callbacks.signing_secrets(first) == [S1]


def test_a_secret_is_stored_sealed(desk: Desk, tmp_path: Path) -> None:
    desk.callbacks.create("acme", WISHES, id="one", secret=S1)
    assert all(S1 not in path.read_bytes() and S1.hex().encode() not in path.read_bytes() for path in tmp_path.glob("*.db*"))


def test_after_a_rotation_both_sign_for_a_day(desk: Desk) -> None:
    endpoint = desk.callbacks.create("acme", WISHES, id="one", secret=S1)
    desk.callbacks.rotate("acme", "one", S2)
    desk.callbacks.rotate("acme", "one", S2)
    assert desk.callbacks.signing_secrets(endpoint) == [S2, S1]
    desk.clock.advance(OLD_SECRET_MS / 1000)
    assert desk.callbacks.signing_secrets(endpoint) == [S2]


def test_a_rotation_within_the_day_ends_the_oldest(desk: Desk) -> None:
    endpoint = desk.callbacks.create("acme", WISHES, id="one", secret=S1)
    desk.callbacks.rotate("acme", "one", S2)
    desk.callbacks.rotate("acme", "one", S3)
    assert desk.callbacks.signing_secrets(endpoint) == [S3, S2]


def test_what_is_removed_is_gone_with_its_secret(desk: Desk) -> None:
    endpoint = desk.callbacks.create("acme", WISHES, id="one", secret=S1)
    desk.callbacks.remove(endpoint)
    with pytest.raises(NotFound):
        desk.callbacks.get("acme", "one")
    with pytest.raises(NotFound):
        desk.callbacks.signing_secrets(endpoint)
    assert desk.secrets.reseal() == (0, 0)


def test_a_change_of_what_somebody_changed_since_is_refused(desk: Desk) -> None:
    was = desk.callbacks.create("acme", WISHES, id="one", secret=S1)
    changed = desk.callbacks.change(was, description="new")
    assert desk.callbacks.get("acme", "one") == changed
    with pytest.raises(Conflict):
        desk.callbacks.change(was, description="old")
    with pytest.raises(Conflict):
        desk.callbacks.remove(was)


def test_there_is_a_most(desk: Desk) -> None:
    for number in range(MAX_ENDPOINTS):
        desk.callbacks.create("acme", WISHES, id=str(number), secret=S1)
    with pytest.raises(Conflict):
        desk.callbacks.create("acme", WISHES, id="more", secret=S1)


def test_one_that_others_were_made_beside_is_listed_and_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls at the same time may pass the most by a few: whoever was told that theirs was made has it."""
    for number in range(MAX_ENDPOINTS - 1):
        desk.callbacks.create("acme", WISHES, id=f"{number:02}", secret=S1)
    seen = desk.callbacks.list("acme")
    with monkeypatch.context() as patched:
        patched.setattr(desk.callbacks, "list", lambda tenant: seen)
        made = [desk.callbacks.create("acme", WISHES, id=id, secret=S1) for id in ("x", "y", "z")]  # noqa: A001
    assert desk.callbacks.list("acme") == [*seen, *made]
    with pytest.raises(Conflict):
        desk.callbacks.create("acme", WISHES, id="more", secret=S1)


def test_failing_is_noted_from_its_beginning_until_it_works(desk: Desk) -> None:
    endpoint = desk.callbacks.create("acme", WISHES, id="one", secret=S1)
    began = desk.clock.now()
    desk.callbacks.failed(endpoint)
    desk.clock.advance(5)
    desk.callbacks.failed(desk.callbacks.get("acme", "one"))
    assert desk.callbacks.get("acme", "one").failing_since == began
    desk.callbacks.worked(desk.callbacks.get("acme", "one"))
    assert desk.callbacks.get("acme", "one").failing_since is None


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_while_one_is_made_leaves_all_of_it_or_nothing(tmp_path: Path, after: bool) -> None:
    number = 1
    while True:
        faults = Faults(number, after=after)
        made = Desk(tmp_path / str(number), faults)
        again = Desk(tmp_path / str(number))
        with closing(made.control), closing(again.control):
            try:
                made.callbacks.create("acme", WISHES, id="one", secret=S1)
            except Killed:
                again.callbacks.create("acme", WISHES, id="one", secret=S1)
            assert again.callbacks.signing_secrets(again.callbacks.get("acme", "one")) == [S1]
        if len(faults.calls) < number:
            return
        number += 1
