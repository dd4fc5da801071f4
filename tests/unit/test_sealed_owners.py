"""A rotation reaches everything: no store of an installation holds anything under a master key that may be dropped."""

from __future__ import annotations

import io
import json
import sqlite3
from contextlib import closing
from pathlib import Path

from postroom.clock import Instant
from postroom.ledger.callback_endpoints import EndpointSettings
from postroom.ledger.providers import ProviderSpec
from postroom.model.event import EventKind
from postroom.settings import Settings
from postroom.wiring import Container, open_app

SHORT_LIVED = {"#idempotency"}
"""Partitions whose items last a day at most: an older master key is kept longer."""


def fill(postroom: Container) -> None:
    """At least one thing of each kind that is kept under the master key."""
    postroom.providers.create("acme", "relay", ProviderSpec("smtp://u:p@relay.example"))
    postroom.dkim.add("acme", "shop.example", ed25519=True)
    wishes = EndpointSettings(url="https://shop.example/", kinds=frozenset(EventKind))
    postroom.callback_service.create("acme", wishes, id="hook", secret=b"s" * 32)
    postroom.callback_service.rotate("acme", "hook", b"t" * 32)
    postroom.callback_service.campaign_secret("acme")
    postroom.objects.put("acme/uploads/1", io.BytesIO(b"ada@example.com\n" * 10_000))
    postroom.audit._audit_key()
    assert postroom.issuer is not None
    postroom.issuer.keys.published()
    soon = Instant(postroom.clock.now() + 60_000)
    postroom.stores.transfers.get("acme/uploads/1", filename="a", content_type="text/csv", expires_at=soon)


def under(data: Path, master: str) -> list[str]:
    """Where a sealed or wrapped text under that master key is found, in any database."""
    found = []
    marks = [f"{form}.{master}." for form in ("s1", "w1")]
    for path in data.rglob("*.db"):
        with closing(sqlite3.connect(path)) as database:
            tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                for row in database.execute(f'SELECT * FROM "{table}"'):
                    text = json.dumps([cell.decode("latin-1") if isinstance(cell, bytes) else cell for cell in row])
                    found += [f"{path.name} {table} {row[0]}" for mark in marks if mark in text]
    return [place for place in found if not any(name in place for name in SHORT_LIVED)]


def test_after_a_rotation_nothing_is_left_under_the_older_key(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with open_app(Settings(data=data)) as postroom:
        fill(postroom)
        (old,) = [key.id for key in postroom.rotation().known()]
        assert len(under(data, old)) == 8
        assert all(resealed.left == 0 for resealed in postroom.rotation().rotate())
        assert under(data, old) == []
        assert {resealed.done for resealed in postroom.rotation().reseal()} == {0}
