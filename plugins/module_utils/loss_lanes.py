# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a loss probe sends: lanes of requests that are due at a fixed rate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Sequence, Tuple
from urllib.parse import urlsplit

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)

NUMBER = "{number}"
_SCHEMES = {"http": ("http", "https"), "websocket": ("ws", "wss")}
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
        host = next(
            (self.headers[name] for name in self.headers if name.lower() == "host"), ""
        )
        return (urlsplit("//" + host).hostname if host else "") or self.address[0]

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

    def _problems(self) -> List[str]:
        parts = urlsplit(self.url)
        schemes = _SCHEMES[self.kind]
        problems = []
        if parts.scheme not in schemes or not parts.hostname:
            problems.append(
                "url is {0!r}; kind {1} needs one that begins with {2}".format(
                    self.url, self.kind, " or ".join(each + "://" for each in schemes)
                )
            )
        if self.connections < 1 or self.rate_per_s <= 0:
            problems.append(
                "connections is {0} and rate_per_s is {1}; both must be above 0".format(
                    self.connections, self.rate_per_s
                )
            )
        if self.timeout_s < 1 or self.late_after_ms < 1 or self.connection_max_s < 0:
            problems.append("timeout_s and late_after_ms must be at least 1")
        return problems


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
