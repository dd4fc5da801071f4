"""A campaign on the real embedded stores, with a clock that is moved by hand: for tests of what the ledger does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postroom.ledger.campaigns import CampaignCompletion, Campaigns
from postroom.model.batch import batch_of
from postroom.model.campaign import Campaign, CampaignStatus, Import, Policies, Schedule
from postroom.model.ids import recipient_key
from postroom.model.message import MessageRow
from postroom.platform.embedded._ledger import LedgerFiles
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.journal import FileJournals
from postroom.platform.embedded.messages import SqliteMessages
from postroom.platform.embedded.queues import SqliteQueues
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.embedded.timers import SqliteTimers
from postroom.platform.embedded.workflows import SqliteWorkflows
from tests.fakes.campaigns import campaign_record, campaign_spec
from tests.fakes.clock import ManualClock

SECRET = b"s" * 32


class Bench:
    """Stores, clock and one campaign of `people` recipients in `batches` batches."""

    def __init__(self, root: Path) -> None:
        self.clock = ManualClock()
        self.control = open_control(root)
        self.ledgers = LedgerFiles(root / "ledgers")
        self.messages = SqliteMessages(self.ledgers)
        self.journals = FileJournals(root / "journals", self.clock)
        self.tables = SqliteTables(self.control, self.clock)
        self.queues = SqliteQueues(self.control, self.clock)
        self.timers = SqliteTimers(self.control, self.clock)
        self.workflows = SqliteWorkflows(self.control, self.clock)
        self.campaigns = Campaigns(self.tables, self.clock)
        self.finish = CampaignCompletion(self.campaigns, self.messages)

    def campaign(
        self,
        state: CampaignStatus = CampaignStatus.SENDING,
        *,
        people: int = 10,
        batches: int = 2,
        schedule: Schedule | None = None,
        policies: Policies | None = None,
    ) -> Campaign:
        """A campaign past its import."""
        home = self.campaigns.new_ref("default")
        self.messages.create(home, batches)
        self.messages.store(home, [_row(line, batches) for line in range(2, people + 2)], self.clock.now())
        self.messages.recount(home)
        return self.campaigns.create(
            campaign_record(
                home,
                state,
                self.clock.now(),
                spec=campaign_spec(schedule=schedule, policies=policies or Policies()),
                source=Import("upload", "people.csv", batches=batches, rows=people),
                started_at=self.clock.now(),
                start_when_ready=True,
            )
        )


@contextmanager
def bench(root: Path) -> Iterator[Bench]:
    """A bench whose files are closed at the end."""
    made = Bench(root)
    try:
        yield made
    finally:
        made.ledgers.close()
        made.control.close()


def _row(line: int, batches: int) -> MessageRow:
    address = f"person{line}@example.com"
    key = recipient_key(SECRET, address)
    return MessageRow(batch_of(key, batches), key, line, address, None, "[]")
