"""An SNS topic: signs what it sends, with a certificate of its own, and posts it to a hook until that takes it."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

ARN = "arn:aws:sns:eu-west-1:123456789012:ses-notices"
PEM_PATH = "/SimpleNotificationService-0123456789abcdef0123456789abcdef.pem"

_NOTIFICATION = ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")
_CONFIRMATION = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")


class Topic:
    """Makes the envelopes. `host`: where certificate and confirmations are said to be."""

    def __init__(self, arn: str = ARN, *, host: str = "https://sns.eu-west-1.amazonaws.com", version: str = "1") -> None:
        self.arn = arn
        self.host = host
        self.version = version
        self.confirmed: list[str] = []
        """Tokens of subscriptions that were confirmed."""

    @cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        return rsa.generate_private_key(65_537, 2048)

    @cached_property
    def pem(self) -> bytes:
        """The certificate that belongs to the signatures."""
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
        now = datetime.now(UTC)
        built = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .sign(self._key, hashes.SHA256())
        )
        return built.public_bytes(serialization.Encoding.PEM)

    def page(self, path: str) -> bytes | None:
        """What stands at SNS's own address; None: nothing."""
        if path == PEM_PATH:
            return self.pem
        if path.startswith("/?Action=ConfirmSubscription"):
            self.confirmed.append(path.rpartition("Token=")[2])
            return b"<ConfirmSubscriptionResponse/>"
        return None

    def notification(self, message: str | dict[str, Any], **changes: Any) -> dict[str, Any]:
        """A signed envelope around a message. `changes` are made before it is signed."""
        text = message if isinstance(message, str) else json.dumps(message)
        return self._signed(_NOTIFICATION, {"Type": "Notification", "Message": text, **changes}, unsubscribe=True)

    def confirmation(self, kind: str = "SubscriptionConfirmation", token: str = "2336412f37", **changes: Any) -> dict[str, Any]:
        """The question whether a subscription is wanted."""
        fields = {
            "Type": kind,
            "Message": f"You have chosen to subscribe to the topic {self.arn}.",
            "Token": token,
            "SubscribeURL": f"{self.host}/?Action=ConfirmSubscription&TopicArn={self.arn}&Token={token}",
            **changes,
        }
        return self._signed(_CONFIRMATION, fields)

    def _signed(self, names: tuple[str, ...], fields: dict[str, Any], *, unsubscribe: bool = False) -> dict[str, Any]:
        envelope = {
            "MessageId": str(uuid.uuid4()),
            "TopicArn": self.arn,
            "Timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "SignatureVersion": self.version,
            "SigningCertURL": self.host + PEM_PATH,
            **fields,
        }
        if unsubscribe:
            envelope["UnsubscribeURL"] = f"{self.host}/?Action=Unsubscribe&SubscriptionArn={self.arn}:1"
        text = "".join(f"{name}\n{envelope[name]}\n" for name in names if name in envelope)
        digest = hashes.SHA1() if envelope["SignatureVersion"] == "1" else hashes.SHA256()
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), digest)
        return {**envelope, "Signature": base64.b64encode(signature).decode()}


class Hook:
    """Posts notices one after the other, each until it is taken, three times at most."""

    def __init__(self, topic: Topic, url: str) -> None:
        self._topic = topic
        self._url = urlsplit(url)
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self.statuses: list[int] = []
        """What the hook answered; 0: nothing."""

    def send(self, notice: dict[str, Any]) -> None:
        """On the simulator's loop."""
        self._queue.put_nowait(notice)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            envelope = self._topic.notification(await self._queue.get())
            for _ in range(3):
                self.statuses.append(await self._post(envelope))
                if 200 <= self.statuses[-1] < 300:
                    break

    async def _post(self, envelope: dict[str, Any]) -> int:
        body = json.dumps(envelope).encode()
        host, port = self._url.hostname or "", self._url.port or 80
        head = (
            f"POST {self._url.path or '/'} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: text/plain; charset=UTF-8\r\n"
            f"x-amz-sns-message-type: {envelope['Type']}\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(10):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(head.encode() + body)
                    line = await reader.readline()
                    await reader.read()
                finally:
                    writer.close()
            return int(line.split()[1])
        except (OSError, TimeoutError, IndexError, ValueError):
            return 0
