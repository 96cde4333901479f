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
import re
import socket
import ssl
import struct
import time
from typing import Iterator, Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_http import (
    SERVER_ERRORS,
    connect,
    judge_text,
    shut_down,
    tls_context,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_lanes import (
    NUMBER,
    Lane,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    NEVER_SENT,
    SERVER_ERROR,
    UNANSWERED,
    WRONG_ANSWER,
    Connections,
    Ended,
)

MORE, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_FINAL = 0x80
_MASKED = 0x80
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NORMAL, _NO_CODE = 1000, 1005
_LENGTH_16, _LENGTH_64 = 126, 127
_SHORT_HEAD_BYTES = 2
_CODE_BYTES = 2
_SWITCHING = 101

# What it is, whether it ends a message, and its payload.
Frame = Tuple[int, bool, bytes]


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
    end = start + length
    return (data[0] & 0x0F, bool(data[0] & _FINAL), data[start:end]), data[end:]


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

    def __init__(self, status: int) -> None:
        super().__init__("status {0} instead of {1}".format(status, _SWITCHING))
        self.status = status


class _Connection:
    """An open WebSocket."""

    def __init__(
        self, lane: Lane, number: int, context: Optional[ssl.SSLContext]
    ) -> None:
        self._socket = connect(lane, context)
        self._timeout_s = lane.timeout_s
        self._rest = b""
        self.opened_at = time.monotonic()
        self.messages = 0
        try:
            self._shake_hands(lane, number)
        except BaseException:
            self._socket.close()
            raise

    def _shake_hands(self, lane: Lane, number: int) -> None:
        key = base64.b64encode(os.urandom(16))
        headers = {
            **({} if lane.host_header else {"Host": lane.server_name}),
            **lane.headers,
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": key.decode("ascii"),
            "Sec-WebSocket-Version": "13",
        }
        lines = ["GET {0} HTTP/1.1".format(lane.target(number))]
        lines += ["{0}: {1}".format(name, headers[name]) for name in headers]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _end, self._rest = self._rest.partition(b"\r\n\r\n")
        told = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        if not told:
            raise ConnectionError("no HTTP answer: {0!r}".format(head[:80]))
        status = int(told.group(1))
        if status != _SWITCHING:
            raise _RefusedError(status)
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
        """Wait for a whole message. Raises _ClosedError, or OSError at the end."""
        until, parts = time.monotonic() + self._timeout_s, b""
        while True:
            for opcode, final, payload in self._frames():
                if opcode in (TEXT, BINARY, MORE):
                    parts += payload
                    if final:
                        return parts
            # Pings come for as long as the connection is up, answers may not.
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise socket.timeout("no message in time")
            self._socket.settimeout(left_s)
            self._receive()

    def _frames(self) -> Iterator[Frame]:
        """Yield what has arrived, answering pings and a close on the way."""
        while True:
            frame, self._rest = decode(self._rest)
            if frame is None:
                return
            if frame[0] == PING:
                self.send(PONG, frame[2])
            elif frame[0] == CLOSE:
                with contextlib.suppress(OSError):
                    self.send(CLOSE, frame[2])
                raise _ClosedError(close_code(frame[2]))
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

    def shut_down(self) -> None:
        shut_down(self._socket)


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
            connection = self._ready(number)
        except _RefusedError as error:
            kind = SERVER_ERROR if error.status in SERVER_ERRORS else WRONG_ANSWER
            return Ended(kind, "the handshake: {0}".format(error))
        except OSError as error:
            return Ended(NEVER_SENT, repr(error))
        connection.messages += 1
        text = self._lane.body.replace(NUMBER, str(number))
        try:
            connection.send(TEXT, text.encode("utf-8"))
            kind, said = judge_text(self._lane, number, connection.message())
        except (OSError, _ClosedError) as error:
            kind, said = UNANSWERED, repr(error)
            self._lose(error)
        age_s = time.monotonic() - connection.opened_at
        if not self._lane.keepalive:
            self.close()
        return Ended(kind, said, connection.messages, age_s)

    def _ready(self, number: int) -> _Connection:
        if self._open is not None:
            self._look(self._open)
        if self._open is None:
            self._open = _Connection(self._lane, number, self._context)
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

    def abort(self) -> None:
        """End the connection under the message that waits on it."""
        if self._open is not None:
            self._open.shut_down()

    def _drop(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None
