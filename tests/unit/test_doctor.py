"""The doctor: each thing that is wrong is found, named, and comes with what to do; what cannot be checked is no verdict."""

from __future__ import annotations

import base64
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import quote

import dns.exception
import dns.resolver
import pytest

from postroom.errors import Invalid, StorageFull, Unavailable
from postroom.model.finding import Finding, Level
from postroom.platform.embedded import doctor
from postroom.platform.embedded.doctor import check_data_directory, file_system
from postroom.platform.mail.resolver import Resolver
from postroom.platform.mail.smtp_probe import examine_relay
from postroom.platform.mail.smtp_url import SmtpConfig, parse_smtp_url
from postroom.services.doctor import Doctor, healthy
from postroom.services.doctor import check_sending_domain as examine_domain
from tests.fakes.smtp_rules import Rule
from tests.fakes.smtp_sink import Options, SmtpSink


def levels(findings: Iterable[Finding]) -> dict[str, Level]:
    return {finding.subject: finding.level for finding in findings}


def only(findings: Iterable[Finding], subject: str) -> Finding:
    (found,) = [finding for finding in findings if finding.subject == subject]
    return found


# The whole.


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on() -> None:
    def broken() -> Iterator[Finding]:
        yield Finding("a", Level.OK, "so far")
        raise StorageFull("the disk is full")

    findings = list(Doctor([("a", broken), ("b", lambda: [Finding("b", Level.WARN, "hm")])]).examine())
    assert [(finding.subject, finding.level) for finding in findings] == [("a", Level.OK), ("a", Level.FAIL), ("b", Level.WARN)]
    assert "the disk is full" in findings[1].text
    assert not healthy(findings)
    assert healthy(findings[2:])


# The data directory.


def test_a_private_local_directory_is_fine(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    findings = list(check_data_directory(tmp_path))
    assert all(finding.level is not Level.FAIL for finding in findings)
    assert levels(findings)["SQLite"] is Level.OK
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_judged_by_where_it_will_be(tmp_path: Path) -> None:
    findings = list(check_data_directory(tmp_path / "new" / "data"))
    assert "not there yet" in findings[0].text
    assert healthy(findings)
    assert not (tmp_path / "new").exists()


def test_a_directory_others_may_read_is_a_warning(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert any(finding.level is Level.WARN and "chmod 700" in finding.todo for finding in check_data_directory(tmp_path))


def test_a_full_disk_fails_and_a_nearly_full_one_warns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, level in ((10 << 20, Level.FAIL), (1 << 30, Level.WARN), (50 << 30, Level.OK)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: SimpleNamespace(free=free))
        assert levels(check_data_directory(tmp_path))["disk space"] is level


def test_an_old_sqlite_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    assert levels(check_data_directory(tmp_path))["SQLite"] is Level.FAIL


def test_a_place_that_cannot_be_written_is_an_error_in_our_words(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises((StorageFull, Unavailable)):
        list(check_data_directory(tmp_path / "file"))


MOUNTS = """\
22 1 252:1 / / rw,relatime - ext4 /dev/vda1 rw
30 22 0:40 / /mnt/share rw,relatime shared:9 - nfs4 server:/x rw
31 22 0:41 / /mnt/my\\040disk rw - xfs /dev/vdb rw
32 30 0:42 / /mnt/share/local rw - tmpfs tmpfs rw
nonsense
"""


@pytest.mark.parametrize(
    ("directory", "kind"),
    [
        ("/srv/data", "ext4"),
        ("/mnt/share/data", "nfs4"),
        ("/mnt/shared", "ext4"),
        ("/mnt/my disk/data", "xfs"),
        ("/mnt/share/local/x", "tmpfs"),
    ],
)
def test_the_nearest_mount_decides(directory: str, kind: str) -> None:
    assert file_system(Path(directory), MOUNTS) == kind


def test_without_mounts_nothing_is_claimed() -> None:
    assert file_system(Path("/srv"), "") is None


def test_a_network_file_system_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("30 22 0:40 / / rw - cifs //server/x rw\n")
    monkeypatch.setattr(doctor, "_MOUNTS", mounts)
    finding = only(check_data_directory(tmp_path), "file system")
    assert finding.level is Level.FAIL
    assert "cifs" in finding.text


# The mail server.


def relay(sink: SmtpSink, options: str = "", credentials: str = "") -> list[Finding]:
    return list(examine_relay(parse_smtp_url(f"smtp://{credentials}127.0.0.1:{sink.port}{options}")))


def test_a_good_relay_is_fine_and_gets_no_mail() -> None:
    with SmtpSink(options=Options(users={"anna": "secret"})) as sink:
        findings = relay(sink, credentials="anna:secret@")
    assert levels(findings) == {"mail server": Level.OK, "EHLO": Level.OK, "AUTH": Level.OK}
    assert sink.accepted == []
    assert not any(command.upper().startswith("MAIL") for command in sink.commands)


def test_a_wrong_password_names_the_user_and_not_the_password() -> None:
    with SmtpSink(options=Options(users={"anna": "secret"})) as sink:
        finding = only(relay(sink, credentials="anna:wr0ng@"), "AUTH")
    assert finding.level is Level.FAIL
    assert "anna" in finding.text
    assert "wr0ng" not in str(finding)


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "XOAUTH2"])
def test_a_password_beyond_ascii_is_told_as_the_mailer_tells_it(mechanism: str) -> None:
    with SmtpSink(options=Options(users={"änna": "pässwort"}, mechanisms=(mechanism,))) as sink:
        options, user = f"?auth={mechanism.lower()}", quote("änna")
        assert levels(relay(sink, options, f"{user}:{quote('pässwort')}@"))["AUTH"] is Level.OK
        assert levels(relay(sink, options, f"{user}:{quote('pâsswort')}@"))["AUTH"] is Level.FAIL


def test_a_login_by_another_mechanism_than_is_offered_fails() -> None:
    with SmtpSink(options=Options(users={"anna": "secret"}, mechanisms=("CRAM-MD5",))) as sink:
        finding = only(relay(sink, credentials="anna:secret@"), "AUTH")
    assert finding.level is Level.FAIL
    assert "CRAM-MD5" in finding.todo


def test_a_name_no_host_can_have_is_said() -> None:
    finding = only(examine_relay(SmtpConfig("a..b")), "mail server")
    assert finding.level is Level.FAIL
    assert "a..b" in finding.text


def test_an_oauth_token_logs_in() -> None:
    with SmtpSink(options=Options(users={"anna": "token"}, mechanisms=("XOAUTH2",))) as sink:
        assert levels(relay(sink, "?auth=xoauth2", "anna:token@"))["AUTH"] is Level.OK
        assert levels(relay(sink, "?auth=xoauth2", "anna:stale@"))["AUTH"] is Level.FAIL


def test_a_login_that_is_not_offered_fails() -> None:
    with SmtpSink() as sink:
        assert levels(relay(sink, credentials="anna:secret@"))["AUTH"] is Level.FAIL


def test_no_pipelining_and_no_esmtp_are_warnings() -> None:
    for options in (Options(pipelining=False), Options(esmtp=False)):
        with SmtpSink(options=options) as sink:
            assert levels(relay(sink))["EHLO"] is Level.WARN


def test_nobody_listening_is_said() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        finding = only(examine_relay(parse_smtp_url(f"smtp://127.0.0.1:{taken.getsockname()[1]}")), "mail server")
    assert finding.level is Level.FAIL
    assert "refused" in finding.text.lower()


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (Rule("connect", "hang_up", code=554, text="5.7.1 go away"), "554"),
        (Rule("connect", "drop"), "hung up"),
        (Rule("ehlo", "drop"), "hung up"),
    ],
)
def test_a_relay_that_turns_us_away_is_said(rule: Rule, says: str) -> None:
    with SmtpSink([rule]) as sink:
        findings = relay(sink)
    assert findings[-1].level is Level.FAIL
    assert says in findings[-1].text


def test_a_relay_that_stays_silent_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("postroom.platform.mail.smtp_probe._TIMEOUT_S", 0.2)
    with SmtpSink([Rule("connect", "stall")]) as sink:
        finding = only(relay(sink), "mail server")
    assert finding.level is Level.FAIL
    assert "does not answer" in finding.text


def test_required_starttls_that_is_not_offered_fails() -> None:
    with SmtpSink() as sink:
        assert levels(relay(sink, "?tls=starttls"))["TLS"] is Level.FAIL


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has reason to trust, its key beside it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    path = tmp_path_factory.mktemp("tls") / "cert.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=relay -keyout {path.parent / 'key.pem'} -out {path}"
    subprocess.run(["openssl", *words.split(), "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return path


@pytest.mark.parametrize("mode", ["tls", "starttls"])
def test_tls_is_verified_unless_told_otherwise(certificate: Path, mode: str) -> None:
    options = Options(tls=mode, certificate=str(certificate), key=str(certificate.with_name("key.pem")))
    with SmtpSink(options=options) as sink:
        untrusted = only(relay(sink, f"?tls={mode}"), "TLS")
        trusted = only(relay(sink, f"?tls={mode}&ca_file={certificate}"), "TLS")
        unverified = only(relay(sink, f"?tls={mode}&verify=no"), "TLS")
    assert untrusted.level is Level.FAIL
    assert "not trusted" in untrusted.text
    assert (trusted.level, trusted.text) == (Level.OK, "TLSv1.3")
    assert unverified.level is Level.OK


def test_tls_on_a_plain_port_is_said() -> None:
    with SmtpSink() as sink:
        finding = relay(sink, "?tls=tls")[-1]
    assert finding.level is Level.FAIL
    assert "465" in finding.todo


# The sending domain.


class Zone:
    """A resolver that knows what it was told; names in `silent` give no answer."""

    def __init__(self, txt: dict[str, list[str]], mx: list[str] | None = None, silent: str = "") -> None:
        self._txt = txt
        self._mx = mx or []
        self._silent = silent
        self.asked = 0

    def txt(self, name: str) -> list[str]:
        self.asked += 1
        if self._silent and self._silent in name:
            raise Unavailable(f"the DNS gave no answer about {name}")
        return self._txt.get(name, [])

    def mx(self, name: str) -> list[str]:
        return self._mx

    def has_address(self, name: str) -> bool:
        return name == "address.example"


def key(size: int) -> str:
    return base64.b64encode(b"k" * size).decode()


GOOD = {
    "a.example": ["google-site-verification=x", "v=spf1 include:relay.example ~all"],
    "relay.example": ["v=spf1 ip4:192.0.2.0/24 -all"],
    "s1._domainkey.a.example": [f"v=DKIM1; k=rsa; p={key(294)}"],
    "_dmarc.a.example": ["v=DMARC1; p=quarantine; rua=mailto:d@a.example"],
}


def judged(zone: Zone, domain: str = "a.example", selectors: tuple[str, ...] = ("s1",)) -> list[Finding]:
    return list(examine_domain(domain, selectors, zone))


def test_a_domain_set_up_right_is_fine() -> None:
    assert {finding.level for finding in judged(Zone(GOOD, ["mx.a.example"]))} == {Level.OK}


def test_a_bare_domain_has_everything_to_do() -> None:
    found = levels(judged(Zone({})))
    assert found == {
        "SPF of a.example": Level.WARN,
        "DKIM key s1": Level.FAIL,
        "DMARC of a.example": Level.WARN,
        "mail to a.example": Level.WARN,
    }


@pytest.mark.parametrize(
    ("records", "level"),
    [
        (["v=spf1 -all"], Level.OK),
        (["v=spf1"], Level.OK),
        (["v=spf10 -all"], Level.WARN),
        (["v=spf1 +all"], Level.WARN),
        (["v=spf1 all"], Level.WARN),
        (["v=spf1 -all", "v=spf1 ~all"], Level.FAIL),
        (["v=spf1 " + " ".join(f"include:i{n}.example" for n in range(11)) + " -all"], Level.FAIL),
        (["v=spf1 include:deep.example -all"], Level.FAIL),
        (["v=spf1 include:loop.example -all"], Level.OK),
    ],
)
def test_spf(records: list[str], level: Level) -> None:
    zone = Zone(
        {
            "a.example": records,
            "deep.example": ["v=spf1 " + " ".join(f"a:h{n}.example" for n in range(10))],
            "loop.example": ["v=spf1 include:loop.example include:a.example mx -all"],
        }
    )
    assert levels(judged(zone))["SPF of a.example"] is level


def test_spf_that_includes_without_end_is_not_followed_without_end() -> None:
    zone = Zone({f"n{n}.example": [f"v=spf1 include:n{n + 1}.example include:n{n + 2}.example -all"] for n in range(500)})
    assert levels(judged(zone, "n0.example"))["SPF of n0.example"] is Level.FAIL
    assert zone.asked < 50


@pytest.mark.parametrize(
    ("record", "level"),
    [
        (f"p={key(294)}", Level.OK),
        (f"v=DKIM1; k=ed25519; p={key(32)}", Level.OK),
        (f"k=rsa; p={key(162)}", Level.WARN),
        (f"k=rsa; p={key(94)}", Level.FAIL),
        ("v=DKIM1; p=", Level.FAIL),
        ("v=DKIM1; p=???", Level.FAIL),
    ],
)
def test_dkim(record: str, level: Level) -> None:
    assert levels(judged(Zone({"s1._domainkey.a.example": [record]})))["DKIM key s1"] is level


def test_without_a_selector_dkim_is_not_judged() -> None:
    assert levels(judged(Zone(GOOD), selectors=()))["DKIM of a.example"] is Level.SKIPPED


@pytest.mark.parametrize(
    ("txt", "level"),
    [
        ({"_dmarc.mail.a.example": ["v=DMARC1; p=none"]}, Level.OK),
        ({"_dmarc.a.example": ["v=DMARC1;p=REJECT"]}, Level.OK),
        ({"_dmarc.a.example": ["v=DMARC1; sp=none"]}, Level.FAIL),
        ({"_dmarc.a.example": ["v=DMARC1; p=none", "v=DMARC1; p=none"]}, Level.FAIL),
        ({"_dmarc.a.example": ["something else"]}, Level.WARN),
    ],
)
def test_dmarc_is_looked_for_up_the_tree(txt: dict[str, list[str]], level: Level) -> None:
    assert levels(judged(Zone(txt), "mail.a.example"))["DMARC of mail.a.example"] is level


def test_mail_must_be_able_to_come_back() -> None:
    assert levels(judged(Zone({}, ["."])))["mail to a.example"] is Level.WARN
    assert levels(judged(Zone({}), "address.example"))["mail to address.example"] is Level.OK


@pytest.mark.parametrize("silent", ["_dmarc", "_domainkey", "relay.example"])
def test_a_silent_name_server_is_no_verdict_and_stops_nothing_else(silent: str) -> None:
    findings = judged(Zone(GOOD, ["mx.a.example"], silent))
    assert sorted(finding.level for finding in findings) == [Level.OK] * 3 + [Level.SKIPPED]


class ScriptedResolver(dns.resolver.Resolver):
    """Raises what it was told to, without a network."""

    def __init__(self, error: Exception) -> None:
        super().__init__(configure=False)
        self._error = error

    def resolve(self, *args: object, **kwargs: object) -> dns.resolver.Answer:
        raise self._error


@pytest.mark.parametrize("kind", [dns.resolver.NXDOMAIN, dns.resolver.NoAnswer])
def test_what_is_absent_is_an_empty_answer(kind: type[Exception]) -> None:
    resolver = Resolver(ScriptedResolver(kind.__new__(kind)))
    assert resolver.txt("a.example") == []
    assert resolver.mx("a.example") == []
    assert not resolver.has_address("a.example")


@pytest.mark.parametrize("kind", [dns.exception.Timeout, dns.resolver.NoNameservers, OSError])
def test_no_answer_is_unavailable(kind: type[Exception]) -> None:
    with pytest.raises(Unavailable, match=r"a\.example"):
        Resolver(ScriptedResolver(kind.__new__(kind))).txt("a.example")


def test_an_impossible_name_is_invalid() -> None:
    with pytest.raises(Invalid):
        Resolver(dns.resolver.Resolver(configure=False)).txt("a..example")
