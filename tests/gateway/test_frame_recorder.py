"""Denials in the trail: many of them are few entries, whoever knocks from wherever."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from postroom.gateway.audit import LedgerAuditRecorder
from postroom.ledger.audit import INSTALLATION, AuditLog
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets


def test_who_changes_the_address_within_a_network_of_their_own_is_one_caller(tmp_path: Path) -> None:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        log = AuditLog(SqliteTables(control, clock), PlainSecrets(), clock)
        recorder = LedgerAuditRecorder(log, clock)
        for host in range(100):
            recorder.denied(None, f"2001:db8::{host:x}", "GET /v1/things: Unauthenticated")
        recorder.denied(None, "192.0.2.1", "GET /v1/things: Unauthenticated")
        recorder.denied(None, "192.0.2.2", "GET /v1/things: Unauthenticated")
        addresses = sorted(entry.address for entry in log.list(INSTALLATION).items)
    assert addresses == ["192.0.2.1", "192.0.2.2", "2001:db8::/64"]
