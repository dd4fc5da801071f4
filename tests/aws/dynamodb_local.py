"""DynamoDB Local, Amazon's own emulator of DynamoDB alone, as one process of this pytest run: in memory, on a free port.

It knows the rules of DynamoDB better than an emulator of all of AWS, and checks no permissions. It needs Java, and its jars in
`.dynamodb-local`, which `make test` copies there with Maven. Each access key has tables of its own.
"""

from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
import sys
import time

import pytest

from postroom.platform.aws._clients import AwsAccount
from tests.aws.emulator import REGION, ROOT

JARS = ROOT / ".dynamodb-local"
_SERVER = "com.amazonaws.services.dynamodbv2.local.main.ServerRunner"
_START_S = 60
_STOP_S = 3
# It ends with the process that started it, even if that is killed.
_TETHERED = "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 15); os.execvp(sys.argv[1], sys.argv[1:])"
_KEY = pytest.StashKey["DynamoDBLocal"]()


class DynamoDBLocal:
    """A running one."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self._process = process
        self._endpoint = f"http://127.0.0.1:{port}"
        self._keys = itertools.count(1)

    def account(self) -> AwsAccount:
        """With no table in it."""
        return AwsAccount(REGION, self._endpoint, f"key{next(self._keys)}", "test")

    def stop(self) -> None:
        """End it: asked first, then killed."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def dynamodb_local(config: pytest.Config) -> DynamoDBLocal:
    """This run's, started when first asked for and stopped with the run. Skips the test where it cannot be had."""
    if _KEY not in config.stash:
        if shutil.which("java") is None or not any(JARS.glob("DynamoDBLocal-*.jar")):
            pytest.skip("no DynamoDB Local here: `make test` gets it where there are Java and Maven")
        config.stash[_KEY] = started = _start()
        config.add_cleanup(started.stop)
    return config.stash[_KEY]


def _start() -> DynamoDBLocal:
    port = _free_port()
    java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Djava.library.path={JARS}", "-cp", f"{JARS}/*", _SERVER]
    command = [sys.executable, "-c", _TETHERED, *java, "-inMemory", "-disableTelemetry", "-port", str(port)]
    process = subprocess.Popen(command, cwd=JARS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    started = DynamoDBLocal(process, port)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return started
        time.sleep(0.05)
    started.stop()
    raise RuntimeError("DynamoDB Local did not start")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
