# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a URL as the load will, a few times: its status, and how long an answer is.

An answer whose length never changes tells by the bytes that wrk has read whether
all answers were that one, which costs nothing.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
from dataclasses import dataclass
from typing import List, Mapping, Optional
from urllib.parse import urlsplit

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.reuse import (
    CONNECTION_HEADER,
    NginxCount,
    parse_status,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.tls import (
    client_context,
)

_STATUS_TIMEOUT_S = 10.0
# Lengths that follow from a clock or a counter would rarely agree three times.
ASKED = 3


@dataclass(frozen=True)
class Request:
    """What every request of the load is."""

    url: str
    method: str
    headers: Mapping[str, str]
    body: str
    timeout_s: float


@dataclass(frozen=True)
class Answer:
    """``wire_bytes`` is head and body as sent; None for a body sent in chunks."""

    status: int
    wire_bytes: Optional[int]
    body: bytes
    connection: Optional[str]


def ask(request: Request) -> Answer:
    """Send one request on a connection of its own, without checking certificates.

    Raises KeepaliveError if no whole answer comes within ``timeout_s`` of silence.
    """
    try:
        with contextlib.closing(_connection(request)) as connection:
            return _exchange(connection, request)
    except socket.timeout:
        raise KeepaliveError(
            "{0} did not answer one request within {1} s".format(
                request.url, request.timeout_s
            )
        ) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise KeepaliveError(
            "{0} did not answer one request: {1!r}".format(request.url, error)
        ) from error


def _exchange(connection: http.client.HTTPConnection, request: Request) -> Answer:
    target = urlsplit(request.url)
    path = target.path or "/"
    connection.request(
        request.method,
        "{0}?{1}".format(path, target.query) if target.query else path,
        request.body.encode("utf-8") or None,
        dict(request.headers),
    )
    response = connection.getresponse()
    body = response.read()
    return Answer(
        response.status,
        _wire_bytes(response, len(body)),
        body,
        response.getheader(CONNECTION_HEADER),
    )


def ask_status(url: str) -> NginxCount:
    """Return the counters that nginx's status page shows. Raises KeepaliveError."""
    answer = ask(Request(url, "GET", {}, "", _STATUS_TIMEOUT_S))
    return parse_status(answer.body.decode("latin-1"), answer.connection)


def _connection(request: Request) -> http.client.HTTPConnection:
    target = urlsplit(request.url)
    host = target.hostname or ""
    if target.scheme != "https":
        return http.client.HTTPConnection(host, target.port, request.timeout_s)
    # As wrk does; check_certificate is for who wants more.
    context = client_context(check=False)
    return http.client.HTTPSConnection(
        host, target.port, timeout=request.timeout_s, context=context
    )


def _wire_bytes(response: http.client.HTTPResponse, body_bytes: int) -> Optional[int]:
    if response.getheader("Transfer-Encoding"):
        return None
    status_line = "HTTP/1.1 {0} {1}\r\n".format(response.status, response.reason)
    head = "".join("{0}: {1}\r\n".format(*each) for each in response.getheaders())
    return len((status_line + head + "\r\n").encode("latin-1")) + body_bytes


def common_length(answers: List[Answer]) -> Optional[int]:
    """Return the length that all answers have; None if they differ."""
    lengths = {answer.wire_bytes for answer in answers}
    return lengths.pop() if len(lengths) == 1 else None


def ask_expecting(request: Request, expected_status: int) -> Optional[int]:
    """Ask ASKED times; return the answers' common length, if they have one.

    Raises KeepaliveError for another status than the expected one.
    """
    answers = [ask(request) for _time in range(ASKED)]
    for answer in answers:
        if answer.status != expected_status:
            raise KeepaliveError(
                "{0} answers with status {1} instead of {2}; no load was sent".format(
                    request.url, answer.status, expected_status
                )
            )
    return common_length(answers)
