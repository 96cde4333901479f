# Copyright: keepalive.fastapi contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nginx configuration of a benchmark's arms, made from the one in force.

An arm is the service's own site on a loopback port, changed in what the arm says
and nothing else. Arms run in an nginx of their own beside the one that serves:
that one is never reloaded for a benchmark, and what nginx counts is the
benchmark's alone.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, field
from typing import List, Mapping, Optional, Sequence, Tuple

from ansible_collections.keepalive.fastapi.plugins.module_utils.errors import (
    KeepaliveError,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_routes import (
    KEEPALIVE_BY_DEFAULT,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.nginx_tree import (
    Directive,
    dump,
    parse,
    walk,
)
from ansible_collections.keepalive.fastapi.plugins.module_utils.reuse import (
    CONNECTION_HEADER,
)

_POOL_DIRECTIVES = (
    "keepalive",
    "keepalive_requests",
    "keepalive_time",
    "keepalive_timeout",
)
SHARED = ("main", "events", "http")
CONTEXTS = (*SHARED, "upstream", "server", "location")
_NAME = re.compile(r"[a-z0-9_]+\Z")

Settings = Mapping[str, Mapping[str, object]]


@dataclass(frozen=True)
class Arm:
    """One arm: what differs from the service as it is, and where it listens.

    ``upstream_pool`` is nginx's ``keepalive``, 0 for a connection a request; None
    leaves what is in force. ``settings`` are directives by context, each of which
    replaces all of its name there; a list gives several, None takes them away.
    ``socket`` is where an application of the arm's own listens, if it has one.
    """

    name: str
    port: int
    address: str = "127.0.0.1"
    upstream_pool: Optional[int] = None
    tls: bool = False
    settings: Settings = field(default_factory=dict)
    socket: str = ""

    @property
    def shared_settings(self) -> str:
        """Return what arms must have in common to live in one nginx."""
        return repr({name: self.settings.get(name) for name in SHARED})


@dataclass(frozen=True)
class Service:
    """The service's part of the configuration in force."""

    tree: Sequence[Directive]
    site: str
    nginx_version: Tuple[int, ...]


def render(service: Service, arms: Sequence[Arm], folder: str, status_port: int) -> str:
    """Return the configuration of an nginx that serves the arms, as text.

    All must have the same ``shared_settings``. Its files are in ``folder``; the
    counters are at /status on ``status_port``. Raises KeepaliveError if the
    service has no site that proxies to it.
    """
    # Other blocks, as stream, would listen where the live nginx does.
    main = [
        copy.deepcopy(each)
        for each in service.tree
        if each.name not in ("pid", "error_log", "daemon")
        and (each.block is None or each.name in ("events", "http"))
    ]
    main.insert(0, Directive(["pid", "{0}/nginx.pid".format(folder)]))
    main.insert(0, Directive(["error_log", "{0}/error.log".format(folder)]))
    http = _block(main, "http")
    own = _upstream(service, _server(service))
    http[:] = [
        each
        for each in http
        if each.name != "server" and not (own and each.words == own.words)
    ]
    for arm in arms:
        http.extend(_site(service, arm))
    http.append(_status_server(arms[0].address, status_port))
    _apply(main, arms[0].settings.get("main", {}))
    _apply(http, arms[0].settings.get("http", {}))
    _apply(_block(main, "events"), arms[0].settings.get("events", {}))
    _redirect_files(main, folder)
    return dump(main)


def _block(directives: Sequence[Directive], name: str) -> List[Directive]:
    for each in directives:
        if each.name == name and each.block is not None:
            return each.block
    raise KeepaliveError(
        "the nginx configuration in force has no {0} block".format(name)
    )


def _site(service: Service, arm: Arm) -> List[Directive]:
    """Return an arm's upstream, if it has one, and its server."""
    server = _listening(service, arm)
    upstream = copy.deepcopy(_upstream(service, server))
    if upstream is None:
        _refuse_without_upstream(service, arm)
        _apply_to_server(arm, server)
        return [server]
    name = "arm_{0}".format(arm.port)
    for _blocks, each in walk(server.block or []):
        if each.name == "proxy_pass" and each.args == ["http://" + upstream.args[0]]:
            each.words[1] = "http://" + name
    upstream.words[1] = name
    if arm.socket:
        for each in upstream.children("server"):
            each.words[1] = arm.socket
    if arm.upstream_pool is not None:
        _set_pool(service, arm.upstream_pool, upstream, server)
    _apply(upstream.block or [], arm.settings.get("upstream", {}))
    _apply_to_server(arm, server)
    return [upstream, server]


def _listening(service: Service, arm: Arm) -> Directive:
    """Return the service's server, listening where the arm does."""
    server = copy.deepcopy(_server(service))
    if arm.tls and not server.children("ssl_certificate"):
        raise KeepaliveError(
            "arm {0}: {1} has no certificate; deploy the service with TLS, or choose "
            "a study without".format(arm.name, service.site)
        )
    left_out = ["listen", "server_name", *([] if arm.tls else ["http2"])]
    block = server.block or []
    block[:] = [each for each in block if each.name not in left_out]
    options = ["ssl"] if arm.tls else []
    listen = ["listen", "{0}:{1}".format(arm.address, arm.port), *options]
    block.insert(0, Directive(listen))
    return server


def _refuse_without_upstream(service: Service, arm: Arm) -> None:
    if arm.socket or arm.upstream_pool is not None or "upstream" in arm.settings:
        raise KeepaliveError(
            "arm {0}: {1} proxies straight to a socket, which has no pool nor "
            "settings; an upstream block is needed".format(arm.name, service.site)
        )


def _server(service: Service) -> Directive:
    """Return the service's server, the last one that proxies."""
    found = None
    for blocks, each in walk(service.tree):
        if each.name == "proxy_pass" and each.file == service.site:
            found = next((block for block in blocks if block.name == "server"), found)
    if found is None:
        raise KeepaliveError(
            "{0} has no server that proxies to the service; deploy it first".format(
                service.site
            )
        )
    return found


def _upstream(service: Service, server: Directive) -> Optional[Directive]:
    """Return the upstream that the server proxies to; None without one."""
    targets = {
        each.args[0] for _blocks, each in walk([server]) if each.name == "proxy_pass"
    }
    for _blocks, each in walk(service.tree):
        if each.name == "upstream" and "http://" + each.args[0] in targets:
            return each
    return None


def _set_pool(
    service: Service, pool: int, upstream: Directive, server: Directive
) -> None:
    block = upstream.block or []
    if pool:
        _apply(block, {"keepalive": pool})
        _set_connection(service, server, "$keepalive_connection", '""')
        return
    block[:] = [each for each in block if each.name not in _POOL_DIRECTIVES]
    if service.nginx_version >= KEEPALIVE_BY_DEFAULT:
        block.append(Directive(["keepalive", "0"]))
    _set_connection(service, server, "$keepalive_connection_off", "close")


def _set_connection(
    service: Service, server: Directive, variable: str, value: str
) -> None:
    """Set the header that keeps or closes, by the role's own map if it is there."""
    maps = {each.words[-1] for _b, each in walk(service.tree) if each.name == "map"}
    for _blocks, each in walk([server]):
        if each.name == "proxy_set_header" and each.args[0].lower() == "connection":
            each.words[2] = variable if variable in maps else value


def _apply_to_server(arm: Arm, server: Directive) -> None:
    _apply(server.block or [], arm.settings.get("server", {}))
    for location in server.children("location"):
        _apply(location.block or [], arm.settings.get("location", {}))


def _apply(block: List[Directive], settings: Mapping[str, object]) -> None:
    """Replace directives by name. Raises KeepaliveError for what is not one each."""
    for name, value in settings.items():
        values = value if isinstance(value, list) else [value]
        block[:] = [each for each in block if each.name != name]
        block.extend(_directive(name, each) for each in values if each is not None)


def _directive(name: str, value: object) -> Directive:
    """Return one simple directive, and never more than that."""
    switch = "on" if value else "off"
    text = switch if isinstance(value, bool) else str(value)
    found = parse("{0} {1};".format(name, text))
    simple = len(found) == 1 and found[0].block is None and found[0].words[:1] == [name]
    if not _NAME.match(name) or not simple or not isinstance(value, (bool, int, str)):
        raise KeepaliveError(
            "arms: settings has {0}: {1!r}; a directive has a name of a-z, 0-9 and _ "
            "and a text, a number or a switch as its value".format(name, value)
        )
    return found[0]


def _redirect_files(main: Sequence[Directive], folder: str) -> None:
    """Let logs and caches cost what they do, but not be the live nginx's own."""
    for number, (_blocks, each) in enumerate(walk(main)):
        if each.name == "access_log" and each.args[:1] != ["off"]:
            each.words[1] = "{0}/access.log".format(folder)
        elif each.name == "error_log":
            each.words[1] = "{0}/error.log".format(folder)
        elif each.name.endswith("_cache_path"):
            each.words[1] = "{0}/cache-{1}".format(folder, number)


def _status_server(address: str, port: int) -> Directive:
    location = [
        Directive(["access_log", "off"]),
        Directive(["stub_status"]),
        Directive(["add_header", CONNECTION_HEADER, "$connection"]),
    ]
    return Directive(
        ["server"],
        [
            Directive(["listen", "{0}:{1}".format(address, port)]),
            Directive(["location", "=", "/status"], location),
        ],
    )
