"""Bodies at our own door, over real connections: cut off, slow, too long, huge; and what is left of each."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, closing
from pathlib import Path

import httpx2 as httpx
import pytest

from postroom.clock import Instant
from postroom.errors import Unavailable
from postroom.gateway.routes import uploads
from postroom.gateway.routes import uploads as routes
from postroom.gateway.routes.uploads import transfers_routes
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.embedded.transfers import HttpTransfers
from postroom.platform.ports.transfers import PresignedRequest
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets
from tests.gateway.kit import app_of
from tests.gateway.server_kit import served

KEY = "acme/uploads/abcdefghijklmnop"
RAW = hashlib.shake_128(b"body").digest(3_000_000)
_SOON_S = 20


class Signals(FileObjects):
    """Objects that say when a put began and how it ended."""

    def __init__(self, root: Path, clock: ManualClock) -> None:
        super().__init__(root, clock)
        self.began, self.ended = threading.Event(), threading.Event()
        self.error: BaseException | None = None

    def put(self, key, content, *, content_type="application/octet-stream", if_absent=False):  # type: ignore[no-untyped-def]
        def watched() -> Iterator[bytes]:
            for block in content:
                self.began.set()
                yield block

        try:
            return super().put(key, watched(), content_type=content_type, if_absent=if_absent)
        except BaseException as error:
            self.error = error
            raise
        finally:
            self.ended.set()


class Home:
    """A door in front of a store."""

    def __init__(self, root: Path, closers: ExitStack) -> None:
        self.root = root
        self.clock = ManualClock()
        self.objects = closers.enter_context(closing(Signals(root / "objects", self.clock)))
        tables = SqliteTables(closers.enter_context(closing(open_control(root))), self.clock)
        self.transfers = HttpTransfers(self.objects, tables, PlainSecrets(), api_base_url="", clock=self.clock)
        self.url = closers.enter_context(self.door())
        self.http = closers.enter_context(httpx.Client(trust_env=False, timeout=60))

    def door(self) -> AbstractContextManager[str]:
        """One more door; its address."""
        return served(lambda _url: app_of(transfers_routes(self.objects, self.transfers)))

    def sign(self, size: int = len(RAW)) -> PresignedRequest:
        return self.transfers.put(KEY, size=size, content_type="text/csv", expires_at=Instant(self.clock.now() + 600_000))

    def send(self, signed: PresignedRequest, raw: bytes = RAW, **more: str) -> httpx.Response:
        headers = {**signed.headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        return self.http.put(self.url + signed.url, headers=headers, content=raw)

    def begin(self, signed: PresignedRequest, raw: bytes, url: str = "") -> socket.socket:
        """A connection that sends the head of the request and some of the body."""
        port = int((url or self.url).rpartition(":")[2])
        connection = socket.create_connection(("127.0.0.1", port), timeout=_SOON_S)
        fields = "".join(f"{name}: {value}\r\n" for name, value in signed.headers.items())
        connection.sendall(f"PUT {signed.url} HTTP/1.1\r\nHost: door\r\n{fields}\r\n".encode() + raw)
        return connection

    def left(self) -> list[Path]:
        """Files of the store: content, and what is being written."""
        return [
            path for path in (self.root / "objects").rglob("*") if path.is_file() and path.name[:7] not in {"objects", "owner"}
        ]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with ExitStack() as closers:
        yield Home(tmp_path, closers)


def test_a_client_that_goes_away_leaves_nothing_and_may_come_again(home: Home) -> None:
    signed = home.sign()
    connection = home.begin(signed, RAW[:2_500_000])
    assert home.objects.began.wait(_SOON_S)
    connection.close()
    assert home.objects.ended.wait(_SOON_S)
    assert home.objects.error is not None
    assert home.objects.info(KEY) is None
    assert home.left() == []
    assert home.send(signed).status_code == 200
    assert home.objects.get(KEY) == RAW


def test_a_client_that_stalls_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "IDLE_S", 0.05)
    with closing(home.begin(home.sign(), RAW[:2_500_000])) as connection:
        assert connection.recv(12) == b"HTTP/1.1 503"
    assert isinstance(home.objects.error, TimeoutError)
    assert home.left() == []


def test_what_comes_after_the_length_is_never_part_of_the_object(home: Home) -> None:
    """The server may take it for a request that it cannot read, before or after it has taken the body."""
    with closing(home.begin(home.sign(10), b"0123456789" + b"and more")) as connection:
        assert connection.recv(12) in {b"HTTP/1.1 200", b"HTTP/1.1 400"}
    assert home.objects.ended.wait(_SOON_S)
    assert home.objects.info(KEY) is None or home.objects.get(KEY) == b"0123456789"


def test_chunks_without_a_length_are_refused_before_they_are_read(home: Home) -> None:
    signed = home.sign()
    answer = home.http.put(home.url + signed.url, headers={"Content-Type": "text/csv"}, content=iter([RAW]))
    assert (answer.status_code, "send Content-Length: 3000000" in answer.json()["detail"]) == (403, True)
    assert not home.objects.began.is_set()


def test_the_same_bytes_again_are_a_success_and_others_a_conflict(home: Home) -> None:
    signed = home.sign()
    first, again = home.send(signed), home.send(signed)
    assert (first.status_code, again.status_code) == (200, 200)
    assert first.headers["etag"] == again.headers["etag"]
    other = home.send(signed, RAW[::-1])
    assert (other.status_code, "other bytes arrived" in other.json()["detail"]) == (409, True)
    assert len(home.objects.versions(KEY)) == 1


def test_the_same_bytes_at_the_same_time_are_one_object_and_two_successes(home: Home) -> None:
    signed = home.sign()
    with closing(home.begin(signed, RAW[:2_500_000])) as slow:
        assert home.objects.began.wait(_SOON_S)
        assert home.send(signed).status_code == 200
        slow.sendall(RAW[2_500_000:])
        assert slow.recv(12) == b"HTTP/1.1 200"
    assert len(home.objects.versions(KEY)) == 1


def digest(name: str, raw: bytes = RAW) -> str:
    return base64.b64encode(hashlib.new(name, raw).digest()).decode()


@pytest.mark.parametrize(
    ("header", "good", "bad"),
    [
        ("Content-MD5", digest("md5"), digest("md5", b"")),
        ("Content-Digest", f"sha-256=:{digest('sha256')}:", f"sha-256=:{digest('sha256', b'')}:"),
        ("Content-Digest", f"sha-512=:{digest('sha512')}:, crc32c=:AA==:", f"crc32c=:AA==:, sha-512=:{digest('sha512', b'')}:"),
        ("x-amz-checksum-sha256", digest("sha256"), digest("sha256", b"")),
        ("Content-MD5", digest("md5"), "no base64!"),
    ],
)
def test_a_checksum_that_does_not_fit_keeps_the_bytes_out(home: Home, header: str, good: str, bad: str) -> None:
    signed = home.sign()
    assert home.send(signed, RAW, **{header: bad}).status_code == 422
    assert home.objects.info(KEY) is None
    assert home.left() == []
    assert home.send(signed, RAW, **{header: good}).status_code == 200


def test_an_encoded_body_is_refused(home: Home) -> None:
    assert home.send(home.sign(), Content_Encoding="gzip").status_code == 403


def test_a_store_that_cannot_write_is_told_apart_from_a_bad_body(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def sick(*_: object, **__: object) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(home.objects, "put", sick)
    assert home.send(home.sign()).status_code == 503


def test_one_body_too_many_is_refused_for_now(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "AT_ONCE", 1)
    signed = home.sign()
    with home.door() as url, closing(home.begin(signed, RAW[:2_500_000], url)):
        assert home.objects.began.wait(_SOON_S)
        assert home.http.put(url + signed.url, headers=dict(signed.headers), content=RAW).status_code == 503


@pytest.mark.parametrize(
    ("field", "status", "span"),
    [
        ("bytes=0-0", 206, (0, 1)),
        ("bytes=2999999-9999999", 206, (2_999_999, 3_000_000)),
        ("bytes=-9999999", 200, (0, 3_000_000)),
        ("bytes=5-2", 200, (0, 3_000_000)),
        ("bytes=0-1,5-6", 200, (0, 3_000_000)),
        ("lines=0-1", 200, (0, 3_000_000)),
        ("bytes=-", 200, (0, 3_000_000)),
        ("bytes=-0", 416, (0, 0)),
        ("bytes=3000000-", 416, (0, 0)),
    ],
)
def test_ranges_of_a_download(home: Home, field: str, status: int, span: tuple[int, int]) -> None:
    home.send(home.sign())
    soon = Instant(home.clock.now() + 600_000)
    url = home.url + home.transfers.get(KEY, filename="a.csv", content_type="text/html", expires_at=soon).url
    answer = home.http.get(url, headers={"Range": field})
    assert (answer.status_code, answer.content) == (status, RAW[slice(*span)])
    changed = home.http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (changed.status_code, len(changed.content)) == (200, len(RAW))
    assert changed.headers["content-security-policy"] == "default-src 'none'; sandbox"


_CHILD = """
import json, sys
from contextlib import ExitStack
from pathlib import Path
from tests.gateway.test_transfers_bodies import Home

with ExitStack() as closers:
    home = Home(Path(sys.argv[1]), closers)
    for size in json.loads(sys.argv[2]):
        key, soon = f"t/{size}", home.clock.now() + 60_000
        put = home.transfers.put(key, size=size, content_type="text/csv", expires_at=soon)
        get = home.transfers.get(key, filename="a", content_type="text/csv", expires_at=soon)
        print(json.dumps([home.url + put.url, dict(put.headers), home.url + get.url]), flush=True)
        sys.stdin.readline()
        status = Path("/proc/self/status").read_text()  # getrusage's figure begins with the parent's
        print(status.partition("VmHWM:")[2].split()[0], flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="a process's highest memory is told by Linux's /proc")
def test_memory_does_not_grow_with_the_body(tmp_path: Path) -> None:
    """A door of its own process takes and gives 2 MB, then 200 MB: its highest memory grows by less than 50 MB."""
    block = os.urandom(1 << 20)
    peaks = []
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(tmp_path), json.dumps([2 << 20, 200 << 20])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    with child, httpx.Client(trust_env=False, timeout=60) as http:
        assert child.stdin is not None
        assert child.stdout is not None
        for blocks in (2, 200):
            put, headers, get = json.loads(child.stdout.readline())
            assert http.put(put, headers=headers, content=(block for _ in range(blocks))).status_code == 200
            with http.stream("GET", get) as download:
                assert sum(map(len, download.iter_bytes())) == blocks << 20
            child.stdin.write("\n")
            child.stdin.flush()
            peaks.append(int(child.stdout.readline()))
    assert child.returncode == 0
    assert peaks[1] - peaks[0] < 50_000, peaks  # KB
