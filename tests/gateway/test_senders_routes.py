"""`/v1/senders` at the door."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from postroom.errors import Unavailable
from postroom.gateway.routes.senders import sender_routes
from postroom.ledger.senders import Senders
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.services.senders import SenderService
from tests.fakes.clock import ManualClock
from tests.gateway.kit import client_of


class Silent:
    """A name server that somebody set up so."""

    def txt(self, name: str) -> list[str]:
        raise Unavailable(f"the DNS gave no answer about {name}")


def test_a_silent_name_server_shuts_the_door_to_nobody_else(tmp_path: Path) -> None:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        routes = sender_routes(SenderService(Senders(SqliteTables(control, clock), clock), Silent(), clock))
        with client_of([routes], "admin", "acme") as door:
            door.post("/v1/senders", json={"name": "silent.example"})
            for _ in range(6):
                found = door.post("/v1/senders/silent.example/verify").json()
                assert (found["verified"], found["finding"][:21]) == (False, "the DNS gave no answe")
            assert door.get("/v1/senders", headers={"Authorization": "Bearer viewer other"}).status_code == 200
