"""Pauses campaigns and providers whose bounces or complaints exceed a limit (model.reputation), and warns about others.

- A campaign over a pause limit is paused. A provider over one trips: all its campaigns that are being sent are paused.
- Single messages are never stopped. For them, for completed campaigns and for recipient domains there is a warning, in the log
  and the audit log, once a window.
- When a campaign is resumed its window starts anew at the next whole minute. A tripped provider's window starts anew with the
  first campaign that was resumed since.
- A permanent bounce and a complaint count once per message, however many reports come: a recipient has the tokens of their
  message and could otherwise stop all mail by sending a hundred bounces of it.

Any number of processes may check. A trip is stored before the first campaign is paused, and for as long as the window: after a
crash in between, the next check pauses the rest. A warning is written before the note that it was given: a crash in between
repeats it.

    #guard / trip/{provider}                 when and why it tripped
    #guard / warned/{subject}/{tenant}/{what}  exists while the same warning is not repeated
"""

from __future__ import annotations

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
from postroom.telemetry.logs import event_logger

_CACHED_S: Final = 60.0
_log = event_logger(__name__)


class ReputationRecorder:
    """Counts new events by provider. Called by one thread."""

    def __init__(self, rates: RateRecorder, providers: Providers, clock: Clock) -> None:
        self._rates = rates
        self._providers = providers
        self._known: TtlCache[tuple[str, str | None], str] = TtlCache(clock, most=1_000)

    def __call__(self, applied: AppliedEvent) -> None:
        """Count an event. Never raises: one event that cannot be counted does not matter."""
        if applied.again:
            return
        try:
            provider = self._provider(applied.ref.tenant, applied.provider)
        except PostroomError as error:
            _log.warning("reputation.event_not_counted", reason=str(error))
            return
        self._rates.event(applied.ref, provider, applied.domain, applied.event)

    def _provider(self, tenant: str, name: str | None) -> str:
        known = self._known.get((tenant, name))
        if known is None:
            known = self._providers.id_of(tenant, name)
            self._known.put((tenant, name), known, seconds=_CACHED_S)
        return known


CHECK_S: Final = 5.0
"""How often `check` should run."""
_CLOSED_AFTER: Final = 3  # minutes: older ones no longer change
_JUDGED: Final = frozenset({CampaignStatus.SENDING, CampaignStatus.COMPLETED})
_GUARD: Final = "#guard"
_DONE, _LATE = 200, 409
_Window = dict[int, dict[str, MinuteRates]]


class _Subject(NamedTuple):
    """What a warning is subject."""

    name: str
    tenant: str
    """The tenant whose audit log gets the entry."""
    target: str


class ReputationGuard:
    """Pauses campaigns and warns, by the rates of the last window."""

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

    def check(self, only: CampaignRef | None = None) -> None:
        """Check the last window. `only`: check and pause no other campaign. Raises errors of the stores."""
        window = self._window()
        for ref in {ref for minute in window.values() for each in minute.values() for ref in each.campaigns}:
            if only is None or ref == only:
                self._check_campaign(ref, window)
        for provider in {provider for minute in window.values() for provider in minute}:
            self._check_provider(provider, window, only)
            self._check_domains(provider, window)

    def _window(self) -> _Window:
        """Rates by minute; minutes that no longer change are read once."""
        now = self._clock.now() // MINUTE_MS
        wanted = range(now - self._limits.window_ms // MINUTE_MS + 1, now + 1)
        window = {minute: self._closed.get(minute) or self._tallies.read(minute) for minute in wanted}
        self._closed = {minute: found for minute, found in window.items() if minute < now - _CLOSED_AFTER}
        return window

    def _check_campaign(self, ref: CampaignRef, window: _Window) -> None:
        if _campaign_rates(ref, window, 0).sent < self._limits.sample:
            return
        subject = _Subject(f"campaign {ref.campaign}", ref.tenant, f"campaign/{ref.campaign}")
        if is_stream(ref.campaign):
            self._warn(subject, self._excesses(_campaign_rates(ref, window, 0)))
            return
        campaign = self._campaigns.find(ref)
        if campaign is None or campaign.status not in _JUDGED:
            return
        found = self._excesses(_campaign_rates(ref, window, _first_minute(campaign)))
        if campaign.status is CampaignStatus.COMPLETED:  # most bounces arrive after the last message was sent
            self._warn(subject, found)
            return
        self._warn(subject, [excess for excess in found if excess.action is GuardAction.WARN])
        for excess in found:
            if excess.action is GuardAction.PAUSE:
                self._pause(campaign, f"the guard paused it: {excess.figures}")
                return

    def _check_provider(self, provider: str, window: _Window, only: CampaignRef | None) -> None:
        trip, first = self._tables.get(_trip(provider)), 0
        if trip is not None:
            going_on = list(self._under_way(provider, only))
            self._pause_all(going_on, trip)
            resumed = [_since(campaign) for campaign in going_on if _since(campaign) > trip.data["at"]]
            if not resumed:
                return
            first = _next_minute(min(resumed))
        found = self._excesses(_provider_rates(provider, window, first))
        self._warn(_provider_subject(provider), found)  # before the trip, which starts the window anew
        if any(excess.action is GuardAction.PAUSE for excess in found):
            self._trip(provider, found[0], trip, only=only)

    def _trip(self, provider: str, excess: ExceededLimit, before: Item | None, *, only: CampaignRef | None) -> None:
        """Also if no campaign is being sent: the next one that starts begins the window anew."""
        owner, name = _owner(provider)
        reason = f"the guard paused all campaigns of the provider {name}: {excess.figures if owner else excess.rate}"
        now, expect = self._clock.now(), Expect.ABSENT if before is None else before.version
        put = Put(_trip(provider), {"at": now, "reason": reason}, expect, Instant(now + self._limits.window_ms))
        with suppress(Conflict):  # another process tripped it first, and pauses them
            (version,) = self._tables.write([put])
            self._pause_all(self._under_way(provider, only), Item(put.key, put.data, version))

    def _pause_all(self, campaigns: Iterable[Campaign], trip: Item) -> None:
        for campaign in campaigns:
            if _since(campaign) <= trip.data["at"]:
                self._pause(campaign, trip.data["reason"])

    def _check_domains(self, provider: str, window: _Window) -> None:
        subject = _provider_subject(provider)
        for domain in {domain for minute in window.values() if provider in minute for domain in minute[provider].domains}:
            if domain != OTHER_DOMAINS:
                rates = (m[provider].domains.get(domain, RateCounts()) for m in window.values() if provider in m)
                named = subject._replace(name=f"{subject.name}, mail to {domain}")
                self._warn(named, self._excesses(_sum(rates)))

    def _under_way(self, provider: str, only: CampaignRef | None) -> Iterator[Campaign]:
        for ref in self._campaigns.unfinished() if only is None else [only]:
            campaign = self._campaigns.find(ref)
            if campaign is None or campaign.status is not CampaignStatus.SENDING:
                continue
            if storable_provider(self._providers.id_of(ref.tenant, campaign.spec.provider)) == provider:
                yield campaign

    def _excesses(self, rate: RateCounts) -> list[ExceededLimit]:
        return self._limits.excesses(sent=rate.sent, hard=rate.hard, complained=rate.complained)

    def _pause(self, campaign: Campaign, reason: str) -> None:
        """Writes the audit entry before the change: a crash in between leaves an entry without a result."""
        ref = campaign.ref
        entry = self._entry("pause campaign", f"campaign/{ref.campaign}", reason)
        self._audit.write(ref.tenant, entry)
        try:
            self._campaigns.transition(campaign, CampaignStatus.PAUSED, reason=reason)
        except Conflict:  # it was changed meanwhile: the next check sees
            self._audit.write(ref.tenant, replace(entry, status=_LATE))
            return
        _log.warning("reputation.campaign_paused", campaign=ref.campaign, tenant=ref.tenant, reason=reason)
        self._audit.write(ref.tenant, replace(entry, status=_DONE))

    def _warn(self, subject: _Subject, excesses: Iterable[ExceededLimit]) -> None:
        for excess in excesses:
            note = ItemKey(_GUARD, f"warned/{subject.name}/{subject.tenant}/{excess.what}")
            if self._tables.get(note) is None:
                text = f"{subject.name}: {excess.figures}"
                _log.warning("reputation.limit_exceeded", subject=subject.name, figures=excess.figures)
                self._audit.write(subject.tenant, replace(self._entry("warn", subject.target, text), status=_DONE))
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


def _campaign_rates(ref: CampaignRef, window: _Window, first: int) -> RateCounts:
    minutes = (each for minute, found in window.items() if minute >= first for each in found.values())
    return _sum(each.campaigns[ref] for each in minutes if ref in each.campaigns)


def _provider_rates(provider: str, window: _Window, first: int) -> RateCounts:
    return _sum(found[provider].total for minute, found in window.items() if minute >= first and provider in found)


def _sum(rates: Iterable[RateCounts]) -> RateCounts:
    total = RateCounts()
    for rate in rates:
        total = total.plus(rate)
    return total


def _since(campaign: Campaign) -> Instant:
    return campaign.sending_since or Instant(0)


def _first_minute(campaign: Campaign) -> int:
    """The first minute that counts for a campaign: rates from before it was resumed have had their consequence."""
    since = _since(campaign)
    return since // MINUTE_MS if campaign.started_at in (None, since) else _next_minute(since)


def _next_minute(at: Instant) -> int:
    return at // MINUTE_MS + 1


def _owner(provider: str) -> tuple[str, str]:
    """The tenant a provider belongs to (empty for a shared one), and its name."""
    owner, slash, name = provider.partition("/")
    return (owner, name) if slash and "://" not in provider else ("", provider)


def _provider_subject(provider: str) -> _Subject:
    owner, name = _owner(provider)
    return _Subject(f"provider {name}", owner or INSTALLATION, f"provider/{name}")


def _trip(provider: str) -> ItemKey:
    return ItemKey(_GUARD, f"trip/{provider}")
