"""Tells the tally what came back, under the provider whose mail it was.

Of each message a bounce for good and a complaint count once, however many reports of it come: a recipient has the tokens of
their own message, and could otherwise stop everybody's mail by writing a hundred bounces of it.

Stops what goes wrong: campaigns and providers whose bounces or complaints pass a limit (model.guard), from the tallies.

A campaign over the limit is paused. A provider over it trips: every campaign of its that is under way is paused. Single
messages are never stopped: of them, of campaigns that have completed, and of the domains that mail goes to, people are warned,
in the log and in the audit trail, once a window.

Who resumes a campaign starts its window anew, at the next whole minute; of a provider that tripped the window starts with the
first campaign that went on since.

Any number of processes may look. A trip is written down before the first campaign is paused, and stands for as long as the
window: a kill on the way leaves campaigns that the next look pauses, as they went on before the trip. A warning is written
before the note that it was given: a kill in between repeats it.

    #guard / trip/{provider}                 when, and why
    #guard / warned/{about}/{tenant}/{what}  nothing: while it is there, the same is not said again
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Final, NamedTuple

from postroom.clock import Clock, Instant
from postroom.errors import Conflict, PostroomError
from postroom.ledger.audit import INSTALLATION, AuditLog
from postroom.ledger.campaigns import Campaigns
from postroom.ledger.event_applier import AppliedEvent
from postroom.ledger.providers import Providers
from postroom.ledger.rate_windows import (
    MINUTE_MS,
    OTHER_DOMAINS,
    MinuteRates,
    RateCounts,
    RateRecorder,
    RateWindows,
    storable_provider,
)
from postroom.ledger.ttl_cache import TtlCache
from postroom.model.audit import AuditRecord
from postroom.model.campaign import Campaign, CampaignRef, CampaignStatus
from postroom.model.reputation import ExceededLimit, GuardAction, ReputationLimits
from postroom.model.stream import is_stream
from postroom.platform.ports.tables import Expect, Item, ItemKey, Put, Tables

_BELIEVED_S: Final = 60.0
_log = logging.getLogger(__name__)


class ReputationRecorder:
    """Called for each new event, by one thread."""

    def __init__(self, tally: RateRecorder, providers: Providers, clock: Clock) -> None:
        self._tally = tally
        self._providers = providers
        self._known: TtlCache[tuple[str, str | None], str] = TtlCache(clock, most=1_000)

    def __call__(self, applied: AppliedEvent) -> None:
        """Never raises: an event that cannot be counted is one of many."""
        if applied.again:
            return
        try:
            provider = self._provider(applied.ref.tenant, applied.provider)
        except PostroomError as error:
            _log.warning("an event is not counted for the guard: %s", error)
            return
        self._tally.event(applied.ref, provider, applied.domain, applied.event)

    def _provider(self, tenant: str, name: str | None) -> str:
        known = self._known.get((tenant, name))
        if known is None:
            known = self._providers.id_of(tenant, name)
            self._known.put((tenant, name), known, seconds=_BELIEVED_S)
        return known


EVERY_S: Final = 5.0
"""How often somebody is to look."""
_CLOSED_AFTER: Final = 3  # minutes: no writer adds to an older one
_JUDGED: Final = frozenset({CampaignStatus.SENDING, CampaignStatus.COMPLETED})
_GUARD: Final = "#guard"
_DONE, _LATE = 200, 409
_Window = dict[int, dict[str, MinuteRates]]


class _About(NamedTuple):
    """Whom something is said about."""

    name: str
    tenant: str
    """Whose audit trail it stands in."""
    target: str


class ReputationGuard:
    """See the module's text."""

    def __init__(
        self,
        tables: Tables,
        campaigns: Campaigns,
        providers: Providers,
        *,
        audit: AuditLog,
        clock: Clock,
        limits: ReputationLimits,
    ) -> None:
        self._tables = tables
        self._tallies = RateWindows(tables)
        self._campaigns = campaigns
        self._providers = providers
        self._audit = audit
        self._clock = clock
        self._limits = limits
        self._closed: _Window = {}

    def look(self, only: CampaignRef | None = None) -> None:
        """Judge the last window; `only`: pause no campaign but that one. Errors of the stores are raised; looking again goes
        on."""
        window = self._window()
        for ref in {ref for minute in window.values() for each in minute.values() for ref in each.campaigns}:
            if only is None or ref == only:
                self._look_at_home(ref, window)
        for provider in {provider for minute in window.values() for provider in minute}:
            self._look_at_provider(provider, window, only)
            self._look_at_domains(provider, window)

    def _window(self) -> _Window:
        """By minute; those that are over are read once."""
        now = self._clock.now() // MINUTE_MS
        wanted = range(now - self._limits.window_ms // MINUTE_MS + 1, now + 1)
        window = {minute: self._closed.get(minute) or self._tallies.of(minute) for minute in wanted}
        self._closed = {minute: found for minute, found in window.items() if minute < now - _CLOSED_AFTER}
        return window

    def _look_at_home(self, ref: CampaignRef, window: _Window) -> None:
        if _of_home(ref, window, 0).sent < self._limits.sample:
            return
        about = _About(f"campaign {ref.campaign}", ref.tenant, f"campaign/{ref.campaign}")
        if is_stream(ref.campaign):
            self._warn(about, self._excesses(_of_home(ref, window, 0)))
            return
        campaign = self._campaigns.find(ref)
        if campaign is None or campaign.status not in _JUDGED:
            return
        found = self._excesses(_of_home(ref, window, _first_minute(campaign)))
        if campaign.status is CampaignStatus.COMPLETED:  # most bounces come when all is sent
            self._warn(about, found)
            return
        self._warn(about, [excess for excess in found if excess.action is GuardAction.WARN])
        for excess in found:
            if excess.action is GuardAction.PAUSE:
                self._pause(campaign, f"the guard paused it: {excess.figures}")
                return

    def _look_at_provider(self, provider: str, window: _Window, only: CampaignRef | None) -> None:
        trip, first = self._tables.get(_trip(provider)), 0
        if trip is not None:
            going_on = list(self._under_way(provider, only))
            self._pause_all(going_on, trip)
            resumed = [_since(campaign) for campaign in going_on if _since(campaign) > trip.data["at"]]
            if not resumed:
                return
            first = _next_minute(min(resumed))
        found = self._excesses(_of_provider(provider, window, first))
        self._warn(_about_provider(provider), found)  # first: once it tripped, its window begins anew
        if any(excess.action is GuardAction.PAUSE for excess in found):
            self._trip(provider, found[0], trip, only=only)

    def _trip(self, provider: str, excess: ExceededLimit, before: Item | None, *, only: CampaignRef | None) -> None:
        """Also where no campaign is under way: the next one that starts begins the window anew."""
        owner, name = _owner(provider)
        reason = f"the guard paused all campaigns of the provider {name}: {excess.figures if owner else excess.rate}"
        now, expect = self._clock.now(), Expect.ABSENT if before is None else before.version
        put = Put(_trip(provider), {"at": now, "reason": reason}, expect, Instant(now + self._limits.window_ms))
        with suppress(Conflict):  # another look was first, and pauses them
            (version,) = self._tables.write([put])
            self._pause_all(self._under_way(provider, only), Item(put.key, put.data, version))

    def _pause_all(self, campaigns: Iterable[Campaign], trip: Item) -> None:
        for campaign in campaigns:
            if _since(campaign) <= trip.data["at"]:
                self._pause(campaign, trip.data["reason"])

    def _look_at_domains(self, provider: str, window: _Window) -> None:
        about = _about_provider(provider)
        for domain in {domain for minute in window.values() if provider in minute for domain in minute[provider].domains}:
            if domain != OTHER_DOMAINS:
                rates = (m[provider].domains.get(domain, RateCounts()) for m in window.values() if provider in m)
                named = about._replace(name=f"{about.name}, mail to {domain}")
                self._warn(named, self._excesses(_sum(rates)))

    def _under_way(self, provider: str, only: CampaignRef | None) -> Iterator[Campaign]:
        for ref in self._campaigns.unfinished() if only is None else [only]:
            campaign = self._campaigns.find(ref)
            if campaign is None or campaign.status is not CampaignStatus.SENDING:
                continue
            if storable_provider(self._providers.id_of(ref.tenant, campaign.provider)) == provider:
                yield campaign

    def _excesses(self, rate: RateCounts) -> list[ExceededLimit]:
        return self._limits.excesses(sent=rate.sent, hard=rate.hard, complained=rate.complained)

    def _pause(self, campaign: Campaign, reason: str) -> None:
        """The entry first, as of everything that changes something: a kill leaves one without an end, and the record."""
        ref = campaign.ref
        entry = self._entry("pause campaign", f"campaign/{ref.campaign}", reason)
        self._audit.write(ref.tenant, entry)
        try:
            self._campaigns.transition(campaign, CampaignStatus.PAUSED, reason=reason)
        except Conflict:  # somebody changed it in this moment: the next look sees
            self._audit.write(ref.tenant, replace(entry, status=_LATE))
            return
        _log.warning("campaign %s: %s", ref.campaign, reason)
        self._audit.write(ref.tenant, replace(entry, status=_DONE))

    def _warn(self, about: _About, excesses: Iterable[ExceededLimit]) -> None:
        for excess in excesses:
            note = ItemKey(_GUARD, f"warned/{about.name}/{about.tenant}/{excess.what}")
            if self._tables.get(note) is None:
                text = f"{about.name}: {excess.figures}"
                _log.warning("%s", text)
                self._audit.write(about.tenant, replace(self._entry("warn", about.target, text), status=_DONE))
                self._tables.write([Put(note, {}, expires_at=Instant(self._clock.now() + self._limits.window_ms))])

    def _entry(self, action: str, target: str, reason: str) -> AuditRecord:
        return AuditRecord(
            id=self._audit.new_id(),
            actor="guard:guard",
            name="the guard",
            address="",
            action=f"guard {action}",
            target=target,
            reason=reason,
        )


def _of_home(ref: CampaignRef, window: _Window, first: int) -> RateCounts:
    minutes = (each for minute, found in window.items() if minute >= first for each in found.values())
    return _sum(each.campaigns[ref] for each in minutes if ref in each.campaigns)


def _of_provider(provider: str, window: _Window, first: int) -> RateCounts:
    return _sum(found[provider].total for minute, found in window.items() if minute >= first and provider in found)


def _sum(rates: Iterable[RateCounts]) -> RateCounts:
    total = RateCounts()
    for rate in rates:
        total = total.plus(rate)
    return total


def _since(campaign: Campaign) -> Instant:
    return campaign.sending_since or Instant(0)


def _first_minute(campaign: Campaign) -> int:
    """From where a campaign's window counts: what it did before it was resumed has had its consequence."""
    since = _since(campaign)
    return since // MINUTE_MS if campaign.started_at in (None, since) else _next_minute(since)


def _next_minute(at: Instant) -> int:
    return at // MINUTE_MS + 1


def _owner(provider: str) -> tuple[str, str]:
    """The tenant whose provider it is, empty for a shared one; and its name."""
    owner, slash, name = provider.partition("/")
    return (owner, name) if slash and "://" not in provider else ("", provider)


def _about_provider(provider: str) -> _About:
    owner, name = _owner(provider)
    return _About(f"provider {name}", owner or INSTALLATION, f"provider/{name}")


def _trip(provider: str) -> ItemKey:
    return ItemKey(_GUARD, f"trip/{provider}")
