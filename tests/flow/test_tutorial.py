"""docs/tutorial/first-program.md, run as it stands: every block, in order, in one shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.flow.serve_kit import free_port, served

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-program.md"


def test_every_block_of_the_first_program_works(tmp_path: Path) -> None:
    port = free_port()
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    script = "set -eu\n" + "\n".join(blocks).replace("8400", str(port)) + "\nkill %1\nwait\n"
    bin_directory = tmp_path / ".venv" / "bin"
    bin_directory.mkdir(parents=True)
    for name in ("postroom", "python3"):
        (bin_directory / name).symlink_to(Path(sys.executable).with_name(name))
    with served(tmp_path) as office:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("POSTROOM_")}
        environ |= {"POSTROOM_LISTEN": f"127.0.0.1:{port}", "POSTROOM_DATA": str(office.data)}
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    listed = done.stdout
    for address in ("anna@example.com", "bo@example.com", "cy@example.com"):
        assert listed.count(address) >= 1, listed
    assert "not-an-address" in listed
