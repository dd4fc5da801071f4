"""`ports.secrets` under a KMS key, which never leaves KMS: KMS wraps data keys, and AES-256-GCM runs here.

    wrapped   w1.<id of the master key>.<data key, wrapped by KMS>.<check value>
    sealed    s1.<id of the master key>.<data key, wrapped by KMS>.<nonce, plain text encrypted under the data key>

A call to KMS takes 5 to 10 ms and costs money, so one data key seals several secrets, and unwrapped keys are kept in memory,
both for `KEPT_S`. A data key meets at most `SEALS` random nonces of 96 bits, far from the bound of NIST SP 800-38D §8.3. It is
shared by purposes of one *class*, the part before the first slash. KMS's encryption context
(https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html) binds it to the class, so that a role may be
allowed only some classes (`kms:EncryptionContext:purpose`). The whole purpose and text are authenticated here: with the content
of a sealed secret, and for a wrapped key by the check value, an HMAC under it. A key that `new_key` returns is used for nothing
else.

AWS rotates the material inside a KMS key; its ARN stays, and nothing has to be sealed again
(https://docs.aws.amazon.com/kms/latest/developerguide/rotate-keys.html). Another ARN is another master key: named first, it
wraps from then on; older ones, named after it, still unwrap.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from botocore.exceptions import ClientError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from postroom.clock import Clock
from postroom.errors import Corrupt, Invalid
from postroom.platform.aws._clients import aws_errors, error_code
from postroom.platform.ports.secrets import (
    DAMAGED,
    KEY_BYTES,
    NONCE_BYTES,
    SEALED,
    WRAPPED,
    DataKey,
    SealedText,
    associated_data,
    check_plain,
    parse_sealed_text,
)

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

KEPT_S: Final = 300.0
SEALS: Final = 1_000
_KEPT = 1_000
_MAX_WRAPPED = 6_144  # https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html, CiphertextBlob
_CHECK_BYTES = 16
_DAMAGED = frozenset({"IncorrectKeyException", "InvalidCiphertextException"})
_GONE = "NotFoundException"
_Place = tuple[str, str, bytes]
"""A data key's master key, class and wrapping."""


class _Sealing(NamedTuple):
    """A data key in use for sealing: since when (monotonic seconds), and how many seals are left."""

    wrapped: bytes
    plain: bytes
    since: float
    left: int


class KmsSecrets:
    """`ports.secrets.Secrets` under KMS keys. Thread-safe."""

    def __init__(self, client: KMSClient, keys: Sequence[str], clock: Clock) -> None:
        """`keys`: ARNs of symmetric keys, the newest first. Raises `Invalid` if there are none."""
        if not keys:
            raise Invalid("there is no KMS key to encrypt secrets under")
        self._client = client
        self._keys = {_id(arn): arn for arn in keys}
        self._newest = _id(keys[0])
        self._clock = clock
        self._making = threading.Lock()
        self._lock = threading.Lock()
        self._sealing: dict[str, _Sealing] = {}
        self._opened: OrderedDict[_Place, tuple[float, bytes]] = OrderedDict()

    def seal(self, purpose: str, plain: bytes) -> str:
        check_plain(plain)
        what = associated_data(SEALED, purpose)
        key, nonce = self._sealing_key(_class(purpose)), os.urandom(NONCE_BYTES)
        text = SealedText(SEALED, self._newest, key.wrapped, b"")
        return str(text._replace(content=nonce + AESGCM(key.plain).encrypt(nonce, plain, _all(text, what))))

    def open(self, purpose: str, sealed: str) -> bytes:
        text, what = parse_sealed_text(sealed, SEALED), associated_data(SEALED, purpose)
        nonce, content = text.content[:NONCE_BYTES], text.content[NONCE_BYTES:]
        try:
            return AESGCM(self._data_key(_class(purpose), text)).decrypt(nonce, content, _all(text, what))
        except (InvalidTag, ValueError):
            raise Corrupt(DAMAGED) from None

    def new_key(self, purpose: str) -> DataKey:
        what = associated_data(WRAPPED, purpose)
        made = self._generated(_class(purpose))
        return DataKey(made.plain, self._checkable(made.wrapped, made.plain, what))

    def unwrap(self, purpose: str, wrapped: str) -> bytes:
        text, what = parse_sealed_text(wrapped, WRAPPED), associated_data(WRAPPED, purpose)
        plain = self._data_key(_class(purpose), text)
        if not hmac.compare_digest(text.content, _check_value(plain, text, what)):
            raise Corrupt(DAMAGED)
        return plain

    def rewrap(self, purpose: str, wrapped: str) -> str:
        plain, arn, context = self.unwrap(purpose, wrapped), self._keys[self._newest], {"purpose": _class(purpose)}
        with aws_errors("wrapping a key by KMS"):
            again = self._client.encrypt(KeyId=arn, Plaintext=plain, EncryptionContext=context)["CiphertextBlob"]
        return self._checkable(again, plain, associated_data(WRAPPED, purpose))

    def _checkable(self, wrapped: bytes, plain: bytes, what: bytes) -> str:
        """A wrapped key's text."""
        text = SealedText(WRAPPED, self._newest, wrapped, b"")
        return str(text._replace(content=_check_value(plain, text, what)))

    def is_current(self, sealed_or_wrapped: str) -> bool:
        return parse_sealed_text(sealed_or_wrapped, WRAPPED, SEALED).master == self._newest

    def _sealing_key(self, klass: str) -> _Sealing:
        """A data key for one more seal, which is counted."""
        if (key := self._taken(klass)) is not None:
            return key
        with self._making:  # concurrent callers wait for the same key
            return self._taken(klass) or self._made(klass)

    def _taken(self, klass: str) -> _Sealing | None:
        with self._lock:
            key = self._sealing.get(klass)
            if key is None or not key.left or self._clock.monotonic() >= key.since + KEPT_S:
                return None
            self._sealing[klass] = key._replace(left=key.left - 1)
            return key

    def _made(self, klass: str) -> _Sealing:
        made = self._generated(klass)
        with self._lock:
            if len(self._sealing) >= _KEPT:
                self._sealing.clear()
            self._sealing[klass] = made._replace(left=SEALS - 1)
            self._keep((self._newest, klass, made.wrapped), made.plain, made.since)
        return made

    def _generated(self, klass: str) -> _Sealing:
        with aws_errors("making a data key by KMS"):
            answer = self._client.generate_data_key(
                KeyId=self._keys[self._newest], KeySpec="AES_256", EncryptionContext={"purpose": klass}
            )
        return _Sealing(answer["CiphertextBlob"], answer["Plaintext"], self._clock.monotonic(), SEALS)

    def _data_key(self, klass: str, text: SealedText) -> bytes:
        """The unwrapped data key, from KMS or from memory. Raises `Corrupt`."""
        place, now = (text.master, klass, text.wrapped), self._clock.monotonic()
        with self._lock:
            since, plain = self._opened.get(place, (-KEPT_S, b""))
            if now < since + KEPT_S:
                self._opened.move_to_end(place)
                return plain
        plain = self._unwrapped(klass, text)
        with self._lock:
            self._keep(place, plain, now)
        return plain

    def _keep(self, place: _Place, plain: bytes, now: float) -> None:
        """Under the lock."""
        self._opened[place] = now, plain
        self._opened.move_to_end(place)
        if len(self._opened) > _KEPT:
            self._opened.popitem(last=False)

    def _unwrapped(self, klass: str, text: SealedText) -> bytes:
        arn = self._keys.get(text.master)
        if arn is None:
            raise Corrupt(f"a secret was encrypted under the KMS key {text.master}, which the settings do not name any more")
        if not 1 <= len(text.wrapped) <= _MAX_WRAPPED:
            raise Corrupt(DAMAGED)
        with aws_errors("unwrapping a key by KMS"):
            try:
                plain = self._client.decrypt(CiphertextBlob=text.wrapped, KeyId=arn, EncryptionContext={"purpose": klass})[
                    "Plaintext"
                ]
            except ClientError as error:
                if error_code(error) == _GONE:
                    raise Corrupt(f"a secret was encrypted under the KMS key {arn}, which is gone") from error
                if error_code(error) in _DAMAGED:
                    raise Corrupt(DAMAGED) from error
                raise
        if len(plain) != KEY_BYTES:
            raise Corrupt(DAMAGED)
        return plain


def _id(arn: str) -> str:
    """Identifies the master key in wrapped texts."""
    return hashlib.sha256(b"postroom kms key\0" + arn.encode()).hexdigest()[:12]


def _class(purpose: str) -> str:
    """The part of a purpose in KMS's encryption context, in characters that policies accept."""
    return quote(purpose.partition("/")[0], safe="") or "-"


def _all(text: SealedText, what: bytes) -> bytes:
    """The authenticated data: form, purpose, and the text without its content."""
    return b"\0".join((text.master.encode(), hashlib.sha256(text.wrapped).digest(), what))


def _check_value(plain: bytes, text: SealedText, what: bytes) -> bytes:
    return hmac.digest(plain, b"postroom wrapped key\0" + _all(text, what), "sha256")[:_CHECK_BYTES]
