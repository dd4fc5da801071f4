"""A rotation: an older master key goes only when nothing needs it, and an interrupted one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from postroom.errors import Conflict, Corrupt, Unsupported
from postroom.platform.embedded.secrets import ConfiguredKeys, KeyFile, MasterSecrets
from postroom.services.key_rotation import Resealed, SealingKeyRotation
from tests.fakes.clock import ManualClock


class Shelf:
    """An owner of sealed things."""

    def __init__(self, secrets: MasterSecrets) -> None:
        self.secrets = secrets
        self.sealed: list[str] = []
        self.breaks = False

    def reseal(self) -> tuple[int, int]:
        done = left = 0
        for at, sealed in enumerate(self.sealed):
            if self.breaks:
                raise KeyboardInterrupt
            if self.secrets.is_current(sealed):
                continue
            try:
                self.sealed[at] = self.secrets.seal("shelf", self.secrets.open("shelf", sealed))
                done += 1
            except Corrupt:
                left += 1
        return done, left


class House:
    def __init__(self, root: Path) -> None:
        self.clock = ManualClock()
        self.path = root / "master.key"
        self.keys = KeyFile(self.path, self.clock)
        self.secrets = MasterSecrets(self.keys)
        self.shelves = [Shelf(self.secrets), Shelf(self.secrets)]
        self.rotation = SealingKeyRotation(
            self.keys, [(f"shelf {n}", s.reseal) for n, s in enumerate(self.shelves)], own=self.keys
        )


@pytest.fixture
def house(tmp_path: Path) -> House:
    house = House(tmp_path)
    for shelf in house.shelves:
        shelf.sealed = [house.secrets.seal("shelf", b"x") for _ in range(3)]
    return house


def test_after_a_rotation_and_a_day_the_older_key_is_dropped_and_everything_opens(house: House) -> None:
    first = house.rotation.known()[0].id
    assert house.rotation.rotate() == [Resealed("shelf 0", 3, 0), Resealed("shelf 1", 3, 0)]
    assert [key.id for key in house.rotation.known()][1:] == [first]
    house.clock.advance(25 * 3_600)
    assert house.rotation.drop_old() == 1
    assert house.rotation.drop_old() == 0
    assert first not in [key.id for key in house.rotation.known()]
    assert all(house.secrets.open("shelf", sealed) == b"x" for shelf in house.shelves for sealed in shelf.sealed)


def test_what_was_sealed_under_the_older_key_meanwhile_is_sealed_again_before_it_goes(house: House) -> None:
    late = house.secrets.seal("shelf", b"late")
    house.rotation.rotate()
    house.shelves[1].sealed.append(late)
    house.clock.advance(25 * 3_600)
    assert house.rotation.drop_old() == 1
    assert house.secrets.open("shelf", house.shelves[1].sealed[-1]) == b"late"


def test_an_interrupted_rotation_loses_nothing_and_goes_on(house: House) -> None:
    house.shelves[1].breaks = True
    with pytest.raises(KeyboardInterrupt):
        house.rotation.rotate()
    assert all(house.secrets.open("shelf", sealed) == b"x" for shelf in house.shelves for sealed in shelf.sealed)
    house.shelves[1].breaks = False
    assert house.rotation.reseal() == [Resealed("shelf 0", 0, 0), Resealed("shelf 1", 3, 0)]


def test_while_something_cannot_be_sealed_again_no_key_goes(house: House) -> None:
    house.shelves[0].sealed.append(house.secrets.seal("another", b"x"))
    house.rotation.rotate()
    house.clock.advance(25 * 3_600)
    with pytest.raises(Conflict, match="1 of shelf 0"):
        house.rotation.drop_old()
    assert len(house.rotation.known()) == 2


def test_keys_of_a_setting_are_not_ours_to_change() -> None:
    old, new = "A" * 43 + "=", "B" * 42 + "A="
    shelf = Shelf(MasterSecrets(ConfiguredKeys(f"{new},{old}")))
    shelf.sealed = [MasterSecrets(ConfiguredKeys(old)).seal("shelf", b"x")]
    keys = ConfiguredKeys(f"{new},{old}")
    rotation = SealingKeyRotation(keys, [("shelf", shelf.reseal)], own=None)
    with pytest.raises(Unsupported, match="POSTROOM_MASTER_KEY"):
        rotation.rotate()
    with pytest.raises(Unsupported, match="remove them"):
        rotation.drop_old()
    assert MasterSecrets(ConfiguredKeys(new)).open("shelf", shelf.sealed[0]) == b"x"
