"""Templates taken apart: what is put together again renders as the original did, white space and all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minijinja import Environment

from postroom.errors import Invalid
from postroom.templates.lexer import Tag, cleaned, take_apart

VALUES = {"x": "X", "y": " Y ", "n": 2}
literal = st.text(alphabet=" \t\n.{}%#-+<é\u00a0\u2003\x85", max_size=6).filter(
    lambda text: not any(opening in text for opening in ("{{", "{%", "{#")) and not text.endswith("{")
)
signs = st.sampled_from(["", "-", "+"])


def wrapped(opening: str, closing: str, bodies: list[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda left, body, right: f"{opening}{left} {body} {right}{closing}", signs, st.sampled_from(bodies), signs)


outputs = wrapped(
    "{{", "}}", ["x", "y|trim", "{'a': {'b': n}}.a.b", "'}}' ~ \"%}\" ~ x", "[n, [n]][1][0]", "x if n else y", "'{#'"]
)
comments = st.builds(
    lambda left, right: f"{{#{left} {{{{ x }}}} {right}#}}", st.sampled_from(["", "-"]), st.sampled_from(["", "-"])
)
opening_if, closing_if = wrapped("{%", "%}", ["if n == 2", "if x == '%}'"]), wrapped("{%", "%}", ["endif"])
loops, ends = wrapped("{%", "%}", ["for i in range(n)"]), wrapped("{%", "%}", ["endfor"])
raws = st.builds(
    lambda a, b, text, c, d: f"{{%{a} raw {b}%}}{text}{{{{ raw }}}}{text}{{%{c} endraw {d}%}}",
    signs,
    signs,
    literal,
    signs,
    signs,
)
pieces = st.one_of(literal, outputs, comments, raws)


@st.composite
def templates(draw: st.DrawFn) -> str:
    parts = [draw(literal)]
    for _ in range(draw(st.integers(0, 4))):
        inside = draw(pieces) + draw(literal)
        kind = draw(st.integers(0, 2))
        if kind == 1:
            inside = draw(opening_if) + draw(literal) + inside + draw(closing_if)
        elif kind == 2:
            inside = draw(loops) + inside + draw(literal) + draw(ends)
        parts += [inside, draw(literal)]
    return "".join(parts)


@given(templates())
@settings(max_examples=300)
def test_a_template_put_together_again_renders_the_same(source: str) -> None:
    source = cleaned(source)
    environment = Environment(keep_trailing_newline=True)
    again = take_apart(source, part="t").source()
    assert environment.render_str(again, **VALUES) == environment.render_str(source, **VALUES)


@given(st.text(alphabet="{}%#-+ '\"\\xif\n", max_size=40))
def test_any_text_is_taken_apart_or_refused(source: str) -> None:
    refused, tags, pieces_of_tags = "", [], []
    try:
        skeleton = take_apart(source, part="t")
        tags, pieces_of_tags = skeleton.tags, [piece for piece in skeleton.pieces() if isinstance(piece, Tag)]
    except Invalid as problem:
        refused = str(problem)
    assert not refused or refused.startswith("t, line ")
    assert pieces_of_tags == tags


@pytest.mark.parametrize(("source", "lines"), [("{{ a }}\n{{ b }}", [1, 2]), ("{#\n\n#}{{ a\n}}\n\n{{ b }}", [3, 6])])
def test_tags_know_the_line_they_were_written_on(source: str, lines: list[int]) -> None:
    assert [tag.line for tag in take_apart(source, part="t").tags] == lines


def test_control_characters_and_foreign_line_ends_are_cleaned_away() -> None:
    assert cleaned("\ufeffa\r\nb\rc\x00d\x01\x02e\tf") == "a\nb\ncde\tf"
