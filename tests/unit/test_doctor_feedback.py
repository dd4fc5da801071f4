"""The doctor on what comes back: the bounce domain leads to us, and the public address to our door; what cannot be asked is no
verdict."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import httpx2 as httpx
import pytest

from postroom.errors import Unavailable
from postroom.gateway.reachable import examine_public_url
from postroom.model.finding import Finding, Level
from postroom.platform.mail.resolver import Resolver
from postroom.platform.mail.smtp_probe import accepts_recipients
from postroom.services.doctor import BounceProbe, check_bounce_domain
from postroom.settings import Settings
from postroom.wiring import doctor, open_app
from postroom.wiring.doctor import build_doctor
from tests.fakes.listening import listening
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import SmtpSink

DOMAIN = "bounce.shop.example"
PIXEL = b"GIF89a\x01\x00"


class Zone:
    def __init__(self, mx: list[str] | None = None, *, silent: bool = False) -> None:
        self._mx, self._silent = mx or [], silent

    def txt(self, name: str) -> list[str]:
        return ["v=spf1 ip4:192.0.2.1 -all"] if name == DOMAIN else []

    def mx(self, name: str) -> list[str]:
        if self._silent:
            raise Unavailable("the DNS gave no answer")
        return self._mx

    def has_address(self, name: str) -> bool:
        return False


def judged(zone: Zone, ask: Callable[[str, Sequence[str]], list[bool]] | None = None) -> tuple[Level, str]:
    """Of the way back; SPF is fine."""
    spf, way = check_bounce_domain(DOMAIN, zone, None if ask is None else BounceProbe("b1token", "b1nobody", ask))
    assert (spf.subject, spf.level) == (f"SPF of {DOMAIN}", Level.OK)
    return way.level, way.text


def test_a_domain_that_leads_nowhere_fails() -> None:
    assert judged(Zone())[0] is Level.FAIL
    assert judged(Zone(["."]))[0] is Level.FAIL


def test_without_a_listener_the_mx_is_enough() -> None:
    assert judged(Zone(["mail.shop.example"])) == (Level.OK, "go to mail.shop.example")


def test_a_silent_name_server_is_no_verdict() -> None:
    assert judged(Zone(silent=True))[0] is Level.SKIPPED


@pytest.mark.parametrize(
    ("answer", "level", "says"),
    [
        ([True, False], Level.OK, "Postroom answers at mail.shop.example"),
        ([True, True], Level.FAIL, "takes mail for any address"),
        ([False, False], Level.FAIL, "refuses a return path of ours"),
    ],
)
def test_only_we_tell_our_addresses_from_others(answer: list[bool], level: Level, says: str) -> None:
    asked: list[tuple[str, Sequence[str]]] = []

    def ask(host: str, addresses: Sequence[str]) -> list[bool]:
        asked.append((host, addresses))
        return answer

    found = judged(Zone(["mail.shop.example"]), ask)
    assert (found[0], says in found[1]) == (level, True)
    assert asked == [("mail.shop.example", [f"b1token@{DOMAIN}", f"b1nobody@{DOMAIN}"])]


def test_a_host_that_cannot_be_asked_is_a_warning() -> None:
    def ask(host: str, addresses: Sequence[str]) -> list[bool]:
        raise Unavailable("no mail server answers")

    assert judged(Zone(["mail.shop.example"]), ask)[0] is Level.WARN


# Asking a mail server.


def test_a_server_is_asked_and_gets_no_mail() -> None:
    rules = [Rule("rcpt", "reply", code=550, text="5.1.1 nobody", to="nobody@x.example")]
    with SmtpSink(rules) as sink:
        assert accepts_recipients("127.0.0.1", ["ann@x.example", "nobody@x.example"], port=sink.port) == [True, False]
    assert sink.accepted == []
    assert "DATA" not in [command.upper() for command in sink.commands]


@pytest.mark.parametrize("at", ["connect", "mail", "rcpt"])
def test_busy_is_no_answer(at: str) -> None:
    with SmtpSink([Rule(at, "reply", code=451, text="later")]) as sink, pytest.raises(Unavailable):
        accepts_recipients("127.0.0.1", ["ann@x.example"], port=sink.port)


def test_nobody_listening_is_no_answer() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Unavailable, match="refused"):
            accepts_recipients("127.0.0.1", ["ann@x.example"], port=taken.getsockname()[1])


# All of it, over a real listener.


def test_the_doctor_knows_its_own_listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(data=tmp_path / "data", bounce_domain=DOMAIN, feedback_listen="127.0.0.1:25")
    with open_app(settings) as postroom, listening(postroom.mail_listener().handler) as ours, SmtpSink() as catch_all:
        postroom.tenants.get("default")
        monkeypatch.setattr(Resolver, "txt", lambda _self, name: [])
        monkeypatch.setattr(Resolver, "mx", lambda _self, name: ["127.0.0.1"])

        def found(port: int) -> Finding:
            monkeypatch.setattr(
                doctor, "accepts_recipients", lambda host, addresses: accepts_recipients(host, addresses, port=port)
            )
            (finding,) = [each for each in build_doctor(settings, None, ()).examine() if each.subject == f"bounces to {DOMAIN}"]
            return finding

        assert (found(ours.port).level, found(ours.port).text) == (Level.OK, "Postroom answers at 127.0.0.1")
        assert "takes mail for any address" in found(catch_all.port).text


def test_where_nobody_reads_what_comes_back_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resolver, "txt", lambda _self, name: [])
    monkeypatch.setattr(Resolver, "mx", lambda _self, name: ["mail.shop.example"])
    settings = Settings(data=tmp_path / "data", bounce_domain=DOMAIN)
    found = [each.text for each in build_doctor(settings, None, ()).examine() if each.subject == f"bounces to {DOMAIN}"]
    assert found[0] == "go to mail.shop.example"
    assert "does not read them" in found[1]
    assert not (tmp_path / "data").exists()


def test_a_listener_without_a_domain_is_told(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path / "data", feedback_listen="127.0.0.1:25")
    assert any(each.level is Level.FAIL and "BOUNCE_DOMAIN" in each.text for each in build_doctor(settings, None, ()).examine())


# The public address.


def looked_at(answer: Callable[[httpx.Request], httpx.Response], url: str = "https://mail.example.com") -> list[Finding]:
    return list(examine_public_url(url, transport=httpx.MockTransport(answer)))


def test_our_door_is_known_by_its_pixel() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, content=PIXEL)

    (found,) = looked_at(answer, "https://mail.example.com/under")
    assert (found.level, asked) == (Level.OK, ["https://mail.example.com/under/t/o/doctor"])


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, content=PIXEL),
        httpx.Response(200, text="Welcome"),
        httpx.Response(301, headers={"Location": "https://www.example.com/"}),
    ],
)
def test_somebody_else_is_told(answer: httpx.Response) -> None:
    (found,) = looked_at(lambda _request: answer)
    assert (found.level, str(answer.status_code) in found.text) == (Level.FAIL, True)


def test_no_answer_is_a_warning() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    (found,) = looked_at(answer)
    assert (found.level, found.todo[:22]) == (Level.WARN, "start `postroom serve`")


def test_without_tls_nobody_unsubscribes_with_one_click() -> None:
    found = looked_at(lambda _request: httpx.Response(200, content=PIXEL), "http://mail.example.com")
    assert [each.level for each in found] == [Level.WARN, Level.OK]
