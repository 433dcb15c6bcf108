"""Which addresses no upstream may have. Asks no resolver and connects to nobody; it judges numbers.

At link-local addresses clouds keep their credentials (169.254.169.254), and IPv6 has several forms that hold an IPv4
address and reach it through a gateway of the network.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

_LINK_LOCAL = (ipaddress.ip_network("169.254.0.0/16"), ipaddress.ip_network("fe80::/10"))
# The same service where it has other addresses: Amazon over IPv6, Alibaba, Azure.
_CREDENTIALS = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
# IPv4 inside IPv6: well-known NAT64 prefixes (RFC 6052, RFC 8215) and the deprecated IPv4-compatible form.
_NAT64 = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"), ipaddress.ip_network("::/96"))

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def is_link_local(text: str) -> bool:
    """Tell whether an address is link-local or a cloud's service of credentials, in any form that holds IPv4."""
    return any(_is_credentials(form) for form in _forms(text))


def is_inside(text: str, networks: Sequence[str]) -> bool:
    """Tell whether an address is in one of the networks (CIDR), in any form that holds IPv4."""
    return any(form in _network(network) for network in networks for form in _forms(text))


def _is_credentials(address: Address) -> bool:
    return address in _CREDENTIALS or any(address in network for network in _LINK_LOCAL)


@lru_cache(maxsize=4096)
def _forms(text: str) -> tuple[Address, ...]:
    """Return the address and every IPv4 address that it stands for; of what is none, nothing."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return ()
    found: list[Address] = [address]
    if isinstance(address, ipaddress.IPv6Address):
        inside = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        found += [form for form in inside if form is not None]
        if any(address in network for network in _NAT64):
            found.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(found)


@lru_cache(maxsize=4096)
def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(text)
