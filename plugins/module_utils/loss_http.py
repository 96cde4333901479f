# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One client of a loss probe that sends HTTP requests, and sees how each ends.

http.client tells what is needed: it never sends a request twice, and a connection
that ends without an answer is another exception than one that is refused.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from typing import Optional, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_lanes import (
    NUMBER,
    Lane,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.loss_tally import (
    ANSWERED,
    NEVER_SENT,
    RESET_ON_REUSE,
    SERVER_ERROR,
    UNANSWERED,
    WRONG_ANSWER,
    Connections,
    Ended,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.tls import (
    client_context,
)

SERVER_ERRORS = range(500, 600)
_SHOWN_BYTES = 200


def tls_context(lane: Lane) -> Optional[ssl.SSLContext]:
    """Return what the lane's connections are wrapped with; None without TLS."""
    return client_context(check=lane.validate_certs) if lane.tls else None


def connect(lane: Lane, context: Optional[ssl.SSLContext]) -> socket.socket:
    """Return a connection of the lane. Raises OSError."""
    plain = socket.create_connection(lane.address, lane.timeout_s)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return plain
        return context.wrap_socket(
            plain,
            server_hostname=lane.server_name,
            # An answer that was cut short is not one that has ended.
            suppress_ragged_eofs=False,
        )
    except BaseException:
        plain.close()
        raise


def has_ended(connection: socket.socket, timeout_s: float) -> bool:
    """Tell whether the server has closed a connection that waits for a request.

    A byte that came unasked, as of a 408, is taken for the same.
    """
    connection.setblocking(False)
    try:
        connection.recv(1)
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout_s)
    return True


class _Connection(http.client.HTTPConnection):
    """http.client's, on a socket that is made as the lane says."""

    def __init__(self, lane: Lane, context: Optional[ssl.SSLContext]) -> None:
        super().__init__(*lane.address, timeout=lane.timeout_s)
        self._lane = lane
        self._context = context
        # Or it would open another one by itself.
        self.auto_open = 0
        self.opened_at = 0.0
        self.requests = 0

    def connect(self) -> None:
        self.sock = connect(self._lane, self._context)
        self.opened_at = time.monotonic()
        self.requests = 0

    @property
    def age_s(self) -> float:
        return time.monotonic() - self.opened_at if self.requests else 0.0


class HttpClient:
    """A client that has one connection at a time, as a browser or a library has."""

    def __init__(self, lane: Lane, connections: Connections) -> None:
        self._lane = lane
        self._connections = connections
        self._connection = _Connection(lane, tls_context(lane))

    def send(self, number: int) -> Ended:
        """Send one request; return how it ended."""
        try:
            self._make_ready()
        except OSError as error:
            return Ended(NEVER_SENT, repr(error))
        connection = self._connection
        connection.requests += 1
        try:
            status, body, closes = self._exchange(number)
        except (OSError, http.client.HTTPException) as error:
            return self._broken(error)
        ended = Ended(
            *judge(self._lane, number, status, body),
            connection.requests,
            connection.age_s,
        )
        if closes or not self._lane.keepalive:
            self.close()
        return ended

    def close(self) -> None:
        """Close the connection, if there is one."""
        self._connection.close()

    def abort(self) -> None:
        """End the connection under the request that waits on it."""
        shut_down(self._connection.sock)

    def _make_ready(self) -> None:
        lane, connection = self._lane, self._connection
        if connection.sock is not None:
            if 0 < lane.connection_max_s <= connection.age_s:
                self.close()
            elif has_ended(connection.sock, lane.timeout_s):
                self._connections.closed_by_server += 1
                self.close()
        if connection.sock is None:
            connection.connect()
            self._connections.opened += 1

    def _exchange(self, number: int) -> Tuple[int, bytes, bool]:
        lane = self._lane
        headers = dict(lane.headers)
        if not lane.keepalive:
            headers["Connection"] = "close"
        body = lane.body.replace(NUMBER, str(number)).encode("utf-8")
        self._connection.request(
            lane.method, lane.target(number), body or None, headers
        )
        response = self._connection.getresponse()
        if not _has_an_end(lane, response):
            raise http.client.HTTPException(
                "an answer whose end cannot be told from a connection that is cut"
            )
        try:
            return response.status, response.read(), response.will_close
        except ConnectionError as error:
            # Begun, so the connection was no idle one that had ended.
            raise http.client.HTTPException(
                "the answer ended early: {0!r}".format(error)
            ) from error

    def _broken(self, error: Exception) -> Ended:
        """Tell a connection that ended under a request from one that was no more."""
        connection = self._connection
        gone = isinstance(error, (ConnectionError, http.client.RemoteDisconnected))
        kind = RESET_ON_REUSE if gone and connection.requests > 1 else UNANSWERED
        ended = Ended(kind, repr(error), connection.requests, connection.age_s)
        self._connections.closed_abruptly += 1
        self.close()
        return ended


def _has_an_end(lane: Lane, response: http.client.HTTPResponse) -> bool:
    """Tell whether an answer says how long it is (RFC 9112 section 6.3).

    http.client takes a connection that ends in the head for the end of the head.
    """
    return response.chunked or response.length is not None or lane.method == "HEAD"


def shut_down(connection: Optional[socket.socket]) -> None:
    """End a connection that another thread waits on."""
    if connection is not None:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)


def judge(lane: Lane, number: int, status: int, body: bytes) -> Tuple[str, str]:
    """Return how a request with this answer has ended, and why it is not well."""
    shown = body[:_SHOWN_BYTES].decode("utf-8", "replace")
    if status in SERVER_ERRORS and status != lane.expected_status:
        return SERVER_ERROR, "status {0}: {1}".format(status, shown)
    if status != lane.expected_status:
        return WRONG_ANSWER, "status {0} instead of {1}: {2}".format(
            status, lane.expected_status, shown
        )
    return judge_text(lane, number, body)


def judge_text(lane: Lane, number: int, body: bytes) -> Tuple[str, str]:
    """Return how a request with this text has ended, and why it is not well."""
    text = lane.expected_text.replace(NUMBER, str(number))
    if text.encode("utf-8") in body:
        return ANSWERED, ""
    shown = body[:_SHOWN_BYTES].decode("utf-8", "replace")
    return WRONG_ANSWER, "without {0!r}: {1}".format(text, shown)
