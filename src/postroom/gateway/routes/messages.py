"""`/v1/messages`: one to 100 transactional messages a request, each with its own result; and test messages of a template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date
from typing import Annotated

from fastapi import APIRouter, Path, Query

from postroom.clock import rfc3339
from postroom.errors import NotFound, RecipientSuppressed
from postroom.gateway.access import Sender, Viewer
from postroom.gateway.bodies import accepts
from postroom.gateway.errors import problem_type_of
from postroom.gateway.idempotency import Points, first_recovery_point
from postroom.gateway.paging import Cursor, Limit, Page
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.messages import (
    Day,
    EventBody,
    MessageDetail,
    MessageId,
    MessageProblem,
    MessageResult,
    MessageResults,
    MessageSummary,
    NewMessage,
    OneOrMany,
    SingleMessageStatus,
    TestMessage,
)
from postroom.model.message import MessageStatus
from postroom.services.message_acceptance import (
    AcceptedMessage,
    AttachedUpload,
    MessageRequest,
    RefusedMessage,
)
from postroom.services.messages import MessageService, TransactionalMessage

MAX_BODY = 10_000_000
"""Bytes: a hundred messages with their own HTML."""
_EPOCH = date(1970, 1, 1).toordinal()
_Id = Annotated[MessageId, Path(description="The message's id.")]
_TemplateId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", max_length=64, description="The template's id.")]
_Day = Annotated[Day | None, Query(description="The UTC day of the requests. Default: today.")]
_Statuses = Annotated[
    list[SingleMessageStatus] | None,
    Query(alias="status", max_length=9, description="Only messages with this status. May be given several times."),
]


def message_routes(service: MessageService) -> APIRouter:
    router = APIRouter(prefix="/v1/messages", tags=["messages"], route_class=Route)

    @router.post("", status_code=202, operation_id="send_messages", response_model_exclude_none=True)
    @accepts(MAX_BODY)
    @first_recovery_point("seed", service.new_seed)
    def send(body: OneOrMany, caller: Sender, points: Points) -> MessageResult | MessageResults:
        """Send a message, or up to 100.

        The response means that the message is stored durably. A single message that cannot be sent is answered with a problem;
        in an array, its result carries the problem and the other messages are sent."""
        requests = body if isinstance(body, list) else [body]
        seed = points.once("seed", service.new_seed)
        results = service.submit(caller.tenant, [_request(each) for each in requests], seed=seed)
        return MessageResults(results=list(map(_result, results))) if isinstance(body, list) else _only(results)

    @router.get("", operation_id="list_messages")
    def list_messages(
        caller: Viewer,
        *,
        day: _Day = None,
        statuses: _Statuses = None,
        cursor: Cursor = None,
        limit: Limit = 100,
    ) -> Page[MessageSummary]:
        """List the transactional messages of a day, in no particular order."""
        number = service.today() if day is None else day.toordinal() - _EPOCH
        wanted = {MessageStatus[each.upper()] for each in statuses or ()}
        page = service.list(caller.tenant, number, statuses=wanted, cursor=cursor, limit=limit)
        return Page(items=[MessageSummary.model_validate(_summary(record)) for record in page.records], cursor=page.cursor)

    @router.get("/{id}", operation_id="get_message")
    def get(id: _Id, caller: Viewer) -> MessageDetail:  # noqa: A002
        """Retrieve a transactional message with its events."""
        record = service.get(caller.tenant, id)
        content = service.content(caller.tenant, record)
        made_of = {
            "from": content.from_ if content else None,
            "reply_to": content.reply_to if content else None,
            "subject": content.subject if content else None,
            "template_id": content.template_id if content else None,
            "template_version": content.template_version if content else None,
        }
        return MessageDetail.model_validate(
            {**_summary(record), **made_of, "events": EventBody.all(service.timeline(caller.tenant, record))}
        )

    return router


def template_test_routes(service: MessageService, default_from: Callable[[str], str]) -> APIRouter:
    """`default_from`: a tenant's usual sender; raises `Invalid` if there is none."""
    router = APIRouter(prefix="/v1/templates", tags=["templates"], route_class=Route)

    @router.post("/{template_id}/test", status_code=202, operation_id="test_template", response_model_exclude_none=True)
    def test(template_id: _TemplateId, body: TestMessage, caller: Sender, points: Points) -> MessageResults:
        """Send a template to up to ten addresses, as a test."""
        from_ = body.from_ or default_from(caller.tenant)
        requests = [
            MessageRequest(
                to=to,
                from_=from_,
                template_id=template_id,
                template_version=body.version,
                variables=dict(body.variables),
            )
            for to in body.to
        ]
        results = service.submit(caller.tenant, requests, seed=points.once("seed", service.new_seed))
        for result in results:
            if isinstance(result, RefusedMessage) and isinstance(
                result.error, NotFound
            ):  # the same for all: the template does not exist
                raise result.error
        return MessageResults(results=list(map(_result, results)))

    return router


def _request(body: NewMessage) -> MessageRequest:
    return MessageRequest(
        to=body.to,
        from_=body.from_,
        reply_to=body.reply_to,
        template_id=body.template_id,
        template_version=body.template_version,
        subject=body.subject,
        html=body.html,
        text=body.text,
        variables=dict(body.variables),
        attachments=tuple(AttachedUpload(each.upload_id, each.filename, each.content_id) for each in body.attachments),
        track_opens=body.tracking.opens,
        track_clicks=body.tracking.clicks,
        unsubscribe=body.unsubscribe,
        topic=body.topic,
    )


def _only(results: Sequence[AcceptedMessage | RefusedMessage]) -> MessageResult:
    """The result of a call with one message. A refusal is raised."""
    (result,) = results
    if isinstance(result, RefusedMessage):
        raise result.error
    return _result(result)


def _result(result: AcceptedMessage | RefusedMessage) -> MessageResult:
    if isinstance(result, AcceptedMessage):
        return MessageResult(id=result.id, status="accepted")
    kind = problem_type_of(result.error)
    problem = MessageProblem(type=f"/problems/{kind.word}", title=kind.title, status=kind.status, detail=str(result.error))
    return MessageResult(status="suppressed" if isinstance(result.error, RecipientSuppressed) else "refused", problem=problem)


def _summary(record: TransactionalMessage) -> dict[str, object]:
    message = record.message
    return {
        "id": record.id,
        "status": message.status.label,
        "to": message.address,
        "name": message.name,
        "accepted_at": rfc3339(record.values.accepted_at),
        "updated_at": rfc3339(message.at),
        "attempts": message.attempt,
        "next_attempt_at": rfc3339(message.due),
        "code": message.code,
        "reply": message.reply,
        "provider_id": message.provider_id,
        "opened_at": rfc3339(message.opened_at),
        "clicked_at": rfc3339(message.clicked_at),
        "unsubscribed_at": rfc3339(message.unsubscribed_at),
    }
