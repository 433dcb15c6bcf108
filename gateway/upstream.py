"""The HTTP client towards the experts' servers: the only module that speaks to the network outwards.

aiohttp because a relayed request costs 130 us of CPU with it (DESIGN section 4); all else here sees the small
interface below. It sends what it is given and returns bytes as they came: no decompression (a compressed bomb
stays small), no redirects followed, no cookies kept, no proxies from the environment.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import lru_cache
from io import BytesIO
from typing import Any, Self

import aiohttp
from yarl import URL

from gateway.addresses import is_link_local
from gateway.errors import (
    UpstreamBadResponse,
    UpstreamError,
    UpstreamForbidden,
    UpstreamReset,
    UpstreamUnreachable,
)

# vLLM closes idle connections after 5.0 s; one that we gave up first cannot be reset under a request.
KEEP_ALIVE_S = 3.0
READ_BUFFER_BYTES = 64 * 1024
WRITTEN_AT_ONCE_BYTES = 2**20
MAXIMUM_HEADER_BYTES = 16 * 1024

_CONNECTED_S: ContextVar[float] = ContextVar("connected_s", default=0.0)


class UpstreamResponse:
    """An answer whose headers are here; read it chunk by chunk, then `close` it in any case.

    Attributes:
        status: its status.
        connect_s: how long it took to connect; 0 where a connection was open already.
    """

    def __init__(self, response: aiohttp.ClientResponse, connect_s: float = 0.0) -> None:
        self._response = response
        self.status = response.status
        self.connect_s = connect_s

    def header(self, name: str) -> str | None:
        """Return a header's first value, less what is not ASCII; the name in any case."""
        value = self._response.headers.get(name)
        return None if value is None else value.encode("ascii", "ignore").decode()

    async def read_chunk(self) -> bytes:
        """Return what has arrived, waiting for at least one byte; empty at the end.

        Raises:
            UpstreamReset: the connection ended before the answer was complete.
        """
        try:
            return await self._response.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamReset("The expert's server closed the connection in the middle of its answer.") from error

    async def read_all(self, limit_bytes: int) -> bytes:
        """Return the rest of the answer.

        Raises:
            UpstreamReset: as `read_chunk`.
            UpstreamBadResponse: it is longer than `limit_bytes`.
        """
        chunks, size = [], 0
        while chunk := await self.read_chunk():
            chunks.append(chunk)
            size += len(chunk)
            if size > limit_bytes:
                raise UpstreamBadResponse("The expert's answer is larger than the gateway takes.")
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def close(self) -> None:
        """Give the connection back if the answer was read to its end, else drop it: that is how vLLM learns to stop."""
        self._response.close() if not self._response.content.at_eof() else self._response.release()


class _Connector(aiohttp.TCPConnector):
    """Tells the task that waits for a new connection how long it took; aiohttp's own tracing costs every request."""

    async def _create_connection(self, *args: Any, **named: Any) -> Any:
        began = time.perf_counter()
        try:
            return await super()._create_connection(*args, **named)
        finally:
            _CONNECTED_S.set(time.perf_counter() - began)


class _ForbiddenAddress(OSError):
    """Instead of a socket. The text is the same for all addresses: of several texts nothing else would be left."""

    def __init__(self) -> None:
        super().__init__(errno.EACCES, "no upstream may be there")


class UpstreamClient:
    """Connection pools to all upstreams; use as an async context manager.

    Args:
        forbids: tells whether no upstream may be at an address; asked about each that is connected to, after its name
            was resolved, so that a name which is pointed elsewhere later gets by no more than a number does.
        told: called for each connection that was not opened for it.
    """

    def __init__(self, forbids: Callable[[str], bool] = is_link_local, told: Callable[[], None] = lambda: None) -> None:
        self._forbids, self._told = forbids, told
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pools."""
        connector = _Connector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=30, socket_factory=self._socket)
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=MAXIMUM_HEADER_BYTES,
            max_line_size=MAXIMUM_HEADER_BYTES,
            read_bufsize=READ_BUFFER_BYTES,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    def _socket(self, address: aiohttp.AddrInfoType) -> socket.socket:
        """Make the socket to connect to one resolved address with.

        Raises:
            _ForbiddenAddress: no upstream may be there.
        """
        family, kind, protocol, _, place = address
        if self._forbids(str(place[0])):
            self._told()
            raise _ForbiddenAddress
        return socket.socket(family, kind, protocol)

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], connect_s: float) -> UpstreamResponse:
        """Send a request and wait for the answer's headers. All other limits are the caller's.

        Raises:
            UpstreamUnreachable: no connection within `connect_s`.
            UpstreamForbidden: the server is where none may be.
            UpstreamReset: the connection ended before the headers.
            UpstreamBadResponse: what came back is not HTTP.
        """
        return await self._request("POST", url, body, headers, connect_s)

    async def get(self, url: str, headers: Mapping[str, str], connect_s: float) -> UpstreamResponse:
        """Fetch a page; see `post`."""
        return await self._request("GET", url, None, headers, connect_s)

    async def _request(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], connect_s: float
    ) -> UpstreamResponse:
        assert self._session is not None, "not entered"
        _CONNECTED_S.set(0.0)
        try:
            response = await self._session.request(
                method,
                _parsed(url),
                # aiohttp warns of large bodies given as bytes: written in one piece they hold up the loop.
                data=BytesIO(body) if body is not None and len(body) > WRITTEN_AT_ONCE_BYTES else body,
                headers=headers,
                allow_redirects=False,
                timeout=_timeout(connect_s),
            )
        except aiohttp.ClientConnectorDNSError as error:
            raise UpstreamUnreachable("The expert's server cannot be found.", code="upstream_dns") from error
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _ForbiddenAddress):
                raise UpstreamForbidden("The expert's server is at an address that is not allowed.") from error
            raise UpstreamUnreachable("The expert's server cannot be reached.") from error
        except (aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise UpstreamUnreachable("The expert's server cannot be reached.") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, OSError) as error:
            raise UpstreamReset("The expert's server closed the connection before it answered.") from error
        except aiohttp.ClientResponseError as error:
            raise UpstreamBadResponse("The expert's server answered with malformed HTTP.") from error
        except aiohttp.ClientError as error:
            raise UpstreamError("The expert's server failed.") from error
        return UpstreamResponse(response, _CONNECTED_S.get())


@lru_cache(maxsize=4096)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


@lru_cache(maxsize=256)
def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    # `connect` and not `sock_connect`: a resolver that hangs is part of it.
    return aiohttp.ClientTimeout(total=None, connect=connect_s)
