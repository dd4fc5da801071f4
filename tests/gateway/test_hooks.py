"""`POST /hooks/ses` at the whole door: what SNS signed for a topic of ours is stored, nothing else changes anything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from postroom.entrypoints.application import application
from postroom.errors import Unavailable
from postroom.events.ses.webhook import SesWebhook
from postroom.gateway.routes.hooks import MAX_BODY
from postroom.ledger.inbound_events import FEEDBACK_QUEUE
from postroom.model.ids import recipient_key
from postroom.model.tokens import MessageRef, ses_tags
from postroom.settings import AwsEnvironment, Settings
from postroom.wiring import Container, open_app
from tests.fakes.ses_simulator import notices
from tests.fakes.ses_simulator.api import Accepted
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.fakes.ses_simulator.sns import ARN, Topic

TOPIC, FOREIGN = Topic(), Topic(ARN + "-2")
AT = 1_790_000_000.0
ADDRESS = "anna@example.net"


class Hook:
    """The door, and SNS before it."""

    def __init__(self, postroom: Container, client: TestClient, ses: SesSimulator) -> None:
        self.postroom = postroom
        self.client = client
        self.ses = ses

    def notice(self) -> dict[str, Any]:
        """Of a campaign's message, whose key proves that it was for the address."""
        key = recipient_key(self.postroom.tenants.get("default").secret, ADDRESS)
        tags = dict(ses_tags(MessageRef(0, "a" * 16, 0, key, 1)))
        return notices.bounce(Accepted("0102-id", ADDRESS, "a@example.com", "postroom", tags, b"\r\n\r\n", 1, AT), AT)

    def post(self, envelope: dict[str, Any], **fields: str) -> int:
        answer = self.client.post("/hooks/ses", content=json.dumps(envelope), headers={"Content-Type": "text/plain", **fields})
        return answer.status_code

    @property
    def queued(self) -> int:
        return self.postroom.queues.depth(FEEDBACK_QUEUE).ready


@contextmanager
def hook_of(root: Path, **settings: Any) -> Iterator[Hook]:
    with ExitStack() as stack:
        ses = stack.enter_context(SesSimulator(topic=TOPIC))
        aws = AwsEnvironment.from_environ({"AWS_ENDPOINT_URL_SNS": ses.url})
        made = {"data": root, "ses_topics": (ARN,), "aws": aws, **settings}
        postroom = stack.enter_context(open_app(Settings(**made)))
        yield Hook(postroom, stack.enter_context(TestClient(application(postroom))), ses)


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Hook]:
    with hook_of(tmp_path) as made:
        yield made


def test_a_notice_is_stored_when_sns_is_answered(hook: Hook) -> None:
    assert hook.post(hook.ses.topic.notification(hook.notice())) == 200
    assert hook.queued == 1


def test_where_no_topic_is_configured_nothing_answers(tmp_path: Path) -> None:
    with hook_of(tmp_path, ses_topics=()) as hook:
        assert hook.post(hook.ses.topic.notification(hook.notice())) == 404


def test_another_topics_notice_and_a_forged_one_are_refused(hook: Hook) -> None:
    envelope = hook.ses.topic.notification(hook.notice())
    assert hook.post(FOREIGN.notification(hook.notice())) == 403
    assert hook.post({**envelope, "MessageId": "another"}) == 403
    assert hook.post({"Type": "Notification"}) == 422
    assert hook.queued == 0


def test_a_body_that_sns_would_never_send_is_not_read(hook: Hook) -> None:
    assert hook.post(hook.ses.topic.notification("x" * MAX_BODY)) == 413
    assert hook.post(hook.ses.topic.notification("x" * (MAX_BODY - 2_000))) == 200


def test_a_subscription_is_confirmed(hook: Hook) -> None:
    TOPIC.confirmed.clear()
    assert hook.post(hook.ses.topic.confirmation(token="t1")) == 200
    assert hook.ses.topic.confirmed == ["t1"]
    assert (
        hook.post(hook.ses.topic.confirmation(token="t2", SubscribeURL="https://evil.example/?Action=ConfirmSubscription")) == 403
    )


def test_a_certificate_is_fetched_once(hook: Hook) -> None:
    for _ in range(5):
        assert hook.post(hook.ses.topic.notification(hook.notice())) == 200
    assert hook.ses.calls == 1


def test_what_cannot_be_stored_is_for_sns_to_bring_again(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise Unavailable("the disk is full")

    broken = hook.postroom.but(
        ses_webhook=SesWebhook(hook.postroom.ses_webhook._verifier, hook.postroom.ses_webhook._matcher._records, full)
    )
    with TestClient(application(broken)) as client:
        assert client.post("/hooks/ses", content=json.dumps(hook.ses.topic.notification(hook.notice()))).status_code == 503


def test_forgeries_count_against_their_address_and_what_is_genuine_does_not(tmp_path: Path) -> None:
    """After them SNS is asked to come again: 429 it would take for an answer."""
    with hook_of(tmp_path, api_rate=0.1) as hook:
        genuine = hook.ses.topic.notification(hook.notice())
        assert {hook.post(genuine) for _ in range(60)} == {200}
        assert [hook.post({**genuine, "MessageId": "another"}) for _ in range(20)] == [403] * 20
        answer = hook.client.post("/hooks/ses", content=json.dumps(genuine))
        assert (answer.status_code, answer.json()["status"]) == (503, 503)
        assert "Retry-After" in answer.headers


def test_certificates_that_there_are_not_do_not_shut_the_door_for_those_that_there_are(hook: Hook) -> None:
    """Neither refused by SNS nor while SNS is away."""
    genuine = hook.ses.topic.notification(hook.notice())
    invented = [TOPIC.host + f"/SimpleNotificationService-{number}.pem" for number in range(10)]
    assert [hook.post({**genuine, "SigningCertURL": url}) for url in invented] == [403] * 10
    nowhere = AwsEnvironment.from_environ({"AWS_ENDPOINT_URL_SNS": "http://127.0.0.1:9"})
    with hook_of(hook.postroom.settings.data / "away", aws=nowhere) as away:
        assert [away.post({**genuine, "SigningCertURL": url}) for url in invented] == [503] * 10
        assert away.client.post("/hooks/ses", content=b"{}").status_code == 422, "not 503: the service is well"
    assert hook.post(genuine) == 200


def test_it_is_no_part_of_the_documented_api(hook: Hook) -> None:
    assert "/hooks/ses" not in hook.client.get("/openapi.json").json()["paths"]
    assert hook.client.get("/hooks/ses").status_code == 405
