"""The real templates, written by `infra` as for a deployment: once a test run, by whichever worker of pytest needs them first."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_DEADLINE_S = 240


def synthesised(factory: pytest.TempPathFactory, name: str, context: Mapping[str, str]) -> Path:
    """The cloud assembly of that context; AWS's rules were held against it on the way. Skips the test where there is no CDK."""
    if importlib.util.find_spec("aws_cdk") is None or shutil.which("node") is None:
        pytest.skip("no CDK here: it takes Node.js and `make test`")
    shared = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder = shared / name
    try:
        folder.mkdir()
    except FileExistsError:  # another worker writes them
        _wait_for(folder / "done")
    else:
        _synthesise(folder, context)
        (folder / "done").touch()
    return folder


def _synthesise(folder: Path, context: Mapping[str, str]) -> None:
    environ = os.environ | {
        "CDK_OUTDIR": str(folder),
        "CDK_CONTEXT_JSON": json.dumps(dict(context)),
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
