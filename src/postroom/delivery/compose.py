"""Composes the message of one recipient; everything that does not depend on the recipient is encoded once per campaign.

A `Composer` keeps header fields, MIME boundaries, attachments and the template's text ready as they go on the wire. A recipient's
message is then the rendered values (templates.render) between those fragments, and a handful of header fields. The message of one
recipient and attempt is always the same, except for its Date. `ContentCompiler` makes composers: from a draft, and from what the
campaign has stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import orjson

from postroom.clock import Instant
from postroom.delivery import headers, mime, tracking
from postroom.delivery.dkim import MailSigner
from postroom.delivery.mime import encode_fragment, encode_value
from postroom.errors import Corrupt, Invalid
from postroom.ledger.dkim import DkimKeys
from postroom.ledger.tenants import Tenants
from postroom.model import address, tokens
from postroom.model.campaign import Attachment, Campaign, CampaignRef, Content
from postroom.model.ids import Key
from postroom.model.message import Recipient
from postroom.model.tenant import Tenant
from postroom.platform.ports.objects import Objects
from postroom.templates import markup
from postroom.templates.lexer import Skeleton
from postroom.templates.markup import HTML_PART
from postroom.templates.render import (
    MAX_OUTPUT,
    MAX_ROW,
    TOKEN_MARK,
    TOKEN_NAME,
    UNSUBSCRIBE_MARK,
    MissingValue,
    ParsedTemplate,
    PartRules,
    RowError,
    TemplatePart,
    Values,
    read_template,
)
from postroom.templates.text import derive_text

BUILT_IN = frozenset({"email", "unsubscribe_url"})
"""Variables that Postroom sets: the recipient's mailbox and the unsubscribe address. `name` is the display name if the row has
none."""
MAX_SUBJECT = 1_000
_WIDTHS = {TOKEN_MARK: tokens.CORE_LENGTH, UNSUBSCRIBE_MARK: tokens.CORE_LENGTH}
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
__all__ = ["Composed", "Composer", "Identity", "MissingValue", "RowError", "compile_content", "variables"]


class Signs(Protocol):
    """Signs a composed message (delivery.dkim)."""

    def sign(self, content: bytes, now: Instant) -> bytes:
        """Raises `Unavailable` if the message cannot be signed now; it must not leave unsigned."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The sender's side of a campaign: tenant, addresses, signature."""

    ref: CampaignRef
    tenant: Tenant
    public_url: str | None = None
    """Base of tracking and unsubscribe links. None: no tracking, no unsubscribe link."""
    bounce_domain: str | None = None
    """Domain of the return path. None: bounces return to the From address."""
    kind: str = "campaign"
    """The kind of mail in Feedback-ID."""
    unsubscribe_mailbox: str | None = None
    """Mailbox for unsubscribe requests by mail. None: there is none."""
    listed: bool = True
    """Whether to add `List-Unsubscribe`, if there is a public URL or such a mailbox."""
    signs: Signs | None = None
    """None: messages are not signed here."""


class Composed(NamedTuple):
    """One message as a mailer takes it (platform.mail.port.OutboundMessage)."""

    mail_from: str
    rcpt_to: str
    content: bytes
    ref: tokens.MessageRef | None = None
    """Which attempt at which message it is. None: not a message of the ledger (a test, for example)."""


def variables(*, html: str, text: str | None, subject: str) -> frozenset[str]:
    """The variables a template uses: the columns an import keeps. Raises `Invalid` as `compile_content` does."""
    sources = _read(html, text, subject)
    return frozenset().union(*(source.variables for source in sources if source)) - BUILT_IN


def compile_content(
    content: Content,
    *,
    html: str,
    text: str | None,
    attachments: Sequence[tuple[Attachment, bytes]],
    columns: Sequence[str],
    identity: Identity,
) -> Composer:
    """Compile what is the same for all recipients. Raises `Invalid` with part, line, column and what to do."""
    return Composer(content, _read(html, text, content.subject), attachments, columns=columns, identity=identity)


class Composer:
    """Composes a campaign's messages. For one thread at a time."""

    links: tuple[str, ...]
    """The campaign's link table: the indexes in tracked links select from it."""

    def __init__(
        self,
        content: Content,
        sources: tuple[ParsedTemplate, ParsedTemplate | None, ParsedTemplate],
        attachments: Sequence[tuple[Attachment, bytes]],
        *,
        columns: Sequence[str],
        identity: Identity,
    ) -> None:
        sender = _address(content.from_, "From")
        self._sealer = tokens.TokenSealer(identity.tenant, identity.ref.campaign, topic=content.topic)
        self._public_url = tracking.check_public_url(identity.public_url) if identity.public_url else None
        self._unsubscribe_url = (
            tracking.unsubscribe_url(self._public_url, self._sealer, UNSUBSCRIBE_MARK) if self._public_url else ""
        )
        self._unsubscribe_mailbox = identity.unsubscribe_mailbox if identity.listed else None
        self._has_unsubscribe = bool(self._public_url or self._unsubscribe_mailbox)
        self._return_path = _return_path(identity.bounce_domain, sender.mailbox, self._sealer)
        self._columns = tuple(columns)
        self._base: Values = {name: value for name, value in content.variables if value and name not in BUILT_IN}
        self._tenant = identity.tenant.number
        self._campaign = identity.ref.campaign
        self._signs = identity.signs
        domain = sender.mailbox.rpartition("@")[2]
        self._ids_end = f"@{domain}>\r\n"
        subject, text, html = sources
        tracked, self.links = self._track(html.skeleton, content)
        self._parts = self._make_parts(
            content, subject, (text, text.skeleton if text else derive_text(html.skeleton)), (html, tracked)
        )
        self._fragments = [_encoded(part) for part in self._parts[1:]]
        self._head = _fixed_headers(content, sender, identity)
        self._frame = mime.mime_frame(attachments, boundary_seed=identity.ref.campaign, html=html.skeleton.text)
        self._before_text = (self._list_headers() if identity.listed else "") + self._frame.before_text
        self._second, self._date = -1, ""

    def compose(self, batch: int, recipient: Recipient, now: Instant, *, person: Key | None = None) -> Composed:
        """The message of a recipient's next attempt. `person`: the key of the address, if the message has a key of its own
        (transactional messages). Raises `RowError` if the message cannot be made."""
        attempt = min(recipient.attempt + 1, tokens.MAX_ATTEMPT)
        key, line = recipient.key, recipient.line
        values = self._values(recipient)
        token = ""
        leave = self._sealer.unsubscribe_core(person or key) if self._has_unsubscribe else ""
        if self._public_url:
            token = self._sealer.recipient_core(batch, key, attempt)
            values[TOKEN_NAME] = self._sealer.recipient_start + token
            values["unsubscribe_url"] = self._unsubscribe_url.replace(UNSUBSCRIBE_MARK, leave)
        subject_part, text_part, html_part = self._parts
        subject = subject_part.render(values, line)
        text = text_part.render(values, line)
        html = html_part.render(values, line)
        title = "".join(subject.values)
        if len(title) > MAX_SUBJECT:
            raise RowError(f"Row at line {line}: a subject of {len(title)} characters; at most {MAX_SUBJECT}.")
        frame = self._frame
        message = "".join(
            (
                self._head,
                headers.address_field("To", recipient.name, recipient.address),
                headers.text_field("Subject", title),
                "Date: ",
                self._date_of(now),
                f"Message-ID: <{self._campaign}.{key.hex()}.{recipient.attempt + 1}",
                self._ids_end,
                self._before_text,
                self._joined(0, text.values, text.markers, line),
                frame.before_html,
                self._joined(1, html.values, html.markers, line).replace(TOKEN_MARK, token),
            )
        ).replace(UNSUBSCRIBE_MARK, leave)
        content = message.encode() + frame.after_html
        if self._signs is not None:
            content = self._signs.sign(content, now)
        ref = tokens.MessageRef(self._tenant, self._campaign, batch, key, attempt)
        return Composed(self._return_path(batch, key, attempt), recipient.address, content, ref)

    def _values(self, recipient: Recipient) -> Values:
        """The template's variables: the row's cells over the campaign's values. Empty cells and null are left out."""
        if len(recipient.values) > MAX_ROW:
            raise RowError(
                f"Row at line {recipient.line}: its values have {len(recipient.values)} characters; {MAX_ROW} at most."
            )
        try:
            cells = orjson.loads(recipient.values)
        except orjson.JSONDecodeError as problem:
            raise Corrupt(f"The stored values of the row at line {recipient.line} are not a JSON array.") from problem
        values = self._base.copy()
        values.update([(name, cell) for name, cell in zip(self._columns, cells, strict=False) if cell])
        if "\\u0000" in recipient.values:
            values = {name: value.replace("\x00", "") for name, value in values.items()}
        if recipient.name and "name" not in values:
            values["name"] = recipient.name
        values["email"] = recipient.address
        values.pop("unsubscribe_url", None)
        return values

    def _joined(self, part: int, values: list[str], markers: list[str], line: int) -> str:
        """Values and fragments alternating, encoded."""
        fragments = self._fragments[part]
        pieces = [""] * (len(values) + len(markers))
        try:
            pieces[1::2] = [fragments[marker] for marker in markers]
            pieces[::2] = map(encode_value, values)
        except (KeyError, ValueError) as problem:
            raise RowError(f"Row at line {line}: {self._parts[part + 1].name}: a NUL character comes out.") from problem
        if self._parts[part + 1].loops and sum(map(len, pieces)) > MAX_OUTPUT:
            raise RowError(f"Row at line {line}: {self._parts[part + 1].name}: more than {MAX_OUTPUT} characters come out.")
        return "".join(pieces)

    def _date_of(self, now: Instant) -> str:
        second = now // 1000
        if second != self._second:
            self._second, self._date = second, _date(second)
        return self._date

    def _list_headers(self) -> str:
        """List-Unsubscribe (RFC 2369) and List-Unsubscribe-Post (RFC 8058)."""
        places = [f"<{self._unsubscribe_url}>"] if self._public_url else []
        if self._unsubscribe_mailbox:
            token = UNSUBSCRIBE_MARK.join(self._sealer.unsubscribe_frame)
            places.append(f"<mailto:{self._unsubscribe_mailbox}?subject=unsubscribe%20{token}>")
        field = "List-Unsubscribe: " + ",\r\n ".join(places) + "\r\n" if places else ""
        return f"{field}List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if self._public_url else field

    def _track(self, html: Skeleton, content: Content) -> tuple[Skeleton, tuple[str, ...]]:
        if not self._public_url:
            return html, ()
        return tracking.track(html, self._public_url, opens=content.track_opens, clicks=content.track_clicks)

    def _make_parts(
        self,
        content: Content,
        subject: ParsedTemplate,
        text: tuple[ParsedTemplate | None, Skeleton],
        html: tuple[ParsedTemplate, Skeleton],
    ) -> tuple[TemplatePart, TemplatePart, TemplatePart]:
        filters = tracking.filters(self._public_url, self._sealer)
        constants = (
            {"unsubscribe_url": self._unsubscribe_url, TOKEN_NAME: self._sealer.recipient_start + TOKEN_MARK}
            if self._public_url
            else {}
        )

        def part(source: ParsedTemplate, skeleton: Skeleton, rules: PartRules) -> TemplatePart:
            made = TemplatePart(source, skeleton, rules, missing=content.missing, filters=filters)
            made.try_out(self._sample(source.variables))
            return made

        text_source = text[0] or html[0]._replace(part="text derived from the HTML template")
        return (
            part(subject, subject.skeleton, PartRules(escaped=False, marked=False, constants={})),
            part(text_source, _ended(text[1]), PartRules(escaped=False, marked=True, constants=constants)),
            part(html[0], _ended(html[1]), PartRules(escaped=True, marked=True, constants=constants)),
        )

    def _sample(self, names: frozenset[str]) -> Values:
        sample = dict.fromkeys(names - {"unsubscribe_url"}, "x") | self._base | {"email": "someone@example.com"}
        if self._public_url:
            sample |= {"unsubscribe_url": self._unsubscribe_url, TOKEN_NAME: "x" * tokens.RECIPIENT_TOKEN_LENGTH}
        return sample


def _read(html: str, text: str | None, subject: str) -> tuple[ParsedTemplate, ParsedTemplate | None, ParsedTemplate]:
    """Read subject, text and HTML, in that order."""
    text_source = None if text is None else read_template(text, part="text template")
    html_source = read_template(html, part=HTML_PART)
    markup.check(html_source.skeleton, part=HTML_PART)
    return read_template(subject, part="subject"), text_source, html_source


def _address(text: str, field: str) -> address.Address:
    try:
        return address.parse_address(text)
    except address.AddressError as problem:
        raise Invalid(f"{field}: {problem}") from problem


def _return_path(bounce_domain: str | None, sender: str, sealer: tokens.TokenSealer) -> Callable[[int, Key, int], str]:
    """The envelope sender: one per attempt (VERP) if there is a bounce domain, else the From address."""
    if not bounce_domain:
        return lambda batch, key, attempt: sender
    domain = _address(f"bounce@{bounce_domain}", "POSTROOM_BOUNCE_DOMAIN").mailbox.rpartition("@")[2]
    return lambda batch, key, attempt: f"{sealer.return_path(batch, key, attempt)}@{domain}"


def _fixed_headers(content: Content, sender: address.Address, identity: Identity) -> str:
    """The fields that are the same for all recipients. Feedback-ID (Gmail's feedback loop): campaign, tenant, kind, sender."""
    fields = headers.address_field("From", sender.name, sender.mailbox)
    if content.reply_to:
        reply_to = _address(content.reply_to, "Reply-To")
        fields += headers.address_field("Reply-To", reply_to.name, reply_to.mailbox)
    return f"{fields}Feedback-ID: {identity.ref.campaign}:{identity.ref.tenant}:{identity.kind}:postroom\r\n"


def _ended(skeleton: Skeleton) -> Skeleton:
    """A body ends with one line end."""
    return skeleton.with_text(skeleton.text.rstrip() + "\n")


def _encoded(part: TemplatePart) -> dict[str, str]:
    """A part's encoded fragments by marker."""
    return {str(number): encode_fragment(text, _WIDTHS) for number, text in enumerate(part.fragments)}


def _date(second: int) -> str:
    """RFC 5322 §3.3 in UTC, independent of the locale, with its line end."""
    t = time.gmtime(second)
    day, month = _DAYS[t.tm_wday], _MONTHS[t.tm_mon - 1]
    return f"{day}, {t.tm_mday:02} {month} {t.tm_year:04} {t.tm_hour:02}:{t.tm_min:02}:{t.tm_sec:02} +0000\r\n"


class ContentCompiler:
    """Compiles contents into composers, with the settings of this installation."""

    def __init__(
        self,
        tenants: Tenants,
        objects: Objects,
        *,
        public_url: str | None,
        bounce_domain: str | None,
        mail_comes_back: bool = False,
        keys: DkimKeys | None = None,
    ) -> None:
        """`mail_comes_back`: mail to the bounce domain is read, so an unsubscribe mailbox works. `keys`: DKIM keys; None: mail is
        not signed."""
        self._tenants = tenants
        self._objects = objects
        self.public_url = public_url
        """Base of the links in new campaigns; a campaign keeps the one it was created with."""
        self._bounce_domain = bounce_domain
        self._unsubscribe_mailbox = f"unsubscribe@{bounce_domain}" if bounce_domain and mail_comes_back else None
        self._keys = keys

    def compile(
        self,
        ref: CampaignRef,
        content: Content,
        *,
        html: str,
        text: str | None,
        attachments: Sequence[tuple[Attachment, bytes]],
        columns: Sequence[str],
        public_url: str | None,
        kind: str = "campaign",
        listed: bool = True,
        signs: MailSigner | None = None,
    ) -> Composer:
        """Compile from the parts. `kind`, `listed`: as in `Identity`. `signs`: for mail that is really sent. Raises `Invalid`
        with the place in the part and what to do."""
        identity = Identity(
            ref=ref,
            tenant=self._tenants.get(ref.tenant),
            public_url=public_url,
            bounce_domain=self._bounce_domain,
            unsubscribe_mailbox=self._unsubscribe_mailbox,
            kind=kind,
            listed=listed,
            signs=signs,
        )
        return compile_content(content, html=html, text=text, attachments=attachments, columns=columns, identity=identity)

    def signing(self, tenant: str, from_: str) -> MailSigner | None:
        """The signer for mail from that address. Raises `Unavailable` if the store does not answer."""
        return None if self._keys is None else MailSigner(self._keys, tenant, from_)

    def load(self, campaign: Campaign, *, signed: bool = False) -> Composer:
        """Compile what the campaign has stored. `signed`: for mail that is really sent; a preview needs no key. Raises `Corrupt`
        or `Unavailable` if the key cannot be used."""
        content, files, objects = campaign.spec.content, campaign.files, self._objects
        signs = self.signing(campaign.ref.tenant, content.from_) if signed else None
        if signs is not None:
            signs.check()
        return self.compile(
            campaign.ref,
            content,
            html=objects.get(files.html_key).decode(),
            text=objects.get(files.text_key).decode() if files.text_key else None,
            attachments=[(attachment, objects.get(attachment.object_key)) for attachment in files.attachments],
            columns=campaign.source.columns,
            public_url=files.public_url,
            signs=signs,
        )
