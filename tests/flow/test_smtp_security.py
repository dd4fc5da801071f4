"""TLS is verified, credentials stay under it, and what goes wrong is said in words that name the remedy."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from postroom.platform.mail.breaker import BreakerPolicy
from postroom.platform.mail.port import Health, Verdict
from postroom.platform.mail.smtp import SmtpMailer
from postroom.platform.mail.smtp_url import Auth, SmtpConfig, Tls
from tests.fakes.delivery import RUNNERS, Runner, deliveries, send, until
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink

PATIENT = BreakerPolicy(threshold=1, first_wait_s=30)
USERS = {"us@er": "p:ä ss"}


class Certificates(NamedTuple):
    authority: str
    certificate: str
    key: str
    wrong_name: str


def openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A test authority, and two certificates of it: one for this machine, one for another name."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: it makes the test certificates")
    root = tmp_path_factory.mktemp("tls")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2")
    ca, ca_key = str(root / "ca.pem"), str(root / "ca.key")
    openssl(
        "req",
        "-x509",
        *new_key,
        "-keyout",
        ca_key,
        "-out",
        ca,
        "-subj",
        "/CN=Test authority",
        "-addext",
        "keyUsage=critical,keyCertSign",
    )

    def issue(name: str, alternative: str) -> str:
        request, out, extensions = (str(root / f"{name}.{kind}") for kind in ("csr", "pem", "ext"))
        openssl("req", *new_key, "-keyout", str(root / f"{name}.key"), "-out", request, "-subj", f"/CN={name}")
        Path(extensions).write_text(f"subjectAltName={alternative}\n")
        signed = ("-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "2", "-extfile", extensions)
        openssl("x509", "-req", "-in", request, "-out", out, *signed)
        return out

    good = issue("local", "IP:127.0.0.1,DNS:localhost")
    wrong = issue("elsewhere", "DNS:elsewhere.example.com")
    return Certificates(ca, good, str(root / "local.key"), wrong)


def sink(certificates: Certificates, tls: str, rules: list[Rule] | None = None, **options: Any) -> SmtpSink:
    return SmtpSink(rules, Options(tls=tls, certificate=certificates.certificate, key=certificates.key, **options))


def to(server: SmtpSink, tls: Tls, **changes: Any) -> SmtpConfig:
    return replace(SmtpConfig("127.0.0.1", server.port, tls=tls, connections=3, connect_s=5), **changes)


def delivered(config: SmtpConfig, runner: Runner = RUNNERS["asyncio"], count: int = 8) -> None:
    items = deliveries(count)
    runner(send(SmtpMailer(config), items))
    assert {item.verdict for item in items} == {Verdict.ACCEPTED}


def refused(config: SmtpConfig, runner: Runner = RUNNERS["asyncio"]) -> Health:
    """The state of a mailer that could not get through; its deliveries have waited in line, and come back unsent."""
    found: list[Health] = []
    items = deliveries(3)

    async def go() -> None:
        mailer = SmtpMailer(config, policy=PATIENT)
        await mailer.start()
        for item in items:
            mailer.submit(item)
        await until(lambda: not mailer.health().open)
        assert mailer.waiting == 3
        found.append(mailer.health())
        await mailer.close(0.1)

    runner(go())
    assert {item.verdict for item in items} == {Verdict.UNSENT}
    assert not any(item.composed for item in items)
    return found[0]


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS, Tls.AUTO])
def test_mail_and_login_go_under_tls(certificates: Certificates, tls: Tls, runner: Runner) -> None:
    with sink(certificates, "tls" if tls is Tls.TLS else "starttls", users=USERS) as server:
        delivered(to(server, tls, ca_file=certificates.authority, user="us@er", password="p:ä ss"), runner)
    assert len(server.accepted) == 8
    assert all(one.secure and one.user == "us@er" for one in server.accepted)
    if tls is not Tls.TLS:
        assert [command.split()[0] for command in server.commands[:4]] == ["EHLO", "STARTTLS", "EHLO", "AUTH"]
    assert server.violations == []


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
def test_large_content_goes_under_tls(certificates: Certificates, tls: Tls, runner: Runner) -> None:
    items = deliveries(3)
    for item in items:
        item.content = b"x" * 70 + b"\r\n" + b"y\r\n" * 500_000
    with sink(certificates, tls) as server:
        runner(send(SmtpMailer(to(server, tls, ca_file=certificates.authority)), items))
    assert {one.content for one in server.accepted} == {items[0].content}
    assert len(server.accepted) == 3


@pytest.mark.parametrize("auth", [Auth.PLAIN, Auth.LOGIN, Auth.XOAUTH2])
def test_each_mechanism_logs_in(auth: Auth) -> None:
    with SmtpSink(options=Options(users=USERS)) as server:
        delivered(to(server, Tls.NONE, auth=auth, user="us@er", password="p:ä ss"))
    assert {one.user for one in server.accepted} == {"us@er"}
    assert any(command.startswith(f"AUTH {auth.upper()}") for command in server.commands)


def test_the_mechanism_is_chosen_among_those_offered() -> None:
    with SmtpSink(options=Options(users=USERS, mechanisms=("CRAM-MD5", "LOGIN"))) as server:
        delivered(to(server, Tls.NONE, user="us@er", password="p:ä ss"))
    with SmtpSink(options=Options(users=USERS, mechanisms=("CRAM-MD5",))) as server:
        assert "does not offer PLAIN or LOGIN" in refused(to(server, Tls.NONE, user="us@er", password="x")).reason


@pytest.mark.parametrize("auth", [Auth.PLAIN, Auth.LOGIN, Auth.XOAUTH2])
def test_a_wrong_password_is_said_once_and_not_hammered(auth: Auth) -> None:
    with SmtpSink(options=Options(users=USERS)) as server:
        health = refused(to(server, Tls.NONE, auth=auth, user="us@er", password="geheim"))
    assert "refused the login of 'us@er'" in health.reason
    assert "check the user and the password" in health.reason
    assert "geheim" not in health.reason
    assert health.retry_in_s > 10
    assert server.connections == 1


def test_a_login_server_that_is_down_is_no_wrong_password() -> None:
    with SmtpSink([Rule("auth", "reply", 454, "4.7.0 try later")], Options(users=USERS)) as server:
        assert "cannot check logins now" in refused(to(server, Tls.NONE, user="us@er", password="x")).reason


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
def test_an_unknown_authority_is_refused_unless_told_otherwise(certificates: Certificates, tls: Tls, runner: Runner) -> None:
    with sink(certificates, tls) as server:
        reason = refused(to(server, tls), runner).reason
        assert "certificate" in reason
        assert "ca_file=" in reason
        delivered(to(server, tls, verify=False), runner)
    assert len(server.accepted) == 8


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.TLS])
def test_a_certificate_for_another_name_is_refused(certificates: Certificates, tls: Tls, runner: Runner) -> None:
    key = certificates.wrong_name.replace(".pem", ".key")
    with SmtpSink(options=Options(tls=tls, certificate=certificates.wrong_name, key=key)) as server:
        reason = refused(to(server, tls, ca_file=certificates.authority), runner).reason
    assert "certificate" in reason
    assert "127.0.0.1" in reason


def test_a_server_without_starttls_gets_nothing_where_it_is_required() -> None:
    with SmtpSink(options=Options(users=USERS)) as server:
        assert "does not offer STARTTLS" in refused(to(server, Tls.STARTTLS, user="us@er", password="x")).reason
    assert [command.split()[0] for command in server.commands] == ["EHLO"]


def test_where_tls_is_optional_the_password_still_needs_it() -> None:
    with SmtpSink(options=Options(users=USERS)) as server:
        config = replace(to(server, Tls.AUTO, user="us@er", password="p:ä ss"), host="127.1")  # not recognised as this machine
        assert "not sent in the clear" in refused(config).reason
        assert not any("AUTH" in command for command in server.commands)
        delivered(replace(config, clear_auth=True))


def test_mail_without_credentials_goes_in_the_clear_where_tls_is_optional() -> None:
    with SmtpSink() as server:
        delivered(to(server, Tls.AUTO))
    assert not any(one.secure for one in server.accepted)


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_plain_text_behind_starttls_is_taken_for_an_attack(certificates: Certificates, runner: Runner) -> None:
    with sink(certificates, "starttls", inject=True) as server:
        assert "tampering" in refused(to(server, Tls.STARTTLS, ca_file=certificates.authority), runner).reason
    assert server.accepted == []


@pytest.mark.parametrize("runner", RUNNERS.values(), ids=RUNNERS)
def test_a_port_in_the_clear_is_told_from_a_tls_port(certificates: Certificates, runner: Runner) -> None:
    with SmtpSink() as server:
        assert "use tls=starttls" in refused(to(server, Tls.TLS, ca_file=certificates.authority), runner).reason


def test_a_relay_that_is_not_there_is_said() -> None:
    with SmtpSink() as server:
        config = to(server, Tls.NONE)
    assert "refused the connection: is the mail server running" in refused(config).reason
    assert "was not found" in refused(replace(config, host="no-such-host.invalid")).reason


def test_a_greeting_that_sends_us_away_is_said() -> None:
    with SmtpSink([Rule("connect", "hang_up", 554, "5.7.1 listed at blocklist.example")]) as server:
        assert "does not take connections: 554 5.7.1 listed" in refused(to(server, Tls.NONE)).reason
