"""HTTP client with bounds on the time and size of a response, which sends the key to no other address.

The official client bounds the pause between two chunks, not the whole response, and reads without a size
limit.
"""

import asyncio
import json
import zlib
from typing import Any

LARGEST = 4 * 2**20
"""Bytes of a decompressed response; the longest real ones have some hundred thousand."""

FAULT = "octavius_fault"
"""Key of the object that replaces a refused response."""


def bounded_client(seconds: float, auth: tuple[str, str] | None) -> Any:
    """An `httpx2.AsyncClient` for the official client.

    It follows no redirects, asks for uncompressed responses, and times out on the whole response. A response
    larger than `LARGEST` is replaced by an object with the key `FAULT`.

    Args:
        seconds: limit from the request to the last byte of its response.
        auth: user name and password for basic authentication.
    """
    import httpx2

    class BoundedClient(httpx2.AsyncClient):
        """Reads each response as a whole, within the bounds."""

        async def send(self, request: Any, **options: Any) -> Any:
            """Sends one request and returns its response."""
            options |= {"stream": True, "follow_redirects": False}
            try:
                async with asyncio.timeout(seconds):
                    response = await super().send(request, **options)
                    try:
                        content = await _content(response)
                    finally:
                        await response.aclose()
            except TimeoutError:
                raise httpx2.ReadTimeout(f"no whole answer in {seconds:g} s", request=request) from None
            kept = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "location")
            headers = {name: response.headers[name] for name in kept if name in response.headers}
            return httpx2.Response(response.status_code, headers=headers, content=content, request=request)

    basic = None if auth is None else httpx2.BasicAuth(*auth)
    return BoundedClient(timeout=seconds, headers={"Accept-Encoding": "identity"}, auth=basic)


async def _content(response: Any) -> bytes:
    """The decompressed body; a fault if it is too large or has an unknown encoding."""
    found = bytearray()
    # `aiter_raw`: the client's own decompression would not stop at the limit.
    async for piece in response.aiter_raw():
        found += piece
        if len(found) > LARGEST:
            return _fault(f"the answer has more than {LARGEST:,} bytes")
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing in ("", "identity"):
        return bytes(found)
    if packing not in ("gzip", "x-gzip", "deflate"):
        return _fault(f"the answer is packed as {packing:.40}, which was not asked for")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)  # detects gzip or zlib by the header
    try:
        content = unpacking.decompress(bytes(found), LARGEST + 1)
    except zlib.error as error:
        return _fault(f"the answer cannot be unpacked: {error}")
    return (
        content
        if len(content) <= LARGEST
        else _fault(f"the answer has more than {LARGEST:,} bytes, unpacked")
    )


def _fault(said: str) -> bytes:
    return json.dumps({FAULT: said}).encode()
