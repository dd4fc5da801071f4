"""DKIM signatures for mail that no relay signs (RFC 6376; Ed25519: RFC 8463), relaxed/relaxed.

Signed are the headers a reader sees and a receiver acts on; both List-Unsubscribe fields must be signed (RFC 8058 §4). `From`,
`To`, `Subject`, `Date`, `Reply-To` and `Content-Type` are listed in `h=` once more than they occur, so that no second one can be
added, which some readers would show instead (RFC 6376 §8.15). No part of the body is left out (`l=` invites the same attack).

The content must be as it goes on the wire: lines end in CRLF, and neither CR nor LF stands alone. A signed message must not be
changed on its way; a relay that rewrites Date or Message-ID, as SES does, breaks the signature and signs itself.

`MailSigner` finds the key: of the nearest domain of the From address that has one, looked up again every minute. So a key that
becomes active, is replaced or removed takes effect within a minute, also for a running campaign. If a domain has a key, no mail
leaves unsigned: if the key cannot be opened (the master key is gone, for example), the one known from before is used, else `sign`
refuses. If the store does not answer, the last result holds for another minute.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from postroom.clock import Instant
from postroom.errors import Corrupt, Temporary, Unavailable
from postroom.ledger.dkim import DkimKeys, DkimPrivateKey
from postroom.model.dkim import Algorithm
from postroom.model.sender import covering

RSA_BITS = 2048
"""Many receivers refuse 1024 bits; 4096 do not fit into the DNS answers of some servers (RFC 8301 §3.2)."""
_OVERSIGNED = ("From", "To", "Subject", "Date", "Reply-To", "Content-Type")
_SIGNED = ("Message-ID", "MIME-Version", "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID")
_LINE = 78
_BASE64_LINE = 72
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:([^\r]*(?:\r\n[ \t][^\r]*)*)\r\n")
_SPACE = re.compile(rb"[ \t]+")
Field = tuple[bytes, bytes]
"""A header field's name and value, unchanged."""
_LASTS_MS = 60_000


class SigningKey(NamedTuple):
    """A private key and its selector. `__repr__` shows no key, for logs."""

    selector: str
    algorithm: Algorithm
    private: bytes
    """PKCS #8 in DER (RSA), or the 32 bytes (Ed25519)."""

    def __repr__(self) -> str:
        return f"SigningKey({self.selector})"


class GeneratedKey(NamedTuple):
    """A new key."""

    private: bytes
    """In the form of `SigningKey.private`."""
    public: str
    """The value of `p=` in DNS."""

    def __repr__(self) -> str:
        return f"Generated({self.public[-8:]})"


class DomainSigner:
    """Signs for one domain with each of its keys. Safe for several threads."""

    def __init__(self, domain: str, keys: Sequence[SigningKey]) -> None:
        """Raises `Corrupt` if one of the keys cannot be read."""
        self.domain = domain
        self._keys = [(key.selector, key.algorithm, _loaded(key)) for key in keys]

    def sign(self, content: bytes, at: Instant) -> bytes:
        """The content preceded by one DKIM-Signature field per key, in the order of the keys."""
        ends = content.find(b"\r\n\r\n")
        head, body = (content, b"") if ends < 0 else (content[: ends + 2], content[ends + 4 :])
        fields = _FIELD.findall(head)
        names = _signed_names(fields)
        digest = base64.b64encode(hashlib.sha256(canonical_body(body)).digest()).decode()
        made = []
        for selector, algorithm, key in self._keys:
            unsigned = _unsigned(self.domain, selector, algorithm, names=names, at=at, digest=digest)
            signature = _signature(key, signed_data(fields, names, unsigned.encode()))
            made.append(f"{unsigned}{_broken(signature)}\r\n".encode())
        return b"".join((*made, content))


def generate_key(algorithm: Algorithm) -> GeneratedKey:
    """Generate a key from the system's random source."""
    if algorithm is Algorithm.ED25519:
        short = Ed25519PrivateKey.generate()
        return GeneratedKey(short.private_bytes_raw(), base64.b64encode(short.public_key().public_bytes_raw()).decode())
    key = rsa.generate_private_key(public_exponent=65_537, key_size=RSA_BITS)
    private = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return GeneratedKey(private, base64.b64encode(public).decode())


def canonical_body(body: bytes) -> bytes:
    """RFC 6376 §3.4.4. Most bodies are canonical already, which is checked at the speed of memory."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    if b"\t" in body or b"  " in body:
        body = _SPACE.sub(b" ", body)
    if b" \r\n" in body:
        body = body.replace(b" \r\n", b"\r\n")
    end = len(body)
    while body[end - 2 : end] == b"\r\n":
        end -= 2
    return body[: end + 2] if end else b""


def canonical_field(name: bytes, value: bytes) -> bytes:
    """RFC 6376 §3.4.2, without its line end."""
    return name.lower() + b":" + _SPACE.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")


def signed_data(fields: Iterable[Field], names: Sequence[str], unsigned: bytes) -> bytes:
    """The data that is signed (RFC 6376 §3.7): the fields listed in `names`, the last first if a name occurs several times, and
    the signature's own field without its `b=` value."""
    there: dict[bytes, list[bytes]] = defaultdict(list)
    for name, value in fields:
        there[name.lower()].append(canonical_field(name, value))
    lines = [found.pop() for name in names if (found := there[name.lower().encode()])]
    own, _, value = unsigned.partition(b":")
    return b"\r\n".join((*lines, canonical_field(own, value)))


def _signed_names(fields: Iterable[Field]) -> list[str]:
    """The names in `h=`."""
    there = [name.lower().decode() for name, _ in fields]
    names = [name for name in _OVERSIGNED for _ in range(there.count(name.lower()) + 1)]
    return names + [name for name in _SIGNED for _ in range(there.count(name.lower()))]


def _unsigned(domain: str, selector: str, algorithm: Algorithm, *, names: Sequence[str], at: Instant, digest: str) -> str:
    """The field up to `b=`, folded."""
    tags = [f"v=1; a={algorithm.value}-sha256; c=relaxed/relaxed;", f"d={domain}; s={selector};", f"t={at // 1000};"]
    lines = [f"DKIM-Signature: {tags[0]}", f" {tags[1]}", f" {tags[2]} h="]
    for number, name in enumerate(names):
        piece = name + (";" if number == len(names) - 1 else ":")
        if len(lines[-1]) + len(piece) > _LINE:
            lines.append(" ")
        lines[-1] += piece
    return "\r\n".join((*lines, f" bh={digest};", " b="))


def _broken(signature: bytes) -> str:
    text = base64.b64encode(signature).decode()
    return "\r\n ".join(text[at : at + _BASE64_LINE] for at in range(0, len(text), _BASE64_LINE))


def _signature(key: rsa.RSAPrivateKey | Ed25519PrivateKey, data: bytes) -> bytes:
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(hashlib.sha256(data).digest())  # of the hash, unlike elsewhere (RFC 8463 §3)
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def _loaded(key: SigningKey) -> rsa.RSAPrivateKey | Ed25519PrivateKey:
    try:
        if key.algorithm is Algorithm.ED25519:
            return Ed25519PrivateKey.from_private_bytes(key.private)
        # Not validated again: we made it (validation takes 25 ms each time a content is compiled).
        made = serialization.load_der_private_key(key.private, password=None, unsafe_skip_rsa_key_validation=True)
    except ValueError as error:
        raise Corrupt(f"the stored DKIM key {key.selector} cannot be read") from error
    if not isinstance(made, rsa.RSAPrivateKey):
        raise Corrupt(f"the stored DKIM key {key.selector} is not an RSA key")
    return made


class MailSigner:
    """Signs mail from one From address of one tenant. For one thread at a time."""

    def __init__(self, keys: DkimKeys, tenant: str, from_: str) -> None:
        """Raises `Unavailable` if the store does not answer, `Invalid` if `from_` is no address."""
        self._keys = keys
        self._tenant = tenant
        self._domains: Sequence[str] = covering(from_)[1:]
        self._signer: DomainSigner | None = None
        self._refused = ""
        self._until: Instant | None = None
        self._look()

    def check(self) -> None:
        """Raise `Corrupt` if there is a key and it cannot be used."""
        if self._refused:
            raise Corrupt(self._refused)

    def sign(self, content: bytes, now: Instant) -> bytes:
        """The content, signed if there is a key. Reads the store once a minute, which takes a moment. Raises `Unavailable` if
        there is a key and it cannot be used; it is tried again a minute later."""
        if self._until is None:
            self._until = Instant(now + _LASTS_MS)
        elif now >= self._until:
            self._until = Instant(now + _LASTS_MS)
            with suppress(Temporary):
                self._look()
        if self._refused:
            raise Unavailable(self._refused)
        return content if self._signer is None else self._signer.sign(content, now)

    def _look(self) -> None:
        try:
            found = self._keys.signing(self._tenant, self._domains)
            self._signer = None if found is None else _domain_signer(*found)
            self._refused = ""
        except Corrupt as error:
            if self._signer is None:
                self._refused = f"mail from {self._domains[0]} cannot be signed with its DKIM key: {error}"


def _domain_signer(domain: str, keys: Sequence[DkimPrivateKey]) -> DomainSigner:
    return DomainSigner(domain, [SigningKey(each.key.selector, each.key.algorithm, each.private) for each in keys])
