"""What a server may send for an image, over a real connection: each of the formats that are taken, and all that is not one."""

from __future__ import annotations

import asyncio
import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from cosmop_common.collection import ScrapeSettings
from cosmop_common.pb.cosmop.v1 import facts_pb2
from cosmop_scraper.candidate import Candidate
from cosmop_scraper.download import Downloader
from cosmop_scraper.errors import FetchError, UnsupportedUrlError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings
from cosmop_scraper.verify import Finding
from PIL import Image
from scraper_servers import Request, serving

NOISE = Image.fromarray(np.random.default_rng(1).integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((320, 240))


def encoded(kind: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


FRAMES: dict[str, Any] = {"save_all": True, "append_images": [NOISE.rotate(90), NOISE.rotate(180)]}
#: Name, bytes, media type.
TAKEN = {
    "jpeg": (encoded("JPEG"), "image/jpeg"),
    "progressive": (encoded("JPEG", progressive=True), "image/jpeg"),
    "cmyk": (encoded("JPEG", NOISE.convert("CMYK")), "image/jpeg"),
    "mpo": (encoded("MPO", **FRAMES), "image/jpeg"),
    "png": (encoded("PNG"), "image/png"),
    "gif": (encoded("GIF"), "image/gif"),
    "moving-gif": (encoded("GIF", **FRAMES), "image/gif"),
    "webp": (encoded("WEBP"), "image/webp"),
    "lossless-webp": (encoded("WEBP", lossless=True), "image/webp"),
    "moving-webp": (encoded("WEBP", **FRAMES), "image/webp"),
    "bmp": (encoded("BMP"), "image/bmp"),
    "tiff": (encoded("TIFF"), "image/tiff"),
    "lzw-tiff": (encoded("TIFF", compression="tiff_lzw"), "image/tiff"),
    "avif": (encoded("AVIF"), "image/avif"),
}


def png_bomb(width: int, height: int) -> bytes:
    """A few bytes that announce, and would unpack to, many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1_000_000)) + chunk(b"IEND", b"")


def with_archive(image: bytes) -> bytes:
    sink = io.BytesIO(image)
    sink.seek(0, io.SEEK_END)
    with zipfile.ZipFile(sink, "a") as archive:
        archive.writestr("payload.exe", b"MZ")
    return sink.getvalue()


R = facts_pb2.RefusalReason
#: Name, bytes, reason.
REFUSED: dict[str, tuple[bytes, str]] = {
    "page": (b"<!DOCTYPE html><html><body>Not found</body></html>", "not_an_image"),
    "drawing": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>', "not_an_image"),
    "packed-drawing": (gzip.compress(b"<svg xmlns='http://www.w3.org/2000/svg'/>"), "not_an_image"),
    "text": (b"Too many requests", "not_an_image"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 500 500\n", "not_an_image"),
    "pdf": (b"%PDF-1.7\n1 0 obj", "not_an_image"),
    "icon": (encoded("ICO", sizes=[(64, 64)]), "not_an_image"),
    "empty": (b"", "not_an_image"),
    "png-bomb": (png_bomb(50_000, 50_000), "too_many_pixels"),
    "png-bomb-in-limits": (png_bomb(9000, 9000), "corrupt"),
    "gif-bomb": (b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0, 0, 0) + encoded("GIF")[13:], "too_many_pixels"),
    "script-behind": (encoded("JPEG") + b"<?php system($_GET['c']); ?>", "polyglot"),
    "script-in-comment": (encoded("JPEG", comment=b"<script>alert(1)</script>"), "polyglot"),
    "archive-behind": (with_archive(encoded("PNG")), "polyglot"),
    "tiny": (encoded("PNG", NOISE.resize((40, 40))), "too_small"),
}
#: Formats whose whole file is one picture: a byte less is noticed.
WHOLE = [name for name in TAKEN if name != "mpo"]

Get = Callable[[str], Any]


@pytest.fixture
async def downloader() -> AsyncIterator[Downloader]:
    scrape = ScrapeSettings(max_bytes=2_000_000, allow_private_addresses=True)
    fetcher = Fetcher(Settings(fetch_attempts=1), Politeness(10_000, 8), respect_robots=True, allow_private=True)
    downloader = Downloader(fetcher, scrape, "test")
    yield downloader
    downloader.close()
    await fetcher.close()


async def findings(downloader: Downloader, bodies: dict[str, bytes], **headers: str) -> dict[str, Finding]:
    """What each body, served under its name, is found to be."""

    def answering(body: bytes) -> Any:
        return lambda request: request.answer(body, **headers)

    async with serving({f"/{name}": answering(body) for name, body in bodies.items()}) as server:

        async def one(name: str) -> Finding:
            return await downloader.look(await downloader.download(Candidate(f"{server.origin}/{name}")))

        return dict(zip(bodies, await asyncio.gather(*map(one, bodies)), strict=True))


def reason(finding: Finding) -> str:
    return R.Name(finding.refusal.reason).removeprefix("REFUSAL_REASON_").lower() if finding.refusal else ""


async def test_every_format_that_we_say_we_take_is_taken(downloader: Downloader) -> None:
    found = await findings(downloader, {name: body for name, (body, _) in TAKEN.items()}, content_type="application/octet-stream")
    assert {name: (reason(f), f.info.media_type, f.info.width, f.info.height) for name, f in found.items()} == {
        name: ("", media_type, 320, 240) for name, (_, media_type) in TAKEN.items()
    }


@pytest.mark.parametrize("left_off", [1, 12, 0.3, 0.9])
async def test_a_file_that_is_cut_off_is_refused(downloader: Downloader, left_off: float) -> None:
    """The server announces the shorter length: nothing but the file itself tells."""
    bodies = {name: TAKEN[name][0] for name in WHOLE}
    cut = {name: body[: len(body) - int(left_off if left_off >= 1 else left_off * len(body))] for name, body in bodies.items()}
    found = await findings(downloader, cut, content_type="image/jpeg")
    assert {name: reason(f) for name, f in found.items() if reason(f) not in {"corrupt", "not_an_image"}} == {}


async def test_what_is_no_image_whatever_it_is_called(downloader: Downloader) -> None:
    found = await findings(downloader, {name: body for name, (body, _) in REFUSED.items()}, content_type="image/jpeg")
    assert {name: reason(f) for name, f in found.items()} == {name: why for name, (_, why) in REFUSED.items()}
    assert "HTML" in found["page"].refusal.detail
    assert "SVG" in found["drawing"].refusal.detail


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_compressed_bomb_is_cut_off_and_a_compressed_photo_is_taken(downloader: Downloader, encoding: str) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    photo = TAKEN["bmp"][0]
    found = await findings(downloader, {"bomb": pack(b"\0" * 100_000_000), "photo": pack(photo)}, content_encoding=encoding)
    assert reason(found["bomb"]) == "too_many_bytes"
    assert reason(found["photo"]) == ""
    assert downloader._fetcher.memory.held == 0


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
async def test_an_encoding_that_was_not_asked_for_is_not_unpacked(downloader: Downloader, encoding: str) -> None:
    with pytest.raises(UnsupportedUrlError, match="not asked for"):
        await findings(downloader, {"x": b"\x8b\xff" * 100}, content_encoding=encoding)


async def test_a_compressed_body_that_ends_early_is_no_body(downloader: Downloader) -> None:
    with pytest.raises(FetchError, match="ended"):
        await findings(downloader, {"x": gzip.compress(TAKEN["bmp"][0])[:-200]}, content_encoding="gzip")


async def test_a_chunked_body_without_its_end_is_no_body(downloader: Downloader) -> None:
    async def half(request: Request) -> None:
        await request.raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"5\r\nhello\r\n")
        request.writer.close()

    async with serving({"/": half}) as server:
        with pytest.raises(FetchError):
            await downloader.download(Candidate(f"{server.origin}/"))
