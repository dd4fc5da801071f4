"""`/v1/callbacks`: where the tenant's own systems are told what happens to its mail, and what they were told.

A repeated POST answers the same callback and the same secret: both are recovery points of the call, kept for a day, the secret
sealed, as is the answer.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from postroom.gateway.access import Admin, Viewer
from postroom.gateway.etags import IfMatch, IfNoneMatch, demand, etag_of, matches, not_modified
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.routing import Route
from postroom.gateway.schemas.callbacks import (
    CallbackEdit,
    CallbackId,
    CallbackMade,
    CallbackShown,
    DeliveryId,
    DeliveryInFull,
    DeliveryShown,
    LineId,
    NewCallback,
    OfStatus,
    RedeliveryOrder,
    RedeliveryOrdered,
    SecretShown,
    TestOrdered,
)
from postroom.gateway.steps import Once, Steps
from postroom.gateway.trail import Trails
from postroom.model.callback import CallbackEndpoint
from postroom.platform.ports.secrets import Secrets
from postroom.services.callbacks import CallbackService, instant_of

_KEPT_TO_ONESELF = "no-store"


def callbacks_routes(callbacks: CallbackService, secrets: Secrets) -> APIRouter:
    """The callbacks of the caller's tenant."""
    router = APIRouter(prefix="/v1/callbacks", tags=["callbacks"], route_class=Route)
    _add_campaigns_secret(router, callbacks, secrets)  # before the ids: its path looks like one
    _add_reading(router, callbacks)
    _add_changing(router, callbacks, secrets)
    _add_deliveries(router, callbacks)
    return router


def _add_campaigns_secret(router: APIRouter, callbacks: CallbackService, secrets: Secrets) -> None:
    @router.get("/campaign-secret", operation_id="get_campaign_secret")
    def show(who: Admin) -> SecretShown:
        """Show what requests to campaigns' own `callback_url` are signed with: one secret for all of the tenant's, made when it
        is first needed."""
        return SecretShown.of(callbacks.campaign_secret(who.tenant))

    @router.post("/campaign-secret/rotate", operation_id="rotate_campaign_secret")
    def rotate(who: Admin, steps: Once, trail: Trails) -> SecretShown:
        """Sign requests to campaigns' own `callback_url` with a new secret; for a day with the one before too."""
        secret = _secret(callbacks, secrets, steps, purpose=f"callback-answer/{who.tenant}/campaigns")
        callbacks.rotate_campaign_secret(who.tenant, secret)
        trail.changed("callback", "campaign-secret")
        return SecretShown.of(secret)


def _add_reading(router: APIRouter, callbacks: CallbackService) -> None:
    @router.get("", operation_id="list_callbacks")
    def list_all(who: Viewer) -> Page[CallbackShown]:
        """List the tenant's callbacks, oldest first. All in one page: there may be 50."""
        return Page(items=[CallbackShown.of(endpoint) for endpoint in callbacks.list(who.tenant)], cursor=None)

    @router.get(
        "/{id}", operation_id="get_callback", response_model=CallbackShown, responses={304: {"description": "Not modified"}}
    )
    def get(id: CallbackId, who: Viewer, response: Response, if_none_match: IfNoneMatch = None) -> CallbackShown | Response:  # noqa: A002
        """Show a callback; its secret is never shown again."""
        endpoint = callbacks.get(who.tenant, id)
        if matches(if_none_match, etag_of(endpoint.version)):
            return not_modified(etag_of(endpoint.version))
        return _shown(endpoint, response)


def _add_changing(router: APIRouter, callbacks: CallbackService, secrets: Secrets) -> None:
    @router.post("", status_code=201, operation_id="create_callback")
    def create(body: NewCallback, who: Admin, steps: Once, trail: Trails, response: Response) -> CallbackMade:
        """Have a URL told what happens from now on. The secret that its requests are signed with is shown in this answer only."""
        id = steps.once("id", callbacks.new_id)  # noqa: A001
        secret = _secret(callbacks, secrets, steps, purpose=f"callback-answer/{who.tenant}/{id}")
        endpoint = callbacks.create(who.tenant, body.wishes(), id=id, secret=secret)
        trail.changed("callback", id, after=_shown(endpoint, response).model_dump())
        response.headers["Location"] = f"/v1/callbacks/{id}"
        response.headers["Cache-Control"] = _KEPT_TO_ONESELF
        return CallbackMade.made(endpoint, secret)

    @router.patch("/{id}", operation_id="change_callback")
    def change(
        id: CallbackId,  # noqa: A002
        body: CallbackEdit,
        who: Admin,
        trail: Trails,
        response: Response,
        if_match: IfMatch = None,
    ) -> CallbackShown:
        """Change a callback, or switch it on or off.

        What waits for its next try goes to the URL as it is then."""
        changed = callbacks.change(
            who.tenant, id, body.edit(), demand=lambda endpoint: demand(if_match, etag_of(endpoint.version))
        )
        shown = _shown(changed.now, response)
        trail.changed("callback", id, before=CallbackShown.of(changed.was).model_dump(), after=shown.model_dump())
        return shown

    @router.delete("/{id}", status_code=204, operation_id="delete_callback")
    def delete(id: CallbackId, who: Admin, trail: Trails) -> None:  # noqa: A002
        """Delete a callback with its secret, what it was still to be told and the record of what it was told."""
        trail.changed("callback", id, before=CallbackShown.of(callbacks.remove(who.tenant, id)).model_dump())

    @router.post("/{id}/rotate-secret", operation_id="rotate_callback_secret")
    def rotate(id: CallbackId, who: Admin, steps: Once, trail: Trails, response: Response) -> CallbackMade:  # noqa: A002
        """Sign with a new secret, which this answer shows once; for a day with the one before too, so that nothing is refused
        while the receiver changes over."""
        was = callbacks.get(who.tenant, id)
        secret = _secret(callbacks, secrets, steps, purpose=f"callback-answer/{who.tenant}/{id}")
        endpoint = callbacks.rotate(who.tenant, id, secret)
        before, after = CallbackShown.of(was).model_dump(), _shown(endpoint, response).model_dump()
        trail.changed("callback", id, before=before, after=after)
        response.headers["Cache-Control"] = _KEPT_TO_ONESELF
        return CallbackMade.made(endpoint, secret)

    @router.post("/{id}/test", status_code=202, operation_id="test_callback")
    def test(id: CallbackId, who: Admin, steps: Once, trail: Trails) -> TestOrdered:  # noqa: A002
        """Send it a signed `postroom.test`, by the way that events take: what comes of it is in the delivery."""
        delivery = callbacks.test(who.tenant, id, steps.once("delivery", callbacks.new_delivery_id))
        trail.changed("callback", id)
        return TestOrdered(delivery_id=delivery.id)


def _add_deliveries(router: APIRouter, callbacks: CallbackService) -> None:
    @router.get("/{id}/deliveries", operation_id="list_callback_deliveries")
    def list_deliveries(
        id: LineId,  # noqa: A002
        who: Viewer,
        status: OfStatus = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[DeliveryShown]:
        """List what it was told, or is still to be told, newest first: what was answered well for three days, what was given up
        for thirty. A page may hold fewer than `limit`, or none, before the end."""
        page = callbacks.deliveries(who.tenant, id, status=status, cursor=cursor, limit=limit)
        return Page(items=[DeliveryShown.of(delivery) for delivery in page.deliveries], cursor=page.cursor)

    @router.get("/{id}/deliveries/{delivery_id}", operation_id="get_callback_delivery")
    def get_delivery(id: LineId, delivery_id: DeliveryId, who: Viewer) -> DeliveryInFull:  # noqa: A002
        """Show a delivery: what it says, and what was answered last."""
        return DeliveryInFull.all_of(callbacks.delivery(who.tenant, id, delivery_id))

    @router.post("/{id}/deliveries/{delivery_id}/redeliver", status_code=202, operation_id="redeliver_callback_delivery")
    def redeliver(id: LineId, delivery_id: DeliveryId, who: Admin, trail: Trails) -> DeliveryShown:  # noqa: A002
        """Tell it again, under the same id: now, and for a day until it is answered well."""
        delivery = callbacks.redeliver(who.tenant, id, delivery_id)
        trail.changed("callback", f"{id}/deliveries/{delivery_id}")
        return DeliveryShown.of(delivery)

    @router.post("/{id}/redeliver", status_code=202, operation_id="redeliver_callback")
    def redeliver_dead(id: LineId, body: RedeliveryOrder, who: Admin, trail: Trails) -> RedeliveryOrdered:  # noqa: A002
        """Tell it again all that was given up. One call looks at up to about 10,000 deliveries, newest first; with a `cursor` in
        its answer there is more. May be repeated."""
        since = {} if body.since is None else {"since": instant_of(body.since)}
        ordered = callbacks.redeliver_dead(who.tenant, id, cursor=body.cursor, **since)
        trail.changed("callback", id)
        return RedeliveryOrdered.of(ordered)


def _shown(endpoint: CallbackEndpoint, response: Response) -> CallbackShown:
    response.headers["ETag"] = etag_of(endpoint.version)
    return CallbackShown.of(endpoint)


def _secret(callbacks: CallbackService, secrets: Secrets, steps: Steps, *, purpose: str) -> bytes:
    """A new one; the same when the call comes again."""
    return secrets.open(purpose, steps.once("secret", lambda: secrets.seal(purpose, callbacks.new_secret())))
