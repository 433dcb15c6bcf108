"""The HTTP client towards the experts' servers: the only module that speaks to the network outwards.

aiohttp because a relayed request costs 130 us of CPU with it (DESIGN section 4); all else here sees the small
interface below. It sends what it is given and returns bytes as they came: no decompression (a compressed bomb
stays small), no redirects followed, no cookies kept, no proxies from the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Self

import aiohttp
from yarl import URL

from gateway.errors import UpstreamBadResponse, UpstreamError, UpstreamReset, UpstreamUnreachable

# vLLM closes idle connections after 5.0 s; one that we gave up first cannot be reset under a request.
KEEP_ALIVE_S = 3.0
READ_BUFFER_BYTES = 64 * 1024
WRITTEN_AT_ONCE_BYTES = 2**20
MAXIMUM_HEADER_BYTES = 16 * 1024


class UpstreamResponse:
    """An answer whose headers are here; read it chunk by chunk, then `close` it in any case."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status

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


class UpstreamClient:
    """Connection pools to all upstreams; use as an async context manager."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pools."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=30)
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

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], connect_s: float) -> UpstreamResponse:
        """Send a request and wait for the answer's headers. All other limits are the caller's.

        Raises:
            UpstreamUnreachable: no connection within `connect_s`.
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
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise UpstreamUnreachable("The expert's server cannot be reached.") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, OSError) as error:
            raise UpstreamReset("The expert's server closed the connection before it answered.") from error
        except aiohttp.ClientResponseError as error:
            raise UpstreamBadResponse("The expert's server answered with malformed HTTP.") from error
        except aiohttp.ClientError as error:
            raise UpstreamError("The expert's server failed.") from error
        return UpstreamResponse(response)


@lru_cache(maxsize=4096)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


@lru_cache(maxsize=256)
def _timeout(connect_s: float) -> aiohttp.ClientTimeout:
    # `connect` and not `sock_connect`: a resolver that hangs is part of it.
    return aiohttp.ClientTimeout(total=None, connect=connect_s)
