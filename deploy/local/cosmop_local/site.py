"""The demonstration site: a folder of photos, shown the way an image search shows the web.

    python -m cosmop_local.site --folder photos --port 8000 --image-port 8001

Result pages (``/search?q=...&start=N``) link to ``/imgres?imgurl=...&imgrefurl=...``; their thumbnails are data URIs for
some and small copies from the site for others; full-size images lie on a second host name. Files are served as they
are: a corrupt photo, a HTML page named .jpg. robots.txt forbids the small copies and everything below ``private/``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import uvicorn
from cosmop_common.errors import CosmopError, InvalidInputError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from cosmop_local.site_pages import Photo, home_page, photo_page, search_page
from cosmop_local.thumbnails import Thumbnails

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"}
PER_PAGE = 50
ROBOTS = "User-agent: *\nDisallow: /thumbnails/\nDisallow: /private/\nAllow: /\n"


class EmptyFolderError(InvalidInputError):
    """The folder to show holds no images."""


class SitePortError(CosmopError):
    """A port of the site is taken."""


class Site:
    """The pages of one folder.

    Args:
        folder: photos anywhere below it.
        image_origin: "http://localhost:8001": where full-size images are said to be.
        keywords: photos are dealt out among these searches, some to two of them; any other search shows all. None: every search shows all.
    """

    def __init__(self, folder: Path, image_origin: str, keywords: Sequence[str] = ()) -> None:
        self._folder = folder.resolve()
        paths = sorted(p for p in self._folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        if not paths:
            raise EmptyFolderError(f"{folder} holds no images: name a folder with files that end in {', '.join(sorted(SUFFIXES))}")
        self.photos = [Photo(number, path.relative_to(self._folder).as_posix(), image_origin) for number, path in enumerate(paths)]
        self._keywords = [k.strip().lower() for k in keywords]
        self._thumbnails = Thumbnails(self._folder)
        self.app = Starlette(routes=self._routes(), lifespan=self._lifespan)

    def results(self, query: str) -> list[Photo]:
        """Photos that a search shows, in order."""
        word = query.strip().lower()
        if word not in self._keywords:
            return self.photos
        turn, turns = self._keywords.index(word), len(self._keywords)
        # Every tenth is found by the next keyword as well, as on the web.
        return [p for p in self.photos if p.number % turns == turn or (p.number % 10 == 0 and (p.number + 1) % turns == turn)]

    def _routes(self) -> list[Route]:
        return [
            Route("/", self._home),
            Route("/robots.txt", self._robots),
            Route("/search", self._search),
            Route("/imgres", self._photo),
            Route("/photo/{number:int}", self._photo),
            Route("/thumbnails/{number:int}.jpg", self._thumbnail),
            Route("/{path:path}", self._file),
        ]

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:  # noqa: ARG002 - starlette's interface
        yield
        self._thumbnails.close()

    async def _home(self, request: Request) -> Response:  # noqa: ARG002 - starlette's interface, here and below
        return HTMLResponse(home_page(len(self.photos), self._keywords))

    async def _robots(self, request: Request) -> Response:  # noqa: ARG002
        return PlainTextResponse(ROBOTS)

    async def _search(self, request: Request) -> Response:
        query, start = request.query_params.get("q", ""), request.query_params.get("start", "0")
        first = int(start) if start.isdigit() else 0
        results = self.results(query)
        shown = results[first : first + PER_PAGE]
        # Every other thumbnail stands in the page itself, as searches do for the first rows.
        inline = await asyncio.gather(*(self._thumbnails.data_uri(p) for p in shown if p.number % 2 == 0))
        sizes = await asyncio.gather(*(self._thumbnails.size(p) for p in shown))
        following = first + PER_PAGE if first + PER_PAGE < len(results) else None
        uris = dict(zip((p.number for p in shown if p.number % 2 == 0), inline, strict=True))
        return HTMLResponse(search_page(query, list(zip(shown, sizes, strict=True)), uris, len(results), following))

    async def _photo(self, request: Request) -> Response:
        number = request.path_params.get("number")
        if number is None:
            wanted = request.query_params.get("imgurl", "")
            number = next((p.number for p in self.photos if p.image_url == wanted), len(self.photos))
        if number >= len(self.photos):
            return PlainTextResponse("no such photo", 404)
        return HTMLResponse(photo_page(self.photos[number]))

    async def _thumbnail(self, request: Request) -> Response:
        number = request.path_params["number"]
        if number >= len(self.photos):
            return PlainTextResponse("no such photo", 404)
        return Response(await self._thumbnails.small(self.photos[number]), media_type="image/jpeg")

    async def _file(self, request: Request) -> Response:
        path = (self._folder / request.path_params["path"]).resolve()
        if not path.is_relative_to(self._folder) or path.suffix.lower() not in SUFFIXES or not path.is_file():
            return PlainTextResponse("not found", 404)
        return FileResponse(path)


async def serve(site: Site, ports: Sequence[int]) -> None:
    """Serves on loopback until SIGTERM or Ctrl-C. Raises ``SitePortError``."""
    listeners = []
    for port in dict.fromkeys(ports):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            listener.close()
            raise SitePortError(f"port {port} is taken by another process: end that one, or choose another with --port or --image-port") from error
        listeners.append(listener)
    server = uvicorn.Server(uvicorn.Config(site.app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))
    await server.serve(sockets=listeners)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m cosmop_local.site", description="shows a folder of photos the way an image search does")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True, help="of the result pages, on 127.0.0.1")
    parser.add_argument("--image-port", type=int, help="of the full-size images, on localhost (default: the same)")
    parser.add_argument("--keyword", action="append", default=[], help="deal the photos out among these searches; may be repeated")
    arguments = parser.parse_args()
    image_port = arguments.image_port or arguments.port
    try:
        site = Site(arguments.folder, f"http://localhost:{image_port}", arguments.keyword)
        print(f"http://127.0.0.1:{arguments.port}/search?q=photos shows {len(site.photos)} photos", flush=True)  # noqa: T201
        asyncio.run(serve(site, [arguments.port, image_port]))
    except CosmopError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        raise SystemExit(1) from None


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt):
        main()
