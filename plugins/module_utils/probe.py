# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask an application over its own Unix socket whether it is ready."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass


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


def ask(socket_path: str, probe: Probe, timeout_s: float) -> str:
    """Send one probe. Return '' when it is answered as expected, else why not.

    ``timeout_s`` (seconds) bounds each of connecting, sending and reading.
    """
    connection = _UnixConnection(socket_path, timeout_s)
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
        return "no answer within {0:.1f} s".format(timeout_s)
    except (OSError, http.client.HTTPException) as error:
        return "no answer: {0!r}".format(error)
    finally:
        connection.close()
    if status != probe.status:
        return "status {0} instead of {1}".format(status, probe.status)
    return ""
