# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One client of a loss probe that sends text messages over a WebSocket.

As much of RFC 6455 as that takes: the handshake (section 4), unfragmented text
frames out, any frames in (section 5), and the closing handshake (section 7). The
standard library has no WebSocket, and the probe must see whether a connection
ended with a close frame.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import ssl
import struct
import time
from typing import Iterator, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_http import (
    connect,
    judge,
    tls_context,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_lanes import (
    NUMBER,
    Lane,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    NEVER_SENT,
    UNANSWERED,
    Connections,
    Ended,
)

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL = 0x80
_MASKED = 0x80
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NORMAL, _NO_CODE = 1000, 1005
_LENGTH_16, _LENGTH_64 = 126, 127
_SHORT_HEAD_BYTES = 2
_CODE_BYTES = 2
_SWITCHING = 101

# What it is, and its payload.
Frame = Tuple[int, bytes]


def encode(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """Return one final frame as a client sends it, masked with four bytes."""
    length = len(payload)
    if length < _LENGTH_16:
        head = struct.pack("!BB", _FINAL | opcode, _MASKED | length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", _FINAL | opcode, _MASKED | _LENGTH_16, length)
    else:
        head = struct.pack("!BBQ", _FINAL | opcode, _MASKED | _LENGTH_64, length)
    masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    return head + mask + masked


def decode(data: bytes) -> Tuple[Optional[Frame], bytes]:
    """Return the first frame that a server sent, if it is whole, and the rest."""
    if len(data) < _SHORT_HEAD_BYTES:
        return None, data
    length, start = data[1] & ~_MASKED, _SHORT_HEAD_BYTES
    if length == _LENGTH_16:
        start = 4
    elif length == _LENGTH_64:
        start = 10
    if len(data) < start:
        return None, data
    if start > _SHORT_HEAD_BYTES:
        length = int.from_bytes(data[_SHORT_HEAD_BYTES:start], "big")
    if len(data) < start + length:
        return None, data
    return (data[0] & 0x0F, data[start : start + length]), data[start + length :]


def close_code(payload: bytes) -> int:
    """Return why the other side closed (RFC 6455 section 7.4)."""
    told = payload[:_CODE_BYTES]
    return int.from_bytes(told, "big") if len(told) == _CODE_BYTES else _NO_CODE


class _ClosedError(Exception):
    """The server has sent a close frame."""

    def __init__(self, code: int) -> None:
        super().__init__("closed by the server with code {0}".format(code))


class _RefusedError(Exception):
    """The server has answered the handshake with another status."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__("status {0}".format(status))
        self.status = status
        self.body = body


class _Connection:
    """An open WebSocket."""

    def __init__(self, lane: Lane, context: Optional[ssl.SSLContext]) -> None:
        self._socket = connect(lane, context)
        self._timeout_s = lane.timeout_s
        self._rest = b""
        self.opened_at = time.monotonic()
        self.messages = 0
        try:
            self._shake_hands(lane)
        except BaseException:
            self._socket.close()
            raise

    def _shake_hands(self, lane: Lane) -> None:
        key = base64.b64encode(os.urandom(16))
        headers = {
            "Host": lane.server_name,
            **lane.headers,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key.decode("ascii"),
            "Sec-WebSocket-Version": "13",
        }
        lines = ["GET {0} HTTP/1.1".format(lane.target(0))]
        lines += ["{0}: {1}".format(name, headers[name]) for name in headers]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _end, self._rest = self._rest.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status != _SWITCHING:
            raise _RefusedError(status, self._rest)
        # RFC 6455 wants SHA-1, to tell a WebSocket server from any other.
        digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
        expected = base64.b64encode(digest)
        if expected not in head:
            raise ConnectionError("the server accepted another WebSocket key")

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("the connection ended without a close frame")
        self._rest += data

    def send(self, opcode: int, payload: bytes) -> None:
        self._socket.sendall(encode(opcode, payload, os.urandom(4)))

    def message(self) -> bytes:
        """Wait for a message. Raises _ClosedError, or OSError at the end."""
        while True:
            for opcode, payload in self._frames():
                if opcode in (TEXT, BINARY):
                    return payload
            self._receive()

    def _frames(self) -> Iterator[Frame]:
        """Yield what has arrived, answering pings and a close on the way."""
        while True:
            frame, self._rest = decode(self._rest)
            if frame is None:
                return
            if frame[0] == PING:
                self.send(PONG, frame[1])
            elif frame[0] == CLOSE:
                with contextlib.suppress(OSError):
                    self.send(CLOSE, frame[1])
                raise _ClosedError(close_code(frame[1]))
            yield frame

    def look(self) -> None:
        """See what came while nothing was asked. Raises as ``message`` does."""
        self._socket.setblocking(False)
        try:
            while True:
                self._receive()
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        finally:
            self._socket.settimeout(self._timeout_s)
            for _unasked in self._frames():
                pass

    def close(self) -> None:
        self._socket.close()


class WebSocketClient:
    """A client that keeps one WebSocket open, and sends message after message."""

    def __init__(self, lane: Lane, connections: Connections) -> None:
        self._lane = lane
        self._connections = connections
        self._context = tls_context(lane)
        self._open: Optional[_Connection] = None

    def send(self, number: int) -> Ended:
        """Send one message and wait for its answer; return how it ended."""
        try:
            connection = self._ready()
        except _RefusedError as error:
            return Ended(*judge(self._lane, number, error.status, error.body))
        except OSError as error:
            return Ended(NEVER_SENT, repr(error))
        connection.messages += 1
        text = self._lane.body.replace(NUMBER, str(number))
        try:
            connection.send(TEXT, text.encode("utf-8"))
            kind, said = judge(self._lane, number, 200, connection.message())
        except (OSError, _ClosedError) as error:
            kind, said = UNANSWERED, repr(error)
            self._lose(error)
        age_s = time.monotonic() - connection.opened_at
        if not self._lane.keepalive:
            self.close()
        return Ended(kind, said, connection.messages, age_s)

    def _ready(self) -> _Connection:
        if self._open is not None:
            self._look(self._open)
        if self._open is None:
            self._open = _Connection(self._lane, self._context)
            self._connections.opened += 1
        return self._open

    def _look(self, connection: _Connection) -> None:
        limit_s = self._lane.connection_max_s
        if 0 < limit_s <= time.monotonic() - connection.opened_at:
            self.close()
            return
        try:
            connection.look()
        except (OSError, _ClosedError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        if isinstance(error, _ClosedError):
            self._connections.closed_by_server += 1
        else:
            self._connections.closed_abruptly += 1
        self._drop()

    def close(self) -> None:
        """Close the WebSocket as is proper, if there is one."""
        if self._open is None:
            return
        with contextlib.suppress(OSError):
            self._open.send(CLOSE, struct.pack("!H", _NORMAL))
        self._drop()

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None
