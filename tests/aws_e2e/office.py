"""Somebody who works through the deployed API, and the operator, whose command line works on the same stack."""

from __future__ import annotations

import os
import quopri
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
import requests

from postroom.clock import Instant
from postroom.model.campaign import CampaignRef
from postroom.model.event import EventKind
from postroom.model.provider_status import queued_event
from postroom.model.tokens import message_id
from postroom.settings import Settings
from postroom.wiring import Container, open_app
from tests.aws.emulator import REGION, ROOT
from tests.aws_e2e.deploying import Assembly
from tests.aws_e2e.world import PREFIX, World
from tests.fakes.ses_simulator.api import Accepted
from tests.flow.callbacks_kit import Tell
from tests.flow.serve_kit import Caller

PASSWORD = "Seven quiet 0tters swim!"
EMAIL = "ada@shop.example"
_OURS = "POSTROOM_"
_BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


class Office:
    """The stack, deployed."""

    def __init__(self, world: World, templates: Assembly, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its variables become this process's: whoever opens the stores here is its operator."""
        self.world, self.templates = world, templates
        self.variables = self._variables()
        for name, value in self.variables.items():
            monkeypatch.setenv(name, value)

    def _variables(self) -> dict[str, str]:
        """The settings of a function that has them all, for the operator's command line."""
        functions = self.world.client("lambda")
        found: Mapping[str, str] = functions.get_function_configuration(FunctionName=f"{PREFIX}-maintenance")["Environment"][
            "Variables"
        ]
        return {name: value for name, value in found.items() if name.startswith(_OURS)} | {
            "AWS_ENDPOINT_URL": self.world.emulator.endpoint,
            "AWS_ENDPOINT_URL_SESV2": self.world.ses.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "POSTROOM_CALLBACK_NETWORKS": "127.0.0.0/8",
        }

    @property
    def url(self) -> str:
        """The API's address."""
        (api,) = (api for api in self.world.client("apigateway").get_rest_apis()["items"] if api["name"].startswith(PREFIX))
        (stage,) = self.world.client("apigateway").get_stages(restApiId=api["id"])["item"]
        return f"{self.world.emulator.endpoint}/_aws/execute-api/{api['id']}/{stage['stageName']}"

    def command(self, *words: str) -> str:
        """`postroom …` by the operator: what it printed."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith((_OURS, "AWS_"))}
        ended = subprocess.run(
            [sys.executable, "-m", "postroom", *words],
            env=kept | self.variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert ended.returncode == 0, f"postroom {' '.join(words)}: {ended.stdout}{ended.stderr}"
        return ended.stdout

    @contextmanager
    def opened(self) -> Iterator[Container]:
        """Its stores, for a look."""
        with open_app(Settings.load(self.variables, None, {})) as postroom:
            yield postroom

    def admit(self, email: str = EMAIL) -> None:
        """An operator lets somebody in, who sets a password of their own."""
        self.command("user", "add", email, "--role", "admin")
        pools = self.world.client("cognito-idp")
        pools.admin_set_user_password(UserPoolId=self._pool, Username=email, Password=PASSWORD, Permanent=True)

    def sign_in(self, email: str = EMAIL) -> Caller:
        """With an access token of Cognito's."""
        pools = self.world.client("cognito-idp")
        answer = pools.admin_initiate_auth(
            UserPoolId=self._pool,
            ClientId=self._client(pools),
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": email, "PASSWORD": PASSWORD},
        )
        return Caller(self.url, answer["AuthenticationResult"]["AccessToken"])

    @property
    def _pool(self) -> str:
        return self.variables["POSTROOM_AWS_USER_POOL"]

    def _client(self, pools: Any) -> str:
        """The app client that takes a password from whoever runs the installation."""
        clients = pools.list_user_pool_clients(UserPoolId=self._pool, MaxResults=60)["UserPoolClients"]
        described = [
            pools.describe_user_pool_client(UserPoolId=self._pool, ClientId=client["ClientId"])["UserPoolClient"]
            for client in clients
        ]
        (found,) = (one["ClientId"] for one in described if "ALLOW_ADMIN_USER_PASSWORD_AUTH" in one.get("ExplicitAuthFlows", ()))
        return str(found)

    def newcomer(self) -> Caller:
        """Somebody who is let in, signs in, and may send."""
        self.admit()
        self.command("sender", "trust", "news@shop.example")
        return self.sign_in()

    def minute(self) -> None:
        """Another minute begins: what the rule does."""
        for function in ("maintenance", "callbacks-sender"):
            self.world.client("lambda").invoke(FunctionName=f"{PREFIX}-{function}:live", InvocationType="Event", Payload=b"{}")


def order(caller: Caller, content: bytes, **more: Any) -> str:
    """A campaign's id."""
    body = {
        "name": "test",
        "template_id": caller.template("<p>Hello {{ name }}, <a href='https://shop.example/'>welcome</a>.</p>"),
        "upload_id": caller.upload(content),
        "from": "news@shop.example",
        **more,
    }
    return str(caller.call("POST", "/v1/campaigns", 201, body)["id"])


def follow(office: Office, message: Accepted) -> None:
    """What a recipient's mail program does: shows the mail's pictures, and goes where its link leads."""
    text = quopri.decodestring(message.content).decode()
    paths = set(re.findall(r"https://[^/\s\"<>]+/\w+(/t/[^\s\"<>]+)", text))
    assert len(paths) == 2, text
    for path in paths:
        answer = requests.get(office.url + path, headers={"User-Agent": _BROWSER}, timeout=30, allow_redirects=False)
        assert answer.status_code in (200, 302), answer.text


def messages(caller: Caller, campaign: str) -> dict[str, Any]:
    """All of a campaign's, by address."""
    found: dict[str, Any] = {}
    cursor = ""
    while True:
        page = caller.call("GET", f"/v1/campaigns/{campaign}/messages?limit=1000{cursor}", 200)
        found |= {item["address"]: item for item in page["items"]}
        if not page.get("cursor"):
            return found
        cursor = f"&cursor={page['cursor']}"


def suppressed(caller: Caller) -> dict[str, str]:
    """The list: whom, and why."""
    found: dict[str, str] = {}
    cursor = ""
    while True:
        page = caller.call("GET", f"/v1/suppressions?limit=1000{cursor}", 200)
        found |= {item["address"]: item["reason"] for item in page["items"]}
        if not page.get("cursor"):
            return found
        cursor = f"&cursor={page['cursor']}"


def happened(postroom: Container, ref: CampaignRef, kinds: frozenset[EventKind]) -> Counter[Tell]:
    """All that stands on the timelines of a campaign's messages, and that each message was taken on."""
    found: Counter[Tell] = Counter()
    cursor: str | None = None
    while True:
        page = postroom.messages.list(ref, cursor=cursor, limit=1_000)
        for message in page.messages:
            events = [queued_event(Instant(0)), *postroom.messages.timeline(ref, message.batch, message.key)]
            found.update(
                Tell(message_id(ref, message.key), event.id, f"message.{event.kind}", message.address)
                for event in events
                if event.kind in kinds
            )
        cursor = page.cursor
        if cursor is None:
            return found
