"""The address guard at work: names that lead inwards, numbers in disguise, redirects and rebinding, with a server that could be reached."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from cosmop_scraper.addresses import GuardedBackend
from cosmop_scraper.errors import AddressRefusedError, FetchError
from cosmop_scraper.fetch import Fetcher
from cosmop_scraper.politeness import Politeness
from cosmop_scraper.settings import Settings
from cosmop_scraper.wire import Backend, Stream
from scraper_servers import LocalServer, Request, serving

PUBLIC = "8.8.8.8"
INWARDS = [
    "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "017700000001", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]", "[64:ff9b:1::7f00:1]", "[2002:7f00:1::]", "[::7f00:1]", "10.0.0.1", "192.168.0.1", "172.31.255.1", "100.64.0.1", "[fd12::1]",
    "[fec0::1]", "169.254.1.1", "[fe80::1]", "169.254.169.254", "[::ffff:a9fe:a9fe]", "2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "100.100.100.200",
    "168.63.129.16", "[fd00:ec2::254]", "[fd20:ce::254]", "0.0.0.0", "0", "[::]", "224.0.0.1", "255.255.255.255",
    "localhost", "private.example", "metadata.example", "mixed-in.example", "\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127\u30020\u30020\u30021",
]  # fmt: skip
NAMES = {
    "site.example": [[PUBLIC]],
    "private.example": [["192.168.1.1"]],
    "metadata.example": [["169.254.169.254"]],
    "mixed-in.example": [["10.0.0.1", "::1"]],
    "rebinding.example": [[PUBLIC], ["127.0.0.1"]],
}


class Rerouted(Backend):
    """Every connection that the guard lets pass ends at the local server."""

    def __init__(self) -> None:
        self.connected: list[str] = []

    async def connect_tcp(self, host: str, *args: Any, **kwargs: Any) -> Stream:
        self.connected.append(host)
        return await super().connect_tcp("127.0.0.1", *args, **kwargs)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Rerouted:
    """Names resolve as above, each answer once and the last for ever; all other look-ups are real."""
    look_up, answers = socket.getaddrinfo, {name: list(a) for name, a in NAMES.items()}

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in answers:
            return look_up(host, port, *args, **kwargs)
        found = answers[name].pop(0) if len(answers[name]) > 1 else answers[name][0]
        return [(socket.AF_INET6 if ":" in a else socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in found]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return Rerouted()


@contextlib.asynccontextmanager
async def guarded(wire: Rerouted) -> AsyncIterator[Fetcher]:
    fetcher = Fetcher(Settings(fetch_attempts=1, connect_timeout=60), Politeness(1000, 8), respect_robots=True, allow_private=False)
    fetcher._connections._backend = GuardedBackend(allow_private=False, backend=wire)
    try:
        yield fetcher
    finally:
        await fetcher.close()


def outside(server: LocalServer, path: str, host: str = "site.example") -> str:
    return f"http://{host}:{server.origin.rpartition(':')[2]}{path}"


async def test_no_way_of_writing_an_inner_address_is_followed(wire: Rerouted) -> None:
    async def moved(request: Request) -> None:
        await request.answer(
            status=302, location=f"http://{INWARDS[int(request.path[1:])]}:{server.origin.rpartition(':')[2]}/secret".encode().decode("latin-1")
        )

    async with serving({f"/{i}": moved for i in range(len(INWARDS))}) as server, guarded(wire) as fetcher:
        for number, host in enumerate(INWARDS):
            for url in (outside(server, f"/{number}"), outside(server, "/secret", host)):
                with pytest.raises(FetchError) as caught:
                    await fetcher.get(url, max_bytes=1000)
                assert caught.value.why in {"address", "url", "unreachable"}, (host, caught.value)
        assert "/secret" not in server.asked
    assert set(wire.connected) == {PUBLIC}


async def test_a_redirect_inwards_is_refused_at_the_second_hop_too(wire: Rerouted) -> None:
    answers = {
        "/1": lambda r: r.answer(status=302, location="/2"),
        "/2": lambda r: r.answer(status=307, location=outside(server, "/3", "private.example")),
    }
    async with serving(answers) as server, guarded(wire) as fetcher:
        with pytest.raises(AddressRefusedError, match=r"192\.168\.1\.1 \(private\)"):
            await fetcher.get(outside(server, "/1"), max_bytes=1000)
    assert set(wire.connected) == {PUBLIC}


async def test_a_name_that_turns_inwards_between_two_connections_is_refused(wire: Rerouted) -> None:
    async def once(request: Request) -> None:
        await request.answer(b"hello", connection="close")
        request.writer.close()

    async with serving({"/robots.txt": once, "/": once}) as server, guarded(wire) as fetcher:
        # robots.txt is the first connection; the name then leads to this machine.
        with pytest.raises(AddressRefusedError, match="loopback"):
            await fetcher.get(outside(server, "/", "rebinding.example"), max_bytes=1000)
        assert server.asked == ["/robots.txt"]
    assert wire.connected == [PUBLIC]
