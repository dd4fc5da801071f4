"""The promise of `ports.transfers`, on every backend, by real HTTP. Bodies cut off or endless at our own door: test_transfers_bodies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import httpx2 as httpx
import pytest

from postroom.clock import Instant
from postroom.errors import Invalid, TooLarge
from postroom.platform.ports.objects import Objects
from postroom.platform.ports.transfers import MAX_BYTES, MAX_LIFE_MS, PresignedRequest, Transfers, attachment
from tests.contract.backend import Backend

KEY = "acme/uploads/abcdefgh"
pytestmark = pytest.mark.backends("embedded", "sealed", "aws")

CSV = b"email,name\r\nann@mail.example,Ann\r\n"
THERE_ALREADY = {409, 412}


@pytest.fixture
def transfers(backend: Backend) -> Transfers:
    return backend.transfers()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


def soon(backend: Backend, seconds: int = 600) -> Instant:
    return Instant(backend.clock.now() + seconds * 1_000)


def signed_put(transfers: Transfers, backend: Backend, raw: bytes = CSV, **more: Any) -> PresignedRequest:
    return transfers.put(KEY, size=len(raw), content_type="text/csv", expires_at=soon(backend), **more)


def send(http: httpx.Client, signed: PresignedRequest, raw: bytes = CSV, **changed: str) -> int:
    headers = {**signed.headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return http.request(signed.method, signed.url, headers=headers, content=raw).status_code


def test_bytes_arrive_whole_under_the_key_and_type_that_were_signed(
    backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client
) -> None:
    assert transfers.arrived(KEY) is None
    assert send(http, signed_put(transfers, backend)) == 200
    info = objects.info(KEY)
    assert info is not None
    assert (info.size, info.content_type, objects.get(KEY)) == (len(CSV), "text/csv", CSV)
    arrived = transfers.arrived(KEY)
    assert arrived is not None
    assert (arrived.version, arrived.size) == (info.version, len(CSV))


@pytest.mark.parametrize("size", [1, 65_536, 5_000_003])
def test_bytes_of_any_size_arrive_as_a_stream(
    backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client, size: int
) -> None:
    raw = hashlib.shake_128(b"bytes").digest(size)
    signed = signed_put(transfers, backend, raw)
    parts = (raw[at : at + 70_001] for at in range(0, size, 70_001))
    assert http.request(signed.method, signed.url, headers=dict(signed.headers), content=parts).status_code == 200
    assert objects.get(KEY) == raw


@pytest.mark.parametrize("raw", [CSV + b"x", CSV[:-1], b""], ids=["longer", "shorter", "empty"])
def test_another_size_is_refused(
    backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client, raw: bytes
) -> None:
    assert send(http, signed_put(transfers, backend), raw, Content_Length=str(len(raw))) == 403
    assert objects.info(KEY) is None


def test_a_body_without_a_length_is_refused(backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client) -> None:
    signed = signed_put(transfers, backend)
    headers = {name: value for name, value in signed.headers.items() if name != "Content-Length"}
    assert http.request(signed.method, signed.url, headers=headers, content=iter([CSV])).status_code == 403
    assert objects.info(KEY) is None


def test_another_type_is_refused(backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client) -> None:
    assert send(http, signed_put(transfers, backend), Content_Type="text/html") == 403
    assert objects.info(KEY) is None


def test_a_url_changed_anywhere_puts_nothing_anywhere(
    backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client
) -> None:
    """Path and values, but for those that say it is signed at all: S3 refuses what is not, its emulator lets anybody in."""
    signed = signed_put(transfers, backend)
    places = [at for part in re.finditer(r"(?<=[=/])(?!AWS4-)[^/=&?]+(?=[/&?]|$)", signed.url) for at in range(*part.span())]
    places = [at for at in places if at > signed.url.index("/", 8) and signed.url[at].isalnum()]
    for at in [*places[:: max(1, len(places) // 40)], *places[-3:]]:
        other = chr(ord(signed.url[at]) + 1) if signed.url[at] not in "9zZ" else "a"
        changed = replace(signed, url=signed.url[:at] + other + signed.url[at + 1 :])
        assert 400 <= send(http, changed) < 500, changed.url
    assert objects.list().objects == []


def test_a_url_is_for_its_method_alone(backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client) -> None:
    put = signed_put(transfers, backend)
    get = transfers.get(KEY, filename="a.csv", content_type="text/csv", expires_at=soon(backend))
    assert http.put(get.url, headers=dict(put.headers), content=CSV).status_code == 403
    assert objects.info(KEY) is None
    assert send(http, put) == 200
    assert http.get(put.url).status_code == 403
    assert http.delete(put.url).status_code in {403, 405}
    assert objects.get(KEY) == CSV


def test_a_url_ends_when_it_says(backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client) -> None:
    put = transfers.put(KEY, size=len(CSV), content_type="text/csv", expires_at=soon(backend, 1))
    get = transfers.get(KEY, filename="a.csv", content_type="text/csv", expires_at=soon(backend, 1))
    backend.wait(2.1)
    assert send(http, put) == 403
    assert objects.info(KEY) is None
    assert http.get(get.url).status_code == 403


def test_what_arrived_first_stays(backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client) -> None:
    signed = signed_put(transfers, backend)
    assert send(http, signed) == 200
    before = objects.versions(KEY)
    assert send(http, signed) in {200, *THERE_ALREADY}
    assert send(http, signed, CSV.replace(b"Ann", b"Bob")) in THERE_ALREADY
    assert send(http, signed_put(transfers, backend), CSV.replace(b"Ann", b"Bob")) in THERE_ALREADY
    assert objects.versions(KEY) == before
    assert objects.get(KEY) == CSV


def test_of_two_at_the_same_time_one_wins(backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client) -> None:
    raws = [bytes([number]) * 300_000 for number in range(4)]
    signed = signed_put(transfers, backend, raws[0])
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda raw: send(http, signed, raw), raws))
    assert sorted(answers)[0] == 200
    assert set(sorted(answers)[1:]) <= THERE_ALREADY
    assert objects.get(KEY) == raws[answers.index(200)]
    assert len(objects.versions(KEY)) == 1


def test_bytes_of_another_sha256_than_signed_do_not_arrive(
    backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client
) -> None:
    signed = signed_put(transfers, backend, sha256=hashlib.sha256(CSV).hexdigest())
    assert 400 <= send(http, signed, CSV.replace(b"Ann", b"Bob")) < 500
    assert objects.info(KEY) is None
    assert send(http, signed) == 200
    assert objects.get(KEY) == CSV


def test_a_download_is_a_file_to_be_saved_whole_or_a_range(
    backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client
) -> None:
    raw = hashlib.shake_128(b"download").digest(2_500_001)
    objects.put(KEY, raw, content_type="text/plain")
    signed = transfers.get(KEY, filename='Gäste "1".csv', content_type="text/csv", expires_at=soon(backend))
    assert (signed.method, signed.headers) == ("GET", {})
    whole = http.get(signed.url)
    assert (whole.status_code, whole.content, whole.headers["content-type"]) == (200, raw, "text/csv")
    assert whole.headers["content-disposition"] == attachment('Gäste "1".csv')
    for field, start, stop in (
        ("bytes=5-9", 5, 10),
        ("bytes=1500000-", 1_500_000, len(raw)),
        ("bytes=-7", len(raw) - 7, len(raw)),
    ):
        part = http.get(signed.url, headers={"Range": field})
        assert (part.status_code, part.content) == (206, raw[start:stop])
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(raw)}"
    assert http.get(signed.url, headers={"Range": f"bytes={len(raw)}-"}).status_code == 416


def test_nothing_there_is_not_found(backend: Backend, transfers: Transfers, http: httpx.Client) -> None:
    assert http.get(transfers.get(KEY, filename="a", content_type="text/csv", expires_at=soon(backend)).url).status_code == 404


def test_what_was_deleted_has_not_arrived(backend: Backend, transfers: Transfers, objects: Objects, http: httpx.Client) -> None:
    send(http, signed_put(transfers, backend))
    objects.delete(KEY)
    assert transfers.arrived(KEY) is None


@pytest.mark.parametrize("life", [-1, 0, MAX_LIFE_MS + 1])
def test_a_life_out_of_range_is_refused(backend: Backend, transfers: Transfers, life: int) -> None:
    with pytest.raises(Invalid):
        transfers.get(KEY, filename="a", content_type="text/csv", expires_at=Instant(backend.clock.now() + life))
    if life <= 0:  # a real clock goes on
        with pytest.raises(Invalid):
            transfers.put(KEY, size=1, content_type="text/csv", expires_at=Instant(backend.clock.now() + life))


def test_limits_of_size_and_key(backend: Backend, transfers: Transfers) -> None:
    with pytest.raises(TooLarge):
        transfers.put(KEY, size=MAX_BYTES + 1, content_type="text/csv", expires_at=soon(backend))
    with pytest.raises(Invalid):
        transfers.put("../up", size=1, content_type="text/csv", expires_at=soon(backend))
    with pytest.raises(Invalid):
        transfers.arrived("../up")
