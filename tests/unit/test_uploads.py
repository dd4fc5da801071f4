"""Uploads: announced once an id, ready when their bytes are there, seen by the same rules as an import reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.errors import Conflict, Corrupt, Invalid, NotFound, TooLarge
from postroom.model.upload import MAX_BYTES, ReadyUpload, UploadKind, UploadStatus, is_upload_id, safe_filename
from postroom.platform.embedded.transfers import HttpTransfers
from postroom.platform.ports.tables import Tables
from postroom.services.uploads import Announcement, UploadService
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets
from tests.unit.upload_kit import CSV, DAY_S, TENANT, Killed, Uploads, open_uploads

NOBODY = "2" * 16
WHAT = Announcement(UploadKind.RECIPIENTS, "people.csv", "text/csv", len(CSV))


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    with open_uploads(tmp_path, ManualClock()) as opened:
        yield opened


@pytest.fixture
def service(uploads: Uploads) -> UploadService:
    return uploads.service


def test_an_upload_waits_for_its_bytes_and_is_ready_with_them(uploads: Uploads, service: UploadService) -> None:
    upload_id = uploads.announce()
    assert service.get(TENANT, upload_id).status is UploadStatus.WAITING
    with pytest.raises(Invalid, match="not arrived yet"):
        service.ready(TENANT, upload_id, UploadKind.RECIPIENTS)
    with pytest.raises(Invalid, match="not arrived yet"):
        service.content(TENANT, upload_id)
    uploads.arrive(upload_id)
    upload = service.get(TENANT, upload_id)
    assert (upload.status, upload.arrived_at) == (UploadStatus.READY, uploads.clock.now())
    assert service.ready(TENANT, upload_id, UploadKind.RECIPIENTS) == ReadyUpload(
        id=upload_id,
        kind=UploadKind.RECIPIENTS,
        object_key=f"{TENANT}/uploads/{upload_id}",
        object_version=upload.object_version or "?",
        filename="people.csv",
        content_type="text/csv",
        size=len(CSV),
    )


def test_what_is_ready_never_changes(uploads: Uploads, service: UploadService) -> None:
    upload_id = uploads.brought()
    before = service.get(TENANT, upload_id)
    uploads.clock.advance(60)
    uploads.objects.put(before.object_key, b"email\nx@y.example\n")  # nobody can, but for this test
    assert service.get(TENANT, upload_id) == before
    assert service.row(TENANT, upload_id, 1)["Name"] == "Ännchen"


def test_the_url_fixes_what_was_announced(uploads: Uploads, service: UploadService) -> None:
    what = Announcement(UploadKind.ASSET, "terms.pdf", "application/pdf", 7, "ab" * 32)
    upload, signed = service.create(TENANT, service.new_id(), what, author="ann")
    granted = uploads.transfers.granted("PUT", signed.url.rpartition("/")[2])
    assert (granted.key, granted.size, granted.content_type, granted.sha256) == (
        upload.object_key,
        7,
        "application/pdf",
        "ab" * 32,
    )
    assert granted.expires_at == signed.expires_at == uploads.clock.now() + 3_600_000


def test_announced_again_under_the_same_id_it_is_the_same_upload_with_a_fresh_url(
    uploads: Uploads, service: UploadService
) -> None:
    first = service.create(TENANT, NOBODY, WHAT, author="ann")
    uploads.clock.advance(1_800)
    again = service.create(TENANT, NOBODY, WHAT, author="ann")
    assert again.upload == first.upload
    assert again.signed.expires_at == first.signed.expires_at + 1_800_000
    assert len(service.list(TENANT).items) == 1
    uploads.arrive(NOBODY)
    assert service.create(TENANT, NOBODY, WHAT, author="ann").upload.created_at == first.upload.created_at


def test_no_url_outlives_the_wait_for_the_bytes(uploads: Uploads, service: UploadService) -> None:
    created = service.create(TENANT, NOBODY, WHAT, author="ann").upload.created_at
    uploads.clock.advance(DAY_S - 60)
    assert service.create(TENANT, NOBODY, WHAT, author="ann").signed.expires_at == created + DAY_S * 1_000
    uploads.clock.advance(60)
    with pytest.raises(Conflict, match="too long ago"):
        service.create(TENANT, NOBODY, WHAT, author="ann")


def test_an_id_belongs_to_one_announcement_of_one_tenant(service: UploadService) -> None:
    service.create(TENANT, NOBODY, WHAT, author="ann")
    other = Announcement(UploadKind.RECIPIENTS, "others.csv", "text/csv", len(CSV))
    with pytest.raises(Conflict):
        service.create(TENANT, NOBODY, other, author="ann")
    service.create("other", NOBODY, other, author="eve")
    assert service.get(TENANT, NOBODY).filename == "people.csv"


@pytest.mark.parametrize("after", [False, True])
def test_killed_while_it_is_announced_the_same_call_completes_it(
    uploads: Uploads, service: UploadService, *, after: bool
) -> None:
    uploads.tables.dies_in, uploads.tables.after = 0, after
    with pytest.raises(Killed):
        service.create(TENANT, NOBODY, WHAT, author="ann")
    uploads.tables.dies_in = None
    assert service.create(TENANT, NOBODY, WHAT, author="ann").upload.status is UploadStatus.WAITING
    assert (len(service.list(TENANT).items), uploads.due()) == (1, 1)


@pytest.mark.parametrize("after", [False, True])
def test_killed_between_the_bytes_and_the_record_it_is_ready_for_the_next_who_asks(
    uploads: Uploads, service: UploadService, *, after: bool
) -> None:
    upload_id = uploads.brought()
    uploads.tables.dies_in, uploads.tables.after = 0, after
    with pytest.raises(Killed):
        service.get(TENANT, upload_id)
    uploads.tables.dies_in = None
    assert service.ready(TENANT, upload_id, UploadKind.RECIPIENTS).size == len(CSV)
    assert uploads.due() == 1


def test_another_process_signs_and_honours_the_same_urls(tmp_path: Path) -> None:
    clock = ManualClock()
    with open_uploads(tmp_path, clock) as one, open_uploads(tmp_path, clock) as other:
        signed = one.service.create(TENANT, NOBODY, WHAT, author="ann").signed
        assert other.transfers.granted("PUT", signed.url.rpartition("/")[2]).size == len(CSV)
    with open_uploads(tmp_path, clock) as later:
        assert later.transfers.granted("PUT", signed.url.rpartition("/")[2]).size == len(CSV)


def test_two_processes_that_make_the_key_at_the_same_time_agree_on_one(uploads: Uploads, tmp_path: Path) -> None:
    with open_uploads(tmp_path, ManualClock(seed=1)) as other:
        raced = other.transfers
        stored = raced._stored

        def nothing_yet() -> bytes | None:
            raced._stored = stored  # type: ignore[method-assign]
            uploads.announce()
            return None

        raced._stored = nothing_yet  # type: ignore[method-assign]
        url = other.service.create(TENANT, NOBODY, WHAT, author="ann").signed.url
    assert uploads.transfers.granted("PUT", url.rpartition("/")[2]).size == len(CSV)


class AgedSecrets(PlainSecrets):
    """The master key was rotated: what says `plain.` is of the old one."""

    def seal(self, purpose: str, plain: bytes) -> str:
        return f"newer.{super().seal(purpose, plain)}"

    def open(self, purpose: str, sealed: str) -> bytes:
        return super().open(purpose, sealed.removeprefix("newer."))

    def is_current(self, sealed_or_wrapped: str) -> bool:
        return sealed_or_wrapped.startswith("newer.")


def rotated(uploads: Uploads, secrets: PlainSecrets) -> HttpTransfers:
    tables: Tables = uploads.tables  # type: ignore[assignment]
    return HttpTransfers(uploads.objects, tables, secrets, api_base_url="http://door.example", clock=uploads.clock)


def test_the_key_is_sealed_anew_after_a_rotation_and_urls_stay_good(uploads: Uploads) -> None:
    transfers = rotated(uploads, AgedSecrets())
    assert transfers.reseal() == (0, 0)
    url = uploads.service.create(TENANT, NOBODY, WHAT, author="ann").signed.url
    assert (transfers.reseal(), transfers.reseal()) == ((1, 0), (0, 0))
    assert transfers.granted("PUT", url.rpartition("/")[2]).size == len(CSV)


def test_a_key_that_cannot_be_opened_is_told(uploads: Uploads) -> None:
    uploads.announce()

    class Lost(AgedSecrets):
        def open(self, purpose: str, sealed: str) -> bytes:
            raise Corrupt("its master key is gone")

    assert rotated(uploads, Lost()).reseal() == (0, 1)


def test_lists_come_in_pages_newest_first_and_know_what_arrived(uploads: Uploads, service: UploadService) -> None:
    made = [uploads.announce() for _ in range(5)]
    uploads.arrive(made[3])
    first = service.list(TENANT, limit=3)
    rest = service.list(TENANT, cursor=first.cursor, limit=3)
    assert [upload.id for upload in (*first.items, *rest.items)] == made[::-1]
    assert rest.cursor is None
    assert [upload.status for upload in first.items] == [UploadStatus.WAITING, UploadStatus.READY, UploadStatus.WAITING]
    with pytest.raises(Invalid):
        service.list(TENANT, cursor="nonsense")


@pytest.mark.parametrize("asked", [NOBODY, "", "a/b", "x" * 3_000, "\ud800", "ABCDEFGHABCDEFGH"])
def test_an_id_of_nobody_and_one_of_another_tenant_are_the_same_answer(
    uploads: Uploads, service: UploadService, asked: str
) -> None:
    theirs = uploads.announce(tenant="other")
    for upload_id in (asked, theirs):
        for call in (service.get, service.delete, service.content):
            with pytest.raises(NotFound):
                call(TENANT, upload_id)
        with pytest.raises(NotFound):
            service.ready(TENANT, upload_id, UploadKind.ASSET)
        with pytest.raises(NotFound):
            service.row(TENANT, upload_id, 1)
    assert service.get("other", theirs).status is UploadStatus.WAITING


def test_an_upload_is_used_as_what_it_was_announced(uploads: Uploads, service: UploadService) -> None:
    asset = uploads.brought(b"%PDF-1.7", kind=UploadKind.ASSET, filename="terms.pdf")
    assert service.get(TENANT, asset).inspection is None
    assert service.ready(TENANT, asset, UploadKind.ASSET).filename == "terms.pdf"
    with pytest.raises(Invalid, match="of the kind asset, not recipients"):
        service.ready(TENANT, asset, UploadKind.RECIPIENTS)
    with pytest.raises(Invalid, match="of the kind recipients, not asset"):
        service.ready(TENANT, uploads.brought(), UploadKind.ASSET)


def test_what_is_no_list_of_recipients_is_not_used_as_one(uploads: Uploads, service: UploadService) -> None:
    workbook = uploads.brought(b"PK\x03\x04" + b"\x00" * 30 + b"xl/workbook.xml")
    with pytest.raises(Invalid, match="Excel workbook: open it there and save it as CSV"):
        service.ready(TENANT, workbook, UploadKind.RECIPIENTS)
    upload = service.get(TENANT, workbook)
    assert upload.inspection is not None
    assert "Excel workbook" in upload.inspection.problems[0]
    assert list(service.sample(upload)) == []


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"email,name\n", "no row after the header"),
        (b"email,name\n" + b"a@b.example,Ann\n" * 300 + b'"Bob\nb@b.example\n', "line 302 is not closed properly"),
    ],
)
def test_what_no_import_could_read_to_its_end_is_refused_at_once(
    uploads: Uploads, service: UploadService, raw: bytes, says: str
) -> None:
    with pytest.raises(Invalid, match=says):
        service.ready(TENANT, uploads.brought(raw), UploadKind.RECIPIENTS)


def test_a_file_whose_address_column_must_be_named_can_be_used(uploads: Uploads, service: UploadService) -> None:
    assert service.ready(TENANT, uploads.brought(b"a,b\nx@y.example,z@y.example\n"), UploadKind.RECIPIENTS)


def test_rows_are_shown_by_column_as_an_import_reads_them(uploads: Uploads, service: UploadService) -> None:
    upload_id = uploads.brought()
    assert list(service.sample(service.get(TENANT, upload_id))) == [
        {"E-Mail": "ann@mail.example", "Name": "Ännchen"},
        {"E-Mail": "bob@mail.example", "Name": "Bob"},
        {"E-Mail": "nobody", "Name": ""},
    ]
    assert service.row(TENANT, upload_id, 2) == {"E-Mail": "bob@mail.example", "Name": "Bob"}
    with pytest.raises(NotFound, match="no row 4"):
        service.row(TENANT, upload_id, 4)
    for number in (0, -1, 1_001):
        with pytest.raises(Invalid):
            service.row(TENANT, upload_id, number)


def test_the_thousandth_row_is_found_beyond_what_tells_the_layout(uploads: Uploads, service: UploadService) -> None:
    raw = b"email,x\n" + b"".join(b"p%d@mail.example,%s\n" % (number, b"y" * 9_000) for number in range(1, 1_002))
    upload_id = uploads.brought(raw)
    assert service.row(TENANT, upload_id, 1_000)["email"] == "p1000@mail.example"
    inspection = service.get(TENANT, upload_id).inspection
    assert inspection is not None
    assert inspection.rows is not None
    assert not inspection.rows_exact
    assert abs(inspection.rows - 1_001) < 10


def test_the_record_holds_nothing_of_any_row(uploads: Uploads, service: UploadService) -> None:
    upload_id = uploads.brought()
    service.get(TENANT, upload_id)
    items = uploads.tables._tables.query(f"{TENANT}#uploads").items
    assert "E-Mail" in str(items)
    assert "mail.example" not in str(items).replace("ann@acme.example", "")
    assert "Ännchen" not in str(items)


def test_limits_of_size(service: UploadService) -> None:
    for kind, most in MAX_BYTES.items():
        service.create(TENANT, service.new_id(), Announcement(kind, "a", "text/csv", most), author="ann")
        with pytest.raises(TooLarge, match="bytes for the kind"):
            service.create(TENANT, service.new_id(), Announcement(kind, "a", "text/csv", most + 1), author="ann")
    with pytest.raises(Invalid):
        service.create(TENANT, NOBODY, Announcement(UploadKind.ASSET, "a", "text/csv", 0), author="ann")
    with pytest.raises(Invalid):
        service.create(TENANT, "../up", WHAT, author="ann")


def test_new_ids_are_ids(uploads: Uploads, service: UploadService) -> None:
    assert is_upload_id(service.new_id())
    assert service.new_id() != service.new_id()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("people.csv", "people.csv"),
        ("C:\\Users\\Ann\\people.csv", "people.csv"),
        ("../../etc/passwd", "passwd"),
        ("a\x00b\r\nc\u202efdp.exe", "abcfdp.exe"),
        ("  ..  ", "upload"),
        ("/", "upload"),
        (".htaccess", "htaccess"),
        ("Ga\u0308ste.csv", "Gäste.csv"),
        ("x" * 300 + ".csv", "x" * 251 + ".csv"),
        ("é" * 200 + ".pdf", "é" * 125 + ".pdf"),
        ("x." + "y" * 300, "x." + "y" * 253),
    ],
)
def test_a_filename_is_a_name_alone(given: str, kept: str) -> None:
    assert safe_filename(given) == kept


def test_an_asset_that_runs_is_warned_about(uploads: Uploads, service: UploadService) -> None:
    upload = service.get(TENANT, uploads.announce(b"MZ", kind=UploadKind.ASSET, filename="Setup.EXE"))
    assert "refuse mails with a .exe file" in upload.warnings[0]
    assert service.get(TENANT, uploads.announce(b"%PDF", kind=UploadKind.ASSET, filename="exe")).warnings == ()
