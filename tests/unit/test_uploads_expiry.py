"""The end of uploads: nothing outlives its time, whatever dies in between, and nothing is brought back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.errors import Conflict, Invalid, NotFound, Unavailable
from postroom.model.upload import UploadKind, UploadStatus
from postroom.services.uploads import UploadService
from tests.fakes.clock import ManualClock
from tests.unit.upload_kit import DAY_S, TENANT, Killed, Uploads, open_uploads


@pytest.fixture
def uploads(tmp_path: Path) -> Iterator[Uploads]:
    with open_uploads(tmp_path, ManualClock()) as opened:
        yield opened


@pytest.fixture
def service(uploads: Uploads) -> UploadService:
    return uploads.service


def test_a_recipients_file_goes_after_its_days_and_leaves_no_name(uploads: Uploads, service: UploadService) -> None:
    upload_id = uploads.brought()
    service.get(TENANT, upload_id)
    uploads.clock.advance(30 * DAY_S - 1)
    uploads.housekeeping()
    assert service.ready(TENANT, upload_id, UploadKind.RECIPIENTS)
    uploads.clock.advance(1)
    assert uploads.housekeeping() == 1
    upload = service.get(TENANT, upload_id)
    assert (upload.status, upload.filename, upload.author, upload.inspection) == (UploadStatus.EXPIRED, "", "", None)
    assert uploads.stored() == []
    assert uploads.objects.versions(upload.object_key) == []
    with pytest.raises(Invalid, match="has expired"):
        service.ready(TENANT, upload_id, UploadKind.RECIPIENTS)


def test_what_never_came_is_given_up_after_a_day(uploads: Uploads, service: UploadService) -> None:
    upload_id = uploads.announce()
    uploads.clock.advance(DAY_S - 1)
    assert uploads.housekeeping() == 0
    uploads.clock.advance(1)
    assert uploads.housekeeping() == 1
    assert service.get(TENANT, upload_id).status is UploadStatus.EXPIRED


def test_what_came_and_nobody_asked_for_is_not_given_up(uploads: Uploads, service: UploadService) -> None:
    upload_id, asset = uploads.brought(), uploads.brought(b"%PDF", kind=UploadKind.ASSET)
    uploads.clock.advance(DAY_S)
    assert uploads.housekeeping() == 2
    assert service.ready(TENANT, upload_id, UploadKind.RECIPIENTS)
    uploads.clock.advance(29 * DAY_S)
    assert uploads.housekeeping() == 1
    assert service.get(TENANT, upload_id).status is UploadStatus.EXPIRED
    assert service.ready(TENANT, asset, UploadKind.ASSET)


def test_assets_stay(uploads: Uploads, service: UploadService) -> None:
    asset = uploads.brought(b"%PDF", kind=UploadKind.ASSET)
    service.get(TENANT, asset)
    assert uploads.due() == 0
    uploads.clock.advance(5_000 * DAY_S)
    assert uploads.housekeeping() == 0
    assert service.ready(TENANT, asset, UploadKind.ASSET)


def test_a_deleted_upload_is_gone_for_everybody(uploads: Uploads, service: UploadService) -> None:
    kept, gone, waiting = uploads.brought(), uploads.brought(), uploads.announce()
    service.get(TENANT, gone)
    service.delete(TENANT, gone)
    service.delete(TENANT, waiting)
    with pytest.raises(NotFound):
        service.get(TENANT, gone)
    with pytest.raises(NotFound):
        service.delete(TENANT, gone)
    assert [upload.id for upload in service.list(TENANT).items] == [kept]
    assert uploads.stored() == [f"{TENANT}/uploads/{kept}"]


def test_a_file_that_arrives_after_its_upload_was_deleted_is_purged_too(uploads: Uploads, service: UploadService) -> None:
    """By a transfer that had begun before: its URL cannot be called back."""
    upload_id = uploads.announce()
    service.delete(TENANT, upload_id)
    uploads.arrive(upload_id)
    with pytest.raises(NotFound):
        service.get(TENANT, upload_id)
    uploads.clock.advance(DAY_S)
    assert uploads.housekeeping() == 1
    assert uploads.stored() == []
    assert uploads.due() == 0


def test_an_id_of_a_deleted_upload_is_not_used_again(uploads: Uploads, service: UploadService) -> None:
    from tests.unit.test_uploads import NOBODY, WHAT

    service.create(TENANT, NOBODY, WHAT, author="ann")
    service.delete(TENANT, NOBODY)
    with pytest.raises(Conflict):
        service.create(TENANT, NOBODY, WHAT, author="ann")


def test_what_is_in_use_is_not_deleted(uploads: Uploads, service: UploadService) -> None:
    upload_id = uploads.brought()
    uploads.used.add(upload_id)
    with pytest.raises(Conflict, match="in use"):
        service.delete(TENANT, upload_id)
    assert service.ready(TENANT, upload_id, UploadKind.RECIPIENTS)


def test_an_expired_upload_can_be_deleted_and_the_record_is_forgotten_in_the_end(
    uploads: Uploads, service: UploadService
) -> None:
    one, other = uploads.announce(), uploads.announce()
    uploads.clock.advance(DAY_S)
    uploads.housekeeping()
    service.delete(TENANT, one)
    assert [upload.id for upload in service.list(TENANT).items] == [other]
    uploads.clock.advance(DAY_S)
    assert uploads.housekeeping() == 2
    assert uploads.due() == 0
    uploads.clock.advance(30 * DAY_S)
    assert service.list(TENANT).items == []
    with pytest.raises(NotFound):
        service.get(TENANT, other)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", [0, 1])
def test_killed_anywhere_on_its_way_out_it_ends_with_the_next_round(
    uploads: Uploads, service: UploadService, step: int, *, after: bool
) -> None:
    upload_id = uploads.brought()
    service.get(TENANT, upload_id)
    uploads.clock.advance(30 * DAY_S)
    uploads.tables.dies_in, uploads.tables.after = step, after
    with pytest.raises(Killed):
        uploads.housekeeping()
    uploads.tables.dies_in = None
    uploads.housekeeping()
    assert service.get(TENANT, upload_id).status is UploadStatus.EXPIRED
    assert uploads.stored() == []
    for _ in range(2):
        uploads.clock.advance(DAY_S)
        uploads.housekeeping()
    assert uploads.due() == 0


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", [0, 1])
def test_killed_while_it_is_deleted_it_is_gone_or_can_be_deleted(
    uploads: Uploads, service: UploadService, step: int, *, after: bool
) -> None:
    upload_id = uploads.brought()
    service.get(TENANT, upload_id)
    uploads.tables.dies_in, uploads.tables.after = step, after
    with pytest.raises(Killed):
        service.delete(TENANT, upload_id)
    uploads.tables.dies_in = None
    if (step, after) == (0, False):
        service.delete(TENANT, upload_id)
    uploads.housekeeping()
    assert service.list(TENANT).items == []
    assert uploads.stored() == []


class FailingObjects:
    """Cannot purge one key."""

    def __init__(self, uploads: Uploads, key: str) -> None:
        self._objects = uploads.objects
        self._key = key

    def __getattr__(self, name: str) -> object:
        return getattr(self._objects, name)

    def purge(self, prefix: str) -> int:
        if prefix == self._key:
            raise Unavailable("no answer")
        return self._objects.purge(prefix)


def test_one_that_fails_keeps_no_other_waiting_and_is_reported(uploads: Uploads, service: UploadService) -> None:
    made = [uploads.brought() for _ in range(3)]
    for upload_id in made:
        service.get(TENANT, upload_id)
    uploads.clock.advance(30 * DAY_S)
    service._expiry._objects = FailingObjects(uploads, f"{TENANT}/uploads/{made[0]}")  # type: ignore[assignment]
    with pytest.raises(Unavailable):
        uploads.housekeeping()
    assert uploads.stored() == [f"{TENANT}/uploads/{made[0]}"]
    service._expiry._objects = uploads.objects
    uploads.housekeeping()
    assert uploads.stored() == []


def test_two_that_keep_house_at_the_same_time_do_no_harm(tmp_path: Path) -> None:
    clock = ManualClock()
    with open_uploads(tmp_path, clock) as one, open_uploads(tmp_path, clock) as other:
        upload_id = one.brought()
        one.service.get(TENANT, upload_id)
        clock.advance(30 * DAY_S)
        purge = one.objects.purge

        def raced(prefix: str) -> int:
            one.objects.purge = purge  # type: ignore[method-assign]
            other.housekeeping()
            return purge(prefix)

        one.objects.purge = raced  # type: ignore[method-assign]
        one.housekeeping()
        assert one.service.get(TENANT, upload_id).status is UploadStatus.EXPIRED
        assert one.stored() == []
        assert one.due() == 1


def test_many_are_taken_a_few_at_a_time_in_the_order_of_their_time(uploads: Uploads, service: UploadService) -> None:
    made = [uploads.announce(tenant=f"t{number % 3}") for number in range(20)]
    uploads.clock.advance(DAY_S)
    assert service.expire(uploads.clock.now(), limit=5) == 5
    states = [service.get(f"t{number % 3}", upload_id).status for number, upload_id in enumerate(made)]
    assert states == [UploadStatus.EXPIRED] * 5 + [UploadStatus.WAITING] * 15
    assert uploads.housekeeping() == 15
