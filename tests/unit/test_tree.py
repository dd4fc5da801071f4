"""The tree says what the platform is: each backend keeps the ports under the ports' own file names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "postroom"
PLATFORM = SOURCE / "platform"
NOT_PORTS = {"limits.py": "rules of names, pages and cursors that several ports share"}
ABOVE = {"identity.py": "on one machine the built-in issuer keeps it (identity/directory.py)"}
ONLY_HERE = {
    "embedded": {
        "backup.py": "copies the data directory: AWS has point-in-time recovery and versioned buckets",
        "doctor.py": "checks the data directory: AWS has no directory",
    },
    "aws": {"search.py": "the index in OpenSearch that the stack may have"},
}


def modules(directory: Path) -> set[str]:
    return {path.name for path in directory.glob("*.py")} - {"__init__.py"}


PORTS = modules(PLATFORM / "ports") - NOT_PORTS.keys()


def test_every_port_is_a_promise_in_prose_and_a_protocol() -> None:
    for name in PORTS:
        tree = ast.parse((PLATFORM / "ports" / name).read_text("utf-8"))
        assert len(ast.get_docstring(tree) or "") > 200, name
        bases = {ast.unparse(base) for node in tree.body if isinstance(node, ast.ClassDef) for base in node.bases}
        assert "Protocol" in bases, name


def test_embedded_keeps_every_port() -> None:
    assert modules(PLATFORM / "embedded") >= PORTS - ABOVE.keys()


@pytest.mark.parametrize("backend", ["embedded", "aws"])
def test_a_backend_has_no_files_but_the_ports_and_its_private_ones(backend: str) -> None:
    public = {name for name in modules(PLATFORM / backend) if not name.startswith("_")}
    assert public - PORTS == ONLY_HERE[backend].keys()


def sources() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def test_every_module_says_in_its_first_line_what_it_is_for() -> None:
    silent = [path.relative_to(SOURCE) for path in sources() if not ast.get_docstring(ast.parse(path.read_text("utf-8")))]
    assert silent == []


def test_no_module_is_named_after_nothing() -> None:
    """House style: nouns of the domain."""
    nothing = {"utils", "util", "helpers", "helper", "common", "manager", "base", "misc"}
    assert [path for path in sources() if path.stem.strip("_") in nothing or path.parent.name in nothing] == []


def test_only_settings_and_the_command_line_touch_the_environment() -> None:
    """Settings are handed down: `os.environ` appears where they are read, and where a child process is given them."""
    allowed = {
        "settings/__init__.py",
        "entrypoints/cli/session.py",
        "entrypoints/cli/deploy.py",
        "entrypoints/lambdas/runtime.py",
    }
    users = {path.relative_to(SOURCE).as_posix() for path in sources() if "os.environ" in path.read_text("utf-8")}
    users |= {path.relative_to(SOURCE).as_posix() for path in sources() if "os.getenv" in path.read_text("utf-8")}
    assert users <= allowed
