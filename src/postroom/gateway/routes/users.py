"""`/v1/users`: who belongs to the caller's tenant. Signing in is the issuer's affair; here stands what they may do."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path

from postroom.gateway.access import Admin
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.users import USER_ID, NewUser, UserChange, UserShown
from postroom.gateway.trail import Trails
from postroom.model.access import Membership
from postroom.services.members import Members

UserId = Annotated[str, Path(pattern=USER_ID, description="The user's id.", examples=["2abcdefghijklmnopqrstuvwxy"])]


def users_routes(members: Members, *, issuer: str) -> APIRouter:
    """`issuer`: whose subjects are meant where a call names no issuer."""
    router = APIRouter(prefix="/v1/users", tags=["users"], route_class=Route)

    @router.post("", status_code=201, operation_id="add_user")
    def add(body: NewUser, who: Admin, trail: Trails) -> UserShown:
        """Let somebody into the tenant. Again, as the same, it answers the same."""
        named = body.issuer or issuer
        shown = UserShown.of(
            members.add(who, Membership(named, body.subject, who.tenant, body.role, body.name, operator=body.operator))
        )
        trail.changed("user", shown.id, after=shown.model_dump())
        return shown

    @router.get("", operation_id="list_users")
    def list_all(who: Admin, limit: Limit = 100, cursor: Cursor = None) -> Page[UserShown]:
        """List who belongs to the tenant, in no particular order."""
        page = members.list(who, cursor=cursor, limit=limit)
        return Page(items=[UserShown.of(member) for member in page.memberships], cursor=page.cursor)

    @router.get("/{id}", operation_id="get_user")
    def get(id: UserId, who: Admin) -> UserShown:  # noqa: A002
        """Show one who belongs to the tenant."""
        return UserShown.of(members.get(who, id))

    @router.patch("/{id}", operation_id="change_user")
    def change(id: UserId, body: UserChange, who: Admin, trail: Trails) -> UserShown:  # noqa: A002
        """Change role, name or operator flag; it counts within seconds. The last admin stays one."""
        before = UserShown.of(members.get(who, id))
        shown = UserShown.of(members.change(who, id, **body.model_dump(exclude_none=True)))
        trail.changed("user", id, before=before.model_dump(), after=shown.model_dump())
        return shown

    @router.delete("/{id}", status_code=204, operation_id="remove_user")
    def remove(id: UserId, who: Admin, trail: Trails) -> None:  # noqa: A002
        """Let somebody in no longer; it counts within seconds. The last admin stays."""
        trail.changed("user", id, before=UserShown.of(members.remove(who, id)).model_dump())

    return router
