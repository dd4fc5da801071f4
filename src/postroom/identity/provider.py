"""The OpenID provider, put together: what the routes, the command line and the wiring work with."""

from __future__ import annotations

from argon2 import PasswordHasher

from postroom.clock import Clock
from postroom.errors import Conflict, Corrupt, NotFound
from postroom.identity.credentials import Passwords, SecondFactor
from postroom.identity.login import AccountService, Invitations, LoginService, Sessions, password_counter
from postroom.identity.login_throttle import LoginThrottle
from postroom.identity.oauth import OAuthClients, own_clients
from postroom.identity.signing_keys import KeyRotation, SigningKeys
from postroom.identity.tokens import AUDIENCE, Grants, Tokens
from postroom.identity.users import User, Users
from postroom.model.access import BUILT_IN
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables


def reseal_identity(users: Users, second_factor: SecondFactor, keys: SigningKeys) -> tuple[int, int]:
    """Seal second factors and signing keys under the newest master key. Returns how many were sealed
    again and how many could not be opened. Repeatable: after a crash, run it again."""
    done, left = keys.reseal()
    for user in users.iterate():
        if second_factor.is_current(user):
            continue
        try:
            users.update(user.subject, second_factor.resealed)
        except NotFound:  # removed since
            continue
        except (Corrupt, Conflict):
            left += 1
        else:
            done += 1
    return done, left


class OpenIdProvider:
    """`url`: the issuer's identifier, the base URL of the API without trailing slash. `hasher`: cheaper, for tests."""

    def __init__(
        self,
        tables: Tables,
        secrets: Secrets,
        clock: Clock,
        *,
        url: str,
        rotation: KeyRotation | None = None,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self.url = url
        self.audience = AUDIENCE
        self.membership_issuer = BUILT_IN
        """What memberships of its people and programs name as issuer: not the address, which may change."""
        self.clock = clock
        self.users = Users(tables, clock)
        self.passwords = Passwords(clock, hasher)
        self.second_factor = SecondFactor(secrets, clock)
        self.sessions = Sessions(tables, clock, self.users)
        self.throttle = LoginThrottle(tables, clock)
        self.invitations = Invitations(tables, clock, users=self.users, passwords=self.passwords, url=url)
        self.clients = OAuthClients(tables, clock, own=own_clients(url))
        self.grants = Grants(tables, clock)
        self.keys = SigningKeys(tables, secrets, clock, rotation=rotation)
        self.tokens = Tokens(self.keys, clock, url=url)
        self.sign_in = LoginService(
            tables,
            self.users,
            passwords=self.passwords,
            second_factor=self.second_factor,
            sessions=self.sessions,
            throttle=self.throttle,
        )
        self.account = AccountService(
            self.users,
            passwords=self.passwords,
            second_factor=self.second_factor,
            sessions=self.sessions,
            sign_in=self.sign_in,
        )

    def reseal(self) -> tuple[int, int]:
        """Seal again under the newest master key: how many, and how many could not be opened."""
        return reseal_identity(self.users, self.second_factor, self.keys)

    def accept_invitation(self, token: str, password: str) -> User:
        """Set a password by a one-time link and reset its throttle. Raises `Invalid` (password not allowed), `NotFound`."""
        user = self.invitations.accept(token, password)
        self.throttle.passed(password_counter(user.email))
        return user
