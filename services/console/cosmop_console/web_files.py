"""Bytes for browsers: images and their renditions by id, and the files of reports."""

from __future__ import annotations

import mimetypes
import re
import sqlite3

from cosmop_common.errors import InvalidInputError, NotFoundError, RefusedImageError
from cosmop_common.images import FORMATS
from fastapi import APIRouter, Response

from cosmop_console import gallery
from cosmop_console.outcome import Outcome
from cosmop_console.thumbnails import SIZES
from cosmop_console.web import Web
from cosmop_console.web_security import IMAGE_POLICY, REPORT_POLICY

#: An id names its bytes for ever, so a browser need never ask again.
_FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "Content-Security-Policy": IMAGE_POLICY}
_MEDIA_TYPES = {f"image/{name}" for name in FORMATS}
_REPORT_FILE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")


def router(web: Web) -> APIRouter:
    """The routes of files."""
    routes = APIRouter()

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

    @routes.get("/reports/{run}/{file}")
    async def report(run: str, file: str) -> Response:
        if not (_REPORT_FILE.match(run) and _REPORT_FILE.match(file)):
            raise NotFoundError(f"there is no report file {file!r}")
        data = await web.runtime.store.get(f"reports/{run}/{file}")
        media_type = mimetypes.guess_type(file)[0] or "application/octet-stream"
        return Response(data, media_type=media_type, headers={"Content-Security-Policy": REPORT_POLICY, "Cache-Control": "no-cache"})

    return routes


def _stored(web: Web, name: str, image: str) -> sqlite3.Row:
    """The row of an image whose bytes may be shown: a tombstone is honoured even while the bytes are still there."""
    row = gallery.find(web.db, name, image)
    if row["outcome"] == Outcome.ERASED:
        web.thumbnails.forget(image)
        raise NotFoundError(f"image {image[:12]}… was erased from collection {name!r}")
    return row
