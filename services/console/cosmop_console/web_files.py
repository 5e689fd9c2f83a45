"""Bytes for browsers: images and their renditions by id, the files of reports, and what training runs leave to look at."""

from __future__ import annotations

import mimetypes
import re
import sqlite3

from cosmop_common.errors import InvalidInputError, NotFoundError, RefusedImageError
from cosmop_common.images import FORMATS
from cosmop_common.names import run_key
from fastapi import APIRouter, Response

from cosmop_console import drawings, gallery, training
from cosmop_console.outcome import Outcome
from cosmop_console.thumbnails import SIZES
from cosmop_console.web import Web
from cosmop_console.web_security import DRAWING_POLICY, IMAGE_POLICY, REPORT_POLICY

#: An id names its bytes for ever, so a browser need never ask again.
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "Content-Security-Policy": IMAGE_POLICY}
_MEDIA_TYPES = {f"image/{name}" for name in FORMATS}
#: A training run may go on: its pictures are asked for again with each page.
_DRAWN = {"Cache-Control": "no-cache", "Content-Security-Policy": DRAWING_POLICY}
_RUN_FILE = re.compile(rf"{re.escape(training.FILM)}|{re.escape(training.TUNING)}|snapshots/[0-9]{{9}}/grid\.png")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def router(web: Web) -> APIRouter:
    """The routes of files."""
    routes = APIRouter()
    _images(routes, web)
    _of_runs(routes, web)
    return routes


def _images(routes: APIRouter, web: Web) -> None:
    @routes.get("/c/{name}/images/{image}/bytes")
    async def original(name: str, image: str) -> Response:
        row = _stored(web, name, image)
        media_type = row["media_type"] if row["media_type"] in _MEDIA_TYPES else "application/octet-stream"
        return Response(await web.runtime.store.get_image(image), media_type=media_type, headers=_FOREVER)

    @routes.get("/c/{name}/images/{image}/{size}.jpg")
    async def rendition(name: str, image: str, size: int) -> Response:
        if size not in SIZES:
            raise InvalidInputError(f"there are no renditions of {size} pixels: ask for {' or '.join(map(str, SIZES))}")
        _stored(web, name, image)
        try:
            data = await web.thumbnails.get(image, size)
        except RefusedImageError as error:
            return Response(f"{error}\n", status_code=415, media_type="text/plain")
        return Response(data, media_type="image/jpeg", headers=_FOREVER)


def _of_runs(routes: APIRouter, web: Web) -> None:
    @routes.get("/reports/{run}/{file}")
    async def report(run: str, file: str) -> Response:
        if not (_NAME.fullmatch(run) and _NAME.fullmatch(file)):
            raise NotFoundError(f"there is no report file {file!r}")
        data = await web.runtime.store.get(f"reports/{run}/{file}")
        media_type = mimetypes.guess_type(file)[0] or "application/octet-stream"
        return Response(data, media_type=media_type, headers={"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-cache"})

    @routes.get("/runs/{run}/files/{file:path}")
    async def run_file(run: str, file: str) -> Response:
        """Only what is listed here: a run's weights, checkpoints and photos are not for browsers."""
        if not (_NAME.fullmatch(run) and _RUN_FILE.fullmatch(file)):
            raise NotFoundError(f"there is no file {file!r} of a run to show")
        data = await web.runtime.store.get(run_key(run, file))
        return Response(data, media_type=mimetypes.guess_type(file)[0], headers=_DRAWN)

    @routes.get("/runs/{run}/drawings/{name}.svg")
    async def drawing(run: str, name: str) -> Response:
        if not (_NAME.fullmatch(run) and name in drawings.BY_NAME):
            raise NotFoundError(f"there is no drawing {name!r} of a run")
        plot = await drawings.BY_NAME[name](web.runtime.store, run)
        return Response(plot, media_type="image/svg+xml", headers=_DRAWN)


def _stored(web: Web, name: str, image: str) -> sqlite3.Row:
    """The row of an image whose bytes may be shown: a tombstone is honoured even while the bytes are still there."""
    row = gallery.find(web.db, name, image)
    if row["outcome"] == Outcome.ERASED:
        web.thumbnails.forget(image)
        raise NotFoundError(f"image {image[:12]}… was erased from collection {name!r}")
    return row
