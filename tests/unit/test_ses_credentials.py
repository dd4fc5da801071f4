"""Keys to AWS are found where its own tools find them, in the same order, and never shown."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from postroom.clock import Instant
from postroom.errors import Denied, Invalid
from postroom.platform.mail._aws_auth import AwsCredentials, CredentialSource, Signer
from postroom.platform.mail.ses_url import SesConfig, parse_ses_url

NONE = "http://127.0.0.1:1"
"""Where no metadata are."""


def found(environ: dict[str, str], config: SesConfig | None = None, metadata: str = NONE) -> AwsCredentials:
    return CredentialSource(config or SesConfig("eu-west-1"), {"HOME": "/nonexistent", **environ}, metadata)()


def test_the_url_goes_before_the_environment_and_the_environment_before_files(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = FILE\naws_secret_access_key = s\n")
    files = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")}
    environ = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t"}
    assert found(files).access_key_id == "FILE"
    assert found(files | environ) == AwsCredentials("ENV", "s", "t")
    assert found(files | environ, parse_ses_url("ses://URL:s@eu-west-1")) == AwsCredentials("URL", "s")


def test_a_named_profile_is_found_in_either_file(tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("[mail]\naws_access_key_id = A\naws_secret_access_key = s%s\n")
    (tmp_path / "config").write_text("[profile other]\naws_access_key_id=B\naws_secret_access_key=s\naws_session_token=t\n")
    environ = {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"), "AWS_CONFIG_FILE": str(tmp_path / "config")}
    assert found(environ, parse_ses_url("ses://eu-west-1?profile=mail")) == AwsCredentials("A", "s%s")
    assert found(environ | {"AWS_PROFILE": "other"}) == AwsCredentials("B", "s", "t")
    with pytest.raises(Denied, match="profile 'third' holds no"):
        found(environ, parse_ses_url("ses://eu-west-1?profile=third"))


def test_a_file_that_cannot_be_read_is_named_and_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "credentials"
    path.write_text("aws_secret_access_key = hunter2\n")
    with pytest.raises(Invalid) as caught:
        found({"AWS_SHARED_CREDENTIALS_FILE": str(path)})
    assert str(path) in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_keys_that_would_break_out_of_a_header_are_refused() -> None:
    with pytest.raises(Invalid):
        found({"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "t\r\nX: y"})


def test_a_containers_role_gives_keys_for_a_while(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret-token\n")
    with _metadata({"/creds?id=1": _ROLE}, {"/creds?id=1": ("Authorization", "secret-token")}) as url:
        environ = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/creds?id=1",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"),
        }
        assert found(environ) == AwsCredentials("ROLE", "s", "t", Instant(1_800_000_000_000))
    with pytest.raises(Invalid, match="another machine without TLS"):
        found({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://elsewhere.example/x"})


def test_an_instances_role_is_asked_for_with_a_token() -> None:
    start = "/latest/meta-data/iam/security-credentials/"
    needs = {start: ("X-aws-ec2-metadata-token", "T"), start + "mailer": ("X-aws-ec2-metadata-token", "T")}
    with _metadata({"/latest/api/token": "T", start: "mailer\n", start + "mailer": _ROLE}, needs) as url:
        assert found({}, metadata=url) == AwsCredentials("ROLE", "s", "t", Instant(1_800_000_000_000))
        with pytest.raises(Denied, match="no credentials"):
            found({"AWS_EC2_METADATA_DISABLED": "true"}, metadata=url)


def test_where_there_are_none_it_is_said_where_to_put_some() -> None:
    with pytest.raises(Denied, match="set AWS_ACCESS_KEY_ID"):
        found({})


def test_no_repr_shows_a_secret() -> None:
    assert repr(AwsCredentials("A", "hunter2", "hunter3")) == "Keys(access_key_id='A', expires_at=None)"


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
        monkeypatch.setattr("botocore.auth.get_current_datetime", lambda now=now, **_: _moment(now))
        theirs.add_auth(request)
        assert fields["Authorization"] == request.headers["Authorization"]


def _moment(now: Instant) -> object:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(now / 1000, UTC)


_ROLE = json.dumps(
    {"AccessKeyId": "ROLE", "SecretAccessKey": "s", "Token": "t", "Expiration": "2027-01-15T08:00:00Z", "Code": "Success"}
)


@contextmanager
def _metadata(pages: dict[str, str], needs: dict[str, tuple[str, str]]) -> Iterator[str]:
    """`needs`: the header field a page demands."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name, value = needs.get(self.path, ("Host", self.headers["Host"]))
            if self.path not in pages or self.headers[name] != value:
                self.send_error(403)
                return
            body = pages[self.path].encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            self.do_GET()

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
