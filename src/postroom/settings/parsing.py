"""Parsers of settings: text to value. Each raises `ValueError` for text that it does not accept, `Refused` with a reason."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_MASTER_KEY_BYTES = 32
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_AWS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,255}")
_AWS_SECRET = re.compile(r"[A-Za-z0-9/_+=.@:-]{1,512}")
_ARN = r"arn:aws(-[a-z]+)*:{service}:[a-z0-9-]{{0,40}}:[0-9]{{12}}:[A-Za-z0-9_+=,.@:/-]{{1,300}}"
_TOPIC = re.compile(r"arn:aws(-[a-z]+)*:sns:[a-z0-9-]{1,40}:[0-9]{12}:[A-Za-z0-9_-]{1,256}", re.ASCII)


class Platform(StrEnum):
    """The backend that keeps the data."""

    EMBEDDED = "embedded"
    AWS = "aws"


class Refused(ValueError):
    """The value breaks a rule that the text names."""


def seconds(least: float, most: float) -> Callable[[str], float]:
    def parse(text: str) -> float:
        found = _DURATION.fullmatch(text.strip().lower())
        if found is None:
            raise Refused("not a duration")
        value = float(found[1]) * _UNITS[found[2]]
        if not least <= value <= most:
            raise Refused("out of range")
        return value

    return parse


def directory(text: str) -> Path:
    return Path(text).expanduser()


def workers(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 64:
        raise Refused("out of range")
    return value


def rate(text: str) -> float:
    value = float(text)
    if not 0.1 <= value <= 1_000_000:  # also refuses nan
        raise Refused("out of range")
    return value


def percent(text: str) -> float:
    value = float(text.strip().removesuffix("%"))
    if not 0.001 <= value <= 100:  # also refuses nan
        raise Refused("out of range")
    return value


def platform(text: str) -> Platform:
    return Platform(text)


def log_format(text: str) -> str:
    return _one_of(text, "auto", "json", "text")


def log_level(text: str) -> str:
    return _one_of(text, "debug", "info", "warning", "error")


def _one_of(text: str, *words: str) -> str:
    if text.lower() not in words:
        raise Refused(f"not one of {', '.join(words)}")
    return text.lower()


def aws_name(text: str) -> str:
    if not _AWS_NAME.fullmatch(text):
        raise Refused("not the name of an AWS resource")
    return text


def aws_secret(text: str) -> str:
    if _AWS_SECRET.fullmatch(text) is None:
        raise Refused("not the name of a secret")
    return text


def aws_arn(service: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not re.fullmatch(_ARN.format(service=service), text):
            raise Refused(f"not an ARN of {service}")
        return text

    return parse


def aws_arns(service: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        return ",".join(aws_arn(service)(part.strip()) for part in text.split(","))

    return parse


def mail(text: str) -> str:
    scheme, _, rest = text.partition(":")
    if text == "inbox:" or (scheme in {"smtp", "smtps", "ses"} and rest.startswith("//") and urlsplit(text).hostname):
        return text
    raise Refused("neither inbox:, smtp://, smtps:// nor ses://")


def mailbox(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"imaps", "imap", "pop3s", "pop3"} or not parts.hostname or not parts.password:
        raise Refused("not a mailbox with its user and password")
    return text


def issuer(text: str) -> str:
    """Unchanged: with and without a final slash are two issuers (OpenID Connect Discovery 4.3)."""
    parts = urlsplit(public_url(text))
    if parts.scheme != "https" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        raise Refused("its keys would be fetched without TLS")
    return text


def public_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in parts.netloc:
        raise Refused("not the address of a web site")
    if not text.isascii() or any(character.isspace() for character in text):
        raise Refused("not ASCII: write a domain in its xn-- form")
    return text.rstrip("/")


def domain(text: str) -> str:
    name = text.lower().rstrip(".")
    labels = name.split(".")
    if len(name) > 253 or len(labels) < 2 or labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused("not a domain name")
    return name


def listen(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise Refused("not host:port")
    name = host.removeprefix("[").removesuffix("]")
    if not name or (":" in name) != host.startswith("["):
        raise Refused("not host:port; write an IPv6 address in brackets")
    return text


def networks(text: str) -> tuple[str, ...]:
    return tuple(str(ip_network(part.strip(), strict=False)) for part in text.split(","))


def origins(text: str) -> tuple[str, ...]:
    origins = tuple(part.strip().rstrip("/") for part in text.split(","))
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path or parts.query or "@" in parts.netloc:
            raise Refused(f"{origin!r} is not an origin")
    return origins


def topics(text: str) -> tuple[str, ...]:
    for arn in words(text):
        if not _TOPIC.fullmatch(arn):
            raise Refused(f"{arn[:80]!r} is not the ARN of an SNS topic")
    return words(text)


def words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def master_keys(text: str) -> str:
    for part in text.split(","):
        if len(base64.b64decode(part.strip(), validate=True)) != _MASTER_KEY_BYTES:
            raise Refused("not 32 bytes in base64")
    return text


def or_off(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """`off` and `0` mean zero; other text goes to `parse`."""
    return lambda text: 0 if text.strip().lower() in {"off", "0"} else parse(text)


def count(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise Refused("out of range")
        return value

    return parse
