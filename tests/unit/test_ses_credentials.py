"""AWS credentials come from the URL, the environment or botocore's chain, are renewed before they expire, and never shown."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from postroom.clock import Instant
from postroom.errors import Denied, Invalid, PostroomError, Unavailable, Unsupported
from postroom.platform.mail._aws_auth import AwsCredentialChain, AwsCredentials, CredentialRefresher, Signer
from postroom.platform.mail.ses_url import SesConfig, parse_ses_url
from tests.fakes.clock import ManualClock

PLAIN = SesConfig("eu-west-1")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """What botocore reads by itself: nothing but what a test sets."""
    import os

    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return monkeypatch


def chain(config: SesConfig = PLAIN, environ: dict[str, str] | None = None) -> AwsCredentialChain:
    return AwsCredentialChain(config, environ or {}, ManualClock())


def profiles(tmp_path: Path, credentials: str = "", config: str = "") -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(credentials)
    (tmp_path / ".aws/config").write_text(config)


def test_the_url_goes_before_the_environment_and_the_environment_before_files(tmp_path: Path) -> None:
    profiles(tmp_path, "[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n")
    environ = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    assert chain().load().access_key_id == "FILE"
    assert chain(PLAIN, environ).load() == AwsCredentials("ENV", "s", "t")
    assert chain(parse_ses_url("ses://URL:s@eu-west-1"), environ).load() == AwsCredentials("URL", "s")


def test_a_profile_of_the_url_goes_before_the_environment_and_must_exist(tmp_path: Path) -> None:
    profiles(
        tmp_path,
        "[mail]\naws_access_key_id = A\naws_secret_access_key = s%s\n",
        "[profile other]\naws_access_key_id=B\naws_secret_access_key=s\naws_session_token=t\n",
    )
    environ = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s"}
    assert chain(parse_ses_url("ses://eu-west-1?profile=mail"), environ).load() == AwsCredentials("A", "s%s")
    assert chain(parse_ses_url("ses://eu-west-1?profile=other")).load() == AwsCredentials("B", "s", "t")
    with pytest.raises(Denied, match="third"):
        chain(parse_ses_url("ses://eu-west-1?profile=third")).load()


def test_keys_that_change_in_a_file_are_noticed(tmp_path: Path) -> None:
    profiles(tmp_path, "[default]\naws_access_key_id = OLD\naws_secret_access_key = s\n")
    found = chain()
    assert found.load().access_key_id == "OLD"
    (tmp_path / ".aws/credentials").write_text("[default]\naws_access_key_id = NEW\naws_secret_access_key = s\n")
    assert found.load().access_key_id == "NEW"


def test_a_profile_may_run_a_process(tmp_path: Path) -> None:
    script = tmp_path / "credentials.py"
    script.write_text(f"print({json.dumps(_role('PROCESS', 'SessionToken') | {'Version': 1})!r})")
    profiles(tmp_path, config=f"[default]\ncredential_process = {sys.executable} {script}\n")
    assert chain().load().access_key_id == "PROCESS"


def test_a_file_that_cannot_be_read_is_named_and_not_shown(tmp_path: Path) -> None:
    profiles(tmp_path, "aws_secret_access_key = hunter2\n")
    with pytest.raises(Invalid) as caught:
        chain().load()
    assert str(tmp_path / ".aws/credentials") in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_credentials_that_would_break_out_of_a_header_are_refused() -> None:
    with pytest.raises(Invalid):
        chain(PLAIN, {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t\r\nX: y"}).load()


def test_a_container_role_gives_temporary_credentials_that_are_asked_for_once(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("secret-token")
    asked = list[str]()

    def answer(path: str, headers: dict[str, str], body: str) -> str:
        assert headers["authorization"] == "secret-token"
        asked.append(path)
        return json.dumps(_role(f"ROLE{len(asked)}", "Token"))

    with _server(answer) as url:
        environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{url}/creds?id=1")
        environment.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
        found = chain()
        first = found.load()
        assert (first.access_key_id, first.session_token) == ("ROLE1", "t")
        assert first.expires_at == Instant(ManualClock().now() + 600_000)
        assert found.load() == first
        found.reject()
        assert found.load().access_key_id == "ROLE2"
        assert asked == ["/creds?id=1"] * 2


def test_a_web_identity_is_exchanged_at_sts(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a.web.token")

    def answer(path: str, headers: dict[str, str], body: str) -> str:
        assert "Action=AssumeRoleWithWebIdentity" in body
        assert "WebIdentityToken=a.web.token" in body
        until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return (
            '<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
            "<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>WEB</AccessKeyId><SecretAccessKey>s</SecretAccessKey>"
            f"<SessionToken>t</SessionToken><Expiration>{until}</Expiration></Credentials></AssumeRoleWithWebIdentityResult>"
            "</AssumeRoleWithWebIdentityResponse>"
        )

    with _server(answer) as url:
        environment.setenv("AWS_ENDPOINT_URL_STS", url)
        environment.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/mailer")
        environment.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
        found = chain().load()
    assert (found.access_key_id, found.session_token) == ("WEB", "t")
    assert found.expires_at is not None


def test_a_source_that_does_not_answer_is_tried_again(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/creds")
    environment.setattr("botocore.utils.ContainerMetadataFetcher.SLEEP_TIME", 0)
    with pytest.raises(Unavailable):
        chain().load()


def test_without_any_it_is_said_where_to_put_some() -> None:
    with pytest.raises(Denied, match="set AWS_ACCESS_KEY_ID"):
        chain().load()


def test_without_botocore_explicit_keys_work_and_all_else_says_what_to_install(environment: pytest.MonkeyPatch) -> None:
    environment.setitem(sys.modules, "botocore", None)
    assert chain(parse_ses_url("ses://URL:s@eu-west-1")).load().access_key_id == "URL"
    assert chain(PLAIN, {"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"}).load().access_key_id == "A"
    with pytest.raises(Unsupported, match=r"pip install 'postroom\[aws\]'"):
        chain().load()


class Source:
    """A `CredentialSource` that gives what it is handed."""

    def __init__(self, clock: ManualClock, *minutes: int | PostroomError) -> None:
        self._clock = clock
        self._minutes = list(minutes)
        self.loaded = self.rejected = 0

    def load(self) -> AwsCredentials:
        self.loaded += 1
        given = self._minutes.pop(0)
        if isinstance(given, PostroomError):
            raise given
        return AwsCredentials(f"A{self.loaded}", "s", "t", Instant(self._clock.now() + given * 60_000))

    def reject(self) -> None:
        self.rejected += 1


def refreshed(
    source: Source, clock: ManualClock, steps: Callable[[CredentialRefresher, Callable[[], str]], Iterator[None]]
) -> list[str]:
    """Run `steps`, after each of which the refresher's background work ends. Returns what it reported."""
    reports = list[str]()

    async def go() -> None:
        refresher = CredentialRefresher(
            source,
            lambda credentials: Signer(credentials, host="h", region="r"),
            clock,
            renewed=lambda: reports.append("renewed"),
            failed=lambda error, stubborn: reports.append(f"{error} {stubborn}"),
        )
        for _ in steps(refresher, lambda: refresher.current._credentials.access_key_id):
            if refresher._fetching is not None:
                await refresher._fetching
        await refresher.close()

    asyncio.run(go())
    return reports


def test_credentials_are_renewed_before_they_expire_while_the_old_ones_are_used() -> None:
    clock = ManualClock()
    source = Source(clock, 10, Unavailable("away"), 60)

    def steps(refresher: CredentialRefresher, current: Callable[[], str]) -> Iterator[None]:
        assert not refresher.ready()
        yield
        assert (refresher.ready(), current(), source.loaded) == (True, "A1", 1)
        clock.advance(5 * 60 + 1)
        assert (refresher.ready(), current()) == (True, "A1")
        yield
        assert (refresher.ready(), source.loaded) == (True, 2), "a failure while there are others is tried again later"
        clock.advance(31)
        assert (refresher.ready(), current()) == (True, "A1")
        yield
        assert (refresher.ready(), current()) == (True, "A3")

    assert refreshed(source, clock, steps) == ["renewed", "renewed"]


def test_expired_credentials_are_not_used_and_their_absence_is_reported() -> None:
    clock = ManualClock()
    source = Source(clock, 10, Denied("no role"), 60)

    def steps(refresher: CredentialRefresher, current: Callable[[], str]) -> Iterator[None]:
        refresher.ready()
        yield
        clock.advance(9 * 60 + 31)
        assert not refresher.ready()
        yield
        assert not refresher.ready()
        yield
        assert (refresher.ready(), current()) == (True, "A3")

    assert refreshed(source, clock, steps) == ["renewed", "no role True", "renewed"]


def test_credentials_that_aws_rejects_are_looked_for_anew() -> None:
    clock = ManualClock()
    source = Source(clock, 60, 60)

    def steps(refresher: CredentialRefresher, current: Callable[[], str]) -> Iterator[None]:
        refresher.ready()
        yield
        refresher.reject()
        assert not refresher.ready()
        yield
        assert (refresher.ready(), current(), source.rejected) == (True, "A2", 1)

    refreshed(source, clock, steps)


def test_no_repr_shows_a_secret() -> None:
    assert repr(AwsCredentials("A", "hunter2", "hunter3")) == "AwsCredentials(access_key_id='A', expires_at=None)"


@pytest.mark.parametrize("token", [None, "tok/en+="])
@pytest.mark.parametrize("path", ["/v2/email/outbound-emails", "/v2/email/identities/a%40example.com"])
def test_signatures_are_those_of_the_aws_sdk(token: str | None, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(AwsCredentials("AKID", "secret", token), host="email.eu-west-1.amazonaws.com", region="eu-west-1")
    for now in (Instant(1_700_000_000_123), Instant(1_700_100_000_000)):
        fields = dict(line.split(": ", 1) for line in signer.headers("POST", path, b'{"a":1}', now).splitlines())
        request = AWSRequest("POST", f"https://email.eu-west-1.amazonaws.com{path}", data=b'{"a":1}')
        request.headers["Content-Type"] = "application/json"
        request.context["timestamp"] = fields["X-Amz-Date"]
        theirs = SigV4Auth(Credentials("AKID", "secret", token), "ses", "eu-west-1")
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda now=now, **_: datetime.fromtimestamp(now / 1000, UTC))
        theirs.add_auth(request)
        assert fields["Authorization"] == request.headers["Authorization"]


def _role(key: str, token: str) -> dict[str, object]:
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"AccessKeyId": key, "SecretAccessKey": "s", token: "t", "Expiration": until}


@contextmanager
def _server(answer: Callable[[str, dict[str, str], str], str]) -> Iterator[str]:
    """A web server on loopback; what fails in `answer` fails the request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = answer(self.path, headers, self.rfile.read(length).decode()).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - its name there

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
