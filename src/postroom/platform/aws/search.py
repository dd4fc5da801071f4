"""The search index of messages: one document for each message, with its current status, in OpenSearch.

A document's id is the message's place. Its version is the change's sequence, given as an external version
(https://opensearch.org/docs/latest/api-reference/document-apis/index-document/), so an older change never replaces a newer one,
even if changes come twice or late. A document holds nothing that identifies a person: no address, name or value, and no server
replies, which may quote an address. Its fields:

    tenant, campaign, batch, message    the message's place and its public id
    status, attempt, code, at           its status, and since when (ms since 1970)
    event, event_at, machine            the last event, if an event was the cause; whether a machine did it
    bounce_type, bounce_class           of a bounce
    noted_at, sequence                  when it was written here, and its order among the message's changes

Requests are signed (SigV4, service `es`,
https://docs.aws.amazon.com/opensearch-service/latest/developerguide/request-signing.html) if the endpoint is https. An endpoint
without TLS is an emulator's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

import botocore.session
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from botocore.httpsession import URLLib3Session

from postroom.errors import Denied, Unavailable
from postroom.model.tokens import message_id
from postroom.platform.ports.feed import MessageChange

INDEX: Final = "messages-v1"
_CONNECT_S, _READ_S = 2.0, 10.0
_CONFLICT = 409
_KEYWORD = {"type": "keyword"}
_DATE = {"type": "date", "format": "epoch_millis"}
_FIELDS = {
    "tenant": _KEYWORD,
    "campaign": _KEYWORD,
    "batch": {"type": "integer"},
    "message": _KEYWORD,
    "status": _KEYWORD,
    "attempt": {"type": "integer"},
    "code": {"type": "integer"},
    "at": _DATE,
    "event": _KEYWORD,
    "event_at": _DATE,
    "machine": {"type": "boolean"},
    "bounce_type": _KEYWORD,
    "bounce_class": _KEYWORD,
    "noted_at": _DATE,
    "sequence": {"type": "long"},
}
_MAPPING = {"mappings": {"dynamic": "strict", "properties": _FIELDS}}


class SearchIndex:
    """The index of one OpenSearch domain. Not thread-safe."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        session = botocore.session.get_session()
        trusted = session.get_config_variable("ca_bundle") or True
        self._http = URLLib3Session(trusted, timeout=(_CONNECT_S, _READ_S))  # type: ignore[arg-type]  # the stubs know one number
        self._signer = _signer(session) if endpoint.startswith("https:") else None
        self._is_made = False

    def put(self, changes: Sequence[MessageChange]) -> int:
        """Store the newest change of each message, unless the index has a newer one. Up to a few thousand changes.

        Returns how many documents were refused permanently. Raises `Unavailable` if some may be missing: call again with all."""
        if not self._is_made:
            self._make()
        newest = {(change.ref, change.batch, change.key): change for change in sorted(changes, key=lambda each: each.sequence)}
        lines = "".join(line + "\n" for change in newest.values() for line in _lines(change))
        status, answer = self._call("POST", "/_bulk", lines.encode(), "application/x-ndjson")
        if status // 100 != 2:
            raise _refusal(status, answer)
        return sum(map(_is_refused, json.loads(answer)["items"]))

    def _make(self) -> None:
        """Create the index if it is absent."""
        status, answer = self._call("PUT", f"/{INDEX}", json.dumps(_MAPPING).encode(), "application/json")
        if status // 100 != 2 and b"resource_already_exists_exception" not in answer:
            raise _refusal(status, answer)
        self._is_made = True

    def _call(self, method: str, path: str, body: bytes, kind: str) -> tuple[int, bytes]:
        request = AWSRequest(method, self._endpoint + path, headers={"Content-Type": kind}, data=body)
        if self._signer is not None:
            self._signer.add_auth(request)
        try:
            answer = self._http.send(request.prepare())
        except BotoCoreError as error:
            raise Unavailable(f"the search index did not answer: {error}") from error
        return answer.status_code, answer.content


def _signer(session: botocore.session.Session) -> SigV4Auth:
    credentials, region = session.get_credentials(), session.get_config_variable("region")
    if credentials is None or region is None:
        raise Denied("no call was made to AWS while indexing: there are no credentials, or no region")
    return SigV4Auth(credentials, "es", region)


def _lines(change: MessageChange) -> Iterator[str]:
    ref = change.ref
    place = f"{ref.tenant}/{ref.campaign}/{change.batch}/{change.key.hex()}"
    yield json.dumps({"index": {"_index": INDEX, "_id": place, "version": change.sequence, "version_type": "external"}})
    yield json.dumps(_document(change))


def _document(change: MessageChange) -> dict[str, Any]:
    document: dict[str, Any] = {
        "tenant": change.ref.tenant,
        "campaign": change.ref.campaign,
        "batch": change.batch,
        "message": message_id(change.ref, change.key),
        "status": change.status.label,
        "attempt": change.attempt,
        "code": change.code,
        "at": change.at,
        "noted_at": change.noted_at,
        "sequence": change.sequence,
    }
    event = change.event
    if event is not None:
        document |= {"event": event.kind.value, "event_at": event.at, "machine": event.machine}
        if event.bounce is not None:
            document |= {"bounce_type": event.bounce.type.value, "bounce_class": event.bounce.category.value}
    return document


def _is_refused(item: Any) -> bool:
    """Whether the document was refused permanently. Raises `Unavailable` if it was refused for now."""
    status = int(item["index"]["status"])
    if status == 429 or status // 100 == 5:
        raise Unavailable(f"the search index could not take a document: {status}")
    return status // 100 != 2 and status != _CONFLICT  # a conflict: the index has a newer version


def _refusal(status: int, answer: bytes) -> Denied | Unavailable:
    text = f"the search index answered {status}: {answer[:200].decode('utf-8', 'replace')}"
    return Denied(text) if status in {401, 403} else Unavailable(text)
