"""Hold a WebSocket and a stream through nginx until they are closed; finish another.

Runs on the host under test with nothing but its Python. One JSON object of options as
the argument: host. Prints how long each was held, and how each ended.
"""

import http.client
import json
import sys
import threading
import time
from typing import Any

LIMIT_S = 120


def connect(host: str, path: str, headers: dict[str, str]) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=LIMIT_S)
    connection.request("GET", path, headers={"Host": host, **headers})
    return connection.getresponse()


def hold_websocket(host: str, found: dict[str, Any]) -> None:
    """Wait for a close frame (RFC 6455, 5.5.1) or an end without one."""
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=LIMIT_S)
    connection.request(
        "GET",
        "/ws",
        headers={
            "Host": host,
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Version": "13",
        },
    )
    stream = connection.sock.makefile("rb")
    assert b" 101 " in stream.readline()
    while stream.readline().strip():
        pass
    begun, code = time.monotonic(), 0
    try:
        while head := stream.read(2):
            payload = stream.read(head[1] & 0x7F)
            if head[0] & 0x0F == 8:
                code = int.from_bytes(payload[:2], "big")
                break
    except OSError as error:
        found["websocket_said"] = repr(error)
    found["websocket_close_code"] = code
    found["websocket_held_s"] = round(time.monotonic() - begun, 1)


def hold_events(host: str, found: dict[str, Any]) -> None:
    response = connect(host, "/events?interval=0.2", {"Accept": "text/event-stream"})
    begun = time.monotonic()
    try:
        while response.readline():
            pass
        found["events_end"] = "ended"
    except (OSError, http.client.HTTPException) as error:
        found["events_end"] = repr(error)
    found["events_held_s"] = round(time.monotonic() - begun, 1)


def finish_events(host: str, found: dict[str, Any]) -> None:
    """Ask for a stream that ends by itself, within any budget for it."""
    response = connect(
        host, "/events?interval=1&count=10", {"Accept": "text/event-stream"}
    )
    found["long_request_events"] = response.read().count(b"data: ")


def main() -> None:
    host = json.loads(sys.argv[1])["host"]
    found: dict[str, Any] = {}
    threads = [
        threading.Thread(target=hold, args=(host, found))
        for hold in (hold_websocket, hold_events, finish_events)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(found))


main()
