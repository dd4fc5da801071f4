"""Shows what sending a campaign would do: reads its upload from the beginning and composes messages. Stores and sends nothing.

Rows and seconds are bounded for any upload. What an import decides over the whole file (a duplicate of a later row) is reported
only as far as rows were read.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

from postroom.clock import Clock, Instant
from postroom.delivery.compose import Composed, Composer, ContentCompiler, RowError
from postroom.errors import Invalid, NotFound
from postroom.ledger.suppression import SuppressionList
from postroom.ledger.tenants import Tenants
from postroom.model.campaign import Campaign, CampaignSpec, Import
from postroom.model.ids import Key, key_maker
from postroom.model.message import MessageRow, MessageStatus, Recipient
from postroom.platform.ports.objects import Objects
from postroom.recipients_file.encoding import decode
from postroom.recipients_file.layout import HEAD_BYTES, Layout, layout_for
from postroom.recipients_file.records import Record, read_records
from postroom.recipients_file.rows import DUPLICATE, SUPPRESSED, Reject, read_rows
from postroom.services.mail_reading import read_headers

MAX_ROWS = 1_000
MAX_SECONDS = 8.0
MAX_PROBLEMS = 100
MAX_SHOWN = 200_000
"""Characters of the sample message shown."""
NOT_COMPOSED = "not_composed"
_BLOCK = 65_536
_CHARACTERS = 4_000_000  # of rows held at once


@dataclass(frozen=True, slots=True)
class SampleMessage:
    """A composed message."""

    line: int
    to: str
    subject: str
    size: int
    """Bytes."""
    source: str
    """As on the wire (RFC 5322), cut to `MAX_SHOWN`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRunResult:
    """`rows` = `accepted` + `invalid` + `duplicate` + `suppressed`."""

    rows: int
    complete: bool
    """Whether all rows of the upload were read."""
    accepted: int
    invalid: int
    duplicate: int
    suppressed: int
    not_composed: int
    """Accepted rows for which no message can be composed."""
    largest: int
    """Bytes of the largest message."""
    problems: list[Reject]
    """The first problems, by line."""
    sample: SampleMessage | None


class DryRun:
    """Composes messages of the upload without storing or sending any."""

    def __init__(
        self, *, composing: ContentCompiler, objects: Objects, suppression: SuppressionList, tenants: Tenants, clock: Clock
    ) -> None:
        self._composing = composing
        self._objects = objects
        self._suppression = suppression
        self._tenants = tenants
        self._clock = clock

    def run(self, campaign: Campaign, *, rows: int = MAX_ROWS) -> DryRunResult:
        """Examine the first `rows` rows. Raises `Invalid` if the upload is gone or unusable."""
        deadline = self._clock.monotonic() + MAX_SECONDS
        composer = self._composing.load(campaign)
        layout, records, complete = self._records(campaign.spec, campaign.source, rows)
        key_of = key_maker(self._tenants.get(campaign.ref.tenant).secret)
        read = read_rows(records, layout, key_of, batches=1)
        keys = [message.key for message in read.messages]
        on_list = self._suppression.suppressed(campaign.ref.tenant, keys, topic=campaign.spec.content.topic)
        others, kept = _sorted_out(read.messages, on_list)
        others += read.rejects
        trial = _Trial()
        for message in kept:
            if self._clock.monotonic() > deadline:
                others, complete = [reject for reject in others if reject.line < message.line], False
                break
            trial.take(composer, message, self._clock.now())
        return _summed(trial, others, complete=complete)

    def _records(self, spec: CampaignSpec, source: Import, limit: int) -> tuple[Layout, list[Record], bool]:
        """The upload's layout, its first rows (at most `limit`), and whether these are all."""
        info = self._objects.info(source.upload_key, source.upload_version)
        if info is None:
            raise Invalid(f"The upload {source.filename} is gone: upload it again.")
        try:
            head = self._objects.read(source.upload_key, 0, HEAD_BYTES, info.version)
            layout = layout_for(spec, source, head, whole=len(head) == info.size)
            with closing(self._objects.open(source.upload_key, info.version)) as stream:
                blocks: Iterator[bytes] = iter(lambda: stream.read(_BLOCK), b"")
                records = read_records(decode(blocks, layout.encoding), layout.delimiter)
                return layout, *_taken(islice(records, layout.skip, None), limit)
        except NotFound as error:
            raise Invalid(f"The upload {source.filename} is gone: upload it again.") from error


class _Trial:
    def __init__(self) -> None:
        self.accepted = self.largest = 0
        self.failed: list[Reject] = []
        self.sample: SampleMessage | None = None

    def take(self, composer: Composer, message: MessageRow, now: Instant) -> None:
        self.accepted += 1
        line, address = message.line, message.address
        try:
            composed = composer.compose(
                0, Recipient(message.key, line, address, message.name, message.values, MessageStatus.PENDING, 0), now
            )
        except RowError as error:
            self.failed.append(Reject(line, address, NOT_COMPOSED, str(error)))
            return
        self.largest = max(self.largest, len(composed.content))
        self.sample = self.sample or _sample(line, composed)


def _summed(trial: _Trial, others: list[Reject], *, complete: bool) -> DryRunResult:
    duplicate = sum(reject.reason == DUPLICATE for reject in others)
    suppressed = sum(reject.reason == SUPPRESSED for reject in others)
    return DryRunResult(
        rows=trial.accepted + len(others),
        complete=complete,
        accepted=trial.accepted,
        invalid=len(others) - duplicate - suppressed,
        duplicate=duplicate,
        suppressed=suppressed,
        not_composed=len(trial.failed),
        largest=trial.largest,
        problems=sorted([*others, *trial.failed])[:MAX_PROBLEMS],
        sample=trial.sample,
    )


def _taken(records: Iterator[Record], limit: int) -> tuple[list[Record], bool]:
    """Rows up to `limit` and the character bound (one row may be as long as a thousand others), and whether these are all."""
    taken: list[Record] = []
    room = _CHARACTERS
    for record in records:
        room -= sum(map(len, record[1]))
        if len(taken) == limit or (taken and room < 0):
            return taken, False
        taken.append(record)
    return taken, True


def _sorted_out(messages: list[MessageRow], on_list: set[Key]) -> tuple[list[Reject], list[MessageRow]]:
    """Suppressed and duplicate rows, and the rest."""
    problems: list[Reject] = []
    kept: dict[Key, MessageRow] = {}
    for message in messages:
        first = kept.setdefault(message.key, message)
        if message.key in on_list:
            problems.append(Reject(message.line, message.address, SUPPRESSED, "The address is on the suppression list."))
        elif first is not message:
            detail = f"The same recipient as in line {first.line}."
            problems.append(Reject(message.line, message.address, DUPLICATE, detail))
    return problems, [message for message in kept.values() if message.key not in on_list]


def _sample(line: int, composed: Composed) -> SampleMessage:
    subject = next((value for name, value in read_headers(composed.content) if name.lower() == "subject"), "")
    source = composed.content[: 4 * MAX_SHOWN].decode("utf-8", "replace")[:MAX_SHOWN]
    return SampleMessage(line, composed.rcpt_to, subject, len(composed.content), source)
