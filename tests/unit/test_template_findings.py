"""What is wrong with a template is said with its part, line, column, and what to do; what is fine is not complained about."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postroom.delivery.compose import ContentCompiler
from postroom.model.template import Language, Severity, TemplateFinding, TemplateSource
from postroom.services.template_checks import TemplateRefused, check, tidy
from tests.fakes.clock import ManualClock
from tests.unit.template_kit import open_templates

LEAVE = '{% if unsubscribe_url %}<a href="{{ unsubscribe_url }}">Off</a>{% endif %}'
REAL = sorted((Path(__file__).parents[1] / "data/templates").iterdir())


class Checker:
    """Checks templates on an installation with a public address."""

    def __init__(self, composing: ContentCompiler, clock: ManualClock) -> None:
        self._composing = composing
        self._clock = clock

    def source(self, body: str, *, subject: str = "News", text: str | None = None) -> TemplateSource:
        language = Language.MJML if body.lstrip().startswith("<mjml") else Language.HTML
        return tidy(TemplateSource(subject=subject, language=language, body=body, text=text))

    def variables(self, body: str, **more: str) -> dict[str, bool]:
        checked = check(self.source(body, **more), "default", composing=self._composing, clock=self._clock)
        return dict(checked.variables)

    def findings(self, body: str, *, subject: str = "News", text: str | None = None) -> tuple[TemplateFinding, ...]:
        try:
            source = self.source(body, subject=subject, text=text)
            return check(source, "default", composing=self._composing, clock=self._clock).findings
        except TemplateRefused as refused:
            return refused.found

    def places(self, body: str, **more: str) -> list[tuple[str, str, int | None, int | None]]:
        return [(f.code, f.part, f.line, f.column) for f in self.findings(body, **more)]


@pytest.fixture
def checker(tmp_path: Path) -> Iterator[Checker]:
    with open_templates(tmp_path) as home:
        yield Checker(home.composing(), home.clock)


def page(body: str) -> str:
    return f"<mjml>\n<mj-body>\n<mj-section><mj-column>\n{body}\n<mj-text>{LEAVE}</mj-text></mj-column></mj-section>\n</mj-body>\n</mjml>"


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_templates_have_no_errors(checker: Checker, path: Path) -> None:
    findings = checker.findings(path.read_text("utf-8"))
    assert [finding for finding in findings if finding.severity is Severity.ERROR] == []


def test_a_template_with_nothing_wrong_has_no_findings(checker: Checker) -> None:
    body = (
        '<h1>News</h1><p><img src="cid:logo.png" alt=""><img src="https://a.example/x.png" alt="X">'
        '<a href="https://a.example/{{ id }}">Read</a> <a href="{{ link }}"><img src="{{ src }}" alt="Go"></a> <a name="x"></a>'
        '<a href="mailto:a@a.example">Mail</a> <a href="#x">Up</a> <a href="tel:+123">Call</a>'
        "<!-- <img src=http://a.example/> --></p>" + LEAVE
    )
    assert checker.findings(body) == ()
    assert checker.findings(page('<mj-image src="https://a.example/x.png" alt="X" /><mj-text>Hi</mj-text>')) == ()


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("<p>\n  {{ a|nonsense }}", ("unknown-word", "html", 2, 8)),
        ("<p>\n {{ nonsense(a) }}", ("unknown-word", "html", 2, 5)),
        ("<p>\n\n  {% include 'x' %}", ("unknown-word", "html", 3, 3)),
        ("<p>\n  {% if a %}", ("syntax", "html", 2, None)),
        ("<p>\n  {{ a", ("syntax", "html", 2, 3)),
        ("<p>\n <b class=\"x>", ("syntax", "html", 2, 2)),
        ("<p>{# a\nb #}\n<!-- x", ("syntax", "html", 3, None)),
        ("<p>\n{{ a is nonsense }}", ("unknown-word", "html", 2, None)),
        ("<mjml>\n<mj-body>\n <mj-nonsense></mj-nonsense></mj-body></mjml>", ("mjml", "mjml", 3, 2)),
        ("<mjml>\n<mj-body>\n <mj-section></mj-body></mjml>", ("mjml", "mjml", 3, None)),
        (page("<mj-text>{{ a|nonsense }}</mj-text>"), ("unknown-word", "mjml", 4, 15)),
        (page("<mj-text>\n{{ a is nonsense }}</mj-text>"), ("unknown-word", "mjml", 5, None)),
        (page("{{ a }}"), None),
        ("<mjml>\n<mj-head>{{ a }}</mj-head><mj-body></mj-body></mjml>", ("mjml", "mjml", 2, None)),
        ("<mjml>\n<mj-body>\n<mj-include path='x'/></mj-body></mjml>", ("unknown-word", "mjml", 3, 1)),
    ],
)  # fmt: skip
def test_errors_are_where_they_say(checker: Checker, body: str, place: tuple[str, str, int, int | None] | None) -> None:
    errors = [finding for finding in checker.findings(body) if finding.severity is Severity.ERROR]
    if place is None:
        assert errors == []
        return
    (error,) = errors
    assert (error.code, error.part, error.line) == place[:3]
    assert place[3] in (None, error.column)


def test_what_grows_too_large_when_it_is_compiled_has_no_line(checker: Checker) -> None:
    section = "<mj-section><mj-column><mj-text>x</mj-text></mj-column></mj-section>"
    found = checker.findings(f"<mjml><mj-body>{section * 1_000}</mj-body></mjml>")[-1]
    assert (found.code, found.part, found.line, found.column) == ("too-large", "mjml", None, None)


def test_errors_in_subject_and_text_name_their_part(checker: Checker) -> None:
    assert checker.places("<p>", subject="{{ a|nonsense }}", text="ok\n {{ b") == [
        ("unknown-word", "subject", 1, 6),
        ("syntax", "text", 2, 2),
    ]
    (found,) = checker.findings("<p>", subject="x" * 2_001)
    assert (found.code, found.severity) == ("too-large", Severity.ERROR)


@pytest.mark.parametrize(
    ("body", "code", "column"),
    [
        ('<p>x</p> <img src="https://a.example/x.png">', "image-without-alt", 10),
        ('{{ a }} {# comment #} <img src="http://a.example/x.png" alt="x">', "insecure-image", 23),
        ('<table background="http://a.example/x.png"></table>', "insecure-image", 1),
        ('{% if a %}  {%- endif %}<a href="HTTP://a.example">x</a>', "insecure-link", 25),
        ('{% raw %}{{ x }}{% endraw %}<a href="http://{{ a }}.example">x</a>', "insecure-link", 29),
        ('<a href="https://a.example"> &nbsp; <img src="https://a.example/x.png" alt=""></a>', "link-without-text", 1),
        ('<a href="javascript:alert(1)">x</a>', "active-content", 1),
        ('<a href=" java\tscript:alert(1)">x</a>', "active-content", 1),
        ('<p onclick="x()">x</p>', "active-content", 1),
        ("<p><script>x</script></p>", "active-content", 4),
        ("<p><input name=a></p>", "form", 4),
        ('<link rel="stylesheet" href="https://a.example/x.css">', "external-style", 1),
        ('<a href="/news">x</a>', "relative-address", 1),
        ('<a href="www.a.example/{{ x }}">x</a>', "relative-address", 1),
        ('<img src="x.png" alt="x">', "relative-address", 1),
        ('<a href="#">x</a>', "placeholder-link", 1),
        ('<a href="">x</a>', "placeholder-link", 1),
    ],
)
def test_what_readers_would_not_see_is_warned_about_at_its_place(checker: Checker, body: str, code: str, column: int) -> None:
    assert checker.places(f"<p>\n{body}\n{LEAVE}") == [(code, "html", 2, column)]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('<mj-image src="https://a.example/x.png" />', "image-without-alt"),
        ('<mj-image src="http://a.example/x.png" alt="x" />', "insecure-image"),
        ('<mj-button href="http://a.example">x</mj-button>', "insecure-link"),
        ('<mj-text><a href="#">x</a></mj-text>', "placeholder-link"),
    ],
)
def test_mjml_is_read_where_its_author_wrote_it(checker: Checker, body: str, code: str) -> None:
    ((found, part, line, column),) = checker.places(page(body))
    assert (found, part, line) == (code, "mjml", 4)
    assert column == (10 if "mj-text" in body else 1)


def test_the_whole_is_looked_at_too(checker: Checker) -> None:
    assert checker.places("<p>x</p>") == [("no-unsubscribe", "html", None, None)]
    assert checker.places("<p>" + "x" * 105_000 + LEAVE) == [("clipped", "html", None, None)]
    assert checker.places("<p>" + LEAVE, subject=" ") == [("missing-subject", "subject", None, None)]
    assert checker.places("<p>" + LEAVE, subject="x" * 121) == [("long-subject", "subject", None, None)]
    assert checker.places("<p>" + LEAVE, subject="{{ " + " ~ ".join(["a"] * 60) + " }}") == []


def test_a_loop_that_makes_it_too_long_is_found_by_rendering(checker: Checker) -> None:
    body = "{% for i in range(900) %}<p>" + "x" * 200 + "</p>{% endfor %}" + LEAVE
    assert [code for code, *_ in checker.places(body)] == ["clipped"]


def test_styles_that_stay_in_the_sheet_are_a_warning_at_the_place(checker: Checker) -> None:
    body = "<style>p{color:red}</style>\n{% if a %}\n <div>{% endif %}<p>x</p>" + LEAVE
    assert checker.places(body) == [("not-inlined", "html", 3, 7)]


def test_no_flood_of_findings(checker: Checker) -> None:
    assert len(checker.findings("<img>" * 1_000 + LEAVE)) == 100


def test_variables_are_required_unless_the_template_does_without(checker: Checker) -> None:
    body = (
        '{{ a }}{{ b|default("x") }}{% if c %}{{ c }}{% endif %}{% if d == "1" %}{{ e }}{% endif %}'
        "{% for x in f|default('')|split(',') %}{{ x }}{{ loop.index }}{% endfor %}{{ email }}" + LEAVE
    )
    expected = {"a": True, "b": False, "c": False, "d": False, "e": True, "f": False, "s": True, "t": True}
    assert checker.variables(body, subject="{{ s }}", text="{{ t }}") == expected
