"""Servers that a load generator takes for good ones, a port each, for a limited time.

Runs on a host with nothing but its Python: ``traps.py SECONDS``. What each port does
stands in TRAPS; on REFUSES nobody listens.
"""

import asyncio
import socket
import struct
import sys

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BAD = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 3\r\n\r\nbad"
MOVED = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /x/\r\nContent-Length: 0\r\n\r\n"
SEE = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbusy"
REFUSES = 9108


class Server:
    """Answers each request; ``requests`` counts those of all connections."""

    def __init__(self) -> None:
        self.requests = 0

    async def ok(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(OK)
        return True

    async def hangs(self, _writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(3600)
        return False

    async def late(self, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(1.5)
        return await self.ok(writer)

    async def closes(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(OK)
        return False

    async def resets(self, writer: asyncio.StreamWriter) -> bool:
        linger = struct.pack("ii", 1, 0)
        peer = writer.get_extra_info("socket")
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return False

    async def fails(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(BAD)
        return True

    async def redirects(self, writer: asyncio.StreamWriter) -> bool:
        writer.write(MOVED)
        return True

    async def redirects_later(self, writer: asyncio.StreamWriter) -> bool:
        self.requests += 1
        writer.write(OK if self.requests < 100 else MOVED)
        return True

    async def sizes_vary(self, writer: asyncio.StreamWriter) -> bool:
        self.requests += 1
        writer.write(OK if self.requests % 2 else SEE)
        return True

    async def some_hang(self, writer: asyncio.StreamWriter) -> bool:
        self.requests += 1
        if self.requests in (5, 6):
            return await self.hangs(writer)
        return await self.ok(writer)


TRAPS = {
    "ok": 9100,
    "hangs": 9101,
    "late": 9102,
    "closes": 9103,
    "resets": 9104,
    "fails": 9105,
    "redirects": 9106,
    "redirects_later": 9107,
    "sizes_vary": 9109,
    "some_hang": 9110,
}


async def serve(name: str, port: int) -> None:
    trap = Server()

    async def connected(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                if not await getattr(trap, name)(writer):
                    break
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    await asyncio.start_server(connected, "127.0.0.1", port)


async def main() -> None:
    for name, port in TRAPS.items():
        await serve(name, port)
    await asyncio.sleep(float(sys.argv[1]))


asyncio.run(main())
