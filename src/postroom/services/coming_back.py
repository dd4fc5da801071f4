"""Whether what comes back finds its way: the bounce domain in the DNS, and who answers where its mail goes.

Bounces go to addresses that only we can make (VERP, model.wire). A server that takes one of ours and refuses one that nobody
made is our listener; any other takes both or neither. It is asked by RCPT alone: no mail is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from postroom.errors import Unavailable
from postroom.model.finding import Finding, Level
from postroom.services.sending_domain import Names, guarded, spf

_MOST_HOSTS = 3  # of a domain's MX; one that stays silent costs seconds


class Trial(NamedTuple):
    """Local parts to try, and how."""

    ours: str
    strange: str
    ask: Callable[[str, Sequence[str]], list[bool]]
    """Whether the host takes mail to each of these addresses; nothing is sent. `Unavailable`: it cannot be asked."""


def examine_bounce_domain(domain: str, names: Names, trial: Trial | None) -> Iterator[Finding]:
    """Every finding about the domain that bounces come to. `trial`: they come to a listener of ours."""
    yield from guarded(f"SPF of {domain}", partial(spf, domain, names))
    yield from guarded(f"bounces to {domain}", partial(_arriving, domain, names, trial))


def unread(domain: str) -> Iterator[Finding]:
    """Where nobody here opens what comes to the domain."""
    todo = "set POSTROOM_FEEDBACK_LISTEN or POSTROOM_FEEDBACK_MAILBOX, or unset POSTROOM_BOUNCE_DOMAIN"
    yield Finding(
        f"bounces to {domain}", Level.WARN, "they leave with a return path of their own, and nobody here reads them", todo
    )


def _arriving(domain: str, names: Names, trial: Trial | None, subject: str) -> Iterator[Finding]:
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


def _answered(domain: str, host: str, trial: Trial, subject: str) -> Finding:
    try:
        ours, strange = trial.ask(host, [f"{trial.ours}@{domain}", f"{trial.strange}@{domain}"])
    except Unavailable as error:
        todo = "start `postroom serve`; many networks let nobody out to port 25: then look from outside"
        return Finding(subject, Level.WARN, f"{host} could not be asked: {error}", todo)
    if ours and not strange:
        return Finding(subject, Level.OK, f"Postroom answers at {host}")
    told = "takes mail for anybody" if ours else "refuses a return path of ours"
    todo = f"let the MX of {domain} lead to POSTROOM_FEEDBACK_LISTEN of this installation, at port 25"
    return Finding(subject, Level.FAIL, f"{host} is somebody else: it {told}", todo)
