"""Rates on one machine: what a killed process leaves in the file. `kill -9` is real here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from postroom.platform.ports.rates import BURST_MS
from tests.contract.backend import Backend
from tests.contract.test_rates import B, at

pytestmark = pytest.mark.backends("embedded")

ROOT = Path(__file__).resolve().parents[2]


def test_a_killed_worker_takes_nothing_of_the_state_with_it(tmp_path: Path, backend: Backend) -> None:
    script = f"""
import os, signal, sys
from pathlib import Path
from postroom.platform.embedded.rates import SqliteRates
from postroom.platform.ports.rates import RateLimit
rates = SqliteRates(Path(sys.argv[1]))
rates.limit({B!r}, RateLimit(per_second=100, per_day=50))
rates.slow({B!r}, 100, {at(0)})
assert rates.reserve({B!r}, 30, {at(0)}).count == 30
os.kill(os.getpid(), signal.SIGKILL)
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path / "rates.db")], env=env, timeout=30, check=False)
    assert ended.returncode == -signal.SIGKILL
    rates = backend.rates()
    assert rates.current(B, at(0)) == pytest.approx(70)
    assert rates.reserve(B, 1_000, at(0)).at == pytest.approx(at(-BURST_MS + 30 * 1_000 / 70), abs=1)
    assert rates.reserve(B, 1_000, at(5_000)).count == 0
