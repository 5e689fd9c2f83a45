"""A photo site for measuring: it answers from memory, cheaply, so that what is measured is who asks.

``python -m benchmarks.scrape_site --photos FOLDER`` prints its port and the mean size of a photo, and serves until it is ended. ``/<number>.jpg``
is photo ``number`` modulo the photos there are, with a comment segment of its own, so that every URL has bytes of its own.
Every address of 127.0.0.0/8 is answered; robots.txt allows all.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import sys
from pathlib import Path

from PIL import Image

_ROBOTS = b"User-agent: *\nAllow: /\n"
_START_OF_IMAGE = b"\xff\xd8"
_LEAST_SIDE = 64


class Site:
    """Photos in memory, and how each URL's bytes are made of them."""

    def __init__(self, photos: list[bytes]) -> None:
        self._photos = photos

    def body(self, number: int) -> tuple[bytes, ...]:
        """The bytes of photo ``number`` in parts: SOI, a COM segment that holds the number, and the rest (ITU T.81, B.2.4.5)."""
        comment = f"photo {number:09d}".encode()
        photo = self._photos[number % len(self._photos)]
        return _START_OF_IMAGE, b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment, photo[2:]

    def answer(self, path: str) -> list[bytes]:
        """A whole HTTP/1.1 answer in parts."""
        if path == "/robots.txt":
            return [b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % len(_ROBOTS), _ROBOTS]
        number = path.removeprefix("/").removesuffix(".jpg")
        if not number.isdigit():
            return [b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"]
        body = self.body(int(number))
        return [b"HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\ncontent-length: %d\r\n\r\n" % sum(map(len, body)), *body]


class Connection(asyncio.Protocol):
    """One client: requests in, answers out, until it says ``Connection: close``."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers each whole request."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head, self._read = self._read[:end], self._read[end + 4 :]
            self._transport.writelines(self._site.answer(head.split(b" ", 2)[1].decode("latin-1")))
            if b"connection: close" in head.lower():
                self._transport.close()


def load(folder: Path) -> list[bytes]:
    """The JPEG files below a folder that no filter refuses; where there are none, 200 random ones, so that it runs anywhere."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg"}) if folder.is_dir() else []
    found = [data for file in files if (data := file.read_bytes()).startswith(_START_OF_IMAGE) and min(Image.open(file).size) >= _LEAST_SIDE]
    return found or [_drawn(seed) for seed in range(200)]


def _drawn(seed: int) -> bytes:
    sink = io.BytesIO()
    Image.effect_noise((320, 240), 20 + seed).resize((500, 375)).convert("RGB").save(sink, "JPEG", quality=80)
    return sink.getvalue()


async def serve(photos: list[bytes]) -> None:
    """Serves until it is ended; the first line on stdout is its port and the mean size of a photo."""
    site = Site(photos)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(site), "0.0.0.0", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], sum(map(len, photos)) // len(photos), flush=True)
    await server.serve_forever()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    options = parser.parse_args()
    try:
        asyncio.run(serve(load(options.photos)))
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()
