"""Examines an installation: settings, directories, mail server, sending domain, bounce domain. Changes nothing.

Each check is independent: an error in one becomes a finding, and the others go on.

Sending domain: SPF (RFC 7208), DKIM (RFC 6376, key sizes RFC 8301), DMARC (RFC 7489), and whether mail can come back (RFC 5321
5.1, RFC 7505). Gmail and Yahoo refuse bulk mail from domains that lack any of the first three. A name server that does not
answer gives "could not be checked", never a verdict.

Bounce domain: bounces go to addresses that only Postroom can make (VERP, model.tokens). A server that accepts one of ours and
refuses an invented one is our listener; any other server accepts both or neither. It is asked by RCPT only: no mail is sent.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from postroom.errors import PostroomError, Unavailable
from postroom.ledger.dkim import DkimKeys
from postroom.model.dkim import DkimKey, DomainKeys, KeyStatus, parse_dkim_tags, record_mismatch, record_name
from postroom.model.finding import Finding, Level
from postroom.model.tenant import DEFAULT_TENANT
from postroom.services.senders import TxtLookup

Check = Callable[[], Iterable[Finding]]


class Doctor:
    """A list of named checks."""

    def __init__(self, checks: Sequence[tuple[str, Check]]) -> None:
        self._checks = checks

    def examine(self) -> Iterator[Finding]:
        """Run the checks and yield findings as they are made."""
        for subject, check in self._checks:
            try:
                yield from check()
            except PostroomError as error:
                yield Finding(subject, Level.FAIL, str(error))


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether no finding failed."""
    return all(finding.level is not Level.FAIL for finding in findings)


_SPF_LOOKUPS = 10  # RFC 7208 §4.6.4: more is a permanent error
_RSA_1024_DER = 162  # bytes of a SubjectPublicKeyInfo; 2048 bits are 294
_RSA_2048_DER = 290
_MOST_EXAMINED = 20  # a name server that stays silent costs seconds a name
_LOOKUP_TERMS = ("include:", "exists:", "redirect=", "a:", "mx:", "ptr:")


class DnsLookups(Protocol):
    """A resolver: an absent name or type is an empty list; no answer is `Unavailable`."""

    def txt(self, name: str) -> list[str]: ...

    def mx(self, name: str) -> list[str]:
        """Hosts, `.` for a null MX."""
        ...

    def has_address(self, name: str) -> bool: ...


def check_sending_domain(
    domain: str, selectors: tuple[str, ...], names: DnsLookups, *, signed: bool = False
) -> Iterator[Finding]:
    """Check `domain`. DKIM needs the relay's selectors, unless Postroom signs itself (`signed`)."""
    yield from guarded(f"SPF of {domain}", partial(spf, domain, names))
    if not selectors and not signed:
        todo = "name it with --selector: your relay's set-up shows it"
        yield Finding(f"DKIM of {domain}", Level.SKIPPED, "the key's selector is not known", todo)
    for selector in selectors:
        yield from guarded(f"DKIM key {selector}", partial(_dkim, f"{selector}._domainkey.{domain}", names))
    yield from guarded(f"DMARC of {domain}", partial(_dmarc, domain, names))
    yield from guarded(f"mail to {domain}", partial(_mail_back, domain, names))


def check_dkim_keys(kept: Iterable[DomainKeys], keys: DkimKeys, names: TxtLookup) -> Iterator[Finding]:
    """Check that our signing keys can be opened and that their DNS records are published."""
    for number, domain_keys in enumerate(kept):
        if number == _MOST_EXAMINED:
            todo = "look at one domain with --domain"
            yield Finding("DKIM keys", Level.SKIPPED, f"there are keys of more than {_MOST_EXAMINED} domains", todo)
            return
        yield from _opened(domain_keys, keys)
        yield from published(domain_keys, names)


def published(kept: DomainKeys, names: TxtLookup) -> Iterator[Finding]:
    """Check that a domain's DKIM records are published."""
    whose = "" if kept.tenant == DEFAULT_TENANT else f" ({kept.tenant})"
    for key in kept.keys:
        subject = f"DKIM key {key.selector} of {kept.domain}{whose}"
        yield from guarded(subject, partial(_own_key, key, record_name(key.selector, kept.domain), names))


def _opened(kept: DomainKeys, keys: DkimKeys) -> Iterator[Finding]:
    try:
        keys.signing(kept.tenant, [kept.domain])
    except PostroomError as error:
        text = f"the keys cannot be opened, and no mail leaves without its signature: {error}"
        todo = f"bring the master key back, or make other keys: postroom sender dkim rotate {kept.domain}"
        yield Finding(f"DKIM keys of {kept.domain}", Level.FAIL, text, todo)


def _own_key(key: DkimKey, name: str, names: TxtLookup, subject: str) -> Iterator[Finding]:
    unpublished = record_mismatch(key, name, names.txt(name))
    if not unpublished:
        yield Finding(subject, Level.OK, f"{key.status.value}, published at {name}")
    elif key.status is KeyStatus.ACTIVE:
        yield Finding(subject, Level.FAIL, f"it signs, and {unpublished}", f"publish this TXT record there: {key.record}")
    elif key.status is KeyStatus.WAITING:
        yield Finding(subject, Level.WARN, f"it signs nothing yet: {unpublished}", f"publish this TXT record there: {key.record}")
    else:
        yield Finding(subject, Level.OK, "retired, and published no more")


def guarded(subject: str, check: Callable[[str], Iterator[Finding]]) -> Iterator[Finding]:
    """The check's findings, or "could not be checked" if the name server does not answer."""
    try:
        yield from check(subject)
    except Unavailable as error:
        yield Finding(subject, Level.SKIPPED, f"could not be checked: {error}")


def spf(domain: str, names: DnsLookups, subject: str) -> Iterator[Finding]:
    """Check the SPF record (RFC 7208) of the return path's domain."""
    records = [text for text in names.txt(domain) if text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")]
    if not records:
        yield Finding(
            subject, Level.WARN, "no SPF record", f"publish a TXT record `v=spf1 include:<your relay> ~all` at {domain}"
        )
        return
    if len(records) > 1:
        yield Finding(subject, Level.FAIL, f"{len(records)} SPF records: receivers treat that as none", "merge them into one")
        return
    terms = records[0].lower().split()[1:]
    lookups = _spf_lookups(records[0], names, {domain})
    if lookups > _SPF_LOOKUPS:
        todo = "remove senders that you no longer use"
        yield Finding(subject, Level.FAIL, f"needs {lookups} DNS look-ups; receivers stop at {_SPF_LOOKUPS}", todo)
    elif "+all" in terms or "all" in terms:
        yield Finding(subject, Level.WARN, "allows the whole world to send (+all)", "end it with ~all or -all")
    else:
        yield Finding(subject, Level.OK, records[0])


def _spf_lookups(record: str, names: DnsLookups, seen: set[str]) -> int:
    """DNS lookups needed to evaluate `record`, includes counted, each name once."""
    count = 0
    for term in record.lower().split()[1:]:
        bare = term.lstrip("+-~?")
        if not (bare in {"a", "mx", "ptr"} or bare.startswith((*_LOOKUP_TERMS, "a/", "mx/"))):
            continue
        count += 1
        if bare.startswith(("include:", "redirect=")) and "%" not in bare and count <= _SPF_LOOKUPS:
            name = bare.partition(":" if bare.startswith("include:") else "=")[2]
            if name not in seen and len(seen) <= _SPF_LOOKUPS:
                seen.add(name)
                count += sum(_spf_lookups(text, names, seen) for text in names.txt(name) if text.lower().startswith("v=spf1"))
    return count


def _dkim(name: str, names: DnsLookups, subject: str) -> Iterator[Finding]:
    records = names.txt(name)
    if not records:
        yield Finding(subject, Level.FAIL, f"no key at {name}", "publish the TXT record that your relay's set-up shows")
        return
    found = parse_dkim_tags(records[0])
    key = "".join(found.get("p", "").split())
    if not key:
        yield Finding(subject, Level.FAIL, f"the key at {name} is revoked (empty p=)", "publish the relay's present key")
        return
    try:
        size = len(base64.b64decode(key, validate=True))
    except binascii.Error:
        yield Finding(subject, Level.FAIL, f"the key at {name} is not base64", "publish it again, in one piece")
        return
    if found.get("k", "rsa") == "rsa" and size < _RSA_1024_DER:
        yield Finding(subject, Level.FAIL, "an RSA key of less than 1024 bits: receivers ignore it", "use 2048 bits")
    elif found.get("k", "rsa") == "rsa" and size < _RSA_2048_DER:
        yield Finding(subject, Level.WARN, "an RSA key of less than 2048 bits", "use 2048 bits")
    else:
        yield Finding(subject, Level.OK, f"a key at {name}")


def _dmarc(domain: str, names: DnsLookups, subject: str) -> Iterator[Finding]:
    labels = domain.split(".")
    for at in range(len(labels) - 1):
        name = "_dmarc." + ".".join(labels[at:])
        records = [text for text in names.txt(name) if parse_dkim_tags(text).get("v") == "DMARC1"]
        if len(records) > 1:
            yield Finding(subject, Level.FAIL, f"{len(records)} records at {name}: receivers ignore them all", "keep one")
            return
        if records:
            policy = parse_dkim_tags(records[0]).get("p", "")
            if policy.lower() in {"none", "quarantine", "reject"}:
                yield Finding(subject, Level.OK, f"policy {policy.lower()}, at {name}")
            else:
                yield Finding(
                    subject, Level.FAIL, f"the record at {name} has no valid p=", "set p=none, p=quarantine or p=reject"
                )
            return
    todo = f"publish a TXT record `v=DMARC1; p=none; rua=mailto:…` at _dmarc.{domain}"
    yield Finding(subject, Level.WARN, "no DMARC record: Gmail and Yahoo ask it of everybody who sends in bulk", todo)


def _mail_back(domain: str, names: DnsLookups, subject: str) -> Iterator[Finding]:
    hosts = names.mx(domain)
    if hosts == ["."]:
        yield Finding(subject, Level.WARN, "the domain takes no mail (null MX): receivers distrust senders they cannot answer")
    elif hosts or names.has_address(domain):
        yield Finding(subject, Level.OK, f"goes to {', '.join(hosts) or domain}")
    else:
        todo = "publish an MX record, or send from a domain that has one"
        yield Finding(subject, Level.WARN, "neither MX nor address: bounces and replies are lost", todo)


_MOST_HOSTS = 3  # of a domain's MX; one that stays silent costs seconds


class BounceProbe(NamedTuple):
    """Local parts to try, and how."""

    ours: str
    strange: str
    ask: Callable[[str, Sequence[str]], list[bool]]
    """Whether the host accepts mail for each address; nothing is sent. Raises `Unavailable` if it cannot be asked."""


def check_bounce_domain(domain: str, names: DnsLookups, trial: BounceProbe | None) -> Iterator[Finding]:
    """Check the bounce domain. `trial`: bounces come to a listener of ours."""
    yield from guarded(f"SPF of {domain}", partial(spf, domain, names))
    yield from guarded(f"bounces to {domain}", partial(_arriving, domain, names, trial))


def unread_bounce_domain(domain: str) -> Iterator[Finding]:
    """A finding: mail to the bounce domain is not processed by this installation."""
    todo = "set POSTROOM_FEEDBACK_LISTEN or POSTROOM_FEEDBACK_MAILBOX, or unset POSTROOM_BOUNCE_DOMAIN"
    yield Finding(
        f"bounces to {domain}",
        Level.WARN,
        "they leave with a return path of their own, and this installation does not read them",
        todo,
    )


def _arriving(domain: str, names: DnsLookups, trial: BounceProbe | None, subject: str) -> Iterator[Finding]:
    hosts = names.mx(domain)
    if hosts == ["."]:
        yield Finding(subject, Level.FAIL, "the domain takes no mail (null MX)", "publish an MX record that leads to Postroom")
    elif not hosts and not names.has_address(domain):
        todo = f"publish an MX record of {domain} that leads to Postroom"
        yield Finding(subject, Level.FAIL, "neither MX nor address: bounces are lost", todo)
    elif trial is None:
        yield Finding(subject, Level.OK, f"go to {', '.join(hosts) or domain}")
    else:
        for host in (hosts or [domain])[:_MOST_HOSTS]:
            yield _answered(domain, host, trial, subject)


def _answered(domain: str, host: str, trial: BounceProbe, subject: str) -> Finding:
    try:
        ours, strange = trial.ask(host, [f"{trial.ours}@{domain}", f"{trial.strange}@{domain}"])
    except Unavailable as error:
        todo = "start `postroom serve`; many networks block outgoing port 25: then run it from another network"
        return Finding(subject, Level.WARN, f"{host} could not be asked: {error}", todo)
    if ours and not strange:
        return Finding(subject, Level.OK, f"Postroom answers at {host}")
    told = "takes mail for any address" if ours else "refuses a return path of ours"
    todo = f"let the MX of {domain} lead to POSTROOM_FEEDBACK_LISTEN of this installation, at port 25"
    return Finding(subject, Level.FAIL, f"{host} is another mail server: it {told}", todo)
