"""The HTTP client of the endpoint: an answer is bounded in time and size, and no key leaves for another address.

The official client bounds the pause between two pieces of an answer, not the whole, and reads without a limit.
"""

import asyncio
import json
import zlib
from typing import Any

LARGEST = 4 * 2**20
"""Bytes of an answer, unpacked; the longest true ones have some hundred thousand."""

FAULT = "octavius_fault"
"""The key of what stands in the place of an answer that is not taken."""


def bounded_client(seconds: float, auth: tuple[str, str] | None) -> Any:
    """An `httpx2.AsyncClient` for the official client.

    It follows no redirects, asks for answers that are not packed, and gives an answer up after some seconds. A larger
    one than `LARGEST` is replaced by an object with the key `FAULT`.

    Args:
        seconds: from the request to the last byte of its answer.
        auth: user name and password of the address.
    """
    import httpx2

    class BoundedClient(httpx2.AsyncClient):
        """Reads each answer as a whole, within the bounds."""

        async def send(self, request: Any, **options: Any) -> Any:
            """One request and its answer."""
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
    """The body of a response, unpacked; a fault in its place where it is too large or packed in an unknown way."""
    found = bytearray()
    async for piece in response.aiter_raw():
        found += piece
        if len(found) > LARGEST:
            return _fault(f"the answer has more than {LARGEST:,} bytes")
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing in ("", "identity"):
        return bytes(found)
    if packing not in ("gzip", "x-gzip", "deflate"):
        return _fault(f"the answer is packed as {packing:.40}, which was not asked for")
    unpacking = zlib.decompressobj(zlib.MAX_WBITS | 32)  # gzip or zlib, as its first bytes say
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
