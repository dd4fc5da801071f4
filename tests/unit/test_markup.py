"""Markup is read in one pass: what is never closed is refused with its line, and the work grows with the length alone."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.delivery.tracking import track
from postroom.errors import Invalid, TooLarge
from postroom.templates import markup
from postroom.templates.lexer import Skeleton, take_apart
from postroom.templates.mjml import _check, is_mjml
from postroom.templates.text import derive_text
from tests.unit.composing import compile_it

REPEATED: dict[str, Callable[[int], str]] = {
    "escaped quotes": lambda n: '{{ "' + '\\"' * n,
    "open tags": lambda n: "<a " * n,
    "open scripts": lambda n: "<script " * n,
    "scripts": lambda n: "<script>" * n,
    "quotes": lambda n: '<p title="' * n,
    "wrong ends": lambda n: "<b>" * n + "</i>" * n,
    "links in links": lambda n: "<a href=x>" * n + "</a>" * n,
    "lists in lists": lambda n: "<ul><li>x" * n,
    "open comments": lambda n: "<!--" * n,
    "comments first": lambda n: "<!-- -->" * n + "<mj",
    "comments for Outlook": lambda n: "<!--[if mso]><a href=https://x.example/><![endif]-->" * n,
    "declarations": lambda n: "<![CDATA[" * n,
    "attributes": lambda n: '<a ="x" ' + "a=\"x' " * n + ">",
    "links around filters": lambda n: "{% filter upper %}x{% endfilter %}" * (n // 4) + "<a href=https://x.example/>" * n,
    "elements after tags": lambda n: "<mjml>" + "{{ x }}" * (n // 4) + "<mj-x></mj-x>" * n,
}


def read_every_way(source: str) -> None:
    is_mjml(source)
    try:
        skeleton = take_apart(source, part="t")
    except Invalid:
        return
    for way in (
        lambda: derive_text(skeleton),
        lambda: track(skeleton, "https://x.example", opens=True, clicks=True),
        lambda: markup.check(skeleton, part="t"),
        lambda: _check(skeleton),
    ):
        try:
            way()
        except Invalid:
            continue


def cost(source: str) -> float:
    """Seconds of the processor, the least of three."""
    costs = []
    for _ in range(3):
        start = time.process_time()
        read_every_way(source)
        costs.append(time.process_time() - start)
    return min(costs)


@pytest.mark.parametrize("name", REPEATED)
def test_eight_times_the_length_costs_eight_times_the_work(name: str) -> None:
    """Quadratic would be 64 times. What is done in a few milliseconds is noise, and not quadratic at this length."""
    for _attempt in range(3):
        short, long = cost(REPEATED[name](1_000)), cost(REPEATED[name](8_000))
        if long < max(0.02, 24 * short):
            return
    pytest.fail(f"{short:.4f} s became {long:.4f} s")


@pytest.mark.parametrize(
    ("html", "words"),
    [
        ("x\n<a href='y'", "line 2: the tag <a is never closed; add >"),
        ('<p>\n\n<p title="x>y</p>', "line 3: the tag <p is never closed"),
        ("{{ x\n}}\n<!-- x", "line 3: the comment is never closed; add -->"),
        ("<title>x", "line 1: <title> is never closed; add </title>"),
        ("<!--[if mso]><td<![endif]--", "line 1: the comment is never closed"),
        ("<![foo b", "line 1: <! is never closed"),
        ("a {{ x|default('y }} b", "line 1, column 16: the text ' in a tag is never closed"),
    ],
)
def test_what_is_never_closed_is_refused_with_its_line(html: str, words: str) -> None:
    with pytest.raises(Invalid) as caught:
        compile_it(html, columns=["x"])
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "odd", ["<![foo b]>", "<!x>", "<!>", "</>", "<?x y?>", "<![CDATA[x]>", "<!doctype a [<!b>", "&#" + "9" * 5_000]
)
def test_odd_declarations_are_no_text_and_no_crash(odd: str) -> None:
    text = derive_text(take_apart(f"a {odd}b", part="html")).text
    assert text.replace("\ufffd", "") == "a b\n"


def test_an_attribute_that_contains_a_link_is_not_a_link() -> None:
    html = """<a title=' href="https://a.example/"' href=https://b.example/>x</a>"""
    tracked, links = track(take_apart(html, part="html"), "https://x.example", opens=False, clicks=True)
    assert links == ("https://b.example/",)
    assert """title=' href="https://a.example/"'""" in tracked.text


@given(st.text(alphabet="<>/!-[]?=\"' abscript\x00", max_size=60).map(lambda text: text.replace("\x00", "title")))
def test_the_pieces_are_the_text(text: str) -> None:
    skeleton = take_apart(text, part="t")
    for outlook in (False, True):
        try:
            found = list(markup.pieces(skeleton, part="t", outlook=outlook))
        except Invalid:
            continue
        assert "".join(text[piece.start : piece.end] for piece in found) == text


@pytest.mark.parametrize("unit", ["<", "<b>", "</b>", "<!-->", "<!--[if mso]><![endif]-->"])
def test_more_markup_than_can_be_read_soon_is_refused_with_its_number(unit: str) -> None:
    most = unit * (markup.MAX_MARKS // unit.count("<"))
    markup.check(Skeleton(most, []), part="HTML template")
    with pytest.raises(TooLarge, match=f"5000[1-9] times <.*may have {markup.MAX_MARKS}"):
        markup.check(Skeleton(most + unit, []), part="HTML template")
