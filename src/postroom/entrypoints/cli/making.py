"""A campaign from what the user typed: files read, values checked, each error naming its option."""

from __future__ import annotations

import mimetypes
from dataclasses import replace
from pathlib import Path

from postroom.entrypoints.cli.session import say
from postroom.errors import Invalid
from postroom.model.callback import check_callback_url
from postroom.model.campaign import CampaignRef, CampaignSpec, Policies, Schedule, UnknownPolicy
from postroom.model.tenant import DEFAULT_TENANT
from postroom.model.tokens import MAX_TOPIC_BYTES
from postroom.services.campaign_creation import AttachedFile, CampaignParts, FieldNames, parse_schedule
from postroom.settings import Settings
from postroom.wiring import Container
from postroom.wiring.campaigns import campaign_defaults

_OPTIONS = FieldNames("--at", "--timezone")


def create(
    postroom: Container,
    spec: CampaignSpec,
    parts: CampaignParts,
    recipients: Path,
    *,
    tenant: str = DEFAULT_TENANT,
    start: bool = True,
) -> CampaignRef:
    """Make the campaign and say its id, so that whoever is killed from here on can be resumed."""
    try:
        with recipients.open("rb") as upload:
            creator = postroom.campaign_creator
            ref = creator.create(tenant, spec, parts, upload, filename=recipients.name, start=start).ref
    except OSError as error:
        raise Invalid(f"--recipients {recipients} cannot be read: {error.strerror}") from error
    say(f"campaign {ref.campaign}")
    return ref


def read_template(path: Path) -> str:
    """HTML, compiled from MJML where the file is that."""
    source = read_text(path)
    named = path.suffix.lower() == ".mjml"
    if not named and "<mjml" not in source:
        return source
    from postroom.templates.mjml import compile_mjml, is_mjml  # loads a compiler that most campaigns do not need

    return compile_mjml(source) if named or is_mjml(source) else source


def read_text(path: Path) -> str:
    """A UTF-8 file; `Invalid`."""
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Invalid(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from error


def attached(path: Path) -> AttachedFile:
    """A file for every message; `Invalid`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}") from error
    kind, encoding = mimetypes.guess_type(path.name)
    return AttachedFile(path.name, kind if kind and not encoding else "application/octet-stream", content)


def inline(path: Path) -> AttachedFile:
    """A picture within every message, its content id the file's name; `Invalid`."""
    return replace(attached(path), content_id=path.name)


def variables(given: list[str]) -> dict[str, str]:
    """Of `--set k=v`; `Invalid`."""
    pairs = [pair.partition("=") for pair in given]
    for name, equals, _ in pairs:
        if not equals or not name.isidentifier():
            raise Invalid(f"--set {name}{equals}: write name=value, the name in letters, digits and _")
    return {name: value for name, _, value in pairs}


def schedule(at: str, timezone: str, postroom: Container) -> Schedule:
    """Of `--at` and `--timezone`; `Invalid` for what is no time, has passed, or is too far ahead."""
    grace_ms = round(postroom.settings.schedule_grace * 1000)
    return parse_schedule(at, timezone, now=postroom.clock.now(), grace_ms=grace_ms, names=_OPTIONS)


def topic(text: str | None) -> str | None:
    """Of `--topic`; `Invalid`: no link could carry it."""
    if text is not None and not 0 < len(text.encode(errors="replace")) <= MAX_TOPIC_BYTES:
        raise Invalid(f"--topic {text}: from 1 to {MAX_TOPIC_BYTES} bytes")
    return text


def callback_url(text: str | None, settings: Settings) -> str | None:
    """Of `--callback-url`; `Invalid`."""
    try:
        return None if text is None else check_callback_url(text, settings.callback_networks)
    except Invalid as error:
        raise Invalid(f"--callback-url: {error}") from error


def policies(settings: Settings, rate: float | None, unknown: UnknownPolicy) -> Policies:
    """The settings' rules and the options'; `Invalid`."""
    if rate is not None and not 0.1 <= rate <= 1_000_000:
        raise Invalid(f"--rate {rate:g}: from 0.1 to 1000000 recipients a second")
    return campaign_defaults(settings).with_options(rate=rate, unknown=unknown)
