# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an application whether it is ready, over a Unix socket or through nginx."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import Callable
from urllib.parse import urlsplit

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.tls import (
    client_context,
)


@dataclass(frozen=True)
class Probe:
    """What to ask and which answer means ready.

    ``host`` and ``scheme`` are what a visitor would send through the proxy, so
    that an application which checks its host name or redirects to HTTPS
    answers the probe as it would answer them.
    """

    path: str
    status: int
    host: str
    scheme: str


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _LoopbackConnection(http.client.HTTPConnection):
    """To this host's own port, naming in TLS the host a visitor would name."""

    def __init__(self, port: int, probe: Probe, timeout_s: float) -> None:
        super().__init__("127.0.0.1", port, timeout=timeout_s)
        self._tls = probe.scheme == "https"
        self._name = probe.host

    def connect(self) -> None:
        super().connect()
        if self._tls:
            # It asks its own nginx by address, whatever the certificate says.
            context = client_context(check=False)
            self.sock = context.wrap_socket(self.sock, server_hostname=self._name)


def ask_socket(path: str, probe: Probe, timeout_s: float) -> str:
    """Send one probe to a Unix socket. Return '' if answered well, else why not.

    ``timeout_s`` (seconds) bounds each of connecting, sending and reading.
    """
    return _ask(lambda: _UnixConnection(path, timeout_s), probe)


def ask_nginx(port: int, probe: Probe, timeout_s: float) -> str:
    """Send one probe to nginx on this host, as ``ask_socket`` does."""
    return _ask(lambda: _LoopbackConnection(port, probe, timeout_s), probe)


def _ask(connect: Callable[[], http.client.HTTPConnection], probe: Probe) -> str:
    connection = connect()
    headers = {
        "Host": probe.host,
        "User-Agent": "keepalive.fastapi readiness probe",
        "X-Forwarded-Proto": probe.scheme,
        "Connection": "close",
    }
    try:
        connection.request("GET", probe.path, headers=headers)
        status = connection.getresponse().status
    except socket.timeout:
        return "no answer in time"
    except (OSError, ValueError, http.client.HTTPException) as error:
        # ValueError: a host name that no header or handshake can carry.
        return "no answer: {0!r}".format(error)
    finally:
        connection.close()
    if status != probe.status:
        return "status {0} instead of {1}".format(status, probe.status)
    return ""


def check_certificate(url: str, host: str, timeout_s: float) -> None:
    """Raise KeepaliveError unless an https URL's certificate is valid.

    ``host`` is the name that it must be for; empty for the URL's own. Any other
    URL passes.
    """
    parts = urlsplit(url)
    if parts.scheme != "https":
        return
    name = host or parts.hostname or ""
    try:
        address = (parts.hostname or "", parts.port or 443)
        with socket.create_connection(address, timeout_s) as plain:
            context = client_context(check=True)
            context.wrap_socket(plain, server_hostname=name).close()
    except (OSError, ValueError) as error:
        raise KeepaliveError(
            "url: the certificate of {0} cannot be checked for {1}: {2}. Correct it, "
            "or set validate_certs to false".format(url, name, error)
        ) from error
