"""MJML: template tags come out where they went in, and a mistake names its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from minijinja import Environment

from postroom.entrypoints.cli.send import read_template
from postroom.errors import Invalid, TooLarge
from postroom.templates import mjml
from postroom.templates.lexer import take_apart
from postroom.templates.mjml import MAX_ELEMENTS, MAX_SOURCE, _check, compile_mjml, is_mjml


def page(body: str, head: str = "") -> str:
    return f"<mjml>\n<mj-head>{head}</mj-head>\n<mj-body>\n{body}\n</mj-body>\n</mjml>"


def column(content: str) -> str:
    return f"<mj-section><mj-column>{content}</mj-column></mj-section>"


TAGS = page(
    "{% if a < b and c > d %}"
    + column('<mj-text>Hi {{ name|default("x & \\"y\\"") }}<br>{% for i in l %}<p>{{ i }}</p>{% endfor %}</mj-text>')
    + "{% else %}"
    + column('<mj-button href="https://a.example/?u={{ id }}&amp;v=1" background-color="{{ colour }}">{{ label }}</mj-button>')
    + "{% endif %}"
    + column("<mj-table>{% for i in l %}<tr><td>{{ i }}</td></tr>{% endfor %}</mj-table>{# <mj-nothing> #}"),
    head="<mj-title>{{ title }}</mj-title><mj-preview>{{ preview }}</mj-preview>",
)
VALUES = {
    "name": "Anna",
    "l": [1, 2],
    "id": "7",
    "colour": "#123456",
    "label": "Go",
    "title": "T",
    "preview": "P",
    "c": 5,
    "d": 4,
}


def test_tags_survive_between_elements_in_attributes_and_in_text() -> None:
    html = compile_mjml(TAGS)
    first = Environment().render_str(html, a=1, b=2, **VALUES)
    assert "Hi Anna<br>" in first.replace("<br />", "<br>")
    assert "<p>1</p><p>2</p>" in first
    assert "<td>1</td>" in first
    assert "https://a.example" not in first
    second = Environment().render_str(html, a=2, b=2, **VALUES)
    assert 'href="https://a.example/?u=7&amp;v=1"' in second
    assert "#123456" in second
    assert "Hi" not in second
    assert "zqtag" not in html


def test_a_section_in_a_condition_keeps_its_whole_markup() -> None:
    """Outlook's ghost tables stand outside of the section: a condition around the section must hold them too."""
    html = compile_mjml(page("{% if x %}" + column("<mj-text>a</mj-text>") + "{% endif %}"))
    begin, end = html.index("{% if x %}"), html.index("{% endif %}")
    assert html.count("<!--[if mso") - html[begin:end].count("<!--[if mso") <= 2  # those of the head
    assert html[begin:end].count("<table") == html[begin:end].count("</table>")
    assert html[:begin].count("<table") == html[:begin].count("</table>") == 0


def test_text_that_looks_like_a_tag_stays_text() -> None:
    html = compile_mjml(page(column("<mj-text>{% raw %}{{ name }}{% endraw %} zqtag0z</mj-text>")))
    assert "{{ name }} zqtag0z" in Environment().render_str(html)


def test_nothing_is_fetched() -> None:
    assert "fonts.googleapis.com" not in compile_mjml(page(column("<mj-text>x</mj-text>")))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<mjml>\n<mj-body>\n<mj-section>\n</mj-body></mjml>", "line 4: </mj-body> closes nothing: <mj-section> of line 3"),
        ("<mjml>\n<mj-body>", "line 2: <mj-body> is never closed"),
        (page("\n<mj-foo></mj-foo>"), "line 5: there is no element <mj-foo>"),
        (page("<mj-include path='/etc/passwd' ></mj-include>"), "line 4: <mj-include>"),
        (page("{{ x\n}}\n<mj-section>"), "line 7: </mj-body> closes nothing: <mj-section> of line 6"),
        (page("{% if x %}"), "MJML template"),
        (page(column("\n{{ x|nosuch }}")), "line 5: the filter nosuch"),
        ("<html></html>", "line 1: MJML begins with <mjml>"),
        ("", "line 1: MJML begins with <mjml>"),
        (page(column("<mj-text>x</mj-text>"), head="\n<mj-title {{ x }}>t</mj-title>"), "MJML template"),
    ],
)
def test_a_mistake_names_its_line(source: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        compile_mjml(source)
    assert words in str(caught.value)
    assert "zqtag" not in str(caught.value)


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        ("<mj-wrapper>", "</mj-wrapper>"),
        ("<mj-section><mj-column><mj-text><div>", "</div></mj-text></mj-column></mj-section>"),
        ("<div><!--[if mso]><i></div></i><![endif]-->", ""),
        ("<textarea><div>", "</div></textarea>"),
    ],
)
def test_elements_so_deep_that_the_compiler_would_overflow_its_stack_are_refused(begin: str, end: str) -> None:
    """The process would be gone, so the check alone is asked."""
    with pytest.raises(Invalid, match=r"line 4: elements nested more than 50 deep"):
        _check(take_apart(page(begin * 3_000 + end * 3_000), part="MJML template"))


def test_as_deep_as_any_real_template_goes_compiles() -> None:
    assert "deep" in compile_mjml(page(column("<mj-text>" + "<div>" * 40 + "deep" + "</div>" * 40 + "</mj-text>")))


def test_a_template_named_html_is_compiled_if_it_begins_with_mjml(tmp_path: Path) -> None:
    source = tmp_path / "news.html"
    source.write_text("<!-- spring -->\n" + page(column("<mj-text>x</mj-text>")))
    assert "<mjml" not in read_template(source)
    source.write_text("<p>How to write &lt;mjml>: <mjml></p>")
    assert read_template(source) == source.read_text()
    (tmp_path / "news.mjml").write_text("<p>x</p>")
    with pytest.raises(Invalid, match="begins with <mjml>"):
        read_template(tmp_path / "news.mjml")


def test_mjml_is_told_from_html() -> None:
    assert is_mjml("\ufeff<?xml version='1.0'?>\n<!-- c --><mjml lang='en'></mjml>")
    assert not is_mjml("<!doctype html><html><mjml>")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (page(column("<mj-text>" + "h " * (MAX_SOURCE // 2) + "</mj-text>")), f"may have {MAX_SOURCE}"),
        (
            page("\n".join([column("<mj-text>Hi</mj-text>")] * (MAX_ELEMENTS // 3))),
            f"line 1669: more than {MAX_ELEMENTS} elements",
        ),
        (page(column("<mj-text>" + "<br>" * MAX_ELEMENTS + "</mj-text>")), f"line 4: more than {MAX_ELEMENTS} elements"),
        (page(column("<mj-text>" + "< " * 60_000 + "</mj-text>")), "times <"),
    ],
)
def test_what_would_take_long_is_refused_before_it_is_compiled(source: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mjml, "mjml2html", None)
    with pytest.raises(TooLarge) as refused:
        compile_mjml(source)
    assert said in str(refused.value)


def test_a_long_newsletter_is_not_refused() -> None:
    assert compile_mjml(page("\n".join([column("<mj-text>Hi {{ name }}</mj-text>")] * 400))).count("{{ name }}") == 400
