"""The provider, put together: what the pages and endpoints (issuer.routes) and the command line work with."""

from __future__ import annotations

from argon2 import PasswordHasher

from postroom.clock import Clock
from postroom.identity.account import Account
from postroom.identity.clients import Clients, own_clients
from postroom.identity.grants import Grants
from postroom.identity.invitations import Invitations
from postroom.identity.keys import Keys, Turning
from postroom.identity.passwords import Passwords
from postroom.identity.people import People, Person
from postroom.identity.resealing import reseal
from postroom.identity.second_factor import SecondFactor
from postroom.identity.sessions import Sessions
from postroom.identity.sign_in import SignIn, by_email
from postroom.identity.tokens import AUDIENCE, Tokens
from postroom.identity.tries import Tries
from postroom.model.access import BUILT_IN
from postroom.platform.ports.secrets import Secrets
from postroom.platform.ports.tables import Tables


class Issuer:
    """`url`: the issuer's identifier, the address of the door, without a slash at its end. `hasher`: cheaper, for tests."""

    def __init__(
        self,
        tables: Tables,
        secrets: Secrets,
        clock: Clock,
        *,
        url: str,
        turning: Turning | None = None,
        hasher: PasswordHasher | None = None,
    ) -> None:
        self.url = url
        self.audience = AUDIENCE
        self.membership_issuer = BUILT_IN
        """What memberships of its people and programs name as issuer: not the address, which may change."""
        self.clock = clock
        self.people = People(tables, clock)
        self.passwords = Passwords(clock, hasher)
        self.second_factor = SecondFactor(secrets, clock)
        self.sessions = Sessions(tables, clock, self.people)
        self.tries = Tries(tables, clock)
        self.invitations = Invitations(tables, clock, people=self.people, passwords=self.passwords, url=url)
        self.clients = Clients(tables, clock, own=own_clients(url))
        self.grants = Grants(tables, clock)
        self.keys = Keys(tables, secrets, clock, turning=turning)
        self.tokens = Tokens(self.keys, clock, url=url)
        self.sign_in = SignIn(
            tables,
            self.people,
            passwords=self.passwords,
            second_factor=self.second_factor,
            sessions=self.sessions,
            tries=self.tries,
        )
        self.account = Account(
            self.people,
            passwords=self.passwords,
            second_factor=self.second_factor,
            sessions=self.sessions,
            sign_in=self.sign_in,
        )

    def reseal(self) -> tuple[int, int]:
        """Seal again under the newest master key: how many, and how many could not be opened."""
        return reseal(self.people, self.second_factor, self.keys)

    def accept_invitation(self, token: str, password: str) -> Person:
        """Set a password by a one-time link; what was guessed at before is forgotten. `Invalid`, `NotFound`."""
        person = self.invitations.accept(token, password)
        self.tries.passed(by_email(person.email))
        return person
