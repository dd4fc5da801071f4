"""Notices of SES as its developer guide shows them: "Examples of event data", and the older "Notification examples"."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.fakes.ses_simulator.api import Accepted

Document = dict[str, Any]


def stamp(seconds: float) -> str:
    """As SES writes times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def mail(message: Accepted) -> Document:
    """The part that every notice has."""
    tags: Document = {
        "ses:source-tls-version": ["TLSv1.3"],
        "ses:operation": ["SendEmail"],
        "ses:configuration-set": [message.configuration_set or "none"],
        "ses:from-domain": [message.sender.rpartition("@")[2]],
        "ses:caller-identity": ["postroom"],
        **{name: [value] for name, value in message.tags.items()},
    }
    headers = _headers(message.content)
    return {
        "timestamp": stamp(message.at),
        "source": message.sender,
        "sourceArn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com",
        "sendingAccountId": "123456789012",
        "messageId": message.message_id,
        "destination": [message.recipient],
        "headersTruncated": False,
        "headers": headers,
        "commonHeaders": {"from": [message.sender], "to": [message.recipient], "messageId": message.message_id},
        "tags": tags,
    }


def event(kind: str, message: Accepted, **parts: Document) -> Document:
    """An event as it is published through a configuration set."""
    return {"eventType": kind, "mail": mail(message), **parts}


def notification(document: Document) -> Document:
    """The same in the older format, which knows neither tags nor most kinds."""
    older = {**document, "notificationType": document["eventType"], "mail": {**document["mail"]}}
    del older["eventType"], older["mail"]["tags"]
    return older


def send(message: Accepted, at: float) -> Document:
    return event("Send", message, send={})


def delivery(message: Accepted, at: float) -> Document:
    part = {
        "timestamp": stamp(at),
        "processingTimeMillis": 3_500,
        "recipients": [message.recipient],
        "smtpResponse": "250 ok dirdel",
        "reportingMTA": "a8-31.smtp-out.amazonses.com",
    }
    return event("Delivery", message, delivery=part)


def bounce(
    message: Accepted, at: float, type_: str = "Permanent", subtype: str = "General", *, status: str = "5.1.1", code: str = "550"
) -> Document:
    recipient: Document = {"emailAddress": message.recipient}
    if status:
        recipient |= {"action": "failed", "status": status, "diagnosticCode": f"smtp; {code} {status} user unknown"}
    part = {
        "bounceType": type_,
        "bounceSubType": subtype,
        "bouncedRecipients": [recipient],
        "timestamp": stamp(at),
        "feedbackId": f"{message.message_id}-feedback",
        "remoteMtaIp": "127.0.2.0",
        "reportingMTA": "dns; a8-31.smtp-out.amazonses.com",
    }
    return event("Bounce", message, bounce=part)


def complaint(message: Accepted, at: float, feedback: str | None = "abuse") -> Document:
    part: Document = {
        "complainedRecipients": [{"emailAddress": message.recipient}],
        "timestamp": stamp(at),
        "feedbackId": f"{message.message_id}-complaint",
        "complaintSubType": None,
    }
    if feedback:
        part |= {"userAgent": "Amazon SES Mailbox Simulator", "complaintFeedbackType": feedback, "arrivalDate": stamp(at - 5)}
    return event("Complaint", message, complaint=part)


def delay(message: Accepted, at: float, kind: str = "TransientCommunicationFailure") -> Document:
    recipient = {"emailAddress": message.recipient, "status": "4.4.1", "diagnosticCode": "smtp; 421 4.4.1 Unable to connect"}
    part = {
        "timestamp": stamp(at),
        "delayType": kind,
        "expirationTime": stamp(at + 50_400),
        "delayedRecipients": [recipient],
    }
    return event("DeliveryDelay", message, deliveryDelay=part)


def reject(message: Accepted, at: float) -> Document:
    return event("Reject", message, reject={"reason": "Bad content"})


def rendering_failure(message: Accepted, at: float) -> Document:
    return event("Rendering Failure", message, failure={"errorMessage": "Attribute 'name' is not present", "templateName": "t"})


def opened(message: Accepted, at: float) -> Document:
    return event("Open", message, open={"ipAddress": "192.0.2.1", "timestamp": stamp(at), "userAgent": "Mozilla/5.0 (iPhone)"})


def clicked(message: Accepted, at: float) -> Document:
    part = {
        "ipAddress": "192.0.2.1",
        "link": "https://example.com/offer",
        "linkTags": None,
        "timestamp": stamp(at),
        "userAgent": "Mozilla/5.0",
    }
    return event("Click", message, click=part)


def subscription(message: Accepted, at: float, *, out: bool = True) -> Document:
    def preferences(all_out: bool) -> Document:
        status = "OptOut" if all_out else "OptIn"
        return {
            "unsubscribeAll": all_out,
            "topicSubscriptionStatus": [{"topicName": "news", "subscriptionStatus": status}],
            "topicDefaultSubscriptionStatus": [{"topicName": "news", "subscriptionStatus": status}],
        }

    part = {
        "contactList": "people",
        "timestamp": stamp(at),
        "source": "UnsubscribeHeader",
        "newTopicPreferences": preferences(out),
        "oldTopicPreferences": preferences(not out),
    }
    return event("Subscription", message, subscription=part)


def _headers(content: bytes) -> list[Document]:
    lines = content.partition(b"\r\n\r\n")[0].decode("utf-8", "replace").replace("\r\n ", " ").split("\r\n")
    return [{"name": name, "value": value.strip()} for name, _, value in (line.partition(":") for line in lines)]
