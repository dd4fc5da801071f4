"""The page about callbacks is true: its examples look like what is sent, and what it tells receivers to do verifies what is signed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from postroom.callbacks.attempts import signed_headers
from postroom.model.callback import BATCH, PREFIX, TEST, EventPayload, parse_event_type, secret_text
from postroom.model.event import BounceClass, BounceType, EventKind

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "callbacks.md").read_text("utf-8")
BODY = '{"type":"postroom.test","data":{"name":"Ünal"}}'.encode()
SECRET, OLD = b"\x00\xfe+/=s" * 5 + b"\xff\n", b"o" * 32


def blocks(language: str) -> list[str]:
    """Code of the page in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


EXAMPLES: list[dict[str, Any]] = [json.loads(block) for block in blocks("json")]
EVENTS = {example["type"]: example for example in EXAMPLES}


class Strict(EventPayload, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nothing is missing, and nothing more is there."""


def test_there_is_an_example_of_everything_that_is_sent() -> None:
    assert [example["type"] for example in EXAMPLES] == [*(PREFIX + kind for kind in EventKind), BATCH, TEST]
    assert all(f"### `{example['type']}`" in PAGE for example in EXAMPLES)


@pytest.mark.parametrize("example", [*(EVENTS[PREFIX + kind] for kind in EventKind), *EVENTS[BATCH]["data"]["events"]])
def test_an_example_of_an_event_looks_like_one(example: dict[str, Any]) -> None:
    assert example.keys() == {"type", "timestamp", "data"}
    told = msgspec.convert(example["data"], Strict)
    kind = parse_event_type(example["type"])
    assert (told.bounce is not None) == (kind is EventKind.BOUNCED)
    assert (told.url is not None) == (kind is EventKind.CLICKED)
    assert told.campaign_id is None or told.message_id.startswith(told.campaign_id)
    if told.bounce:
        assert told.bounce.keys() == {"type", "class", "code"}
        assert told.bounce["type"] in set(BounceType)
        assert told.bounce["class"] in set(BounceClass)


def test_every_member_is_explained() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", PAGE.split("| in `data` | |")[1].split("\n\n")[0], re.MULTILINE)
    assert explained == list(EventPayload.__struct_fields__)


Verifier = Callable[[dict[str, str], bytes, Path], bool]


def by_python(fields: dict[str, str], body: bytes, folder: Path) -> bool:
    from standardwebhooks import WebhookVerificationError

    (code,) = blocks("python")
    names: dict[str, Any] = {}
    exec(code, names)  # our own page
    try:
        return bool(names["verified"](fields, body, secret_text(SECRET)) == json.loads(body))
    except WebhookVerificationError:
        return False


def by_node(fields: dict[str, str], body: bytes, folder: Path) -> bool:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    (code,) = blocks("js")
    call = "process.stdout.write(JSON.stringify(verified(JSON.parse(process.argv[2]), require('fs').readFileSync(0), process.argv[3])))"
    (folder / "verified.js").write_text(code + call, "utf-8")
    words = [node, str(folder / "verified.js"), json.dumps(fields), secret_text(SECRET)]
    done = subprocess.run(words, input=body, capture_output=True, check=False, timeout=30)
    return done.returncode == 0 and json.loads(done.stdout) == json.loads(body)


def by_shell(fields: dict[str, str], body: bytes, folder: Path) -> bool:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    (code,) = blocks("sh")
    (folder / "body.json").write_bytes(body)
    given = {
        "SECRET": secret_text(SECRET),
        "ID": fields["webhook-id"],
        "TIMESTAMP": fields["webhook-timestamp"],
        "SIGNATURE": fields["webhook-signature"],
    }
    env = {**os.environ, **given}
    done = subprocess.run(["/bin/sh", "-c", code], cwd=folder, env=env, capture_output=True, check=True, text=True, timeout=30)
    return done.stdout == "from Postroom\n"


@pytest.mark.parametrize("verify", [by_python, by_node, by_shell])
@pytest.mark.parametrize("secrets", [[SECRET], [SECRET, OLD], [OLD, SECRET]], ids=["one", "rotated", "not-yet-changed"])
def test_what_receivers_are_told_to_do_verifies_our_requests(verify: Verifier, secrets: list[bytes], tmp_path: Path) -> None:
    assert verify(signed_headers("23glq", BODY, seconds=int(time.time()), secrets=secrets), BODY, tmp_path)


@pytest.mark.parametrize("verify", [by_python, by_node, by_shell])
def test_and_refuses_what_others_signed_or_changed(verify: Verifier, tmp_path: Path) -> None:
    now = int(time.time())
    assert not verify(signed_headers("23glq", BODY, seconds=now, secrets=[OLD]), BODY, tmp_path)
    good = signed_headers("23glq", BODY, seconds=now, secrets=[SECRET])
    assert not verify(good, BODY.replace(b"test", b"tent"), tmp_path)
    assert not verify({**good, "webhook-id": "24glq"}, BODY, tmp_path)
    assert not verify({**good, "webhook-timestamp": str(now + 1)}, BODY, tmp_path)


@pytest.mark.parametrize("verify", [by_python, by_node])
def test_and_refuses_what_is_played_back(verify: Verifier, tmp_path: Path) -> None:
    for seconds in (int(time.time()) - 301, int(time.time()) + 310):
        assert not verify(signed_headers("23glq", BODY, seconds=seconds, secrets=[SECRET]), BODY, tmp_path)
