"""The web UI on the service's HTTP app: what the routes share, their errors, and how values are shown."""

from __future__ import annotations

import datetime
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from cosmop_common.errors import CosmopError
from cosmop_common.pb.cosmop.v1 import runs_pb2
from cosmop_common.runtime import Runtime
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader

from cosmop_console.labels import Labels
from cosmop_console.thumbnails import Thumbnails
from cosmop_console.web_security import protect
from cosmop_console.worker import Follower

_HERE = Path(__file__).parent
_OUTCOMES = {"none": "nobody", "near": "near-duplicate", "unscreened": "not screened"}
_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 507,
}


@dataclass(frozen=True)
class Web:
    """What every route may use."""

    runtime: Runtime
    follower: Follower
    labels: Labels
    db: sqlite3.Connection
    thumbnails: Thumbnails
    templates: Jinja2Templates

    def page(self, request: Request, name: str, status_code: int = 200, **context: Any) -> Response:
        """A rendered template."""
        return self.templates.TemplateResponse(request, name, context, status_code=status_code)


def mount(app: FastAPI, runtime: Runtime, follower: Follower, labels: Labels, db: sqlite3.Connection, thumbnails: Thumbnails, *, hosts: str) -> Web:
    """Puts the web UI on ``app``."""
    from cosmop_console import web_api, web_files, web_pages

    web = Web(runtime, follower, labels, db, thumbnails, _templates())
    protect(app, hosts)
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    for routes in (web_pages, web_api, web_files):
        app.include_router(routes.router(web), include_in_schema=False)

    @app.exception_handler(CosmopError)
    async def explain(request: Request, error: CosmopError) -> Response:
        status = _STATUS.get(error.grpc_code, 500)
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": str(error)}, status_code=status)
        return web.page(request, "error.html", status_code=status, status=status, message=str(error))

    return web


def _templates() -> Jinja2Templates:
    environment = Environment(loader=FileSystemLoader(_HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "n": "{:,}".format, "percent": percent, "when": when, "ago": ago, "words": words, "outcome": outcome_words, "link": safe_link, "span": duration,
        "bytes": size_of, "state": state_name, "took": took,
    }  # fmt: skip
    environment.globals |= {"static": static_url}
    return Jinja2Templates(env=environment)


def static_url(name: str) -> str:
    """The address of a static file; browsers ask whether it has changed (``Cache-Control: no-cache``, see ``web_security``)."""
    return f"/static/{name}"


def percent(part: float, whole: float) -> str:
    """``12 %``; one digit more below ten."""
    if not whole:
        return "\N{EN DASH}"
    share = 100 * part / whole
    return f"{share:.0f} %" if share >= 10 or share in {0.0, 100.0} else f"{share:.1f} %"  # noqa: PLR2004


def when(millis: int | None) -> str:
    """A time of the read model, in UTC."""
    return "" if millis is None else datetime.datetime.fromtimestamp(millis / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def ago(time: datetime.datetime) -> str:
    """How long ago, in the largest unit that says something."""
    seconds = (datetime.datetime.now(datetime.UTC) - (time if time.tzinfo else time.replace(tzinfo=datetime.UTC))).total_seconds()
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def duration(seconds: float) -> str:
    """``1 h 02 min``, ``3 min 20 s``, ``12 s``."""
    whole = int(seconds)
    if whole >= 3600:  # noqa: PLR2004
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"  # noqa: PLR2004


def took(item: runs_pb2.Run | runs_pb2.Stage) -> str:
    """How long a run or a stage has taken, up to now or to its end."""
    if not item.HasField("started"):
        return ""
    end = item.finished.ToSeconds() if item.HasField("finished") else datetime.datetime.now(datetime.UTC).timestamp()
    return duration(max(0.0, end - item.started.ToSeconds()))


def words(name: str) -> str:
    """``too_many_pixels`` -> ``too many pixels``."""
    return name.replace("_", " ").replace("-", " ")


def outcome_words(name: str) -> str:
    """An outcome, or a stage of the gallery, as a person would say it."""
    return _OUTCOMES.get(name) or words(name)


def size_of(count: int | None) -> str:
    """``1.4 MB``."""
    size = float(count or 0)
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def safe_link(url: str) -> str:
    """The address if it is a web page's, else nothing: what outsiders wrote never becomes a ``javascript:`` link."""
    return url if urlsplit(url).scheme in {"http", "https"} else ""


def state_name(state: int) -> str:
    """``RUN_STATE_RUNNING`` -> ``running``."""
    return runs_pb2.RunState.Name(runs_pb2.RunState.ValueType(state)).removeprefix("RUN_STATE_").lower()
