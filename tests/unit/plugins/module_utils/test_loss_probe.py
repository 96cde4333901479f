# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The loss probe against servers that misbehave, on real sockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from typing import Any, Callable, Dict, Iterator, List

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils import loss_websocket
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_lanes import (
    Lane,
    lanes_of,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_run import (
    Probe,
    run_probe,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    ENDS,
    Ended,
)

Handler = Callable[[socket.socket], None]


def request_of(connection: socket.socket) -> bytes:
    """Read one request with its body; empty at the end of the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return b""
        data += more
    length = re.search(rb"content-length: (\d+)", data, re.IGNORECASE)
    body = data.partition(b"\r\n\r\n")[2]
    while length and len(body) < int(length.group(1)):
        body += connection.recv(65536)
        data = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + body
    return data


def answer(connection: socket.socket, body: bytes, status: str = "200 OK") -> None:
    head = "HTTP/1.1 {0}\r\nContent-Length: {1}\r\n\r\n".format(status, len(body))
    connection.sendall(head.encode() + body)


@contextlib.contextmanager
def serving(handle: Handler) -> Iterator[str]:
    """Serve every connection with ``handle``; give host and port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(connection: socket.socket) -> None:
            with contextlib.suppress(OSError), connection:
                handle(connection)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _peer = listener.accept()
                    threading.Thread(
                        target=one, args=(connection,), daemon=True
                    ).start()

        threading.Thread(target=accept, daemon=True).start()
        yield "127.0.0.1:{0}".format(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def probed(address: str, requests: int = 5, **options: Any) -> Dict[str, Any]:
    """Send so many requests on one connection, 20 ms apart."""
    scheme = "ws" if options.get("kind") == "websocket" else "http"
    lane = Lane(
        **{
            "name": "lane",
            "url": "{0}://{1}/".format(scheme, address),
            "connections": 1,
            "rate_per_s": 50.0,
            "timeout_s": 1,
            **options,
        }
    )
    result = run_probe(Probe([lane], requests / 50))
    assert result["requests"] == requests
    return result


def ends(result: Dict[str, Any]) -> Dict[str, int]:
    """Return how requests ended, without what did not happen."""
    lane = result["lanes"]["lane"]
    assert sum(lane[kind] for kind in ENDS) == lane["requests"]
    assert lane["requests"] - lane["answered"] - lane["late"] == lane["lost"]
    return {kind: lane[kind] for kind in ENDS if lane[kind]}


def echo(connection: socket.socket) -> None:
    while True:
        data = request_of(connection)
        if not data:
            return
        answer(connection, data.partition(b"\r\n\r\n")[2] or b"empty")


def test_all_is_answered_on_one_connection() -> None:
    with serving(echo) as address:
        result = probed(
            address, method="POST", body="n {number}", expected_text="n {number}"
        )
    assert ends(result) == {"answered": 5}
    lane = result["lanes"]["lane"]
    assert lane["connections_opened"] == 1
    assert 0 < lane["latency_p50_ms"] < 1000
    assert result["timeline"]["lanes"]["lane"] == {"answered": [5]}
    assert result["failures"] == []


def test_each_has_a_connection_of_its_own() -> None:
    with serving(echo) as address:
        result = probed(address, keepalive=False)
    assert ends(result) == {"answered": 5}
    assert result["lanes"]["lane"]["connections_opened"] == 5


def test_a_connection_is_given_up_at_its_age() -> None:
    with serving(echo) as address:
        result = probed(address, requests=75, connection_max_s=1)
    assert ends(result) == {"answered": 75}
    assert result["lanes"]["lane"]["connections_opened"] == 2


def test_a_kept_connection_that_was_closed_meanwhile_costs_nothing() -> None:
    def once(connection: socket.socket) -> None:
        request_of(connection)
        answer(connection, b"bye")

    with serving(once) as address:
        result = probed(address)
    assert ends(result) == {"answered": 5}
    assert result["lanes"]["lane"]["connections_closed_by_server"] == 4


def test_a_kept_connection_that_ends_under_a_request_loses_it() -> None:
    def once_and_a_half(connection: socket.socket) -> None:
        request_of(connection)
        answer(connection, b"first")
        request_of(connection)

    with serving(once_and_a_half) as address:
        result = probed(address)
    assert ends(result) == {"answered": 3, "reset_on_reuse": 2}
    first = result["failures"][0]
    assert first["number"] == 1
    assert first["request_of_connection"] == 2
    assert "closed connection without response" in first["said"]


def test_a_new_connection_that_ends_is_no_reuse() -> None:
    def read(connection: socket.socket) -> None:
        request_of(connection)

    with serving(read) as address:
        result = probed(address)
    assert ends(result) == {"unanswered": 5}


def test_an_answer_cut_short() -> None:
    def cut(connection: socket.socket) -> None:
        while request_of(connection):
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.sendall(head + b"5\r\nhello\r\n")
            return

    with serving(cut) as address:
        result = probed(address, requests=3)
    assert ends(result) == {"unanswered": 3}
    assert "IncompleteRead" in result["failures"][0]["said"]


@pytest.mark.parametrize(
    "sent", [b"HTTP/1.1 200 OK\r\nContent-Ty", b"HTTP/1.1 200 OK\r\n\r\nhel"]
)
def test_an_answer_whose_end_cannot_be_seen(sent: bytes) -> None:
    def cut(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(sent)

    with serving(cut) as address:
        result = probed(address, requests=3)
    assert ends(result) == {"unanswered": 3}


def test_an_answer_that_never_ends_is_ended() -> None:
    def stream(connection: socket.socket) -> None:
        request_of(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            connection.sendall(b"1\r\nx\r\n")
            time.sleep(0.1)

    with serving(stream) as address:
        result = probed(address, requests=1)
    assert ends(result) == {"unanswered": 1}
    assert result["seconds"] < 10


def test_what_was_due_before_it_was_stopped_counts() -> None:
    def hang(connection: socket.socket) -> None:
        request_of(connection)
        time.sleep(5)

    with serving(hang) as address:
        lane = Lane(
            "lane",
            "http://{0}/".format(address),
            connections=1,
            rate_per_s=10,
            timeout_s=1,
        )
        begun = time.monotonic()
        probe = Probe([lane], 60, lambda: time.monotonic() > begun + 1.05)
        result = run_probe(probe)
    assert 10 <= result["requests"] == result["lost"] <= 13


def test_a_client_that_fails_loses_its_request() -> None:
    class Broken:
        def send(self, number: int) -> Ended:
            raise UnicodeError(number)

        def close(self) -> None:
            """Nothing is open."""

        abort = close

    lane = Lane("lane", "http://localhost/", rate_per_s=50)
    result = run_probe(Probe([lane], 0.1), lambda _lane, _connections: Broken())
    assert ends(result) == {"unanswered": 5}
    assert "UnicodeError" in result["failures"][0]["said"]


@pytest.mark.parametrize(("rate_per_s", "planned"), [(1.1, 34), (20, 600), (0.5, 15)])
def test_as_many_are_planned_as_are_due(rate_per_s: float, planned: int) -> None:
    lane = Lane("lane", "http://localhost/", rate_per_s=rate_per_s)
    assert Probe([lane], 30).planned_requests == planned
    assert sum(1 for n in range(1000) if n / rate_per_s < 30) == planned


def test_a_server_that_hangs_holds_nobody_else_up() -> None:
    def hang(connection: socket.socket) -> None:
        request_of(connection)
        time.sleep(3)

    with serving(hang) as address:
        result = probed(address, requests=2)
    assert ends(result) == {"unanswered": 2}
    assert result["lanes"]["lane"]["lag_max_ms"] > 900


def test_a_late_answer_is_not_lost() -> None:
    def slow(connection: socket.socket) -> None:
        while request_of(connection):
            time.sleep(0.2)
            answer(connection, b"at last")

    with serving(slow) as address:
        result = probed(address, requests=2, late_after_ms=100)
    assert ends(result) == {"late": 2}
    assert result["lost"] == 0


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        ("503 Service Unavailable", b"", "server_error"),
        ("307 Temporary Redirect", b"", "wrong_answer"),
        ("200 OK", b"of somebody else", "wrong_answer"),
    ],
)
def test_another_answer(status: str, body: bytes, kind: str) -> None:
    def other(connection: socket.socket) -> None:
        while request_of(connection):
            answer(connection, body, status)

    with serving(other) as address:
        result = probed(address, expected_text="mine")
    assert ends(result) == {kind: 5}


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:{0}".format(listener.getsockname()[1])
    result = probed(address)
    assert ends(result) == {"never_sent": 5}
    assert "ConnectionRefused" in result["failures"][0]["said"]


def test_it_can_be_stopped() -> None:
    begun = time.monotonic()
    with serving(echo) as address:
        lane = Lane("lane", "http://{0}/".format(address))
        result = run_probe(Probe([lane], 60, lambda: time.monotonic() > begun + 0.5))
    assert result["seconds"] < 30
    assert result["lost"] == 0


def open_websocket(connection: socket.socket) -> None:
    head = request_of(connection)
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
    assert key
    guid = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key.group(1) + guid).digest())
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )


def message_of(connection: socket.socket) -> bytes:
    """Read frames up to a text; return it unmasked. Raises OSError at the end."""
    while True:
        head = connection.recv(2, socket.MSG_WAITALL)
        if len(head) < 2:
            raise ConnectionError
        masked = connection.recv(4 + (head[1] & 0x7F), socket.MSG_WAITALL)
        if head[0] & 0x0F == loss_websocket.TEXT:
            return bytes(byte ^ masked[i % 4] for i, byte in enumerate(masked[4:]))


def frame(opcode: int, payload: bytes) -> bytes:
    return struct.pack("!BB", 0x80 | opcode, len(payload)) + payload


def test_a_websocket_is_kept() -> None:
    def talk(connection: socket.socket) -> None:
        open_websocket(connection)
        connection.sendall(frame(loss_websocket.PING, b"there?"))
        while True:
            connection.sendall(frame(loss_websocket.TEXT, message_of(connection)))

    with serving(talk) as address:
        result = probed(
            address, kind="websocket", body="n {number}", expected_text="n {number}"
        )
    # The answer to the ping is no text, and ends nothing.
    assert ends(result) == {"answered": 5}
    assert result["lanes"]["lane"]["connections_opened"] == 1


def talk_once(connection: socket.socket, last: bytes) -> None:
    open_websocket(connection)
    connection.sendall(frame(loss_websocket.TEXT, message_of(connection)))
    connection.sendall(last)


def test_a_websocket_closed_as_is_proper_costs_nothing() -> None:
    last = frame(loss_websocket.CLOSE, struct.pack("!H", 1012))
    with serving(lambda connection: talk_once(connection, last)) as address:
        result = probed(address, kind="websocket", body="hello")
    assert ends(result) == {"answered": 5}
    lane = result["lanes"]["lane"]
    assert lane["connections_closed_by_server"] == 4
    assert lane["connections_closed_abruptly"] == 0


def test_a_websocket_that_just_ends_is_told_apart() -> None:
    with serving(lambda connection: talk_once(connection, b"")) as address:
        result = probed(address, kind="websocket", body="hello")
    assert ends(result) == {"answered": 5}
    assert result["lanes"]["lane"]["connections_closed_abruptly"] == 4


def test_a_message_in_pieces_is_one() -> None:
    def pieces(connection: socket.socket) -> None:
        open_websocket(connection)
        while True:
            text = message_of(connection)
            connection.sendall(bytes([loss_websocket.TEXT, 2]) + text[:2])
            connection.sendall(frame(loss_websocket.PING, b""))
            connection.sendall(frame(loss_websocket.MORE, text[2:]))

    with serving(pieces) as address:
        result = probed(
            address, kind="websocket", body="n {number}", expected_text="n {number}"
        )
    assert ends(result) == {"answered": 5}


def test_pings_are_no_answer() -> None:
    def ping(connection: socket.socket) -> None:
        open_websocket(connection)
        while True:
            connection.sendall(frame(loss_websocket.PING, b""))
            time.sleep(0.1)

    with serving(ping) as address:
        result = probed(address, requests=1, kind="websocket", body="hello")
    assert ends(result) == {"unanswered": 1}


@pytest.mark.parametrize(
    ("status", "kind"),
    [("502 Bad Gateway", "server_error"), ("200 OK", "wrong_answer")],
)
def test_a_handshake_that_is_refused(status: str, kind: str) -> None:
    def refuse(connection: socket.socket) -> None:
        request_of(connection)
        answer(connection, b"no", status)

    with serving(refuse) as address:
        result = probed(address, kind="websocket", body="hello")
    assert ends(result) == {kind: 5}


@pytest.mark.parametrize("length", [0, 125, 126, 65535, 65536])
def test_a_frame_of_any_length(length: int) -> None:
    payload = bytes(range(256)) * (length // 256) + bytes(length % 256)
    sent = loss_websocket.encode(loss_websocket.TEXT, payload, b"\0\0\0\0")
    start = len(sent) - length - 4
    # What a server sends has no mask.
    plain = bytes([sent[0], sent[1] & 0x7F]) + sent[2:start] + sent[start + 4 :]
    got, rest = loss_websocket.decode(plain + b"more")
    assert got == (loss_websocket.TEXT, True, payload)
    assert rest == b"more"
    assert loss_websocket.decode(plain[:-1])[0] is None or length == 0


LANE: Dict[str, Any] = {"name": "a", "url": "http://localhost/", "headers": {}}


@pytest.mark.parametrize(
    ("lanes", "said"),
    [
        ([], "at least one"),
        ([LANE, LANE], "no two of the same name"),
        ([{**LANE, "url": "localhost/"}], "begins with http:// or https://"),
        ([{**LANE, "kind": "websocket"}], "begins with ws:// or wss://"),
        ([{**LANE, "url": "http://h:99999/"}], "url is"),
        ([{**LANE, "url": "http://[::1/"}], "url is"),
        ([{**LANE, "url": "http://h/\u00e4"}], "plain characters"),
        ([{**LANE, "headers": {"X": "a\nb"}}], "not one line"),
        ([{**LANE, "connection_max_s": -1}], "connection_max_s is -1"),
        ([{**LANE, "rate_per_s": 0}], "rate_per_s is 0"),
        ([{**LANE, "connections": 0}], "connections is 0"),
        ([{**LANE, "timeout_s": 0}], "at least 1"),
    ],
)
def test_lanes_that_cannot_be_sent(lanes: List[Dict[str, Any]], said: str) -> None:
    with pytest.raises(KeepaliveError, match=re.escape(said)):
        lanes_of(lanes)


def test_the_name_in_tls_is_the_visitors() -> None:
    url = "https://127.0.0.1:8443/"
    assert Lane("a", url).server_name == "127.0.0.1"
    lane = Lane("a", url, headers={"host": "shop.example.com:8443"})
    assert lane.server_name == "shop.example.com"
    assert lane.address == ("127.0.0.1", 8443)
