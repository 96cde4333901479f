# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asked are real servers on loopback, each of which answers one thing."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Iterator

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.answers import (
    Request,
    ask,
    ask_expecting,
    ask_status,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Connection: 7\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
MOVED = b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /x/\r\nContent-Length: 0\r\n\r\n"
COUNTERS = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-Connection: 7\r\n\r\n 3 3 3 \n\n"


@contextlib.contextmanager
def serving(*answers: bytes) -> Iterator[str]:
    """Answer one connection after the other; yield the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            for answer in answers:
                peer, _address = listener.accept()
                with peer:
                    peer.recv(65536)
                    peer.sendall(answer)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        yield "http://127.0.0.1:{0}/a?b=c".format(listener.getsockname()[1])


def request(url: str) -> Request:
    return Request(url, "POST", {"Host": "x.test"}, "{}", 1)


def test_an_answer_and_its_length_on_the_wire() -> None:
    with serving(OK) as url:
        got = ask(request(url))
    assert (got.status, got.wire_bytes, got.body) == (200, len(OK), b"ok")


def test_chunks_have_no_length_of_their_own() -> None:
    with serving(CHUNKED) as url:
        assert ask(request(url)).wire_bytes is None


def test_answers_that_are_alike_and_answers_that_are_not() -> None:
    with serving(OK, OK, OK) as url:
        assert ask_expecting(request(url), 200) == len(OK)
    longer = OK.replace(b"X-Connection: 7", b"X-Connection: 17")
    with serving(OK, longer, OK) as url:
        assert ask_expecting(request(url), 200) is None


def test_another_status_is_refused_before_any_load() -> None:
    refused = pytest.raises(KeepaliveError, match="status 307 instead of 200; no load")
    with refused, serving(OK, MOVED, OK) as url:
        ask_expecting(request(url), 200)


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ((), "did not answer one request within 1 s"),
        ((b"",), "did not answer one request: "),
    ],
)
def test_a_server_without_an_answer(answers: tuple[bytes, ...], said: str) -> None:
    with serving(*answers) as url, pytest.raises(KeepaliveError, match=said):
        ask(request(url))


def test_counters() -> None:
    with serving(COUNTERS) as url:
        assert ask_status(url).opened == 4
