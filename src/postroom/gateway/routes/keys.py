"""`/v1/keys`: API keys for programs.

A repeated POST answers the same key: its id and secret are recovery points of the call. They are kept for a day only, the secret
sealed, as is the answer; in the record of the key itself stands a digest.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Response

from postroom.gateway.access import Admin
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.keys import KeyMade, KeyShown, NewKey
from postroom.gateway.steps import Once
from postroom.gateway.trail import Trails
from postroom.model.access import API_KEY_ID
from postroom.platform.ports.secrets import Secrets
from postroom.services.keys import ApiKeys

KeyId = Annotated[str, Path(pattern=API_KEY_ID, description="The key's id.", examples=["2abcdefghijklmno"])]


def keys_routes(keys: ApiKeys, secrets: Secrets) -> APIRouter:
    """The keys of the caller's tenant."""
    router = APIRouter(prefix="/v1/keys", tags=["keys"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_key")
    def create(body: NewKey, who: Admin, steps: Once, trail: Trails, response: Response) -> KeyMade:
        """Make an API key. Its text is shown in this answer only."""
        id = steps.once("id", keys.new_id)  # noqa: A001
        purpose = f"key/{who.tenant}/{id}"
        secret = secrets.open(purpose, steps.once("secret", lambda: secrets.seal(purpose, keys.new_secret())))
        scopes = None if body.scopes is None else frozenset(body.scopes)
        made = keys.create(who, body.name, role=body.role, scopes=scopes, days=body.expires_in_days, id=id, secret=secret)
        trail.changed("key", id, after=KeyShown.of(made.key).model_dump())
        response.headers["Cache-Control"] = "no-store"
        return KeyMade.made(made)

    @router.get("", operation_id="list_keys")
    def list_all(who: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[KeyShown]:
        """List the tenant's keys, oldest first."""
        page = keys.list(who, cursor=cursor, limit=limit)
        return Page(items=[KeyShown.of(*used) for used in page.keys], cursor=page.cursor)

    @router.get("/{id}", operation_id="get_key")
    def get(id: KeyId, who: Admin) -> KeyShown:  # noqa: A002
        """Show a key: not its text, which nobody can show again."""
        return KeyShown.of(*keys.get(who, id))

    @router.delete("/{id}", status_code=204, operation_id="revoke_key")
    def revoke(id: KeyId, who: Admin, trail: Trails) -> None:  # noqa: A002
        """Revoke a key: within seconds calls with it are refused, for ever."""
        trail.changed("key", id, before=KeyShown.of(keys.revoke(who, id)).model_dump())

    return router
