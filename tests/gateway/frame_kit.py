"""A small service to test the frame with, and a way to call an application without any client in between."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, FastAPI, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Message

from postroom.gateway.access import Editor, Viewer
from postroom.gateway.app import create_app
from postroom.gateway.audit import Audit, reads
from postroom.gateway.bodies import accepts
from postroom.gateway.etags import IfMatch, IfNoneMatch, demand, etag_of, matches, not_modified
from postroom.gateway.idempotency import Points, first_recovery_point
from postroom.gateway.pipeline import Route
from postroom.gateway.schemas.scalars import WHOLE
from postroom.gateway.state import GatewayConfig
from tests.fakes.clock import ManualClock
from tests.fakes.secrets import PlainSecrets
from tests.gateway.kit import Believer

EDITOR = {"Authorization": "Bearer editor acme"}


ThingId = Annotated[str, Path(pattern="^[a-z0-9]{1,4}$", description="A thing's id; none is a word of the API.")]


class NewThing(BaseModel):
    """What is to be made."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"name": "a"}]})
    name: str = Field(min_length=1, max_length=100, description="Its name.")
    parts: list[Annotated[int, Field(ge=0, le=1_000), WHOLE]] = Field(default=[], max_length=10, description="Its parts.")


class Thing(BaseModel):
    """What was made."""

    id: str = Field(description="Its id.")
    name: str = Field(description="Its name.")


@dataclass
class Things:
    """What outlives the door: the records, by id. `before` and `after` are called around the making of one."""

    records: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def new_id(self) -> str:
        return f"t{next(self.numbers)}"

    def make(self, key: str, name: str) -> Thing:
        self.runs += 1
        self.before()
        self.records.setdefault(key, name)
        self.after()
        return Thing(id=key, name=name)


def thing_routes(things: Things) -> APIRouter:
    """A service's routes, as they are written everywhere."""
    router = APIRouter(prefix="/v1/things", tags=["things"], route_class=Route)

    @router.post("", status_code=201, operation_id="create_thing")
    def create(body: NewThing, who: Editor, steps: Points, trail: Audit) -> Thing:
        """Make a thing."""
        made = things.make(steps.once("id", things.new_id), body.name)
        trail.changed("thing", made.id, after={"name": made.name})
        return made

    @router.post("/quick", operation_id="create_thing_quickly")
    @first_recovery_point("id", things.new_id)
    def quick(body: NewThing, who: Editor, steps: Points) -> Thing:
        """Make a thing with one write less."""
        return things.make(steps.once("id", things.new_id), body.name)

    @router.post("/preview", operation_id="preview_thing")
    @reads
    def preview(body: NewThing, who: Viewer) -> Thing:
        """Show how a thing would be."""
        return things.make("preview", body.name)

    @router.get("/{thing}", operation_id="get_thing", response_model=Thing, responses={304: {"description": "Not modified"}})
    def get(thing: ThingId, who: Viewer, if_none_match: IfNoneMatch = None) -> Response:
        """One thing."""
        things.before()
        etag = etag_of(1)
        if matches(if_none_match, etag):
            return not_modified(etag)
        return JSONResponse({"id": thing, "name": "a"}, headers={"ETag": etag})

    @router.put("/{thing}", operation_id="put_thing")
    async def put(thing: ThingId, body: NewThing, who: Editor, trail: Audit, if_match: IfMatch = None) -> Thing:
        """Change a thing."""
        demand(if_match, etag_of(1))
        trail.changed("thing", thing, before={"name": "old"}, after={"name": body.name})
        return Thing(id=thing, name=body.name)

    @router.post("/import", operation_id="import_things")
    @accepts(3_000_000)
    async def take(request: Request, who: Editor) -> Thing:
        """Take many."""
        await request.body()
        return Thing(id="many", name="many")

    return router


def door(things: Things, clock: ManualClock | None = None, **frame: Any) -> FastAPI:
    """The application. `frame`: fields of Frame."""
    parts: dict[str, Any] = {"authenticator": Believer(), "secrets": PlainSecrets(), **frame}
    return create_app(GatewayConfig(clock=clock or ManualClock(), **parts), [thing_routes(things)])


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    fields: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


async def call(
    app: FastAPI,
    method: str,
    path: str,
    *,
    headers: dict[str, str] | None = None,
    body: bytes | Sequence[bytes] | None = None,
    json: object = None,
    client: str = "203.0.113.9",
    stalls: bool = False,
    sent: list[Message] | None = None,
) -> Answer:
    """One call. `body` a sequence: in parts, without a length. `stalls`: the end of the body never comes. `sent`: where the
    answer's parts go as they come."""
    fields = dict(headers or {})
    if json is not None:
        body = orjson.dumps(json)
        fields.setdefault("Content-Type", "application/json")
    parts = [body] if isinstance(body, bytes) else list(body or ())
    if isinstance(body, bytes):
        fields.setdefault("Content-Length", str(len(body)))
    elif body is not None:
        fields["Transfer-Encoding"] = "chunked"
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()],
        "client": (client, 1234),
        "server": ("door.example", 80),
    }
    sent = [] if sent is None else sent
    waiting = deque(parts)

    async def receive() -> Message:
        part = waiting.popleft() if waiting else None
        if part is None and stalls:
            await asyncio.Event().wait()
        more = stalls or bool(waiting)
        return {"type": "http.request", "body": part or b"", "more_body": more}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    start = sent[0]
    given = {name.decode("latin-1"): value.decode("latin-1") for name, value in start["headers"]}
    return Answer(start["status"], given, b"".join(message.get("body", b"") for message in sent[1:]))


def ask(app: FastAPI, method: str, path: str, **how: Any) -> Answer:
    """`call` on a loop of its own."""
    return asyncio.run(call(app, method, path, **how))
