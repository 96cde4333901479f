# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import datetime as dt
import socket
import socketserver
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from ansible_collections.keepalive.fastapi.plugins.module_utils.probe import (
    Probe,
    ask_nginx,
    ask_socket,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROBE = Probe(path="/health", status=200, host="shop.example.com", scheme="https")
SOON_S = 0.2


class Application(BaseHTTPRequestHandler):
    """Answers /STATUS with that status, /health with 200, /hang with nothing."""

    protocol_version = "HTTP/1.1"
    asked: List[Tuple[str, Dict[str, str]]]
    release: threading.Event

    def do_GET(self) -> None:
        self.asked.append((self.path, dict(self.headers)))
        if self.path == "/hang":
            self.release.wait(10)
            return
        if self.path == "/garbage":
            self.wfile.write(b"\x16\x03\x01 not HTTP\r\n")
            return
        self.send_response(200 if self.path == "/health" else int(self.path[1:]))
        self.send_header("Content-Length", "0")
        self.send_header("Location", "/health")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class LoopbackServer(socketserver.ThreadingMixIn, HTTPServer):
    daemon_threads = True


@pytest.fixture
def application() -> Iterator[type[Application]]:
    release = threading.Event()
    yield type("Asked", (Application,), {"asked": [], "release": release})
    release.set()


@contextmanager
def serve(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def path(application: type[Application]) -> Iterator[str]:
    # pytest's own folders may exceed what a socket's address holds.
    with TemporaryDirectory() as folder:
        path = folder + "/blue.sock"
        with serve(UnixServer(path, application)):
            yield path


@pytest.fixture
def port(application: type[Application]) -> Iterator[int]:
    server = LoopbackServer(("127.0.0.1", 0), application)
    with serve(server):
        yield server.server_port


@pytest.fixture
def tls(
    application: type[Application], tmp_path: Path
) -> Iterator[Tuple[int, List[str]]]:
    """Serve TLS with a certificate for nobody; keep the names it is asked for."""
    names: List[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    server = LoopbackServer(("127.0.0.1", 0), application)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serve(server):
        yield server.server_port, names


def certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody.invalid")])
    now = dt.datetime.now(dt.timezone.utc)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(now)
        .not_valid_after(now + dt.timedelta(hours=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "nobody.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


def asking(path: str, status: int = 200) -> Probe:
    return Probe(path, status, PROBE.host, PROBE.scheme)


def test_the_expected_answer(path: str, application: type[Application]) -> None:
    assert ask_socket(path, PROBE, 5) == ""
    asked_path, headers = application.asked[0]
    assert asked_path == "/health"
    assert headers["Host"] == "shop.example.com"
    assert headers["X-Forwarded-Proto"] == "https"
    assert headers["Connection"] == "close"


def test_another_status_may_be_expected(path: str) -> None:
    assert ask_socket(path, asking("/204", 204), 5) == ""


@pytest.mark.parametrize("status", [404, 500, 503, 307])
def test_another_status_is_named_and_no_redirect_followed(
    path: str, status: int
) -> None:
    reason = ask_socket(path, asking("/{0}".format(status)), 5)
    assert reason == "status {0} instead of 200".format(status)


def test_no_answer_in_time(path: str) -> None:
    assert ask_socket(path, asking("/hang"), SOON_S) == "no answer in time"


def test_an_answer_that_is_not_http(path: str) -> None:
    assert "BadStatusLine" in ask_socket(path, asking("/garbage"), 5)


def test_nobody_there(tmp_path: Path) -> None:
    missing = str(tmp_path / "green.sock")
    assert "FileNotFoundError" in ask_socket(missing, PROBE, 5)


def test_a_socket_that_nobody_accepts_from() -> None:
    with TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(folder + "/blue.sock")
        reason = ask_socket(folder + "/blue.sock", PROBE, 5)
        assert "ConnectionRefusedError" in reason
        listener.listen()
        assert "no answer in time" in ask_socket(folder + "/blue.sock", PROBE, SOON_S)


@pytest.mark.parametrize("host", ["a\r\nX-Injected: 1", "\N{SNOWMAN}.example.com"])
def test_a_host_that_no_header_can_carry(
    path: str, host: str, application: type[Application]
) -> None:
    assert "no answer" in ask_socket(path, Probe("/health", 200, host, "http"), 5)
    assert application.asked == []


def test_nginx_is_asked_by_address(port: int, application: type[Application]) -> None:
    probe = Probe("/health", 200, "shop.example.com", "http")
    assert ask_nginx(port, probe, 5) == ""
    assert application.asked[0][1]["Host"] == "shop.example.com"


def test_nginx_is_asked_over_tls_by_name(
    tls: Tuple[int, List[str]], application: type[Application]
) -> None:
    port, names = tls
    assert ask_nginx(port, PROBE, 5) == ""
    assert names == ["shop.example.com"]
    assert application.asked[0][1]["Host"] == "shop.example.com"


def test_plain_http_on_a_port_for_tls_is_no_answer(port: int) -> None:
    assert "no answer" in ask_nginx(port, PROBE, 5)


def test_a_port_that_nobody_listens_on() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        reason = ask_nginx(taken.getsockname()[1], PROBE, 5)
    assert "ConnectionRefusedError" in reason
