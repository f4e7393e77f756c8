"""`yukimi-city serve`: the page, for people. It reads the tables and changes nothing."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from zoneinfo import ZoneInfo

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from .databases import opened
from .pages import Reader, message, one_gateway, overview
from .store import Store, StoreAwayError

# The page needs its own style and nothing else: no script, no picture, nothing from elsewhere.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Draw = Callable[[Store, Reader], str | None]


def application(database: str, timezone: str) -> Starlette:
    """Return the page as an ASGI application."""
    zone = ZoneInfo(timezone)

    def answer(request: Request, draw: Draw) -> Response:
        who = Reader(_language(request), zone, time.time())
        try:
            with opened(database, read_only=True) as store:
                drawn = draw(store, who)
        except StoreAwayError:
            return HTMLResponse(message(who, "away"), 503, HEADERS)
        if drawn is None:
            return HTMLResponse(message(who, "not_found"), 404, HEADERS)
        return HTMLResponse(drawn, headers=HEADERS)

    def index(request: Request) -> Response:
        return answer(request, overview)

    def gateway(request: Request) -> Response:
        name = request.path_params["gateway"]
        return answer(request, lambda store, who: one_gateway(store, name, who))

    def health(_request: Request) -> Response:
        try:
            with opened(database, read_only=True) as store:
                store.query("SELECT count(*) FROM gateway")
        except StoreAwayError as exc:
            return PlainTextResponse(f"{exc}\n", 503)
        return PlainTextResponse("ok\n")

    return Starlette(
        routes=[
            Route("/", index),
            Route("/gateway/{gateway}", gateway),
            Route("/healthz", health),
        ],
        middleware=[Middleware(GZipMiddleware)],
    )


def _language(request: Request) -> str:
    asked = request.query_params.get("lang")
    if asked in ("ja", "en"):
        return asked
    accepted = request.headers.get("accept-language", "ja").lower()
    ja, en = accepted.find("ja"), accepted.find("en")
    return "en" if en >= 0 and (ja < 0 or en < ja) else "ja"


def act(parsed: argparse.Namespace) -> int:
    """Serve until stopped."""
    app = application(parsed.database, parsed.timezone)
    uvicorn.run(app, host=parsed.host, port=parsed.port, log_level="warning", access_log=False)
    return 0
