# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a loss probe sends: lanes of requests that are due at a fixed rate."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple
from urllib.parse import urlsplit

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

NUMBER = "{number}"
_SCHEMES = {"http": ("http", "https"), "websocket": ("ws", "wss")}
_LINE = re.compile(r"[\t\x20-\x7e]*\Z")
_TLS = ("https", "wss")


@dataclass(frozen=True)
class Lane:
    """One kind of request, sent by ``connections`` clients that take turns.

    ``{number}`` in the URL, the body and the expected text is the request's number,
    which tells an answer to another request from the right one.
    """

    name: str
    url: str
    kind: str = "http"
    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    keepalive: bool = True
    connections: int = 4
    rate_per_s: float = 20.0
    expected_status: int = 200
    expected_text: str = ""
    late_after_ms: int = 1000
    timeout_s: int = 30
    connection_max_s: int = 0
    validate_certs: bool = True

    @property
    def tls(self) -> bool:
        return urlsplit(self.url).scheme in _TLS

    @property
    def server_name(self) -> str:
        """Return the name that a visitor would ask for, without the port."""
        host = self.host_header
        return (urlsplit("//" + host).hostname if host else "") or self.address[0]

    @property
    def host_header(self) -> str:
        """Return the header Host that was given, in whatever case; empty if none."""
        names = [name for name in self.headers if name.lower() == "host"]
        return self.headers[names[0]] if names else ""

    @property
    def address(self) -> Tuple[str, int]:
        """Return host and port to connect to."""
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or (443 if self.tls else 80)

    def target(self, number: int) -> str:
        """Return path and query of a request."""
        parts = urlsplit(self.url)
        path = "{0}?{1}".format(parts.path or "/", parts.query)
        return (path if parts.query else parts.path or "/").replace(NUMBER, str(number))

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise KeepaliveError("lanes: {0}: {1}".format(self.name, problem))

    def _problems(self) -> Iterator[str]:
        schemes = _SCHEMES[self.kind]
        if not _is_url(self.url, schemes):
            yield (
                "url is {0!r}; kind {1} needs a whole one of plain characters that "
                "begins with {2}".format(
                    self.url, self.kind, " or ".join(each + "://" for each in schemes)
                )
            )
        for name, value in self.headers.items():
            if not _LINE.match(name) or not _LINE.match(value):
                yield "headers has {0!r}: {1!r}, which is not one line of ASCII".format(
                    name, value
                )
        for name in ("connections", "timeout_s", "late_after_ms"):
            if getattr(self, name) < 1:
                yield "{0} is {1}; it must be at least 1".format(
                    name, getattr(self, name)
                )
        if self.rate_per_s <= 0 or self.connection_max_s < 0:
            yield (
                "rate_per_s is {0} and connection_max_s is {1}; the one must be above "
                "0, the other not below".format(self.rate_per_s, self.connection_max_s)
            )


def _is_url(url: str, schemes: Sequence[str]) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = url.isascii() and url.isprintable() and " " not in url
    return plain and parts.scheme in schemes and bool(parts.hostname) and port != 0


def lanes_of(given: Sequence[Mapping[str, Any]]) -> List[Lane]:
    """Return the lanes that the options describe. Raises KeepaliveError."""
    lanes = [_lane(each) for each in given]
    names = [lane.name for lane in lanes]
    if not lanes or len(set(names)) < len(names):
        raise KeepaliveError(
            "lanes: there must be at least one, and no two of the same name; "
            "their names are {0}".format(", ".join(names) or "none")
        )
    return lanes


def _lane(options: Mapping[str, Any]) -> Lane:
    known: Dict[str, Any] = dict(options)
    known["headers"] = {name: str(value) for name, value in known["headers"].items()}
    return Lane(**known)
