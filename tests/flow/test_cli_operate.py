"""The operator's commands, as a shell sees them: inbox, suppress, doctor, backup, restore."""

from __future__ import annotations

import io
import json
import os
import signal
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from postroom.entrypoints import cli
from postroom.entrypoints.cli.output import print_json, take_any_text

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line on a data directory of the test's own."""
    for name in [name for name in os.environ if name.startswith("POSTROOM_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    runner = CliRunner()

    def invoke(*words: str, stdin: str | None = None) -> Result:
        return runner.invoke(cli.app, words, input=stdin)

    return invoke


def exits(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """What the process ends with, errors said by `main`."""
    monkeypatch.setattr(sys, "argv", ["postroom", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return int(caught.value.code or 0)


@contextmanager
def listening(data: Path) -> Iterator[tuple[subprocess.Popen[str], str, int]]:
    """`postroom inbox listen` in a process of its own; its host and port."""
    command = [sys.executable, "-m", "postroom", "inbox", "listen", "--port", "0", "--data", str(data)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=data.parent) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip().removeprefix("smtp://")
            host, _, port = address.rpartition(":")
            yield process, host, int(port)
        finally:
            process.kill()


def send(host: str, port: int, subject: str) -> None:
    with smtplib.SMTP(host, port, timeout=10) as client:
        client.sendmail("a@a.example", ["b@b.example"], f"From: a@a.example\r\nSubject: {subject}\r\n\r\nHello\r\n")


def test_the_inbox_in_a_process_keeps_what_it_answered_for_through_a_kill(run: Run, tmp_path: Path) -> None:
    with listening(tmp_path / "data") as (process, host, port):
        for number in range(5):
            send(host, port, f"n{number}")
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    listed = json.loads(run("inbox", "list", "--json").stdout)
    assert sorted(mail["subject"] for mail in listed["mails"]) == [f"n{number}" for number in range(5)]
    assert listed["cursor"] is None


def test_the_inbox_ends_cleanly_when_told_and_its_mail_is_shown_and_saved(run: Run, tmp_path: Path) -> None:
    with listening(tmp_path / "data") as (process, host, port):
        send(host, port, "red \x1b[31m")
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    line = run("inbox", "list").stdout
    mail = line.split("\t")[0]
    assert "b@b.example" in line
    shown = run("inbox", "show", mail)
    assert shown.stdout.endswith("\n\nHello\n")
    assert "\x1b" not in shown.stdout
    assert json.loads(run("inbox", "show", mail, "--json").stdout)["text"].strip() == "Hello"
    assert run("inbox", "save", mail).exit_code == 0
    assert b"Hello" in (tmp_path / f"{mail}.eml").read_bytes()
    assert run("inbox", "save", mail, "-").stdout_bytes == (tmp_path / f"{mail}.eml").read_bytes()


def test_a_saved_file_is_never_overwritten(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(tmp_path / "data") as (_, host, port):
        send(host, port, "x")
    mail = run("inbox", "list").stdout.split("\t")[0]
    (tmp_path / "precious").write_text("precious")
    assert exits(["inbox", "save", mail, "precious"], monkeypatch) == 2
    assert (tmp_path / "precious").read_text() == "precious"


def test_what_is_not_there_or_is_no_id_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("inbox", "list").stdout == ""
    assert exits(["inbox", "show", "2" * 17], monkeypatch) == 1
    assert exits(["inbox", "show", "nonsense"], monkeypatch) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert all(line.startswith("postroom: ") for line in said)


def test_the_suppression_list_from_a_shell(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("suppress", "add", "Anna <anna@a.example>", "--reason", "unsubscribe", "--note", "by phone").exit_code == 0
    assert exits(["suppress", "add", "nonsense"], monkeypatch) == 2
    found = json.loads(run("suppress", "list", "--address", "ANNA@a.example", "--json").stdout)["suppressions"]
    assert [(entry["reason"], entry["note"]) for entry in found] == [("unsubscribe", "by phone")]
    exported = run("suppress", "export").stdout
    assert run("suppress", "remove", "anna@A.example").exit_code == 0
    assert run("suppress", "remove", "anna@A.example").exit_code == 1
    assert run("suppress", "list").stdout == ""
    (tmp_path / "list.csv").write_text(exported + "nonsense,manual,,\n")
    imported = run("suppress", "import", "list.csv", "--json")
    assert imported.exit_code == 2
    told = json.loads(imported.stdout)
    assert (told["rows"], told["added"], told["rejected"][0]["line"]) == (2, 1, 3)
    assert run("suppress", "export").stdout == exported
    assert run("suppress", "import", "-", stdin="bob@a.example\n").exit_code == 0
    assert exits(["suppress", "import", "absent.csv"], monkeypatch) == 2


def test_the_list_pages(run: Run) -> None:
    run("suppress", "import", "-", stdin="".join(f"p{number}@a.example\n" for number in range(7)))
    first = json.loads(run("suppress", "list", "--limit", "5", "--json").stdout)
    second = json.loads(run("suppress", "list", "--limit", "5", "--cursor", first["cursor"], "--json").stdout)
    seen = [entry["address"] for entry in first["suppressions"] + second["suppressions"]]
    assert sorted(seen) == [f"p{number}@a.example" for number in range(7)]
    assert second["cursor"] is None


def test_a_backup_comes_back_elsewhere(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run("suppress", "add", "anna@a.example")
    made = json.loads(run("backup", "copy", "--json").stdout)
    assert made["files"] > 0
    back = json.loads(run("restore", "copy", "--data", "new", "--json").stdout)
    assert (back["files"], back["created_at"], back["held"]) == (made["files"], made["created_at"], [])
    assert "anna@a.example" in run("suppress", "list", "--data", "new").stdout
    assert exits(["backup", "copy"], monkeypatch) == 2
    assert exits(["restore", "copy"], monkeypatch) == 2
    assert exits(["restore", "absent", "--data", "other"], monkeypatch) == 1


def test_the_doctor_is_well_where_all_is_well(run: Run) -> None:
    examined = run("doctor", "--json")
    assert examined.exit_code == 0
    assert {finding["subject"] for finding in json.loads(examined.stdout)} >= {
        "settings",
        "data directory",
        "SQLite",
        "mail server",
    }


def test_the_data_directory_is_private(run: Run, tmp_path: Path) -> None:
    run("suppress", "list")
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    assert all(
        finding["level"] != "warn" or "chmod" not in finding["todo"] for finding in json.loads(run("doctor", "--json").stdout)
    )


def test_the_doctor_finds_what_is_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSTROOM_MAIL", "smtp://user:s3cret@127.0.0.1:1?tls=none")
    examined = run("doctor", "--json")
    assert examined.exit_code == 1
    assert any(finding["level"] == "fail" and finding["subject"] == "mail server" for finding in json.loads(examined.stdout))
    assert "s3cret" not in examined.output
    monkeypatch.setenv("POSTROOM_MIAL", "x")
    examined = run("doctor")
    assert examined.exit_code == 1
    assert "POSTROOM_MAIL?" in examined.stdout


def test_any_name_can_be_reported_whatever_the_encoding_of_standard_output(run: Run, tmp_path: Path) -> None:
    """A file or another program gets UTF-8 (RFC 8259 §8.1), even where the locale says Latin-1."""
    assert run("suppress", "add", "żółw@a.example").exit_code == 0
    environ = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    for words in (["suppress", "list", "--json"], ["suppress", "list"], ["suppress", "export"]):
        done = subprocess.run([sys.executable, "-m", "postroom", *words], capture_output=True, env=environ, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, b"")
        assert "żółw@a.example" in done.stdout.decode()


def test_json_for_a_terminal_of_another_encoding_is_still_json(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stdout", terminal)
    take_any_text()
    print_json({"name": "żółw 🐢"})
    terminal.write("żółw\n")
    terminal.flush()
    first, second = terminal.buffer.getvalue().splitlines()
    assert json.loads(first) == {"name": "żółw 🐢"}
    assert second == b"\\u017c\xf3\\u0142w"
