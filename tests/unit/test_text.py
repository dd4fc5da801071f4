"""The derived text part: what a reader of the HTML sees, in plain text, with the template's tags still at work."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from minijinja import Environment

from postroom.errors import Invalid
from postroom.templates.lexer import Skeleton, Tag, TagKind, take_apart
from postroom.templates.safety import measure
from postroom.templates.text import derive_text


def text_of(html: str, **values: object) -> str:
    """Derived, then rendered."""
    skeleton = derive_text(take_apart(html, part="html"))
    source = "".join(piece.source if isinstance(piece, Tag) else piece for piece in skeleton.pieces())
    return Environment(keep_trailing_newline=True).render_str(source, **values)


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two</p>", "One\n\nTwo\n"),
        ("<p>One<br>two<br><br>three</p>", "One\ntwo\n\nthree\n"),
        ("<h1>Head</h1>text", "Head\n\ntext\n"),
        ("a <b>b</b>c\n\n  d&nbsp;&amp;&eacute;", "a bc d &é\n"),
        ('<a href="https://a.example/x">here</a>.', "here (https://a.example/x).\n"),
        ('<a href="https://a.example/">a.example</a>', "a.example\n"),
        ('<a href="mailto:x@a.example">x@a.example</a>', "x@a.example\n"),
        ('<a href="mailto:x@a.example">Write</a>', "Write (x@a.example)\n"),
        ('<a href="#top">Top</a>', "Top\n"),
        ('<a href="https://a.example/"><img src="x.png" alt="Shop"></a>', "Shop (https://a.example/)\n"),
        ('<a href="https://a.example/"><img src="x.png"></a>', "https://a.example/\n"),
        ("<ul><li>a</li><li>b<ul><li>c</li></ul></li></ul>d", "- a\n- b\n  - c\n\nd\n"),
        ("<ol><li>a<li>b</ol>", "1. a\n2. b\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a  b\nc\n"),
        ("<head><title>T</title><style>p{}</style></head><body>x<script>y</script></body>", "x\n"),
        ('<div style="display:none">preheader</div><p>x</p>', "x\n"),
        ('<div style="max-height: 0; overflow:hidden"><b>pre</b>header</div>x', "x\n"),
        ('<div style="max-height:0.5em">x</div>', "x\n"),
        ("<div hidden>no</div>x<!-- no -->", "x\n"),
        ("<!--[if mso]>no<![endif]--><!--[if !mso]><!-->yes<!--<![endif]-->", "yes\n"),
        ("<pre>a\n  b</pre>", "a\n  b\n"),
        ("a<hr>b", "a\n\n" + "-" * 40 + "\n\nb\n"),
        ("soft&shy;hyphen zero&#8203;width", "softhyphen zerowidth\n"),
        ("", "\n"),
    ],
)
def test_markup_becomes_text(html: str, text: str) -> None:
    assert text_of(html) == text


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>Hi {{ name }},</p><p>x</p>", "Hi A & B,\n\nx\n"),
        ('<a href="https://a.example/{{ name|urlencode }}">go</a>', "go (https://a.example/A%20%26%20B)\n"),
        ('<a href="{% if yes %}https://y.example{% else %}https://n.example{% endif %}">go</a>', "go (https://y.example)\n"),
        ("<ul>{% for i in items %}<li>{{ i }}</li>{% endfor %}</ul><p>x</p>", "- 1\n- 2\n\nx\n"),
        ("<ol>{% for i in items %}<li>{{ i }}</li>{% endfor %}</ol>x", "- 1\n- 2\n\nx\n"),
        ("<p>a</p><p>{% if no %}b{% else %}c{% endif %}</p>", "a\n\nc\n"),
        ("<p>a</p>{% if no %}<p>b</p>{% endif %}<p>c</p>", "a\n\nc\n"),
        ('<p {% if no %}class="x"{% endif %}>a</p>', "a\n"),
        ("<head>{% set who = name %}</head><body>{{ who }}</body>", "A & B\n"),
        ("<!-- {% if no %} --><p>b</p><!-- {% endif %} --><p>c</p>", "c\n"),
        ('<div style="display:none">{{ missing.deeply }}</div>x', "x\n"),
        ('<img alt="Logo of {{ name }}">', "Logo of A & B\n"),
        ("<p>{% raw %}{{ not a tag }}{% endraw %}</p>", "{{ not a tag }}\n"),
    ],
)
def test_tags_go_on_working(html: str, text: str) -> None:
    if "raw" in html:
        assert derive_text(take_apart(html, part="html")).text == text
    else:
        assert text_of(html, name="A & B", yes=True, no=False, items=[1, 2]) == text


@given(st.lists(st.sampled_from(["<p>", "</p>", "<ul>", "<li>", "</a>", "<a href='x'>", "<div hidden>", "</div>", "t", "<!--", "-->", "{% if x %}", "{% endif %}", "{{ x }}", "<td", ">", '"'])))  # fmt: skip
def test_block_tags_outside_of_start_tags_are_never_lost(pieces: list[str]) -> None:
    """Else a condition would lose its end. (Whatever is not balanced is refused before.)"""
    skeleton = take_apart("".join(pieces), part="html")
    try:
        derived = derive_text(skeleton)
    except Invalid as refused:
        if "is never closed" not in str(refused):
            raise
        return
    kept, there = blocks(derived), blocks(skeleton)
    assert len(kept) <= len(there)
    if "<td" not in pieces and "<!--" not in pieces:
        assert kept == there


def blocks(skeleton: Skeleton) -> list[str]:
    return [piece.word for piece in skeleton.pieces() if isinstance(piece, Tag) and piece.kind is TagKind.BLOCK]


def test_the_derived_template_is_measured_like_any_other() -> None:
    derived = derive_text(take_apart("<p>{% for i in x %}{{ i }}{% endfor %}</p>", part="html"))
    assert measure(derived, part="text").loops
