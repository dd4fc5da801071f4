"""A composed message: what Python's strict parser reads is what the template and the row say, and nothing more."""

from __future__ import annotations

import html as html_module
import json
import re
import threading
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from postroom.clock import Instant
from postroom.delivery.compose import Composed, RowError, variables
from postroom.delivery.headers import cleaned
from postroom.errors import Invalid, TooLarge
from postroom.model import tokens
from postroom.model.campaign import Attachment, MissingPolicy
from tests.unit.composing import CAMPAIGN, KEY, NOW, PUBLIC_URL, SECRET, compile_it, compose_it, opened, part_of, recipient

anything = st.text(min_size=1, max_size=120) | st.sampled_from(
    ["a\r\nBcc: x@example.com", "\x00", "x\x00y\x01z\x02", "\u202etxt.exe", "😀" * 40, "=?utf-8?q?x?=", "w" * 450, ".", "\n.\n", "From me",
     "<b>&amp;", "{{ x }}", "{% if %}", "None", "=\n=", " ", "\x1f"]
)  # fmt: skip
LAYOUT = "<p>Hi {{ a }}, {{ b }}</p>\n<p title='{{ a }}'>.</p>{% if a %}{{ b }}{% endif %}\n.{{ a }}"
COMPOSER = compile_it(
    LAYOUT, subject="{{ a }} – {{ b }}", text="{{ a }}\n{{ b }}.", public_url=PUBLIC_URL, bounce_domain="b.example"
)


def line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def as_seen(value: str) -> str:
    """A value as it arrives: without NUL, its line ends those of mail."""
    return line_ends(value.replace("\x00", ""))


def check_wire(composed: Composed) -> None:
    """RFC 5322 §2.1.1, RFC 5321 §4.5.2: short lines, CRLF only, no line for SMTP to double a dot in."""
    content = composed.content
    assert content.endswith(b"\r\n")
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)|\x00", content)
    head, _, body = content.partition(b"\r\n\r\n")
    assert all(len(line) <= 998 for line in head.split(b"\r\n"))
    assert all(len(line) <= 78 and not line.startswith((b".", b"From ")) for line in body.split(b"\r\n"))


@given(anything, anything, st.none() | anything)
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_value_arrives_exactly_and_stays_where_it_belongs(a: str, b: str, name: str | None) -> None:
    if not as_seen(a) or not as_seen(b):
        return
    composed = compose_it(COMPOSER, {"a": a, "b": b}, name=name)
    check_wire(composed)
    message = opened(composed)
    a, b = as_seen(a), as_seen(b)
    assert message["Subject"] == cleaned(f"{a} – {b}")
    assert part_of(message, "plain") == f"{a}\n{b}."
    seen = html_module.unescape(part_of(message, "html"))
    assert seen.startswith(f"<p>Hi {a}, {b}</p>\n<p title='{a}'>.</p>{b}\n.{a}<img src=")
    raw = part_of(message, "html")
    assert raw.count("<") == LAYOUT.count("<") + 1
    assert sorted(message.keys()) == sorted(
        ["From", "Feedback-ID", "To", "Subject", "Date", "Message-ID", "List-Unsubscribe", "List-Unsubscribe-Post", "MIME-Version",
         "Content-Type"]
    )  # fmt: skip
    assert [address.addr_spec for address in message["To"].addresses] == ["someone@example.org"]


TEMPLATES = [
    "{{ a }}", "a {{- a -}} b", "{% set x %}lit {{ a }}{% endset %}{{ x|upper }}{{ x }}", "{% raw %}{{ a }}{% endraw %}",
    "{% filter upper %}li<b>t</b> {{ a }}{% endfilter %}", "{% macro m(v) %}[{{ v }} ß {]{% endmacro %}{{ m(a) }}{{ m(b) }}",
    "{% for c in ['x', a] %}\n  {%- if loop.first %} first {%+ endif %}{{ c }};{% endfor %}\n\n", "{# c -#}  x {#- d #}", "{{ '{{' }}{ {a}",
    "{%- if a == b -%} same {%- else -%} other {%- endif -%}", "é {{ a }} =é= \n  \n.\n{{ b }}\n", "{{ a|safe }}{{ a|e }}{{ a|length }}",
    "{% autoescape false %}{{ a }}{% endautoescape %}", "{% with z = a ~ b %}{{ z }}{% endwith %}", "{% set y = a %}{{ y }}\t",
    "{% filter trim %} {{ '{' }}{% raw %}{% x %}{{{% endraw %}{{ a }} {% endfilter %}",
]  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
@given(a=anything, b=anything)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
def test_fragments_around_values_give_what_the_whole_template_gives(template: str, a: str, b: str) -> None:
    """The engine never sees literal text; rendered the ordinary way, it does. Both must read the same."""
    from minijinja import Environment

    a, b = as_seen(a).replace("None", "none"), as_seen(b).replace("None", "none")
    if not a or not b:
        return
    usual = Environment(keep_trailing_newline=True, auto_escape_callback=lambda name: name == "html")
    for html in (True, False):
        wanted = usual.render_str(template, "html" if html else "text", a=a, b=b)
        composer = compile_it(template if html else "x", text="x" if html else template, columns=["a", "b"])
        got = part_of(opened(compose_it(composer, {"a": a, "b": b})), "html" if html else "plain")
        assert got.rstrip() == wanted.rstrip()


def test_ten_megabytes_arrive() -> None:
    value = "é x\n" * 2_000_000
    composed = compose_it(compile_it("<p>{{ a }}</p>", text="x"), {"a": value})
    assert part_of(opened(composed), "html") == f"<p>{value}</p>"


def test_the_shape_without_a_public_url() -> None:
    message = opened(
        compose_it(compile_it('<a href="https://a.example/">x</a>{% if unsubscribe_url %}no{% endif %}', text=None), {})
    )
    assert message.get_content_type() == "multipart/alternative"
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert part_of(message, "html") == '<a href="https://a.example/">x</a>'
    assert part_of(message, "plain") == "x (https://a.example/)"
    assert "List-Unsubscribe" not in message
    assert message["From"].addresses[0].display_name == "News"
    assert message["To"] == "someone@example.org"
    assert message["Date"].datetime.timestamp() == NOW // 1000
    assert message["Message-ID"] == f"<{CAMPAIGN}.{KEY.hex()}.1@sender.example>"
    assert message["Feedback-ID"] == f"{CAMPAIGN}:default:campaign:postroom"


def test_the_same_attempt_is_the_same_message_and_another_is_not() -> None:
    composer = compile_it("x", public_url=PUBLIC_URL, bounce_domain="b.example")
    first, again, second = (composer.compose(5, recipient([], attempt=attempt), NOW) for attempt in (0, 0, 1))
    assert first == again
    assert first.mail_from != second.mail_from
    assert opened(first)["Message-ID"] != opened(second)["Message-ID"]


def test_the_return_path_names_the_attempt() -> None:
    composed = compose_it(compile_it("x", bounce_domain="bounce.sender.example"), {}, attempt=2)
    local_part, _, domain = composed.mail_from.partition("@")
    assert domain == "bounce.sender.example"
    assert tokens.parse_return_path(local_part, lambda n: SECRET) == tokens.MessageRef(7, CAMPAIGN, 5, KEY, 3)
    assert compose_it(compile_it("x"), {}).mail_from == "news@sender.example"


def test_a_hundredth_attempt_still_fits_the_wire() -> None:
    composed = compose_it(compile_it("x", bounce_domain="b.example", public_url=PUBLIC_URL), {}, attempt=99)
    assert tokens.parse_return_path(composed.mail_from.partition("@")[0], lambda n: SECRET).attempt == tokens.MAX_ATTEMPT
    assert ".100@" in opened(composed)["Message-ID"]


def test_attachments_and_inline_images() -> None:
    pdf, png = bytes(range(256)) * 50, b"\x89PNG..."
    composer = compile_it(
        '<img src="cid:logo">{{ a }}',
        attachments=[
            (Attachment("k1", "Rechnung für Zoë.pdf", "application/pdf"), pdf),
            (Attachment("k2", "logo.png", "image/png", "logo"), png),
            (Attachment("k3", "n" * 150 + ".txt", "text/plain"), b"plain"),
        ],
    )
    composed = compose_it(composer, {"a": "x"})
    check_wire(composed)
    message = opened(composed)
    kinds = [part.get_content_type() for part in message.walk()]
    assert kinds == ["multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html", "image/png",
                     "application/pdf", "text/plain"]  # fmt: skip
    first, second = list(message.iter_attachments())
    assert first.get_filename() == "Rechnung für Zoë.pdf"
    assert first.get_content() == pdf
    assert second.get_filename() == "n" * 150 + ".txt"
    image = next(part for part in message.walk() if part.get_content_type() == "image/png")
    assert image["Content-ID"] == "<logo>"
    assert image.get_content() == png


@pytest.mark.parametrize(
    ("attachment", "words"),
    [
        (Attachment("k", "a\r\nb.pdf", "application/pdf"), "file name"),
        (Attachment("k", "../x", "application/pdf"), "file name"),
        (Attachment("k", "", "application/pdf"), "file name"),
        (Attachment("k", "x.eml", "message/rfc822"), "type"),
        (Attachment("k", "x", "application/pdf\r\nX: y"), "type"),
        (Attachment("k", "x", "image/png", "a>b"), "content id"),
    ],
)
def test_an_attachment_no_header_can_name_is_refused(attachment: Attachment, words: str) -> None:
    with pytest.raises(Invalid, match=words):
        compile_it("x", attachments=[(attachment, b"")])


def test_an_inline_image_that_is_not_there_and_too_much_are_refused() -> None:
    with pytest.raises(Invalid, match="cid:logo"):
        compile_it('<img src="cid:logo">')
    with pytest.raises(TooLarge):
        compile_it("x", attachments=[(Attachment("k", "x", "application/pdf"), bytes(25_000_001))])


@pytest.mark.parametrize("field", ["from_", "reply_to"])
def test_a_sender_no_header_can_carry_is_refused(field: str) -> None:
    for bad in ("nobody", "a@b.example\r\nBcc: c@d.example", "a@b.example, c@d.example"):
        with pytest.raises(Invalid, match="From" if field == "from_" else "Reply-To"):
            compile_it("x", **{field: bad})  # type: ignore[arg-type]


def test_names_and_international_addresses() -> None:
    composer = compile_it("x", from_="Zoë's Büro <post@büro.example>", reply_to="Antwort <re@büro.example>")
    message = opened(compose_it(composer, {}, name="Dr. Anna, Müller"))
    assert message["From"].addresses[0].display_name == "Zoë's Büro"
    assert message["From"].addresses[0].addr_spec == "post@xn--bro-hoa.example"
    assert message["Reply-To"].addresses[0].addr_spec == "re@xn--bro-hoa.example"
    assert message["To"].addresses[0].display_name == "Dr. Anna, Müller"
    content = compose_it(composer, {}, address="zoë@example.org").content
    assert "To: zoë@example.org\r\n".encode() in content


# what is missing


@pytest.mark.parametrize("cell", [None, ""])
def test_a_missing_value_fails_the_row_with_its_name_line_and_remedy(cell: str | None) -> None:
    composer = compile_it("<p>\n\n Hello {{ first_name }}</p>")
    with pytest.raises(RowError) as caught:
        compose_it(composer, {"first_name": cell})
    text = str(caught.value)
    assert "Row at line 17" in text
    assert "HTML template, line 3" in text
    assert "'first_name' is missing or empty" in text
    assert 'default("…")' in text
    assert len(text) <= 250


@pytest.mark.parametrize("where", ["subject", "text"])
def test_a_missing_value_is_found_in_every_part(where: str) -> None:
    with pytest.raises(RowError, match=where):
        compose_it(compile_it("x", **{where: "Hello {{ name_ }}"}), {"name_": None})  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", list(MissingPolicy))
@pytest.mark.parametrize("cell", [None, ""])
def test_defaults_and_conditions_work_under_both_policies(policy: MissingPolicy, cell: str | None) -> None:
    composer = compile_it("Hello {{ n|default('you') }}{% if n %}!{% else %}.{% endif %}{{ n or 'friend' }}", missing=policy)
    assert part_of(opened(compose_it(composer, {"n": cell})), "html") == "Hello you.friend"
    assert part_of(opened(compose_it(composer, {"n": "A"})), "html") == "Hello A!A"


@pytest.mark.parametrize("policy", list(MissingPolicy))
@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        ("{% if n == 'a' %}y{% elif n != 'b' %}m{% else %}z{% endif %}", "m"),
        ("{{ 'y' if n == 'a' else 'z' }}", "z"),
        ("{% if n is defined %}y{% elif n is not defined and not n %}z{% endif %}", "z"),
        ("{% if n.split(',')|length > 1 or n|upper == 'A' %}y{% endif %}z", "z"),
        ("{% if 'n' == \"n\" and n|default('q') == 'q' %}y{% endif %}z", "z"),
        ("{% for i in ['a'] if i == n %}y{% else %}z{% endfor %}", "z"),
    ],
)
def test_a_condition_may_ask_about_what_is_missing(policy: MissingPolicy, template: str, wanted: str) -> None:
    composer = compile_it(template, missing=policy, columns=["n"])
    assert part_of(opened(compose_it(composer, {"n": None})), "html") == wanted


def test_empty_means_empty_and_never_none() -> None:
    composer = compile_it("Hello {{ n }}{{ n.x }}{{ n|upper }}.", missing=MissingPolicy.EMPTY)
    assert part_of(opened(compose_it(composer, {"n": None})), "html") == "Hello ."


@pytest.mark.parametrize("policy", list(MissingPolicy))
@pytest.mark.parametrize("template", ["{{ none }}", "{{ x|default(none) }}", "{{ x if x else none }}"])
def test_none_is_never_put_out(policy: MissingPolicy, template: str) -> None:
    with pytest.raises(RowError, match="none"):
        compose_it(compile_it(template, missing=policy, columns=["x"]), {"x": None})


def test_a_person_called_none_gets_mail() -> None:
    assert part_of(opened(compose_it(compile_it("Dear {{ x }}"), {"x": "None"})), "html") == "Dear None"


def test_values_of_the_campaign_stand_behind_those_of_the_row() -> None:
    composer = compile_it("{{ a }}{{ b }}", variables=(("a", "campaign"), ("b", "campaign")))
    assert part_of(opened(compose_it(composer, {"a": "row", "b": ""})), "html") == "rowcampaign"


def test_built_in_values() -> None:
    composer = compile_it("{{ email }} {{ name }}")
    assert part_of(opened(compose_it(composer, {"name": None}, name="Anna")), "html") == "someone@example.org Anna"
    assert part_of(opened(compose_it(composer, {"name": "Row"}, name="Anna")), "html") == "someone@example.org Row"


def test_variables_are_those_of_all_parts_but_the_built_in() -> None:
    html = "{{ a }}{% for b in c %}{{ b }}{{ loop.index }}{% endfor %}{{ email }}{% set d = e %}{{ d.f }}{{ unsubscribe_url }}"
    assert variables(html=html, text="{{ g }}", subject="{{ h|default(i) }}") == {"a", "c", "e", "g", "h", "i"}


def test_a_subject_out_of_bounds_fails_the_row() -> None:
    with pytest.raises(RowError, match="subject"):
        compose_it(compile_it("x", subject="{{ a }}"), {"a": "x" * 5000})


def test_a_composer_made_in_one_thread_works_in_another() -> None:
    made = []
    thread = threading.Thread(target=lambda: made.append(compile_it("<p>{{ a }}</p>", public_url=PUBLIC_URL)))
    thread.start()
    thread.join()
    assert "Anna" in part_of(opened(compose_it(made[0], {"a": "Anna"})), "html")


@given(st.integers(0, 4_102_444_800))
def test_the_date_is_the_time_of_composing(second: int) -> None:
    composed = COMPOSER.compose(5, recipient(["x", "y"]), Instant(second * 1000 + 999))
    assert cast("float", opened(composed)["Date"].datetime.timestamp()) == second


def test_short_rows_and_long_rows_are_taken_as_they_come() -> None:
    composer = compile_it("{{ a|default('-') }}{{ b|default('-') }}", columns=["a", "b"])
    for cells, wanted in ([], "--"), (["x"], "x-"), (["x", "y", "z"], "xy"):
        row = recipient([])._replace(values=json.dumps(cells))
        assert part_of(opened(composer.compose(1, row, NOW)), "html") == wanted
