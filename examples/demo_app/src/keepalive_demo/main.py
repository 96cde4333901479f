# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The application: ``keepalive_demo.main:app`` for any ASGI server.

The ``/sync`` and ``/async`` twins differ only in ``def`` and ``async def``: FastAPI
runs the first in its thread pool and the second on the event loop.
"""

import asyncio
import contextlib
import json
import os
import time
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.sse import EventSourceResponse, format_sse_event
from pydantic import BaseModel

from keepalive_demo import __version__

BIG_RESPONSE_BYTES = 1_000_000


class Item(BaseModel):
    name: str
    description: str | None = None
    price: float
    tax: float | None = None


def build_records(size_bytes: int) -> list[dict[str, Any]]:
    """Make records; one more would take their compact JSON past ``size_bytes``."""
    records: list[dict[str, Any]] = []
    used_bytes = len("[]")
    while True:
        number = len(records)
        record = {
            "id": number,
            "name": f"item {number}",
            "price": number + 0.25,
            "in_stock": number % 3 == 0,
            "tags": ["demo", "kept-alive", None],
            "maker": {"name": "Example Works", "city": "Springfield"},
        }
        used_bytes += len(json.dumps(record, separators=(",", ":"))) + bool(records)
        if used_bytes > size_bytes:
            return records
        records.append(record)


# Objects and not text: FastAPI serialises them anew for every response.
BIG_RESPONSE = build_records(BIG_RESPONSE_BYTES)

app = FastAPI(title="keepalive-demo", version=__version__)


@app.get("/")
async def index() -> dict[str, Any]:
    return {
        "service": "keepalive-demo",
        "version": os.environ.get("APP_VERSION") or __version__,
        "links": {"docs": "/docs", "health": "/health", "whoami": "/whoami"},
    }


@app.get("/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/whoami")
async def whoami(request: Request) -> dict[str, Any]:
    """Tell what this process knows of the client, proxy headers applied."""
    seen = {
        name: ", ".join(request.headers.getlist(name))
        for name in request.headers
        if name.startswith("x-forwarded-") or name in {"forwarded", "x-real-ip"}
    }
    return {
        # Over a Unix socket there is no client address unless a proxy names it.
        "client_host": request.client.host if request.client else None,
        "scheme": request.url.scheme,
        "url": str(request.url),
        "http_version": request.scope["http_version"],
        "forwarded": seen,
        "pid": os.getpid(),
    }


# response_model=None is what an unannotated function gets: no model for the answer,
# so that FastAPI's general encoder does the work.
@app.post("/sync/items/", response_model=None)
def create_item_sync(item: Item) -> Item:
    return item


@app.post("/async/items/", response_model=None)
async def create_item_async(item: Item) -> Item:
    return item


@app.post("/async/delayed_items/", response_model=None)
async def create_item_delayed(
    item: Item, delay_us: Annotated[int, Query(ge=0, le=1_000_000)] = 0
) -> Item:
    """Use the processor for so much longer, to see whether a benchmark notices."""
    until_ns = time.thread_time_ns() + 1000 * delay_us
    while time.thread_time_ns() < until_ns:
        pass
    return item


@app.post("/sync/big_json_response/", response_model=None)
def big_json_response_sync(_item: Item) -> list[dict[str, Any]]:
    return BIG_RESPONSE


@app.post("/async/big_json_response/", response_model=None)
async def big_json_response_async(_item: Item) -> list[dict[str, Any]]:
    return BIG_RESPONSE


async def clock_events(interval_s: float, count: int | None) -> AsyncIterator[bytes]:
    """Yield an event now and each ``interval_s``; without ``count``, for ever."""
    number = 0
    while True:
        number += 1
        data = {"time": datetime.now(timezone.utc).isoformat(), "pid": os.getpid()}
        yield format_sse_event(data_str=json.dumps(data), id=str(number))
        if number == count:
            return
        await asyncio.sleep(interval_s)


@app.get("/events")
async def events(
    interval_s: Annotated[float, Query(alias="interval", ge=0.01, le=3600)] = 1.0,
    count: Annotated[int | None, Query(ge=1)] = None,
) -> EventSourceResponse:
    # Not a yielding endpoint: FastAPI would add X-Accel-Buffering to its answer,
    # and whether a proxy buffers is left to the proxy here.
    return EventSourceResponse(
        clock_events(interval_s, count), headers={"Cache-Control": "no-cache"}
    )


@app.websocket("/ws")
async def echo(websocket: WebSocket) -> None:
    """Send each text or binary message back as it came."""
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while (message := await websocket.receive())["type"] == "websocket.receive":
            await websocket.send({**message, "type": "websocket.send"})
