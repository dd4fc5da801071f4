"""docs/how-to/receive-bounces-opens-and-clicks.md: its commands run, and the bounce is recorded."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flow.serve_kit import free_port, served

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "receive-bounces-opens-and-clicks.md"
READY = "until curl -sf http://127.0.0.1:8477/readyz >ready; do sleep 0.1; done\n"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_bounce_that_the_page_makes_is_recorded(tmp_path: Path) -> None:
    settings, *blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    http_port, smtp_port = free_port(), free_port()
    script = "set -eu\n" + settings.replace("postroom serve\n", f"postroom serve 2>log &\n{READY}") + "".join(blocks)
    script = script.replace("8477", str(http_port)).replace("2525", str(smtp_port))
    with served(tmp_path) as office:
        script = script.replace("POSTROOM_DATA=/tmp/try", f"POSTROOM_DATA={office.data}")
        environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        environ["PATH"] = f"{Path(sys.executable).parent}:{environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", script + "kill %1\nwait\n"],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    shown = done.stdout.splitlines()
    assert shown[0] == "ann@example.org  bounced  5.1.1 550 5.1.1 no such user", done.stdout
    assert "bounced (hard, mailbox)" in shown[3]
    assert shown[-1].startswith("ann@example.org\tbounce")
