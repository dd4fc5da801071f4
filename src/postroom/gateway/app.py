"""The ASGI application: the frame around whichever routes it is given, so that a service can stand behind a door of its own."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter, FastAPI

from postroom.errors import PostroomError
from postroom.gateway.frame import Frame
from postroom.gateway.problems import answer


def create_app(frame: Frame, routers: Iterable[APIRouter]) -> FastAPI:
    """Without state of its own but caches, and without tasks in the background."""
    app = FastAPI(title="Postroom", version="1")
    app.state.frame = frame
    app.add_exception_handler(PostroomError, answer)
    for router in routers:
        app.include_router(router)
    return app
