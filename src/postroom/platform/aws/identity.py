"""`ports.identity` in a Cognito user pool whose people sign in by e-mail address on its hosted pages.

Cognito sends the invitation itself: a mail with a temporary password, good for one sign-in, at which the person sets their own
(https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_AdminCreateUser.html). It is valid as long as the
pool says (three days in our stack), and another invitation replaces it. A person who has a password resets it with "forgot
password" on those pages, so an invitation does nothing for them. If the answer to a creation was lost, the repeat finds its own
account and sends a second mail, whose password is the valid one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from postroom.errors import Conflict, Corrupt, Invalid, NotFound
from postroom.platform.aws._clients import aws_errors, error_code
from postroom.platform.ports.identity import AccountStatus, Invitation, UserAccount, normalized_email

if TYPE_CHECKING:
    from mypy_boto3_cognito_idp import CognitoIdentityProviderClient

_SUBJECT = re.compile(r"[A-Za-z0-9_-]{1,128}")
_MAX_USERNAME = 128
_TAKEN = frozenset({"AliasExistsException", "UsernameExistsException"})
_ABSENT = "UserNotFoundException"
_NO_PASSWORD_YET = frozenset({"FORCE_CHANGE_PASSWORD", "UNCONFIRMED"})


class CognitoIdentity:
    """`ports.identity.IdentityProvider` in one user pool."""

    def __init__(self, client: CognitoIdentityProviderClient, pool: str, *, issuer: str) -> None:
        """`pool`: the pool's id. `issuer`: the `iss` claim of the pool's tokens."""
        self._client = client
        self._pool = pool
        self._issuer = issuer

    @property
    def issuer(self) -> str:
        return self._issuer

    def invite(self, email: str) -> Invitation:
        address = _address(email)
        made = self._create(address, UserAttributes=_verified(address))
        if made is not None:
            return Invitation(made, None)
        known = self.find(address)
        if known is None:
            raise Conflict(f"{address} is being removed at this moment: try again")
        if known.status is AccountStatus.INVITED:
            self._create(address, MessageAction="RESEND")
        return Invitation(known, None)

    def _create(self, address: str, **more: Any) -> UserAccount | None:
        """The new account, or None if the address is taken."""
        with aws_errors("inviting a person to the user pool"):
            try:
                answer = self._client.admin_create_user(
                    UserPoolId=self._pool, Username=address, DesiredDeliveryMediums=["EMAIL"], **more
                )
            except ClientError as error:
                if error_code(error) not in _TAKEN:
                    raise
                return None
        return _account(answer["User"], answer["User"].get("Attributes", []))

    def find(self, who: str) -> UserAccount | None:
        name = _name(who)
        if name is None:
            return None
        with aws_errors("reading an account of the user pool"):
            try:
                user = self._client.admin_get_user(UserPoolId=self._pool, Username=name)
            except ClientError as error:
                if error_code(error) != _ABSENT:
                    raise
                return None
        return _account(user, user.get("UserAttributes", []))

    def disable(self, subject: str) -> None:
        self._do("admin_disable_user", subject)

    def enable(self, subject: str) -> None:
        self._do("admin_enable_user", subject)

    def reset_second_factor(self, subject: str) -> None:
        self._do("admin_set_user_mfa_preference", subject, SoftwareTokenMfaSettings={"Enabled": False, "PreferredMfa": False})

    def remove(self, subject: str) -> bool:
        try:
            self._do("admin_delete_user", subject)
        except NotFound:
            return False
        return True

    def _do(self, operation: str, subject: str, **more: Any) -> None:
        """Call an operation on the account. Raises `NotFound` if no account has that subject."""
        with aws_errors(f"calling {operation} on the user pool"):
            try:
                if not _SUBJECT.fullmatch(subject):
                    raise NotFound(f"there is no account {subject[:80]!r}")
                getattr(self._client, operation)(UserPoolId=self._pool, Username=subject, **more)
            except ClientError as error:
                if error_code(error) != _ABSENT:
                    raise
                raise NotFound(f"there is no account {subject!r}") from error


def _account(user: Any, attributes: Any) -> UserAccount:
    known = {attribute["Name"]: attribute.get("Value", "") for attribute in attributes}
    if "sub" not in known:
        raise Corrupt("the user pool returned an account without a subject")
    return UserAccount(known["sub"], known.get("email", ""), _state(user), bool(user.get("UserMFASettingList")))


def _state(user: Any) -> AccountStatus:
    if not user.get("Enabled", True):
        return AccountStatus.DISABLED
    return AccountStatus.INVITED if user.get("UserStatus") in _NO_PASSWORD_YET else AccountStatus.ACTIVE


def _verified(address: str) -> list[dict[str, str]]:
    """A verified address, so that "forgot password" works at once. The inviting administrator is trusted about it."""
    return [{"Name": "email", "Value": address}, {"Name": "email_verified", "Value": "true"}]


def _address(email: str) -> str:
    """The address in lower case: the pool ignores case, so the same address is the same text everywhere."""
    address = normalized_email(email).lower()
    if len(address) > _MAX_USERNAME:
        raise Invalid(f"{address[:80]}… is too long to sign in with at Cognito: up to {_MAX_USERNAME} characters")
    return address


def _name(who: str) -> str | None:
    """The user name for Cognito, or None if it cannot be one."""
    if _SUBJECT.fullmatch(who):
        return who
    try:
        return _address(who)
    except Invalid:
        return None
