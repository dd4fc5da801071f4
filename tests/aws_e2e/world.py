"""The emulator of AWS and what stands around it, for one test: SES, OpenSearch, and a tenant's system that is told.

    TLS          on everything of AWS's, since the stack refuses who comes without
    SES          the simulator; what becomes of mail goes to the SNS topic of the stack's configuration set, as SES publishes it
    OpenSearch   a server that answers as OpenSearch does, which the stack's domain resolves to
    keys         those of the pool's tokens, whose issuer is an address of AWS's own
    receiver     takes callbacks, and refuses some of them once

Nothing of it is left behind: processes end by their number, and the emulator takes its functions with it.
"""

from __future__ import annotations

import importlib.util
import json
import queue
import shutil
import subprocess
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from tests.aws.emulator import REGION, Emulator, start
from tests.aws_e2e import faults
from tests.aws_e2e.synthesis import STAGE
from tests.aws_e2e.tunnel import behind_tls
from tests.fakes.certificates import make_certificate
from tests.fakes.ses_simulator.fates import Fates
from tests.fakes.ses_simulator.rules import Options, Rule
from tests.fakes.ses_simulator.simulator import SesSimulator
from tests.flow.callbacks_kit import NETWORKS, Receiver, receiving

PREFIX = f"postroom-{STAGE}"
_SETTINGS = {
    "POSTROOM_CALLBACK_NETWORKS": NETWORKS,
    "POSTROOM_BOUNCE_PAUSE": "0",  # the guard is proven elsewhere, and here more bounces than it bears
    "POSTROOM_BOUNCE_WARN": "0",
    "POSTROOM_COMPLAINT_PAUSE": "0",
    "POSTROOM_COMPLAINT_WARN": "0",
    "POSTROOM_RETRY_AFTER": "5",
    "POWERTOOLS_TRACE_DISABLED": "true",
}
"""What functions inherit from the emulator, where the stack sets nothing else."""


@dataclass(frozen=True, slots=True)
class World:
    """One, running."""

    emulator: Emulator
    keys: Keys
    ses: SesSimulator
    topic: Topic
    search: str
    """OpenSearch's address."""
    receiver: Receiver
    receiver_url: str
    asked: Path
    """What the functions asked the table for (asked.py)."""

    @property
    def session(self) -> boto3.Session:
        """The account's owner's."""
        return boto3.Session("test", "test", region_name=REGION)

    def client(self, service: str, session: boto3.Session | None = None) -> Any:
        """One that gives up at once."""
        config = Config(retries={"total_max_attempts": 1}, read_timeout=120)
        return (session or self.session).client(service, endpoint_url=self.emulator.endpoint, config=config)  # type: ignore[call-overload]

    def log(self) -> str:
        """What the emulator said, and its functions."""
        return (self.emulator.home / "log").read_text(errors="replace")


class Keys:
    """Tells the published keys of a pool over HTTP, once it is known which."""

    def __init__(self) -> None:
        self.document = b"{}"
        keys = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Length", str(len(keys.document)))
                self.end_headers()
                self.wfile.write(keys.document)

            def log_message(self, *_args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="keys")
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/keys"

    def end(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class Topic:
    """Publishes notices to an SNS topic, ten at a time, as they come."""

    def __init__(self) -> None:
        self.arn: str | None = None
        """None: they wait."""
        self._waiting: queue.Queue[dict[str, object] | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="ses-notices")

    def put(self, notice: dict[str, object]) -> None:
        self._waiting.put(notice)

    def begin(self, arn: str, client: Any) -> None:
        """From now on they go to this topic."""
        self.arn, self._client = arn, client
        self._thread.start()

    def end(self) -> None:
        self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while (first := self._waiting.get()) is not None:
            notices = [first]
            while len(notices) < 10 and not self._waiting.empty():
                following = self._waiting.get()
                if following is None:
                    return
                notices.append(following)
            entries = [{"Id": str(number), "Message": json.dumps(notice)} for number, notice in enumerate(notices)]
            answer = self._client.publish_batch(TopicArn=self.arn, PublishBatchRequestEntries=entries)
            assert not answer.get("Failed"), answer


@contextmanager
def world(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    rules: Iterable[Rule],
    options: Options,
    fates: Fates,
    *,
    faulty: faults.Plan | None = None,
) -> Iterator[World]:
    """A fresh one. `faulty`: what its functions are to meet."""
    certificate, key = make_certificate(tmp_path)
    trust = {name: str(certificate) for name in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")}
    for name, value in trust.items():
        monkeypatch.setenv(name, value)
    asked = tmp_path / "asked"
    asked.mkdir()
    topic, keys = Topic(), Keys()
    options.region, options.knows_keys, options.configuration_sets = REGION, False, (PREFIX,)
    with ExitStack() as stack:
        stack.callback(keys.end)
        ses = stack.enter_context(SesSimulator(rules, options, fates=fates, publish=topic.put))
        search = stack.enter_context(_searching())
        sealed = stack.enter_context(behind_tls(search, certificate, key))
        receiver, receiver_url = stack.enter_context(receiving())
        variables = (
            _SETTINGS
            | trust
            | {
                "USE_SSL": "1",
                "MINISTACK_SSL_CERT": str(certificate),
                "MINISTACK_SSL_KEY": str(key),
                "AWS_ENDPOINT_URL_SESV2": ses.url,
                "MINISTACK_OPENSEARCH_ENDPOINT": sealed,
                "POSTROOM_JWKS_URL": keys.url,
                "PYTHONPATH": str(faults.INSIDE),
                "ASKED": str(asked),
                **(faulty.variables(tmp_path) if faulty else {}),
            }
        )
        emulator = start(encrypted=True, **variables)
        stack.callback(emulator.stop)
        stack.callback(topic.end)
        stack.callback(lambda: shutil.copyfile(emulator.home / "log", tmp_path / "aws.log"))
        yield World(emulator, keys, ses, topic, search, receiver, receiver_url, asked)


@contextmanager
def _searching() -> Iterator[str]:
    package = importlib.util.find_spec("osmem_server")
    assert package is not None
    assert package.origin is not None
    program = Path(package.origin).parent / "bin" / "osmem-server"  # the wheel is little more than the program
    process = subprocess.Popen(
        [str(program), "-no-ja", "-addr", "127.0.0.1:0"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with process:  # it ends with its standard input, whoever is killed
        assert process.stdout is not None
        try:
            yield str(json.loads(process.stdout.readline())["url"])
        finally:
            process.terminate()
