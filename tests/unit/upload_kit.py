"""An upload service on the real embedded stores, and a way to let bytes arrive as the door would."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from postroom.model.upload import UploadKind
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.embedded.transfers import HttpTransfers
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.tables import Tables, Write
from postroom.services.uploads import Announcement, UploadInUse, UploadService
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets

TENANT = "acme"
CSV = "E-Mail;Name\r\nann@mail.example;Ännchen\r\nbob@mail.example; Bob \r\nnobody;\r\n".encode()
DAY_S = 86_400


class Killed(BaseException):
    """The process ends here."""


class DyingTables:
    """Dies before (or, with `after`, right after) the write whose turn it is; None: lives."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self.dies_in: int | None = None
        self.after = False

    def __getattr__(self, name: str) -> object:
        return getattr(self._tables, name)

    def write(self, writes: Sequence[Write]) -> list[int]:
        if self.dies_in is None:
            return self._tables.write(writes)
        self.dies_in -= 1
        if self.dies_in < 0 and not self.after:
            raise Killed
        done = self._tables.write(writes)
        if self.dies_in < 0:
            raise Killed
        return done


class Uploads:
    """See the module's text. `Uploads` of one directory are processes of one installation."""

    def __init__(self, root: Path, closers: ExitStack, clock: ManualClock, *, upload_days: int = 30) -> None:
        self.clock = clock
        self.tables = DyingTables(SqliteTables(closers.enter_context(closing(open_control(root))), clock))
        tables: Tables = self.tables  # type: ignore[assignment]  # the rest of it is delegated
        self.objects: Objects = closers.enter_context(closing(FileObjects(root / "objects", clock)))
        self.transfers = HttpTransfers(self.objects, tables, PlainSecrets(), api_base_url="http://door.example", clock=clock)
        self.used: set[str] = set()
        in_use: UploadInUse = lambda _tenant, upload: upload in self.used  # noqa: E731
        self.service = UploadService(tables, self.objects, self.transfers, clock, upload_days=upload_days, in_use=in_use)

    def announce(
        self, raw: bytes = CSV, *, kind: UploadKind = UploadKind.RECIPIENTS, filename: str = "people.csv", tenant: str = TENANT
    ) -> str:
        """A new upload's id."""
        self.clock.advance(0.001)
        what = Announcement(kind, filename, "text/csv", len(raw))
        return self.service.create(tenant, self.service.new_id(), what, author="ann@acme.example").upload.id

    def arrive(self, upload_id: str, raw: bytes = CSV, tenant: str = TENANT) -> None:
        """The bytes of an upload, as the door stores them."""
        self.objects.put(f"{tenant}/uploads/{upload_id}", raw, content_type="text/csv", if_absent=True)

    def brought(self, raw: bytes = CSV, *, kind: UploadKind = UploadKind.RECIPIENTS, filename: str = "people.csv") -> str:
        """The id of an upload whose bytes are there."""
        upload_id = self.announce(raw, kind=kind, filename=filename)
        self.arrive(upload_id, raw)
        return upload_id

    def housekeeping(self) -> int:
        """All that is due."""
        done = 0
        while step := self.service.expire(self.clock.now(), limit=7):
            done += step
            if step < 7:
                break
        return done

    def stored(self) -> list[str]:
        """The keys of all objects, deleted ones included."""
        return [info.key for info in self.objects.list().objects]

    def due(self) -> int:
        """How many uploads housekeeping knows of."""
        return len(self.tables._tables.query("#uploads-by-expiry", limit=1_000).items)


@contextmanager
def open_uploads(root: Path, clock: ManualClock, *, upload_days: int = 30) -> Iterator[Uploads]:
    """One process."""
    with ExitStack() as closers:
        yield Uploads(root, closers, clock, upload_days=upload_days)
