"""What a webhook's URL may be, and the parts of it that are needed to send."""

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

import idna

from storage import errors

PORTS = {"http": 80, "https": 443}
FIRST_FREE_PORT = 1024  # below it only the two of the web: no mail or remote shell is spoken to
PLAIN = "!$%&'()*+,-./:;=?@_~"  # characters of a path or query that stay as they are
HOST = re.compile(r"[a-z0-9._-]{1,253}")  # ASCII; what a resolver makes of it is checked as an address


class BadUrlError(errors.InputError):
    """{url!r} cannot be a webhook's URL: {reason}."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to send."""

    scheme: str
    host: str  # a name in ASCII, or an address without brackets
    port: int
    path: str  # with its query

    @property
    def authority(self) -> str:
        """The `Host` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


def parse(url: str) -> Target:
    """Take a URL apart. Raises BadUrlError."""
    if not url.isprintable() or " " in url:
        raise _bad(url, "it has a space or a control character in it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _bad(url, str(error)) from error
    if parts.scheme not in PORTS:
        raise _bad(url, "it must begin with https:// or http://")
    if "@" in parts.netloc:
        raise _bad(url, "it has a user name or password in it")
    if parts.fragment:
        raise _bad(url, "it has a #fragment, which is never sent")
    if port is None:
        port = PORTS[parts.scheme]
    elif port < FIRST_FREE_PORT and port not in PORTS.values():
        raise _bad(url, f"port {port} is not for webhooks; there are 80, 443 and 1024 to 65535")
    path = quote(parts.path or "/", safe=PLAIN) + (f"?{quote(parts.query, safe=PLAIN)}" if parts.query else "")
    return Target(parts.scheme, _host(url, parts.hostname or ""), port, path)


def _host(url: str, host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except idna.IDNAError as error:
        raise _bad(url, f"{host!r} is no host name: {error}") from error
    if not HOST.fullmatch(name):
        raise _bad(url, f"{host!r} is no host name" if host else "it names no host")
    return name


def _bad(url: str, reason: str) -> BadUrlError:
    """Where there may be a password in it, it is not repeated."""
    return BadUrlError(url="a URL with an @ in it" if "@" in url else url, reason=reason)
