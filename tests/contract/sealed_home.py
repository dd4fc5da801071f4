"""The embedded home whose objects are all encrypted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

import pytest

from postroom.platform.embedded._encryption import ObjectEncryption
from postroom.platform.embedded.objects import FileObjects
from tests.contract.embedded_home import EmbeddedHome


class SealedHome(EmbeddedHome):
    """See the module's text."""

    def objects(self) -> FileObjects:
        sealing = ObjectEncryption(self.secrets(), lambda _key: True)
        return self._closers.enter_context(closing(FileObjects(self.root / "objects", self.clock, sealing=sealing)))


@contextmanager
def open_home(request: pytest.FixtureRequest) -> Iterator[SealedHome]:
    """A home in the test's own directory."""
    with ExitStack() as closers:
        yield SealedHome(request.getfixturevalue("tmp_path"), closers)
