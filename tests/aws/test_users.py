"""People of an installation on AWS: `postroom user`, and what of an invitation may be lost."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import pytest
from botocore.stub import Stubber
from typer.testing import CliRunner, Result

from postroom.entrypoints.cli import app
from postroom.errors import Conflict, Denied, NotFound, PostroomError, Unavailable, Unsupported
from postroom.platform.aws._clients import AwsAccount
from postroom.platform.aws.identity import CognitoIdentity
from postroom.platform.ports.identity import AccountStatus
from tests.aws.faults import LostAnswers
from tests.contract.aws_backend import TABLE, AwsBackend

EMAIL = "ada@example.org"


def run(*words: str) -> Result:
    """`postroom …`, in this process."""
    return CliRunner().invoke(app, list(words))


def users() -> dict[str, dict[str, Any]]:
    return {user["name"]: user for user in json.loads(run("user", "list", "--json").stdout)}


@pytest.fixture
def installed(backend: AwsBackend, monkeypatch: pytest.MonkeyPatch) -> CognitoIdentity:
    """The settings of an installation on AWS; its pool."""
    identity, _ = backend.identity(), backend.table()
    region, account = backend.account.region, backend.account.access_key
    backend.secrets()
    for name, value in {
        "POSTROOM_PLATFORM": "aws",
        "POSTROOM_AWS_TABLE": TABLE,
        "POSTROOM_AWS_BUCKET": "postroom-test",
        "POSTROOM_AWS_QUEUES": f"arn:aws:sqs:{region}:{account}:postroom-test-",
        "POSTROOM_AWS_KEY": backend.kms_keys[0],
        "POSTROOM_AWS_USER_POOL": identity._pool,
        "POSTROOM_ISSUER": identity.issuer,
        "POSTROOM_AUDIENCE": "console",
        "AWS_ENDPOINT_URL": str(backend.account.endpoint),
        "AWS_DEFAULT_REGION": str(region),
        "AWS_ACCESS_KEY_ID": str(account),
        "AWS_SECRET_ACCESS_KEY": "test",
    }.items():
        monkeypatch.setenv(name, value)
    return identity


def test_the_command_line_invites_and_lets_in_at_once(installed: CognitoIdentity) -> None:
    added = run("user", "add", EMAIL, "--role", "admin", "--operator")
    assert (added.exit_code, added.stdout) == (0, "")
    assert "gets a mail" in added.stderr
    account = installed.find(EMAIL)
    assert account is not None
    assert users()[EMAIL] | {"added_at": ""} == {
        "name": EMAIL,
        "role": "admin",
        "operator": True,
        "status": "invited",
        "second_factor": False,
        "subject": account.subject,
        "added_at": "",
    }
    assert isinstance(run("user", "add", EMAIL).exception, Conflict)
    assert "--subject" in str(run("user", "add", "x@example.org", "--subject", "1").exception)
    assert run("user", "add", "bob@example.org").exit_code == 0
    assert run("user", "role", "bob@example.org", "sender").exit_code == 0
    assert run("user", "disable", "BOB@example.org").exit_code == 0
    assert (users()["bob@example.org"]["role"], users()["bob@example.org"]["status"]) == ("sender", "disabled")
    assert run("user", "enable", "bob@example.org").exit_code == 0
    assert run("user", "reset-totp", "bob@example.org").exit_code == 0
    assert "gets a mail" in run("user", "invite", "bob@example.org").stderr
    assert run("user", "remove", "bob@example.org").exit_code == 0
    assert isinstance(run("user", "remove", "bob@example.org").exception, NotFound)
    assert installed.find("bob@example.org") is None
    assert users().keys() == {EMAIL}


@pytest.mark.usefixtures("no_backoff")
def test_an_invitation_whose_answer_was_lost_is_sent_again_to_the_same_account(backend: AwsBackend) -> None:
    identity = backend.identity()
    lost = LostAnswers(identity._client, "AdminCreateUser", "AdminDeleteUser")
    invited = identity.invite(EMAIL)
    assert invited.account.status is AccountStatus.INVITED
    assert invited.account == backend.identity().find(EMAIL)
    assert lost.lost >= 1
    identity.remove(invited.account.subject)
    assert backend.identity().find(EMAIL) is None


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NotAuthorizedException", Denied),
        ("ResourceNotFoundException", Unsupported),
        ("TooManyRequestsException", Unavailable),
        ("CodeDeliveryFailureException", Unavailable),
        ("InternalErrorException", Unavailable),
    ],
)
def test_refusals_of_the_pool(code: str, expected: type[PostroomError]) -> None:
    client = AwsAccount("us-east-1", "http://127.0.0.1:9", "key", "secret").cognito()
    with closing(client), Stubber(client) as stub:
        identity = CognitoIdentity(client, "us-east-1_pool", issuer="https://issuer/us-east-1_pool")
        stub.add_client_error("admin_create_user", code)
        with pytest.raises(expected):
            identity.invite(EMAIL)
        stub.add_client_error("admin_get_user", code)
        with pytest.raises(expected):
            identity.find(EMAIL)
        stub.add_client_error("admin_delete_user", code)
        with pytest.raises(expected):
            identity.remove("subject")


def test_who_is_removed_while_being_invited_is_invited_another_time() -> None:
    client = AwsAccount("us-east-1", "http://127.0.0.1:9", "key", "secret").cognito()
    with closing(client), Stubber(client) as stub:
        stub.add_client_error("admin_create_user", "UsernameExistsException")
        stub.add_client_error("admin_get_user", "UserNotFoundException")
        with pytest.raises(Conflict):
            CognitoIdentity(client, "us-east-1_pool", issuer="i").invite(EMAIL)
