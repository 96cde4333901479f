"""A Uvicorn worker that appends one byte to a file for each connection accepted."""

import asyncio
import os

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn_worker import UvicornWorker

ACCEPTED = "/var/lib/counted/accepted"


class CountingProtocol(HttpToolsProtocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        descriptor = os.open(ACCEPTED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(descriptor, b".")
        os.close(descriptor)
        super().connection_made(transport)


class CountingWorker(UvicornWorker):
    CONFIG_KWARGS = {"loop": "uvloop", "http": CountingProtocol}  # noqa: RUF012
