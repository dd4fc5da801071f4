"""What signing costs: µs a message as it is composed, and `postroom send` of a whole campaign as a ratio to the same unsigned.

    python -m bench.signing [recipients]

The messages are those of `bench.compose` and `bench.campaign`; each key for itself, and the pair.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from bench.campaign import send, show
from bench.compose import composer, html_template, microseconds, recipients
from bench.smtp import smtp_sink
from postroom.clock import Instant
from postroom.delivery.dkim import DomainSigner, SigningKey, generate_key
from postroom.model.dkim import Algorithm

_NOW = Instant(1_760_000_000_000)


class Kind(NamedTuple):
    """With which keys."""

    name: str
    algorithms: tuple[Algorithm, ...]
    options: list[str]


KINDS = (
    Kind("RSA-2048", (Algorithm.RSA,), []),
    Kind("RSA-2048 and Ed25519", (Algorithm.RSA, Algorithm.ED25519), ["--ed25519"]),
)


def signing(algorithms: tuple[Algorithm, ...]) -> float:
    """µs of one message, of about 6 KB."""
    signer = DomainSigner("example.com", [SigningKey(each.value, each, generate_key(each).private) for each in algorithms])
    everybody = recipients(500)
    content = composer(html_template()).compose(7, everybody[0], _NOW).content
    return microseconds(lambda _recipient: signer.sign(content, _NOW), everybody)


def main() -> None:
    """Print the figures."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    for kind in KINDS:
        print(f"{'signing, ' + kind.name:34}{signing(kind.algorithms):9.0f} µs a message", flush=True)
    print(f"{'signing, Ed25519 alone':34}{signing((Algorithm.ED25519,)):9.0f} µs a message", flush=True)
    with smtp_sink() as port, tempfile.TemporaryDirectory() as name:
        send(Path(name), rows // 4, port)
        unsigned = send(Path(name), rows, port)
        show("unsigned", unsigned)
        for kind in KINDS:
            show(kind.name, send(Path(name), rows, port, keys=kind.options), unsigned.rate)


if __name__ == "__main__":
    main()
