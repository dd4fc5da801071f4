"""The templates of a production stage, written once a test run as for a deployment: AWS's rules are held against them on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.infra.templates import Templates

ROOT = Path(__file__).resolve().parents[2]
CONTEXT = {"stage": "prod", "domain": "mail.example.com", "alert_email": "oncall@example.com", "pagerduty": "true"}
_DEADLINE_S = 240


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    """Of all stacks."""
    if importlib.util.find_spec("aws_cdk") is None or shutil.which("node") is None:
        pytest.skip("no CDK here: it takes Node.js and `make test`")
    shared = tmp_path_factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder = shared / "production"
    try:
        folder.mkdir()
    except FileExistsError:  # another worker writes them
        _wait_for(folder / "done")
    else:
        _synthesise(folder)
        (folder / "done").touch()
    return Templates(folder)


def _synthesise(folder: Path) -> None:
    environ = os.environ | {
        "CDK_OUTDIR": str(folder),
        "CDK_CONTEXT_JSON": json.dumps(CONTEXT),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
    }
    words = [sys.executable, "-m", "infra.app"]
    ended = subprocess.run(words, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
    assert ended.returncode == 0, ended.stdout[-3_000:] + ended.stderr[-3_000:]


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not file.exists():
        assert time.monotonic() < deadline, "another test's synthesis did not end"
        time.sleep(0.1)
