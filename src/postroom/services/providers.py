"""Providers: how a tenant's mail is sent, and which providers an operator shares.

A caller that is not an operator may change only its own tenant's providers, may name only relays on the public Internet, and
neither sees nor tests the URLs of shared ones. A tenant's provider that an operator pointed into our own network stays trusted
while its URL is unchanged. Each change is one conditional write (ledger.providers), so a crash leaves it made or not made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from postroom.clock import Instant
from postroom.errors import Conflict, Denied, Invalid
from postroom.ledger.providers import ProviderCredentials, Providers, ProviderSpec
from postroom.model.finding import Finding, Level
from postroom.model.provider import DEFAULT_PROVIDER, MAX_URL, Provider, encode_password, with_password, without_password
from postroom.services.outbound_slots import OutboundSlots


@dataclass(frozen=True, slots=True)
class ProviderCaller:
    """The caller, and the tenant it acts for."""

    tenant: str | None
    """None: the installation; operators only."""
    operator: bool


class ProviderService:
    def __init__(
        self,
        providers: Providers,
        *,
        check: Callable[[str, bool], None],
        examine: Callable[[ProviderCredentials], Sequence[Finding]],
    ) -> None:
        """`check` raises `Invalid` for a URL that is no relay, or that an untrusted caller may not name. `examine` connects and
        logs in."""
        self._providers = providers
        self._check = check
        self._examine = examine
        self._slots = OutboundSlots("provider")

    def create(self, asker: ProviderCaller, name: str, change: ProviderSpec, *, shared: bool = False, mark: str = "") -> Provider:
        """Create a provider for the caller's tenant, or a shared one. Raises `Invalid`, `Conflict`, `Denied`.

        `mark`: see ledger.providers."""
        if shared and not asker.operator:
            raise Denied("a provider that is shared by all tenants needs an operator of the installation")
        self._check_url(change.url, trusted=asker.operator)
        owner = None if shared else asker.tenant
        return self._providers.create(owner, name, change._replace(trusted=asker.operator), mark=mark)

    def change(self, asker: ProviderCaller, was: Provider, change: ProviderSpec) -> Provider:
        """Replace it. A URL without a password keeps the stored password only if the URL is unchanged."""
        self._demand_right(asker, was)
        url, password = without_password(change.url)
        trusted = asker.operator or (was.trusted and url == was.url)
        keeps = password is None and was.has_password and url == was.url
        self._check_url(with_password(url, "kept") if keeps else change.url, trusted=trusted)
        return self._providers.change(was, change._replace(trusted=trusted))

    def delete(self, asker: ProviderCaller, name: str) -> Provider:
        """Delete and return it. Campaigns that name it cannot send until they have another."""
        was = self._providers.get(asker.tenant, name)
        self._demand_right(asker, was)
        self._providers.delete(was)
        return was

    def get(self, asker: ProviderCaller, name: str) -> Provider:
        """The provider of that name for the caller. Raises `NotFound`."""
        return self._providers.get(asker.tenant, name)

    def list(self, asker: ProviderCaller) -> Sequence[Provider]:
        """All providers the caller may use: own, shared and the default."""
        return self._providers.list(asker.tenant)

    def test(self, asker: ProviderCaller, name: str) -> Sequence[Finding]:
        """Connect, greet, encrypt and log in; nothing is sent. Takes up to half a minute.

        Raises `Conflict` if too many tests are running (services.outbound_slots)."""
        provider = self._providers.get(asker.tenant, name)
        if provider.shared and not asker.operator:
            raise Denied(f"the provider {name} is not this tenant's own: testing it needs an operator of the installation")
        means = self._providers.credentials(asker.tenant, name)
        with self._slots.slot(asker.tenant):
            return self._examine(means)

    def _demand_right(self, asker: ProviderCaller, provider: Provider) -> None:
        if provider.name == DEFAULT_PROVIDER:
            raise Conflict(f"the provider {DEFAULT_PROVIDER} is the setting POSTROOM_MAIL: it is changed there")
        if provider.shared and not asker.operator:
            raise Denied(
                f"the provider {provider.name} is shared by all tenants: changing it needs an operator of the installation"
            )

    def _check_url(self, url: str, *, trusted: bool) -> None:
        if len(url) > MAX_URL:
            raise Invalid(f"a provider's URL of {len(url)} characters is too long: up to {MAX_URL}")
        self._check(url, trusted)


def warming(providers: Sequence[Provider], now: Instant) -> Iterator[Finding]:
    """Findings about providers in warm-up."""
    for provider in providers:
        ramp = provider.use.warm_up
        if ramp is not None and (today := ramp.per_day(now)) is not None:
            text = f"{today:,} recipients today, by the warm-up {ramp}"
            yield Finding(f"provider {provider.name}", Level.OK, text)


def provider_url(url: str, password: str | None) -> str:
    """A URL with its password inserted. Raises `Invalid` if it has one already, or no user."""
    if password is None:
        return url
    if without_password(url)[1] is not None:
        raise Invalid("the password is given twice: in the URL and beside it")
    return with_password(url, encode_password(password))
