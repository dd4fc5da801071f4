"""What `postroom serve` says before it serves: certificates that cannot be used, and what is probably not meant so."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from postroom.entrypoints.cli.serve import listen_warnings
from postroom.entrypoints.server.processes import check_certificate, listening_for_mail
from postroom.errors import Invalid
from postroom.settings import Settings
from postroom.wiring import open_app
from postroom.wiring.container import check_inbound_mail
from postroom.wiring.doctor import check_master_key


def settings(**environ: str) -> Settings:
    return Settings.load(environ, None, {})


def refusal(certificate: Path, key: Path | None = None) -> str:
    keyed = {} if key is None else {"POSTROOM_TLS_KEY": str(key)}
    with pytest.raises(Invalid) as caught:
        check_certificate(settings(POSTROOM_TLS_CERTIFICATE=str(certificate), **keyed))
    return str(caught.value)


def test_the_file_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("there", "utf-8")
    said = refusal(tmp_path / "cert.pem", tmp_path / "key.pem")
    assert f"{tmp_path / 'key.pem'} cannot be read: No such file" in said
    assert "POSTROOM_TLS_KEY" in said


def test_what_is_no_certificate_is_told_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("no certificate", "utf-8")
    said = refusal(tmp_path / "cert.pem")
    assert "without POSTROOM_TLS_KEY" in said
    assert "both PEM" in said


@pytest.mark.parametrize("listen", ["127.0.0.1:8400", "[::1]:8400", "localhost:8400"])
def test_nothing_is_remarked_on_a_door_for_this_machine(listen: str) -> None:
    assert list(listen_warnings(settings(POSTROOM_LISTEN=listen))) == []


def test_a_door_for_others_without_tls_is_remarked_on() -> None:
    (said,) = listen_warnings(settings(POSTROOM_LISTEN="192.0.2.7:8400"))
    assert "POSTROOM_TLS_CERTIFICATE" in said


def test_a_door_on_every_address_needs_one_that_people_use() -> None:
    said = list(listen_warnings(settings(POSTROOM_LISTEN="0.0.0.0:8400", POSTROOM_TRUSTED_PROXIES="192.0.2.0/24")))
    assert [line for line in said if "POSTROOM_API_URL" in line] == said != []
    named = settings(
        POSTROOM_LISTEN="0.0.0.0:8400", POSTROOM_TRUSTED_PROXIES="192.0.2.0/24", POSTROOM_API_URL="https://mail.shop.example"
    )
    assert list(listen_warnings(named)) == []


def test_a_listener_without_a_domain_and_a_mailbox_that_cannot_be_meant_so_stop_the_start() -> None:
    with pytest.raises(Invalid, match="POSTROOM_FEEDBACK_LISTEN needs POSTROOM_BOUNCE_DOMAIN"):
        check_inbound_mail(settings(POSTROOM_FEEDBACK_LISTEN="0.0.0.0:25"))
    with pytest.raises(Invalid, match="only a server on this machine"):
        check_inbound_mail(settings(POSTROOM_FEEDBACK_MAILBOX="imap://user:hush@imap.example?tls=none"))
    check_inbound_mail(settings(POSTROOM_FEEDBACK_MAILBOX="imaps://user:hush@imap.example"))


def test_the_mailroom_s_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        asked = settings(POSTROOM_FEEDBACK_LISTEN=address, POSTROOM_BOUNCE_DOMAIN="bounces.shop.example")
        refused = pytest.raises(Invalid, match=f"the SMTP listener cannot listen on {address}.*POSTROOM_FEEDBACK_LISTEN")
        with refused, listening_for_mail(asked):
            pass


def test_no_server_starts_where_the_master_key_is_missing(tmp_path: Path) -> None:
    """It would make another one, and all would look well."""
    here = settings(POSTROOM_DATA=str(tmp_path / "data"))
    check_master_key(here)
    with open_app(here) as postroom:
        postroom.objects.put("default/uploads/a", b"anna@example.com")
    check_master_key(here)
    (tmp_path / "data" / "master.key").rename(tmp_path / "elsewhere.key")
    with pytest.raises(Invalid, match=r"master\.key is missing, and 1 files are encrypted under it: bring it back"):
        check_master_key(here)
    check_master_key(settings(POSTROOM_DATA=str(tmp_path / "data"), POSTROOM_MASTER_KEY_FILE=str(tmp_path / "elsewhere.key")))
