"""Which network addresses may be connected to: the guard against requests forged to reach our own network (SSRF).

The check is made on the address that is then connected to, at connect time and on every hop, so that a name that
resolves differently the second time (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from functools import partial
from typing import Protocol

from cosmop_scraper.errors import AddressRefusedError, FetchError, WireError
from cosmop_scraper.wire import Backend, Stream

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
#: ISATAP (RFC 5214, section 6.1): the lower half of the address is one of these, then an IPv4 address.
_ISATAP = (0x00005EFE, 0x02005EFE)
#: Cloud metadata services: AWS and all that follow it, AWS and Google over IPv6, Alibaba, Oracle, Azure's WireServer.
_METADATA = {ipaddress.ip_address(a) for a in ("169.254.169.254", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")}
#: Not of the public internet, and not known as such to every Python that we run on: IANA's protocol assignments, 6to4 relays,
#: site-local addresses, documentation.
_NOT_PUBLIC = tuple(ipaddress.ip_network(n) for n in ("192.0.0.0/24", "192.88.99.0/24", "fec0::/10", "3fff::/20"))


def innermost(address: Address) -> Address:
    """The IPv4 address that an IPv6 one carries (mapped, 6to4, Teredo, NAT64, ISATAP), or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return address.ipv4_mapped
        if address.sixtofour:
            return address.sixtofour
        if address.teredo:
            return address.teredo[1]
        if address in _NAT64 or int(address) >> 32 & 0xFFFFFFFF in _ISATAP:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if int(address) >> 32 == 0 and int(address) > 1:  # "IPv4-compatible", long deprecated
            return ipaddress.IPv4Address(int(address))
    return address


def refusal(text: str, *, allow_private: bool) -> str | None:
    """Why an address may not be connected to, or None.

    Args:
        allow_private: permits loopback and private networks; metadata, link-local, multicast and reserved ones stay refused.
    """
    address = innermost(ipaddress.ip_address(text.partition("%")[0]))
    never = {
        "a cloud's metadata service": address in _METADATA,
        "link-local": address.is_link_local,
        "unspecified": address.is_unspecified,
        "multicast": address.is_multicast,
        "reserved": address.is_reserved and not address.is_loopback,
    }
    for reason, holds in never.items():
        if holds:
            return reason
    if allow_private or (address.is_global and not any(address in network for network in _NOT_PUBLIC)):
        return None
    return "loopback" if address.is_loopback else "private"


class Connects(Protocol):
    """Whoever connects."""

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None) -> Stream:  # noqa: ASYNC109
        """Connects to a host. Raises ``WireError``."""
        ...


class GuardedBackend:
    """Connects only to permitted addresses: resolves, judges, and connects to the very address judged."""

    def __init__(self, *, allow_private: bool, backend: Connects | None = None) -> None:
        self._allow_private = allow_private
        self._backend = backend or Backend()

    async def resolve(self, host: str, port: int) -> list[str]:
        """Permitted addresses of a host. Raises ``AddressRefusedError``, ``FetchError``."""
        try:
            # In a thread and not by the loop: what resolves names is the system's resolver, whichever loop runs.
            found = await asyncio.get_running_loop().run_in_executor(None, partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            raise FetchError(f"{host} does not resolve: {error}") from error
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        reasons = {address: refusal(address, allow_private=self._allow_private) for address in addresses}
        permitted = [address for address, reason in reasons.items() if reason is None]
        if not permitted:
            what = ", ".join(f"{address} ({reason})" for address, reason in reasons.items())
            raise AddressRefusedError(f"{host} is at {what}: the scraper fetches from the public internet only (allow_private_addresses is for tests)")
        return permitted

    async def connect_tcp(self, host: str, port: int, timeout: float | None = None) -> Stream:  # noqa: ASYNC109 - of each address
        """Connects to the first permitted address that answers. Raises ``AddressRefusedError``, ``FetchError``, ``WireError``."""
        last: WireError | None = None
        for address in await self.resolve(host, port):
            try:
                return await self._backend.connect_tcp(address, port, timeout)
            except WireError as error:
                last = error
        assert last is not None
        raise last
