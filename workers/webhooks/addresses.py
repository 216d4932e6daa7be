"""Which addresses may be spoken to: whoever registers a webhook chooses where this machine connects to.

The lists follow IANA's registries of special-purpose addresses and what cloud providers say of their metadata
services. IPv6 is listed by what is allowed, since all that the internet uses of it lies in 2000::/3.
"""

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from storage import errors

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Place = tuple[socket.AddressFamily, Any]  # what a socket connects to
Lookup = Callable[[str, int], Sequence[Place]]

PRIVATE = tuple(
    ip_network(text)
    for text in (
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "::1/128",
        "fc00::/7",
    )
)
METADATA = tuple(
    ip_network(text)
    for text in (
        "169.254.169.254/32",  # AWS, Azure, Google, Oracle and most others
        "100.100.100.200/32",  # Alibaba, in the range of carrier-grade NAT
        "168.63.129.16/32",  # Azure's wire server, in the middle of public addresses
        "192.0.0.192/32",  # Oracle
        "fd00:ec2::254/128",  # AWS
        "fd20:ce::254/128",  # Google
    )
)
NEVER = tuple(
    ip_network(text)
    for text in (
        *("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "2001::/23",  # Teredo and other protocols' own
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3fff::/20",
    )
)
UNICAST = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")  # the last 32 bits are the IPv4 address that is really meant


class AddressRefusedError(errors.InputError):
    """{host} is at {address}, and webhooks are not sent to {kind} addresses. VOICEMILL_WEBHOOK_ALLOW_{setting}."""


class NoAddressError(errors.VoicemillError):
    """{host} has no address: {reason}."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the settings allow."""

    allow_private: bool = False
    allow_networks: tuple[Network, ...] = ()

    def refusal(self, address: Address) -> str | None:
        """What kind of address this is, if it may not be spoken to."""
        address = _meant(address)
        if _within(address, self.allow_networks):
            return None
        if _within(address, METADATA):
            return "metadata"
        if _within(address, PRIVATE):
            return None if self.allow_private else "private"
        if _within(address, NEVER) or (isinstance(address, IPv6Address) and address not in UNICAST):
            return "special"
        return None

    def check(self, host: str, places: Sequence[Place]) -> list[Place]:
        """Those of a host's addresses that may be spoken to. Raises AddressRefusedError where none is left."""
        refused: tuple[Address, str] | None = None
        allowed: list[Place] = []
        for place in places:
            address = ip_address(place[1][0])
            kind = self.refusal(address)
            if kind is None:
                allowed.append(place)
            else:
                refused = refused or (address, kind)
        if refused and not allowed:
            address, kind = refused
            setting = "PRIVATE=true allows them" if kind == "private" else "NETWORKS can name exceptions"
            raise AddressRefusedError(host=host, address=address, kind=kind, setting=setting)
        return allowed


def lookup(host: str, port: int) -> Sequence[Place]:
    """Ask the system for a host's addresses."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [(family, place) for family, _, _, _, place in found]


def within(seconds: float, ask: Lookup, host: str, port: int) -> Sequence[Place]:
    """A host's addresses, looked up in so long. Raises NoAddressError.

    A look-up cannot be stopped; one that takes too long is left to end by itself.
    """
    answers: SimpleQueue[Sequence[Place] | Exception] = SimpleQueue()

    def look() -> None:
        try:
            answers.put(ask(host, port))
        except Exception as error:
            answers.put(error)

    Thread(target=look, name="lookup", daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        raise NoAddressError(host=host, reason=f"its name servers did not answer in {seconds:g} s") from None
    if isinstance(answer, Exception):
        reason = getattr(answer, "strerror", None) or answer
        raise NoAddressError(host=host, reason=reason) from answer
    if not answer:
        raise NoAddressError(host=host, reason="its name servers know none")
    return answer


def _within(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)  # of the other version never


def _meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it is just another way to write it."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address
