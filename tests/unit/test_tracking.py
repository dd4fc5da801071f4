"""Links, pixel and unsubscribe address: what leads back to us, and what is left alone."""

from __future__ import annotations

import html as html_module
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postroom.delivery.compose import RowError
from postroom.errors import Invalid
from postroom.events.bounce_parser import UnsubscribeRequest, parse_report
from postroom.model import tokens
from tests.unit.composing import CAMPAIGN, KEY, PUBLIC_URL, SECRET, compile_it, compose_it, opened, part_of

MESSAGE = tokens.MessageRef(7, CAMPAIGN, 5, KEY, 1)


def secret_of(number: int) -> bytes:
    return SECRET


def hrefs(html: str, row: dict[str, str] | None = None, **more: Any) -> list[str]:
    """The addresses of a message's links, as a browser reads them."""
    composer = compile_it(html, public_url=PUBLIC_URL, **more)
    body = part_of(opened(compose_it(composer, row or {})), "html")
    return [html_module.unescape(found) for found in re.findall(r'href=["\']([^"\']*)["\']', body)]


def hit(url: str) -> tokens.TrackingHit:
    assert url.startswith(f"{PUBLIC_URL}/t/c/")
    return tokens.parse_tracking_token(url.removeprefix(f"{PUBLIC_URL}/t/c/"), secret_of)


def test_a_fixed_link_is_an_index_into_the_campaigns_table() -> None:
    html = '<a class="x" href="https://a.example/?x=1&amp;y=2">a</a> <A HREF=\'http://b.example\'>b</A> <a href=https://a.example/?x=1&y=2>c</a>'
    composer = compile_it(html, public_url=PUBLIC_URL)
    assert composer.links == ("https://a.example/?x=1&y=2", "http://b.example")
    assert [hit(url) for url in hrefs(html)] == [
        tokens.TrackingHit(MESSAGE, link=0),
        tokens.TrackingHit(MESSAGE, link=1),
        tokens.TrackingHit(MESSAGE, link=0),
    ]


def test_a_personal_link_carries_its_address_under_a_mac() -> None:
    [url] = hrefs('<a href="https://a.example/?u={{ id }}&amp;v=1">a</a>', {"id": "x&y=\"<'é"})
    assert hit(url) == tokens.TrackingHit(MESSAGE, url="https://a.example/?u=x&y=\"<'é&v=1")


@pytest.mark.parametrize(
    "html",
    [
        '<a href="{{ base }}/x">a</a>',
        "<a href='{% if base %}{{ base }}{% endif %}/x'>a</a>",
        '{% macro b(u) %}<a href="{{ u }}/x">a</a>{% endmacro %}{{ b(base) }}',
        '{% for i in [base] %}<a href="{{ i }}/x">a</a>{% endfor %}',
        '{% set s %}<a href="{{ base }}/x">a</a>{% endset %}{{ s }}',
        '<!--[if mso]><v:roundrect href="{{ base }}/x"></v:roundrect><![endif]-->',
        '<a href="{{ base }}{{ "/" }}x">a</a>',
    ],
)
def test_personal_links_work_wherever_tags_do(html: str) -> None:
    assert [hit(url).url for url in hrefs(html, {"base": "https://a.example"})] == ["https://a.example/x"]


def test_fixed_links_work_inside_what_becomes_a_value() -> None:
    html = '{% macro b(t) %}<a href="https://a.example/">{{ t }}</a>{% endmacro %}{{ b("x") }}{{ b("y") }}'
    assert [hit(url).link for url in hrefs(html)] == [0, 0]


UNTOUCHED = [
    "mailto:x@a.example",
    "tel:+4930123",
    "#top",
    "cid:logo",
    "/relative",
    "",
    "ftp://a.example/",
    f"{PUBLIC_URL}/u/x",
    "javascript:alert(1)",
]


@pytest.mark.parametrize("address", [address for address in UNTOUCHED if address != "cid:logo"])
def test_other_addresses_are_left_alone(address: str) -> None:
    assert hrefs(f'<a href="{address}">x</a>') == [address]
    assert compile_it(f'<a href="{address}">x</a>', public_url=PUBLIC_URL).links == ()


@pytest.mark.parametrize("address", ["mailto:x@a.example", "#top", "tel:1", f"{PUBLIC_URL}/x", "www.a.example"])
def test_other_addresses_are_left_alone_when_they_come_from_the_row(address: str) -> None:
    assert hrefs('<a href="{{ to }}">x</a>', {"to": address}) == [address]


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", " JavaScript:alert(1)", "java\tscript:x", "data:text/html,x", "vbscript:x"]
)
def test_a_row_cannot_make_a_link_run_anything(address: str) -> None:
    assert hrefs('<a href="{{ to }}">x</a>', {"to": address}) == ["#"]


@pytest.mark.parametrize(
    "html",
    [
        '<!-- <a href="https://a.example/">x</a> -->',
        '<style>a[href="https://a.example/"] {}</style>',
        '<link href="https://a.example/">',
        '<a data-href="https://a.example/">x</a>',
        '<p>href="https://a.example/"</p>',
        '{% filter upper %}<a href="https://a.example/">x</a>{% endfilter %}',
    ],
)
def test_what_is_no_link_is_left_alone(html: str) -> None:
    assert compile_it(html, public_url=PUBLIC_URL).links == ()


def test_outlooks_conditional_comments_hide_no_links() -> None:
    html = '<!--[if !mso]><!--><a href="https://a.example/">x</a><!--<![endif]--><!--[if mso]><a href="https://b.example/">x</a><![endif]-->'
    assert compile_it(html, public_url=PUBLIC_URL).links == ("https://a.example/", "https://b.example/")


def test_a_tag_in_a_start_tag_is_no_obstacle() -> None:
    html = '<a {% if x > 1 %}class="y"{% endif %} title="a > b" href="https://a.example/">x</a>'
    assert compile_it(html, public_url=PUBLIC_URL).links == ("https://a.example/",)


def pixel(html: str, **more: Any) -> str | None:
    body = part_of(opened(compose_it(compile_it(html, public_url=PUBLIC_URL, **more), {})), "html")
    found = re.search(r'<img src="([^"]*)" width="1"[^>]*>(.*)', body, re.DOTALL)
    assert found is None or found[2].lower() in ("", "</body></html>")
    return found[1] if found else None


@pytest.mark.parametrize("html", ["<p>x</p>", "<html><body><p>x</p></body></html>", "<BODY>x</BODY></html>"])
def test_the_pixel_stands_at_the_end_of_the_body(html: str) -> None:
    url = pixel(html)
    assert url
    assert url.startswith(f"{PUBLIC_URL}/t/o/")
    assert tokens.parse_tracking_token(url.removeprefix(f"{PUBLIC_URL}/t/o/"), secret_of) == tokens.TrackingHit(MESSAGE)


def test_opens_and_clicks_can_be_left_out() -> None:
    assert pixel("x", track_opens=False) is None
    assert hrefs('<a href="https://a.example/">x</a>', track_clicks=False) == ["https://a.example/"]
    assert pixel('<a href="https://a.example/">x</a>', track_clicks=False)


def test_unsubscribe_in_header_html_and_text_is_one_address() -> None:
    html = '<a href="{{ unsubscribe_url }}">Leave</a>{% if unsubscribe_url %}{{ unsubscribe_url|upper|lower|length }}{% endif %}'
    message = opened(compose_it(compile_it(html, text=None, public_url=PUBLIC_URL, topic="monthly news é"), {}))
    url = str(message["List-Unsubscribe"]).strip("<>")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert f'<a href="{url}">Leave</a>{len(url)}' in part_of(message, "html")
    assert part_of(message, "plain").startswith(f"Leave ({url})")
    token = tokens.parse_unsubscribe_token(url.removeprefix(f"{PUBLIC_URL}/u/"), secret_of)
    assert token == tokens.UnsubscribeTarget(7, CAMPAIGN, KEY, "monthly news é")


MAILBOX = "unsubscribe@bounces.shop.example"


def mailed(place: str) -> tokens.UnsubscribeTarget:
    """What the mail says that a mail program makes of the place."""
    parts = urlsplit(place)
    assert (parts.scheme, parts.path) == ("mailto", MAILBOX)
    reading = parse_report(f"Subject: {parse_qs(parts.query)['subject'][0]}\r\n\r\n".encode(), recipient=MAILBOX)
    assert isinstance(reading, UnsubscribeRequest)
    return tokens.parse_unsubscribe_token(reading.token, secret_of)


def test_where_mail_comes_back_unsubscribing_by_mail_stands_after_the_link() -> None:
    composer = compile_it("x", text=None, public_url=PUBLIC_URL, unsubscribe_mailbox=MAILBOX, topic="monthly news é")
    message = opened(compose_it(composer, {}))
    link, mail = (place.strip("<>") for place in str(message["List-Unsubscribe"]).split(", "))
    assert link.startswith(f"{PUBLIC_URL}/u/")
    assert mailed(mail) == tokens.UnsubscribeTarget(7, CAMPAIGN, KEY, "monthly news é")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_without_a_public_url_unsubscribing_by_mail_stands_alone_and_promises_no_button() -> None:
    message = opened(compose_it(compile_it("x", text=None, unsubscribe_mailbox=MAILBOX), {}))
    assert mailed(str(message["List-Unsubscribe"]).strip("<>")).key == KEY
    assert "List-Unsubscribe-Post" not in message


def test_unsubscribe_without_a_public_url_is_refused_where_it_is_put_out() -> None:
    with pytest.raises(Invalid, match=r"line 2: .*POSTROOM_PUBLIC_URL"):
        compile_it('<p>\n<a href="{{ unsubscribe_url }}">x</a>')
    guarded = compile_it('{% if unsubscribe_url %}<a href="{{ unsubscribe_url }}">x</a>{% endif %}y')
    assert part_of(opened(compose_it(guarded, {})), "html") == "y"
    hidden = compile_it("{% if x == 'y' %}{{ unsubscribe_url }}{% endif %}", columns=["x"])
    with pytest.raises(RowError, match="POSTROOM_PUBLIC_URL"):
        compose_it(hidden, {"x": "y"})


def test_a_row_cannot_bring_its_own_unsubscribe_address() -> None:
    composer = compile_it("{% if unsubscribe_url %}{{ unsubscribe_url }}{% endif %}x", columns=["unsubscribe_url"])
    assert part_of(opened(compose_it(composer, {"unsubscribe_url": "https://evil.example"})), "html") == "x"


@pytest.mark.parametrize(
    "url", ["mail.example.com", "ftp://x.example", "https://x.example/?q=1", 'https://x.example/"', "https://"]
)
def test_a_public_url_nothing_can_be_appended_to_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="POSTROOM_PUBLIC_URL"):
        compile_it("x", public_url=url)


@given(st.text(alphabet="<>a href=\"'https://x.example!-{}%", max_size=80))
def test_tracking_changes_nothing_it_does_not_understand(noise: str) -> None:
    """Any markup at all: taken apart again and each link put back, it is what it was."""
    html = f"{noise.replace('{', '(')}<p>x</p>"
    try:
        composer = compile_it(html, public_url=PUBLIC_URL, track_opens=False)
    except Invalid as refused:
        if "is never closed" not in str(refused):
            raise
        return
    body = part_of(opened(compose_it(composer, {})), "html")
    if not composer.links:
        assert body == html.rstrip()
