"""`postroom template`: files become versions and come back as they were; what is wrong is said where it stands."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from postroom.entrypoints.cli import template as template_cli
from postroom.entrypoints.cli.template import write_files
from postroom.errors import Invalid, NotFound
from postroom.model.template import Language, TemplateSource

HTML = "<p>Hi {{ first_name }}</p>\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POSTROOM_DATA", str(tmp_path / "data"))
    Path("news.html").write_text(HTML, "utf-8")
    return tmp_path


def invoke(*words: str) -> Result:
    """An error as it is raised."""
    done = CliRunner().invoke(template_cli.app, list(words))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.stderr
    return done


def pushed(*words: str) -> tuple[str, str, str, str]:
    """Id, name, version and result of the one file."""
    id_, name, version, result = invoke("push", *words).stdout.rstrip("\n").split("\t")
    return id_, name, version, result


def test_pushing_creates_then_saves_then_leaves_alone() -> None:
    id_, name, version, result = pushed("news.html")
    assert (name, version, result) == ("news", "1", "created")
    Path("news.html").write_text("<p>New</p>", "utf-8")
    assert pushed("news.html") == (id_, "news", "2", "saved")
    assert pushed("news.html") == (id_, "news", "2", "unchanged")
    assert [one["version"] for one in json.loads(invoke("list", "--json").stdout)] == [2]


def test_what_stands_beside_the_file_counts() -> None:
    Path("news.toml").write_text('name = "Autumn  news"\nsubject = "Hi {{ first_name }} ü"\ninline_css = false\n', "utf-8")
    Path("news.txt").write_text("Hi\n", "utf-8")
    assert pushed("news.html")[1] == "Autumn news"
    (shown,) = json.loads(invoke("list", "--json", "--name", "autumn").stdout)
    assert (shown["subject"], shown["inline_css"]) == ("Hi {{ first_name }} ü", False)


def test_a_subject_that_no_file_gives_stays() -> None:
    Path("news.toml").write_text('subject = "Hi"\n', "utf-8")
    pushed("news.html")
    Path("news.toml").unlink()
    Path("news.html").write_text("<p>New</p>", "utf-8")
    pushed("news.html")
    assert json.loads(invoke("list", "--json").stdout)[0]["subject"] == "Hi"


@pytest.mark.parametrize("text", [None, "Hi\n\n  there\n"])
def test_what_is_pulled_is_what_was_pushed_and_can_be_pushed_again(text: str | None) -> None:
    Path("news.toml").write_text('name = "A/B: \\"news\\""\nsubject = "x"\n', "utf-8")
    if text:
        Path("news.txt").write_text(text, "utf-8")
    pushed("news.html")
    names = invoke("pull", 'A/B: "news"', "out").stdout.split()
    assert names[0] == "out/A-B-news.html"
    assert Path(names[0]).read_text("utf-8") == HTML
    assert Path("out/A-B-news.txt").exists() == (text is not None)
    assert pushed(names[0])[3] == "unchanged"
    with pytest.raises(Invalid, match="overwritten"):
        invoke("pull", 'A/B: "news"', "out")
    invoke("pull", 'A/B: "news"', "out", "--force", "--version", "1")


def test_a_name_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    source = TemplateSource(subject="s", language=Language.HTML, body="b")
    for name in ("../../x", "..", "/etc/passwd", "a\\b", "..."):
        for path in write_files(tmp_path / "out", name, source, force=True):
            assert path.resolve().parent == tmp_path / "out"


def test_errors_are_said_as_compilers_do_and_nothing_is_saved(capfd: pytest.CaptureFixture[str]) -> None:
    Path("news.html").write_text("<p>\n  {{ x|nonsense }}", "utf-8")
    done = CliRunner().invoke(template_cli.app, ["push", "news.html"])
    assert isinstance(done.exception, Invalid)
    assert "news.html:2:8: error: the filter nonsense is not available [unknown-word]" in done.stderr
    assert invoke("list").stdout == ""


def test_mjml_is_known_by_its_name_or_its_first_element() -> None:
    mjml = "<mjml><mj-body><mj-section><mj-column><mj-text>x</mj-text></mj-column></mj-section></mj-body></mjml>"
    Path("a.mjml").write_text(mjml, "utf-8")
    Path("b.html").write_text(mjml, "utf-8")
    invoke("push", "a.mjml", "b.html")
    assert [one["language"] for one in json.loads(invoke("list", "--json").stdout)] == ["mjml", "mjml"]


def test_a_preview_of_a_file_needs_nothing_stored() -> None:
    Path("news.toml").write_text('subject = "Hi {{ first_name }}"\n', "utf-8")
    done = invoke("preview", "news.html", "--set", "first_name=<Anna>", "--out", "out.html")
    assert done.stdout == "Subject: Hi <Anna>\n\nHi <Anna>\n"
    assert Path("out.html").read_text("utf-8") == "<p>Hi &lt;Anna&gt;</p>\n"
    assert "[no-unsubscribe]" in done.stderr
    assert "missing: first_name" in invoke("preview", "news.html").stderr
    assert invoke("list").stdout == ""


def test_a_preview_of_what_is_stored_is_of_any_version() -> None:
    id_ = pushed("news.html")[0]
    Path("news.html").write_text("<p>Newer</p>", "utf-8")
    pushed("news.html")
    for which in (id_, "news"):
        assert json.loads(invoke("preview", which, "--json").stdout)["text"] == "Newer\n"
    assert "Hi Anna" in invoke("preview", "news", "--version", "1", "--set", "first_name=Anna").stdout


def test_what_is_not_there_or_not_clear_is_said() -> None:
    for words in (["pull", "nothing"], ["preview", "2222222222222222"]):
        with pytest.raises(NotFound, match="neither an id nor a name"):
            invoke(*words)
    with pytest.raises(Invalid, match="one file"):
        invoke("push", "news.html", "news.html", "--name", "x")
    Path("news.txt").write_text("x", "utf-8")
    with pytest.raises(Invalid, match="goes with a template"):
        invoke("push", "news.txt")
    Path("people.csv").write_text("email", "utf-8")
    with pytest.raises(Invalid, match=r"is no template: its name must end in \.html"):
        invoke("push", "people.csv")
    with pytest.raises(Invalid, match="not for a file"):
        invoke("preview", "news.html", "--version", "1")


@pytest.mark.parametrize(
    ("toml", "says"),
    [("name = 1", "must be text"), ("inline_css = 'x'", "true or false"), ("nam = 'x'", "unknown key nam"), ("x", "news.toml")],
)
def test_a_bad_toml_is_refused(toml: str, says: str) -> None:
    Path("news.toml").write_text(toml, "utf-8")
    with pytest.raises(Invalid, match=says):
        invoke("push", "news.html")
