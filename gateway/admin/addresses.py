"""Which addresses an upstream may not have when it is named through the admin API. Connects to nobody.

At link-local addresses clouds keep their credentials (169.254.169.254). What counts is what a name means to this
machine's resolver, so numbers in other spellings (decimal, hex) and names that point there are found as well. What a
name means later is not known here: a name that is pointed elsewhere after the check gets by.
"""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import urlsplit

_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
# The same service where it has other addresses: Amazon over IPv6, Alibaba, Azure.
_CREDENTIALS = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
# IPv4 inside IPv6: well-known NAT64 prefixes (RFC 6052, RFC 8215) and the deprecated IPv4-compatible form.
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"), ipaddress.ip_network("::/96"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def refused_reason(url: str) -> str | None:
    """Return why an upstream's address is not taken, None when it is. Asks the resolver: may take seconds.

    A name that means nothing now is taken: its server may not be there yet.
    """
    host = urlsplit(url).hostname or ""
    for address in _meanings(host):
        if is_link_local(address):
            return f"{host} is a link-local address, or the address of a cloud's credentials"
    return None


def is_link_local(text: str) -> bool:
    """Tell whether an address is link-local or a cloud's service of credentials, in any form that holds IPv4."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return any(_is_refused(form) for form in _forms(address))


def _is_refused(address: Address) -> bool:
    return address in _CREDENTIALS or any(address in network for network in _LINK_LOCAL)


def _forms(address: Address) -> list[Address]:
    """Return the address and every IPv4 address that it stands for."""
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        inside = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        found += [form for form in inside if form is not None]
        if any(address in network for network in _NAT64):
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return found


def _meanings(host: str) -> list[str]:
    try:
        known = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [host]
    return [host, *(str(address[0]) for *_, address in known)]
