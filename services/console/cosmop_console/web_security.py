"""What keeps other sites' pages, and what outsiders typed, from acting in a labeller's browser.

- Requests that change something must come from our own pages: browsers state the origin, and it must be ours.
- The Host must be a name that public DNS cannot point elsewhere, or one that the operator listed (DNS rebinding).
- A strict content security policy: no inline script, nothing from other hosts. Templates escape everything besides.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, Request, Response
from fastapi.responses import PlainTextResponse

_SAFE = {"GET", "HEAD", "OPTIONS"}
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".svc", ".svc.cluster.local")

PAGE_POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
#: Reports carry their own style and pictures inline; sandboxed, they are no part of our origin.
REPORT_POLICY = (
    "sandbox allow-scripts allow-popups allow-downloads; default-src 'none'; img-src data: 'self'; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'"
)
#: Bytes from outside: shown as pictures, never run.
IMAGE_POLICY = "sandbox; default-src 'none'"

#: Drawings of our own services, shown as pictures: they may carry style and nothing that runs.
DRAWING_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'"


def host_allowed(host: str, listed: frozenset[str]) -> bool:
    """Whether a Host header may be answered."""
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    if name in listed or (name and "." not in name) or name.endswith(_PRIVATE_SUFFIXES):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def same_origin(request: Request) -> bool:
    """Whether a request that changes something comes from our own page, or from no browser at all.

    Every current browser sends ``Sec-Fetch-Site`` or, with each cross-site POST, ``Origin``; a command-line client sends
    neither and holds no credentials of a person that could be misused.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is None or urlsplit(origin).netloc == request.headers.get("host")


def protect(app: FastAPI, hosts: str) -> None:
    """Adds the checks and the headers to every answer of the app."""
    listed = frozenset(h.strip().lower() for h in hosts.split(",") if h.strip())

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        host = request.headers.get("host", "")
        if not host_allowed(host, listed):
            return PlainTextResponse(f"the console does not answer to the name {host!r}: add it to COSMOP_CONSOLE_HOSTS\n", status_code=421)
        if request.method not in _SAFE and not same_origin(request):
            return PlainTextResponse("this request comes from another site's page and was refused\n", status_code=403)
        response = await call_next(request)
        response.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
        response.headers.setdefault("Cache-Control", "no-cache" if request.url.path.startswith("/static/") else "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response
