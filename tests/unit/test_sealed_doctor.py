"""The doctor says what is not encrypted, and who else may read what is secret; it makes nothing."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from postroom.entrypoints.cli.doctor import doctor_command
from postroom.errors import Unavailable
from postroom.model.finding import Finding, Level
from postroom.platform.embedded._encryption import ObjectEncryption
from postroom.platform.embedded.doctor import check_encryption
from postroom.platform.embedded.objects import FileObjects
from postroom.platform.embedded.secrets import ConfiguredKeys, KeyFile, MasterSecrets
from tests.fakes.clock import ManualClock


def holds_people(key: str) -> bool:
    return key.startswith("people/")


def examined(root: Path, keys: ConfiguredKeys | KeyFile | None = None) -> list[tuple[str, Level, str]]:
    keys = keys or KeyFile(root / "master.key", ManualClock())
    findings = check_encryption(keys, root / "master.key", index=root / "objects" / "objects.db", applies=holds_people)
    return [(finding.subject, finding.level, finding.text) for finding in findings]


def store(root: Path, *keys: str, sealed: bool) -> None:
    sealing = ObjectEncryption(MasterSecrets(KeyFile(root / "master.key", ManualClock())), holds_people) if sealed else None
    with closing(FileObjects(root / "objects", ManualClock(), sealing=sealing)) as objects:
        for key in keys:
            objects.put(key, b"x")


def test_a_new_installation_is_fine_and_stays_untouched(tmp_path: Path) -> None:
    assert [level for _, level, _ in examined(tmp_path)] == [Level.OK, Level.OK]
    assert list(tmp_path.iterdir()) == []


def test_files_from_before_are_counted(tmp_path: Path) -> None:
    store(tmp_path, "people/1", "people/2", "template", sealed=False)
    store(tmp_path, "people/3", sealed=True)
    (key, objects) = examined(tmp_path)
    assert key[1] is Level.OK
    assert objects[:2] == ("objects", Level.WARN)
    assert objects[2].startswith("2 files")


def test_a_store_that_was_not_opened_since_is_all_in_clear(tmp_path: Path) -> None:
    store(tmp_path, "people/1", sealed=False)
    with closing(sqlite3.connect(tmp_path / "objects" / "objects.db")) as index, index:
        index.executescript("DROP TRIGGER version_gone; DROP TABLE sealing;")
    assert examined(tmp_path)[1][2].startswith("1 files")


def test_a_key_that_is_lost_is_a_failure(tmp_path: Path) -> None:
    store(tmp_path, "people/1", sealed=True)
    (tmp_path / "master.key").unlink()
    (key, _) = examined(tmp_path)
    assert key[1] is Level.FAIL
    assert "missing" in key[2]


def test_a_key_that_others_may_read_is_said_with_what_to_do(tmp_path: Path) -> None:
    store(tmp_path, "people/1", sealed=True)
    (tmp_path / "master.key").chmod(0o644)
    with pytest.raises(Unavailable, match="chmod 600"):
        examined(tmp_path)


def test_older_keys_are_mentioned(tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "master.key", ManualClock())
    keys.newest()
    keys.add()
    assert "2 are kept" in examined(tmp_path, keys)[1][2]


def test_a_key_in_a_setting_is_in_no_backup(tmp_path: Path) -> None:
    assert "POSTROOM_MASTER_KEY" in examined(tmp_path, ConfiguredKeys("A" * 43 + "="))[0][2]


@pytest.mark.parametrize(
    ("text", "mode", "warned"),
    [
        ('mail = "smtp://news:s3cret@relay.example?tls=starttls"', 0o644, True),
        (f'master_key = "{"A" * 43}="', 0o640, True),
        ('mail = "smtp://news:s3cret@relay.example?tls=starttls"', 0o600, False),
        ('mail = "smtp://127.0.0.1:9"', 0o644, False),
    ],
)
def test_secrets_in_a_settings_file_that_others_may_read_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, mode: int, *, warned: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("POSTROOM_MAIL", "inbox:")
    (tmp_path / "postroom.toml").write_text(text)
    (tmp_path / "postroom.toml").chmod(mode)
    app = typer.Typer()
    app.command("doctor")(doctor_command)
    findings = [Finding(**one) for one in json.loads(CliRunner().invoke(app, ["--json"]).stdout)]
    assert any("may read the secrets" in finding.text for finding in findings) is warned
    assert any(finding.subject == "master key" for finding in findings)
