"""Which addresses an upstream may not have when it is named through the admin API. Connects to nobody.

What counts is what a name means to this machine's resolver, so numbers in other spellings (decimal, hex) and names that
point there are found as well. What a name means later, the connection asks for itself (`gateway.upstream`): here
somebody is told at once.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from gateway.addresses import is_inside, is_link_local


def refused_reason(url: str, *, link_local: bool = False, denied: Sequence[str] = ()) -> str | None:
    """Return why an upstream's address is not taken, None when it is. Asks the resolver: may take seconds.

    A name that means nothing now is taken: its server may not be there yet.

    Args:
        url: the address.
        link_local: those are taken.
        denied: networks (CIDR) that are not.
    """
    host = urlsplit(url).hostname or ""
    for address in _meanings(host):
        if not link_local and is_link_local(address):
            return f"{host} is a link-local address, or the address of a cloud's credentials"
        if is_inside(address, denied):
            return f"{host} is in a network of server.denied_networks"
    return None


def _meanings(host: str) -> list[str]:
    try:
        known = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return [host]
    return [host, *(str(address[0]) for *_, address in known)]
