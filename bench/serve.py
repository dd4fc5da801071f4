"""A campaign through the API of a running server, as a ratio to `postroom send` of the same campaign in the same run.

    python -m bench.serve [--recipients N]

The same content, recipients, settings and `smtp-sink` as in bench.campaign. Both rates count from the campaign's creation to its
last message recorded; the server has run before, as it would. The ratio asked for is 0.9.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.campaign import send, write_csv
from bench.compose import html_template
from bench.smtp import smtp_sink

_PATIENCE_S = 600


class Api:
    """A program that calls the server."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer's JSON."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        request = urllib.request.Request(self._url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def upload(self, path: Path) -> str:
        """Bring a file to the store; its id."""
        content = path.read_bytes()
        what = {"kind": "recipients", "filename": path.name, "content_type": "text/csv", "size": len(content)}
        announced = self.call("POST", "/v1/uploads", what)
        request = urllib.request.Request(announced["url"], content, announced["headers"], method=announced["method"])
        urllib.request.urlopen(request, timeout=60).close()
        return str(announced["id"])


@contextmanager
def server(directory: Path, port: int) -> Iterator[Api]:
    """A server that sends to the sink at `port`, and an API key for it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        listen = f"127.0.0.1:{probe.getsockname()[1]}"
    environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
    environ |= {"POSTROOM_PUBLIC_URL": "https://mail.example.com", "POSTROOM_MAIL": f"smtp://127.0.0.1:{port}?tls=none"}
    environ |= {"POSTROOM_DATA": str(directory / "served"), "POSTROOM_LISTEN": listen}
    postroom = [sys.executable, "-m", "postroom"]
    process = subprocess.Popen([*postroom, "serve"], env=environ, stderr=subprocess.DEVNULL)
    try:
        _wait_for(f"http://{listen}/readyz")
        made = subprocess.run([*postroom, "key", "add", "bench", "--role", "admin"], env=environ, capture_output=True, check=True)
        subprocess.run([*postroom, "sender", "trust", "example.com"], env=environ, capture_output=True, check=True)
        yield Api(f"http://{listen}", made.stdout.decode().split()[-1])
    finally:
        process.terminate()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit("the server did not start")


def order(api: Api, directory: Path, rows: int) -> float:
    """Recipients a second, from the campaign's creation to its last message recorded."""
    recipients = directory / f"{rows}.csv"
    if not recipients.exists():
        write_csv(recipients, rows)
    content = {"name": "News", "subject": "{{ first_name }}, your news", "html": html_template(), "inline_css": False}
    campaign = {
        "name": "News",
        "template_id": api.call("POST", "/v1/templates", content)["id"],
        "upload_id": api.upload(recipients),
        "from": "News <news@example.com>",
    }
    status = {"id": api.call("POST", "/v1/campaigns", campaign)["id"], "status": ""}
    deadline = time.monotonic() + _PATIENCE_S
    while status["status"] != "completed" and time.monotonic() < deadline:
        status = api.call("GET", f"/v1/campaigns/{status['id']}/status")
        time.sleep(1)  # as an open console polls
    left = sum(status["counts"].get(state, 0) for state in ("sent", "delivered", "bounced"))
    if status["status"] != "completed" or left != rows:
        raise SystemExit(f"not everybody was sent to: {status}")
    created, finished = (datetime.fromisoformat(status[f"{name}_at"]) for name in ("created", "finished"))
    return rows / (finished - created).total_seconds()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipients", type=int, default=100_000)
    options = parser.parse_args()
    with smtp_sink() as port, tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        before = send(directory, options.recipients, port).rate
        with server(directory, port) as api:
            served = order(api, directory, options.recipients)
        after = send(directory, options.recipients, port).rate
    reference = (before + after) / 2
    print(f"{'postroom send':28}{reference:9,.0f} messages/s ({before:,.0f} before, {after:,.0f} after)")
    print(f"{'through the API':28}{served:9,.0f} messages/s, ratio {served / reference:.2f}")


if __name__ == "__main__":
    main()
