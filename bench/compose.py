"""What composing one message costs, in µs, against building and serialising the same with `EmailMessage` in the same run.

    python bench/compose.py [messages]

3 KB of HTML, a text part, 5 variables, 10 tracked links, an open pixel, an unsubscribe link and a VERP return path.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import formatdate, make_msgid

from postroom.clock import Instant
from postroom.delivery.compose import Composer, Identity, compile_content
from postroom.model.campaign import CampaignRef, Content
from postroom.model.ids import Key, encode
from postroom.model.message import MessageStatus, Recipient
from postroom.model.tenant import Tenant

COLUMNS = ("first_name", "company", "plan", "seats", "renewal")
WORDS = "Good news about what you subscribed to, in plain words and not too many of them. "


def html_template() -> str:
    """About 3 KB with 10 links and 5 variables."""
    rows = "".join(
        f'<tr><td style="padding:8px"><a href="https://shop.example/offers/{n}?ref=news" style="color:#14639e">Offer {n}</a>'
        f"<p>{WORDS[: 60 + 2 * n]}</p></td></tr>\n"
        for n in range(10)
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>News</title></head><body>\n'
        "<h1>Hello {{ first_name }} of {{ company }}</h1>\n<p>Your plan is {{ plan }} with {{ seats }} seats; it renews on "
        f"{{{{ renewal }}}}.</p>\n<table>{rows}</table>\n<p>{WORDS * 2}</p>\n"
        '<p><a href="{{ unsubscribe_url }}">Unsubscribe</a></p></body></html>\n'
    )


def composer(html: str, *, public_url: str | None = "https://mail.example.com") -> Composer:
    """Compiled as for a campaign."""
    content = Content(subject="{{ first_name }}, your news", from_="News <news@mail.example.com>")
    identity = Identity(
        ref=CampaignRef("default", encode(2**79 + 12345, 16)),
        tenant=Tenant("default", 1, bytes(range(32))),
        public_url=public_url,
        bounce_domain="bounce.example.com",
    )
    return compile_content(content, html=html, text=None, attachments=[], columns=COLUMNS, identity=identity)


def recipients(count: int) -> list[Recipient]:
    """Different values for everybody."""
    return [
        Recipient(
            Key(n.to_bytes(12, "big")),
            n + 2,
            f"someone{n}@example.org",
            f"Anna Nr. {n}",
            json.dumps([f"Anna {n}", "Acme & Sons", "Team", str(n), "2027-01-31"]),
            MessageStatus.PENDING,
            0,
        )
        for n in range(count)
    ]


def with_email_message(text: str, html: str, recipient: Recipient) -> bytes:
    """The usual way."""
    message = EmailMessage(policy=SMTP)
    message["From"] = "News <news@mail.example.com>"
    message["To"] = recipient.address
    message["Subject"] = "Anna, your news"
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain="mail.example.com")
    message["List-Unsubscribe"] = "<https://mail.example.com/u/x>"
    message.set_content(text, cte="quoted-printable")
    message.add_alternative(html, subtype="html", cte="quoted-printable")
    return message.as_bytes()


def microseconds(work: Callable[[Recipient], object], everybody: list[Recipient]) -> float:
    """The best of five runs."""
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        for recipient in everybody:
            work(recipient)
        best = min(best, time.process_time() - started)
    return best / len(everybody) * 1e6


def main() -> None:
    """Print the figures."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    html = html_template()
    compiled, everybody = composer(html), recipients(count)
    now = Instant(1_760_000_000_000)
    size = len(compiled.compose(7, everybody[0], now).content)
    ours = microseconds(lambda r: compiled.compose(7, r, now), everybody)
    rendered = html.replace("{{ first_name }}", "Anna")
    usual = microseconds(lambda r: with_email_message(rendered[:1500], rendered, r), everybody[: max(50, count // 50)])
    print(f"template {len(html)} bytes of HTML, message {size} bytes")
    print(f"composed                  {ours:8.1f} µs a message")
    print(f"EmailMessage + serialise  {usual:8.1f} µs a message")
    print(f"ratio                     {usual / ours:8.1f}")


if __name__ == "__main__":
    main()
