"""HTTP/2 over real TLS: negotiated, multiplexed, guarded, and not insisted on."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import pytest
import trustme
from cosmop_scraper.errors import AddressRefusedError, FetchError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings

PHOTO = b"photo" * 3000


@dataclass
class Seen:
    origin: str = ""
    #: What each connection has agreed on.
    protocols: list[str | None] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@contextlib.asynccontextmanager
async def tls_server(authority: trustme.CA, *protocols: str, name: str = "localhost") -> AsyncIterator[Seen]:
    """Answers PHOTO over whichever of the protocols is agreed on; ``/moved`` leads to a cloud's metadata service."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(protocols))
    authority.issue_cert(name).configure_cert(context)
    seen = Seen()

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        seen.asked.append(path)
        if path == "/robots.txt":
            return 404, {}, b""
        return (302, {"location": "http://169.254.169.254/latest/"}, b"") if path == "/moved" else (200, {"content-type": "image/jpeg"}, PHOTO)

    async def speak_h1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            status, headers, body = answer(head.split(b" ")[1].decode())
            await asyncio.sleep(0.01)
            fields = "".join(f"{k}: {v}\r\n" for k, v in {**headers, "content-length": str(len(body))}.items())
            writer.write(f"HTTP/1.1 {status} X\r\n{fields}\r\n".encode() + body)

    async def speak_h2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        while data := await reader.read(65536):
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    status, headers, body = answer(dict(event.headers)[b":path"].decode())
                    connection.send_headers(event.stream_id, [(":status", str(status)), *headers.items()])
                    connection.send_data(event.stream_id, body, end_stream=True)
            writer.write(connection.data_to_send())

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        seen.protocols.append(protocol)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await (speak_h2 if protocol == "h2" else speak_h1)(reader, writer)
        writer.close()

    server = await asyncio.start_server(client, "127.0.0.1", 0, ssl=context)
    seen.origin = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    try:
        yield seen
    finally:
        server.close()


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """An authority that this process trusts, by the variable that an operator would use."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return authority


@contextlib.asynccontextmanager
async def fetcher(*, allow_private: bool = True) -> AsyncIterator[Fetcher]:
    made = Fetcher(Settings(fetch_attempts=1), Politeness(1000, 8), respect_robots=True, allow_private=allow_private)
    try:
        yield made
    finally:
        await made.close()


async def test_http2_is_agreed_on_and_one_connection_carries_all(authority: trustme.CA) -> None:
    async with tls_server(authority, "h2", "http/1.1") as server, fetcher() as fetch:
        bodies = await asyncio.gather(*(fetch.get(f"{server.origin}/{i}.jpg", max_bytes=100_000) for i in range(20)))
    assert [b.body for b in bodies] == [PHOTO] * 20
    assert server.protocols == ["h2"]
    assert sorted(server.asked) == sorted(["/robots.txt", *(f"/{i}.jpg" for i in range(20))])


async def test_a_server_of_http1_alone_is_asked_over_several_connections_kept_alive(authority: trustme.CA) -> None:
    async with tls_server(authority, "http/1.1") as server, fetcher() as fetch:
        for _ in range(2):
            bodies = await asyncio.gather(*(fetch.get(f"{server.origin}/{i}.jpg", max_bytes=100_000) for i in range(20)))
            assert [b.body for b in bodies] == [PHOTO] * 20
    assert set(server.protocols) == {"http/1.1"}
    assert len(server.asked) == 41
    assert 2 <= len(server.protocols) <= 10


async def test_the_guard_stands_before_tls_too(authority: trustme.CA) -> None:
    async with tls_server(authority, "h2") as server:
        async with fetcher(allow_private=False) as fetch:
            with pytest.raises(AddressRefusedError, match="loopback"):
                await fetch.get(f"{server.origin}/1.jpg", max_bytes=100_000)
        assert server.protocols == []
        async with fetcher() as fetch:
            with pytest.raises(AddressRefusedError, match="metadata"):
                await fetch.get(f"{server.origin}/moved", max_bytes=100_000)
    assert server.asked == ["/robots.txt", "/moved"]


async def test_a_body_past_the_cap_is_cut_off_and_the_connection_goes_on(authority: trustme.CA) -> None:
    async with tls_server(authority, "h2") as server, fetcher() as fetch:
        assert (await fetch.get(f"{server.origin}/1.jpg", max_bytes=1000)).cut_off
        assert (await fetch.get(f"{server.origin}/2.jpg", max_bytes=100_000)).body == PHOTO


@pytest.mark.parametrize("wrong", ["name", "authority"])
async def test_a_certificate_that_proves_nothing_is_refused(authority: trustme.CA, wrong: str) -> None:
    issuer, name = (authority, "elsewhere.example") if wrong == "name" else (trustme.CA(), "localhost")
    async with tls_server(issuer, "h2", name=name) as server, fetcher() as fetch:
        with pytest.raises(FetchError, match=r"(?i)certificate"):
            await fetch.get(f"{server.origin}/1.jpg", max_bytes=100_000)
    assert server.asked == []
