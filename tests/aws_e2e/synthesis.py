"""The real templates, written by `infra` as for a deployment: once a test run, whichever worker of pytest needs them first."""

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

from tests.aws.emulator import PROGRAM, ROOT
from tests.aws_e2e.deploying import Assembly

STAGE = "test"
_DEADLINE_S = 180


def assembly(factory: pytest.TempPathFactory, stub: Path) -> Assembly:
    """Skips the test where it cannot be had. `stub` is what stands for the functions' code: the emulator brings the real one."""
    if importlib.util.find_spec("aws_cdk") is None or shutil.which("node") is None:
        pytest.skip("no CDK here: it takes Node.js and `make test`")
    if not PROGRAM.exists():
        pytest.skip("no AWS emulator here: `make test` installs it")
    shared = factory.getbasetemp()
    if os.environ.get("PYTEST_XDIST_WORKER"):
        shared = shared.parent
    folder = shared / "assembly"
    try:
        folder.mkdir()
    except FileExistsError:  # another worker makes it
        _wait_for(folder / "done")
    else:
        _synthesise(folder, stub)
        (folder / "done").touch()
    return Assembly(folder)


def _synthesise(folder: Path, stub: Path) -> None:
    context = {"stage": STAGE, "bundle": str(stub)}
    environ = os.environ | {
        "CDK_OUTDIR": str(folder),
        "CDK_CONTEXT_JSON": json.dumps(context),
        "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "1",
        "PYTHONPATH": str(ROOT),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "infra.app"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=_DEADLINE_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout[-3_000:] + ended.stderr[-3_000:]


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while not file.exists():
        assert time.monotonic() < deadline, "another test's synthesis did not end"
        time.sleep(0.1)
