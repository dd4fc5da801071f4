"""Who may do what with which provider, and where a relay may be."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from postroom.errors import Conflict, Denied, Invalid, NotFound
from postroom.ledger.providers import ProviderCredentials, Providers, ProviderSpec
from postroom.model.finding import Finding, Level
from postroom.model.networks import is_public
from postroom.model.provider import UsageLimits
from postroom.platform.embedded._sqlite import open_control
from postroom.platform.embedded.tables import SqliteTables
from postroom.platform.mail.provider_url import check_provider_url, parse_relay, resolve_relay
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_probe import examine_relay
from postroom.platform.mail.smtp_url import SmtpConfig, Tls
from postroom.services.providers import ProviderCaller, ProviderService, provider_url
from tests.fakes.clock import ManualClock
from tests.fakes.delivery import RUNNERS, FakeDelivery, Runner, until
from tests.fakes.secrets import PlainSecrets

ACME, OPERATOR = ProviderCaller("acme", operator=False), ProviderCaller("acme", operator=True)
PUBLIC = ProviderSpec("smtp://93.184.215.14")
INSIDE = ProviderSpec("smtp://10.1.2.3")


@pytest.fixture
def providers(tmp_path: Path) -> Iterator[Providers]:
    clock = ManualClock()
    with closing(open_control(tmp_path)) as control:
        yield Providers(SqliteTables(control, clock), PlainSecrets(), clock, default_url="inbox:")


@pytest.fixture
def service(providers: Providers) -> ProviderService:
    def examine(means: ProviderCredentials) -> list[Finding]:
        return [Finding("mail server", Level.OK, means.url)]

    return ProviderService(providers, check=lambda url, trusted: check_provider_url(url, trusted=trusted), examine=examine)


def test_only_operators_share_and_change_what_is_shared(service: ProviderService) -> None:
    with pytest.raises(Denied):
        service.create(ACME, "relay", PUBLIC, shared=True)
    shared = service.create(OPERATOR, "relay", PUBLIC, shared=True)
    for call in (
        lambda: service.change(ACME, shared, PUBLIC),
        lambda: service.delete(ACME, "relay"),
        lambda: service.test(ACME, "relay"),
        lambda: service.test(ACME, "default"),
    ):
        with pytest.raises(Denied):
            call()
    assert service.change(OPERATOR, shared, INSIDE).url == INSIDE.url
    assert service.test(OPERATOR, "relay")[0].text == INSIDE.url
    service.delete(OPERATOR, "relay")
    with pytest.raises(NotFound):
        service.get(OPERATOR, "relay")


def test_the_default_is_a_setting(service: ProviderService) -> None:
    default = service.get(ACME, "default")
    for asker in (ACME, OPERATOR):
        with pytest.raises(Conflict, match="POSTROOM_MAIL"):
            service.change(asker, default, PUBLIC)
        with pytest.raises(Conflict, match="POSTROOM_MAIL"):
            service.delete(asker, "default")


def test_a_tenant_names_public_relays_only_and_an_operator_any(service: ProviderService) -> None:
    with pytest.raises(Invalid, match="operator"):
        service.create(ACME, "relay", INSIDE)
    was = service.create(ACME, "relay", PUBLIC)
    with pytest.raises(Invalid, match="operator"):
        service.change(ACME, was, INSIDE)
    assert not service.get(ACME, "relay").trusted
    service.create(OPERATOR, "inside", INSIDE)
    assert service.get(ACME, "inside").trusted


def test_what_an_operator_pointed_inside_stays_trusted_while_its_url_stays(service: ProviderService) -> None:
    was = service.create(OPERATOR, "inside", INSIDE)
    slower = service.change(ACME, was, INSIDE._replace(use=UsageLimits(per_second=1)))
    assert slower.trusted
    with pytest.raises(Invalid, match="operator"):
        service.change(ACME, slower, ProviderSpec("smtp://10.1.2.4"))
    moved = service.change(ACME, slower, PUBLIC)
    assert not moved.trusted
    with pytest.raises(Invalid, match="operator"):
        service.change(ACME, moved, INSIDE)


def test_a_change_without_the_password_is_checked_as_if_it_were_there(service: ProviderService) -> None:
    was = service.create(ACME, "relay", ProviderSpec("smtp://news:pw@93.184.215.14"))
    now = service.change(ACME, was, ProviderSpec("smtp://news@93.184.215.14", UsageLimits(per_second=1)))
    assert now.has_password
    with pytest.raises(Invalid, match="password"):
        service.change(ACME, now, ProviderSpec("smtp://other@93.184.215.14"))


def test_a_url_that_is_no_relay_or_too_long_is_refused(service: ProviderService) -> None:
    long = f"smtp://h?helo={'x' * 990}"
    for url in ("inbox:", "http://example.com", "smtp://", "smtp://h?bogus=1", "smtp://news@93.184.215.14", long):
        for asker in (ACME, OPERATOR):
            with pytest.raises(Invalid):
                service.create(asker, "relay", ProviderSpec(url))


def test_a_password_beside_the_url_is_encoded_into_it() -> None:
    assert provider_url("smtp://u@h", None) == "smtp://u@h"
    assert provider_url("smtp://u@h", "a:b@c/ä") == "smtp://u:a%3Ab%40c%2F%C3%A4@h"
    for url, password in (("smtp://u:p@h", "s3cret"), ("smtp://h", "s3cret"), ("smtp://u@h", "s3cret\ud800")):
        with pytest.raises(Invalid) as raised:
            provider_url(url, password)
        assert "s3cret" not in str(raised.value)


def test_a_tenant_tests_one_at_a_time_and_all_together_a_few(providers: Providers) -> None:
    """Tests that hang take no thread from anybody else's calls."""
    nested: list[str] = []

    def examine(_means: ProviderCredentials) -> list[Finding]:
        number = len(nested)
        with pytest.raises(Conflict):
            verbs.test(ProviderCaller(f"t{number}", operator=True), "default")
        nested.append("")
        if number + 1 < 8:
            verbs.test(ProviderCaller(f"t{number + 1}", operator=True), "default")
        else:
            with pytest.raises(Conflict):
                verbs.test(ProviderCaller("one-more", operator=True), "default")
        return []

    verbs = ProviderService(providers, check=lambda url, trusted: None, examine=examine)
    verbs.test(ProviderCaller("t0", operator=True), "default")
    assert len(nested) == 8
    nested.clear()
    verbs.test(ProviderCaller("t0", operator=True), "default")
    assert len(nested) == 8


# Where a relay may be.


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "fe80::1",
        "fe80::1%eth0",
        "fc00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
        "2002:a00:1::1",
        "fec0::1",
        "::10.0.0.1",
        "::ffff:0:10.0.0.1",
        "64:ff9b:1::10.0.0.1",
        "192.0.0.192",
        "168.63.129.16",
        "::ffff:168.63.129.16",
        "2002:a83f:8110::1",
        "3fff::1",
        "4000::1",
    ],
)
def test_what_is_not_on_the_public_internet(address: str) -> None:
    assert not is_public(address)
    host = f"[{address}]" if ":" in address else address
    if "%" not in address:
        with pytest.raises(Invalid):
            parse_relay(f"smtp://{host}", trusted=False)
        assert parse_relay(f"smtp://{host}", trusted=True).public_only is False


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:4700::1111", "::ffff:93.184.215.14", "64:ff9b::93.184.215.14"])
def test_what_is(address: str) -> None:
    assert is_public(address)


def test_localhost_and_files_of_the_server_are_for_operators() -> None:
    for url in ("smtp://localhost", "smtp://LOCALHOST:2525", "smtps://relay.example?ca_file=/etc/passwd"):
        with pytest.raises(Invalid, match="operator"):
            parse_relay(url, trusted=False)
        assert parse_relay(url, trusted=True)


def resolving(monkeypatch: pytest.MonkeyPatch, *found: str | OSError) -> None:
    def getaddrinfo(host: str, port: int, *_: Any, **__: Any) -> list[tuple[Any, ...]]:
        for address in found:
            if isinstance(address, OSError):
                raise address
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_a_name_is_judged_by_all_that_it_resolves_to(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "93.184.215.14", "10.0.0.1")
    with pytest.raises(Invalid, match="operator"):
        check_provider_url("smtp://relay.example", trusted=False)
    check_provider_url("smtp://relay.example", trusted=True)
    resolving(monkeypatch, "93.184.215.14", "93.184.215.14")
    check_provider_url("smtp://relay.example", trusted=False)
    assert resolve_relay(parse_relay("smtp://relay.example", trusted=False)) == ["93.184.215.14"]


def test_a_name_without_an_address_is_taken_and_looked_at_when_it_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, socket.gaierror(socket.EAI_NONAME, "unknown"))
    check_provider_url("smtp://relay.example", trusted=False)
    (finding,) = examine_relay(parse_relay("smtp://relay.example", trusted=False))
    assert finding.level is Level.FAIL
    assert "no address" in finding.text


class Listener:
    """Counts who connects; says what it is told, a byte at a time, until it is hung up on."""

    def __init__(self, says: bytes = b"220 ready\r\n") -> None:
        self._says = says
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.callers = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                caller, _ = self._socket.accept()
            except OSError:
                return
            self.callers += 1
            with caller:
                while not self._over.wait(0.01):
                    try:
                        caller.sendall(self._says)
                    except OSError:
                        break

    def close(self) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener(b"x")
    yield listener
    listener.close()


def test_a_name_that_changed_since_is_not_connected_to_by_a_test(listener: Listener) -> None:
    """The name was public when the provider was made; now it leads inside."""
    config = SmtpConfig("localhost", listener.port, public_only=True)
    (finding,) = examine_relay(config)
    assert finding.level is Level.FAIL
    assert "operator" in finding.text
    assert listener.callers == 0


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_nor_by_the_mailer(listener: Listener, runner: Runner) -> None:
    async def trouble() -> None:
        mailer = SmtpMailer(SmtpConfig("localhost", listener.port, public_only=True))
        await mailer.start()
        mailer.submit(FakeDelivery("ada@example.net"))
        try:
            await until(lambda: "operator" in mailer.health().reason)
        finally:
            await mailer.close(0)

    runner(trouble())
    assert listener.callers == 0


@pytest.mark.parametrize(
    ("tls", "says"), [(Tls.NONE, b"x"), (Tls.NONE, b""), (Tls.TLS, b"")], ids=["babble", "silence", "no TLS"]
)
def test_a_relay_that_talks_without_end_or_not_at_all_is_cut_off_in_time(tls: Tls, says: bytes) -> None:
    """Each byte comes in time, a line never does."""
    with closing(Listener(says)) as listener:
        (finding,) = examine_relay(SmtpConfig("127.0.0.1", listener.port, tls=tls), within_s=0.3)
        assert finding.level is Level.FAIL
        assert "longer than 0.3 s" in finding.text
        assert listener.callers == 1
