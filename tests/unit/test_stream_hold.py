"""A restored installation sends no single message that may have left since the backup."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from postroom.ledger import scheduler_messages
from postroom.ledger.bulk_update import BulkUpdate, hold_streams
from postroom.ledger.streams import DailyStreams
from postroom.model.message import MessageStatus
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.queues import SqliteQueues
from postroom.platform.embedded.workflows import SqliteWorkflows
from postroom.platform.mail.port import Result, Stage, Verdict
from postroom.settings import Settings
from postroom.wiring.doctor import backups
from tests.fakes.clock import ManualClock
from tests.fakes.transactional import TransactionalBench, request, transactional_bench


def _hold(made: TransactionalBench) -> int:
    stores = made.made
    return hold_streams(
        [made.ref],
        stores.messages,
        stores.workflows,
        bulk_update=BulkUpdate(stores.messages, stores.journals, made.clock, lease_ms=10_000),
        clock=made.clock,
        reason="restored",
    )


def test_whoever_was_waiting_is_in_doubt_and_is_not_sent_to(tmp_path: Path) -> None:
    with transactional_bench(tmp_path) as made:
        made.accept(request("sent@example.org"))
        made.send(lambda: made.states() == ["sent"])
        made.mailer.answer = lambda _address: Result(Verdict.TEMPORARY, 451, "", "later", Stage.RCPT)
        made.accept(request("deferred@example.org"))
        made.send(lambda: made.states() == ["deferred", "sent"])
        made.accept(request("pending@example.org"))
        assert _hold(made) == 2
        assert made.states() == ["sent", "unknown", "unknown"]
        assert not made.streams.owes(made.ref)
        assert made.made.workflows.running(scheduler_messages.STREAM) == []
        assert _hold(made) == 0


def test_what_was_stored_and_not_yet_counted_is_in_doubt_too(tmp_path: Path) -> None:
    with transactional_bench(tmp_path) as made:
        (accepted,) = made.accept(request())
        message = made.message(accepted)
        assert message.status is MessageStatus.PENDING
        with made.made.ledgers.get(made.ref).write() as database:
            database.execute("UPDATE batch SET pending = 0, next_due = NULL")
        assert _hold(made) == 1


def test_a_restore_holds_the_streams_of_every_tenant_whatever_the_workflows_say(tmp_path: Path) -> None:
    data, target = tmp_path / "data", tmp_path / "new"
    with transactional_bench(data) as made:
        made.tenants.create("other")
        homes = [result.ref for tenant in ("default", "other") for result in made.accept(request(), tenant=tenant)]
        for home in homes:
            made.made.workflows.stop(scheduler_messages.STREAM, home.campaign, "as if woken a moment later")
    backups(Settings(data=data)).backup(tmp_path / "backup", lambda _name: None)
    restored = backups(Settings(data=target)).restore(tmp_path / "backup", lambda _name: None)
    assert restored.in_doubt == 2
    with closing(open_control(target)) as control, closing(LedgerFiles(target / "ledgers")) as ledgers:
        messages, clock = SqliteMessages(ledgers), ManualClock()
        streams = DailyStreams(messages, SqliteWorkflows(control, clock), SqliteQueues(control, clock))
        assert [streams.owes(home) for home in homes] == [False, False]
        assert [messages.counts(home).unknown for home in homes] == [1, 1]
