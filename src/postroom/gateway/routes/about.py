"""The API about itself: its OpenAPI document, and what each kind of problem means."""

from __future__ import annotations

import hashlib
import html

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from postroom.errors import NotFound
from postroom.gateway.etags import matches, not_modified
from postroom.gateway.problems import KINDS, Kind

_DAY = "public, max-age=86400"
_ASK = "no-cache"


def about_routes() -> APIRouter:
    """Open to everybody, and not part of the document themselves."""
    router = APIRouter(include_in_schema=False)
    made: dict[str, bytes] = {}

    @router.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        """The OpenAPI document, made when it is first asked for."""
        if not made:
            made["document"] = orjson.dumps(request.app.openapi())
            made["etag"] = b'"' + hashlib.sha256(made["document"]).hexdigest()[:32].encode() + b'"'
        etag = made["etag"].decode()
        if matches(request.headers.get("if-none-match"), etag):
            return not_modified(etag)
        fields = {"ETag": etag, "Cache-Control": _ASK}
        return Response(made["document"], media_type="application/json", headers=fields)

    @router.get("/problems/{word}")
    async def problem(word: str, request: Request) -> Response:
        """What a kind of problem means: a page for people, JSON for programs."""
        kind = next((kind for kind in KINDS if kind.word == word), None)
        if kind is None:
            raise NotFound(f"there is no problem of that name; there are: {', '.join(kind.word for kind in KINDS)}")
        fields = {"Cache-Control": _DAY, "Vary": "Accept"}
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(_page(kind), headers=fields)
        said = {"type": f"/problems/{kind.word}", "title": kind.title, "status": kind.status, "meaning": kind.meaning}
        return JSONResponse(said, headers=fields)

    return router


def _page(kind: Kind) -> str:
    title, meaning = html.escape(kind.title), html.escape(kind.meaning)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<h1>{kind.status} {title}</h1><p>{meaning}</p></html>"
    )
