"""Which addresses the scraper may connect to, and that the address judged is the one connected to."""

from __future__ import annotations

import socket

import pytest
from cosmop_scraper.addresses import GuardedBackend, refusal
from cosmop_scraper.errors import AddressRefusedError, FetchError

PUBLIC = ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"]
PRIVATE = ["127.0.0.1", "127.8.9.1", "::1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "fd12::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:4860::5efe:10.0.0.1", "100.127.255.255", "192.0.0.8", "192.88.99.1", "198.18.0.1", "fec0::1", "3fff::1", "2001:db8::1"]  # fmt: skip
NEVER = ["169.254.169.254", "169.254.1.1", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "::ffff:169.254.169.254", "0.0.0.0", "::", "224.0.0.1", "ff02::1", "240.0.0.1", "255.255.255.255", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:a9fe:a9fe::", "fd20:ce::254", "100.100.100.200", "168.63.129.16"]  # fmt: skip


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_permitted(address: str) -> None:
    assert refusal(address, allow_private=False) is None


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_refused_unless_allowed(address: str) -> None:
    assert refusal(address, allow_private=False)
    assert refusal(address, allow_private=True) is None


@pytest.mark.parametrize("address", NEVER)
def test_metadata_link_local_and_reserved_addresses_are_refused_always(address: str) -> None:
    assert refusal(address, allow_private=False)
    assert refusal(address, allow_private=True)


class Recording:
    """Connects to nothing, and notes what it was asked for."""

    def __init__(self) -> None:
        self.connected: list[str] = []

    async def connect_tcp(self, host, port, timeout=None):  # noqa: ASYNC109
        self.connected.append(host)


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[int]:
    """Makes names resolve to these addresses, one answer a look-up; returns a list that grows with each."""
    calls: list[int] = []

    def getaddrinfo(host, port, *args, **kwargs):
        calls.append(1)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in answers[min(len(calls), len(answers)) - 1]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return calls


async def test_a_name_is_looked_up_once_and_the_address_judged_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up = resolving(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])  # rebinds after the first look
    inner = Recording()
    await GuardedBackend(allow_private=False, backend=inner).connect_tcp("rebind.example", 80)
    assert inner.connected == ["8.8.8.8"]
    assert len(looked_up) == 1


async def test_a_rebound_name_is_refused_at_the_next_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["8.8.8.8"], ["169.254.169.254"])
    inner = Recording()
    backend = GuardedBackend(allow_private=True, backend=inner)
    await backend.connect_tcp("rebind.example", 80)
    with pytest.raises(AddressRefusedError, match="metadata"):
        await backend.connect_tcp("rebind.example", 80)
    assert inner.connected == ["8.8.8.8"]


async def test_of_mixed_answers_only_the_public_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["10.0.0.1", "8.8.4.4"])
    inner = Recording()
    await GuardedBackend(allow_private=False, backend=inner).connect_tcp("mixed.example", 80)
    assert inner.connected == ["8.8.4.4"]


async def test_a_name_that_does_not_resolve_is_a_failure_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*args, **kwargs):
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(FetchError, match=r"nowhere\.example"):
        await GuardedBackend(allow_private=False).connect_tcp("nowhere.example", 80)
