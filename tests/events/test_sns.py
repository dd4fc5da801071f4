"""Only what SNS signed for a topic of ours is believed; nothing is fetched from anywhere but SNS, and little even from there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from postroom.errors import Denied, Invalid, PostroomError, TooLarge, Unavailable
from postroom.events.ses.sns import MAX_BYTES, SnsType, SnsVerifier
from tests.fakes.clock import ManualClock
from tests.fakes.ses_simulator.sns import ARN, PEM_PATH, Topic

TOPIC = Topic()
HOST = "https://sns.eu-west-1.amazonaws.com"


class Web:
    """What stands at SNS's addresses, and what was asked for."""

    def __init__(self, topic: Topic = TOPIC) -> None:
        self.topic = topic
        self.asked: list[str] = []

    def __call__(self, url: str) -> bytes:
        self.asked.append(url)
        page = self.topic.page(url.removeprefix(self.topic.host))
        if page is None:
            raise Unavailable("there is nothing")
        return page


def verifier(web: Web | None = None, *, at: datetime | None = None) -> SnsVerifier:
    clock = ManualClock(round((at or datetime.now(UTC)).timestamp() * 1000))
    return SnsVerifier([ARN], web or Web(), clock)


def sent(envelope: dict[str, Any]) -> bytes:
    return json.dumps(envelope).encode()


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize(
    "changes", [{}, {"Subject": "Amazon SES Email Event Notification"}, {"Subject": ""}, {"Message": "ü\n\0"}]
)
def test_what_sns_signed_is_opened(version: str, changes: dict[str, Any]) -> None:
    topic = Topic(version=version)
    envelope = topic.notification("hello", **changes)
    opened = verifier(Web(topic)).verify(sent(envelope))
    assert (opened.kind, opened.message) == (SnsType.NOTIFICATION, envelope["Message"])


@pytest.mark.parametrize("kind", ["SubscriptionConfirmation", "UnsubscribeConfirmation"])
@pytest.mark.parametrize("version", ["1", "2"])
def test_confirmations_are_signed_over_other_fields(kind: str, version: str) -> None:
    topic = Topic(version=version)
    assert verifier(Web(topic)).verify(sent(topic.confirmation(kind))).kind == kind


@pytest.mark.parametrize("field", ["Message", "MessageId", "Timestamp", "Subject"])
def test_a_field_that_was_changed_is_noticed(field: str) -> None:
    envelope = TOPIC.notification("hello", Subject="x")
    later = envelope["Timestamp"][:-2] + ("8Z" if envelope["Timestamp"].endswith("9Z") else "9Z")
    changed = envelope | {field: later if field == "Timestamp" else "other"}
    with pytest.raises(Denied, match="signature"):
        verifier().verify(sent(changed))
    with pytest.raises(Denied, match="signature"):
        verifier().verify(sent({name: value for name, value in envelope.items() if name != "Subject"}))


@pytest.mark.parametrize("field", ["SubscribeURL", "Token", "Type"])
def test_a_confirmation_that_was_changed_is_noticed(field: str) -> None:
    other = {"Type": "UnsubscribeConfirmation"}.get(field, "other")
    with pytest.raises(Denied, match="signature"):
        verifier().verify(sent(TOPIC.confirmation() | {field: other}))


def test_another_keys_signature_is_noticed() -> None:
    with pytest.raises(Denied, match="signature"):
        verifier().verify(sent(Topic().notification("hello")))


def test_a_signature_of_another_version_is_noticed() -> None:
    with pytest.raises(Denied, match="signature"):
        verifier().verify(sent(TOPIC.notification("hello") | {"SignatureVersion": "2"}))


def test_another_topic_is_refused_before_anything_is_fetched() -> None:
    web = Web()
    with pytest.raises(Denied, match="topic"):
        verifier(web).verify(sent(TOPIC.notification("hello", TopicArn=ARN + "x")))
    assert web.asked == []


HOSTS = [
    "http://sns.eu-west-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com.evil.example",
    "https://sns.eu-west-1.amazonaws.com@evil.example",
    "https://evil.example/sns.eu-west-1.amazonaws.com",
    "https://snsxeu-west-1.amazonaws.com",
    "https://sns.a.b.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com:8443",
    "https://sns.eu-west-1.amazonaws.com.cn.evil.example",
    "https://SNS.eu-west-1.amazonaws.com\\@evil.example",
    "https://bucket.s3.amazonaws.com",
    "https://sns.s3.amazonaws.com",
    "https://sns.s3-eu-west-1.amazonaws.com",
    "https://sns.us-east-1.amazonaws.com",
    "https://sns.eu-west-1.amazonaws.com.cn",
    "https://sns.\u0435u-west-1.amazonaws.com",
    "https://[sns",
    "file://sns.eu-west-1.amazonaws.com",
    "",
]


@pytest.mark.parametrize("host", HOSTS)
def test_a_certificate_from_elsewhere_is_refused_before_anything_is_fetched(host: str) -> None:
    web = Web()
    with pytest.raises(Denied):
        verifier(web).verify(sent(TOPIC.notification("hello") | {"SigningCertURL": host + PEM_PATH}))
    assert web.asked == []


@pytest.mark.parametrize(
    "path",
    ["/", "/?Action=x", "/other.pem", "/a/../SimpleNotificationService-0.pem", PEM_PATH + "?x", PEM_PATH + "#x", PEM_PATH + "\n"],
)
def test_nothing_but_a_certificate_is_fetched_from_sns(path: str) -> None:
    web = Web()
    with pytest.raises(Denied):
        verifier(web).verify(sent(TOPIC.notification("hello") | {"SigningCertURL": HOST + path}))
    assert web.asked == []


def test_a_certificate_is_fetched_once() -> None:
    web = Web()
    opener = verifier(web)
    for _ in range(3):
        opener.verify(sent(TOPIC.notification("hello")))
    assert web.asked == [HOST + PEM_PATH]


def test_a_certificate_that_has_run_out_or_is_none_is_refused() -> None:
    far = datetime.now(UTC) + timedelta(days=60)
    with pytest.raises(Denied, match="not valid now"):
        verifier(at=far).verify(sent(TOPIC.notification("hello", Timestamp=far.isoformat())))

    class Junk(Topic):
        pem = b"junk"

    with pytest.raises(Denied, match="no certificate"):
        verifier(Web(Junk())).verify(sent(TOPIC.notification("hello")))


def test_a_certificate_with_another_kind_of_key_is_refused() -> None:
    class Other(Topic):
        pem = _ed25519()

    with pytest.raises(Denied, match="no RSA key"):
        verifier(Web(Other())).verify(sent(TOPIC.notification("hello")))


@pytest.mark.parametrize("hours", [-25, 1])
def test_what_is_too_old_or_from_the_future_is_refused(hours: int) -> None:
    when = (datetime.now(UTC) + timedelta(hours=hours)).isoformat()
    with pytest.raises(Denied, match="clock"):
        verifier().verify(sent(TOPIC.notification("hello", Timestamp=when)))


@pytest.mark.parametrize(
    "changes", [{"Timestamp": "x"}, {"Timestamp": "2026-11-24T08:00:00"}, {"Signature": "&"}, {"SignatureVersion": "3"}]
)
def test_what_cannot_be_read_is_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        verifier().verify(sent(TOPIC.notification("hello") | changes))


def test_a_certificate_that_cannot_be_fetched_now_may_be_later() -> None:
    def down(url: str) -> bytes:
        raise Unavailable("no answer")

    clock = ManualClock(round(datetime.now(UTC).timestamp() * 1000))
    with pytest.raises(Unavailable):
        SnsVerifier([ARN], down, clock).verify(sent(TOPIC.notification("hello")))


def test_what_is_larger_than_sns_sends_is_not_read() -> None:
    with pytest.raises(TooLarge):
        verifier().verify(b" " * (MAX_BYTES + 1))


@given(st.binary(max_size=300) | st.just(b"[" * 100_000) | st.just(b'{"Type":"Notification"}') | st.just(b'{"a":"\\ud800"}'))
def test_hostile_bytes_are_refused_in_words(body: bytes) -> None:
    with pytest.raises(PostroomError):
        verifier().verify(body)


def test_a_subscription_is_confirmed_at_sns_and_only_for_its_topic() -> None:
    web = Web(Topic())
    opener = verifier(web)
    opener.confirm(opener.verify(sent(web.topic.confirmation(token="abc"))))
    assert web.topic.confirmed == ["abc"]
    for kind in ("UnsubscribeConfirmation",):
        opener.confirm(opener.verify(sent(web.topic.confirmation(kind))))
    opener.confirm(opener.verify(sent(web.topic.notification("hello"))))
    assert web.topic.confirmed == ["abc"]


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/?Action=ConfirmSubscription&TopicArn=" + ARN,
        HOST + "/?Action=Unsubscribe&TopicArn=" + ARN,
        HOST + "/?Action=ConfirmSubscription&TopicArn=" + ARN + "x",
        HOST + "/path?Action=ConfirmSubscription&TopicArn=" + ARN,
        HOST + "/?Action=ConfirmSubscription&Action=Publish&TopicArn=" + ARN,
    ],
)
def test_even_a_signed_address_is_looked_at(url: str) -> None:
    web = Web()
    opener = verifier(web)
    envelope = opener.verify(sent(TOPIC.confirmation(SubscribeURL=url)))
    web.asked.clear()
    with pytest.raises(Denied):
        opener.confirm(envelope)
    assert web.asked == []


def _ed25519() -> bytes:
    key, now = ed25519.Ed25519PrivateKey.generate(), datetime.now(UTC)
    name = x509.Name([])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
    built = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1)).sign(key, None)
    return built.public_bytes(Encoding.PEM)
