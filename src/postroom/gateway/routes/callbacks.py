"""`/v1/callbacks`: webhooks of the tenant and their deliveries.

A repeated POST returns the same callback and the same secret: both are recovery points of the request, stored for a day, the
secret and the response sealed.
"""

from __future__ import annotations

from fastapi import APIRouter, Response

from postroom.gateway.access import Admin, Viewer
from postroom.gateway.audit import Audit
from postroom.gateway.etags import IfMatch, IfNoneMatch, demand, etag_of, matches, not_modified
from postroom.gateway.idempotency import Points, RecoveryPoints
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.callbacks import (
    CallbackBody,
    CallbackEdit,
    CallbackId,
    CallbackTest,
    CreatedCallback,
    DeliveryBody,
    DeliveryDetail,
    DeliveryId,
    DeliveryStatusFilter,
    DeliveryTargetId,
    NewCallback,
    RedeliveryBody,
    RedeliveryRequest,
    SecretBody,
)
from postroom.model.callback import CallbackEndpoint
from postroom.platform.ports.secrets import Secrets
from postroom.services.callbacks import CallbackService, parse_instant

_KEPT_TO_ONESELF = "no-store"


def callbacks_routes(callbacks: CallbackService, secrets: Secrets) -> APIRouter:
    router = APIRouter(prefix="/v1/callbacks", tags=["callbacks"], route_class=Route)
    _add_campaigns_secret(router, callbacks, secrets)  # before the routes with ids: its path looks like one
    _add_reading(router, callbacks)
    _add_changing(router, callbacks, secrets)
    _add_deliveries(router, callbacks)
    return router


def _add_campaigns_secret(router: APIRouter, callbacks: CallbackService, secrets: Secrets) -> None:
    @router.get("/campaign-secret", operation_id="get_campaign_secret")
    def show(caller: Admin) -> SecretBody:
        """Retrieve the secret that signs requests to campaigns' `callback_url`. A tenant has one, created when first needed."""
        return SecretBody.from_record(callbacks.campaign_secret(caller.tenant))

    @router.post("/campaign-secret/rotate", operation_id="rotate_campaign_secret")
    def rotate(caller: Admin, points: Points, audit: Audit) -> SecretBody:
        """Rotate the secret that signs requests to campaigns' `callback_url`. The old one signs too for a day."""
        secret = _secret(callbacks, secrets, points, purpose=f"callback-answer/{caller.tenant}/campaigns")
        callbacks.rotate_campaign_secret(caller.tenant, secret)
        audit.changed("callback", "campaign-secret")
        return SecretBody.from_record(secret)


def _add_reading(router: APIRouter, callbacks: CallbackService) -> None:
    @router.get("", operation_id="list_callbacks")
    def list_all(caller: Viewer) -> Page[CallbackBody]:
        """List callbacks, oldest first, in one page (up to 50)."""
        return Page(items=[CallbackBody.from_record(endpoint) for endpoint in callbacks.list(caller.tenant)], cursor=None)

    @router.get(
        "/{id}", operation_id="get_callback", response_model=CallbackBody, responses={304: {"description": "Not modified"}}
    )
    def get(id: CallbackId, caller: Viewer, response: Response, if_none_match: IfNoneMatch = None) -> CallbackBody | Response:  # noqa: A002
        """Retrieve a callback, without its secret."""
        endpoint = callbacks.get(caller.tenant, id)
        if matches(if_none_match, etag_of(endpoint.version)):
            return not_modified(etag_of(endpoint.version))
        return _shown(endpoint, response)


def _add_changing(router: APIRouter, callbacks: CallbackService, secrets: Secrets) -> None:
    @router.post("", status_code=201, operation_id="create_callback")
    def create(body: NewCallback, caller: Admin, points: Points, audit: Audit, response: Response) -> CreatedCallback:
        """Create a callback (webhook) for events from now on. Only this response has its signing secret."""
        id = points.once("id", callbacks.new_id)  # noqa: A001
        secret = _secret(callbacks, secrets, points, purpose=f"callback-answer/{caller.tenant}/{id}")
        endpoint = callbacks.create(caller.tenant, body.settings(), id=id, secret=secret)
        audit.changed("callback", id, after=_shown(endpoint, response).model_dump())
        response.headers["Location"] = f"/v1/callbacks/{id}"
        response.headers["Cache-Control"] = _KEPT_TO_ONESELF
        return CreatedCallback.made(endpoint, secret)

    @router.patch("/{id}", operation_id="change_callback")
    def change(
        id: CallbackId,  # noqa: A002
        body: CallbackEdit,
        caller: Admin,
        audit: Audit,
        response: Response,
        if_match: IfMatch = None,
    ) -> CallbackBody:
        """Update a callback, or enable or disable it.

        Pending deliveries go to the new URL."""
        changed = callbacks.change(
            caller.tenant, id, body.edit(), demand=lambda endpoint: demand(if_match, etag_of(endpoint.version))
        )
        shown = _shown(changed.now, response)
        audit.changed("callback", id, before=CallbackBody.from_record(changed.was).model_dump(), after=shown.model_dump())
        return shown

    @router.delete("/{id}", status_code=204, operation_id="delete_callback")
    def delete(id: CallbackId, caller: Admin, audit: Audit) -> None:  # noqa: A002
        """Delete a callback with its secret and all its deliveries, pending ones included."""
        audit.changed("callback", id, before=CallbackBody.from_record(callbacks.remove(caller.tenant, id)).model_dump())

    @router.post("/{id}/rotate-secret", operation_id="rotate_callback_secret")
    def rotate(id: CallbackId, caller: Admin, points: Points, audit: Audit, response: Response) -> CreatedCallback:  # noqa: A002
        """Rotate a callback's signing secret. Only this response has the new secret; the old one signs too for a day."""
        was = callbacks.get(caller.tenant, id)
        secret = _secret(callbacks, secrets, points, purpose=f"callback-answer/{caller.tenant}/{id}")
        endpoint = callbacks.rotate(caller.tenant, id, secret)
        before, after = CallbackBody.from_record(was).model_dump(), _shown(endpoint, response).model_dump()
        audit.changed("callback", id, before=before, after=after)
        response.headers["Cache-Control"] = _KEPT_TO_ONESELF
        return CreatedCallback.made(endpoint, secret)

    @router.post("/{id}/test", status_code=202, operation_id="test_callback")
    def test(id: CallbackId, caller: Admin, points: Points, audit: Audit) -> CallbackTest:  # noqa: A002
        """Send a signed `postroom.test` event to a callback. The delivery shows the result."""
        delivery = callbacks.test(caller.tenant, id, points.once("delivery", callbacks.new_delivery_id))
        audit.changed("callback", id)
        return CallbackTest(delivery_id=delivery.id)


def _add_deliveries(router: APIRouter, callbacks: CallbackService) -> None:
    @router.get("/{id}/deliveries", operation_id="list_callback_deliveries")
    def list_deliveries(
        id: DeliveryTargetId,  # noqa: A002
        caller: Viewer,
        status: DeliveryStatusFilter = None,
        limit: Limit = 100,
        cursor: Cursor = None,
    ) -> Page[DeliveryBody]:
        """List a callback's deliveries, newest first. Successful ones are kept for 3 days, failed ones for 30. A page may hold
        fewer than `limit`, or none, before the end."""
        page = callbacks.deliveries(caller.tenant, id, status=status, cursor=cursor, limit=limit)
        return Page(items=[DeliveryBody.from_record(delivery) for delivery in page.items], cursor=page.cursor)

    @router.get("/{id}/deliveries/{delivery_id}", operation_id="get_callback_delivery")
    def get_delivery(id: DeliveryTargetId, delivery_id: DeliveryId, caller: Viewer) -> DeliveryDetail:  # noqa: A002
        """Retrieve a delivery with its body and the last attempt."""
        return DeliveryDetail.all_of(callbacks.delivery(caller.tenant, id, delivery_id))

    @router.post("/{id}/deliveries/{delivery_id}/redeliver", status_code=202, operation_id="redeliver_callback_delivery")
    def redeliver(id: DeliveryTargetId, delivery_id: DeliveryId, caller: Admin, audit: Audit) -> DeliveryBody:  # noqa: A002
        """Redeliver a delivery under the same id: now, with retries for a day."""
        delivery = callbacks.redeliver(caller.tenant, id, delivery_id)
        audit.changed("callback", f"{id}/deliveries/{delivery_id}")
        return DeliveryBody.from_record(delivery)

    @router.post("/{id}/redeliver", status_code=202, operation_id="redeliver_callback")
    def redeliver_dead(id: DeliveryTargetId, body: RedeliveryRequest, caller: Admin, audit: Audit) -> RedeliveryBody:  # noqa: A002
        """Redeliver all failed deliveries. One request covers up to about 10,000, newest first; a `cursor` in the response means
        that there are more."""
        since = {} if body.since is None else {"since": parse_instant(body.since)}
        ordered = callbacks.redeliver_dead(caller.tenant, id, cursor=body.cursor, **since)
        audit.changed("callback", id)
        return RedeliveryBody.from_record(ordered)


def _shown(endpoint: CallbackEndpoint, response: Response) -> CallbackBody:
    response.headers["ETag"] = etag_of(endpoint.version)
    return CallbackBody.from_record(endpoint)


def _secret(callbacks: CallbackService, secrets: Secrets, points: RecoveryPoints, *, purpose: str) -> bytes:
    """A new secret; the same if the call is repeated."""
    return secrets.open(purpose, points.once("secret", lambda: secrets.seal(purpose, callbacks.new_secret())))
