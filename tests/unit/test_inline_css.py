"""Styles move into elements; template tags stay where and what they were, and rendering shows no difference."""

from __future__ import annotations

from pathlib import Path

import pytest
from css_inline import CSSInliner
from hypothesis import given, settings
from hypothesis import strategies as st
from minijinja import Environment

from postroom.templates import markup
from postroom.templates.inline_css import inline_css
from postroom.templates.lexer import Skeleton, cleaned, take_apart
from postroom.templates.mjml import compile_mjml

ROOT = Path(__file__).parents[2]
REAL = sorted(
    [*(ROOT / "tests/data/templates").glob("*"), *(ROOT / "examples").glob("*.html"), *(ROOT / "examples").glob("*.mjml")]
)


def html_of(path: Path) -> str:
    source = path.read_text("utf-8")
    return compile_mjml(source) if path.suffix == ".mjml" else source


def page(css: str, body: str) -> str:
    return f"<html><head><style>{css}</style></head><body>{body}</body></html>"


def body_of(css: str, body: str) -> str:
    """The body after inlining."""
    return inline_css(page(css, body)).html.partition("<body>")[2].removesuffix("</body></html>")


def why(source: str) -> str:
    return " / ".join(left.why for left in inline_css(source).left)


def tags_of(source: str) -> list[str]:
    """In order; without the braces of `raw` blocks, which are written as tags."""
    return [tag.source for tag in take_apart(cleaned(source), part="HTML").tags if tag.body != '"{"']


def without_styles(html: str) -> str:
    """The markup, its `style` attributes taken off."""
    skeleton = take_apart(cleaned(html), part="HTML")
    out, copied = [], 0
    for piece in markup.pieces(skeleton, part="HTML"):
        if piece.kind is markup.PieceKind.START:
            for found in markup.attributes(skeleton.text, piece):
                if found.name == "style":
                    out.append(skeleton.text[copied : found.start].rstrip())
                    copied = found.end
    return skeleton.with_text("".join(out) + skeleton.text[copied:]).source()


def styles_of(html: str) -> list[tuple[str, dict[str, str]]]:
    """Each element of rendered HTML and what its `style` attribute comes to."""
    found = []
    for piece in markup.pieces(Skeleton(html, []), part="HTML"):
        if piece.kind is markup.PieceKind.START and piece.name not in ("html", "head", "body", "style", "tbody"):
            values = {a.name: markup.unescaped(a.value) for a in markup.attributes(html, piece)}
            found.append((piece.name, effective(values.get("style", ""))))
    return found


def effective(style: str) -> dict[str, str]:
    """What is left when each declaration has replaced the ones that it may replace."""
    result: dict[str, str] = {}
    for name, _, value in (one.partition(":") for one in style.split(";") if one.strip()):
        if "!important" in value or "!important" not in result.get(name.strip(), ""):
            result[name.strip()] = value.strip()
    return result


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_real_templates_keep_every_tag_and_all_markup_but_styles(path: Path) -> None:
    source = html_of(path)
    inlined = inline_css(source)
    assert tags_of(inlined.html) == tags_of(source)
    assert without_styles(inlined.html) == without_styles(source)


def test_the_real_templates_are_there() -> None:
    assert len(REAL) >= 9


NAMES = st.sampled_from(["a", "b", "c"])
OUTPUTS = st.sampled_from(
    ['{{ x|default("<&>") }}', "{{ x }}", "{{ loop.index if loop else 1 }}", "{# c #}", "text", "&nbsp;", "&lt; <br/>"]
)
ATTRIBUTES = st.sampled_from(
    [
        "",
        ' class="a"',
        " class=b",
        ' class="a c"',
        ' class="{{ k }}"',
        ' id="i"',
        " title=\"{% if a < b %}x{% else %}'y'{% endif %}\"",
        ' style="color: {{ x }}"',
        " style='width:1px'",
        ' {% if x %}class="a"{% endif %}',
        ' href="{{ x }}?a=1&b=2"',
    ]
)
CSS = st.lists(
    st.tuples(
        st.sampled_from(
            ["p", ".a", "#i", "td", "div p", "div > p", "p.a, td.b", "tr .c", "[title]", "*", ".a:hover", "p:first-child"]
        ),
        st.sampled_from(
            [
                "color:red",
                "color:blue !important",
                "padding:0;padding-left:2px",
                "padding:4px",
                'font-family:"A B",c',
                "width:{{ x }}",
            ]
        ),
    ),
    max_size=5,
).map(
    lambda rules: "".join(f"{selector} {{ {body} }}\n" for selector, body in rules) + "@media x { p { color: green !important } }"
)


def _wrapped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, max_size=3).map("".join)
    return st.one_of(
        st.builds("<p{}>{}</p>".format, ATTRIBUTES, several),
        st.builds("<div{}>{}</div>".format, ATTRIBUTES, several),
        st.builds(
            "<table>{{% for i in l %}}<tr{}><td{}>{}</td></tr>{{% endfor %}}</table>".format, ATTRIBUTES, ATTRIBUTES, several
        ),
        st.builds("{{% if a < b %}}{}{{% else %}}{}{{% endif %}}".format, several, several),
        st.builds("<!--[if mso]><table><tr><td><![endif]-->{}<!--[if mso]></td></tr></table><![endif]-->".format, several),
        st.builds("<b>{}".format, several),
        st.builds("{{% if x %}}<div>{{% endif %}}{}</div>".format, several),
    )


BODIES = st.lists(st.recursive(OUTPUTS, _wrapped, max_leaves=12), max_size=4).map("".join)


@given(CSS, BODIES)
@settings(max_examples=150, deadline=None)
def test_inlining_changes_nothing_but_styles(css: str, body: str) -> None:
    source = page(css, body)
    inlined = inline_css(source).html
    assert tags_of(inlined) == tags_of(source)
    assert without_styles(inlined) == without_styles(source)


PLAIN_ATTRIBUTES = st.sampled_from(
    ["", ' class="a"', " class=b", ' id="i"', ' title="t" lang="{{ x }}"', ' style="color: {{ x }}"', ' style="width:1px"']
)
PLAIN_CSS = st.lists(
    st.tuples(
        st.sampled_from(["p", ".a", "#i", "td", "div p", "div > p", "p.a", "tr .c", "[title]", "*", "div.a p"]),
        st.sampled_from(["color:red", "color:blue !important", "padding-left:2px", "margin:4px", "font-family:'A B',c"]),
    ),
    max_size=6,
).map(lambda rules: "".join(f"{selector} {{ {body} }}\n" for selector, body in rules))


def _plain(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    several = st.lists(inner, max_size=3).map("".join)
    return st.one_of(
        st.builds("<div{}>{}</div>".format, PLAIN_ATTRIBUTES, several),
        st.builds("<p{}>x{{{{ x }}}}</p>".format, PLAIN_ATTRIBUTES),
        st.builds("<table>{{% for i in l %}}<tr><td{}>{}</td></tr>{{% endfor %}}</table>".format, PLAIN_ATTRIBUTES, several),
        st.builds("{{% if a < b %}}{}{{% else %}}{}{{% endif %}}".format, several, several),
    )


@given(PLAIN_CSS, st.lists(st.recursive(st.just("{{ x }}"), _plain, max_leaves=12), max_size=4).map("".join))
@settings(max_examples=150, deadline=None)
def test_rendering_what_was_inlined_is_inlining_what_was_rendered(css: str, body: str) -> None:
    """By css-inline itself, which merges declarations on its own."""
    source = page(css, body)
    rendered = {"x": "7", "l": [1, 2], "a": 1, "b": 2}
    inlined = inline_css(source)
    assert inlined.left == ()
    ours = styles_of(Environment().render_str(inlined.html, **rendered))
    theirs = styles_of(CSSInliner(load_remote_stylesheets=False).inline(Environment().render_str(source, **rendered)))
    assert ours == theirs


@pytest.mark.parametrize(
    ("css", "body", "expected"),
    [
        ("p{color:red}", "<p>x</p>", '<p style="color: red">x</p>'),
        ("p{color:red}", "<p style='width:{{ w }}'>x</p>", '<p style="color: red; width:{{ w }}">x</p>'),
        ("p{color:red}", '<p style="color:blue">x</p>', None),
        ("p{color:red !important}", '<p style="color:blue">', '<p style="color: red !important; color:blue">'),
        ("#i{color:red} .a{color:blue} p{color:green}", '<p id=i class="a">', '<p style="color: red" id=i class="a">'),
        (".a{color:blue} .a{color:red}", '<p class="a">', '<p style="color: red" class="a">'),
        ("p{color:blue !important} .a{color:red}", '<p class="a">', '<p style="color: blue !important" class="a">'),
        ("p{padding:0;padding-left:3px} .a{padding:4px}", '<p class="a">', '<p style="padding-left: 3px; padding: 4px" class="a">'),
        ("p{background:red;background:linear-gradient(a,b)}", "<p>", '<p style="background: red; background: linear-gradient(a,b)">'),
        ('p{font-family:"A;}B"; /* } */ width:url(a;b)}', "<p>", "<p style=\"font-family: 'A;}B'; width: url(a;b)\">"),
        ("a:link{color:red}", "<a href=x>y</a>", '<a style="color: red" href=x>y</a>'),
        ("p{a b:c;:d;x:;color:red;*zoom:1}", "<p>", '<p style="color: red">'),
        ("p:nth-child(2){color:red}", "<p>1</p><p>2</p>", '<p>1</p><p style="color: red">2</p>'),
        ("@import url(x.css);p{color:red}", "<p>", '<p style="color: red">'),
        ("td{color:red}", "<table><tr><td>{{ x }}<td>y</table>", '<table><tr><td style="color: red">{{ x }}<td style="color: red">y</table>'),
    ],
)  # fmt: skip
def test_the_cascade_is_that_of_a_browser(css: str, body: str, expected: str | None) -> None:
    assert body_of(css, body) == (body if expected is None else expected)


def test_what_only_a_mail_reader_can_decide_stays_in_the_sheet() -> None:
    css = "p:hover{color:red} p::before{content:'x'} @media print{p{color:blue}} a:visited{color:red}"
    source = page(css, "<p><a href=x>y</a></p>")
    assert inline_css(source).html == source


@pytest.mark.parametrize(
    ("css", "body"),
    [
        (".a{color:red} p{width:1px}", '<p class="{{ k }}">x</p>'),
        (".a p{color:red}", '<div {% if x %}class="a"{% endif %}><p>x</p></div>'),
        ("[title=x]{color:red} p{width:1px}", '<p title="{{ k }}">x</p>'),
        ("p{color:red}", "<p {{ k }}>x</p>"),
        ("p{color:red}", '<p {% if x %}style="width:1px"{% endif %}>x</p>'),
        ("p{color:{{ k }}}", "<p>x</p>"),
        (".a p{color:red} p{color:blue}", "{% macro m() %}<p>x</p>{% endmacro %}<div class=a>{{ m() }}</div>"),
    ],
)
def test_elements_whose_styles_depend_on_a_recipient_are_left_alone(css: str, body: str) -> None:
    assert "<p style=" not in body_of(css, body).replace('<p {% if x %}style="width:1px"{% endif %}>', "")
    assert "depend on template tags" in why(page(css, body)) or css.startswith(".a p{color:red}")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (page("tr:nth-child(odd){color:red}", "<table>{% for i in l %}<tr></tr>{% endfor %}</table>"), "nth-child"),
        (page("p + p{color:red}", "{% if x %}<p>a</p>{% endif %}<p>b</p>"), "depend on what conditions"),
        (page("p{color:red}", "{% if x %}<div>{% endif %}<p>a</p></div>"), "on one side of"),
        (page("td{color:red}", "<table><tr>{% for i in l %}</tr><tr>{% endfor %}</tr></table>"), "on one side of"),
        (page("p{color:{% if x %}red{% endif %}}", "<p>"), "conditions or loops"),
        ("{% if x %}<style>p{color:red}</style>{% endif %}<p>x</p>", "conditions or loops"),
        (page(".{{ k }}{color:red}", "<p>"), "in a selector"),
        (page("p{color:red;a{b:c}}", "<p>"), "inside the rule"),
        (page("p{color:red", "<p>"), "never closed"),
        (page("p{color:red}}", "<p>"), "closes nothing"),
        (page("p{color:red}", '<p title="{% if x %}">a</p>{% endif %}'), "middle of the tag"),
        (page("p{color:red}", "<div>" * 100_000), "300 deep"),
        (page("p{color:red}", "<p>" + "<b>" * 60 + "</p>"), "never closed"),
        (page("p{color:red}", "<p>" + "<b>" * 40 + "</p>" + "<p>x</p>" * 20_000), "too many"),
        (page("p{color:red}" * 10_000, "<p>" * 20), "too many"),
        (page("p{a:" + "x" * 400_000 + ";b:c}", "<p>x</p>" * 1_000), "more than 1000000"),
    ],
)  # fmt: skip
def test_a_template_whose_elements_cannot_be_told_apart_stays_as_it_is_and_says_why(source: str, says: str) -> None:
    assert inline_css(source).html == source
    assert says in why(source)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('<p style="a:b" style="c:d;;x">x</p>', '<p style="color: red; a:b" style="c:d;;x">x</p>'),
        ('<p style="a:b" STYLE="}">x</p>', '<p style="color: red; a:b" STYLE="}">x</p>'),
        ('<p data-postroom-n="x">x</p>', '<p style="color: red" data-postroom-n="x">x</p>'),
        ("<p style>x</p>", '<p style="color: red">x</p>'),
        ("<p style=''>x</p>", '<p style="color: red">x</p>'),
        ("<p/>x", '<p style="color: red"/>x'),
        ("<p\nclass=a>x", '<p style="color: red"\nclass=a>x'),
        ("<P>x</P>", '<P style="color: red">x</P>'),
    ],
)
def test_whatever_a_start_tag_looks_like(body: str, expected: str) -> None:
    assert body_of("p{color:red}", body) == expected


def test_nothing_is_fetched_and_no_sheet_is_read_from_disk(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("p{color:red}")
    source = page("i{color:red}", f'<link rel="stylesheet" href="file://{tmp_path}/a.css"><p>x</p><i>y</i>')
    assert "<p>x</p>" in inline_css(source).html


def test_a_template_without_sheets_is_untouched() -> None:
    source = "{%- if a < b -%} <p>{# c #}</p> {%- endif %}"
    assert inline_css(source).html == source


@pytest.mark.parametrize(
    "source",
    [
        "{% if x %}<div>{% endif %}<p>x</p></div>",
        "<style>@media print { p { color: red } }</style>{% if x %}<div>{% endif %}<p>x</p></div>",
        "<p>" + "<b>" * 1_000,
    ],
)
def test_where_there_is_nothing_to_move_nothing_is_said(source: str) -> None:
    assert inline_css(source) == (source, ())


def test_media_that_would_lose_against_the_elements_is_said() -> None:
    css = "p{color:red;width:1px} @media (max-width:9px) { p { color: blue; width: 2px !important; margin: 0 } }"
    assert why(page(css, "<p>x</p>")) == "in @media, color without !important loses to the styles in the elements"
    assert '<p style="color: red; width: 1px">' in inline_css(page(css, "<p>x</p>")).html
    assert why(page(css, "<b>x</b>")) == ""


def test_what_was_left_is_where_it_says() -> None:
    source = page("i{color:red}", '<p>{{ x }}</p><i class="{{ k }}">y</i>')
    (left,) = inline_css(source).left
    assert take_apart(cleaned(source), part="HTML").text[left.position :].startswith("<i class")
    assert left.why == "the styles of <i> depend on template tags"
